//! Whom a policy with targetRefs covers, who enforces it, and when that is said again.

use weir_authz::{
    Destination, Peer,
    http::{HttpFacts, HttpPolicies},
};
use weir_manifest::{FileName, Object, RouteNamespaces, WaypointFor, parse};
use weir_model::Port;
use weir_request::{Normalization, Parts, Request};

use super::{super::tests::settings, *};
use crate::gateway::GatewayFacts;

/// Namespace `a`, whose services `s` and `v` are bound to `w`, `n` to nothing, `m` to what is not there, `i` to an ingress and `x` to nobody's
/// endpoints; and the namespace `root`.
const MESH: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: a}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a, labels: {istio.io/use-waypoint: w}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: v, namespace: a, labels: {istio.io/use-waypoint: w}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: n, namespace: a}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: m, namespace: a, labels: {istio.io/use-waypoint: gone}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: i, namespace: a, labels: {istio.io/use-waypoint: ingress}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: x, namespace: a, labels: {istio.io/use-waypoint: w}}, spec: {type: ExternalName, externalName: x.example.com}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: se, namespace: a, labels: {istio.io/use-waypoint: w}},
 spec: {hosts: [se.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: sn, namespace: a, labels: {istio.io/use-waypoint: none}},
 spec: {hosts: [sn.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC}}
";

fn objects(text: &str) -> Vec<Object> {
    parse(&[(FileName::new("f.yaml"), text)]).unwrap().into_objects().collect()
}

fn policy(space: &str, name: &str, refs: &str, rest: &str) -> String {
    format!(
        "\n---\n{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: {name}, namespace: {space}}}, \
         spec: {{targetRefs: [{refs}]{rest}}}}}\n"
    )
}

const SERVICE: &str = "{group: '', kind: Service, name: NAME}";
const GATEWAY: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: NAME}";
const CLASS: &str = "{group: gateway.networking.k8s.io, kind: GatewayClass, name: NAME}";
const ENTRY: &str = "{group: networking.istio.io, kind: ServiceEntry, name: NAME}";

fn to(kind: &str, name: &str) -> String {
    kind.replace("NAME", name)
}

fn gateway(class: &str) -> GatewayFacts {
    GatewayFacts {
        role: GatewayRole::of_class(class),
        waypoint_for: WaypointFor::Service,
        proxy: None,
        namespaces: RouteNamespaces::Same,
    }
}

fn compiler(text: &str) -> Compiler {
    let mut compiler = Compiler::new(settings());
    for object in objects(&format!("{MESH}{text}")) {
        compiler.set(object);
    }
    let a = "a".parse().unwrap();
    compiler.set_gateway(&a, "w", Some(gateway("istio-waypoint")));
    compiler.set_gateway(&a, "ingress", Some(gateway("istio")));
    compiler
}

/// The conditions and the placements of the policy `p`.
fn said(compiler: &Compiler) -> Vec<String> {
    let statuses = compiler.statuses();
    let status = statuses.iter().find(|one| one.name == "p").unwrap();
    let conditions = status
        .conditions
        .iter()
        .map(|one| format!("{} {} {}: {}", one.kind.as_str(), one.holds, one.reason.as_str(), one.message));
    conditions.chain(status.placements.iter().map(ToString::to_string)).collect()
}

