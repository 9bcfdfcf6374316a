//! Loads, attaches, pins and reads the eBPF programs. In come pods (a netns, addresses, listeners) and accepted
//! peers, out go original destinations and counts. It opens no listener and decides nothing about a connection.
//!
//! Everything is pinned below one folder of bpffs and belongs to it alone: agents with different folders do not
//! see each other. When an agent dies its listeners close; the programs stay, and refuse.

mod cgroup;
mod cleanup;
mod error;
mod host;
mod maps;
mod object;
mod origins;
mod redirect;
mod settings;
mod sys;

pub use cleanup::{Removed, cleanup};
pub use error::Error;
pub use maps::Counters;
pub use origins::Origins;
pub use redirect::Redirect;
pub use settings::{Capture, HostExemption, Settings};
pub use weir_ebpf_common::Counter;
