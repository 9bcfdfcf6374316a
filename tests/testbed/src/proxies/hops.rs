//! What hops of the mesh add: the same requests between two pods on two nodes without it, from agent to agent, and through agent, waypoint and agent, in turns.
//! Mutual TLS on every hop, metrics and access logs as installed.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::{PATIENCE, Proxies};
use crate::Say;
use crate::bench::{Expect, HTTP_PORT, Lane, add_pod, median, prove, start_servers};
use crate::http::http_get;
use crate::manifests::PodSpec;
use crate::mesh::Mesh;
use crate::topology::{Topology, TopologySpec};
use crate::waypoint::Waypoint;
use crate::work::{RequestReport, as_float};

/// Requests a second while latency is measured: few enough that nothing queues on two processors that carry everything.
const RATE: u32 = 1_000;
const CONNECTIONS: u32 = 16;
/// Connections of the load as fast as the answers come.
const MANY: u32 = 64;
const WAYPOINT: &str = "waypoint";
/// The service that is bound to it, and its port.
const SERVICE: (&str, u16) = ("shop", 80);
/// How often something is looked at that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What hops add. Medians of the rounds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Hops {
    /// Median latency without a mesh, at a fixed rate, in milliseconds, from when a request was due.
    pub plain_p50_ms: f64,
    /// From agent to agent: one hop of HBONE.
    pub hop_p50_ms: f64,
    /// Through agent, waypoint and agent.
    pub waypoint_p50_ms: f64,
    /// What the latter adds as a multiple of what one hop adds.
    pub added_ratio: f64,
    /// Requests per second over 64 connections, agent to agent.
    pub hop_rps: f64,
    /// Through agent, waypoint and agent.
    pub waypoint_rps: f64,
    /// Processor microseconds of the waypoint for each of those: mutual TLS in and out.
    pub waypoint_cpu_us: f64,
    /// Resident memory of the waypoint behind all loads, in MiB.
    pub waypoint_rss_mib: f64,
}

/// What one round found.
#[derive(Debug, Clone, Copy)]
struct Turn {
    plain: f64,
    hop: f64,
    waypoint: f64,
    hop_rps: f64,
    waypoint_rps: f64,
    waypoint_cpu_us: f64,
}

/// Measures them.
pub(super) fn measure(how: &Proxies, bed: &Path, say: Say<'_>) -> anyhow::Result<Hops> {
    let (service, port) = SERVICE;
    let mut topology = Topology::new(TopologySpec::default())?;
    for (name, node) in [("client", 0), ("server", 1)] {
        add_pod(&mut topology, PodSpec::new(name, node))?;
        add_pod(&mut topology, PodSpec::new(&format!("plain-{name}"), node).unenrolled())?;
    }
    topology.add_waypoint(WAYPOINT, 1)?;
    let [vip, _] = topology.allot_cluster_ips("default", service)?;
    topology.add_manifest(
        "shop.yaml",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {service}\n  namespace: default\n  labels:\n    istio.io/use-waypoint: {WAYPOINT}\n\
             spec:\n  selector: {{app: server}}\n  ports: [{{name: http, port: {port}, targetPort: {HTTP_PORT}}}]\n"
        ),
    )?;
    let _servers = [start_servers(&topology, bed, "server")?, start_servers(&topology, bed, "plain-server")?];
    say("start agents and waypoint")?;
    let mesh = Mesh::start(&topology, &how.agent, &[])?;
    let waypoint = Waypoint::start(&topology, &how.waypoint, WAYPOINT)?;
    let plain = Lane::new(&topology, bed, "plain-client", "plain-server")?;
    let hop = Lane::new(&topology, bed, "client", "server")?;
    let mut through = Lane::new(&topology, bed, "client", "server")?;
    through.http = SocketAddr::new(vip, port);
    answers(&topology, &through, &waypoint)?;
    prove(&topology, plain.client(), plain.http, Expect::Readable)?;
    prove(&topology, hop.client(), hop.http, Expect::Hidden)?;
    prove(&topology, through.client(), through.http, Expect::Hidden)?;
    let mut turns = Vec::new();
    for number in 1..=how.rounds {
        say(&format!("round {number} of {}: hops", how.rounds))?;
        turns.push(turn(how, &topology, [&plain, &hop, &through], &waypoint)?);
    }
    let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
    let hops = Hops {
        plain_p50_ms: of(|turn| turn.plain),
        hop_p50_ms: of(|turn| turn.hop),
        waypoint_p50_ms: of(|turn| turn.waypoint),
        added_ratio: of(|turn| (turn.waypoint - turn.plain) / (turn.hop - turn.plain).max(f64::MIN_POSITIVE)),
        hop_rps: of(|turn| turn.hop_rps),
        waypoint_rps: of(|turn| turn.waypoint_rps),
        waypoint_cpu_us: of(|turn| turn.waypoint_cpu_us),
        waypoint_rss_mib: super::mib(waypoint.resident_bytes()?),
    };
    waypoint.stop()?;
    mesh.stop()?;
    Ok(hops)
}

fn turn(how: &Proxies, topology: &Topology, lanes: [&Lane; 3], waypoint: &Waypoint) -> anyhow::Result<Turn> {
    let all_ok = |report: RequestReport| {
        ensure!(report.failed == 0 && report.ok > 0, "requests failed: {report:?}\n{}", waypoint.log());
        Ok(report)
    };
    let [plain, hop, through] = lanes;
    let p50 = |lane: &Lane| -> anyhow::Result<f64> {
        Ok(all_ok(lane.at_rate(topology, how.time, CONNECTIONS, RATE)?)?.latency.p50_ms)
    };
    let (plain, hop_p50, through_p50) = (p50(plain)?, p50(hop)?, p50(through)?);
    let hop_full = all_ok(hop.flat_out(topology, how.time, MANY)?)?;
    let before = waypoint.cpu_time()?;
    let full = all_ok(through.flat_out(topology, how.time, MANY)?)?;
    let cpu = waypoint.cpu_time()?.saturating_sub(before);
    Ok(Turn {
        plain,
        hop: hop_p50,
        waypoint: through_p50,
        hop_rps: hop_full.rps,
        waypoint_rps: full.rps,
        waypoint_cpu_us: cpu.as_secs_f64() * 1e6 / as_float(full.ok),
    })
}

/// Waits until the service answers, and makes sure that the waypoint was asked.
fn answers(topology: &Topology, through: &Lane, waypoint: &Waypoint) -> anyhow::Result<()> {
    let end = std::time::Instant::now() + PATIENCE;
    let netns = topology.pod(through.client()).netns();
    loop {
        let heard = http_get(netns, through.http, "/");
        if heard.as_ref().is_ok_and(|answer| answer.status == 200) {
            break;
        }
        let late = std::time::Instant::now() >= end;
        ensure!(!late, "{} does not answer through its waypoint: {heard:?}\n{}", through.http, waypoint.log());
        std::thread::sleep(LOOK_AGAIN);
    }
    let counted = waypoint.metric("istio_requests_total", &["reporter=\"waypoint\""]).context("its metrics")?;
    ensure!(counted.value > 0, "the service answers without its waypoint");
    Ok(())
}
