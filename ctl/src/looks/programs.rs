//! Programs of a small mesh, as far as their admin servers show them: lists come from the code that an agent lists by.

use std::path::Path;

use serde_json::{Value, json};
use weir_explain::{
    Scene,
    listing::{self, Part},
};

use crate::{cli::Arguments, place::Seen, scene::Manifests, testing::Canned};

/// As programs of this version say it.
const OWN: &str = crate::version::OWN;

/// The field of a query, decoded as far as tests need it.
fn field(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%2F", "/").replace("%2C", ",").replace("%3D", "="))
}

fn manifests(folder: &Path) -> Manifests {
    let words = ["weirctl", "status", "-f", folder.to_str().unwrap()];
    let arguments: Arguments = clap::Parser::try_parse_from(words).unwrap();
    let crate::cli::Task::Status(look) = arguments.task else { panic!("no status") };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(look.place.seen()).unwrap() {
        Seen::Folder(folder) => *folder,
        Seen::Live(_) => panic!("no folder"),
    }
}

/// A program: what its pages say, by path; the last one to be asked is the one that knows the query.
fn serve(pages: impl Fn(&str, &str) -> Option<Value> + Send + 'static) -> Canned {
    Canned::new(move |target| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/logging" {
            return match field(query, "level").as_deref() {
                Some("nonsense") => (400, "\"nonsense\" is no level: expected off, error, warn, info, debug or trace, or target=level such as weir_hbone=debug\n".to_owned()),
                Some(filter) => (200, format!("current log filter: {filter}\n")),
                None => (200, "current log filter: info\n".to_owned()),
            };
        }
        match pages(path, query) {
            Some(page) => (200, page.to_string()),
            None => (404, "there is no such page\n".to_owned()),
        }
    })
}

/// The agent of `node1`, which is as it should be. Its lists come two items at a time.
pub(super) fn agent(folder: &Path) -> Canned {
    let known = manifests(folder);
    serve(move |path, query| {
        let (namespace, name, after) = (field(query, "namespace"), field(query, "name"), field(query, "after"));
        let fields = [namespace.as_deref(), name.as_deref(), after.as_deref(), Some("2")];
        let part = || Part::read(fields).unwrap();
        Some(match path {
            "/debug/summary" => agent_summary(),
            "/debug/workloads" => listing::workloads(known.world(), &part()),
            "/debug/services" => listing::services(known.world(), &part()),
            "/debug/policies" => listing::policies(known.world(), &part()),
            "/debug/connections" if after.is_none() => json!({ "items": [connection(40_000)], "next": "1.0" }),
            "/debug/connections" => json!({ "items": [connection(40_001)], "next": null }),
            "/debug/refusals" => refusals(),
            "/config_dump" => json!({ "version": OWN, "node": "node1" }),
            _ => return None,
        })
    })
}

fn agent_summary() -> Value {
    let pod = |uid: &str, state: &str, reason: Value, policies: Value| json!({ "uid": uid, "state": state, "reason": reason, "policies": policies });
    json!({
        "component": "weir-agent",
        "version": OWN,
        "name": "node1",
        "config": { "generation": 7, "loadedAt": "2026-01-01T00:00:00Z", "rejectedAt": null, "errors": [], "withoutEffect": [] },
        "control": { "connected": true, "lastHeard": "2026-01-01T00:00:00Z", "lastLost": null },
        "workloads": 5,
        "pods": [
            pod("Kubernetes//v1/Pod/shop/cart-1", "Enrolled", Value::Null, json!(["shop/from-gate", "shop/strict"])),
            pod("Kubernetes//v1/Pod/shop/gate-1", "Enrolled", Value::Null, json!(["shop/strict"])),
            pod("Kubernetes//v1/Pod/default/legacy", "Skipped", json!("not asked for by a label"), json!([])),
        ],
        "certificates": [
            { "identity": "spiffe://cluster.local/ns/shop/sa/cart", "state": "Valid", "serialNumber": "1f",
              "validFrom": "2026-01-01T00:00:00Z", "expirationTime": "2999-01-01T00:00:00Z", "lastFailure": null },
            { "identity": "spiffe://cluster.local/ns/shop/sa/gate", "state": "Valid", "serialNumber": "20",
              "validFrom": "2026-01-01T00:00:00Z", "expirationTime": "2999-01-01T00:00:00Z", "lastFailure": null },
        ],
    })
}

