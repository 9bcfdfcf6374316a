//! What a source of the mesh's state delivers.

use weir_model::{LocalPod, Policy, PolicyName, Service, ServiceName, Workload, WorkloadUid};

/// The mesh as lists: what a compiler or a control protocol makes, and a `World` indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mesh {
    /// All workloads.
    pub workloads: Vec<Workload>,
    /// All services.
    pub services: Vec<Service>,
    /// All policies.
    pub policies: Vec<Policy>,
    /// The pods of this node.
    pub local_pods: Vec<LocalPod>,
}

/// What changed of a mesh, each thing named once: as it is now, or gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Workloads.
    pub workloads: Vec<(WorkloadUid, Option<Workload>)>,
    /// Services.
    pub services: Vec<(ServiceName, Option<Service>)>,
    /// Policies.
    pub policies: Vec<(PolicyName, Option<Policy>)>,
}