#[test]
fn the_status_says_which_waypoint_enforces_a_policy() {
    let service = |name: &str| to(SERVICE, name);
    let (w, class) = (Some("waypoint a/w"), Some("waypoints of class istio-waypoint"));
    for (space, refs, reason, by, why) in [
        ("a", service("s"), "Accepted", w, None),
        ("a", format!("{}, {}", service("s"), service("v")), "Accepted", w, None),
        (
            "a",
            format!("{}, {}", service("s"), service("none")),
            "PartiallyInvalid",
            w,
            Some("there is no Service a/none"),
        ),
        ("a", service("none"), "TargetNotFound", None, Some("there is no Service a/none")),
        ("a", service("n"), "AncestorNotBound", None, Some("Service a/n has no waypoint")),
        (
            "a",
            service("m"),
            "AncestorNotBound",
            None,
            Some("Service a/m is bound to a/gone, but there is no such Gateway: connections are refused"),
        ),
        (
            "a",
            service("i"),
            "AncestorNotBound",
            None,
            Some(
                "Service a/i is bound to a/ingress, but the Gateway is of no waypoint's class: connections are refused",
            ),
        ),
        (
            "a",
            service("x"),
            "AncestorNotBound",
            None,
            Some("Service a/x has no endpoints of its own, so no waypoint serves it"),
        ),
        ("a", to(GATEWAY, "w"), "Accepted", w, None),
        ("a", to(GATEWAY, "ingress"), "AncestorNotBound", None, Some("Gateway a/ingress is of no waypoint's class")),
        ("root", to(GATEWAY, "w"), "TargetNotFound", None, Some("there is no Gateway root/w")),
        ("root", to(CLASS, "istio-waypoint"), "Accepted", class, None),
        ("root", to(CLASS, "istio"), "TargetNotFound", None, Some("istio is no class of waypoints")),
        (
            "a",
            to(CLASS, "istio-waypoint"),
            "Invalid",
            None,
            Some("a GatewayClass is a target of policies of the root namespace only"),
        ),
        ("a", to(ENTRY, "se"), "Accepted", w, None),
        ("a", to(ENTRY, "sn"), "AncestorNotBound", None, Some("ServiceEntry a/sn has no waypoint")),
        ("a", to(ENTRY, "e"), "TargetNotFound", None, Some("there is no ServiceEntry a/e")),
    ] {
        let said = said(&compiler(&policy(space, "p", &refs, ", rules: [{to: [{operation: {paths: ['/a']}}]}]")));
        let bound = by.map(|by| format!("bound to {}", by.trim_start_matches("waypoint ")));
        let message = bound.into_iter().chain(why.map(str::to_owned)).collect::<Vec<_>>().join("; ");
        assert_eq!(said[0], format!("WaypointAccepted {} {reason}: {message}", by.is_some()), "{refs}");
        let placements: Vec<String> =
            by.map(str::to_owned).into_iter().chain(why.map(|why| format!("nowhere ({why})"))).collect();
        assert_eq!(said[2..], placements, "{refs}");
        let as_written = by.map(|by| format!("{by}: as written"));
        let enforced = as_written.into_iter().chain(why.map(|why| format!("nowhere ({why})"))).collect::<Vec<_>>();
        let holds = if why.is_none() { "true AsWritten" } else { "false NotAsWritten" };
        assert_eq!(said[1], format!("weir.dev/Enforced {holds}: {}", enforced.join("; ")), "{refs}");
    }
}

#[test]
fn what_a_waypoint_cannot_enforce_denies_and_says_so() {
    for (rest, reason) in [
        (
            ", action: CUSTOM, provider: {name: oauth}",
            "UnsupportedValue: all that it covers is denied: CUSTOM asks the provider \"oauth\", and this version cannot ask any",
        ),
        (
            ", rules: [{to: [{operation: {paths: [admin]}}]}]",
            "UnsupportedValue: all that it covers is denied: spec.rules[0].to[0].operation.paths: \"admin\", which no request \
             asks for: the path does not begin with '/'",
        ),
    ] {
        let compiler = compiler(&policy("a", "p", &to(SERVICE, "s"), rest));
        let said = said(&compiler);
        assert_eq!(said[0], format!("WaypointAccepted false {reason}"));
        assert!(said[2].starts_with("nowhere (all that it covers is denied: "), "{said:?}");
        let [policy] = &compiler.covering(&served("s"), &waypoint("w"))[..] else { panic!("one policy") };
        assert!(policy.rejected.is_some());
    }
    // From an API server it comes as a whole that is not legal.
    let mut compiler = compiler("");
    let text = policy("a", "p", &to(SERVICE, "s"), "");
    let Some(Object::Policy(legal)) = objects(&text).pop() else { panic!("a policy") };
    let spec = weir_manifest::PolicySpec::Rejected("spec.x: no\nspec.y: no".into());
    compiler.set(Object::Policy(weir_manifest::PolicyObject { spec, ..legal }));
    let [policy] = &compiler.covering(&served("s"), &waypoint("w"))[..] else { panic!("one policy") };
    assert_eq!(policy.rejected.as_deref(), Some("spec.x: no; spec.y: no"));
    assert_eq!(
        said(&compiler)[0],
        "WaypointAccepted false Invalid: all that it covers is denied: spec.x: no; spec.y: no"
    );
}

