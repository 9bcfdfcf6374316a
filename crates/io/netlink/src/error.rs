//! What can go wrong, and what was being attempted when it did.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::rule::Rule;

/// Why a request of this crate was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused.
    #[error("cannot {attempt}")]
    Refused {
        /// What was asked of it.
        attempt: Attempt,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer does not parse.
    #[error("cannot {attempt}: the kernel's answer does not parse")]
    Malformed {
        /// What was asked of it.
        attempt: Attempt,
        /// Where the parser stopped.
        #[source]
        source: netlink_packet_core::DecodeError,
    },
    /// No link has this name in the namespace.
    #[error("no link named {0}")]
    NoLink(String),
    /// The file is there, but no network namespace is mounted on it.
    #[error("{0} is not a network namespace")]
    NotANetns(PathBuf),
    /// The thread that should run inside the namespace panicked.
    #[error("a thread inside a network namespace panicked")]
    ThreadPanicked,
}

impl NetlinkError {
    /// The errno of the kernel's refusal, if it was one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Malformed { .. } | Self::NoLink(_) | Self::NotANetns(_) | Self::ThreadPanicked => None,
        }
    }
}

/// One thing asked of the kernel; displays as the end of "cannot ...".
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant displays as what it is")]
pub enum Attempt {
    OpenRtnetlink,
    OpenNetns(PathBuf),
    CreateNetns(PathBuf),
    DeleteNetns(PathBuf),
    EnterNetns,
    StartThread,
    Spawn(PathBuf),
    CreateVeth(String, String),
    CreateBridge(String),
    ChangeLink(String),
    MoveLink(String),
    DeleteLink(String),
    ListLinks,
    AddAddress(IpAddr, u8),
    DeleteAddress(IpAddr, u8),
    ListAddresses,
    AddRoute(String),
    DeleteRoute(String),
    ListRoutes,
    AddRule(Rule),
    DeleteRule(Rule),
    ListRules,
    ReadSysctl(String),
    WriteSysctl(String, String),
    OpenPacketSocket(String),
    ReceivePacket,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenRtnetlink => f.write_str("open an rtnetlink socket"),
            Self::OpenNetns(path) => write!(f, "open network namespace {}", path.display()),
            Self::CreateNetns(path) => write!(f, "create network namespace {}", path.display()),
            Self::DeleteNetns(path) => write!(f, "delete network namespace {}", path.display()),
            Self::EnterNetns => f.write_str("enter a network namespace"),
            Self::StartThread => f.write_str("start a thread for a network namespace"),
            Self::Spawn(program) => write!(f, "start {} in a network namespace", program.display()),
            Self::CreateVeth(name, peer) => write!(f, "create veth pair {name} and {peer}"),
            Self::CreateBridge(name) => write!(f, "create bridge {name}"),
            Self::ChangeLink(name) => write!(f, "change link {name}"),
            Self::MoveLink(name) => write!(f, "move link {name} to another network namespace"),
            Self::DeleteLink(name) => write!(f, "delete link {name}"),
            Self::ListLinks => f.write_str("list links"),
            Self::AddAddress(ip, len) => write!(f, "add address {ip}/{len}"),
            Self::DeleteAddress(ip, len) => write!(f, "delete address {ip}/{len}"),
            Self::ListAddresses => f.write_str("list addresses"),
            Self::AddRoute(route) => write!(f, "add route {route}"),
            Self::DeleteRoute(route) => write!(f, "delete route {route}"),
            Self::ListRoutes => f.write_str("list routes"),
            Self::AddRule(rule) => write!(f, "add rule {rule}"),
            Self::DeleteRule(rule) => write!(f, "delete rule {rule}"),
            Self::ListRules => f.write_str("list rules"),
            Self::ReadSysctl(name) => write!(f, "read sysctl {name}"),
            Self::WriteSysctl(name, value) => write!(f, "set sysctl {name} to {value}"),
            Self::OpenPacketSocket(link) => write!(f, "listen to packets on {link}"),
            Self::ReceivePacket => f.write_str("receive a packet"),
        }
    }
}

/// Attaches what was attempted to an `io::Error`.
pub(crate) trait Attempted<T> {
    fn attempted(self, attempt: impl FnOnce() -> Attempt) -> Result<T, NetlinkError>;
}

impl<T, E: Into<io::Error>> Attempted<T> for Result<T, E> {
    fn attempted(self, attempt: impl FnOnce() -> Attempt) -> Result<T, NetlinkError> {
        self.map_err(|source| NetlinkError::Refused { attempt: attempt(), source: source.into() })
    }
}
