//! The demonstration: the todo sample on two nodes, traffic, and what a listener on the wire gets of it; then the same through a waypoint.

mod report;
mod waypoint;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

pub use self::report::{AuthzSeen, DemoReport, MetricsSeen, NodeSeen, SplitSeen, WireSeen};
use crate::Say;
use crate::http::http_get;
use crate::manifests::PodSpec;
use crate::mesh::Mesh;
use crate::process::{Process, run_to_end};
use crate::sniffer::{Sniffer, WireReport};
use crate::topology::{Topology, TopologySpec, WIRE};
use crate::waypoint::Waypoint;
use crate::work::RequestReport;

/// The sample's objects, unchanged.
const APP: &str = include_str!("../../../deploy/samples/todo/app.yaml");
/// The sample's routing, unchanged.
const ROUTING: &str = include_str!("../../../deploy/samples/todo/routing.yaml");
/// In every request between pods of the mesh, and to be found nowhere on the wire.
const NEEDLE: &str = "buy-milk-and-tell-nobody";
/// In every request to the pod outside the mesh: found on the wire, or the listener is deaf.
const CONTROL: &str = "sent-in-the-clear-to-legacy";
/// Patience with one thing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Requests in each run of traffic.
const REQUESTS: u64 = 250;

const BACKEND_PORT: u16 = 8080;
const UI_PORT: u16 = 8090;
const LEGACY_PORT: u16 = 8000;

/// The sample, running.
#[derive(Debug)]
pub struct Demo {
    // Waypoint, agents and apps end before their namespaces go.
    waypoint: Option<Waypoint>,
    mesh: Mesh,
    _apps: Vec<Process>,
    topology: Topology,
}

impl Demo {
    /// Builds the nodes and pods, starts apps and agents, and waits until all are ready. `say` is told of each step, and may end it there.
    ///
    /// # Errors
    /// Without root, or when anything does not start: with its log.
    pub fn start(agent: &Path, bed: &Path, say: Say<'_>) -> anyhow::Result<Self> {
        say("making two nodes and their pods")?;
        let mut topology = Topology::new(TopologySpec::default())?;
        topology.add_manifest("app.yaml", APP)?;
        topology.add_manifest("routing.yaml", ROUTING)?;
        for service in ["todobackend", "todoui"] {
            topology.allot_cluster_ips("default", service)?;
        }
        let todo = |name: &str, app: &str, version: &str, node| {
            let spec = PodSpec::new(name, node).label("app", app).label("version", version);
            PodSpec { service_account: app.into(), ..spec }
        };
        for spec in [
            PodSpec::new("client", 0),
            todo("todoui-0-1", "todoui", "0.1", 0),
            todo("todoui-0-2", "todoui", "0.2", 1),
            todo("todobackend", "todobackend", "0.1", 1),
            PodSpec::new("legacy", 1).unenrolled(),
        ] {
            topology.add_pod(spec)?;
        }
        say("starting the todo sample")?;
        let mut apps = Vec::new();
        for (pod, app, version, port) in [
            ("todoui-0-1", "todoui", "0.1", UI_PORT),
            ("todoui-0-2", "todoui", "0.2", UI_PORT),
            ("todobackend", "todobackend", "0.1", BACKEND_PORT),
            ("legacy", "legacy", "0.1", LEGACY_PORT),
        ] {
            apps.push(start_app(&topology, bed, pod, app, version, port)?);
        }
        say("starting an agent on each node")?;
        let mesh = Mesh::start(&topology, agent, &["--access-log", "on"])?;
        Ok(Self { waypoint: None, mesh, _apps: apps, topology })
    }

    /// Sends traffic while listening on the wire, then puts a waypoint before the services and shows what it does.
    ///
    /// # Errors
    /// When something does not even answer; a request that fails is counted, not an error.
    pub fn show(&mut self, bed: &Path, waypoint: &Path, say: Say<'_>) -> anyhow::Result<DemoReport> {
        let node = self.show_node(bed, say)?;
        self.put_waypoint(waypoint, say)?;
        let (split, authz) = (self.split(say)?, self.authz(say)?);
        Ok(DemoReport { node, split, authz })
    }

