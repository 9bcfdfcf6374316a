//! Which policies a pod is under, whatever came and went; and what is said of each.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_authz::{Compiled, Decision, Destination, Peer, PolicySet};
use weir_manifest::{
    AuthorizationAction, AuthorizationRule, AuthorizationSpec, DataplaneMode, MtlsMode, NamespaceObject, Operation,
    PathMatch, PeerAuthenticationSpec, PolicySpec, PolicyTarget, RequestAuthenticationSpec, SliceEndpoint, Source,
    TargetRef, WaypointLabels, WaypointUse,
};
use weir_model::{Health, PolicyKind, Port, Sides, TextMatch, Workload};

use super::{
    plain,
    tests::{compiler, endpoint, find, namespace, pod, policy_of, service, settings, slice},
    *,
};

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn text(text: &str) -> TextMatch {
    text.parse().unwrap()
}

fn from(principal: &str) -> Source {
    Source { principals: Sides::any([text(principal)]), ..Source::default() }
}

fn get() -> Operation {
    Operation { methods: Sides::any([text("GET")]), ..Operation::default() }
}

fn rule(from: Vec<Source>, to: Vec<Operation>) -> AuthorizationRule {
    AuthorizationRule { line: 3, from, to, when: Vec::new() }
}

fn authorization(action: AuthorizationAction, rules: Vec<AuthorizationRule>) -> PolicySpec {
    PolicySpec::Authorization(AuthorizationSpec { action, dry_run: false, rules })
}

fn peers(mode: MtlsMode, ports: &[(u16, MtlsMode)]) -> PolicySpec {
    let ports = ports.iter().map(|(number, mode)| (port(*number), *mode)).collect();
    PolicySpec::PeerAuthentication(PeerAuthenticationSpec { mode, ports })
}

fn a_spec() -> impl Strategy<Value = (PolicyKind, PolicySpec)> {
    let custom = AuthorizationAction::Custom { provider: "p".into() };
    let actions = vec![AuthorizationAction::Allow, AuthorizationAction::Deny, AuthorizationAction::Audit, custom];
    let rules =
        vec![rule(Vec::new(), Vec::new()), rule(vec![from("td/ns/a/sa/b")], vec![get()]), rule(vec![], vec![get()])];
    let rules = prop::collection::vec(prop::sample::select(rules), 0..3);
    let authorization = (prop::sample::select(actions), rules).prop_map(|(action, rules)| authorization(action, rules));
    let modes = prop::sample::select(vec![MtlsMode::Unset, MtlsMode::Disable, MtlsMode::Permissive, MtlsMode::Strict]);
    let ports =
        prop::collection::btree_map(prop::sample::select(vec![port(80), port(81), port(82)]), modes.clone(), 0..3);
    let peers =
        (modes, ports).prop_map(|(mode, ports)| PolicySpec::PeerAuthentication(PeerAuthenticationSpec { mode, ports }));
    prop_oneof![
        2 => authorization.prop_map(|spec| (PolicyKind::Authorization, spec)),
        4 => peers.prop_map(|spec| (PolicyKind::PeerAuthentication, spec)),
        1 => Just((PolicyKind::RequestAuthentication, PolicySpec::RequestAuthentication(RequestAuthenticationSpec::default()))),
        1 => prop::sample::select(vec![PolicyKind::Authorization, PolicyKind::PeerAuthentication])
            .prop_map(|kind| (kind, PolicySpec::Rejected("spec.x: no".into()))),
    ]
}

pub(super) fn a_policy() -> impl Strategy<Value = PolicyObject> {
    let spaces = prop::sample::select(vec!["a", "b", "root"]);
    let selectors = prop::sample::select(vec![None, Some(""), Some("app=x"), Some("tier=t"), Some("app=x,tier=t")]);
    let created = prop::sample::select(vec![None, Some("2026-01-01T00:00:00Z"), Some("2026-01-02T00:00:00Z")]);
    (spaces, a_spec(), selectors, 0_u8..3, created, 0_u8..12).prop_map(|(space, spec, selector, name, created, odd)| {
        let (kind, spec) = spec;
        let mut one = policy_of(space, kind, selector, spec);
        one.name = format!("p{name}").into();
        one.created = created.map(Into::into);
        one.generation = Some(i64::from(odd));
        if let PolicySpec::PeerAuthentication(spec) = &mut one.spec
            && one.target == PolicyTarget::All
            && odd > 2
        {
            // With ports it is not legal.
            spec.ports.clear();
        }
        match odd {
            0 => one.target = PolicyTarget::Unknown,
            1 if kind != PolicyKind::PeerAuthentication => {
                let reference = TargetRef { group: "".into(), kind: "Service".into(), name: "s".into() };
                one.target = PolicyTarget::Refs(vec![reference]);
            }
            _ => {}
        }
        one
    })
}

