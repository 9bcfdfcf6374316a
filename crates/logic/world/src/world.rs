//! The mesh, indexed by everything a packet can name.

use std::{
    cmp::Reverse,
    hash::{BuildHasher, Hash},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use weir_model::{
    LocalPod, Network, NodeName, Policy, PolicyName, Service, ServiceName, Tunnel, Workload, WorkloadUid, canonical_ip,
};

use crate::{
    mesh::Mesh,
    policies::Policies,
    pool::{Pool, fold},
    record::{Place, Record, Traits},
    trie::Trie,
};

/// The mesh as one immutable value, shared as `Arc<World>`. A change makes another one, which shares with the one before
/// all that did not change: its cost is that of the change, not that of the mesh.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub(crate) hasher: RandomState,
    /// By uid.
    pub(crate) records: Trie<Arc<Record>>,
    /// Those with an address to themselves, by network and address, once for each.
    pub(crate) owners: Trie<Arc<Record>>,
    /// By the service's name, whether the service is known or not.
    pub(crate) behind: Trie<Behind>,
    /// By name.
    pub(crate) services: Trie<Arc<Service>>,
    /// By network and virtual address, once for each.
    pub(crate) vips: Trie<Arc<Service>>,
    /// Longest prefix first, then by the service's name.
    pub(crate) ranges: Arc<Vec<Range>>,
    pub(crate) policies: Policies,
    pub(crate) traits: Pool<Traits>,
    pub(crate) places: Pool<Place>,
    pub(crate) local: Local,
}

/// The workloads behind a service.
#[derive(Debug, Clone)]
pub(crate) struct Behind {
    pub(crate) service: ServiceName,
    pub(crate) records: Trie<Arc<Record>>,
}

/// A service that has more than one address of a network.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) network: Network,
    pub(crate) net: IpNet,
    pub(crate) service: Arc<Service>,
}

/// The pods of this node.
#[derive(Debug, Clone)]
pub(crate) enum Local {
    /// As they were given.
    Given(Arc<[LocalPod]>),
    /// The workloads of the node, by uid.
    Of(NodeName, Arc<Vec<LocalPod>>),
}

impl Default for Local {
    fn default() -> Self {
        Self::Given(Arc::from([]))
    }
}

impl World {
    /// Indexes a mesh.
    ///
    /// Sources deliver each uid, pod address and VIP once. Should a uid come twice all the same, the first counts. Should an
    /// address, a workload inside the mesh goes before one outside, since a wrong tunnel fails while wrong plaintext leaks,
    /// and else the lesser uid or service name counts: what a world answers never depends on the order things came in.
    pub fn new(mesh: Mesh) -> Self {
        let mut world = Self { local: Local::Given(mesh.local_pods.into()), ..Self::default() };
        for workload in mesh.workloads {
            if world.record(&workload.uid).is_none() {
                world.add_workload(workload);
            }
        }
        for service in mesh.services {
            if world.service(&service.name).is_none() {
                world.add_service(service);
            }
        }
        for policy in mesh.policies {
            world.policies.set(&world.hasher, &policy.name.clone(), Some(policy));
        }
        world
    }

    /// An empty world. What `apply` makes of it knows the node's workloads as its pods; none without a node.
    pub fn following(node: Option<NodeName>) -> Self {
        let local = node.map_or_else(Local::default, |node| Local::Of(node, Arc::default()));
        Self { local, ..Self::default() }
    }

    /// The workload of that uid, made for whoever asks.
    pub fn workload(&self, uid: &WorkloadUid) -> Option<Arc<Workload>> {
        self.record(uid).map(|record| record.workload())
    }

    /// The workload that has the address to itself in the network. A pod of the node's own network has not.
    pub fn workload_at(&self, network: &Network, ip: IpAddr) -> Option<Arc<Workload>> {
        self.owner(network, ip).map(|record| record.workload())
    }

    /// Whether the workload of that uid is still this incarnation, with this address.
    pub fn stands(&self, uid: &WorkloadUid, incarnation: &str, ip: IpAddr) -> bool {
        self.record(uid).is_some_and(|record| record.incarnation() == incarnation && record.has(canonical_ip(ip)))
    }

