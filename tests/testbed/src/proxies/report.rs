//! The medians, and whether they reach the goals.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Party, Proxies, Turn, mib};

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
    /// Each proxy by its name: `nginx`, `haproxy`, `envoy`, `weir`; `weir_busy` with routes, tokens and policies.
    #[serde(flatten)]
    pub proxies: BTreeMap<&'static str, ProxyFigures>,
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
    /// Median latency at the fixed rate, in milliseconds, from when a request was due.
    pub p50_ms_4k: f64,
    /// 99th percentile of it.
    pub p99_ms_4k: f64,
    /// Resident memory before any load, in MiB.
    pub rss_idle_mib: f64,
    /// Resident memory behind all loads.
    pub rss_loaded_mib: f64,
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

impl ProxyReport {
    pub(super) fn new(
        how: &Proxies,
        (direct_rps, _): (f64, u64),
        found: impl Iterator<Item = (Party, u64, Vec<Turn>)>,
    ) -> Self {
        let proxies: BTreeMap<&'static str, ProxyFigures> =
            found.map(|(party, idle, turns)| (party.name(), figures(idle, &turns))).collect();
        let of = |name: &str| proxies.get(name).copied().unwrap_or_default();
        let (nginx, haproxy, weir, busy) = (of("nginx"), of("haproxy"), of("weir"), of("weir_busy"));
        let goal = |figure, value: f64, goal: f64, at_least: bool| {
            let reached = if at_least { value >= goal } else { value <= goal };
            Reached { figure, value, goal, at_least, reached }
        };
        let goals = vec![
            goal("h1_rps", weir.h1_rps, nginx.h1_rps, true),
            goal("h1_cpu_us of nginx'", weir.h1_cpu_us, nginx.h1_cpu_us, false),
            goal("h2_rps", weir.h2_rps, haproxy.h2_rps, true),
            goal("p99_ms_4k", weir.p99_ms_4k, nginx.p99_ms_4k.max(4.5), false),
            goal("rss_idle_mib", weir.rss_idle_mib, 15.0, false),
            goal("rss_loaded_mib", weir.rss_loaded_mib, 25.0, false),
            goal("h1_cpu_us busy", busy.h1_cpu_us, weir.h1_cpu_us * 1.3, false),
        ];
        Self { rounds: how.rounds, seconds: how.time.as_secs_f64(), rate: how.rate, direct_rps, proxies, goals }
    }
}

fn figures(idle: u64, turns: &[Turn]) -> ProxyFigures {
    let median = |of: fn(&Turn) -> f64| {
        let mut all: Vec<f64> = turns.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    ProxyFigures {
        h1_rps: median(|turn| turn.h1_rps),
        h1_cpu_us: median(|turn| turn.h1_cpu_us),
        h2_rps: median(|turn| turn.h2_rps),
        h2_cpu_us: median(|turn| turn.h2_cpu_us),
        p50_ms_4k: median(|turn| turn.p50_ms),
        p99_ms_4k: median(|turn| turn.p99_ms),
        rss_idle_mib: mib(idle),
        rss_loaded_mib: median(|turn| turn.loaded_mib),
    }
}

impl fmt::Display for ProxyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "medians of {} rounds of {} s; without a proxy {:.0} requests/s",
            self.rounds, self.seconds, self.direct_rps
        )?;
        write!(f, "{:<16}", "")?;
        for name in self.proxies.keys() {
            write!(f, "{name:>11}")?;
        }
        writeln!(f)?;
        type Row = (&'static str, fn(&ProxyFigures) -> f64);
        let rows: [Row; 8] = [
            ("h1_rps", |one| one.h1_rps),
            ("h1_cpu_us", |one| one.h1_cpu_us),
            ("h2_rps", |one| one.h2_rps),
            ("h2_cpu_us", |one| one.h2_cpu_us),
            ("p50_ms_4k", |one| one.p50_ms_4k),
            ("p99_ms_4k", |one| one.p99_ms_4k),
            ("rss_idle_mib", |one| one.rss_idle_mib),
            ("rss_loaded_mib", |one| one.rss_loaded_mib),
        ];
        for (name, of) in rows {
            write!(f, "{name:<16}")?;
            for figures in self.proxies.values() {
                let value = of(figures);
                if value >= 1_000.0 { write!(f, "{value:>11.0}")? } else { write!(f, "{value:>11.2}")? }
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for one in &self.goals {
            let (sign, word) = (if one.at_least { ">=" } else { "<=" }, if one.reached { "ok" } else { "FAIL" });
            writeln!(f, "{word:<5}{:<22}{:>10.2} {sign} {:.2}", one.figure, one.value, one.goal)?;
        }
        Ok(())
    }
}
