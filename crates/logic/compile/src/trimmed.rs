//! Objects, as little of them as the mesh depends on.

use std::{collections::HashSet, net::IpAddr, path::Path, sync::Arc};

use foldhash::fast::RandomState;
use weir_manifest::{DataplaneMode, EndpointSliceObject, PodObject, Sidecar, SliceEndpoint, SlicePort, WaypointLabels};
use weir_model::{Health, Namespace, Network, NetworkMode, NodeName, Port, ServiceAccount, WorkloadKind};

use crate::{
    Settings,
    labels::{LabelSet, Texts},
    workload,
};

/// An object of a namespace, of a kind that is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: Namespace,
    pub(crate) name: Arc<str>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) traits: Arc<Traits>,
    pub(crate) incarnation: Box<str>,
    pub(crate) addresses: Box<[IpAddr]>,
    pub(crate) node: Option<NodeName>,
    pub(crate) netns: Option<Box<Path>>,
    pub(crate) health: Health,
    /// Whether it is over, and its address another's by now.
    pub(crate) over: bool,
}

/// What the pods of one controller have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Traits {
    pub(crate) labels: LabelSet,
    pub(crate) mode: Option<DataplaneMode>,
    pub(crate) waypoint: WaypointLabels,
    pub(crate) network: Option<Network>,
    pub(crate) service_account: ServiceAccount,
    pub(crate) network_mode: NetworkMode,
    pub(crate) sidecar: Sidecar,
    pub(crate) ports: Vec<(Arc<str>, Port)>,
    pub(crate) kind: WorkloadKind,
    /// Absent where it is the pod's own name.
    pub(crate) workload_name: Option<Arc<str>>,
    /// Absent where it is the workload's name.
    pub(crate) canonical_name: Option<Arc<str>>,
    pub(crate) canonical_revision: Option<Arc<str>>,
}

impl Pod {
    /// Whether the mesh knows the pod: it has an address or at least a node, and still is one. Kubernetes says the address only when the
    /// CNI plugins are done, and the node's agent must know of the pod before.
    pub(crate) fn exists(&self) -> bool {
        !self.over && (self.node.is_some() || !self.addresses.is_empty())
    }

    /// The addresses it has to itself in the default network, for only there a slice's addresses mean something.
    pub(crate) fn owned(&self, settings: &Settings) -> &[IpAddr] {
        let here = self.traits.network.as_ref().is_none_or(|network| *network == settings.network);
        let own = here && self.exists() && self.traits.network_mode == NetworkMode::Standard;
        if own { &self.addresses } else { &[] }
    }
}

/// What many objects repeat, held once.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    pub(crate) texts: Texts,
    traits: HashSet<Arc<Traits>, RandomState>,
    swept: usize,
}

impl Sharing {
    /// A pod without what nobody reads. Its node is shared by the caller, who knows the nodes.
    pub(crate) fn pod(&mut self, pod: PodObject) -> Pod {
        let (kind, workload_name) = workload::controller(&pod);
        let first = |keys: &[&str]| workload::first(&pod.labels, keys);
        let canonical_name = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
        let canonical_revision =
            first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
        let traits = Traits {
            labels: LabelSet::new(&pod.labels, &mut self.texts),
            mode: pod.mode,
            waypoint: pod.waypoint.clone(),
            network: pod.network.clone(),
            service_account: pod.service_account.clone(),
            network_mode: pod.network_mode,
            sidecar: pod.sidecar,
            ports: pod.ports.iter().map(|own| (self.texts.share(&own.name), own.port)).collect(),
            kind,
            workload_name: (workload_name != pod.name).then_some(workload_name),
            canonical_name,
            canonical_revision,
        };
        Pod {
            traits: self.traits(traits),
            incarnation: (*pod.incarnation).into(),
            addresses: pod.addresses.as_slice().into(),
            over: pod.is_over(),
            node: pod.node,
            netns: pod.netns.map(Into::into),
            health: pod.health,
        }
    }

    fn traits(&mut self, traits: Traits) -> Arc<Traits> {
        if let Some(known) = self.traits.get(&traits) {
            return known.clone();
        }
        if self.traits.len() > 2 * self.swept + 1024 {
            self.traits.retain(|traits| Arc::strong_count(traits) > 1);
            self.swept = self.traits.len();
        }
        let traits = Arc::new(traits);
        self.traits.insert(traits.clone());
        traits
    }

    /// A slice without what nobody reads.
    pub(crate) fn slice(&mut self, slice: EndpointSliceObject) -> Slice {
        let endpoint = |endpoint: SliceEndpoint| Endpoint {
            pod: endpoint.pod.map(|(namespace, name)| Key { namespace, name: self.texts.share(&name) }),
            health: endpoint.health,
            addresses: endpoint.addresses.into(),
        };
        let endpoints = slice.endpoints.into_iter().filter(|endpoint| !endpoint.addresses.is_empty());
        Slice { service: slice.service, endpoints: endpoints.map(endpoint).collect(), ports: slice.ports }
    }
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// At least one.
    pub(crate) addresses: Box<[IpAddr]>,
    pub(crate) health: Health,
    pub(crate) pod: Option<Key>,
}

/// An endpoint slice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) service: Option<Arc<str>>,
    pub(crate) endpoints: Box<[Endpoint]>,
    pub(crate) ports: Vec<SlicePort>,
}