#[test]
fn a_policy_whose_target_cannot_be_made_out_any_more_stays_with_its_waypoint() {
    let text = policy("a", "p", &to(SERVICE, "s"), ", action: DENY, rules: [{}]");
    let mut compiler = compiler(&text);
    let before = compiler.covering(&served("s"), &waypoint("w"));
    let Some(Object::Policy(legal)) = objects(&text).pop() else { panic!("a policy") };
    let unknown = weir_manifest::PolicyObject {
        target: weir_manifest::PolicyTarget::Unknown,
        spec: weir_manifest::PolicySpec::Rejected("spec.targetRefs: no".into()),
        ..legal
    };
    compiler.set(Object::Policy(unknown));
    assert_eq!((compiler.covering(&served("s"), &waypoint("w")), before.len()), (before, 1));
    let why = "what it said before stays in force: spec.targetRefs: no";
    let want = [
        format!("WaypointAccepted false Invalid: {why}"),
        format!("weir.dev/Enforced false NotAsWritten: waypoint a/w ({why})"),
        format!("waypoint a/w ({why})"),
    ];
    assert_eq!(said(&compiler), want);
}

fn served(name: &str) -> Served {
    Served::Service { namespace: "a".parse().unwrap(), name: name.into() }
}

fn waypoint(name: &str) -> WaypointName {
    WaypointName { namespace: "a".parse().unwrap(), name: name.into() }
}

#[test]
fn a_policy_covers_what_it_names_and_a_gateway_all_that_it_serves() {
    let text = [
        policy("a", "of-s", &to(SERVICE, "s"), ""),
        policy("a", "of-both", &format!("{}, {}", to(SERVICE, "s"), to(SERVICE, "v")), ""),
        policy("b", "of-s-elsewhere", &to(SERVICE, "s"), ""),
        policy("a", "of-e", &to(ENTRY, "s"), ""),
        policy("a", "of-w", &to(GATEWAY, "w"), ""),
        policy("b", "of-w-elsewhere", &to(GATEWAY, "w"), ""),
        policy("a", "of-u", &to(GATEWAY, "u"), ""),
        policy("root", "of-class", &to(CLASS, "istio-waypoint"), ""),
        policy("root", "of-weir", &to(CLASS, "weir-waypoint"), ""),
        policy("root", "of-ingress", &to(CLASS, "istio"), ""),
        policy("a", "of-class-elsewhere", &to(CLASS, "istio-waypoint"), ""),
        "\n---\n{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: all, namespace: a}, spec: {}}\n\
         ---\n{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: jwt, namespace: a}, spec: \
         {targetRefs: [{group: '', kind: Service, name: s}], jwtRules: [{issuer: 'https://i.example'}]}}\n---\n\
         {apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: u, namespace: a}, spec: \
         {gatewayClassName: weir-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}\n"
            .to_owned(),
    ];
    let compiler = compiler(&text.concat());
    let entry = Served::ServiceEntry { namespace: "a".parse().unwrap(), name: "s".into() };
    // Of the class of `w` nobody has said anything: any class of waypoints may be its own.
    for (served, gateway, want) in [
        (served("s"), "w", "of-both of-s of-w of-class of-weir"),
        (served("v"), "w", "of-both of-w of-class of-weir"),
        (served("n"), "w", "of-w of-class of-weir"),
        (entry, "w", "of-e of-w of-class of-weir"),
        (Served::Pods, "w", "of-w of-class of-weir"),
        (served("s"), "u", "of-both of-s of-u of-weir"),
    ] {
        let found = compiler.covering(&served, &waypoint(gateway));
        let names: Vec<&str> = found.iter().map(|one| one.name.name()).collect();
        assert_eq!(names.join(" "), want, "{served:?}");
    }
    let tokens = |name: &str| compiler.tokens_covering(&served(name), &waypoint("w"));
    let names: Vec<String> = tokens("s").iter().map(|one| one.name.to_string()).collect();
    assert_eq!((names, tokens("v").len()), (vec!["a/requestauthentication~jwt".to_owned()], 0));
}

