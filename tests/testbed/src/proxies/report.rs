//! The medians, and whether they reach the goals.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Found, Hops, Party, Proxies, Turn, mib};
use crate::bench::median;

/// The whole comparison: an object for each proxy.
#[derive(Debug, Clone, Serialize)]
pub struct ProxyReport {
    /// Rounds of which the medians are taken.
    pub rounds: u32,
    /// Length of each load, in seconds.
    pub seconds: f64,
    /// Requests per second of the load at a fixed rate.
    pub rate: u32,
    /// Requests per second of HTTP/1.1 without any proxy.
    pub direct_rps: f64,
    /// Each proxy by its name: `nginx`, `haproxy`, `envoy`, `weir`.
    #[serde(flatten)]
    pub proxies: BTreeMap<&'static str, ProxyFigures>,
    /// Ours with a hundred routes, tokens and twenty policies.
    pub busy: Busy,
    /// What hops of the mesh add.
    pub mesh: Hops,
    /// Each goal, and whether it is reached.
    pub goals: Vec<Reached>,
}

/// Medians of one proxy.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct ProxyFigures {
    /// Requests per second of HTTP/1.1 over 64 connections, answers of 100 bytes.
    pub h1_rps: f64,
    /// Processor microseconds of the proxy for each of them.
    pub h1_cpu_us: f64,
    /// Requests per second of HTTP/2 in the clear, 8 connections of 32 streams.
    pub h2_rps: f64,
    /// Processor microseconds of the proxy for each of them.
    pub h2_cpu_us: f64,
    /// 99th percentile of latency at the fixed rate, in milliseconds, from when a request was due.
    pub p99_ms_4k: f64,
    /// Resident memory before any load, in MiB.
    pub rss_idle_mib: f64,
    /// Resident memory behind all loads.
    pub rss_loaded_mib: f64,
}

/// What much to decide costs.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Busy {
    /// Processor microseconds for a request of HTTP/1.1.
    pub h1_cpu_us: f64,
    /// For one of HTTP/2.
    pub h2_cpu_us: f64,
    /// The former as a multiple of that with nothing to decide: median of the rounds.
    pub h1_cpu_ratio: f64,
    /// The same of HTTP/2.
    pub h2_cpu_ratio: f64,
}

/// A figure of ours against its goal.
#[derive(Debug, Clone, Serialize)]
pub struct Reached {
    /// Name of the figure.
    pub figure: &'static str,
    /// Its value.
    pub value: f64,
    /// What it must be, at most or at least.
    pub goal: f64,
    /// Whether more is better.
    pub at_least: bool,
    /// Whether it is within.
    pub reached: bool,
}

impl Reached {
    fn new(figure: &'static str, value: f64, goal: f64, at_least: bool) -> Self {
        let reached = if at_least { value >= goal } else { value <= goal };
        Self { figure, value, goal, at_least, reached }
    }
}

impl ProxyReport {
    pub(super) fn new(how: &Proxies, direct_rps: f64, found: Vec<Found>, mesh: Hops) -> Self {
        let turns = |wanted: Party| {
            let one = found.iter().find(|(party, ..)| *party == wanted);
            one.map(|(.., turns)| turns.as_slice()).unwrap_or_default()
        };
        let busy = busy(turns(Party::Weir), turns(Party::WeirBusy));
        let each = found.iter().filter(|(party, ..)| *party != Party::WeirBusy);
        let proxies: BTreeMap<&'static str, ProxyFigures> =
            each.map(|(party, idle, turns)| (party.name(), figures(*idle, turns))).collect();
        let goals = goals(&proxies, busy, mesh);
        let (rounds, seconds, rate) = (how.rounds, how.time.as_secs_f64(), how.rate);
        Self { rounds, seconds, rate, direct_rps, proxies, busy, mesh, goals }
    }
}

