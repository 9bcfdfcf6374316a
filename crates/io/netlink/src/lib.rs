//! Links, addresses, routes and rules through rtnetlink.
//!
//! In: what should exist in a network namespace. Out: the kernel's state changed to that, or a typed error that names what was
//! attempted. It is synchronous, keeps no state of its own, and never runs another program.

mod address;
mod error;
mod link;
mod netns;
mod packet;
mod pod_routing;
mod route;
mod rtnl;
mod rule;
mod sysctl;

pub use address::LinkAddress;
pub use error::{Attempt, NetlinkError};
pub use link::{Link, LinkStats, VethPeer};
pub use netns::NetNs;
pub use packet::{PacketSocket, PacketStats};
pub use pod_routing::{Ipv6Routing, PodRouting};
pub use route::{Route, RouteKind};
pub use rtnl::Rtnl;
pub use rule::{Family, Rule};
pub use sysctl::{read_sysctl, sysctls_in, write_sysctl};

#[cfg(test)]
mod tests;
