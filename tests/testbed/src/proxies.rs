//! Reverse proxies side by side: nginx, haproxy, Envoy and our waypoint in the clear, the same backend behind each, the same cores, the same load, in turns.
//!
//! Load and backend have one core, the proxy the other, where there are two; each proxy has one worker. Every figure is the median of the rounds. Then what hops of
//! the mesh add.

mod configs;
mod hops;
mod report;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

pub use self::hops::Hops;
pub use self::report::{Busy, ProxyFigures, ProxyReport, Reached};
use crate::Say;
use crate::manifests::PodSpec;
use crate::process::{Process, run_to_end};
use crate::topology::{Topology, TopologySpec};
use crate::work::{RequestReport, as_float};

/// Patience with a program that starts, or with a load that ends.
const PATIENCE: Duration = Duration::from_secs(60);
const BACKEND_PORT: u16 = 9_000;
/// Where everything stands.
const POD: &str = "proxies";

/// How to measure.
#[derive(Debug, Clone)]
pub struct Proxies {
    /// Rounds, of which the medians are taken.
    pub rounds: u32,
    /// How long each load runs.
    pub time: Duration,
    /// Requests per second of the run at a fixed rate.
    pub rate: u32,
    /// Envoy's program.
    pub envoy: PathBuf,
    /// The waypoint's.
    pub waypoint: PathBuf,
    /// The agent's.
    pub agent: PathBuf,
}

/// A proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Nginx,
    Haproxy,
    Envoy,
    Weir,
    /// Ours, with a hundred routes, tokens and twenty policies.
    WeirBusy,
}

impl Party {
    const ALL: [Self; 5] = [Self::Nginx, Self::Haproxy, Self::Envoy, Self::Weir, Self::WeirBusy];

    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Weir => "weir",
            Self::WeirBusy => "weir_busy",
        }
    }

    /// Where it takes HTTP/1.1, and HTTP/2 if that is another port.
    fn ports(self) -> [u16; 2] {
        match self {
            Self::Nginx => [9_101, 9_201],
            Self::Haproxy => [9_102, 9_202],
            Self::Envoy => [9_103, 9_103],
            Self::Weir => [9_104, 9_104],
            Self::WeirBusy => [9_105, 9_105],
        }
    }
}

/// A proxy that runs.
struct Running {
    party: Party,
    process: Process,
    /// The process that does the work: nginx' worker is a child.
    worker: u32,
    idle_bytes: u64,
}

/// What one round found of one proxy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turn {
    pub(crate) h1_rps: f64,
    pub(crate) h1_cpu_us: f64,
    pub(crate) h2_rps: f64,
    pub(crate) h2_cpu_us: f64,
    /// None of the busy variant: what asks at a fixed rate shows no token.
    pub(crate) p99_ms: Option<f64>,
    pub(crate) loaded_mib: f64,
}

impl Proxies {
    /// Measures all of them. `say` is told of each step, and may end it there.
    ///
    /// # Errors
    /// Without root, without a program that is needed, or when something does not start or a load breaks off.
    pub fn run(&self, bed: &Path, say: Say<'_>) -> anyhow::Result<ProxyReport> {
        for (program, package) in [
            ("nginx", "nginx"),
            ("haproxy", "haproxy"),
            ("wrk", "wrk"),
            ("h2load", "nghttp2-client"),
            ("taskset", "util-linux"),
        ] {
            let found = Command::new("which").arg(program).output().is_ok_and(|output| output.status.success());
            ensure!(found, "{program} is missing: install {package}");
        }
        let (direct, found) = self.compare(bed, say)?;
        let hops = hops::measure(self, bed, say)?;
        Ok(ProxyReport::new(self, direct, found, hops))
    }

    /// The proxies in turns; and requests per second without any.
    fn compare(&self, bed: &Path, say: Say<'_>) -> anyhow::Result<(f64, Vec<Found>)> {
        let mut topology = Topology::new(TopologySpec { nodes: 1, ..TopologySpec::default() })?;
        topology.add_pod(PodSpec::new(POD, 0).unenrolled())?;
        let ip = topology.pod(POD).v4().context("it is dual-stack")?;
        let at = |port: u16| SocketAddr::new(ip, port);
        let mut backend = Command::new("taskset");
        backend.args(["-c", "0"]).arg(bed).args(["serve-http", "--body-bytes", "100", "--listen"]);
        backend.arg(at(BACKEND_PORT).to_string());
        let mut backend = topology.start_in_pod(POD, backend)?;
        backend.wait_listening(at(BACKEND_PORT), PATIENCE)?;
        let work = topology.work_dir();
        let mut running = Vec::new();
        for party in Party::ALL {
            say(&format!("start {}", party.name()))?;
            let command = configs::command(party, self, &work, at(BACKEND_PORT), party.ports().map(at))?;
            let mut process = topology.start_in_pod(POD, pinned(command))?;
            let [h1, h2] = party.ports();
            process.wait_ready(at(h1), configs::FREE, PATIENCE)?;
            // Where it is a port of its own, nothing but HTTP/2 is spoken there.
            process.wait_listening(at(h2), PATIENCE)?;
            let worker = last_child(process.pid());
            let idle_bytes = resident(worker)?;
            running.push(Running { party, process, worker, idle_bytes });
        }
        let lane = Lane { topology: &topology, bed, time: self.time, rate: self.rate };
        say("direct")?;
        let (direct, _) = lane.wrk(at(BACKEND_PORT), None)?;
        let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); running.len()];
        for number in 1..=self.rounds {
            for (one, turns) in running.iter().zip(&mut turns) {
                say(&format!("round {number} of {}: {}", self.rounds, one.party.name()))?;
                let turn = lane.turn(one, one.party.ports().map(at));
                turns.push(turn.with_context(|| format!("{}\n{}", one.party.name(), one.process.log()))?);
            }
        }
        for one in &mut running {
            ensure!(one.process.is_running()?, "{} ended\n{}", one.party.name(), one.process.log());
        }
        let found = running.iter().zip(turns).map(|(one, turns)| (one.party, one.idle_bytes, turns));
        Ok((direct, found.collect()))
    }
}