/// An object as it is now, but for a policy of which it is not known what it covers: it stays what it was, if that was legal.
pub(super) fn keep(objects: &mut BTreeMap<ObjectKey, Object>, object: Object) {
    let legal = |object: &Object| {
        let Object::Policy(policy) = object else { return false };
        Declared::new(&settings(), policy.clone(), None).is_legal()
    };
    let unknown = matches!(&object, Object::Policy(policy) if policy.target == PolicyTarget::Unknown);
    if !unknown || !objects.get(&object.key()).is_some_and(legal) {
        objects.insert(object.key(), object);
    }
}

/// The policies over a workload that are about who must prove who they are.
fn peer_policies(mesh: &Mesh, workload: &Workload) -> PolicySet {
    let own = mesh.policies.iter().filter(|one| workload.policies.contains(&one.name));
    let own = own.filter(|one| one.source.kind == PolicyKind::PeerAuthentication && one.rejected.is_none());
    PolicySet::new(own.cloned().map(|one| Arc::new(Compiled::new(one))), None)
}

fn admits(policies: &PolicySet, identity: Option<&str>, number: u16) -> bool {
    let identity = identity.map(|text| text.parse().unwrap());
    let address = "10.0.0.9".parse().unwrap();
    let peer = Peer { identity: identity.as_ref(), address };
    matches!(policies.decide(&peer, &Destination { address, port: port(number) }), Decision::Allow(_))
}

/// Told by the words of the documentation: the port's mode, else the narrowest that says something, else PERMISSIVE.
fn is_strict(levels: [Option<&PolicyObject>; 3], number: u16) -> bool {
    let spec = |one: &'_ PolicyObject| {
        let PolicySpec::PeerAuthentication(spec) = &one.spec else { panic!("{one:?}") };
        spec.clone()
    };
    let specs: Vec<PeerAuthenticationSpec> = levels.into_iter().flatten().map(spec).collect();
    let of_port = levels[0].and_then(|_| specs[0].ports.get(&port(number))).copied();
    let said = of_port.into_iter().chain(specs.iter().map(|spec| spec.mode)).find(|mode| *mode != MtlsMode::Unset);
    said == Some(MtlsMode::Strict)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn plaintext_comes_in_exactly_where_nothing_says_strict(
        policies in prop::collection::vec(a_policy(), 0..10),
    ) {
        let mut objects = BTreeMap::new();
        let spaces = ["a", "b"].map(|space| namespace(space, Some(DataplaneMode::Ambient)));
        let pods = [("a", "p1", "app=x,tier=t"), ("a", "p2", "app=x"), ("b", "p3", "tier=t")];
        let pods = (1..).zip(pods).map(|(octet, (space, name, of))| Object::Pod(pod(space, name, octet, of)));
        for object in policies.into_iter().map(Object::Policy).chain(spaces).chain(pods) {
            keep(&mut objects, object);
        }
        let compiler = compiler(objects.values().cloned());
        let mesh = compiler.mesh();
        for object in objects.values() {
            let Object::Pod(pod) = object else { continue };
            let workload = mesh.workloads.iter().find(|one| one.name == pod.name && one.namespace == pod.namespace);
            let workload = workload.unwrap();
            let levels = plain::levels(&objects, &settings(), pod);
            let policies = peer_policies(&mesh, workload);
            for number in [80, 81, 82, 83] {
                prop_assert_eq!(!admits(&policies, None, number), is_strict(levels, number), "{} {:?}", number, levels);
                prop_assert!(admits(&policies, Some("spiffe://td.example/ns/a/sa/b"), number));
            }
        }
        let known: Vec<_> = mesh.policies.iter().map(|one| &one.name).collect();
        for workload in &mesh.workloads {
            prop_assert!(workload.policies.iter().all(|one| known.contains(&one)), "{:?}", workload.policies);
        }
    }
}