#[test]
fn what_is_written_is_what_is_decided() {
    let rest = ", action: ALLOW, rules: [{from: [{source: {namespaces: [web]}}], to: [{operation: {methods: [GET], paths: \
                ['/api/{*}']}}], when: [{key: 'request.headers[x-debug]', notValues: ['*']}]}]";
    let compiler = compiler(&policy("a", "p", &to(SERVICE, "s"), rest));
    let policies = HttpPolicies::new(compiler.covering(&served("s"), &waypoint("w")), Normalization::Base);
    let port = Port::new(80).unwrap();
    for (who, method, target, want) in [
        ("web", "GET", "/api/x", "AuthorizationPolicy a/p, spec.rules[0] (f.yaml:23)"),
        ("shop", "GET", "/api/x", "no rule of AuthorizationPolicy a/p matches"),
        ("web", "PUT", "/api/x", "no rule of AuthorizationPolicy a/p matches"),
        ("web", "GET", "/api/x/y", "no rule of AuthorizationPolicy a/p matches"),
    ] {
        let identity = format!("spiffe://td/ns/{who}/sa/x").parse().unwrap();
        let parts = Parts { method, scheme: "http", authority: "s", target, headers: &[] };
        let request = Request::read(parts, Normalization::Base).unwrap();
        let address = "10.0.0.1".parse().unwrap();
        let facts = HttpFacts {
            peer: Peer { identity: Some(&identity), address },
            destination: Destination { address, port },
            request: &request,
            token: None,
            remote: address,
            sni: None,
        };
        assert_eq!(policies.decide(&facts).ground.to_string(), want, "{who} {method} {target}");
    }
}

#[test]
fn a_status_is_said_again_when_what_it_names_is_something_else() {
    let refs = format!("{}, {}", to(SERVICE, "late"), to(GATEWAY, "w"));
    let mut compiler = compiler(&policy("a", "p", &refs, ""));
    compiler.take_statuses();
    let late = "{apiVersion: v1, kind: Service, metadata: {name: late, namespace: a}, spec: {ports: [{port: 80}]}}";
    let bound = "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {istio.io/use-waypoint: w}}}";
    let one = |text: &str| objects(text).pop().unwrap();
    let mut after = |change: &mut dyn FnMut(&mut Compiler)| {
        change(&mut compiler);
        let statuses = compiler.take_statuses();
        let [(_, Some(status))] = &statuses[..] else { panic!("one status: {statuses:?}") };
        status.conditions[0].message.clone()
    };
    let a = "a".parse().unwrap();
    assert_eq!(after(&mut |compiler| compiler.set(one(late))), "bound to a/w; Service a/late has no waypoint");
    assert_eq!(after(&mut |compiler| compiler.set(one(bound))), "bound to a/w");
    assert_eq!(
        after(&mut |compiler| compiler.set_gateway(&a, "w", None)),
        "Service a/late is bound to a/w, but there is no such Gateway: connections are refused; there is no Gateway a/w"
    );
    let declared = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w, namespace: a}, spec: \
                    {gatewayClassName: weir-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}";
    assert_eq!(after(&mut |compiler| compiler.set(one(declared))), "bound to a/w");
    assert_eq!(
        after(&mut |compiler| compiler.remove(&one(declared).key())),
        "Service a/late is bound to a/w, but there is no such Gateway: connections are refused; there is no Gateway a/w"
    );
    assert_eq!(
        after(&mut |compiler| compiler.remove(&one(late).key())),
        "there is no Service a/late; there is no Gateway a/w"
    );
}