/// What was found of a proxy: its memory before any load, in bytes, and the rounds.
type Found = (Party, u64, Vec<Turn>);

/// The way to the proxies.
struct Lane<'t> {
    topology: &'t Topology,
    bed: &'t Path,
    time: Duration,
    rate: u32,
}

impl Lane<'_> {
    fn turn(&self, one: &Running, [h1, h2]: [SocketAddr; 2]) -> anyhow::Result<Turn> {
        let per = |cpu: Duration, count: u64| cpu.as_secs_f64() * 1e6 / as_float(count.max(1));
        let field = configs::field(one.party);
        let before = cpu_time(one.worker)?;
        let (rps, count) = self.wrk(h1, field.as_deref())?;
        let between = cpu_time(one.worker)?;
        // Its own warm-up would be paid for, and not counted.
        self.h2load(h2, field.as_deref(), "-n5000")?;
        let middle = cpu_time(one.worker)?;
        let (h2_rps, h2_count) = self.h2load(h2, field.as_deref(), &format!("-D{}", self.seconds()))?;
        let after = cpu_time(one.worker)?;
        let p99_ms = if field.is_none() { Some(self.at_rate(h1)?.latency.p99_ms) } else { None };
        Ok(Turn {
            h1_rps: rps,
            h1_cpu_us: per(between.saturating_sub(before), count),
            h2_rps,
            h2_cpu_us: per(after.saturating_sub(middle), h2_count),
            p99_ms,
            loaded_mib: mib(resident(one.worker)?),
        })
    }

    /// Requests per second over 64 connections of HTTP/1.1, and how many there were.
    fn wrk(&self, to: SocketAddr, field: Option<&str>) -> anyhow::Result<(f64, u64)> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", "wrk", "-t1", "-c64", &format!("-d{}s", self.seconds())]);
        command.args(field.into_iter().flat_map(|field| ["-H", field])).arg(format!("http://{to}/"));
        let text = self.run(command)?;
        ensure!(!text.contains("Non-2xx"), "wrk against {to} got other answers than 200:\n{text}");
        let count = text.lines().find_map(|line| line.trim().split_once(" requests in ")).map(|(count, _)| count);
        let rps = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")).map(str::trim);
        let (Some(count), Some(rps)) = (count, rps) else { bail!("wrk said something else:\n{text}") };
        Ok((rps.parse()?, count.parse()?))
    }

    /// Requests per second over 8 connections of HTTP/2 with 32 streams each.
    fn h2load(&self, to: SocketAddr, field: Option<&str>, length: &str) -> anyhow::Result<(f64, u64)> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", "h2load", "-c8", "-m32", length]);
        command.args(field.into_iter().flat_map(|field| ["-H", field])).arg(format!("http://{to}/"));
        let text = self.run(command)?;
        let word = |before: &str, after: &str| {
            // Lines of its progress hold such words, too.
            text.lines().find_map(|line| Some(line.split_once(before)?.1.split_once(after)?.0.trim().to_owned()))
        };
        let failed = word("started, ", " done").is_none() || !text.contains(" 0 failed, 0 errored");
        ensure!(!failed, "h2load against {to} failed:\n{text}");
        let (Some(rps), Some(done)) = (word(", ", " req/s"), word("status codes: ", " 2xx")) else {
            bail!("h2load said something else:\n{text}")
        };
        Ok((rps.parse()?, done.parse()?))
    }

    fn at_rate(&self, to: SocketAddr) -> anyhow::Result<RequestReport> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(self.bed).args(["request", "--connections", "64", "--to", &to.to_string()]);
        command.args(["--seconds", &self.seconds().to_string(), "--rate", &self.rate.to_string()]);
        let report: RequestReport = serde_json::from_str(self.run(command)?.trim())?;
        ensure!(report.failed == 0, "{} requests to {to} failed at {} a second", report.failed, self.rate);
        Ok(report)
    }

    fn run(&self, command: Command) -> anyhow::Result<String> {
        run_to_end(self.topology.pod(POD).netns(), command, self.time + PATIENCE)
    }

    fn seconds(&self) -> u64 {
        self.time.as_secs().max(1)
    }
}

/// The command on the second core, where there is one.
fn pinned(command: Command) -> Command {
    let core = usize::from(std::thread::available_parallelism().is_ok_and(|count| count.get() > 1));
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", &core.to_string()]).arg(command.get_program()).args(command.get_args());
    pinned
}

/// The child of a process, if it has one, and of that.
fn last_child(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    match children.split_whitespace().next().and_then(|child| child.parse().ok()) {
        Some(child) => last_child(child),
        None => pid,
    }
}

/// Processor time of a process, all its threads together. proc(5), schedstat.
fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).context("schedstat")?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss in smaps_rollup")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("Rss of smaps_rollup")?;
    Ok(kib * 1024)
}

pub(crate) fn mib(bytes: u64) -> f64 {
    as_float(bytes) / 1_048_576.0
}
