//! The program `weir-control` against an API server, asked by agents: over the wire, as on a cluster.
//!
//! Cases that a real server can take part in run against the one `WEIR_TEST_KUBECONFIG` names; the others against our own, and there
//! under the roles of `deploy/base/control-rbac.yaml`.

mod admission;
mod attacks;
mod caught;
mod certificates;
mod deployer;
mod discovery;
mod faults;
mod objects;
mod pages;
mod replicas;
mod rotation;
mod scene;
mod statuses;
mod waypoint;
mod wire;
