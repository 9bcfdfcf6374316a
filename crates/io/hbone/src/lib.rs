//! HBONE: HTTP/2 CONNECT over mutual TLS 1.3.
//!
//! In: connected TCP sockets, rustls configurations, CONNECT heads. Out: tunnels that relay bytes between a TCP socket and
//! a stream. It never decides who may talk to whom, and never runs on more than one thread: each worker has its own
//! connections and its own [`Pool`], so nothing here is locked.
//!
//! rustls makes the handshake and owns the key schedule; records are sealed and opened here, in the buffer that is handed
//! to the kernel, so that a byte is copied once on its way from a socket into a record.

mod buffer;
mod client;
mod conn;
mod driver;
mod error;
mod handshake;
mod handshakes;
mod input;
mod io;
mod pool;
mod record;
mod relay;
mod server;
mod settings;
mod stream;

pub use client::{Client, connect};
pub use error::{Error, Lost};
pub use handshake::{Established, accept};
pub use handshakes::Handshakes;
pub use pool::{Dialed, Pool, PoolKey};
pub use relay::{Meter, Relayed, Unmetered};
pub use server::{Closer, Incoming, serve};
pub use settings::{Role, Settings};
pub use stream::Tunnel;
