//! `cargo xtask bench authz`: what a verdict costs, against what was aimed for.
//!
//! Each part is measured by the program that can, and gives its rows: the verdicts in a process of their own, open connections with real
//! agents. Only the latter needs root.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use weir_testbed::bench::{Reevaluated, Reevaluation};

use crate::cargo::{build, cargo};
use crate::interrupt::Interrupt;
use crate::{Output, root};

/// Where the part without root leaves its figures for the other.
const VERDICTS: &str = "authz-verdicts.json";

#[derive(clap::Args)]
pub(crate) struct Authz {
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// A small mesh: shows that it works, not how fast it is.
    #[arg(long)]
    quick: bool,
}

/// All figures, under the names of `-o json`: one part after the other.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    verdicts: Verdicts,
    #[serde(flatten)]
    connections: Reevaluated,
}

/// What `crates/logic/authz/benches/verdict.rs` prints.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdicts {
    policies: u32,
    rules: u32,
    over_one_pod: u32,
    pods: u32,
    ranges: u32,
    asked: u32,
    /// What reading the clock takes, which is in all times of a microsecond.
    clock_us: f64,
    admitted: f64,
    verdict_p50_us: f64,
    verdict_p99_us: f64,
    verdict_allocs: u32,
    inbound_p50_us: f64,
    inbound_p99_us: f64,
    cidr_p50_us: f64,
    cidr_p99_us: f64,
    load_ms: f64,
    change_ms: f64,
}

/// A figure, and what was aimed for.
struct Row {
    title: &'static str,
    value: f64,
    goal: Option<Goal>,
}

#[derive(Clone, Copy)]
enum Goal {
    Below(f64),
    Zero,
}

impl Authz {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        if let Some(built) = root::already_built() {
            let verdicts = fs::read(built.join(VERDICTS)).context("the figures of the part before")?;
            return self.finish(serde_json::from_slice(&verdicts)?, &built);
        }
        if !root::is_root() {
            root::sudo()?;
        }
        eprintln!("building with optimisations (the first time takes some minutes)");
        let quick: &[&str] = if self.quick { &["--quick"] } else { &[] };
        let verdicts: Verdicts = measured("weir-authz", "verdict", quick)?;
        let [bed] = build(["weir-testbed"], "release")?;
        build(["weir-agent"], "release")?;
        let dir = bed.parent().context("a program is in a folder")?;
        if root::is_root() {
            return self.finish(verdicts, dir);
        }
        fs::write(dir.join(VERDICTS), serde_json::to_vec(&verdicts)?)?;
        let status = root::run_again_as_root(dir)?;
        ensure!(status.success(), "the part as root ended with {status}");
        Ok(())
    }

    /// The part with agents, and what is printed of both.
    fn finish(&self, verdicts: Verdicts, built: &Path) -> anyhow::Result<()> {
        let interrupt = Interrupt::catch()?;
        weir_testbed::sweep()?;
        let (connections, rounds, time) = if self.quick { (200, 1, 2) } else { (5000, 3, 8) };
        let time = Duration::from_secs(time);
        let bench = Reevaluation { connections, policies: 50, rules: 10, rounds, time, rate: 1000 };
        let start = Instant::now();
        let mut say = |step: &str| {
            eprintln!("{:>5.0} s  {step}", start.elapsed().as_secs_f64());
            interrupt.check()
        };
        let connections = bench.run(&built.join("weir-agent"), &built.join("weir-testbed"), &mut say)?;
        let report = Report { verdicts, connections };
        match self.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            Output::Text => print!("{report}"),
        }
        Ok(())
    }
}

/// What a benchmark of a package prints.
fn measured<T: DeserializeOwned>(package: &str, bench: &str, arguments: &[&str]) -> anyhow::Result<T> {
    let mut command = cargo();
    command.args(["bench", "--package", package, "--bench", bench, "--"]).args(arguments);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("run cargo")?;
    ensure!(output.status.success(), "the benchmark {bench} of {package} ended with {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("what the benchmark {bench} of {package} prints"))
}

impl Verdicts {
    fn rows(&self) -> Vec<Row> {
        let row = |title, value, goal| Row { title, value, goal };
        vec![
            row("verdict, p50, us", self.verdict_p50_us, None),
            row("  p99", self.verdict_p99_us, Some(Goal::Below(2.0))),
            row("  allocations", f64::from(self.verdict_allocs), Some(Goal::Zero)),
            row("World::inbound, p50, us", self.inbound_p50_us, None),
            row("  p99", self.inbound_p99_us, None),
            row("ranges of addresses, p50, us", self.cidr_p50_us, None),
            row("  p99", self.cidr_p99_us, Some(Goal::Below(1.0))),
            row("mesh made, ms", self.load_ms, None),
            row("a policy changed, ms", self.change_ms, None),
        ]
    }
}

/// What was measured of open connections.
fn rows(of: &Reevaluated) -> Vec<Row> {
    let row = |title, value, goal| Row { title, value, goal };
    vec![
        row("open connections asked, ms", of.reevaluate_ms, Some(Goal::Below(100.0))),
        row("  others, p99, ms", of.others_p99_ms, None),
        row("  others meanwhile, p99, ms", of.others_p99_ms_changing, None),
        row("  ratio", of.others_p99_ratio, Some(Goal::Below(2.0))),
        row("all of them ended, ms", of.end_all_ms, None),
    ]
}

impl Goal {
    fn is_reached(self, value: f64) -> bool {
        match self {
            Self::Below(bound) => value < bound,
            Self::Zero => value.abs() < f64::EPSILON,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(bound) => write!(f, "< {bound}"),
            Self::Zero => f.write_str("0"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdicts { policies, rules, over_one_pod, pods, ranges, asked, clock_us, admitted, .. } = &self.verdicts;
        writeln!(f, "{policies} policies of {rules} rules, {over_one_pod} over each of {pods} pods; {ranges} ranges")?;
        writeln!(
            f,
            "{asked} connections, {:.0} % may enter; reading the clock takes {clock_us:.3} us of each\n",
            admitted * 100.0
        )?;
        writeln!(f, "{:<30} {:>10}  goal", "", "weir")?;
        self.verdicts.rows().iter().try_for_each(|row| writeln!(f, "{row}"))?;
        let Reevaluated { open, changes, .. } = &self.connections;
        writeln!(f, "\n{open} open connections into one pod, {changes} changes of its policies\n")?;
        rows(&self.connections).iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<30} {:>10.3}", self.title, self.value)?;
        match self.goal {
            Some(goal) => {
                let judged = if goal.is_reached(self.value) { "PASS" } else { "FAIL" };
                write!(f, "  {:<10} {judged}", goal.to_string())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_within_its_bound_and_missed_beyond() {
        for (goal, value, want) in [
            (Goal::Below(2.0), 1.999, true),
            (Goal::Below(2.0), 2.0, false),
            (Goal::Zero, 0.0, true),
            (Goal::Zero, 1.0, false),
        ] {
            assert_eq!(goal.is_reached(value), want, "{goal} {value}");
        }
    }
}
