//! Sockets in network namespaces, against the real kernel: it needs root. IPv4 and IPv6 alike.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bed;
mod connecting;
mod listening;
mod namespaces;
mod relaying;
