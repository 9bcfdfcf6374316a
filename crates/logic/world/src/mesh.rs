//! What a source of the mesh's state delivers.

use weir_model::{LocalPod, Service, Workload};

/// The mesh as lists: what a compiler or a control protocol makes, and a `World` indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mesh {
    /// All workloads.
    pub workloads: Vec<Workload>,
    /// All services.
    pub services: Vec<Service>,
    /// The pods of this node.
    pub local_pods: Vec<LocalPod>,
}
