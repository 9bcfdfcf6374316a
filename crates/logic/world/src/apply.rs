//! One world to the next.

use std::sync::Arc;

use weir_model::{Enrolment, LocalPod, NetworkMode, Service, ServiceName, Tunnel, Workload, WorkloadUid};

use crate::{
    mesh::Delta,
    record::Record,
    trie::Trie,
    world::{Behind, Local, Range, World, range_order, vips},
};

impl World {
    /// The world after a change. The one before stays as it is; local pods that were given with a mesh stay as well.
    #[must_use]
    pub fn apply(&self, delta: Delta) -> Self {
        let mut next = self.clone();
        for (uid, now) in delta.workloads {
            next.remove_workload(&uid);
            if let Some(workload) = now {
                next.remove_workload(&workload.uid);
                next.add_workload(workload);
            }
        }
        for (name, now) in delta.services {
            next.remove_service(&name);
            if let Some(service) = now {
                next.remove_service(&service.name);
                next.add_service(service);
            }
        }
        for (name, now) in delta.policies {
            next.policies.set(&next.hasher, &name, now);
        }
        next
    }

    /// A workload whose uid is not there yet.
    pub(crate) fn add_workload(&mut self, workload: Workload) {
        let uid_hash = self.hash(workload.uid.as_str());
        let (hasher, traits, places) = (&self.hasher, &mut self.traits, &mut self.places);
        let share = |one, other| (traits.share(hasher, one), places.share(hasher, other));
        let record = Arc::new(Record::new(workload, share));
        for hash in self.owned(&record) {
            self.owners.insert(hash, record.clone());
        }
        for membership in &record.traits.services {
            let (hash, service) = (self.hash(&membership.service), &membership.service);
            let is = |behind: &Behind| behind.service == *service;
            match self.behind.find_mut(hash, is) {
                Some(behind) => behind.records.insert(uid_hash, record.clone()),
                None => {
                    let mut behind = Behind { service: service.clone(), records: Trie::default() };
                    behind.records.insert(uid_hash, record.clone());
                    self.behind.insert(hash, behind);
                }
            }
        }
        if let Some((pods, uid)) = self.local_pods_with(&record)
            && let Err(at) = pods.binary_search_by(|pod| pod.uid.cmp(&uid))
        {
            pods.insert(at, local_pod(&record, uid));
        }
        self.records.insert(uid_hash, record);
    }

    fn remove_workload(&mut self, uid: &WorkloadUid) {
        let uid_hash = self.hash(uid.as_str());
        let Some(record) = self.records.remove(uid_hash, |record| record.is(uid.as_str())) else { return };
        let is = |other: &Arc<Record>| Arc::ptr_eq(other, &record);
        for hash in self.owned(&record) {
            self.owners.remove(hash, is);
        }
        for membership in &record.traits.services {
            let hash = self.hash(&membership.service);
            let behind = |behind: &Behind| behind.service == membership.service;
            if let Some(found) = self.behind.find_mut(hash, behind) {
                found.records.remove(uid_hash, is);
                if found.records.len() == 0 {
                    self.behind.remove(hash, behind);
                }
            }
        }
        if let Some((pods, uid)) = self.local_pods_with(&record) {
            pods.retain(|pod| pod.uid != uid);
        }
        self.traits.release(&self.hasher, &record.traits);
        self.places.release(&self.hasher, &record.place);
    }

    /// Where a workload stands in `owners`.
    fn owned(&self, record: &Record) -> Vec<u32> {
        match record.traits.network_mode {
            NetworkMode::Standard => {
                record.addresses().map(|ip| self.hash_address(&record.traits.network, ip)).collect()
            }
            // The address is the node's, and many may have it.
            NetworkMode::HostNetwork => Vec::new(),
        }
    }

    /// The local pods, if the workload is one of them, and its uid.
    fn local_pods_with(&mut self, record: &Record) -> Option<(&mut Vec<LocalPod>, WorkloadUid)> {
        match &mut self.local {
            Local::Of(node, pods) if record.place.node.as_ref() == Some(node) => {
                Some((Arc::make_mut(pods), record.uid()))
            }
            Local::Of(..) | Local::Given(_) => None,
        }
    }

    /// A service whose name is not there yet.
    pub(crate) fn add_service(&mut self, service: Service) {
        let service = Arc::new(service);
        for hash in self.served(&service) {
            self.vips.insert(hash, service.clone());
        }
        for (network, net) in &service.vips {
            if net.prefix_len() < net.max_prefix_len() {
                let range = Range { network: network.clone(), net: *net, service: service.clone() };
                let ranges = Arc::make_mut(&mut self.ranges);
                let at = ranges.partition_point(|other| range_order(other) <= range_order(&range));
                ranges.insert(at, range);
            }
        }
        self.services.insert(self.hash(&service.name), service);
    }

    fn remove_service(&mut self, name: &ServiceName) {
        let Some(service) = self.services.remove(self.hash(name), |service| service.name == *name) else { return };
        for hash in self.served(&service) {
            self.vips.remove(hash, |other| Arc::ptr_eq(other, &service));
        }
        if self.ranges.iter().any(|range| Arc::ptr_eq(&range.service, &service)) {
            Arc::make_mut(&mut self.ranges).retain(|range| !Arc::ptr_eq(&range.service, &service));
        }
    }

    /// Where a service stands in `vips`.
    fn served(&self, service: &Service) -> Vec<u32> {
        vips(service).map(|(network, ip)| self.hash_address(network, ip)).collect()
    }
}

/// A pod as far as the mesh's source knows it: not its network namespace, which is the node's own business.
fn local_pod(record: &Record, uid: WorkloadUid) -> LocalPod {
    let enrolment = match (record.traits.tunnel, record.traits.network_mode) {
        (Tunnel::Hbone, _) => Enrolment::Enrolled,
        (Tunnel::None, NetworkMode::HostNetwork) => Enrolment::HostNetwork,
        (Tunnel::None, NetworkMode::Standard) => Enrolment::NotLabelled,
    };
    LocalPod { uid, addresses: record.addresses().collect(), netns: None, enrolment }
}
