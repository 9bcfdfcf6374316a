//! Envoy's configuration: a pod's HBONE server and client, as Istio's waypoints are, with plain files for certificates.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weir_testbed::{Process, Topology};
use weir_tests::peers::{Ca, Leaf, bed};

/// Where the files of one Envoy are.
pub(crate) struct Files {
    root: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// A certificate for `account`, by the mesh's root.
    pub(crate) fn new(topology: &Topology, account: &str) -> Self {
        let ca = topology.work_dir().join("ca");
        let signed = Ca::open(&ca).unwrap().sign(&Leaf::new("cluster.local", account)).unwrap();
        let own = |name: &str| topology.work_dir().join(format!("{account}-{name}.pem"));
        let (certificate, key) = (own("certificate"), own("key"));
        std::fs::write(&certificate, &signed.certificate_pem).unwrap();
        std::fs::write(&key, &signed.key_pem).unwrap();
        Self { root: ca.join("root-cert.pem"), certificate, key }
    }

    /// TLS 1.3, `h2`, our certificate, and a peer whose URI name begins with `peer`.
    fn tls(&self, peer: &str) -> Value {
        let name = |path: &Path| json!({ "filename": path });
        json!({
            "alpn_protocols": ["h2"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{ "certificate_chain": name(&self.certificate), "private_key": name(&self.key) }],
            "validation_context": {
                "trusted_ca": name(&self.root),
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "prefix": peer } }],
            },
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

fn cluster(name: &str, to: SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(to) } });
    json!({
        "name": name,
        "connect_timeout": "10s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    })
}

/// HBONE in: `at` is taken for port 15008, CONNECT to `app` is served by `app`, anything else is 404.
pub(crate) fn server(files: &Files, name: &str, at: SocketAddr, app: SocketAddr) -> (Value, Vec<Value>) {
    let log = typed(
        "extensions.access_loggers.stream.v3.StdoutAccessLog",
        json!({ "log_format": { "text_format_source": { "inline_string":
            "SEEN %REQ(:METHOD)% %REQ(:AUTHORITY)% code=%RESPONSE_CODE% peer=%DOWNSTREAM_PEER_URI_SAN% tls=%DOWNSTREAM_TLS_VERSION% \
             remote=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% baggage=%REQ(BAGGAGE)% forwarded=%REQ(FORWARDED)% trace=%REQ(TRACEPARENT)%\n"
        } } }),
    );
    let connect = json!([{ "upgrade_type": "CONNECT", "connect_config": {} }]);
    let route = json!({ "match": { "connect_matcher": {} }, "route": { "cluster": name, "upgrade_configs": connect } });
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    let http = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": name,
            "codec_type": "HTTP2",
            "http2_protocol_options": { "allow_connect": true, "max_concurrent_streams": 100 },
            "upgrade_configs": [{ "upgrade_type": "CONNECT" }],
            "http_filters": [{ "name": "router", "typed_config": router }],
            "access_log": [{ "name": "stdout", "typed_config": log }],
            "route_config": { "virtual_hosts": [{ "name": name, "domains": [app.to_string()], "routes": [route] }] },
        }),
    );
    let tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({ "require_client_certificate": true, "common_tls_context": files.tls("spiffe://cluster.local/") }),
    );
    let listener = json!({
        "name": name,
        "address": address(at),
        "filter_chains": [{
            "filters": [{ "name": "http", "typed_config": http }],
            "transport_socket": { "name": "tls", "typed_config": tls },
        }],
    });
    (listener, vec![cluster(name, app)])
}

/// HBONE out: what connects to `at` is tunnelled to `app` through `hop`, which must be `peer`.
pub(crate) fn client(
    files: &Files,
    name: &str,
    at: SocketAddr,
    hop: SocketAddr,
    app: SocketAddr,
    peer: &str,
) -> (Value, Vec<Value>) {
    let proxy = typed(
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({ "stat_prefix": name, "cluster": name, "tunneling_config": { "hostname": app.to_string() } }),
    );
    let listener = json!({
        "name": name,
        "address": address(at),
        "filter_chains": [{ "filters": [{ "name": "tcp", "typed_config": proxy }] }],
    });
    let mut cluster = cluster(name, hop);
    let tls = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        json!({ "common_tls_context": files.tls(peer) }),
    );
    cluster["transport_socket"] = json!({ "name": "tls", "typed_config": tls });
    let http2 = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({ "explicit_http_config": { "http2_protocol_options": {} } }),
    );
    cluster["typed_extension_protocol_options"] =
        json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2 });
    (listener, vec![cluster])
}

/// The cluster that a listener of that name leads to, when it is to be elsewhere.
pub(crate) fn to_cluster(name: &str, to: SocketAddr) -> Value {
    cluster(name, to)
}

/// What comes to `at` behind a PROXY header goes to `app`.
pub(crate) fn handed(name: &str, at: SocketAddr, app: SocketAddr) -> (Value, Vec<Value>) {
    let log = typed(
        "extensions.access_loggers.stream.v3.StdoutAccessLog",
        json!({ "log_format": { "text_format_source": { "inline_string":
            "HANDED from=%DOWNSTREAM_REMOTE_ADDRESS% to=%DOWNSTREAM_LOCAL_ADDRESS% identity=%DYNAMIC_METADATA(told:identity)% \
             service=%DYNAMIC_METADATA(told:service)%\n"
        } } }),
    );
    let told = |kind: u8, key: &str| json!({ "tlv_type": kind, "on_tlv_present": { "metadata_namespace": "told", "key": key } });
    let header = typed(
        "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        json!({ "rules": [told(0xD0, "identity"), told(0xD1, "service")] }),
    );
    let proxy = typed(
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({ "stat_prefix": name, "cluster": name, "access_log": [{ "name": "stdout", "typed_config": log }] }),
    );
    let listener = json!({
        "name": name,
        "address": address(at),
        "listener_filters": [{ "name": "header", "typed_config": header }],
        "filter_chains": [{ "filters": [{ "name": "tcp", "typed_config": proxy }] }],
    });
    (listener, vec![cluster(name, app)])
}

/// Runs Envoy in a pod with these listeners.
pub(crate) fn start(topology: &Topology, pod: &str, parts: Vec<(Value, Vec<Value>)>) -> Process {
    let (listeners, clusters): (Vec<Value>, Vec<Vec<Value>>) = parts.into_iter().unzip();
    let config = json!({ "static_resources": { "listeners": listeners, "clusters": clusters.concat() } });
    let path = topology.work_dir().join(format!("{pod}-envoy.json"));
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new(program());
    command.arg("--config-path").arg(path);
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warning",
        "--file-flush-interval-msec",
        "50",
    ]);
    topology.start_in_pod(pod, command).unwrap()
}

/// Envoy's program; fetched the first time.
fn program() -> PathBuf {
    let beside = bed(&[]).unwrap();
    let target = Path::new(beside.get_program()).ancestors().nth(2).unwrap().join("interop");
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/setup.sh");
    let output = Command::new(setup).arg(target).output().unwrap();
    assert!(output.status.success(), "Envoy is not there: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}