/// An enrolled pod in namespace `a`, labels `app=x`, under these PeerAuthentications: whether plaintext may come to ports 80, 81, 82.
fn plaintext(policies: &[(&str, &str, Option<&str>, PolicySpec)]) -> [bool; 3] {
    let objects = policies.iter().map(|(space, name, selector, spec)| {
        let one = policy_of(space, PolicyKind::PeerAuthentication, *selector, spec.clone());
        Object::Policy(PolicyObject { name: (*name).into(), ..one })
    });
    let ambient = namespace("a", Some(DataplaneMode::Ambient));
    let compiler = compiler(objects.chain([ambient, Object::Pod(pod("a", "p", 1, "app=x"))]));
    let policies = peer_policies(&compiler.mesh(), &find(&compiler, "p"));
    [80, 81, 82].map(|number| admits(&policies, None, number))
}

#[test]
fn the_narrowest_peer_authentication_that_says_something_decides_and_each_port_stands_alone() {
    use MtlsMode::{Disable, Permissive, Strict, Unset};
    let (all, none, x) = ([true; 3], [false; 3], Some("app=x"));
    for (policies, want) in [
        (vec![], all),
        (vec![("root", "m", None, peers(Strict, &[]))], none),
        (vec![("root", "m", None, peers(Strict, &[])), ("a", "n", None, peers(Permissive, &[]))], all),
        (vec![("root", "m", None, peers(Strict, &[])), ("a", "n", None, peers(Disable, &[]))], all),
        (vec![("root", "m", None, peers(Strict, &[])), ("a", "n", None, peers(Unset, &[]))], none),
        (vec![("a", "n", None, peers(Strict, &[])), ("a", "w", x, peers(Permissive, &[]))], all),
        (vec![("a", "n", None, peers(Permissive, &[])), ("a", "w", x, peers(Strict, &[]))], none),
        // Of another namespace, and of other pods.
        (vec![("b", "n", None, peers(Strict, &[])), ("b", "w", x, peers(Strict, &[]))], all),
        (vec![("a", "w", Some("app=y"), peers(Strict, &[]))], all),
        // In the root namespace a selector selects in all.
        (vec![("root", "w", x, peers(Strict, &[]))], none),
        // Of two of one level the older decides: here that of the lesser name.
        (vec![("a", "n1", None, peers(Permissive, &[])), ("a", "n2", None, peers(Strict, &[]))], all),
        (vec![("a", "w2", x, peers(Permissive, &[])), ("root", "w1", x, peers(Strict, &[]))], none),
        // Ports.
        (vec![("a", "w", x, peers(Strict, &[(80, Permissive), (81, Disable)]))], [true, true, false]),
        (vec![("a", "w", x, peers(Permissive, &[(80, Strict), (81, Strict)]))], [false, false, true]),
        (vec![("a", "w", x, peers(Unset, &[(80, Strict), (81, Permissive)]))], [false, true, true]),
        (
            vec![
                ("a", "w", x, peers(Unset, &[(80, Strict), (81, Permissive), (82, Unset)])),
                ("root", "m", None, peers(Strict, &[])),
            ],
            [false, true, false],
        ),
        (vec![("a", "w", x, peers(Strict, &[(80, Unset)]))], none),
        // Without a selector there are no ports: it is not legal, and everything is denied by another policy.
        (vec![("a", "n", None, peers(Permissive, &[(80, Strict)]))], all),
    ] {
        assert_eq!(plaintext(&policies), want, "{policies:#?}");
    }
}

#[test]
fn only_pods_in_the_mesh_are_asked_to_ask_for_proof() {
    let strict = policy_of("root", PolicyKind::PeerAuthentication, None, peers(MtlsMode::Strict, &[]));
    let mut compiler = compiler([Object::Policy(strict.clone()), Object::Pod(pod("a", "p", 1, "app=x"))]);
    assert!(find(&compiler, "p").policies.is_empty());
    compiler.set(namespace("a", Some(DataplaneMode::Ambient)));
    let names: Vec<_> = find(&compiler, "p").policies.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["root/converted_peer_authentication_p"]);
    compiler.take();
    compiler.remove(&Object::Policy(strict).key());
    let delta = compiler.take();
    assert_eq!((delta.policies.len(), delta.workloads.len()), (1, 1), "{delta:?}");
}

