//! Why capture failed.

use std::{io, net::IpAddr, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    pin::PinError,
    programs::{ProgramError, links::LinkError},
};

/// Why capture failed. Nothing is captured in part: a pod that failed to enrol was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process may not use eBPF.
    #[error("the agent lacks {0}: run it privileged, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Capability(&'static str),
    /// The kernel is too old, or built without something.
    #[error("this kernel lacks {feature}, which Linux has since {since}")]
    Kernel {
        /// What is missing.
        feature: &'static str,
        /// The version that brought it.
        since: &'static str,
    },
    /// Asking the kernel whether it has a feature failed.
    #[error("cannot find out whether the kernel has {feature}")]
    Probe {
        /// What was asked for.
        feature: &'static str,
        /// Why there is no answer.
        #[source]
        source: ProgramError,
    },
    /// The folder for pins is on another kind of file system.
    #[error("{0} is not on bpffs: mount it with `mount -t bpf bpf /sys/fs/bpf`, or choose a folder below a bpffs")]
    NotBpffs(PathBuf),
    /// bpffs is not mounted and could not be.
    #[error("bpffs is not mounted, and mounting it at {path} failed: run `mount -t bpf bpf {path}` on the node")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No cgroup v2 tree was found.
    #[error("no cgroup v2 is mounted: run `mount -t cgroup2 none /sys/fs/cgroup/unified`, or name its root")]
    NoCgroup2,
    /// The cgroup named is not the root of the tree, where alone all processes of the node are seen.
    #[error("{0} is not the root of the node's cgroup v2 tree: mount the node's /sys/fs/cgroup into the container")]
    NotRootCgroup(PathBuf),
    /// Without pods' cgroups every process would look like one outside of pods.
    #[error("to exempt processes outside of pods, name the pods' cgroups")]
    NoPodCgroups,
    /// A file could not be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The pinned maps are of another version of the agent, and pods depend on them.
    #[error(
        "the map {map} pinned in {pin_dir} has another layout than this version's, and pods are enrolled: withdraw the node's pods (or run `weir-agent cleanup --bpf-dir {pin_dir}`, which sets them free), then start this version"
    )]
    LayoutDiffers {
        /// The map that differs.
        map: &'static str,
        /// Where it is pinned.
        pin_dir: PathBuf,
    },
    /// The object was not accepted.
    #[error("loading the kernel programs")]
    Load(#[source] Box<EbpfError>),
    /// The object lacks something; the build is broken.
    #[error("the embedded object has no {0}")]
    NotInObject(&'static str),
    /// A program was not accepted, or not attached.
    #[error("program {program}")]
    Program {
        /// Which.
        program: &'static str,
        /// Why not.
        #[source]
        source: Box<ProgramError>,
    },
    /// A link was not usable.
    #[error("link of program {program}")]
    Link {
        /// Which.
        program: &'static str,
        /// Why not.
        #[source]
        source: LinkError,
    },
    /// A link could not be pinned.
    #[error("pinning {path}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: PinError,
    },
    /// The program of a link could not be exchanged.
    #[error("exchanging the program of {path}")]
    Exchange {
        /// The pinned link.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A map refused.
    #[error("map {map}")]
    Map {
        /// Which.
        map: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// A map refused a system call aya has no function for.
    #[error("map {map}")]
    MapCall {
        /// Which.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket for asking the kernel who we are failed.
    #[error("a socket to register with the kernel programs")]
    Socket(#[source] io::Error),
    /// The kernel programs did not take the agent for the agent.
    #[error("the kernel programs did not register this process: are they attached to another cgroup tree?")]
    Unclaimed,
    /// A pod without an address cannot be told from others.
    #[error("the pod with netns cookie {0} has no address")]
    NoAddress(u64),
    /// To capture the node's own netns is to capture the node.
    #[error(
        "the pod with netns cookie {0} is in the node's own network namespace (hostNetwork), which is never captured"
    )]
    HostNetwork(u64),
    /// An address every pod has is none to tell pods by.
    #[error("{0} cannot be the address of a pod")]
    UnusableAddress(IpAddr),
}