fn connection(port: u16) -> Value {
    json!({
        "direction": "inbound",
        "source": { "address": format!("10.0.2.2:{port}"), "namespace": "front", "workload": "web", "identity": "spiffe://cluster.local/ns/front/sa/web" },
        "destination": { "address": "10.0.1.1:8080", "namespace": "shop", "workload": "cart-1", "identity": "spiffe://cluster.local/ns/shop/sa/cart" },
        "service": null,
        "protocol": "HBONE",
        "target": "10.0.1.1:8080",
        "seconds": 61,
        "bytesSent": 1_024,
        "bytesReceived": 7,
    })
}

/// Two by the same client for the same reason, one by somebody nobody knows, who sends what a terminal should not see.
fn refusals() -> Value {
    let denied = |at: &str, port: u16| {
        json!({
            "at": at,
            "direction": "inbound",
            "source": { "address": format!("10.0.2.2:{port}"), "namespace": "front", "workload": "web", "identity": "spiffe://cluster.local/ns/front/sa/web" },
            "destination": { "address": "10.0.1.1:8080", "namespace": "shop", "workload": "cart-1", "identity": "spiffe://cluster.local/ns/shop/sa/cart" },
            "service": "cart.shop.svc.cluster.local",
            "flag": "UAEX",
            "reason": "no rule of AuthorizationPolicy shop/from-gate matches",
            "policy": { "kind": "AuthorizationPolicy", "namespace": "shop", "name": "from-gate" },
            "remedy": "a rule of AuthorizationPolicy shop/from-gate, or of another ALLOW policy there, with from.source.principals: [\"cluster.local/ns/front/sa/web\"]",
        })
    };
    let stranger = json!({
        "at": "2026-01-01T00:00:02.2Z",
        "direction": "inbound",
        "source": { "address": "10.9.9.9:1234", "namespace": null, "workload": null, "identity": null },
        "destination": { "address": "10.0.1.1:15008", "namespace": "shop", "workload": "cart-1", "identity": "spiffe://cluster.local/ns/shop/sa/cart" },
        "service": null,
        "flag": "-",
        "reason": "\u{1b}[2Jpeer sent no certificate",
        "policy": null,
        "remedy": null,
    });
    json!({
        "refusals": [denied("2026-01-01T00:00:01Z", 40_000), stranger, denied("2026-01-01T00:00:03Z", 40_001)],
        "cursor": "1.3", "forgotten": 4, "leftOut": 0,
    })
}

/// The agent of `node2`: of another version, without its control plane, with a pod it cannot catch, a certificate that is over and one that never came.
pub(super) fn other_agent() -> Canned {
    serve(|path, _| {
        Some(match path {
            "/debug/summary" => json!({
                "component": "weir-agent",
                "version": "0.0.9",
                "name": "node2",
                "config": { "generation": 3, "loadedAt": "2026-01-01T00:00:00Z", "rejectedAt": "2026-01-01T01:00:00Z", "errors": ["a.yaml:3: no", "b.yaml:1: no"], "withoutEffect": [] },
                "control": { "connected": false, "lastHeard": null, "lastLost": { "at": "2026-01-01T01:00:00Z", "reason": "connection refused" } },
                "workloads": 5,
                "pods": [
                    { "uid": "Kubernetes//v1/Pod/front/web", "state": "Failing", "reason": "no such namespace", "policies": [] },
                    { "uid": "Kubernetes//v1/Pod/shop/cart-2", "state": "Leaving", "reason": null, "policies": [] },
                ],
                "certificates": [
                    { "identity": "spiffe://cluster.local/ns/shop/sa/cart", "state": "Valid", "serialNumber": "21",
                      "validFrom": "2020-01-01T00:00:00Z", "expirationTime": "2020-01-02T00:00:00Z", "lastFailure": "the CA is not there" },
                    { "identity": "spiffe://cluster.local/ns/front/sa/web", "state": "Waiting", "serialNumber": null,
                      "validFrom": null, "expirationTime": null, "lastFailure": null },
                ],
            }),
            "/debug/connections" => json!({ "items": [], "next": null }),
            "/debug/refusals" => json!({ "refusals": [], "cursor": "1.0", "forgotten": 0, "leftOut": 0 }),
            _ => return None,
        })
    })
}

