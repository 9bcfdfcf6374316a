//! Settings below `/proc/sys/net`, of one namespace.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Attempt, Attempted, NetlinkError};
use crate::netns::NetNs;

/// Reads a setting such as `net/ipv4/tcp_fwmark_accept` inside `netns`, without its line end. Slashes, for link names have dots.
///
/// # Errors
/// When this kernel has no such setting.
pub fn read_sysctl(netns: &NetNs, name: &str) -> Result<String, NetlinkError> {
    let read = netns.run(|| fs::read_to_string(path(name)))?;
    Ok(read.attempted(|| Attempt::ReadSysctl(name.into()))?.trim_end().to_owned())
}

/// Writes a setting inside `netns`.
///
/// # Errors
/// When this kernel has no such setting, refuses the value, or `/proc/sys` is mounted read-only.
pub fn write_sysctl(netns: &NetNs, name: &str, value: &str) -> Result<(), NetlinkError> {
    let written = netns.run(|| fs::write(path(name), value))?;
    written.attempted(|| Attempt::WriteSysctl(name.into(), value.into()))
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}
