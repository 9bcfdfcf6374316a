//! The arrows of ARCHITECTURE.md, kept: the dependency graph in, every forbidden path out. Only normal dependencies
//! count: tests may use what they like.

mod graph;
#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::Result;

use crate::metadata::Metadata;
use graph::{Graph, Package};

/// A part of the building. What may depend on what is decided between rooms, see [`Room::may_use`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// `crates/logic/*`: decisions, without effects.
    Logic,
    /// `crates/wire`: bytes to types and back.
    Wire,
    /// `crates/io/*`: the shared code with effects.
    Io,
    /// `ebpf/*`: the kernel side and its loader.
    Ebpf,
    /// `agent`: the one program that may load eBPF.
    Agent,
    /// Any other program.
    Program,
    /// `cni`: the plugin that is started for each pod, and stays small.
    Plugin,
    /// `tests/**` and `xtask`: may see everything.
    Tests,
}

impl Room {
    /// The room of a folder, relative to the root; `None` if ARCHITECTURE.md has no such folder.
    pub(crate) fn of(folder: &str) -> Option<Self> {
        let parts: Vec<&str> = folder.split('/').collect();
        match parts.as_slice() {
            ["crates", "logic", _] => Some(Self::Logic),
            ["crates", "wire"] => Some(Self::Wire),
            ["crates", "io", _] => Some(Self::Io),
            ["ebpf", _] => Some(Self::Ebpf),
            ["agent"] => Some(Self::Agent),
            ["waypoint" | "control" | "ctl"] => Some(Self::Program),
            ["cni"] => Some(Self::Plugin),
            ["xtask"] | ["tests", ..] => Some(Self::Tests),
            _ => None,
        }
    }

    /// Whether a package of this room may depend, directly or not, on one of `other`.
    fn may_use(self, other: Self) -> bool {
        match self {
            Self::Logic | Self::Wire => matches!(other, Self::Logic),
            Self::Io => matches!(other, Self::Io | Self::Wire | Self::Logic | Self::Ebpf),
            Self::Ebpf => matches!(other, Self::Ebpf),
            Self::Agent => matches!(other, Self::Io | Self::Wire | Self::Logic | Self::Ebpf),
            Self::Program => matches!(other, Self::Io | Self::Wire | Self::Logic),
            Self::Plugin => false,
            Self::Tests => true,
        }
    }

    /// Packages of others that must not be reached from this room at all.
    fn never(self) -> &'static [&'static str] {
        match self {
            Self::Logic | Self::Wire | Self::Plugin => &["tokio", "hyper", "h2", "kube", "aya", "rustls"],
            Self::Io | Self::Ebpf | Self::Agent | Self::Program | Self::Tests => &[],
        }
    }
}

/// Packages of others that only some of ours may name, so that there is one door to each.
const DOORS: &[(&str, &[&str])] = &[
    ("rustls", &["weir-identity", "weir-hbone", "weir-rpc", "weir-jwks", "weir-origination", "weir-agent"]),
    ("kube", &["weir-kube"]),
    ("tonic", &["weir-rpc", "weir-xds", "weir-issuance", "weir-report"]),
    // The map types name it for its marker trait alone: no other crate may implement that for them. The feature is the
    // loader's to turn on.
    ("aya", &["weir-ebpf-loader", "weir-ebpf-common"]),
    // Libraries have an error enum; only what ends in a terminal may blur causes.
    ("anyhow", &["weir-agent", "weir-control", "weir-ctl", "weir-waypoint"]),
];

/// A dependency that must not be, as the path that leads to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Package names, from the one that must not to the one it must not reach.
    pub(crate) path: Vec<String>,
    /// The rule.
    pub(crate) why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.join(" -> "), self.why)
    }
}

/// Every forbidden dependency of the real workspace.
///
/// # Errors
/// When cargo's answer names a package it does not describe.
pub(crate) fn check(metadata: &Metadata) -> Result<Vec<Violation>> {
    Ok(violations(&Graph::from_metadata(metadata)?))
}

/// Every forbidden dependency of `graph`: one shortest path for each pair of packages.
fn violations(graph: &Graph) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, package) in graph.packages().iter().enumerate() {
        let Some(folder) = &package.folder else { continue };
        let Some(room) = Room::of(folder) else {
            let why = format!("ARCHITECTURE.md has no room {folder:?}");
            found.push(Violation { path: vec![package.name.clone()], why });
            continue;
        };
        for path in graph.paths_from(at) {
            let last = *path.last().expect("a path ends somewhere");
            if let Some(why) = forbidden(room, package, path.len(), &graph.packages()[last]) {
                let path = path.iter().map(|&step| graph.packages()[step].name.clone()).collect();
                found.push(Violation { path, why });
            }
        }
    }
    found
}

/// Why `package` of `room` must not reach `target` by a path of `steps` packages, both ends counted.
fn forbidden(room: Room, package: &Package, steps: usize, target: &Package) -> Option<String> {
    if let Some(target_room) = target.folder.as_deref().and_then(Room::of) {
        return (!room.may_use(target_room)).then(|| format!("{room:?} must not depend on {target_room:?}"));
    }
    let name = target.name.as_str();
    if room.never().contains(&name) {
        return Some(format!("{room:?} must never reach {name}"));
    }
    let (_, through) = DOORS.iter().find(|(foreign, _)| *foreign == name)?;
    let direct = steps == 2;
    let allowed = room == Room::Tests || through.contains(&package.name.as_str());
    (direct && !allowed).then(|| format!("{name} is named only by {}", through.join(", ")))
}
