//! What is to be said of objects that shape requests, each in the words of its kind.

use std::{collections::BTreeMap, net::IpAddr};

use weir_compile::{Compiled, Configs, Finding, FindingReason, GatewayCondition, GatewayStatus, RouteStatus};
use weir_kube::{Condition, ListenerEntry, ParentConditions, RouteParents};
use weir_manifest::{ConfigKind, ObjectKey};

use crate::deployer::{Deployed, Problem};

/// Who says something of a route. Gateway API `RouteParentStatus.controllerName`.
pub(super) const CONTROLLER: &str = "weir.dev/waypoint-controller";
/// The condition of Istio's kinds. Istio `IstioStatus.conditions`.
pub(super) const RECONCILED: &str = "Reconciled";
/// Most a message may have, in bytes. Gateway API: `maxLength` of a condition's message.
const MAX_MESSAGE: usize = 32_768;

/// What is to be said of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shaping {
    /// Of a VirtualService, DestinationRule, ServiceEntry or Telemetry.
    Istio { condition: Condition, notes: Vec<String> },
    /// Of an HTTPRoute, GRPCRoute or TCPRoute.
    Route { parents: RouteParents, notes: Vec<String> },
    /// Of a waypoint's Gateway.
    Gateway { conditions: Vec<Condition>, listeners: Vec<ListenerEntry>, addresses: Option<Vec<IpAddr>> },
    /// Nothing in a status: the kind has none, or it is somebody else's.
    Unsaid { notes: Vec<String> },
}

impl Shaping {
    /// What its author should know, a line each.
    pub(super) fn notes(&self) -> &[String] {
        match self {
            Self::Istio { notes, .. } | Self::Route { notes, .. } | Self::Unsaid { notes } => notes,
            Self::Gateway { .. } => &[],
        }
    }

    /// The same, with what came of deploying it.
    pub(super) fn deployed(&self, deployed: &Deployed) -> Self {
        let Self::Gateway { conditions, listeners, .. } = self else { return self.clone() };
        let mut conditions = conditions.clone();
        let told = deployed.problem.as_ref().map(|problem| match problem {
            Problem::Parameters(why) => ("Accepted", "InvalidParameters", why),
            Problem::Resources(why) => ("Programmed", "NoResources", why),
        });
        if let Some((kind, reason, why)) = told
            && let Some(condition) = conditions.iter_mut().find(|condition| condition.kind == kind)
        {
            *condition = Condition { holds: false, reason, message: cut(why.clone()), ..condition.clone() };
        }
        Self::Gateway { conditions, listeners: listeners.clone(), addresses: deployed.addresses.clone() }
    }
}

/// What is to be said of each object.
pub(super) fn of(compiled: &Compiled, configs: &Configs) -> BTreeMap<ObjectKey, Shaping> {
    let mut findings: BTreeMap<ObjectKey, Vec<&Finding>> = BTreeMap::new();
    for finding in &compiled.findings {
        if let Some(key) = key(&finding.kind, &finding.namespace, &finding.name) {
            findings.entry(key).or_default().push(finding);
        }
    }
    let mut all = BTreeMap::new();
    for (key, object) in configs.all().filter(|(_, object)| is_istio(object.kind)) {
        let condition = reconciled(object.generation, &[]);
        all.insert(key.clone(), Shaping::Istio { condition, notes: Vec::new() });
    }
    for status in &compiled.statuses {
        if let Some(key) = key(&status.kind, &status.namespace, &status.name) {
            all.insert(key, route(status));
        }
    }
    for status in &compiled.gateways {
        if let Some(key) = key(ConfigKind::Gateway.name(), &status.namespace, &status.name) {
            all.insert(key, gateway(status));
        }
    }
    for (key, findings) in findings {
        let notes = findings.iter().map(ToString::to_string).collect();
        let kind = ConfigKind::ALL.into_iter().find(|kind| kind.name() == &*key.kind);
        let said = match kind {
            Some(kind) if is_istio(kind) => {
                let generation = findings.iter().filter_map(|finding| finding.generation).max();
                Shaping::Istio { condition: reconciled(generation, &findings), notes }
            }
            Some(ConfigKind::HttpRoute | ConfigKind::GrpcRoute | ConfigKind::TcpRoute) => {
                let invalid = findings.iter().find(|finding| finding.reason == FindingReason::Invalid);
                let before = all.remove(&key);
                match (invalid, before) {
                    (None, Some(Shaping::Route { parents, .. })) => Shaping::Route { parents, notes },
                    (Some(finding), _) => Shaping::Route { parents: illegal(finding), notes },
                    (None, _) => Shaping::Unsaid { notes },
                }
            }
            Some(_) | None => match all.remove(&key) {
                Some(gateway @ Shaping::Gateway { .. }) => gateway,
                Some(Shaping::Istio { .. } | Shaping::Route { .. } | Shaping::Unsaid { .. }) | None => {
                    Shaping::Unsaid { notes }
                }
            },
        };
        all.insert(key, said);
    }
    all
}

