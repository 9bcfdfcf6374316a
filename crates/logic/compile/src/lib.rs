//! Manifest objects to the mesh model.
//!
//! In: parsed objects and what no manifest says (`Settings`). Out: a `Mesh` of workloads, services and local pods. It
//! never fails: what could be wrong was refused by the parser. It never does I/O.

mod compile;
mod compiler;
mod policy;
mod service;
mod settings;
mod workload;

pub use compile::compile;
pub use compiler::Compiler;
pub use settings::{ClusterDomain, Settings};
pub use weir_world::Mesh;
