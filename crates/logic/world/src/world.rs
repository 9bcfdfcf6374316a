//! The mesh, indexed by everything a packet can name.

mod addresses;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash},
    mem,
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use weir_authz::PolicySet;
use weir_model::{
    Enrolment, LocalPod, Namespace, Network, NetworkMode, NodeName, Policy, PolicyName, Service, ServiceName,
    Termination, Tunnel, Workload, WorkloadUid, canonical_ip,
};

use crate::{
    mesh::{Delta, Mesh},
    moves::{Move, Moves},
    policies::Policies,
    record::{Place, Record, Shape},
    slab::{Member, Seat, Slab},
    table::Table,
};

/// Shards of what there are many of, and of what there are few of, as powers of two.
const MANY: u32 = 8;
const FEW: u32 = 5;

/// The mesh as one immutable value. A change makes a new one, which shares with the old all that did not change.
#[derive(Debug, Clone)]
pub struct World {
    hasher: RandomState,
    records: Slab,
    /// By uid.
    members: Table<Seat>,
    /// By network and first address of each family. A pod of the node's own network has none to itself.
    by_v4: Table<Seat>,
    by_v6: Table<Seat>,
    /// By network and any further address.
    by_other: Table<(IpAddr, Seat)>,
    /// By name, declared or only named by workloads.
    services: Table<Arc<Served>>,
    /// By network and exact address: which of its addresses it is.
    vips: Table<(Arc<Service>, usize)>,
    /// Longest prefix first.
    ranges: Arc<Vec<(Network, IpNet, ServiceName)>>,
    shapes: Table<Arc<Shape>>,
    places: Table<Arc<Place>>,
    /// How many shapes and places there may be before those that nobody has any more are thrown out.
    sweep_at: usize,
    policies: Arc<Policies>,
    /// What covers the pods of this node, by their uid: looked up for each connection.
    covered: Arc<Covered>,
    local: Arc<Local>,
}

/// A service, and the workloads that stand behind it.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    name: ServiceName,
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) members: Box<[Seat]>,
}

type Covered = HashMap<WorkloadUid, Arc<PolicySet>, RandomState>;

/// The pods of this node.
#[derive(Debug, Clone, Default)]
struct Local {
    /// The node whose workloads are local; none where the source lists local pods itself.
    node: Option<NodeName>,
    pods: Vec<LocalPod>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            records: Slab::default(),
            members: Table::new(MANY),
            by_v4: Table::new(MANY),
            by_v6: Table::new(MANY),
            by_other: Table::new(FEW),
            services: Table::new(MANY),
            vips: Table::new(MANY),
            ranges: Arc::default(),
            shapes: Table::new(FEW),
            places: Table::new(FEW),
            sweep_at: 1024,
            policies: Arc::default(),
            covered: Arc::default(),
            local: Arc::default(),
        }
    }
}

impl World {
    /// Indexes a mesh.
    ///
    /// Sources deliver each uid and name once; should one come twice all the same, the first counts. An address that two have is the
    /// workload's that is inside the mesh, since a wrong tunnel fails while wrong plaintext leaks, and else that of the least uid;
    /// a VIP is the service's of the least name.
    pub fn new(mesh: Mesh) -> Self {
        let (mut uids, mut names, mut policies) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut delta = Delta::default();
        for workload in mesh.workloads {
            if uids.insert(workload.uid.clone()) {
                delta.workloads.push((workload.uid.clone(), Some(workload)));
            }
        }
        for service in mesh.services {
            if names.insert(service.name.clone()) {
                delta.services.push((service.name.clone(), Some(service)));
            }
        }
        for policy in mesh.policies {
            if policies.insert(policy.name.clone()) {
                delta.policies.push((policy.name.clone(), Some(policy)));
            }
        }
        let mut pods = mesh.local_pods;
        pods.sort_by(|one, other| one.uid.cmp(&other.uid));
        let local = Arc::new(Local { node: None, pods });
        Self { local, ..Self::default() }.apply(delta)
    }

    /// An empty mesh whose local pods will be the workloads of that node.
    pub fn following(node: NodeName) -> Self {
        Self { local: Arc::new(Local { node: Some(node), pods: Vec::new() }), ..Self::default() }
    }

