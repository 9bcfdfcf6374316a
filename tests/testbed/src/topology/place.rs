//! A node and a pod: what each is, and where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use weir_netlink::NetNs;

use crate::manifests::PodSpec;

/// A node.
#[derive(Debug)]
pub struct Node {
    pub(super) name: String,
    pub(super) number: u8,
    pub(super) netns: NetNs,
    pub(super) netns_path: PathBuf,
    pub(super) next_pod: u8,
}

impl Node {
    /// Its name: `node1`, `node2`, ...
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace, where its agent runs.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Where that is mounted.
    #[must_use]
    pub fn netns_path(&self) -> &Path {
        &self.netns_path
    }

    /// Its addresses on the wire, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        let number = self.number;
        [Ipv4Addr::new(192, 168, 77, number).into(), Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, number.into()).into()]
    }

    pub(super) fn gateways(&self) -> [IpAddr; 2] {
        self.pod_addresses(1)
    }

    pub(super) fn pod_addresses(&self, last: u8) -> [IpAddr; 2] {
        let node = self.number;
        [
            Ipv4Addr::new(10, 244, node, last).into(),
            Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, last.into()).into(),
        ]
    }
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    pub(super) spec: PodSpec,
    pub(super) netns: NetNs,
    pub(super) netns_path: PathBuf,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) uid: String,
    pub(super) link: Option<String>,
}

impl Pod {
    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// Its network namespace.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Where that is mounted.
    #[must_use]
    pub fn netns_path(&self) -> &Path {
        &self.netns_path
    }

    /// All its addresses, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its first IPv4 address.
    #[must_use]
    pub fn v4(&self) -> Option<IpAddr> {
        self.addresses.iter().copied().find(IpAddr::is_ipv4)
    }

    /// Its first IPv6 address.
    #[must_use]
    pub fn v6(&self) -> Option<IpAddr> {
        self.addresses.iter().copied().find(IpAddr::is_ipv6)
    }

    /// The UID of its Pod object.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }
}
