//! Whom a pod is left to, by every way to say it.

use weir_manifest::{Backing, FileName, Origin};
use weir_model::HealthPolicy;

use super::*;

fn settings() -> Settings {
    Settings {
        trust_domain: "td".parse().unwrap(),
        cluster: "c".parse().unwrap(),
        network: "".parse().unwrap(),
        node: None,
        cluster_domain: Default::default(),
        root_namespace: crate::default_root_namespace(),
    }
}

/// `w`, `b/w`, `none` or nothing, with a `!` behind it where a waypoint is required.
fn bond(text: &str) -> WaypointLabels {
    let required = text.ends_with('!');
    let uses = match text.trim_end_matches('!') {
        "" => None,
        "none" => Some(WaypointUse::None),
        name => {
            let (namespace, name) = name.split_once('/').map_or((None, name), |(one, name)| (Some(one), name));
            Some(WaypointUse::Gateway { namespace: namespace.map(|one| one.parse().unwrap()), name: name.into() })
        }
    };
    WaypointLabels { uses, required }
}

fn service(waypoint: &str) -> ServiceObject {
    ServiceObject {
        origin: Origin { file: FileName::new("f"), document: 1, line: 1 },
        namespace: "a".parse().unwrap(),
        name: "s".into(),
        waypoint: bond(waypoint),
        cluster_ips: Vec::new(),
        external_ips: Vec::new(),
        selector: Default::default(),
        ports: Vec::new(),
        health_policy: HealthPolicy::OnlyReady,
        backing: Backing::Endpoints,
    }
}

#[test]
fn what_requires_a_waypoint_leaves_the_pod_to_those_it_is_bound_to() {
    let unbound = Some(("required_waypoint_unbound", ""));
    let w = Some(("required_waypoint_a_w", "td/ns/a/sa/w"));
    let v = Some(("required_waypoint_a_v", "td/ns/a/sa/v"));
    let both = Some(("required_waypoint~p", "td/ns/a/sa/v td/ns/a/sa/w"));
    for (pod, services, namespace, gateway, want) in [
        // Bound, but not required; or neither.
        ("", &[][..], "", None, None),
        ("w", &["w"][..], "w", None, None),
        // The narrowest binding counts, whoever requires it.
        ("w!", &[], "", None, w),
        ("!", &[], "w", None, w),
        ("", &[], "w!", None, w),
        ("w", &["v"], "v!", None, w),
        ("", &["w"], "v!", None, w),
        ("b/w!", &[], "", None, Some(("required_waypoint_b_w", "td/ns/b/sa/w"))),
        ("none!", &["w"], "w", None, unbound),
        ("none", &[], "w!", None, unbound),
        ("!", &[], "", None, unbound),
        ("!", &["none"], "w", None, unbound),
        // Several services, each with its own or the namespace's.
        ("!", &["v", "w"], "", None, both),
        ("!", &["v", ""], "w", None, both),
        ("!", &["v", "none"], "w", None, v),
        // Required by a service alone: by its own waypoint.
        ("", &["v!", "w"], "", None, v),
        ("", &["!", "v"], "w", None, w),
        ("", &["!"], "", None, unbound),
        ("", &["v!", "w!"], "", None, both),
        ("w", &["v!"], "", None, w),
        // The waypoint's own pods are left to others alone.
        ("", &[], "w!", Some("w"), None),
        ("", &[], "b/w!", Some("w"), Some(("required_waypoint_b_w", "td/ns/b/sa/w"))),
        ("!", &["v", "w"], "", Some("w"), v),
        ("!", &[], "", Some("w"), unbound),
    ] {
        let key = Key { namespace: "a".parse().unwrap(), name: "p".into() };
        let gateway: Option<Arc<str>> = gateway.map(Into::into);
        let objects: Vec<ServiceObject> = services.iter().map(|text| service(text)).collect();
        let (own, around) = (bond(pod), bond(namespace));
        let services = objects.iter().collect();
        let bonds = Bonds { pod: &key, gateway: gateway.as_ref(), own: &own, services, namespace: &around };
        let made = bonds.required(&settings());
        let said = made.as_ref().map(|policy| {
            assert_eq!(policy.rejected.is_some(), policy.rules.is_empty());
            let clauses = policy.rules.iter().flat_map(|rule| &rule.clauses);
            let matches: Vec<&Match> = clauses.flat_map(|clause| &clause.0).collect();
            let others = matches.iter().flat_map(|one| &one.principals.none).map(ToString::to_string);
            (policy.name.name(), others.collect::<Vec<_>>().join(" "))
        });
        let want = want.map(|(name, others)| (name, others.to_owned()));
        assert_eq!(said, want, "pod {pod:?}, services {objects:?}, namespace {namespace:?}");
        if let Some(policy) = made {
            let facts = (policy.scope, policy.action, policy.dry_run, policy.name.namespace.as_str());
            assert_eq!(facts, (PolicyScope::Workloads, PolicyAction::Deny, false, "a"));
        }
    }
}
