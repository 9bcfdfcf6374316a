//! One round: every kind of load once, through one lane.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;

use super::envoy::{Envoys, OFFSET};
use super::{Bench, HTTP_PORT, PATIENCE, SINK_PORT, SOURCE_PORT};
use crate::mesh::Mesh;
use crate::process::run_to_end;
use crate::topology::Topology;
use crate::work::{ConnectReport, RequestReport, StreamReport, as_float};

/// From one pod to another.
#[derive(Debug)]
pub(crate) struct Lane {
    client: String,
    bed: PathBuf,
    pub(crate) http: SocketAddr,
    sink: SocketAddr,
    source: SocketAddr,
}

/// What carries the bytes of a lane, and is paid for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Carrier<'a> {
    /// The kernel alone.
    Nothing,
    /// Two agents.
    Weir(&'a Mesh),
    /// Two Envoys.
    Envoy(&'a Envoys),
}

impl Carrier<'_> {
    fn cpu_time(self) -> anyhow::Result<Duration> {
        match self {
            Self::Nothing => Ok(Duration::ZERO),
            Self::Weir(mesh) => mesh.cpu_time(),
            Self::Envoy(envoys) => envoys.cpu_time(),
        }
    }

    /// Resident memory of each of the two, in bytes.
    pub(crate) fn resident_bytes(self) -> anyhow::Result<Vec<u64>> {
        match self {
            Self::Nothing => Ok(Vec::new()),
            Self::Weir(mesh) => mesh.resident_bytes(),
            Self::Envoy(envoys) => envoys.resident_bytes(),
        }
    }
}

/// What one round measured. Processor times are zero without a mesh.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) gbps_1: f64,
    pub(crate) gbps_1_down: f64,
    pub(crate) gbps_4: f64,
    pub(crate) gbps_4_down: f64,
    pub(crate) rps_64: f64,
    pub(crate) p50_ms_64: f64,
    pub(crate) p99_ms_64: f64,
    pub(crate) p50_ms_rate: f64,
    pub(crate) p99_ms_rate: f64,
    pub(crate) newconn_16: f64,
    pub(crate) cpu_s_per_gb: f64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) cpu_us_per_connection: f64,
}

impl Lane {
    pub(crate) fn new(topology: &Topology, bed: &Path, client: &str, server: &str) -> anyhow::Result<Self> {
        let ip = topology.pod(server).v4().context("it is dual-stack")?;
        let [http, sink, source] = [HTTP_PORT, SINK_PORT, SOURCE_PORT].map(|port| SocketAddr::new(ip, port));
        Ok(Self { client: client.into(), bed: bed.into(), http, sink, source })
    }

    /// The way through an Envoy inside the client's own pod.
    pub(crate) fn through_envoy(topology: &Topology, bed: &Path, client: &str) -> anyhow::Result<Self> {
        let mut lane = Self::new(topology, bed, client, client)?;
        for address in [&mut lane.http, &mut lane.sink, &mut lane.source] {
            address.set_port(address.port() + OFFSET);
        }
        Ok(lane)
    }

    /// The pod the load runs in.
    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    /// Requests at a rate, over so many connections.
    pub(crate) fn at_rate(
        &self,
        topology: &Topology,
        time: Duration,
        connections: u32,
        rate: u32,
    ) -> anyhow::Result<RequestReport> {
        let (connections, rate) = (connections.to_string(), rate.to_string());
        self.load(topology, time, self.http, &["request", "--connections", &connections, "--rate", &rate])
    }

    /// Requests as fast as the answers come, over so many connections.
    pub(crate) fn flat_out(
        &self,
        topology: &Topology,
        time: Duration,
        connections: u32,
    ) -> anyhow::Result<RequestReport> {
        self.load(topology, time, self.http, &["request", "--connections", &connections.to_string()])
    }

    fn load<T: DeserializeOwned>(
        &self,
        topology: &Topology,
        time: Duration,
        to: SocketAddr,
        arguments: &[&str],
    ) -> anyhow::Result<T> {
        let mut command = Command::new(&self.bed);
        command.args(arguments).args(["--to", &to.to_string(), "--seconds", &time.as_secs_f64().to_string()]);
        let printed = run_to_end(topology.pod(&self.client).netns(), command, time + PATIENCE)?;
        serde_json::from_str(&printed).with_context(|| format!("report of {arguments:?}: {printed}"))
    }
}

impl Round {
    pub(crate) fn take(bench: &Bench, topology: &Topology, lane: &Lane, carrier: Carrier<'_>) -> anyhow::Result<Self> {
        let time = bench.time;
        let stream = |streams, direction, to| {
            lane.load::<StreamReport>(topology, time, to, &["stream", "--streams", streams, "--direction", direction])
        };
        let (one, one_cpu) = with_cpu(carrier, || stream("1", "up", lane.sink))?;
        let (one_down, one_down_cpu) = with_cpu(carrier, || stream("1", "down", lane.source))?;
        let four = stream("4", "up", lane.sink)?;
        let four_down = stream("4", "down", lane.source)?;
        let requests = ["request", "--connections", "64"];
        let (request, request_cpu) =
            with_cpu(carrier, || lane.load::<RequestReport>(topology, time, lane.http, &requests))?;
        let paced = lane.at_rate(topology, time, 64, bench.rate)?;
        let connect = ["connect", "--at-once", "16"];
        let (connect, connect_cpu) =
            with_cpu(carrier, || lane.load::<ConnectReport>(topology, time, lane.http, &connect))?;
        ensure!(request.failed + paced.failed == 0, "requests failed: {request:?}, {paced:?}");
        ensure!(connect.failed == 0, "connections failed: {connect:?}");
        let per = |cpu: Duration, count: u64| cpu.as_secs_f64() / as_float(count.max(1));
        Ok(Self {
            gbps_1: one.gbps,
            gbps_1_down: one_down.gbps,
            gbps_4: four.gbps,
            gbps_4_down: four_down.gbps,
            rps_64: request.rps,
            p50_ms_64: request.latency.p50_ms,
            p99_ms_64: request.latency.p99_ms,
            p50_ms_rate: paced.latency.p50_ms,
            p99_ms_rate: paced.latency.p99_ms,
            newconn_16: connect.per_second,
            cpu_s_per_gb: per(one_cpu + one_down_cpu, one.bytes + one_down.bytes) * 1e9,
            cpu_us_per_request: per(request_cpu, request.ok) * 1e6,
            cpu_us_per_connection: per(connect_cpu, connect.ok) * 1e6,
        })
    }
}

fn with_cpu<T>(carrier: Carrier<'_>, load: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Duration)> {
    let before = carrier.cpu_time()?;
    let report = load()?;
    Ok((report, carrier.cpu_time()?.saturating_sub(before)))
}
