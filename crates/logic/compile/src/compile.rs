//! The objects of a folder to the mesh.

use std::collections::BTreeMap;

use weir_manifest::Objects;
use weir_world::Mesh;

use crate::{
    Settings,
    service::{self, Backends},
    workload::{self, Surroundings},
};

/// The mesh that the objects describe, workloads by uid, services in the order they were declared.
pub fn compile(objects: &Objects, settings: &Settings) -> Mesh {
    let around = Surroundings {
        modes: objects.namespaces.iter().filter_map(|one| Some((one.name.clone(), one.mode?))).collect(),
        localities: objects.nodes.iter().map(|node| (node.name.clone(), workload::locality(&node.labels))).collect(),
    };
    let backends = Backends::new(settings, &objects.pods, &objects.endpoint_slices);
    let pods = || objects.pods.iter().filter(|pod| workload::exists(pod));
    let local = pods().filter(|pod| pod.node.is_some() && pod.node == settings.node);
    let workload = |pod| {
        let workload = workload::workload(settings, &around, pod);
        (workload.uid.clone(), workload)
    };
    let mut workloads: BTreeMap<_, _> = pods().map(workload).collect();
    for service in &objects.services {
        backends.place(settings, service, &mut workloads);
    }
    Mesh {
        workloads: workloads.into_values().collect(),
        services: objects.services.iter().map(|one| service::service(settings, one)).collect(),
        policies: Vec::new(),
        local_pods: local.map(|pod| workload::local_pod(settings, &around, pod)).collect(),
    }
}

#[cfg(test)]
#[path = "compile/tests.rs"]
mod tests;