/// Ours against what was measured of the others in the same run, and against what was fixed.
fn goals(proxies: &BTreeMap<&'static str, ProxyFigures>, busy: Busy, mesh: Hops) -> Vec<Reached> {
    let of = |party: Party| proxies.get(party.name()).copied().unwrap_or_default();
    let (nginx, haproxy, weir) = (of(Party::Nginx), of(Party::Haproxy), of(Party::Weir));
    vec![
        Reached::new("h1_rps, nginx'", weir.h1_rps, nginx.h1_rps, true),
        Reached::new("h1_cpu_us, nginx'", weir.h1_cpu_us, nginx.h1_cpu_us, false),
        Reached::new("h2_rps, haproxy's", weir.h2_rps, haproxy.h2_rps, true),
        Reached::new("p99_ms_4k, nginx'", weir.p99_ms_4k, nginx.p99_ms_4k, false),
        Reached::new("rss_idle_mib", weir.rss_idle_mib, 15.0, false),
        Reached::new("rss_loaded_mib", weir.rss_loaded_mib, 25.0, false),
        Reached::new("busy, h1_cpu_ratio", busy.h1_cpu_ratio, 1.3, false),
        Reached::new("mesh, added_ratio", mesh.added_ratio, 3.0, false),
    ]
}

fn busy(bare: &[Turn], busy: &[Turn]) -> Busy {
    let of = |figure: fn(&Turn) -> f64| median(busy.iter().map(figure).collect());
    let ratio = |figure: fn(&Turn) -> f64| {
        median(busy.iter().zip(bare).map(|(busy, bare)| figure(busy) / figure(bare)).collect())
    };
    Busy {
        h1_cpu_us: of(|turn| turn.h1_cpu_us),
        h2_cpu_us: of(|turn| turn.h2_cpu_us),
        h1_cpu_ratio: ratio(|turn| turn.h1_cpu_us),
        h2_cpu_ratio: ratio(|turn| turn.h2_cpu_us),
    }
}

fn figures(idle: u64, turns: &[Turn]) -> ProxyFigures {
    let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
    ProxyFigures {
        h1_rps: of(|turn| turn.h1_rps),
        h1_cpu_us: of(|turn| turn.h1_cpu_us),
        h2_rps: of(|turn| turn.h2_rps),
        h2_cpu_us: of(|turn| turn.h2_cpu_us),
        p99_ms_4k: of(|turn| turn.p99_ms.unwrap_or_default()),
        rss_idle_mib: mib(idle),
        rss_loaded_mib: of(|turn| turn.loaded_mib),
    }
}