fn key(kind: &str, namespace: &str, name: &str) -> Option<ObjectKey> {
    Some(ObjectKey { kind: kind.into(), namespace: Some(namespace.parse().ok()?), name: name.into() })
}

fn is_istio(kind: ConfigKind) -> bool {
    match kind {
        ConfigKind::VirtualService | ConfigKind::DestinationRule | ConfigKind::ServiceEntry | ConfigKind::Telemetry => {
            true
        }
        ConfigKind::Gateway
        | ConfigKind::HttpRoute
        | ConfigKind::GrpcRoute
        | ConfigKind::TcpRoute
        | ConfigKind::ReferenceGrant => false,
    }
}

/// Whether an object does what it says: not, if there is anything to be told about it. The reason is that of the worst.
fn reconciled(generation: Option<i64>, findings: &[&Finding]) -> Condition {
    let told = |finding: &&Finding| match finding.field.is_empty() {
        true => finding.message.clone(),
        false => format!("{}: {}", finding.field, finding.message),
    };
    let reason = findings.iter().map(|finding| finding.reason).min();
    Condition {
        kind: RECONCILED,
        holds: findings.is_empty(),
        reason: reason.map_or("AsWritten", FindingReason::as_str),
        message: cut(findings.iter().map(told).collect::<Vec<_>>().join("; ")),
        generation,
    }
}

fn route(status: &RouteStatus) -> Shaping {
    let parents = status.parents.iter().map(|parent| ParentConditions {
        parent: parent.parent,
        conditions: parent
            .conditions
            .iter()
            .map(|one| Condition {
                kind: one.kind.as_str(),
                holds: one.holds,
                reason: one.reason.as_str(),
                message: cut(one.message.clone()),
                generation: status.generation,
            })
            .collect(),
    });
    let refused = status.parents.iter().flat_map(|parent| parent.conditions.iter().filter(|one| !one.holds));
    let RouteStatus { kind, namespace, name, .. } = status;
    let notes = refused.map(|one| {
        format!("{kind} {namespace}/{name}: {} {}: {}", one.kind.as_str(), one.reason.as_str(), one.message)
    });
    Shaping::Route { notes: notes.collect(), parents: RouteParents::Listed(status.generation, parents.collect()) }
}

/// What is said of a route that cannot be read.
fn illegal(finding: &Finding) -> RouteParents {
    RouteParents::All(vec![Condition {
        kind: "Accepted",
        holds: false,
        reason: "UnsupportedValue",
        message: cut(finding.message.clone()),
        generation: finding.generation,
    }])
}

fn gateway(status: &GatewayStatus) -> Shaping {
    let of = |conditions: &[GatewayCondition]| -> Vec<Condition> {
        let made = |one: &GatewayCondition| Condition {
            kind: one.kind.as_str(),
            holds: one.holds,
            reason: one.reason.as_str(),
            message: cut(one.message.clone()),
            generation: status.generation,
        };
        conditions.iter().map(made).collect()
    };
    let listeners = status.listeners.iter().map(|one| ListenerEntry {
        name: one.name.clone(),
        supported_kinds: one.supported_kinds.clone(),
        attached_routes: one.attached_routes,
        conditions: of(&one.conditions),
    });
    Shaping::Gateway { conditions: of(&status.conditions), listeners: listeners.collect(), addresses: None }
}

/// As much of a message as may be written.
fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    message
}

#[cfg(test)]
mod tests {
    use weir_compile::{ClusterDomain, Compiler, Settings, default_root_namespace};
    use weir_manifest::{FileName, Kind, Object, Sent};
    use weir_model::{Network, TrustDomain};

    use super::*;

    fn object(kind: Kind, json: &str) -> Object {
        let sent: Sent = serde_json::from_str(json).unwrap();
        sent.read(kind, &FileName::new("told")).unwrap()
    }