/// The waypoint `shop/gate`.
pub(super) fn waypoint() -> Canned {
    serve(|path, _| {
        Some(match path {
            "/debug/summary" => json!({
                "component": "weir-waypoint", "version": OWN, "name": "shop/gate",
                "config": { "generation": 7, "rejectedAt": null, "errors": [] },
                "control": { "connected": true, "lastHeard": null, "lastLost": null },
                "workloads": 3, "hosts": 1, "certificates": [],
            }),
            "/config_dump" => json!({
                "version": OWN, "gateway": "shop/gate",
                "config": { "generation": 7, "loadedAt": "2026-01-01T00:00:00Z", "errors": [], "findings": ["VirtualService shop/cart: mirror has no effect"] },
                "hosts": [{
                    "service": "shop/cart.shop.svc.cluster.local",
                    "routes": [{ "kind": "HTTPRoute", "namespace": "shop", "name": "cart", "rules": 1 }],
                    "destinationRule": null, "subsets": ["v1", "v2"], "refused": null,
                }],
            }),
            "/debug/refusals" => json!({
                "refusals": [{
                    "at": "2026-01-01T00:00:02.25Z",
                    "direction": "waypoint",
                    "source": { "address": "10.0.2.2:40000", "namespace": "front", "workload": "web", "identity": "spiffe://cluster.local/ns/front/sa/web" },
                    "destination": { "address": "10.96.0.1:80" },
                    "service": "cart.shop.svc.cluster.local:80",
                    "request": "GET cart.shop/items", "status": 403, "flag": "-",
                    "reason": "rbac_access_denied_matched_policy[ns[shop]-policy[no-web]-rule[0]]",
                    "policy": { "kind": "AuthorizationPolicy", "namespace": "shop", "name": "no-web" },
                    "remedy": "take it out of what AuthorizationPolicy shop/no-web denies: a DENY always wins",
                }],
                "cursor": "1.1", "forgotten": 0, "leftOut": 2,
            }),
            _ => return None,
        })
    })
}

/// A control plane, one of whose two subscribers refuses what it was sent.
pub(super) fn control() -> Canned {
    serve(|path, _| {
        let good = json!({ "inSync": true, "refused": null });
        let bad = json!({ "inSync": false, "refused": { "nonce": "2", "reason": "unknown field" } });
        let waiting = json!({ "inSync": false, "refused": null });
        Some(match path {
            "/debug/summary" => json!({
                "component": "weir-control", "version": OWN, "name": "weir-control-0",
                "config": { "generation": 12, "refused": 1, "notFollowed": ["Telemetry"] },
            }),
            "/debug/syncz" => json!([
                { "proxy": "node1", "types": { "type.googleapis.com/istio.workload.Address": good, "type.googleapis.com/istio.security.Authorization": waiting } },
                { "proxy": "node2", "types": { "type.googleapis.com/istio.workload.Address": bad } },
            ]),
            _ => return None,
        })
    })
}

/// What is no program of ours.
pub(super) fn foreign() -> Canned {
    Canned::new(|_| (404, "404 page not found\n".to_owned()))
}
