//! Settings below `/proc/sys/net`, of one namespace.
//!
//! In a container `/proc/sys` is read-only unless it is privileged, but the node's own, mounted elsewhere, is not; both show the
//! settings of the namespace that the reader is in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Attempt, Attempted, NetlinkError};
use crate::netns::NetNs;

/// Where settings are, if not in `/proc/sys`.
static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// Says for the whole process that settings are in this folder, such as `/host/proc/sys`. Only the first word counts: it is for the start.
pub fn sysctls_in(folder: &Path) {
    let _first = PLACE.set(folder.to_owned()).is_ok();
}

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
    PLACE.get().map_or(Path::new("/proc/sys"), PathBuf::as_path).join(name)
}
