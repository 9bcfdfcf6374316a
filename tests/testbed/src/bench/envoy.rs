//! A peer to measure against: Envoy on both ends, tunnelling as Istio's sidecars and waypoints do, HTTP/2 CONNECT in mutual TLS 1.3.
//!
//! Nothing is captured: the load connects to an Envoy inside its own pod, which is as short as a way through a proxy can be.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::{Value, json};

use super::{HTTP_PORT, PATIENCE, SINK_PORT, SOURCE_PORT};
use crate::process::Process;
use crate::topology::Topology;

/// What is added to an application's port for the Envoy in front of it.
pub(crate) const OFFSET: u16 = 10_000;
const HBONE_PORT: u16 = 15_008;
const PORTS: [u16; 3] = [HTTP_PORT, SINK_PORT, SOURCE_PORT];

/// Both Envoys.
#[derive(Debug)]
pub(crate) struct Envoys {
    processes: [Process; 2],
}

impl Envoys {
    /// Starts one in `client` and one in `server`, which tunnels on to the server's own ports.
    pub(crate) fn start(topology: &Topology, program: &Path, client: &str, server: &str) -> anyhow::Result<Self> {
        let files = Files::write(&topology.work_dir())?;
        let [from, to] = [client, server].map(|pod| topology.pod(pod).v4().context("it is dual-stack"));
        let (from, to) = (from?, to?);
        let hop = SocketAddr::new(to, HBONE_PORT);
        let apps = PORTS.map(|port| SocketAddr::new(to, port));
        let accepting = inbound(&files, hop, &apps);
        let connecting = outbound(&files, from, hop, &apps);
        let mut accepting = start(topology, program, server, &accepting)?;
        accepting.wait_listening(hop, PATIENCE)?;
        let mut connecting = start(topology, program, client, &connecting)?;
        for port in PORTS {
            connecting.wait_listening(SocketAddr::new(from, port + OFFSET), PATIENCE)?;
        }
        Ok(Self { processes: [connecting, accepting] })
    }

    /// Processor time of both.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        self.processes.iter().map(Process::cpu_time).sum()
    }

    /// Resident memory of each, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<Vec<u64>> {
        self.processes.iter().map(Process::resident_bytes).collect()
    }
}

/// A root, and one certificate for both ends.
struct Files {
    root: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn write(folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Else root and leaf have one name, and OpenSSL takes the leaf for its own issuer.
        params.distinguished_name.push(DnType::CommonName, "root");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("spiffe://cluster.local/ns/default/sa/peer".try_into()?)];
        let leaf = params.signed_by(&key, &root)?;
        let path = |name: &str| folder.join(format!("envoy-{name}.pem"));
        let files = Self { root: path("root"), certificate: path("certificate"), key: path("key") };
        fs::write(&files.root, root.pem())?;
        fs::write(&files.certificate, leaf.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }

    fn tls(&self) -> Value {
        let name = |path: &Path| json!({ "filename": path });
        json!({
            "alpn_protocols": ["h2"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{ "certificate_chain": name(&self.certificate), "private_key": name(&self.key) }],
            "validation_context": { "trusted_ca": name(&self.root) },
        })
    }
}

fn typed(kind: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
    value
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

fn cluster(to: SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(to) } });
    let load_assignment = json!({ "cluster_name": to.to_string(), "endpoints": [{ "lb_endpoints": [endpoint] }] });
    // The defaults stop at 1,024 connections.
    let thresholds =
        json!([{ "max_connections": 1_000_000, "max_pending_requests": 1_000_000, "max_requests": 1_000_000 }]);
    json!({
        "name": to.to_string(),
        "connect_timeout": "10s",
        "load_assignment": load_assignment,
        "circuit_breakers": { "thresholds": thresholds },
    })
}

fn inbound(files: &Files, at: SocketAddr, apps: &[SocketAddr]) -> Value {
    let connect = json!([{ "upgrade_type": "CONNECT", "connect_config": {} }]);
    let host = |app: &SocketAddr| {
        let route = json!({ "cluster": app.to_string(), "upgrade_configs": connect });
        let routes = json!([{ "match": { "connect_matcher": {} }, "route": route }]);
        json!({ "name": app.to_string(), "domains": [app.to_string()], "routes": routes })
    };
    let http = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "in",
            "codec_type": "HTTP2",
            "http2_protocol_options": { "allow_connect": true, "max_concurrent_streams": 100 },
            "upgrade_configs": [{ "upgrade_type": "CONNECT" }],
            "http_filters": [{ "name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router", json!({})) }],
            "route_config": { "virtual_hosts": apps.iter().map(host).collect::<Vec<_>>() },
        }),
    );
    let tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({ "require_client_certificate": true, "common_tls_context": files.tls() }),
    );
    let chain = json!({
        "filters": [{ "name": "http", "typed_config": http }],
        "transport_socket": { "name": "tls", "typed_config": tls },
    });
    let listener = json!({ "name": "in", "address": address(at), "filter_chains": [chain] });
    let clusters: Vec<Value> = apps.iter().map(|app| cluster(*app)).collect();
    json!({ "static_resources": { "listeners": [listener], "clusters": clusters } })
}

fn outbound(files: &Files, from: std::net::IpAddr, hop: SocketAddr, apps: &[SocketAddr]) -> Value {
    let listener = |app: &SocketAddr| {
        let tunneling = json!({ "hostname": app.to_string() });
        let proxy = json!({ "stat_prefix": "out", "cluster": hop.to_string(), "tunneling_config": tunneling });
        let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
        let at = address(SocketAddr::new(from, app.port() + OFFSET));
        let chain = json!({ "filters": [{ "name": "tcp", "typed_config": proxy }] });
        json!({ "name": app.to_string(), "address": at, "filter_chains": [chain] })
    };
    let tls =
        typed("extensions.transport_sockets.tls.v3.UpstreamTlsContext", json!({ "common_tls_context": files.tls() }));
    let http2 = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({ "explicit_http_config": { "http2_protocol_options": { "max_concurrent_streams": 100 } } }),
    );
    let mut cluster = cluster(hop);
    cluster["transport_socket"] = json!({ "name": "tls", "typed_config": tls });
    cluster["typed_extension_protocol_options"] =
        json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2 });
    let listeners: Vec<Value> = apps.iter().map(listener).collect();
    json!({ "static_resources": { "listeners": listeners, "clusters": [cluster] } })
}

fn start(topology: &Topology, program: &Path, pod: &str, config: &Value) -> anyhow::Result<Process> {
    let path = topology.work_dir().join(format!("{pod}-envoy.json"));
    fs::write(&path, config.to_string())?;
    let mut command = Command::new(program);
    command.arg("--config-path").arg(path);
    command.args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"]);
    topology.start_in_pod(pod, command)
}
