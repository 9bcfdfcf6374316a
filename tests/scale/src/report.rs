//! What was measured, against what was aimed for.

use std::fmt;

use serde::Serialize;

/// All figures, under the names of `cargo xtask bench control -o json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) method: Method,
    /// From the start of the process until it is ready with the whole mesh, in seconds.
    pub(crate) load_s: f64,
    /// Processor time of that.
    pub(crate) load_cpu_s: f64,
    /// Resident memory once it is ready, in MiB.
    pub(crate) control_rss_mib: f64,
    /// The most there was until then.
    pub(crate) control_peak_mib: f64,
    /// Resident memory with all subscribers connected.
    pub(crate) control_subscribed_mib: f64,
    /// What an agent that takes everything has more than one that takes what it needs, for each workload, in bytes.
    pub(crate) agent_bytes_per_workload: f64,
    /// Time an agent needs to know everything, in seconds.
    pub(crate) agent_load_s: f64,
    /// Workloads an agent knows that takes what it needs.
    pub(crate) agent_on_demand_workloads: u32,
    /// What that adds to it, in KiB: connection and all.
    pub(crate) agent_on_demand_kib: u32,
    /// From a change at the source until a subscriber has it, in milliseconds.
    pub(crate) push_p50_ms: f64,
    pub(crate) push_p99_ms: f64,
    pub(crate) push_max_ms: f64,
    /// Processors the control plane used meanwhile.
    pub(crate) push_cpu_cores: f64,
    /// And the load generator, which is source and subscribers.
    pub(crate) push_load_cores: f64,
    /// And everything else on the machine.
    pub(crate) push_other_cores: f64,
    /// Resources that were sent to subscribers who came again with what they had.
    pub(crate) reconnect_resources: usize,
    /// Time until all of them were answered, in seconds.
    pub(crate) reconnect_s: f64,
    /// Certificates for a second of processor time of the control plane.
    pub(crate) certs_per_s: f64,
    /// And for a second.
    pub(crate) certs_per_s_wall: f64,
}

/// How it was measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Method {
    pub(crate) pods: u32,
    pub(crate) services: u32,
    pub(crate) policies: u32,
    pub(crate) nodes: u32,
    /// Mean length of a pod at the source.
    pub(crate) pod_bytes: usize,
    pub(crate) subscribers: u32,
    pub(crate) changes_per_s: u32,
    pub(crate) seconds: u32,
    /// Processors that control plane, source and subscribers share.
    pub(crate) cpus: usize,
}

/// A bound.
#[derive(Debug, Clone, Copy)]
enum Goal {
    Below(f64),
    AtLeast(f64),
    Nothing,
}

impl Goal {
    fn is_reached(self, value: f64) -> bool {
        match self {
            Self::Below(bound) => value < bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Nothing => value.abs() < f64::EPSILON,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(bound) => write!(f, "< {bound}"),
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::Nothing => write!(f, "0"),
        }
    }
}

impl Report {
    fn rows(&self) -> Vec<(&'static str, f64, Option<Goal>)> {
        use Goal::{AtLeast, Below, Nothing};
        let resources = u32::try_from(self.reconnect_resources).map_or(f64::INFINITY, f64::from);
        vec![
            ("load, s", self.load_s, Some(Below(10.0))),
            ("  processor seconds", self.load_cpu_s, None),
            ("control, RSS, MiB", self.control_rss_mib, Some(Below(600.0))),
            ("  peak", self.control_peak_mib, None),
            ("  with all subscribers", self.control_subscribed_mib, None),
            ("agent, bytes per workload", self.agent_bytes_per_workload, Some(Below(300.0))),
            ("  time to know all, s", self.agent_load_s, None),
            ("  on demand: workloads", f64::from(self.agent_on_demand_workloads), None),
            ("  on demand: KiB", f64::from(self.agent_on_demand_kib), None),
            ("push, p50, ms", self.push_p50_ms, None),
            ("  p99", self.push_p99_ms, Some(Below(200.0))),
            ("  slowest", self.push_max_ms, None),
            ("push, processors", self.push_cpu_cores, Some(Below(1.0))),
            ("  of the load generator", self.push_load_cores, None),
            ("  of everything else", self.push_other_cores, None),
            ("reconnect, resources sent", resources, Some(Nothing)),
            ("  time for all, s", self.reconnect_s, None),
            ("certificates/s per core", self.certs_per_s, Some(AtLeast(500.0))),
            ("  per second", self.certs_per_s_wall, None),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Method { pods, services, policies, nodes, pod_bytes, subscribers, changes_per_s, seconds, cpus } =
            self.method;
        writeln!(f, "{pods} pods of {pod_bytes} bytes, {services} services, {policies} policies, {nodes} nodes")?;
        writeln!(
            f,
            "{subscribers} subscribers, {changes_per_s} changes/s for {seconds} s; {cpus} processors for all\n"
        )?;
        writeln!(f, "{:<30} {:>10}  goal", "", "weir")?;
        for (title, value, goal) in self.rows() {
            let judged = |goal: Goal| {
                format!("{:<10} {}", goal.to_string(), if goal.is_reached(value) { "PASS" } else { "FAIL" })
            };
            let line = format!("{title:<30} {value:>10.2}  {}", goal.map(judged).unwrap_or_default());
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_within_its_bound_and_missed_beyond() {
        for (goal, value, want) in [
            (Goal::Below(10.0), 9.99, true),
            (Goal::Below(10.0), 10.0, false),
            (Goal::AtLeast(500.0), 500.0, true),
            (Goal::AtLeast(500.0), 499.0, false),
            (Goal::Nothing, 0.0, true),
            (Goal::Nothing, 1.0, false),
        ] {
            assert_eq!(goal.is_reached(value), want, "{goal} {value}");
        }
    }
}