    /// What is said of each object that JSON says, as text.
    fn said(objects: &[(ConfigKind, &str)]) -> Vec<(String, String)> {
        let mut compiler = Compiler::new(Settings {
            trust_domain: TrustDomain::default(),
            cluster: "Kubernetes".parse().unwrap(),
            network: Network::default(),
            node: None,
            cluster_domain: ClusterDomain::default(),
            root_namespace: default_root_namespace(),
        });
        for (kind, json) in objects {
            compiler.set(object(Kind::Config(*kind), json));
        }
        compiler.take();
        let text = |one: Shaping| match one {
            Shaping::Istio { condition, .. } => {
                format!("{}={} {:?}", condition.reason, condition.holds, condition.generation)
            }
            Shaping::Route { parents: RouteParents::Listed(generation, parents), .. } => {
                format!("{} parents {generation:?}", parents.len())
            }
            Shaping::Route { parents: RouteParents::All(conditions), .. } => {
                format!("all {} {:?}", conditions[0].reason, conditions[0].generation)
            }
            Shaping::Gateway { conditions, listeners, .. } => format!("{} {}", conditions.len(), listeners.len()),
            Shaping::Unsaid { notes } => format!("{} notes", notes.len()),
        };
        let all = of(&compiler.routes(), compiler.configs());
        all.into_iter().map(|(key, one)| (key.to_string(), text(one))).collect()
    }

    #[test]
    fn each_kind_is_told_in_its_own_words_and_of_its_own_generation() {
        let virtual_service = |generation: u32, hosts: &str| {
            format!(
                r#"{{"metadata":{{"name":"v","namespace":"shop","generation":{generation}}},"spec":{{"hosts":{hosts},"http":[{{"directResponse":{{"status":404}}}}]}}}}"#
            )
        };
        let (legal, illegal) = (virtual_service(1, r#"["web"]"#), virtual_service(2, "7"));
        let rule = r#"{"metadata":{"name":"d","namespace":"shop","generation":5},"spec":{"host":"web.shop.svc.cluster.local"}}"#;
        let route = r#"{"metadata":{"name":"r","namespace":"shop","generation":3},"spec":{"parentRefs":[{"group":"","kind":"Service","name":"web"}]}}"#;
        let bad = r#"{"metadata":{"name":"r","namespace":"shop","generation":4},"spec":{"parentRefs":[{"group":"","kind":"Service","name":"web"}],"rules":1}}"#;
        let gateway = r#"{"metadata":{"name":"g","namespace":"shop"},"spec":{"gatewayClassName":"istio-waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE"}]}}"#;
        let (vs, http) = (ConfigKind::VirtualService, ConfigKind::HttpRoute);
        for (objects, want) in [
            (vec![(vs, &*illegal)], vec![("VirtualService/shop/v", "Invalid=false Some(2)")]),
            // What it was stays in force, and its status is of what it is.
            (vec![(vs, &*legal), (vs, &*illegal)], vec![("VirtualService/shop/v", "Invalid=false Some(2)")]),
            (vec![(http, route)], vec![("HTTPRoute/shop/r", "1 parents Some(3)")]),
            (vec![(http, route), (http, bad)], vec![("HTTPRoute/shop/r", "all UnsupportedValue Some(4)")]),
            (vec![(ConfigKind::Gateway, gateway)], vec![("Gateway/shop/g", "2 1")]),
            (vec![(ConfigKind::DestinationRule, rule)], vec![("DestinationRule/shop/d", "UnknownHost=false Some(5)")]),
        ] {
            let want: Vec<_> = want.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
            assert_eq!(said(&objects), want, "{objects:?}");
        }
    }

    #[test]
    fn why_a_waypoint_is_not_deployed_stands_in_the_condition_that_it_denies() {
        let condition =
            |kind| Condition { kind, holds: true, reason: "Old", message: "old".to_owned(), generation: Some(3) };
        let said = Shaping::Gateway {
            conditions: vec![condition("Accepted"), condition("Programmed")],
            listeners: Vec::new(),
            addresses: None,
        };
        let reached = vec!["fd00::7".parse().unwrap()];
        for (problem, want) in [
            (None, ["Old true", "Old true"]),
            (Some(Problem::Parameters("p".to_owned())), ["InvalidParameters false", "Old true"]),
            (Some(Problem::Resources("r".to_owned())), ["Old true", "NoResources false"]),
        ] {
            let deployed = Deployed { addresses: Some(reached.clone()), problem };
            let Shaping::Gateway { conditions, addresses, .. } = said.deployed(&deployed) else { panic!("a Gateway") };
            let told: Vec<_> = conditions.iter().map(|one| format!("{} {}", one.reason, one.holds)).collect();
            assert_eq!((told, addresses), (want.map(str::to_owned).to_vec(), Some(reached.clone())), "{deployed:?}");
            assert!(conditions.iter().all(|one| one.generation == Some(3)));
        }
    }

    #[test]
    fn a_message_is_cut_where_a_letter_ends() {
        let long = format!("{}é", "x".repeat(MAX_MESSAGE - 1));
        assert_eq!(cut(long).len(), MAX_MESSAGE - 1);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
