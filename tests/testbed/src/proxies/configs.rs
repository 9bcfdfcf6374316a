//! How each proxy is told to do the same: take HTTP/1.1 and HTTP/2 in the clear, keep connections to one backend, log nothing.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::json;

use super::{Party, Proxies};

/// A path that needs no token.
pub(super) const FREE: &str = "/ready";
/// The claims of the busy variant's tokens.
const CLAIMS: [&str; 2] = ["https://issuer.example", "bench"];
/// A token with them, good until 2100. Nobody has the key any more that signed it.
const TOKEN: &str = concat!(
    "eyJhbGciOiJFZERTQSIsImtpZCI6IjEiLCJ0eXAiOiJKV1QifQ",
    ".eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYmVuY2giLCJleHAiOjQxMDI0NDQ4MDB9",
    ".0ZpwKSwXWwq6pfPP1msOJ9e5iAGjMMUghKsj97jikmG3TYmCj8DW7vh5VJBtqdoPmQmqdFzHAxPx-qEe9TArCw",
);

/// The field that the loads of a proxy carry, if it asks for one.
pub(super) fn field(party: Party) -> Option<String> {
    (party == Party::WeirBusy).then(|| format!("authorization: Bearer {TOKEN}"))
}

/// The service ours is told to serve.
const HOST: &str = "web.shop.svc.cluster.local";

/// The command that runs it in the foreground. Its configuration is written into a folder of its own.
pub(super) fn command(
    party: Party,
    proxies: &Proxies,
    work: &Path,
    backend: SocketAddr,
    [h1, h2]: [SocketAddr; 2],
) -> anyhow::Result<Command> {
    let dir = work.join(party.name());
    fs::create_dir_all(&dir)?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display())).map(|()| path)
    };
    Ok(match party {
        Party::Nginx => {
            let config = write("nginx.conf", &nginx(&dir, backend, h1, h2))?;
            let mut command = Command::new("nginx");
            command.arg("-c").arg(config).arg("-p").arg(&dir);
            command
        }
        Party::Haproxy => {
            let config = write("haproxy.cfg", &haproxy(backend, h1, h2))?;
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(config);
            command
        }
        Party::Envoy => {
            let config = write("envoy.json", &envoy(backend, h1).to_string())?;
            let mut command = Command::new(&proxies.envoy);
            command.args(["--concurrency", "1", "--log-level", "error", "--base-id", "7104", "-c"]).arg(config);
            command
        }
        Party::Weir | Party::WeirBusy => {
            let manifests = dir.join("manifests");
            fs::create_dir_all(&manifests)?;
            fs::write(manifests.join("web.yaml"), service(backend))?;
            if party == Party::WeirBusy {
                fs::write(manifests.join("busy.yaml"), busy())?;
            }
            let offset = if party == Party::Weir { 0 } else { 10 };
            let own = |port: u16| SocketAddr::new(h1.ip(), port + offset).to_string();
            let mut command = Command::new(&proxies.waypoint);
            command.args([
                "--gateway",
                "shop/waypoint",
                "--workers",
                "1",
                "--access-log",
                "off",
                "--log-level",
                "warn",
            ]);
            command.arg("--manifests").arg(manifests);
            command.arg("--plain").arg(format!("{h1}={HOST}:80"));
            command.args(["--stats-addr", &own(9_310), "--ready-addr", &own(9_311)]);
            command.args(["--admin-addr", &format!("localhost:{}", 9_312 + offset)]);
            command
        }
    })
}

fn nginx(dir: &Path, backend: SocketAddr, h1: SocketAddr, h2: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process on; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  keepalive_requests 100000000;
  http2_max_requests 100000000;
  upstream backend {{ server {backend}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen {h1}; listen {h2} http2;
    location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
"
    )
}

fn haproxy(backend: SocketAddr, h1: SocketAddr, h2: SocketAddr) -> String {
    format!(
        "global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend h1
  bind {h1}
  default_backend all
frontend h2
  bind {h2} proto h2
  default_backend all
backend all
  server one {backend} pool-max-conn 256
"
    )
}

fn envoy(backend: SocketAddr, at: SocketAddr) -> serde_json::Value {
    let address = |of: SocketAddr| json!({ "socket_address": { "address": of.ip(), "port_value": of.port() } });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "generate_request_id": false,
        "route_config": { "virtual_hosts": [
            { "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "backend" } }] },
        ] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
    });
    json!({ "static_resources": {
        "listeners": [{
            "name": "in",
            "address": address(at),
            "filter_chains": [{ "filters": [
                { "name": "envoy.filters.network.http_connection_manager", "typed_config": manager },
            ] }],
        }],
        "clusters": [{
            "name": "backend",
            "type": "STATIC",
            "load_assignment": { "cluster_name": "backend", "endpoints": [
                { "lb_endpoints": [{ "endpoint": { "address": address(backend) } }] },
            ] },
        }],
    } })
}

/// A service with the backend as its one endpoint.
fn service(backend: SocketAddr) -> String {
    let family = if backend.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: shop }}
spec: {{ clusterIP: None, ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: web-1, namespace: shop, labels: {{ kubernetes.io/service-name: web }} }}
addressType: {family}
endpoints: [{{ addresses: [\"{}\"] }}]
ports: [{{ name: http, port: {} }}]
",
        backend.ip(),
        backend.port()
    )
}

/// A hundred routes of which the last matches, tokens, and twenty policies of which the last demands one.
fn busy() -> String {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: shop }
spec:
  hosts: [web]
  http:
",
    );
    for number in 0..99 {
        let _written = write!(
            text,
            "  - match: [{{ uri: {{ prefix: /api/v{number}/ }}, headers: {{ x-group: {{ exact: g{number} }} }} }}]
    route: [{{ destination: {{ host: web }} }}]
"
        );
    }
    text.push_str("  - route: [{ destination: { host: web } }]\n");
    text.push_str(
        "---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: web, namespace: shop }
spec:
  targetRefs: [{ group: \"\", kind: Service, name: web }]
  jwtRules:
  - issuer: https://issuer.example
    jwks: '{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"1\",\"x\":\"gscf2QzZM4zLaFwjNHbZ0i_TbQOHO1ibgd8im88KxpQ\"}]}'
",
    );
    for number in 0..19 {
        let _written = write!(
            text,
            "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: p{number}, namespace: shop }}
spec:
  targetRefs: [{{ group: \"\", kind: Service, name: web }}]
  action: DENY
  rules:
  - to: [{{ operation: {{ methods: [DELETE], paths: [\"/admin/{number}/*\"] }} }}]
  - from: [{{ source: {{ namespaces: [bad-{number}] }} }}]
"
        );
    }
    let [issuer, subject] = CLAIMS;
    let _written = write!(
        text,
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: token, namespace: shop }}
spec:
  targetRefs: [{{ group: \"\", kind: Service, name: web }}]
  rules:
  - from: [{{ source: {{ requestPrincipals: [\"{issuer}/{subject}\"] }} }}]
  - to: [{{ operation: {{ paths: [{FREE}] }} }}]
"
    );
    text
}
