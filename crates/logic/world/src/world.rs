//! The mesh, indexed by everything a packet can name.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr, sync::Arc};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use weir_model::{
    LocalPod, Network, NetworkMode, Service, ServiceName, SpiffeId, Tunnel, Workload, WorkloadUid, canonical_ip,
};

use crate::mesh::Mesh;

type Map<K, V> = HashMap<K, V, RandomState>;

/// The mesh as one immutable value. Made whole, shared as `Arc<World>`, replaced whole.
#[derive(Debug, Default)]
pub struct World {
    members: Vec<Member>,
    by_uid: Map<WorkloadUid, usize>,
    networks: Map<Network, Addresses>,
    served: Vec<Arc<Service>>,
    /// Who stands behind a service.
    behind: Map<ServiceName, Vec<usize>>,
    by_name: Map<ServiceName, usize>,
    local_pods: Vec<LocalPod>,
}

/// A workload, with the identity its peers shall expect worked out once.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) workload: Arc<Workload>,
    pub(crate) expect: Arc<[SpiffeId]>,
}

/// What the addresses of one network mean.
#[derive(Debug, Default)]
struct Addresses {
    workloads: Map<IpAddr, usize>,
    vips: Map<IpAddr, usize>,
    /// Longest prefix first.
    ranges: Vec<(IpNet, usize)>,
}

impl World {
    /// Indexes a mesh.
    ///
    /// Sources deliver each uid, pod address and VIP once. Should one come twice all the same, a workload inside the
    /// mesh goes before one outside, since a wrong tunnel fails while wrong plaintext leaks, and else the first counts.
    pub fn new(mesh: Mesh) -> Self {
        let mut world = Self { local_pods: mesh.local_pods, ..Self::default() };
        for workload in mesh.workloads {
            world.add_workload(workload);
        }
        for service in mesh.services {
            world.add_service(service);
        }
        for addresses in world.networks.values_mut() {
            addresses.ranges.sort_by_key(|(range, _)| Reverse(range.prefix_len()));
        }
        world
    }

    /// The workload of that uid.
    pub fn workload(&self, uid: &WorkloadUid) -> Option<&Arc<Workload>> {
        self.member(uid).map(|member| &member.workload)
    }

    /// The workload that has the address to itself in the network. A pod of the node's own network has not.
    pub fn workload_at(&self, network: &Network, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.member_at(network, ip).map(|member| &member.workload)
    }

    /// The service of that name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.by_name.get(name).map(|&i| &self.served[i])
    }

    /// The service that has the address in the network: exactly, or else in its longest range.
    pub fn service_at(&self, network: &Network, ip: IpAddr) -> Option<&Arc<Service>> {
        self.served_at(network, ip)
    }

    /// All workloads, in the order they were delivered.
    pub fn workloads(&self) -> impl ExactSizeIterator<Item = &Arc<Workload>> {
        self.members.iter().map(|member| &member.workload)
    }

    /// All services, in the order they were delivered.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        self.served.iter()
    }

    /// The pods of this node.
    pub fn local_pods(&self) -> &[LocalPod] {
        &self.local_pods
    }

    pub(crate) fn member(&self, uid: &WorkloadUid) -> Option<&Member> {
        self.by_uid.get(uid).map(|&i| &self.members[i])
    }

    pub(crate) fn member_at(&self, network: &Network, ip: IpAddr) -> Option<&Member> {
        let i = *self.networks.get(network)?.workloads.get(&canonical_ip(ip))?;
        Some(&self.members[i])
    }

    pub(crate) fn served_at(&self, network: &Network, ip: IpAddr) -> Option<&Arc<Service>> {
        let addresses = self.networks.get(network)?;
        let ip = canonical_ip(ip);
        let range = || addresses.ranges.iter().find(|(range, _)| range.contains(&ip)).map(|(_, i)| i);
        addresses.vips.get(&ip).or_else(range).map(|&i| &self.served[i])
    }

    /// The workloads behind a service.
    pub(crate) fn behind(&self, service: &ServiceName) -> impl Iterator<Item = &Member> + Clone {
        self.behind.get(service).into_iter().flatten().map(|&i| &self.members[i])
    }

    fn add_workload(&mut self, workload: Workload) {
        let i = self.members.len();
        if self.by_uid.contains_key(&workload.uid) {
            return;
        }
        self.by_uid.insert(workload.uid.clone(), i);
        if workload.network_mode == NetworkMode::Standard {
            let addresses = self.networks.entry(workload.network.clone()).or_default();
            for &ip in &workload.addresses {
                let before = addresses.workloads.get(&canonical_ip(ip)).map(|&j| self.members[j].workload.tunnel);
                match (before, workload.tunnel) {
                    (None, _) | (Some(Tunnel::None), Tunnel::Hbone) => {
                        addresses.workloads.insert(canonical_ip(ip), i);
                    }
                    (Some(_), _) => {}
                }
            }
        }
        for membership in &workload.services {
            self.behind.entry(membership.service.clone()).or_default().push(i);
        }
        let expect = Arc::from([workload.identity()]);
        self.members.push(Member { workload: Arc::new(workload), expect });
    }

    fn add_service(&mut self, service: Service) {
        let i = self.served.len();
        if self.by_name.contains_key(&service.name) {
            return;
        }
        self.by_name.insert(service.name.clone(), i);
        for (network, vip) in &service.vips {
            let addresses = self.networks.entry(network.clone()).or_default();
            if vip.prefix_len() == vip.max_prefix_len() {
                addresses.vips.entry(canonical_ip(vip.addr())).or_insert(i);
            } else {
                addresses.ranges.push((*vip, i));
            }
        }
        self.served.push(Arc::new(service));
    }
}