    fn show_node(&self, bed: &Path, say: Say<'_>) -> anyhow::Result<NodeSeen> {
        let wire = self.topology.nodes()[0].netns();
        let ear = Sniffer::start(wire, WIRE, NEEDLE.as_bytes())?;
        let control = Sniffer::start(wire, WIRE, CONTROL.as_bytes())?;
        say("sending requests, and listening on the wire between the nodes")?;
        let (mut ok, mut failed) = (0, 0);
        for service in [("todobackend", BACKEND_PORT), ("todoui", UI_PORT)] {
            for ip in self.topology.cluster_ips(service.0) {
                let report = self.traffic(bed, SocketAddr::new(ip, service.1), NEEDLE)?;
                ok += report.ok;
                failed += report.failed;
            }
        }
        let legacy = SocketAddr::new(self.topology.pod("legacy").v4().context("it is dual-stack")?, LEGACY_PORT);
        let unenrolled = self.traffic(bed, legacy, CONTROL)?;
        let mut versions = BTreeMap::new();
        for _ in 0..20 {
            let seen = self.ask("todoui", self.topology.cluster_ips("todoui")[0], UI_PORT)?;
            *versions.entry(seen.version).or_insert(0) += 1;
        }
        let mut clients = Vec::new();
        for ip in self.topology.cluster_ips("todobackend") {
            clients.push(self.ask("todobackend", ip, BACKEND_PORT)?.client);
        }
        let own = self.topology.pod("client").addresses();
        let peer_identity = self.peer_identity()?;
        let (wire, control) = (ear.stop()?, control.stop()?);
        Ok(NodeSeen {
            requests_ok: ok,
            requests_failed: failed,
            requests_to_unenrolled_ok: unenrolled.ok,
            source_ip_preserved: clients.iter().all(|client| own.contains(&client.ip())),
            client_seen: clients.iter().map(ToString::to_string).collect(),
            client_addresses: own.iter().map(ToString::to_string).collect(),
            peer_identity,
            versions,
            wire: wire_seen(&wire, &control)?,
            metrics: self.metrics()?,
        })
    }

    /// The running nodes and pods.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Stops the waypoint, agents, apps, nodes, in this order.
    ///
    /// # Errors
    /// When the waypoint or an agent does not stop as it should.
    pub fn stop(self) -> anyhow::Result<()> {
        self.waypoint.map_or(Ok(()), Waypoint::stop)?;
        self.mesh.stop()
    }

    fn traffic(&self, bed: &Path, to: SocketAddr, needle: &str) -> anyhow::Result<RequestReport> {
        let mut command = Command::new(bed);
        command.args(["request", "--connections", "10", "--seconds", "30"]);
        command.args(["--most", &REQUESTS.to_string(), "--path", &format!("/{needle}"), "--to", &to.to_string()]);
        let printed = run_to_end(self.topology.pod("client").netns(), command, PATIENCE * 2)?;
        serde_json::from_str(&printed).context("the load generator's report")
    }

    fn ask(&self, name: &str, ip: IpAddr, port: u16) -> anyhow::Result<Seen> {
        let answer = http_get(self.topology.pod("client").netns(), SocketAddr::new(ip, port), &format!("/{NEEDLE}"))?;
        let seen: Seen = serde_json::from_str(&answer.body).with_context(|| format!("answer of {name}: {answer:?}"))?;
        ensure!(seen.name == name, "{name} was asked, {} answered", seen.name);
        Ok(seen)
    }