#[test]
fn a_waypoint_is_required_as_long_as_something_says_so() {
    let bond =
        |required| WaypointLabels { uses: Some(WaypointUse::Gateway { namespace: None, name: "w".into() }), required };
    let space = |waypoint| {
        let Object::Namespace(one) = namespace("a", Some(DataplaneMode::Ambient)) else { panic!("a namespace") };
        Object::Namespace(NamespaceObject { waypoint, ..one })
    };
    let behind = |waypoint| Object::Service(ServiceObject { waypoint, ..service("a", "s", "app=x") });
    let own = |waypoint| Object::Pod(PodObject { waypoint, ..pod("a", "p", 1, "app=x") });
    let none = WaypointLabels::default;
    let other = Object::Pod(pod("b", "q", 2, "app=x"));
    let mut compiler = compiler([space(none()), behind(none()), own(none()), other]);
    for set in [space(bond(true)), behind(bond(true)), own(bond(true))] {
        compiler.set(set);
        let delta = compiler.take();
        let [(name, Some(policy))] = &delta.policies[..] else { panic!("{delta:?}") };
        assert_eq!(name.to_string(), "a/required_waypoint_a_w");
        assert_eq!(delta.workloads.len(), 1, "{delta:?}");
        assert_eq!(find(&compiler, "p").policies, std::slice::from_ref(name));
        let policies = PolicySet::new([Arc::new(Compiled::new(policy.clone()))], None);
        for (identity, may) in [
            (None, false),
            (Some("spiffe://td.example/ns/a/sa/x"), false),
            (Some("spiffe://td.example/ns/a/sa/w"), true),
        ] {
            assert_eq!(admits(&policies, identity, 80), may, "{identity:?}");
        }
        for unset in [space(none()), behind(none()), own(none())] {
            compiler.set(unset);
        }
        let delta = compiler.take();
        assert!(matches!(&delta.policies[..], [(_, None)]) && delta.workloads.len() == 1, "{delta:?}");
    }
    // What is bound and not required is left to everybody.
    compiler.set(space(bond(false)));
    let delta = compiler.take();
    assert_eq!((delta.workloads, delta.policies), (vec![], vec![]));
}

#[test]
fn a_pod_that_is_not_ready_is_left_to_the_waypoint_of_its_service_too() {
    let ambient = namespace("a", Some(DataplaneMode::Ambient));
    let uses = Some(WaypointUse::Gateway { namespace: None, name: "w".into() });
    let s = ServiceObject { waypoint: WaypointLabels { uses, required: true }, ..service("a", "s", "") };
    let unready = SliceEndpoint { health: Health::Unhealthy, ..endpoint(1, Some(("a", "p"))) };
    let listed = Object::EndpointSlice(slice("a", "e", "s", vec![unready]));
    let mut compiler = compiler([ambient, Object::Service(s.clone()), Object::Pod(pod("a", "p", 1, "app=x"))]);
    assert!(find(&compiler, "p").policies.is_empty());
    compiler.set(listed.clone());
    assert_eq!(compiler.take().policies.len(), 1);
    assert!(find(&compiler, "p").services.is_empty());
    // One of another namespace may list whom it likes.
    compiler.remove(&Object::Service(s.clone()).key());
    compiler.remove(&listed.key());
    compiler.set(Object::Service(ServiceObject { namespace: "b".parse().unwrap(), ..s }));
    compiler.set(Object::EndpointSlice(slice("b", "e", "s", vec![endpoint(1, Some(("a", "p")))])));
    compiler.take();
    assert_eq!((find(&compiler, "p").services.len(), find(&compiler, "p").policies.len()), (1, 0));
}

