//! The objects of a folder to the mesh.

use std::collections::{BTreeMap, HashMap};

use weir_manifest::Objects;
use weir_model::{Membership, Workload, WorkloadUid};
use weir_world::Mesh;

use crate::{
    Settings,
    service::{self, Backends},
    workload::{self, Surroundings},
};

/// The mesh that the objects describe, workloads and services in the order they were declared.
pub fn compile(objects: &Objects, settings: &Settings) -> Mesh {
    let around = Surroundings {
        modes: objects.namespaces.iter().filter_map(|one| Some((one.name.clone(), one.mode?))).collect(),
        localities: objects.nodes.iter().map(|node| (node.name.clone(), workload::locality(&node.labels))).collect(),
    };
    let backends = Backends::new(settings, &objects.pods, &objects.endpoint_slices);
    let pods = || objects.pods.iter().filter(|pod| workload::exists(pod));
    let local = pods().filter(|pod| pod.node.is_some() && pod.node == settings.node);
    let mut workloads: Vec<_> = pods().map(|pod| workload::workload(settings, &around, pod)).collect();
    let at: HashMap<WorkloadUid, usize> = workloads.iter().enumerate().map(|(i, one)| (one.uid.clone(), i)).collect();
    let mut strangers: BTreeMap<WorkloadUid, Workload> = BTreeMap::new();
    let mut services = Vec::new();
    for object in &objects.services {
        let service = service::service(settings, object);
        for endpoint in backends.endpoints(settings, object) {
            let membership = Membership { service: service.name.clone(), ports: endpoint.ports.clone() };
            let one = match &endpoint.workload {
                Some(uid) => at.get(uid).map(|&i| &mut workloads[i]),
                None => Some(workload::stranger(settings, object, &endpoint, &mut strangers)),
            };
            if let Some(one) = one {
                join(one, membership);
            }
        }
        services.push(service);
    }
    workloads.extend(strangers.into_values());
    Mesh {
        workloads,
        services,
        policies: Vec::new(),
        local_pods: local.map(|pod| workload::local_pod(settings, &around, pod)).collect(),
    }
}

/// One more service, or more ports of one it is behind already: an endpoint has a slice for each family.
fn join(workload: &mut Workload, membership: Membership) {
    match workload.services.iter_mut().find(|other| other.service == membership.service) {
        Some(other) => {
            other.ports.extend(membership.ports);
            other.ports.sort();
            other.ports.dedup();
        }
        None => {
            workload.services.push(membership);
            workload.services.sort();
        }
    }
}

#[cfg(test)]
#[path = "compile/tests.rs"]
mod tests;
