//! What is proven of a connection.

use std::net::IpAddr;

use weir_model::{Port, SpiffeId};

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer<'p> {
    /// Who its certificate says it is. None in plaintext.
    pub identity: Option<&'p SpiffeId>,
    /// The address the kernel knows it by, canonical.
    pub address: IpAddr,
}

/// Where it goes: an address of the workload, and a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Canonical.
    pub address: IpAddr,
    /// The workload's own port, not a service's.
    pub port: Port,
}