#[test]
fn what_cannot_be_placed_stays_what_it_was_or_denies_all_there() {
    let deny = authorization(AuthorizationAction::Deny, vec![rule(vec![from("td/ns/a/sa/b")], vec![])]);
    let good = policy_of("a", PolicyKind::Authorization, Some("app=x"), deny);
    let unknown = PolicyObject {
        target: PolicyTarget::Unknown,
        spec: PolicySpec::Rejected("spec.selector: no\nspec.rules: no".into()),
        generation: Some(2),
        ..good.clone()
    };
    let mut compiler = compiler([Object::Policy(good.clone())]);
    let before = compiler.mesh().policies;
    compiler.take_statuses();
    compiler.set(Object::Policy(unknown.clone()));
    assert_eq!((compiler.mesh().policies, compiler.take()), (before, Delta::default()));
    let [(_, Some(status))] = &compiler.take_statuses()[..] else { panic!("one status") };
    assert_eq!(status.generation, Some(2));
    assert_eq!(
        status.to_string(),
        "AuthorizationPolicy a/p: agent (what it said before stays in force: spec.selector: no; spec.rules: no)"
    );
    compiler.remove(&Object::Policy(good).key());
    compiler.set(Object::Policy(unknown));
    let [policy] = &compiler.mesh().policies[..] else { panic!("one policy") };
    assert_eq!(policy.scope, weir_model::PolicyScope::Namespace);
    assert_eq!(policy.rejected.as_deref(), Some("spec.selector: no; spec.rules: no"));
}

/// `type status reason: message` of each condition, and each placement.
fn said(compiler: &Compiler, name: &str) -> Vec<String> {
    let statuses = compiler.statuses();
    let status = statuses.iter().find(|one| one.name == name).unwrap();
    let conditions = status
        .conditions
        .iter()
        .map(|one| format!("{} {} {}: {}", one.kind.as_str(), one.holds, one.reason.as_str(), one.message));
    conditions.chain(status.placements.iter().map(ToString::to_string)).collect()
}

#[test]
fn the_status_says_where_each_rule_is_enforced_and_why_not_as_written() {
    use AuthorizationAction::{Allow, Audit, Custom, Deny};
    let rules = || vec![rule(vec![from("td/ns/a/sa/b")], vec![]), rule(vec![from("td/ns/a/sa/b")], vec![get()])];
    let paths = Operation { paths: Sides::none([PathMatch::Text(text("/x"))]), ..get() };
    let found = "agents see connections and not requests (found: methods)";
    let stricter = "stricter than written: methods is of requests, so all that matches the rest is denied";
    let left_out = "left out: methods is of requests, which agents do not see";
    for (spec, want) in [
        (
            authorization(Allow, rules()[..1].to_vec()),
            vec![
                "ZtunnelAccepted true Accepted: attached to ztunnel".to_owned(),
                "weir.dev/Enforced true AsWritten: agent: as written".to_owned(),
                "spec.rules[0]: agent".to_owned(),
            ],
        ),
        (
            authorization(Allow, rules()),
            vec![
                format!("ZtunnelAccepted true UnsupportedValue: {found}: rules of ALLOW that ask for them admit nothing"),
                format!("weir.dev/Enforced false NotAsWritten: 1 other rule: agent; spec.rules[1]: nowhere ({left_out})"),
                "spec.rules[0]: agent".to_owned(),
                format!("spec.rules[1]: nowhere ({left_out})"),
            ],
        ),
        (
            authorization(Deny, rules()[1..].to_vec()),
            vec![
                format!(
                    "ZtunnelAccepted true UnsupportedValue: {found}: rules of DENY that ask for them deny every \
                     connection that matches the rest of them"
                ),
                format!("weir.dev/Enforced false NotAsWritten: spec.rules[0]: agent ({stricter})"),
                format!("spec.rules[0]: agent ({stricter})"),
            ],
        ),
        (
            authorization(Audit, vec![rule(vec![], vec![paths])]),
            vec![
                "ZtunnelAccepted true UnsupportedValue: agents see connections and not requests (found: methods, \
                 notPaths): rules of AUDIT that ask for them audit nothing"
                    .to_owned(),
                "weir.dev/Enforced false NotAsWritten: spec.rules[0]: nowhere (left out: methods, notPaths are of \
                 requests, which agents do not see)"
                    .to_owned(),
                "spec.rules[0]: nowhere (left out: methods, notPaths are of requests, which agents do not see)".to_owned(),
            ],
        ),
        (
            authorization(Custom { provider: "oauth".into() }, rules()),
            vec![
                "ZtunnelAccepted false UnsupportedValue: all that it covers is denied: CUSTOM asks the provider \
                 \"oauth\", and this version cannot ask any"
                    .to_owned(),
                "weir.dev/Enforced false NotAsWritten: nowhere (all that it covers is denied: CUSTOM asks the provider \
                 \"oauth\", and this version cannot ask any)"
                    .to_owned(),
                "nowhere (all that it covers is denied: CUSTOM asks the provider \"oauth\", and this version cannot ask \
                 any)"
                    .to_owned(),
            ],
        ),
        (
            PolicySpec::Rejected("spec.x: no\nspec.y: no".into()),
            vec![
                "ZtunnelAccepted false Invalid: all that it covers is denied: spec.x: no; spec.y: no".to_owned(),
                "weir.dev/Enforced false NotAsWritten: nowhere (all that it covers is denied: spec.x: no; spec.y: no)"
                    .to_owned(),
                "nowhere (all that it covers is denied: spec.x: no; spec.y: no)".to_owned(),
            ],
        ),
    ] {
        let one = policy_of("a", PolicyKind::Authorization, Some("app=x"), spec);
        let of_waypoint = PolicyObject { target: PolicyTarget::Refs(Vec::new()), name: "w".into(), ..one.clone() };
        let compiler = compiler([Object::Policy(one), Object::Policy(of_waypoint)]);
        assert_eq!(said(&compiler, "p"), want);
        let waypoint = said(&compiler, "w");
        assert!(waypoint[0].starts_with("WaypointAccepted false "), "{waypoint:?}");
        assert!(waypoint[2..].iter().all(|one| one.contains("nowhere")), "{waypoint:?}");
        assert!(compiler.mesh().policies.iter().all(|policy| &*policy.source.name != "w"), "it is a waypoint's");
    }
}

