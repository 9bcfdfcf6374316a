//! Tests of the whole: real binaries, real eBPF, pods as network namespaces.
//!
//! In: a topology of the testbed. Out: agents on its nodes, sockets inside its pods, and what all of them say; and in
//! [`peers`] other parties, well-mannered and not. The tests themselves are in `netns/` and `interop/`. Nothing here waits by
//! sleeping for a time that is hoped to be long enough: conditions are polled until a deadline.

mod bed;
mod cgroup;
mod sockets;
mod state;
mod wait;

pub mod peers;

pub use bed::{Bed, agent, bed_command, clean_up, clean_up_all, serve, serve_http};
pub use cgroup::Cgroup;
pub use sockets::{Server, clean_end, client_seen, connect, refused, reset, talk, unheard};
pub use state::{config_dump, fetch, kernel_decisions, metric, own, pod_state, ready, wait_known, wait_state};
pub use wait::{PATIENCE, eventually};
