//! The ground the Kubernetes suite stands on, and an API server of our own for it.
//!
//! `WEIR_TEST_KUBECONFIG=FILE cargo test -p weir-tests-kube` runs the suite against a real server, in namespaces `weir-test-…` of its own;
//! cases that say so in their name need ours, and run against it all the same.
//!
//! The server is HTTPS, in memory, and honest about what it is: what it does, it does as a real one does; what it cannot, it refuses
//! with a status that says so. It is no schema: it checks of an object what the suite relies on.
//!
//! It has: create, get, update, merge patch, server-side apply and delete with their conflicts and preconditions, for real or tried; lists in pages of one
//! snapshot; watches with bookmarks, and 410 both ways; the selectors of a name, of labels and of their values; status as a resource of its own; custom resource
//! definitions; tokens of service accounts, their review, and RBAC; ports of pods forwarded over WebSocket. It has no other selectors, no finalizers, no protobuf, no
//! controllers: a namespace's objects go with
//! it at once. It speaks HTTP/1.1, as kube-rs does. Tokens are opaque.

mod access;
mod agent;
mod apply;
mod control;
mod fault;
mod forward;
mod ground;
mod heard;
mod reply;
mod request;
mod rules;
mod server;
mod store;
pub mod things;
mod token;
mod verbs;
mod watch;
mod waypoint;

pub use agent::{Agent, SERVING_NAME, dial};
pub use control::{Control, PATIENCE, Plan, eventually};
pub use fault::{Faults, Forgotten};
pub use ground::Ground;
pub use heard::{Heard, quick};
pub use server::ApiServer;
pub use waypoint::{Backend, Waypoint};
