//! Envoy and our waypoint in a namespace of their own, each with a listener and a backend for every lane, and nothing between.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weir_netlink::{NetNs, Rtnl};
use weir_testbed::{Process, binary};

use crate::backend::Backend;
use crate::talk::{Lane, Side};

/// How many cases are under way at once.
pub(crate) const LANES: u16 = 8;
const PATIENCE: Duration = Duration::from_secs(60);
const ENVOY: u16 = 10_000;
const WEIR: u16 = 11_000;
const BEHIND_ENVOY: u16 = 12_000;
const BEHIND_WEIR: u16 = 13_000;
const READY: u16 = 15_021;

/// The proxies, until dropped.
pub(crate) struct Proxies {
    envoy: Mutex<Process>,
    weir: Mutex<Process>,
    place: Place,
}

/// Where they are.
struct Place {
    netns: NetNs,
    path: PathBuf,
    dir: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Both are of this run alone: what is left of them harms no other.
        let _left = (NetNs::delete(&self.path), fs::remove_dir_all(&self.dir));
    }
}

/// One family in one lane, the other in the next.
fn at(port: u16, lane: u16) -> SocketAddr {
    let ip: IpAddr = if lane.is_multiple_of(2) { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(ip, port + lane)
}

impl Proxies {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let name = format!("weir-requests-{}", std::process::id());
        let (path, dir) = (Path::new("/run/netns").join(&name), std::env::temp_dir().join(&name));
        fs::create_dir_all("/run/netns")?;
        fs::create_dir_all(&dir)?;
        let place = Place { netns: NetNs::create(&path)?, path, dir };
        place.netns.run(|| Rtnl::new()?.set_up("lo"))??;
        let mut envoy = Process::start(&place.netns, "envoy", envoy(&place.dir)?, &place.dir)?;
        let mut weir = Process::start(&place.netns, "weir", weir(&place.dir)?, &place.dir)?;
        let ready = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), READY);
        weir.wait_ready(ready, "/healthz/ready", PATIENCE)?;
        for lane in 0..LANES {
            envoy.wait_listening(at(ENVOY, lane), PATIENCE)?;
            weir.wait_listening(at(WEIR, lane), PATIENCE)?;
        }
        Ok(Self { envoy: Mutex::new(envoy), weir: Mutex::new(weir), place })
    }

    /// Enters the namespace, for good, with the thread that calls.
    pub(crate) fn lane(&self, lane: u16) -> anyhow::Result<Lane> {
        nix::sched::setns(&self.place.netns, nix::sched::CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
        let side = |proxy: u16, behind: u16| -> anyhow::Result<Side> {
            Ok(Side { at: at(proxy, lane), backend: Backend::listen(at(behind, lane))? })
        };
        Ok(Lane { envoy: side(ENVOY, BEHIND_ENVOY)?, ours: side(WEIR, BEHIND_WEIR)? })
    }

    /// Neither has ended over what it was sent, and ours has not panicked.
    pub(crate) fn are_alive(&self) -> anyhow::Result<()> {
        for process in [&self.envoy, &self.weir] {
            let mut process = process.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            ensure!(process.is_running()? && !process.log().contains("panicked"), "{}", process.log());
        }
        Ok(())
    }
}

fn weir(dir: &Path) -> anyhow::Result<Command> {
    let manifests = dir.join("manifests");
    fs::create_dir_all(&manifests)?;
    let mut command = Command::new(binary("weir-waypoint")?);
    command.args(["--gateway", "shop/waypoint", "--workers", "1", "--access-log", "off", "--log-level", "warn"]);
    command.arg("--manifests").arg(&manifests);
    for lane in 0..LANES {
        let backend = at(BEHIND_WEIR, lane);
        let family = if backend.is_ipv4() { "IPv4" } else { "IPv6" };
        let service = format!(
            "apiVersion: v1
kind: Service
metadata: {{ name: web{lane}, namespace: shop }}
spec: {{ clusterIP: None, ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: web{lane}-1, namespace: shop, labels: {{ kubernetes.io/service-name: web{lane} }} }}
addressType: {family}
endpoints: [{{ addresses: [\"{}\"] }}]
ports: [{{ name: http, port: {} }}]
",
            backend.ip(),
            backend.port()
        );
        fs::write(manifests.join(format!("web{lane}.yaml")), service)?;
        command.arg("--plain").arg(format!("{}=web{lane}.shop.svc.cluster.local:80", at(WEIR, lane)));
    }
    command.args(["--ready-addr", &format!("127.0.0.1:{READY}"), "--stats-addr", "127.0.0.1:15020"]);
    Ok(command)
}

fn envoy(dir: &Path) -> anyhow::Result<Command> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/setup.sh");
    let target = binary("weir-waypoint")?.ancestors().nth(2).context("the folder of what is built")?.join("interop");
    let output = Command::new(program).arg(target).output()?;
    ensure!(output.status.success(), "Envoy is not there: {}", String::from_utf8_lossy(&output.stderr));
    let config = dir.join("envoy.json");
    let lanes = 0..LANES;
    let (listeners, clusters): (Vec<Value>, Vec<Value>) = lanes.map(|lane| (listener(lane), cluster(lane))).unzip();
    // As Istio's bootstrap has it: what is behind `#` is cut off, not refused.
    let settings = json!({ "envoy.reloadable_features.http_reject_path_with_fragment": false });
    let text = json!({
        "static_resources": { "listeners": listeners, "clusters": clusters },
        "layered_runtime": { "layers": [{ "name": "istio", "static_layer": settings }] },
    });
    fs::write(&config, text.to_string())?;
    let mut command = Command::new(String::from_utf8(output.stdout)?.trim_end());
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--config-path"]).arg(config);
    Ok(command)
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip(), "port_value": at.port() } })
}

fn cluster(lane: u16) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(at(BEHIND_ENVOY, lane)) } });
    json!({
        "name": format!("web{lane}"),
        "connect_timeout": "10s",
        "load_assignment": { "cluster_name": format!("web{lane}"), "endpoints": [{ "lb_endpoints": [endpoint] }] },
    })
}

/// What Istio sets for HTTP in a waypoint: the path normalised (BASE), nobody's address trusted or told, `server` passed on, WebSocket allowed, no
/// time limit, and its retries.
fn listener(lane: u16) -> Value {
    let route = json!({
        "cluster": format!("web{lane}"),
        "timeout": "0s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
            "num_retries": 2,
            "host_selection_retry_max_attempts": "5",
        },
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "normalize_path": true,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "use_remote_address": false,
        "server_header_transformation": "PASS_THROUGH",
        "preserve_external_request_id": true,
        "stream_idle_timeout": "0s",
        // How long it listens on after it has refused: 1 s is longer than a test has.
        "delayed_close_timeout": "0.1s",
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "include_request_attempt_count": true, "routes": [
            { "match": { "prefix": "/" }, "route": route },
        ] }] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
    });
    json!({
        "name": format!("web{lane}"),
        "address": address(at(ENVOY, lane)),
        "filter_chains": [{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] }],
    })
}
