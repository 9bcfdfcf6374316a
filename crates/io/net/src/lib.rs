//! Sockets and network namespaces: entering a pod's namespace, listening and connecting inside it, streams whose readiness
//! is tracked without wasted system calls, and packets that carry descriptors between programs.
//!
//! In: namespace paths, addresses. Out: non-blocking sockets registered with the current runtime. It decides nothing.
#![expect(unsafe_code, reason = "setns, accept4 and socket options that no safe wrapper offers")]

mod listener;
mod netns;
mod option;
mod packet;
mod relay;
mod stream;

pub use listener::{Acceptor, Listener, ListenerSettings};
pub use netns::{Netns, NetnsError, NetnsId};
pub use packet::{Packet, PacketStream};
pub use relay::{Broken, relay};
pub use stream::{Source, Stream, connect};