    /// The service of that name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.find(self.hash(name), |service| service.name == *name)
    }

    /// The service that has the address in the network: exactly, or else in its longest range.
    pub fn service_at(&self, network: &Network, ip: IpAddr) -> Option<&Arc<Service>> {
        let ip = canonical_ip(ip);
        let has = |service: &&Arc<Service>| vips(service).any(|vip| vip == (network, ip));
        let exact = self.vips.all(self.hash_address(network, ip)).filter(has).min_by_key(|service| &service.name);
        let range = || self.ranges.iter().find(|range| range.net.contains(&ip) && range.network == *network);
        exact.or_else(|| range().map(|range| &range.service))
    }

    /// The policy of that name.
    pub fn policy(&self, name: &PolicyName) -> Option<&Arc<Policy>> {
        self.policies.find(&self.hasher, name)
    }

    /// All workloads by uid, each made when it is reached.
    pub fn workloads(&self) -> impl ExactSizeIterator<Item = Arc<Workload>> {
        let mut records: Vec<&Arc<Record>> = self.records.iter().collect();
        records.sort_by_cached_key(|record| record.uid_text());
        records.into_iter().map(|record| record.workload())
    }

    /// All services by name.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        let mut services: Vec<_> = self.services.iter().collect();
        services.sort_by(|one, other| one.name.cmp(&other.name));
        services.into_iter()
    }

    /// All policies by name.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &Arc<Policy>> {
        let mut policies: Vec<_> = self.policies.iter().collect();
        policies.sort_by(|one, other| one.name.cmp(&other.name));
        policies.into_iter()
    }

    /// How many workloads there are.
    pub fn workload_count(&self) -> usize {
        self.records.len()
    }

    /// How many services there are.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The pods of this node.
    pub fn local_pods(&self) -> &[LocalPod] {
        match &self.local {
            Local::Given(pods) => pods,
            Local::Of(_, pods) => pods,
        }
    }

    pub(crate) fn record(&self, uid: &WorkloadUid) -> Option<&Arc<Record>> {
        self.records.find(self.hash(uid.as_str()), |record| record.is(uid.as_str()))
    }

    pub(crate) fn owner(&self, network: &Network, ip: IpAddr) -> Option<&Arc<Record>> {
        let ip = canonical_ip(ip);
        let mut best: Option<&Arc<Record>> = None;
        for record in self.owners.all(self.hash_address(network, ip)) {
            let is = record.has(ip) && record.traits.network == *network;
            if is && best.is_none_or(|best| goes_before(record, best)) {
                best = Some(record);
            }
        }
        best
    }

    /// The workloads behind a service.
    pub(crate) fn behind(&self, service: &ServiceName) -> impl Iterator<Item = &Arc<Record>> + Clone {
        let behind = self.behind.find(self.hash(service), |behind| behind.service == *service);
        behind.map(|behind| behind.records.iter()).into_iter().flatten()
    }

    pub(crate) fn hash(&self, of: impl Hash) -> u32 {
        fold(self.hasher.hash_one(of))
    }

    pub(crate) fn hash_address(&self, network: &Network, ip: IpAddr) -> u32 {
        self.hash((network.as_str(), ip))
    }
}

/// Whether the one counts where both have an address.
fn goes_before(one: &Record, other: &Record) -> bool {
    match (one.traits.tunnel, other.traits.tunnel) {
        (Tunnel::Hbone, Tunnel::None) => true,
        (Tunnel::None, Tunnel::Hbone) => false,
        (Tunnel::Hbone, Tunnel::Hbone) | (Tunnel::None, Tunnel::None) => one.uid_text() < other.uid_text(),
    }
}

/// The single addresses of a service.
pub(crate) fn vips(service: &Service) -> impl Iterator<Item = (&Network, IpAddr)> {
    let single = |(_, net): &&(Network, IpNet)| net.prefix_len() == net.max_prefix_len();
    service.vips.iter().filter(single).map(|(network, net)| (network, canonical_ip(net.addr())))
}

/// The order of ranges.
pub(crate) fn range_order(range: &Range) -> (Reverse<u8>, &ServiceName) {
    (Reverse(range.net.prefix_len()), &range.service.name)
}

#[cfg(test)]
#[path = "world/tests.rs"]
mod tests;
