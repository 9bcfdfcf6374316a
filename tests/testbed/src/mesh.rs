//! An agent on every node, and what they say of themselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use crate::cleanup::Cleanup;
use crate::http::http_get;
use crate::process::Process;
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
    cleanups: Vec<Cleanup>,
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
        let mut mesh = Self { agents: Vec::new(), cleanups: Vec::new() };
        for index in 0..topology.nodes().len() {
            mesh.cleanups.push(Cleanup::of(topology, agent, index)?);
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
        let cleanups = std::mem::take(&mut self.cleanups);
        cleanups.iter().try_for_each(|cleanup| cleanup.run().map(drop))
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.agents.clear();
        for cleanup in &self.cleanups {
            if let Err(error) = cleanup.run() {
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

/// The sums of metric `name`, by the values of the label `by`, of those series that have each of `with`, as `name=value`.
///
/// # Errors
/// When a series is no count, or none has that label.
pub fn sum_by(text: &str, name: &str, by: &str, with: &[String]) -> anyhow::Result<BTreeMap<String, u64>> {
    let with: Vec<String> = with.iter().map(|one| one.replacen('=', "=\"", 1) + "\"").collect();
    let with: Vec<&str> = with.iter().map(String::as_str).collect();
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with(name)) {
        let sum = add_up(line, name, &with)?;
        let value = line.split_once(&format!("{by}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        if let (Some((value, _)), 1) = (value, sum.series) {
            *sums.entry(value.to_owned()).or_insert(0) += sum.value;
        }
    }
    ensure!(!sums.is_empty(), "no series of {name} has {by} and {with:?}");
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up_by_the_values_of_a_label() {
        let text = "a_total{r=\"x\",q=\"1\"} 3\na_total{r=\"x\",q=\"2\"} 4\na_total{r=\"y\",q=\"1\"} 5\na_total_more{r=\"x\",q=\"1\"} 6\n";
        let sums = |by: &str, with: &[&str]| {
            let with: Vec<String> = with.iter().map(|one| (*one).to_owned()).collect();
            sum_by(text, "a_total", by, &with).map(|sums| format!("{sums:?}")).map_err(|error| error.to_string())
        };
        assert_eq!(sums("q", &[]).unwrap(), r#"{"1": 8, "2": 4}"#);
        assert_eq!(sums("q", &["r=x"]).unwrap(), r#"{"1": 3, "2": 4}"#);
        assert!(sums("q", &["r=z"]).unwrap_err().contains("no series of a_total"));
    }

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