    /// The mesh after a change. It costs what the change is worth, whatever the size of the mesh.
    #[must_use]
    pub fn apply(&self, delta: Delta) -> Self {
        let mut next = self.clone();
        let mut moved = Moves::default();
        let mut touched = Vec::new();
        for (uid, workload) in delta.workloads {
            next.set_workload(&uid, workload, &mut moved);
            touched.push(uid);
        }
        next.move_members(moved);
        for (name, service) in delta.services {
            next.set_service(&name, service);
        }
        if delta.policies.is_empty() {
            next.cover(touched);
        } else {
            let policies = Arc::make_mut(&mut next.policies);
            for (name, policy) in delta.policies {
                policies.set(name, policy);
            }
            next.covered = Arc::default();
            next.cover(next.local.pods.iter().map(|pod| pod.uid.clone()).collect());
        }
        next.sweep();
        next
    }

    /// The workload of that uid.
    pub fn workload(&self, uid: &WorkloadUid) -> Option<Arc<Workload>> {
        self.member(uid).map(|member| member.whole())
    }

    /// Whether that is all it knows of the workload. Unlike asking for it, this keeps nothing.
    pub fn knows(&self, uid: &WorkloadUid, workload: Option<&Workload>) -> bool {
        self.member(uid).map(|member| member.workload()).as_ref() == workload
    }

    /// Whether somebody, a workload or a service, has the address in the network.
    pub fn has(&self, network: &Network, ip: IpAddr) -> bool {
        self.member_at(network, ip).is_some() || self.served_at(network, ip).is_some()
    }

    /// The workload that has the address to itself in the network. A pod of the node's own network has not.
    pub fn workload_at(&self, network: &Network, ip: IpAddr) -> Option<Arc<Workload>> {
        self.member_at(network, ip).map(|member| member.whole())
    }

