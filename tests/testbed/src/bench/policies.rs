//! Open connections while policies change: how long it takes to hold them against a change, and what others notice of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use super::report::median;
use super::rounds::Lane;
use super::{PATIENCE, add_pod, start_servers};
use crate::Say;
use crate::http::http_get;
use crate::manifests::PodSpec;
use crate::mesh::Mesh;
use crate::process::Process;
use crate::topology::{Topology, TopologySpec};

/// The file of the policies.
const FILE: &str = "policies.yaml";
/// What the agent's workers say of each change.
const HELD: &str = "open connections were held against policies that changed";
/// How long there is between two changes: more than the follower of the folder waits for a file to come to rest.
const BETWEEN: Duration = Duration::from_millis(700);
/// How often something is looked at that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How to measure.
#[derive(Debug, Clone)]
pub struct Reevaluation {
    /// Connections that are open into the pod whose policies change.
    pub connections: u64,
    /// Policies over the pod.
    pub policies: u32,
    /// Rules of each.
    pub rules: u32,
    /// Rounds of which the medians are taken.
    pub rounds: u32,
    /// How long others are looked at, without changes and with them.
    pub time: Duration,
    /// Requests of others per second.
    pub rate: u32,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Reevaluated {
    /// Connections that were open.
    pub open: u64,
    /// Changes of a policy that forbade none of them.
    pub changes: usize,
    /// The longest that a worker took to hold its connections against one, from when it heard of it. Median of the rounds, in milliseconds.
    pub reevaluate_ms: f64,
    /// 99th percentile of requests between other pods without changes, in milliseconds, counted from when each was due.
    pub others_p99_ms: f64,
    /// The same while policies change.
    pub others_p99_ms_changing: f64,
    /// The latter as a multiple of the former: median of the rounds.
    pub others_p99_ratio: f64,
    /// How long a worker took to end all of its connections by a change that forbids them, in milliseconds.
    pub end_all_ms: f64,
}

/// What a worker said of a change.
struct Held {
    asked: u64,
    ended: u64,
    took_ms: f64,
}

impl Reevaluation {
    /// Measures. `say` is told of each step, and may end it there.
    ///
    /// # Errors
    /// Without root, or when something does not start, breaks off or is not as it should be.
    pub fn run(&self, agent: &Path, bed: &Path, say: Say<'_>) -> anyhow::Result<Reevaluated> {
        let mut topology = Topology::new(TopologySpec::default())?;
        for (name, node) in [("client", 0), ("server", 1), ("other-client", 0), ("other", 1)] {
            add_pod(&mut topology, PodSpec::new(name, node))?;
        }
        let _servers = [start_servers(&topology, bed, "server")?, start_servers(&topology, bed, "other")?];
        topology.add_manifest(FILE, &self.policies(0, false))?;
        let flags = ["--access-log", "off", "--log-level", "info,weir_agent::worker::admitted=debug"];
        let mesh = Mesh::start(&topology, agent, &flags)?;
        let lane = Lane::new(&topology, bed, "client", "server")?;
        let others = Lane::new(&topology, bed, "other-client", "other")?;
        say(&format!("{} connections are opened", self.connections))?;
        let mut command = Command::new(bed);
        command.args(["hold", "--connections", &self.connections.to_string(), "--to", &lane.http.to_string()]);
        let log = topology.work_dir().join("hold");
        let mut holder = Process::start(topology.pod("client").netns(), "hold", command, &log)?;
        holder.wait_log(&format!("{{\"open\":{}}}", self.connections), PATIENCE)?;
        let (mut longest, mut quiet, mut changing, mut ratio) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut version = 0;
        for number in 1..=self.rounds {
            say(&format!("round {number} of {}: others without changes", self.rounds))?;
            let without = self.others(&topology, &others)?;
            say(&format!("round {number} of {}: others while policies change", self.rounds))?;
            let before = held(&mesh)?.len();
            let with = self.others_changing(&topology, &others, &mut version)?;
            let said = held(&mesh)?.split_off(before);
            ensure!(said.iter().all(|one| one.ended == 0), "a change ended what it does not forbid");
            let asked: u64 = said.iter().map(|one| one.asked).sum();
            ensure!(asked >= self.connections, "{asked} connections were asked about: {}", mesh.agent(1).log());
            longest.push(said.iter().map(|one| one.took_ms).fold(0.0, f64::max));
            quiet.push(without);
            changing.push(with);
            ratio.push(with / without);
        }
        say("a change that forbids all")?;
        let before = held(&mesh)?.len();
        topology.add_manifest(FILE, &self.policies(version + 1, true))?;
        let end_all_ms = self.all_ended(&mesh, before)?;
        drop(holder);
        mesh.stop()?;
        Ok(Reevaluated {
            open: self.connections,
            changes: version,
            reevaluate_ms: median(longest),
            others_p99_ms: median(quiet),
            others_p99_ms_changing: median(changing),
            others_p99_ratio: median(ratio),
            end_all_ms,
        })
    }