    /// Whom the agent of node 2 took the client for, by its access log.
    fn peer_identity(&self) -> anyhow::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.mesh.agent(1).log();
            if let Some(identity) = log.lines().find_map(inbound_identity) {
                return Ok(identity);
            }
            ensure!(
                Instant::now() < deadline,
                "no inbound connection with a peer identity in the access log of node2\n{log}"
            );
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn metrics(&self) -> anyhow::Result<MetricsSeen> {
        let sum = |name, reporter| Ok::<_, anyhow::Error>(self.mesh.metric(&self.topology, name, &[reporter])?.value);
        let (source, destination) = ("reporter=\"source\"", "reporter=\"destination\"");
        Ok(MetricsSeen {
            connections_by_source: sum("istio_tcp_connections_opened_total", source)?,
            connections_by_destination: sum("istio_tcp_connections_opened_total", destination)?,
            bytes_sent: sum("istio_tcp_sent_bytes_total", source)?,
            bytes_received: sum("istio_tcp_received_bytes_total", source)?,
        })
    }
}

/// What an app of ours answers.
#[derive(serde::Deserialize)]
struct Seen {
    name: String,
    version: String,
    client: SocketAddr,
}

fn start_app(t: &Topology, bed: &Path, pod: &str, app: &str, version: &str, port: u16) -> anyhow::Result<Process> {
    let mut command = Command::new(bed);
    command.args(["serve-http", "--name", app, "--version", version]);
    let addresses = t.pod(pod).addresses();
    for ip in addresses {
        command.args(["--listen", &SocketAddr::new(*ip, port).to_string()]);
    }
    let mut process = t.start_in_pod(pod, command)?;
    process.wait_listening(SocketAddr::new(*addresses.last().context("a pod has an address")?, port), PATIENCE)?;
    Ok(process)
}

/// `src.identity` of an access log line about an inbound connection to the backend, in the text or the JSON form.
fn inbound_identity(line: &str) -> Option<String> {
    if !line.contains("inbound") || !line.contains("todobackend") {
        return None;
    }
    let (_, after) = line.split_once("src.identity")?;
    let identity = after.trim_start_matches(['"', ':', '=', ' ']);
    let end = identity.find(['"', ' ', ',']).unwrap_or(identity.len());
    identity[..end].starts_with("spiffe://").then(|| identity[..end].to_owned())
}

fn wire_seen(wire: &WireReport, control: &WireReport) -> anyhow::Result<WireSeen> {
    let first = wire.tls.first().context("no TLS handshake to port 15008 was heard on the wire")?;
    let differs = wire.tls.iter().find(|other| *other != first);
    ensure!(differs.is_none(), "two kinds of TLS on the wire: {first:?} and {differs:?}");
    Ok(WireSeen {
        tls_version: first.version.clone(),
        key_exchange: first.key_exchange.clone(),
        cipher: first.cipher.clone(),
        server_name_sent: first.server_name_sent,
        hbone_connections: wire.hbone_connections,
        packets: wire.packets,
        bytes: wire.bytes,
        packets_missed: wire.lost + control.lost,
        plaintext_hits: wire.needle_hits,
        control_hits: control.needle_hits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_identity_is_read_from_text_and_json_access_logs() {
        let identity = Some("spiffe://cluster.local/ns/default/sa/client".to_owned());
        for (line, want) in [
            (
                "info access connection complete src.addr=10.0.0.1:1 src.identity=\"spiffe://cluster.local/ns/default/sa/client\" dst.workload=\"todobackend\" direction=\"inbound\"",
                identity.clone(),
            ),
            (
                r#"{"src.identity":"spiffe://cluster.local/ns/default/sa/client","dst.workload":"todobackend","direction":"inbound"}"#,
                identity,
            ),
            (
                r#"{"src.identity":"spiffe://cluster.local/ns/default/sa/client","dst.workload":"todobackend","direction":"outbound"}"#,
                None,
            ),
            (r#"{"dst.workload":"todobackend","direction":"inbound"}"#, None),
            (r#"{"src.identity":"","dst.workload":"todobackend","direction":"inbound"}"#, None),
        ] {
            assert_eq!(inbound_identity(line), want, "{line}");
        }
    }
}
