//! The medians, their ratios, and whether they reach the goals.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::rounds::Round;
use super::{Bench, IDLE_CONNECTIONS, Memory};
use crate::work::as_float;

const MIB: f64 = 1_048_576.0;
const KIB: f64 = 1024.0;

/// The whole comparison.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// How it was measured.
    pub method: Method,
    /// Between pods without a mesh.
    pub plain: Figures,
    /// Between pods of the mesh; absent when only plain TCP was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weir: Option<Figures>,
    /// Through Envoy on both ends; absent when it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy: Option<Figures>,
    /// Each goal and whether it is reached.
    pub goals: Vec<Outcome>,
}

/// How it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Method {
    /// Rounds of which the medians are taken.
    pub rounds: u32,
    /// Length of each load, in seconds.
    pub seconds: f64,
    /// Requests per second of `p50_ms_rate` and `p99_ms_rate`.
    pub rate: u32,
    /// Processors.
    pub cpus: usize,
}

/// Medians.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// One stream from client to server, 10^9 bits of payload per second.
    pub gbps_1: f64,
    /// One stream from server to client.
    pub gbps_1_down: f64,
    /// Four streams from client to server.
    pub gbps_4: f64,
    /// Four streams from server to client.
    pub gbps_4_down: f64,
    /// Requests per second over 64 kept-alive connections, 100 bytes each.
    pub rps_64: f64,
    /// Median latency of those, in milliseconds.
    pub p50_ms_64: f64,
    /// 99th percentile of those.
    pub p99_ms_64: f64,
    /// Median latency at a fixed rate, in milliseconds, counted from when the request was due.
    pub p50_ms_rate: f64,
    /// 99th percentile of those.
    pub p99_ms_rate: f64,
    /// New connections per second with one request each, 16 at a time.
    pub newconn_16: f64,
    /// What the agents cost.
    #[serde(flatten)]
    pub cost: Option<Cost>,
}

/// What the agents cost, both together unless said otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Processor seconds per 10^9 bytes of payload, one stream, mean of both ways.
    pub cpu_s_per_gb: f64,
    /// Processor microseconds per request.
    pub cpu_us_per_request: f64,
    /// Processor microseconds per new connection with its request.
    pub cpu_us_per_connection: f64,
    /// Resident memory of the larger of the two agents after its start, in MiB.
    pub rss_idle_mib: f64,
    /// Resident memory with 1,000 idle connections, in MiB.
    pub rss_1000_mib: f64,
    /// Resident memory with 4,000 idle connections, in MiB.
    pub rss_4000_mib: f64,
    /// Memory that 4,000 idle connections add, per connection, in KiB.
    pub kib_per_connection: f64,
}

/// A bound on a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At least this share of plain.
    AtLeastOfPlain(f64),
    /// At most this multiple of plain.
    AtMostOfPlain(f64),
    /// At most this.
    AtMost(f64),
}

/// A figure against its goal.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Name of the figure.
    pub figure: &'static str,
    /// Its value, or its ratio to plain when the goal is one.
    pub value: f64,
    /// The bound.
    pub goal: Goal,
    /// Whether the value is within.
    pub reached: bool,
}

