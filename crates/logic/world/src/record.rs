//! A workload as the world keeps it: what is its own once, what it shares with others by reference. The model's
//! `Workload` is made of it when somebody asks.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use weir_model::{
    ClusterId, Health, Locality, Membership, Namespace, Network, NetworkMode, NodeName, PolicyName, Port, Service,
    ServiceAccount, SpiffeId, TrustDomain, Tunnel, Workload, WorkloadKind, WorkloadUid, canonical_ip,
};

/// What stands between cluster and namespace in the uid of a pod.
const POD: &str = "//v1/Pod/";

/// A workload.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) traits: Arc<Traits>,
    pub(crate) place: Arc<Place>,
    addresses: Addresses,
    /// The uid unless it follows from the rest, the name, the incarnation.
    text: Box<str>,
    name_at: u32,
    incarnation_at: u32,
    pub(crate) health: Health,
}

/// What the pods of one controller have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Traits {
    pub(crate) namespace: Namespace,
    pub(crate) trust_domain: TrustDomain,
    service_account: ServiceAccount,
    pub(crate) network: Network,
    pub(crate) tunnel: Tunnel,
    pub(crate) network_mode: NetworkMode,
    cluster: ClusterId,
    kind: WorkloadKind,
    /// Absent where it is the workload's own name, lest every pod without a controller have traits of its own.
    workload_name: Option<Arc<str>>,
    canonical_name: Option<Arc<str>>,
    canonical_revision: Arc<str>,
    pub(crate) services: Vec<Membership>,
    pub(crate) policies: Vec<PolicyName>,
    pub(crate) unsupported: Option<Arc<str>>,
    /// Whom its peers shall expect: follows from the rest, worked out once.
    pub(crate) expect: Arc<[SpiffeId]>,
}

/// What the pods of one node have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) node: Option<NodeName>,
    locality: Locality,
}

/// Addresses, the primary one first, without an allocation for what nearly all workloads have.
#[derive(Debug)]
enum Addresses {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Dual(Ipv4Addr, Ipv6Addr),
    Other(Box<[IpAddr]>),
}

impl Addresses {
    fn new(all: &[IpAddr]) -> Self {
        match all {
            [IpAddr::V4(four)] => Self::V4(*four),
            [IpAddr::V6(six)] => Self::V6(*six),
            [IpAddr::V4(four), IpAddr::V6(six)] => Self::Dual(*four, *six),
            other => Self::Other(other.into()),
        }
    }

    fn iter(&self) -> impl Iterator<Item = IpAddr> {
        let (first, second, rest) = match self {
            Self::V4(four) => (Some(IpAddr::V4(*four)), None, [].as_slice()),
            Self::V6(six) => (Some(IpAddr::V6(*six)), None, [].as_slice()),
            Self::Dual(four, six) => (Some(IpAddr::V4(*four)), Some(IpAddr::V6(*six)), [].as_slice()),
            Self::Other(all) => (None, None, &**all),
        };
        first.into_iter().chain(second).chain(rest.iter().copied())
    }
}

