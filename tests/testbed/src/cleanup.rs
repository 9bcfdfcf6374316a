//! Taking out of the kernel what an agent left there, by its own `weir-agent cleanup`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weir_netlink::NetNs;

use crate::process::run_to_end;
use crate::topology::Topology;

/// Patience with a cleanup.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is left of a node's agent once it has ended: known before, for what comes after the topology was last at hand.
#[derive(Debug)]
pub struct Cleanup {
    netns: NetNs,
    agent: PathBuf,
    bpf_dir: PathBuf,
}

impl Cleanup {
    /// Of a node, counted from zero, by that program.
    ///
    /// # Errors
    /// When the node is not there.
    pub fn of(topology: &Topology, agent: &Path, node: usize) -> anyhow::Result<Self> {
        let netns = NetNs::open(topology.nodes()[node].netns_path())?;
        Ok(Self { netns, agent: agent.into(), bpf_dir: topology.bpf_dir(node) })
    }

    /// Takes it out. Answers with what the program said of it.
    ///
    /// # Errors
    /// When it fails, or takes longer than a minute.
    pub fn run(&self) -> anyhow::Result<String> {
        let mut command = Command::new(&self.agent);
        command.arg("cleanup").arg("--bpf-dir").arg(&self.bpf_dir);
        run_to_end(&self.netns, command, PATIENCE)
    }
}
