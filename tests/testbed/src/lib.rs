//! Nodes and pods as network namespaces, workloads and load for them, and an ear on the wire between.
//!
//! In: which pods stand where. Out: a small cluster on one machine that removes itself, whatever ends the test. It never needs a
//! program that a fresh Debian lacks, and never touches the machine's own network.

pub mod bench;
mod binaries;
mod cleanup;
pub mod demo;
mod http;
mod manifests;
mod mesh;
mod process;
pub mod proxies;
mod sniffer;
mod sweep;
mod tally;
mod topology;
mod waypoint;
pub mod work;

pub use binaries::binary;
pub use cleanup::Cleanup;
pub use http::{Answer, http_get, http_get_from};
pub use manifests::{NamespaceSpec, PodSpec, ServiceSpec, Stack, write_atomically};
pub use mesh::{Mesh, MetricSum, sum_by};
pub use process::{Process, run_to_end};
pub use sniffer::{Sniffer, TlsSession, WireReport};
pub use sweep::sweep;
pub use tally::Tally;
pub use topology::{Node, Pod, Removal, Topology, TopologySpec, WIRE, labels};
pub use waypoint::Waypoint;

/// Told of each step of something long; its error ends that in order.
pub type Say<'s> = &'s mut dyn FnMut(&str) -> anyhow::Result<()>;