/// A row of the table: its name, and what stands in it.
type Row<T> = (&'static str, fn(&T) -> f64);

impl fmt::Display for ProxyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, seconds, rate, direct_rps, .. } = self;
        writeln!(
            f,
            "medians of {rounds} rounds of {seconds} s; open loop at {rate}/s; {direct_rps:.0} requests/s without a proxy\n"
        )?;
        write!(f, "{:<24}", "")?;
        for name in self.proxies.keys() {
            write!(f, "{name:>11}")?;
        }
        writeln!(f)?;
        let rows: [Row<ProxyFigures>; 7] = [
            ("h1_rps", |one| one.h1_rps),
            ("h1_cpu_us", |one| one.h1_cpu_us),
            ("h2_rps", |one| one.h2_rps),
            ("h2_cpu_us", |one| one.h2_cpu_us),
            ("p99_ms_4k", |one| one.p99_ms_4k),
            ("rss_idle_mib", |one| one.rss_idle_mib),
            ("rss_loaded_mib", |one| one.rss_loaded_mib),
        ];
        for (name, of) in rows {
            write!(f, "{name:<24}")?;
            for figures in self.proxies.values() {
                write!(f, "{:>11}", number(of(figures)))?;
            }
            writeln!(f)?;
        }
        let rows: [Row<Busy>; 4] = [
            ("busy: h1_cpu_us", |busy| busy.h1_cpu_us),
            ("busy: h2_cpu_us", |busy| busy.h2_cpu_us),
            ("busy: h1_cpu_ratio", |busy| busy.h1_cpu_ratio),
            ("busy: h2_cpu_ratio", |busy| busy.h2_cpu_ratio),
        ];
        writeln!(f)?;
        for (name, of) in rows {
            writeln!(f, "{name:<24}{:>11}", number(of(&self.busy)))?;
        }
        let rows: [Row<Hops>; 8] = [
            ("mesh: plain_p50_ms", |mesh| mesh.plain_p50_ms),
            ("mesh: hop_p50_ms", |mesh| mesh.hop_p50_ms),
            ("mesh: waypoint_p50_ms", |mesh| mesh.waypoint_p50_ms),
            ("mesh: added_ratio", |mesh| mesh.added_ratio),
            ("mesh: hop_rps", |mesh| mesh.hop_rps),
            ("mesh: waypoint_rps", |mesh| mesh.waypoint_rps),
            ("mesh: waypoint_cpu_us", |mesh| mesh.waypoint_cpu_us),
            ("mesh: waypoint_rss_mib", |mesh| mesh.waypoint_rss_mib),
        ];
        for (name, of) in rows {
            writeln!(f, "{name:<24}{:>11}", number(of(&self.mesh)))?;
        }
        writeln!(f)?;
        for one in &self.goals {
            let (sign, word) = (if one.at_least { ">=" } else { "<=" }, if one.reached { "PASS" } else { "FAIL" });
            writeln!(f, "{word:<5}{:<22}{:>10} {sign} {}", one.figure, number(one.value), number(one.goal))?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;

    fn turn(rps: f64, cpu: f64) -> Turn {
        Turn { h1_rps: rps, h1_cpu_us: cpu, h2_rps: rps, h2_cpu_us: cpu, p99_ms: Some(1.0), loaded_mib: 20.0 }
    }

    fn report(busy_cpu: f64, added_ratio: f64) -> ProxyReport {
        let how = Proxies {
            rounds: 1,
            time: Duration::from_secs(1),
            rate: 4_000,
            envoy: PathBuf::new(),
            waypoint: PathBuf::new(),
            agent: PathBuf::new(),
        };
        let found = [
            (Party::Nginx, turn(30_000.0, 27.0)),
            (Party::Haproxy, turn(35_000.0, 16.0)),
            (Party::Envoy, turn(7_000.0, 140.0)),
            (Party::Weir, turn(35_000.0, 20.0)),
            (Party::WeirBusy, turn(30_000.0, busy_cpu)),
        ];
        let found = found.into_iter().map(|(party, turn)| (party, 10 << 20, vec![turn])).collect();
        ProxyReport::new(&how, 48_000.0, found, Hops { added_ratio, ..Hops::default() })
    }

    #[test]
    fn each_proxy_is_an_object_of_seven_figures() {
        let json = serde_json::to_value(report(25.0, 2.0)).unwrap();
        for name in ["nginx", "haproxy", "envoy", "weir"] {
            let mut keys: Vec<&str> = json[name].as_object().unwrap().keys().map(String::as_str).collect();
            keys.sort_unstable();
            let want = ["h1_cpu_us", "h1_rps", "h2_cpu_us", "h2_rps", "p99_ms_4k", "rss_idle_mib", "rss_loaded_mib"];
            assert_eq!(keys, want, "{name}");
        }
        assert!(json.get("weir_busy").is_none(), "{json}");
    }

    #[test]
    fn goals_are_reached_on_their_edge_and_missed_beyond() {
        for (busy, added, want) in [(26.0, 3.0, vec![]), (26.1, 3.1, vec!["busy, h1_cpu_ratio", "mesh, added_ratio"])] {
            let report = report(busy, added);
            let missed: Vec<&str> = report.goals.iter().filter(|one| !one.reached).map(|one| one.figure).collect();
            assert_eq!(missed, want, "{report}");
        }
    }
}