impl Record {
    /// What is the workload's own, and what it shares with others.
    pub(crate) fn new(workload: Workload, share: impl FnOnce(Traits, Place) -> (Arc<Traits>, Arc<Place>)) -> Self {
        let mut addresses: Vec<IpAddr> = Vec::with_capacity(workload.addresses.len());
        for ip in workload.addresses.iter().map(|ip| canonical_ip(*ip)) {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        let expect = Arc::from([workload.identity()]);
        let name = workload.name;
        let other = |text: Arc<str>| (text != name).then_some(text);
        let traits = Traits {
            namespace: workload.namespace,
            trust_domain: workload.trust_domain,
            service_account: workload.service_account,
            network: workload.network,
            tunnel: workload.tunnel,
            network_mode: workload.network_mode,
            cluster: workload.cluster,
            kind: workload.kind,
            workload_name: other(workload.workload_name),
            canonical_name: other(workload.canonical_name),
            canonical_revision: workload.canonical_revision,
            services: workload.services,
            policies: workload.policies,
            unsupported: workload.unsupported,
            expect,
        };
        let uid = workload.uid.as_str();
        let own = if follows(uid, &traits, &name) { "" } else { uid };
        let at = |length: usize| u32::try_from(length).expect("what names a workload is shorter than 4 GiB");
        let (name_at, incarnation_at) = (at(own.len()), at(own.len() + name.len()));
        let text = [own, &*name, &*workload.incarnation].concat().into();
        let (traits, place) = share(traits, Place { node: workload.node, locality: workload.locality });
        let addresses = Addresses::new(&addresses);
        Self { traits, place, addresses, text, name_at, incarnation_at, health: workload.health }
    }

    fn parts(&self) -> (&str, &str, &str) {
        let at = |at: u32| usize::try_from(at).expect("as it was when it was written");
        let (before, incarnation) = self.text.split_at(at(self.incarnation_at));
        let (uid, name) = before.split_at(at(self.name_at));
        (uid, name, incarnation)
    }

    /// Whether the uid is its own.
    pub(crate) fn is(&self, uid: &str) -> bool {
        let (own, name, _) = self.parts();
        if own.is_empty() { follows(uid, &self.traits, name) } else { own == uid }
    }

    /// Its uid as text.
    pub(crate) fn uid_text(&self) -> Cow<'_, str> {
        let (own, name, _) = self.parts();
        let Traits { cluster, namespace, .. } = &*self.traits;
        if own.is_empty() { format!("{cluster}{POD}{namespace}/{name}").into() } else { own.into() }
    }

    /// Its uid.
    pub(crate) fn uid(&self) -> WorkloadUid {
        self.uid_text().parse().expect("it was one when it came")
    }

    /// Which of those that bear the name one after the other.
    pub(crate) fn incarnation(&self) -> &str {
        let (_, _, incarnation) = self.parts();
        incarnation
    }

    /// Its addresses, canonical and each once, the primary one first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter()
    }

    /// Whether the canonical address is its own.
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        self.addresses().any(|own| own == ip)
    }

    /// Where it takes the service's port, over the family of the address that was asked for.
    pub(crate) fn target(&self, service: &Service, vip: IpAddr, port: Port) -> Option<SocketAddr> {
        let ip = self.addresses().find(|ip| ip.is_ipv4() == vip.is_ipv4())?;
        let membership = self.traits.services.iter().find(|own| own.service == service.name)?;
        let own = membership.ports.iter().find(|(asked, _)| *asked == port).map(|(_, own)| *own);
        let own = own.or_else(|| service.ports.iter().find(|own| own.port == port)?.target)?;
        Some(SocketAddr::new(ip, own.number()))
    }

    /// The model's workload.
    pub(crate) fn workload(&self) -> Arc<Workload> {
        let (_, name, incarnation) = self.parts();
        let name: Arc<str> = name.into();
        let traits = &*self.traits;
        Arc::new(Workload {
            uid: self.uid(),
            incarnation: incarnation.into(),
            namespace: traits.namespace.clone(),
            trust_domain: traits.trust_domain.clone(),
            service_account: traits.service_account.clone(),
            addresses: self.addresses().collect(),
            network: traits.network.clone(),
            tunnel: traits.tunnel,
            network_mode: traits.network_mode,
            node: self.place.node.clone(),
            locality: self.place.locality.clone(),
            health: self.health,
            cluster: traits.cluster.clone(),
            kind: traits.kind,
            workload_name: traits.workload_name.as_ref().unwrap_or(&name).clone(),
            canonical_name: traits.canonical_name.as_ref().unwrap_or(&name).clone(),
            canonical_revision: traits.canonical_revision.clone(),
            services: traits.services.clone(),
            policies: traits.policies.clone(),
            unsupported: traits.unsupported.clone(),
            name,
        })
    }
}

/// Whether a uid is that of a pod, made of what is known of it anyway.
fn follows(uid: &str, traits: &Traits, name: &str) -> bool {
    let rest = uid.strip_prefix(traits.cluster.as_str()).and_then(|rest| rest.strip_prefix(POD));
    let rest = rest.and_then(|rest| rest.strip_prefix(traits.namespace.as_str()));
    rest.and_then(|rest| rest.strip_prefix('/')) == Some(name)
}
