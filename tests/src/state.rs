//! What an agent says of itself: readiness, metrics, dump.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context, ensure};
use serde_json::Value;
use weir_testbed::{Answer, Topology, http_get};

use crate::wait::eventually;

/// A port of the agent, as seen from its own node.
#[must_use]
pub fn own(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

/// Gets a page of a node's agent.
///
/// # Errors
/// When nobody answers.
pub fn fetch(topology: &Topology, node: usize, port: u16, path: &str) -> anyhow::Result<Answer> {
    http_get(topology.nodes()[node].netns(), own(port), path)
}

/// Whether a node's agent is ready.
///
/// # Errors
/// When it does not answer.
pub fn ready(topology: &Topology, node: usize) -> anyhow::Result<bool> {
    Ok(fetch(topology, node, 15021, "/healthz/ready")?.status == 200)
}

/// Everything a node's agent knows.
///
/// # Errors
/// When it does not answer with it.
pub fn config_dump(topology: &Topology, node: usize) -> anyhow::Result<Value> {
    let answer = fetch(topology, node, 15000, "/config_dump")?;
    ensure!(answer.status == 200, "{answer:?}");
    serde_json::from_str(&answer.body).context("the dump is JSON")
}

/// State of a pod of the node, and the reason that goes with it; none of a pod the agent does not know.
///
/// # Errors
/// When the agent does not answer.
pub fn pod_state(topology: &Topology, node: usize, pod: &str) -> anyhow::Result<Option<(String, String)>> {
    let dump = config_dump(topology, node)?;
    let pods = dump["pods"].as_array().context("pods is a list")?;
    let ending = format!("/{pod}");
    let found = pods.iter().find(|entry| entry["uid"].as_str().is_some_and(|uid| uid.ends_with(&ending)));
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    Ok(found.map(|entry| (text(entry, "state"), text(entry, "reason"))))
}

/// Waits until a pod of the node is in this state.
///
/// # Errors
/// When it is not, in a minute.
pub fn wait_state(topology: &Topology, node: usize, pod: &str, state: &str) -> anyhow::Result<()> {
    eventually(&format!("{pod} is {state}"), || {
        let found = pod_state(topology, node, pod)?;
        ensure!(found.as_ref().is_some_and(|(found, _)| found == state), "it is {found:?}");
        Ok(true)
    })
}

/// Waits until a node's agent knows a workload of this name, or no longer does. Agents read the folder each at their own time.
///
/// # Errors
/// When it does not, in a minute.
pub fn wait_known(topology: &Topology, node: usize, pod: &str, known: bool) -> anyhow::Result<()> {
    eventually(&format!("agent {node} {} {pod}", if known { "knows" } else { "has forgotten" }), || {
        let dump = config_dump(topology, node)?;
        let workloads = dump["workloads"].as_array().context("workloads is a list")?;
        Ok(workloads.iter().any(|workload| workload["name"] == pod) == known)
    })
}

/// Sum of a metric's series of one node with all of `labels`.
///
/// # Errors
/// When the agent does not answer, or the metric is no number.
pub fn metric(topology: &Topology, node: usize, name: &str, labels: &[&str]) -> anyhow::Result<u64> {
    let answer = fetch(topology, node, 15020, "/metrics")?;
    ensure!(answer.status == 200, "{answer:?}");
    let mut sum = 0;
    for line in answer.body.lines() {
        let Some(rest) = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])) else { continue };
        if labels.iter().all(|label| rest.contains(label)) {
            let value = rest.rsplit(' ').next().context("a series has a value")?;
            sum += value.parse::<u64>().with_context(|| line.to_owned())?;
        }
    }
    Ok(sum)
}

/// How often the node's kernel programs decided so.
///
/// # Errors
/// As [`metric`].
pub fn kernel_decisions(topology: &Topology, node: usize, decision: &str) -> anyhow::Result<u64> {
    metric(topology, node, "weir_kernel_decisions_total", &[&format!("decision=\"{decision}\"")])
}
