//! Why names are not resolved.

use hickory_resolver::net::NetError;

/// Why names are not resolved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The servers of the system cannot be read.
    #[error("the system's servers of DNS (/etc/resolv.conf)")]
    System(#[source] NetError),
    /// No resolver can be made.
    #[error("a resolver of DNS cannot be made")]
    Setup(#[source] NetError),
    /// Nobody knows the name, or nobody answers.
    #[error("{name}: {why}")]
    Lookup {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
    /// It leads nowhere that may be gone to.
    #[error(
        "{name} has no address that is used: {found} that are not (loopback, link-local, multicast, or without a route)"
    )]
    Unusable {
        /// The name.
        name: String,
        /// How many it has.
        found: usize,
    },
}