    /// The service of that name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.served(name)?.service.as_ref()
    }

    /// The service that has the address in the network: exactly, or else in its longest range.
    pub fn service_at(&self, network: &Network, ip: IpAddr) -> Option<&Arc<Service>> {
        self.served_at(network, ip).map(|(_, service)| service)
    }

    /// The service that a client of that namespace has at the address: one that is not exported there is none.
    pub fn service_for(&self, client: Option<&Namespace>, network: &Network, ip: IpAddr) -> Option<&Arc<Service>> {
        self.served_for(client, network, ip).map(|(_, service)| service)
    }

    /// All workloads, by uid.
    pub fn workloads(&self) -> impl ExactSizeIterator<Item = Workload> {
        let mut all: Vec<Workload> = self.records.iter().map(Record::workload).collect();
        all.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
        all.into_iter()
    }

    /// What all workloads are called, in no order.
    pub fn uids(&self) -> impl Iterator<Item = WorkloadUid> {
        self.records.iter().map(Record::uid)
    }

    /// All services, by name.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        let mut all: Vec<_> = self.services.iter().filter_map(|served| served.service.as_ref()).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all.into_iter()
    }

    /// The policy of that name.
    pub fn policy(&self, name: &PolicyName) -> Option<&Policy> {
        self.policies.get(name)
    }

    /// All policies, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.all()
    }

    /// How many workloads there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no workload.
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// The pods of this node.
    pub fn local_pods(&self) -> &[LocalPod] {
        &self.local.pods
    }

    /// What covers a workload. Ready for the pods of this node, and put together for others.
    pub(crate) fn policies_over(&self, uid: &WorkloadUid, member: Member<'_>) -> Arc<PolicySet> {
        let ready = self.covered.get(uid).cloned();
        ready.unwrap_or_else(|| Arc::new(self.policies.over(&member.shape.namespace, &member.shape.policies)))
    }

    /// Makes ready what covers these, as far as they are pods of this node.
    fn cover(&mut self, uids: Vec<WorkloadUid>) {
        let mut alike: HashMap<*const Shape, Arc<PolicySet>> = HashMap::new();
        for uid in uids {
            let here = self.local.pods.binary_search_by(|pod| pod.uid.cmp(&uid)).is_ok();
            let shape = self.member(&uid).filter(|_| here).map(|member| member.shape.clone());
            match shape {
                Some(shape) => {
                    let set = alike
                        .entry(Arc::as_ptr(&shape))
                        .or_insert_with(|| Arc::new(self.policies.over(&shape.namespace, &shape.policies)));
                    let set = set.clone();
                    Arc::make_mut(&mut self.covered).insert(uid, set);
                }
                None if self.covered.contains_key(&uid) => {
                    Arc::make_mut(&mut self.covered).remove(&uid);
                }
                None => {}
            }
        }
    }

    pub(crate) fn member(&self, uid: &WorkloadUid) -> Option<Member<'_>> {
        self.members.find(self.hash(uid), |seat| self.records.at(*seat).is(uid)).map(|seat| self.records.at(*seat))
    }

    /// Those who stand behind the service.
    pub(crate) fn behind(&self, served: &Served) -> impl Iterator<Item = Member<'_>> + Clone {
        served.members.iter().map(|seat| self.records.at(*seat))
    }

    /// Who sits there.
    pub(crate) fn seated(&self, seat: Seat) -> Member<'_> {
        self.records.at(seat)
    }

    /// The service at the address, and what it is.
    pub(crate) fn served_at(&self, network: &Network, ip: IpAddr) -> Option<(&Served, &Arc<Service>)> {
        self.served_where(network, ip, |_| true)
    }

    /// The service that a client of that namespace has at the address.
    pub(crate) fn served_for(
        &self,
        client: Option<&Namespace>,
        network: &Network,
        ip: IpAddr,
    ) -> Option<(&Served, &Arc<Service>)> {
        self.served_where(network, ip, |service| service.seen.by(client))
    }

    fn served_where(
        &self,
        network: &Network,
        ip: IpAddr,
        counts: impl Fn(&Service) -> bool,
    ) -> Option<(&Served, &Arc<Service>)> {
        let ip = canonical_ip(ip);
        let is = |entry: &&(Arc<Service>, usize)| vip(entry) == (network, ip) && counts(&entry.0);
        let exact = self.vips.like(self.hash(&(network, ip))).filter(is).map(|(service, _)| &service.name).min();
        let range = || {
            let mut ranges = self.ranges.iter();
            let known = |name| self.served(name).and_then(|served| served.service.as_ref());
            let is = |name| known(name).is_some_and(|service| counts(service));
            ranges.find(|(n, range, name)| n == network && range.contains(&ip) && is(name)).map(|(_, _, name)| name)
        };
        let served = self.served(exact.or_else(range)?)?;
        Some((served, served.service.as_ref()?))
    }

    pub(crate) fn served(&self, name: &ServiceName) -> Option<&Served> {
        self.services.find(self.hash(name), |served| served.name == *name).map(|served| &**served)
    }

    fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    fn set_workload(&mut self, uid: &WorkloadUid, workload: Option<Workload>, moved: &mut Moves) {
        let hash = self.hash(uid);
        if let Some(old) = self.members.remove(hash, |seat| self.records.at(*seat).is(uid)) {
            self.forget_addresses(old);
            moved.gone(old, &self.records.at(old));
            self.records.remove(old);
        }
        if let Some(workload) = workload {
            let record = Record::new(workload, |shape, place| self.shared(shape, place));
            let seat = self.records.insert(record);
            let (records, hasher) = (&self.records, &self.hasher);
            self.members.insert(hash, seat, |other| hasher.hash_one(records.at(*other).uid()));
            self.note_addresses(seat);
            moved.come(seat, &self.records.at(seat));
        }
        self.set_local(uid);
    }

    /// What others have in common with it already, or it alone for now.
    fn shared(&mut self, shape: Shape, place: Place) -> (Arc<Shape>, Arc<Place>) {
        let hasher = self.hasher.clone();
        let hash = self.hash(&shape);
        let shape = self.shapes.find(hash, |other| **other == shape).cloned().unwrap_or_else(|| {
            let shape = Arc::new(shape);
            self.shapes.insert(hash, shape.clone(), |other| hasher.hash_one(&**other));
            shape
        });
        let hash = self.hash(&place);
        let place = self.places.find(hash, |other| **other == place).cloned().unwrap_or_else(|| {
            let place = Arc::new(place);
            self.places.insert(hash, place.clone(), |other| hasher.hash_one(&**other));
            place
        });
        (shape, place)
    }

    /// Throws out shapes and places that nobody has any more, once there are many. A mesh that became much smaller is made anew.
    fn sweep(&mut self) {
        if self.records.is_sparse() {
            *self = self.anew();
            return;
        }
        if self.shapes.len() + self.places.len() < self.sweep_at {
            return;
        }
        let (mut shapes, mut places) = (HashMap::new(), HashMap::new());
        for member in self.records.iter() {
            shapes.entry(Arc::as_ptr(&member.shape)).or_insert_with(|| member.shape.clone());
            places.entry(Arc::as_ptr(&member.place)).or_insert_with(|| member.place.clone());
        }
        self.sweep_at = 1024 + 2 * (shapes.len() + places.len());
        let hasher = self.hasher.clone();
        self.shapes = Table::new(FEW);
        for shape in shapes.into_values() {
            self.shapes.insert(hasher.hash_one(&*shape), shape, |other| hasher.hash_one(&**other));
        }
        self.places = Table::new(FEW);
        for place in places.into_values() {
            self.places.insert(hasher.hash_one(&*place), place, |other| hasher.hash_one(&**other));
        }
    }

    /// The same mesh, in the room it needs now.
    fn anew(&self) -> Self {
        let (workloads, services) = (self.records.iter().map(Record::workload), self.services());
        let delta = Delta {
            workloads: workloads.map(|one| (one.uid.clone(), Some(one))).collect(),
            services: services.map(|one| (one.name.clone(), Some(Service::clone(one)))).collect(),
            policies: Vec::new(),
        };
        Self { local: self.local.clone(), policies: self.policies.clone(), ..Self::default() }.apply(delta)
    }

    fn set_local(&mut self, uid: &WorkloadUid) {
        let Some(node) = &self.local.node else { return };
        let here = self.member(uid).filter(|member| member.place.node.as_ref() == Some(node));
        let at = self.local.pods.binary_search_by(|pod| pod.uid.cmp(uid));
        if here.is_none() && at.is_err() {
            return;
        }
        let pod = here.map(|record| LocalPod {
            uid: uid.clone(),
            addresses: record.addresses().collect(),
            netns: None,
            enrolment: match (record.shape.tunnel, record.shape.termination, record.shape.network_mode) {
                (Tunnel::Hbone, Termination::Own, _) => Enrolment::Waypoint,
                (Tunnel::Hbone, Termination::Agent | Termination::Proxy(_), _) => Enrolment::Enrolled,
                (Tunnel::None, _, NetworkMode::HostNetwork) => Enrolment::HostNetwork,
                (Tunnel::None, _, NetworkMode::Standard) => Enrolment::NotLabelled,
            },
        });
        let local = Arc::make_mut(&mut self.local);
        match (at, pod) {
            (Ok(at), Some(pod)) => local.pods[at] = pod,
            (Ok(at), None) => drop(local.pods.remove(at)),
            (Err(at), Some(pod)) => local.pods.insert(at, pod),
            (Err(_), None) => {}
        }
    }

    /// Each service that someone joined or left is copied once.
    fn move_members(&mut self, moved: Moves) {
        for (name, Move { come, gone }) in moved.0 {
            self.change_service(&name, |served| {
                let mut members = mem::take(&mut served.members).into_vec();
                if !gone.is_empty() {
                    members.retain(|seat| !gone.contains(seat));
                }
                members.extend(come);
                served.members = members.into();
            });
        }
    }

    fn set_service(&mut self, name: &ServiceName, service: Option<Service>) {
        let hasher = self.hasher.clone();
        if let Some(old) = self.service(name).cloned() {
            for (at, (network, one)) in old.vips.iter().enumerate() {
                let hash = self.hash(&(network, canonical_ip(one.addr())));
                self.vips.remove(hash, |(other, place)| Arc::ptr_eq(other, &old) && *place == at);
            }
            if old.vips.iter().any(|(_, vip)| !is_exact(vip)) {
                Arc::make_mut(&mut self.ranges).retain(|(_, _, of)| of != name);
            }
        }
        let service = service.map(Arc::new);
        if let Some(service) = &service {
            for (at, (network, one)) in service.vips.iter().enumerate() {
                if is_exact(one) {
                    let hash = self.hash(&(network, canonical_ip(one.addr())));
                    self.vips.insert(hash, (service.clone(), at), |other| hasher.hash_one(vip(other)));
                } else {
                    let ranges = Arc::make_mut(&mut self.ranges);
                    ranges.push((network.clone(), *one, name.clone()));
                    ranges.sort_by(|a, b| (Reverse(a.1.prefix_len()), &a.2).cmp(&(Reverse(b.1.prefix_len()), &b.2)));
                }
            }
        }
        self.change_service(name, |served| served.service = service);
    }

    fn change_service(&mut self, name: &ServiceName, change: impl FnOnce(&mut Served)) {
        let hasher = self.hasher.clone();
        let hash = self.hash(name);
        let mut served = self
            .services
            .remove(hash, |served| served.name == *name)
            .unwrap_or_else(|| Arc::new(Served { name: name.clone(), service: None, members: Box::default() }));
        change(Arc::make_mut(&mut served));
        if served.service.is_some() || !served.members.is_empty() {
            self.services.insert(hash, served, |served| hasher.hash_one(&served.name));
        }
    }
}

/// The network and the address that an entry stands for.
fn vip((service, at): &(Arc<Service>, usize)) -> (&Network, IpAddr) {
    let (network, vip) = &service.vips[*at];
    (network, canonical_ip(vip.addr()))
}

fn is_exact(vip: &IpNet) -> bool {
    vip.prefix_len() == vip.max_prefix_len()
}

#[cfg(test)]
#[path = "world/tests.rs"]
mod tests;