    /// Policies over the server that no connection of the client matches, the last of which is another in each version; and one that it
    /// does match, to `end` it.
    fn policies(&self, version: usize, end: bool) -> String {
        let rules = |policy: u32, last: usize| -> String {
            let principal = |rule: u32| {
                let name = if rule + 1 == self.rules { format!("v{last}") } else { format!("r{rule}") };
                format!("  - from: [{{source: {{principals: [\"cluster.local/ns/p{policy}/sa/{name}\"]}}}}]\n")
            };
            (0..self.rules).map(principal).collect()
        };
        let policy = |name: &str, rules: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
                 selector: {{matchLabels: {{app: server}}}}\n  action: DENY\n  rules:\n{rules}---\n"
            )
        };
        let last = self.policies.saturating_sub(1);
        let version_of = |number: u32| if number == last { version } else { 0 };
        let mut text: String = (0..self.policies)
            .map(|number| policy(&format!("p{number}"), &rules(number, version_of(number))))
            .collect();
        if end {
            let rule = "  - from: [{source: {principals: [\"cluster.local/ns/default/sa/client\"]}}]\n";
            text.push_str(&policy("end", rule));
        }
        text
    }

    /// The 99th percentile of requests of others.
    fn others(&self, topology: &Topology, others: &Lane) -> anyhow::Result<f64> {
        let report = others.at_rate(topology, self.time, 16, self.rate)?;
        ensure!(report.failed == 0, "requests of others failed: {report:?}");
        Ok(report.latency.p99_ms)
    }

    fn others_changing(&self, topology: &Topology, others: &Lane, version: &mut usize) -> anyhow::Result<f64> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let changing = scope.spawn(|| -> anyhow::Result<()> {
                while !done.load(SeqCst) {
                    *version += 1;
                    topology.add_manifest(FILE, &self.policies(*version, false))?;
                    in_force(topology, &format!("sa/v{version}"), &done)?;
                    thread::sleep(BETWEEN);
                }
                Ok(())
            });
            let p99 = self.others(topology, others);
            done.store(true, SeqCst);
            match changing.join() {
                Ok(changed) => changed.and(p99),
                Err(_panicked) => bail!("who changes the policies broke off"),
            }
        })
    }

    /// Waits until as many were ended as were open; the longest that a worker took.
    fn all_ended(&self, mesh: &Mesh, before: usize) -> anyhow::Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = held(mesh)?.split_off(before);
            if said.iter().map(|one| one.ended).sum::<u64>() >= self.connections {
                return Ok(said.iter().map(|one| one.took_ms).fold(0.0, f64::max));
            }
            ensure!(Instant::now() < deadline, "not all connections were ended: {}", mesh.agent(1).log());
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Waits until the server's agent has a policy that says so in its dump, or until `done`.
fn in_force(topology: &Topology, text: &str, done: &AtomicBool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 15000));
    while !done.load(SeqCst) {
        let dump = http_get(topology.nodes()[1].netns(), admin, "/config_dump")?;
        // Not the beginning of a later version's.
        let is_there = dump.body.match_indices(text).any(|(at, found)| {
            let next = dump.body[at + found.len()..].chars().next();
            !next.is_some_and(|next| next.is_ascii_digit())
        });
        if is_there {
            break;
        }
        ensure!(Instant::now() < deadline, "a changed policy does not come into force: {text}");
        thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// What the workers of the server's agent said so far of changes that met connections.
fn held(mesh: &Mesh) -> anyhow::Result<Vec<Held>> {
    let log = mesh.agent(1).log();
    let lines = log.lines().filter(|line| line.contains(HELD) && line.contains("server"));
    lines.map(|line| read(line).with_context(|| format!("cannot read {line:?}"))).collect()
}

fn read(line: &str) -> Option<Held> {
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}="))?;
        rest.split_whitespace().next()
    };
    Some(Held {
        asked: field("asked")?.parse().ok()?,
        ended: field("ended")?.parse().ok()?,
        took_ms: ms(field("took")?)?,
    })
}

/// A duration as `Debug` writes it, in milliseconds.
fn ms(text: &str) -> Option<f64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let per: f64 = match unit {
        "s" => 1000.0,
        "ms" => 1.0,
        "µs" => 1e-3,
        "ns" => 1e-6,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * per)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_words_are_read() {
        let line = format!(
            "2026 DEBUG weir_agent::worker::admitted: {HELD} pod=x//v1/Pod/default/server asked=2500 ended=3 took=8.25ms"
        );
        let held = read(&line).unwrap();
        assert_eq!((held.asked, held.ended), (2500, 3));
        for (text, want) in [("8.25ms", 8.25), ("1.5s", 1500.0), ("250µs", 0.25), ("750ns", 0.00075)] {
            assert!((ms(text).unwrap() - want).abs() < 1e-9, "{text}");
        }
        assert!(ms("5").is_none() && ms("5h").is_none() && read("asked=1").is_none());
    }

    #[test]
    fn a_version_changes_one_policy_and_the_end_adds_one() {
        let one = Reevaluation { connections: 1, policies: 3, rules: 2, rounds: 1, time: Duration::ZERO, rate: 1 };
        let (first, second) = (one.policies(1, false), one.policies(2, false));
        assert_eq!(first.lines().zip(second.lines()).filter(|(a, b)| a != b).count(), 1);
        assert_eq!(first.matches("kind:").count(), 3);
        assert!(one.policies(2, true).starts_with(&second) && one.policies(2, true).contains("default/sa/client"));
    }
}
