//! An agent on every node, and what they say of themselves.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use weir_netlink::NetNs;

use crate::http::http_get;
use crate::process::{Process, run_to_end};
use crate::topology::Topology;

/// Patience with an agent that starts or stops.
const PATIENCE: Duration = Duration::from_secs(60);
/// The agent's readiness port, `/healthz/ready`.
const READY_PORT: u16 = 15021;
/// The agent's metrics port, `/metrics`.
const STATS_PORT: u16 = 15020;

/// The agents of a topology, in the order of its nodes. Dropping it kills them and cleans up after them.
#[derive(Debug)]
pub struct Mesh {
    agents: Vec<Process>,
    places: Vec<Place>,
}

/// Where an agent runs, for what comes after it.
#[derive(Debug)]
struct Place {
    netns: NetNs,
    agent: PathBuf,
    bpf_dir: PathBuf,
}

/// The sum of one metric's series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricSum {
    /// Series that matched.
    pub series: usize,
    /// Their sum.
    pub value: u64,
}

impl Mesh {
    /// Starts an agent on every node, with `flags` besides those every agent needs, and waits until all are ready.
    ///
    /// # Errors
    /// When one ends or does not become ready in a minute: with its log.
    pub fn start(topology: &Topology, agent: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(topology, agent, |index| {
            let mut command = topology.agent_command(agent, index);
            command.args(flags);
            command
        })
    }

    /// The same, each by a command for its node.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(topology: &Topology, agent: &Path, command: impl Fn(usize) -> Command) -> anyhow::Result<Self> {
        // Whatever fails below, what was started is stopped and cleaned up by the drop of this value.
        let mut mesh = Self { agents: Vec::new(), places: Vec::new() };
        for (index, node) in topology.nodes().iter().enumerate() {
            let (netns, bpf_dir) = (NetNs::open(node.netns_path())?, topology.bpf_dir(index));
            mesh.places.push(Place { netns, agent: agent.into(), bpf_dir });
            mesh.agents.push(topology.start_on_node(index, command(index))?);
        }
        for agent in &mut mesh.agents {
            agent.wait_ready(own(READY_PORT), "/healthz/ready", PATIENCE)?;
        }
        Ok(mesh)
    }

    /// The agent of a node, counted from zero.
    #[must_use]
    pub fn agent(&self, node: usize) -> &Process {
        &self.agents[node]
    }

    /// The agent of a node, to signal it or wait for it.
    pub fn agent_mut(&mut self, node: usize) -> &mut Process {
        &mut self.agents[node]
    }

    /// Processor time all agents have used so far.
    ///
    /// # Errors
    /// When one has ended.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        self.agents.iter().map(Process::cpu_time).sum()
    }

    /// Resident memory of each agent, in bytes.
    ///
    /// # Errors
    /// When one has ended.
    pub fn resident_bytes(&self) -> anyhow::Result<Vec<u64>> {
        self.agents.iter().map(Process::resident_bytes).collect()
    }

    /// Adds up the series of metric `name`, on all nodes, whose labels contain each of `labels` (such as `reporter="source"`).
    ///
    /// # Errors
    /// When an agent does not answer with its metrics.
    pub fn metric(&self, topology: &Topology, name: &str, labels: &[&str]) -> anyhow::Result<MetricSum> {
        let mut sum = MetricSum { series: 0, value: 0 };
        for node in topology.nodes() {
            let answer = http_get(node.netns(), own(STATS_PORT), "/metrics")?;
            ensure!(answer.status == 200, "metrics of {}: status {}", node.name(), answer.status);
            let found = add_up(&answer.body, name, labels)?;
            sum = MetricSum { series: sum.series + found.series, value: sum.value + found.value };
        }
        Ok(sum)
    }

    /// Asks all agents to stop, waits until they have, and runs `weir-agent cleanup` on each node.
    ///
    /// # Errors
    /// When one does not stop in a minute, or stops or cleans up with an error.
    pub fn stop(mut self) -> anyhow::Result<()> {
        for agent in &self.agents {
            agent.signal(Signal::SIGTERM)?;
        }
        for agent in &mut self.agents {
            let status = agent.wait(PATIENCE)?;
            ensure!(status.success(), "an agent ended with {status}\n{}", agent.log());
        }
        let places = std::mem::take(&mut self.places);
        places.iter().try_for_each(Place::clean_up)
    }
}

impl Place {
    fn clean_up(&self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.agent);
        command.arg("cleanup").arg("--bpf-dir").arg(&self.bpf_dir);
        run_to_end(&self.netns, command, PATIENCE)?;
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.agents.clear();
        for place in &self.places {
            if let Err(error) = place.clean_up() {
                eprintln!("{error:#}");
            }
        }
    }
}

fn own(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)
}

pub(crate) fn add_up(text: &str, name: &str, labels: &[&str]) -> anyhow::Result<MetricSum> {
    let mut sum = MetricSum { series: 0, value: 0 };
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        // The name of another metric may begin with this one's.
        if !rest.starts_with(['{', ' ']) || !labels.iter().all(|label| rest.contains(label)) {
            continue;
        }
        let (_, after) = rest.rsplit_once('}').unwrap_or(("", rest));
        let value = after.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        sum.value += value.with_context(|| format!("a metric that is no count: {line}"))?;
        sum.series += 1;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up_by_name_and_labels() {
        let text = "# TYPE a counter\na_total{r=\"x\",q=\"1\"} 3\na_total{r=\"x\",q=\"2\"} 4\na_total{r=\"y\",q=\"1\"} 5\na_total_more 6\nb 7\n";
        for (name, labels, series, value) in [
            ("a_total", &[][..], 3, 12),
            ("a_total", &["r=\"x\""], 2, 7),
            ("a_total", &["r=\"x\"", "q=\"2\""], 1, 4),
            ("b", &[], 1, 7),
            ("c", &[], 0, 0),
        ] {
            assert_eq!(add_up(text, name, labels).unwrap(), MetricSum { series, value }, "{name} {labels:?}");
        }
    }
}