impl Goal {
    fn judge(self, figure: &'static str, plain: f64, weir: f64) -> Outcome {
        let (value, reached) = match self {
            Self::AtLeastOfPlain(share) => (weir / plain, weir / plain >= share),
            Self::AtMostOfPlain(multiple) => (weir / plain, weir / plain <= multiple),
            Self::AtMost(bound) => (weir, weir <= bound),
        };
        Outcome { figure, value, goal: self, reached }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeastOfPlain(share) => write!(f, ">= {share:.2} x plain"),
            Self::AtMostOfPlain(multiple) => write!(f, "<= {multiple:.2} x plain"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

impl BenchReport {
    pub(crate) fn new<'n>(
        bench: &Bench,
        plain: &[Round],
        carried: impl Iterator<Item = (&'n str, Vec<Round>, Memory)>,
    ) -> Self {
        let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let method = Method { rounds: bench.rounds, seconds: bench.time.as_secs_f64(), rate: bench.rate, cpus };
        let plain = figures(plain, None);
        let mut all: BTreeMap<&str, Figures> =
            carried.map(|(name, rounds, memory)| (name, figures(&rounds, Some(memory)))).collect();
        let (weir, envoy) = (all.remove("weir"), all.remove("envoy"));
        let goals = weir.as_ref().map(|weir| goals(&plain, weir)).unwrap_or_default();
        Self { method, plain, weir, envoy, goals }
    }
}

fn figures(rounds: &[Round], memory: Option<Memory>) -> Figures {
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let cost = memory.map(|memory| {
        let [with_1000, with_4000] = memory.with.map(as_float);
        let added = with_4000 - as_float(memory.idle_all);
        Cost {
            cpu_s_per_gb: of(|round| round.cpu_s_per_gb),
            cpu_us_per_request: of(|round| round.cpu_us_per_request),
            cpu_us_per_connection: of(|round| round.cpu_us_per_connection),
            rss_idle_mib: as_float(memory.idle_largest) / MIB,
            rss_1000_mib: with_1000 / MIB,
            rss_4000_mib: with_4000 / MIB,
            kib_per_connection: added / KIB / as_float(IDLE_CONNECTIONS[1]),
        }
    });
    Figures {
        gbps_1: of(|round| round.gbps_1),
        gbps_1_down: of(|round| round.gbps_1_down),
        gbps_4: of(|round| round.gbps_4),
        gbps_4_down: of(|round| round.gbps_4_down),
        rps_64: of(|round| round.rps_64),
        p50_ms_64: of(|round| round.p50_ms_64),
        p99_ms_64: of(|round| round.p99_ms_64),
        p50_ms_rate: of(|round| round.p50_ms_rate),
        p99_ms_rate: of(|round| round.p99_ms_rate),
        newconn_16: of(|round| round.newconn_16),
        cost,
    }
}

fn goals(plain: &Figures, weir: &Figures) -> Vec<Outcome> {
    use Goal::{AtLeastOfPlain, AtMost, AtMostOfPlain};
    let mut outcomes = vec![
        AtLeastOfPlain(0.50).judge("gbps_1", plain.gbps_1, weir.gbps_1),
        AtLeastOfPlain(0.50).judge("gbps_1_down", plain.gbps_1_down, weir.gbps_1_down),
        AtLeastOfPlain(0.30).judge("gbps_4", plain.gbps_4, weir.gbps_4),
        AtLeastOfPlain(0.30).judge("gbps_4_down", plain.gbps_4_down, weir.gbps_4_down),
        AtLeastOfPlain(0.40).judge("rps_64", plain.rps_64, weir.rps_64),
        AtMostOfPlain(2.5).judge("p50_ms_64", plain.p50_ms_64, weir.p50_ms_64),
        AtMostOfPlain(3.0).judge("p99_ms_64", plain.p99_ms_64, weir.p99_ms_64),
        AtLeastOfPlain(0.50).judge("newconn_16", plain.newconn_16, weir.newconn_16),
    ];
    if let Some(cost) = &weir.cost {
        outcomes.extend([
            AtMost(1.7).judge("cpu_s_per_gb", 0.0, cost.cpu_s_per_gb),
            AtMost(40.0).judge("cpu_us_per_request", 0.0, cost.cpu_us_per_request),
            AtMost(250.0).judge("cpu_us_per_connection", 0.0, cost.cpu_us_per_connection),
            AtMost(10.0).judge("rss_idle_mib", 0.0, cost.rss_idle_mib),
            AtMost(6.0).judge("kib_per_connection", 0.0, cost.kib_per_connection),
        ]);
    }
    outcomes
}

/// The middle value, or the mean of the two; zero of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

impl Figures {
    fn rows(&self) -> Vec<(&'static str, &'static str, f64)> {
        let mut rows = vec![
            ("gbps_1", "one stream, Gbit/s", self.gbps_1),
            ("gbps_1_down", "  server to client", self.gbps_1_down),
            ("gbps_4", "four streams, Gbit/s", self.gbps_4),
            ("gbps_4_down", "  server to client", self.gbps_4_down),
            ("rps_64", "requests/s, 64 connections", self.rps_64),
            ("p50_ms_64", "  p50, ms", self.p50_ms_64),
            ("p99_ms_64", "  p99, ms", self.p99_ms_64),
            ("p50_ms_rate", "at a fixed rate, p50, ms", self.p50_ms_rate),
            ("p99_ms_rate", "  p99, ms", self.p99_ms_rate),
            ("newconn_16", "new connections/s, 16 at once", self.newconn_16),
        ];
        if let Some(cost) = &self.cost {
            rows.extend([
                ("cpu_s_per_gb", "CPU s/GB, both proxies", cost.cpu_s_per_gb),
                ("cpu_us_per_request", "CPU us/request", cost.cpu_us_per_request),
                ("cpu_us_per_connection", "CPU us/new connection", cost.cpu_us_per_connection),
                ("rss_idle_mib", "RSS idle, MiB, one proxy", cost.rss_idle_mib),
                ("rss_1000_mib", "RSS, 1,000 idle connections", cost.rss_1000_mib),
                ("rss_4000_mib", "RSS, 4,000 idle connections", cost.rss_4000_mib),
                ("kib_per_connection", "KiB per connection", cost.kib_per_connection),
            ]);
        }
        rows
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Method { rounds, seconds, rate, cpus } = &self.method;
        writeln!(f, "medians of {rounds} rounds of {seconds} s, {cpus} processors, fixed rate {rate}/s\n")?;
        let envoy = if self.envoy.is_some() { format!(" {:>10}", "envoy") } else { String::new() };
        writeln!(f, "{:<30} {:>10} {:>10} {:>7}{envoy}  goal", "", "plain", "weir", "ratio")?;
        let plain = self.plain.rows();
        let rows = self.weir.as_ref().or(self.envoy.as_ref()).map_or_else(|| plain.clone(), Figures::rows);
        let (weir, envoy) = (self.weir.as_ref().map(Figures::rows), self.envoy.as_ref().map(Figures::rows));
        for (name, title, _) in rows {
            let of =
                |rows: &[(&str, &str, f64)]| rows.iter().find(|(other, ..)| *other == name).map(|(_, _, value)| *value);
            let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
            let (plain, weir) = (of(&plain), weir.as_deref().and_then(of));
            let ratio = plain.zip(weir).map_or_else(|| "-".to_owned(), |(plain, weir)| format!("{:.2}", weir / plain));
            let envoy = envoy.as_deref().map(|rows| format!(" {:>10}", shown(of(rows)))).unwrap_or_default();
            let goal = self.goals.iter().find(|outcome| outcome.figure == name).map(|outcome| {
                format!("{:<18} {}", outcome.goal.to_string(), if outcome.reached { "pass" } else { "FAIL" })
            });
            let (plain, weir, goal) = (shown(plain), shown(weir), goal.unwrap_or_default());
            let line = format!("{title:<30} {plain:>10} {weir:>10} {ratio:>7}{envoy}  {goal}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        for (values, want) in [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0], 2.5)] {
            assert!((median(values.clone()) - want).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn goals_are_reached_on_their_edge_and_missed_beyond() {
        for (goal, plain, weir, want) in [
            (Goal::AtLeastOfPlain(0.5), 10.0, 5.0, true),
            (Goal::AtLeastOfPlain(0.5), 10.0, 4.9, false),
            (Goal::AtMostOfPlain(2.0), 1.0, 2.0, true),
            (Goal::AtMostOfPlain(2.0), 1.0, 2.1, false),
            (Goal::AtMost(6.0), 0.0, 6.0, true),
            (Goal::AtMost(6.0), 0.0, 6.1, false),
            (Goal::AtLeastOfPlain(0.5), 0.0, 0.0, false),
        ] {
            assert_eq!(goal.judge("x", plain, weir).reached, want, "{goal} {plain} {weir}");
        }
    }
}
