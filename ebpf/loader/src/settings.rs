//! What the agent asks for: how to start, and which pod to capture.

use std::{
    net::{IpAddr, SocketAddrV4, SocketAddrV6},
    os::fd::BorrowedFd,
    path::PathBuf,
};

/// How to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder on bpffs for this agent's pins; two agents with the same folder are two versions of one agent.
    pub pin_dir: PathBuf,
    /// The root of the cgroup v2 tree; found in `/proc/self/mountinfo` when absent.
    pub cgroup_root: Option<PathBuf>,
    /// How many connections can be under way (connected, not yet accepted) at once, in each of two maps. An
    /// agent which adopts maps keeps their size.
    pub max_flows: u32,
    /// Which processes of the node reach pods without the mesh.
    pub host_exemption: HostExemption,
}

/// Which processes in the node's own netns reach pods without the mesh: the kubelet has to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostExemption {
    /// No process.
    Nobody,
    /// Those below none of these cgroup v2 ids (an id is the inode number of the cgroup's folder), which must be those
    /// of `kubepods`: pods with hostNetwork are not exempt. At least one, at most 64, at depth 8 at most.
    NotInPods(Vec<u64>),
    /// Those with these thread group ids (of the initial pid namespace), at most 64: for hosts where all processes are in the root cgroup.
    Processes(Vec<u32>),
}

/// A pod to capture.
#[derive(Clone, Copy, Debug)]
pub struct Capture<'a> {
    /// The pod's network namespace.
    pub netns: BorrowedFd<'a>,
    /// Its cookie: `SO_NETNS_COOKIE` of any socket made in it.
    pub cookie: u64,
    /// All addresses of the pod but loopback and link-local ones. Connections to another address in this netns are dropped.
    pub addresses: &'a [IpAddr],
    /// The IPv4 outbound listener, on an address of the pod. Without one the pod's IPv4 connects are refused.
    pub outbound_v4: Option<SocketAddrV4>,
    /// The IPv6 outbound listener, on an address of the pod. Without one the pod's IPv6 connects are refused.
    pub outbound_v6: Option<SocketAddrV6>,
    /// A listener for HBONE, dual stack; one member of its SO_REUSEPORT group, which the kernel then spreads over.
    pub hbone: BorrowedFd<'a>,
    /// A listener for all other TCP, likewise.
    pub inbound: BorrowedFd<'a>,
}