#[test]
fn of_peer_authentications_the_status_says_which_decides() {
    let strict = |space: &str, name: &str, selector: Option<&str>| {
        let one = policy_of(space, PolicyKind::PeerAuthentication, selector, peers(MtlsMode::Strict, &[]));
        Object::Policy(PolicyObject { name: name.into(), ..one })
    };
    let enforced = |compiler: &Compiler, name: &str| said(compiler, name).swap_remove(2);
    let mut compiler = compiler([
        strict("a", "n1", None),
        strict("a", "n2", None),
        strict("root", "m", None),
        strict("a", "w1", Some("app=x")),
        strict("a", "w2", Some("app=x,tier=t")),
        strict("a", "w3", Some("tier=t")),
        strict("a", "w4", Some("app=y")),
        strict("b", "w5", Some("app=x")),
    ]);
    compiler.take_statuses();
    let older = |name: &str| format!("the older PeerAuthentication a/{name} decides");
    for (name, want) in [
        ("n1", "agent".to_owned()),
        ("n2", format!("nowhere ({})", older("n1"))),
        ("m", "agent".to_owned()),
        ("w1", "agent".to_owned()),
        ("w2", format!("nowhere ({})", older("w1"))),
        ("w3", format!("agent (where both select a pod {})", older("w1"))),
        ("w4", format!("agent (where both select a pod {})", older("w3"))),
        ("w5", "agent".to_owned()),
    ] {
        assert_eq!(enforced(&compiler, name), want, "{name}");
    }
    compiler.remove(&strict("a", "n1", None).key());
    let changed: Vec<String> = compiler.take_statuses().into_iter().map(|(key, _)| key.name.to_string()).collect();
    assert_eq!(changed, ["n1", "n2"]);
    assert_eq!(enforced(&compiler, "n2"), "agent");
    let spec = peers(MtlsMode::Disable, &[]);
    compiler.set(Object::Policy(policy_of("b", PolicyKind::PeerAuthentication, None, spec)));
    assert_eq!(
        enforced(&compiler, "p"),
        "agent (DISABLE is PERMISSIVE here: an agent never refuses a peer because it proves who it is)"
    );
}

#[test]
fn an_object_is_found_again_by_the_name_it_has_in_the_mesh() {
    for kind in [PolicyKind::Authorization, PolicyKind::PeerAuthentication, PolicyKind::RequestAuthentication] {
        let one = Object::Policy(policy_of("a", kind, None, PolicySpec::Rejected("no".into())));
        let key = one.key();
        let name = policy::name(&key.kind, key.namespace.as_ref().unwrap(), &key.name).unwrap();
        assert_eq!(policy::object(&name), key);
    }
}
