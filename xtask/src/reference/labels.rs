//! Labels and annotations that objects of users and nodes may have.

use std::collections::BTreeSet;

use super::{Found, WRITTEN, compare};
use crate::finding::Finding;

const TABLE: &str = "xtask/src/reference/labels.rs";

/// Where one stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Label,
    Annotation,
    /// One that Weir writes.
    Written,
}

/// Key, what it is, on which objects, what it does.
const ROWS: &[(&str, Is, &str, &str)] = &[
    (
        "istio.io/dataplane-mode",
        Is::Label,
        "Namespace, Pod",
        "`ambient`: its pods are in the mesh. `none`: they are not. A pod's own counts before its namespace's",
    ),
    (
        "istio.io/use-waypoint",
        Is::Label,
        "Namespace, Service, Pod, ServiceEntry",
        "the waypoint that stands before it, or `none`. The narrowest counts",
    ),
    (
        "istio.io/use-waypoint-namespace",
        Is::Label,
        "Namespace, Service, Pod, ServiceEntry",
        "where that waypoint is, if it is elsewhere",
    ),
    (
        "istio.io/waypoint-for",
        Is::Label,
        "Gateway",
        "what a waypoint serves: `service` (without the label), `workload`, `all` or `none`",
    ),
    (
        "weir.dev/waypoint",
        Is::Label,
        "Namespace, Service, Pod",
        "`required`: nobody but the waypoint may enter its pods",
    ),
    ("topology.istio.io/network", Is::Label, "Pod", "the network it is in"),
    (
        "service.istio.io/canonical-name",
        Is::Label,
        "Pod, ServiceEntry",
        "the canonical service in metrics and logs; without it `app.kubernetes.io/name`, then `app`",
    ),
    (
        "service.istio.io/canonical-revision",
        Is::Label,
        "Pod, ServiceEntry",
        "its revision; without it `app.kubernetes.io/version`, then `version`",
    ),
    (
        "service.istio.io/workload-name",
        Is::Label,
        "Pod",
        "the workload in metrics and logs, instead of its controller's name",
    ),
    ("app.kubernetes.io/name", Is::Label, "Pod, ServiceEntry", "the canonical service, see above"),
    ("app.kubernetes.io/version", Is::Label, "Pod, ServiceEntry", "the canonical revision, see above"),
    ("networking.istio.io/tunnel", Is::Label, "endpoints of a ServiceEntry", "`http`: it is reached over HBONE"),
    ("networking.istio.io/enable-autoallocate-ip", Is::Label, "ServiceEntry", "`false`: no address is made up for it"),
    (
        "gateway.networking.k8s.io/gateway-name",
        Is::Label,
        "Pod",
        "whose Gateway's pod it is: how a waypoint's pods are known",
    ),
    (
        "kubernetes.io/metadata.name",
        Is::Label,
        "Namespace",
        "its name, for `selector` and `from` of the Gateway API: known even when not sent",
    ),
    ("kubernetes.io/service-name", Is::Label, "EndpointSlice", "the service whose endpoints it has"),
    ("topology.kubernetes.io/region", Is::Label, "Node", "its region"),
    ("topology.kubernetes.io/zone", Is::Label, "Node", "its zone"),
    ("topology.istio.io/subzone", Is::Label, "Node", "its subzone"),
    ("failure-domain.beta.kubernetes.io/region", Is::Label, "Node", "its region, as old clusters say it"),
    ("failure-domain.beta.kubernetes.io/zone", Is::Label, "Node", "its zone, as old clusters say it"),
    (
        "istio.io/dry-run",
        Is::Annotation,
        "AuthorizationPolicy",
        "`true`: it decides nothing, and what it would have decided is counted and logged",
    ),
    (
        "weir.dev/netns",
        Is::Annotation,
        "Pod",
        "the path of its network namespace, where no container runtime tells the agent",
    ),
    ("sidecar.istio.io/status", Is::Annotation, "Pod", "it has a sidecar: it is not caught"),
    (
        "ambient.istio.io/waypoint-inbound-binding",
        Is::Annotation,
        "Gateway, GatewayClass",
        "`PROXY/PORT`: connections are handed to it with a PROXY header",
    ),
    (
        "kubectl.kubernetes.io/last-applied-configuration",
        Is::Annotation,
        "any",
        "never kept: it may hold what a Secret held",
    ),
    (
        "galley.istio.io/analyze-suppress",
        Is::Annotation,
        "any",
        "codes, separated by commas, that `weirctl analyze` does not tell of this object; `*` is all",
    ),
    (
        "gateway.networking.k8s.io/gateway-class-name",
        Is::Written,
        "what a waypoint is made of",
        "the class of its Gateway, beside `gateway.networking.k8s.io/gateway-name`",
    ),
    (
        "gateway.istio.io/managed",
        Is::Written,
        "what a waypoint is made of",
        "`istio.io-mesh-controller`: by this tools find waypoints",
    ),
    ("app.kubernetes.io/part-of", Is::Written, "what a waypoint is made of", "`weir`"),
    ("ambient.istio.io/redirection", Is::Written, "Pod", "`enabled` while an agent has caught it"),
];

/// What looks like one and is none: conditions of statuses, names of controllers, what is said on the wire or in a token.
const OTHERS: &[&str] = &[
    "weir.dev/Enforced",
    "istio.io/WaypointBound",
    "weir.dev/waypoint-controller",
    "istio.io/mesh-controller",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "weir.dev/policy",
    "weir.dev/incarnation",
    "weir.dev/unsupported",
    "weir.dev/seen-in",
    "istio.io/PROXY",
    "kubernetes.io/h2c",
    "kubernetes.io/ws",
    "kubernetes.io/wss",
    "authentication.kubernetes.io/node-name",
    "authentication.kubernetes.io/pod-name",
];

/// The page; names without a row, and rows without a name, are findings.
pub(super) fn page(found: &[Found], findings: &mut Vec<Finding>) -> String {
    let keys: Vec<&Found> = found.iter().filter(|one| is_key(&one.literal.text)).collect();
    let rows = ROWS.iter().map(|(key, ..)| *key).chain(OTHERS.iter().copied()).collect::<BTreeSet<_>>();
    compare(&keys, &rows, TABLE, findings);
    let mut page = format!(
        "# Labels and annotations

{WRITTEN} These are all that Weir reads or writes.
"
    );
    for (is, title) in [(Is::Label, "Labels"), (Is::Annotation, "Annotations"), (Is::Written, "Written by Weir")] {
        page += &format!("\n## {title}\n\n| key | on | |\n| --- | --- | --- |\n");
        for (key, _, on, what) in ROWS.iter().filter(|(_, one, ..)| *one == is) {
            page += &format!("| `{key}` | {on} | {what} |\n");
        }
    }
    page
}

/// Whether it is written as a key of ours, Istio's or Kubernetes' is. Versions of APIs are not.
fn is_key(text: &str) -> bool {
    let Some((prefix, name)) = text.split_once('/') else { return false };
    let ours = ["istio.io", "weir.dev", "kubernetes.io", "k8s.io"];
    let is_prefix = ours.iter().any(|one| prefix == *one || prefix.ends_with(&format!(".{one}")));
    let is_version = name.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    is_prefix && !is_version && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
