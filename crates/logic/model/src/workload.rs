//! Workloads: what runs, where it is, who it is, and how it is reached.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use crate::{
    ClusterId, Namespace, Network, NodeName, PolicyName, Port, ServiceAccount, ServiceName, SpiffeId, Termination,
    TrustDomain, WaypointAddress, WorkloadUid,
};

/// How a workload takes connections from the mesh. Istio `workload.TunnelProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// Not in the mesh: plain TCP.
    None,
    /// In the mesh: HBONE on port 15008, and nothing else.
    Hbone,
}

/// Whether a workload takes new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Ready.
    Healthy,
    /// Not ready, or terminating.
    Unhealthy,
}

/// Whether a workload has a network namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// A network namespace of its own.
    Standard,
    /// `spec.hostNetwork: true`: the node's. Never enrolled, reached in plaintext.
    HostNetwork,
}

/// The kind of controller behind a workload. Istio `workload.WorkloadType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A CronJob.
    CronJob,
    /// A Job.
    Job,
    /// A pod by itself, or of any other controller.
    Pod,
}

/// Where a workload runs. Empty parts are unknown. Node labels `topology.kubernetes.io/region`, `/zone`, `topology.istio.io/subzone`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone within it.
    pub zone: Arc<str>,
    /// The subzone within that.
    pub subzone: Arc<str>,
}

/// One pod (or what stands for one), as the whole mesh knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name in the mesh: `cluster//v1/Pod/namespace/name`.
    pub uid: WorkloadUid,
    /// Which of the pods that bear this name one after the other: `metadata.uid`, empty when its source says nothing.
    pub incarnation: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The trust domain it gets its identity in.
    pub trust_domain: TrustDomain,
    /// The service account it runs as.
    pub service_account: ServiceAccount,
    /// Its addresses, canonical, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// The network its addresses mean something in.
    pub network: Network,
    /// How it takes connections.
    pub tunnel: Tunnel,
    /// Whether its network namespace is its own.
    pub network_mode: NetworkMode,
    /// The node it runs on, once scheduled.
    pub node: Option<NodeName>,
    /// Where that is.
    pub locality: Locality,
    /// Whether it takes new connections.
    pub health: Health,
    /// The cluster it runs in.
    pub cluster: ClusterId,
    /// The controller's kind.
    pub kind: WorkloadKind,
    /// The controller's name, or the pod's own: metric label `*_workload`.
    pub workload_name: Arc<str>,
    /// Metric label `*_canonical_service` and `*_app`.
    pub canonical_name: Arc<str>,
    /// Metric label `*_canonical_revision` and `*_version`; `latest` when nothing says.
    pub canonical_revision: Arc<str>,
    /// The services it stands behind, sorted by name. Istio `Workload.services`.
    pub services: Vec<Membership>,
    /// The policies whose selector it matches, sorted. Those of its namespace and of the mesh are not among them.
    pub policies: Vec<PolicyName>,
    /// Who takes the tunnels that lead to it. Without a tunnel it says nothing.
    pub termination: Termination,
    /// What connections to its own addresses go through. Istio `Workload.waypoint`.
    pub waypoint: Option<WaypointAddress>,
    /// What its source says of it that this version cannot do: it is neither reached nor entered, for this reason.
    pub unsupported: Option<Arc<str>>,
}

/// A workload's place behind one service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Membership {
    /// The service.
    pub service: ServiceName,
    /// Service port to the workload's own port, sorted. A port that is missing is the service's own target, if it has one.
    pub ports: Vec<(Port, Port)>,
}

impl Workload {
    /// Who the workload is.
    pub fn identity(&self) -> SpiffeId {
        SpiffeId::new(self.trust_domain.clone(), self.namespace.clone(), self.service_account.clone())
    }
}

/// Whether a pod's traffic is to be caught, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enrolment {
    /// The namespace or the pod says `istio.io/dataplane-mode: ambient`.
    Enrolled,
    /// Nothing asks for it.
    NotLabelled,
    /// The pod says `istio.io/dataplane-mode: none`.
    OptedOut,
    /// The pod shares the node's network namespace.
    HostNetwork,
    /// The pod has an Istio sidecar.
    Sidecar,
    /// The pod is a waypoint that takes HBONE itself.
    Waypoint,
}

/// A pod of this node, as its agent needs to know it to catch its traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPod {
    /// The workload that runs in it.
    pub uid: WorkloadUid,
    /// Its addresses, canonical.
    pub addresses: Vec<IpAddr>,
    /// The path of its network namespace. Annotation `weir.dev/netns`.
    pub netns: Option<PathBuf>,
    /// Whether it is to be caught.
    pub enrolment: Enrolment,
}
