//! Policies, from a file and from an API server: every field is read, everything else is an error with its place.

use serde_json::{Value as Json, json};
use weir_model::{Sides, TextMatch};

use super::*;
use crate::{
    FileName, Kind, Object, Sent,
    object::{AuthorizationAction, AuthorizationRule, AuthorizationSpec, Condition, Operation, PathMatch, Source},
    parse,
    tree::{self, Node},
};

const AUTHORIZATION: Kind = Kind::AuthorizationPolicy;
const PEER: Kind = Kind::PeerAuthentication;
const REQUEST: Kind = Kind::RequestAuthentication;

fn file() -> FileName {
    FileName::new("f.yaml")
}

fn document(kind: Kind, meta: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: shop{meta}}}\nspec: {spec}\n"
    )
}

/// The same document as a server would send it.
fn json(text: &str) -> Json {
    fn of(node: &Node) -> Json {
        match &node.value {
            Value::Null => Json::Null,
            Value::Bool(value) => json!(value),
            Value::Int(value) => json!(value),
            Value::Number(text) => text.parse().unwrap(),
            Value::Text(text) => json!(text),
            Value::List(items) => items.iter().map(|item| of(item)).collect(),
            Value::Map(fields) => fields.iter().map(|(key, value)| (key.clone(), of(value))).collect(),
        }
    }
    of(tree::documents(text, 1).0.remove(0).root.as_ref().unwrap())
}

fn sent(kind: Kind, json: &Json) -> PolicyObject {
    let sent: Sent = serde_json::from_value(json.clone()).unwrap();
    let Ok(Object::Policy(policy)) = sent.read(kind, &file()) else { panic!("no policy: {json}") };
    policy
}

/// A legal policy, read alike from a file and from a server.
fn read(kind: Kind, meta: &str, spec: &str) -> PolicyObject {
    let text = document(kind, meta, spec);
    let mut objects = parse(&[(file(), &text)]).unwrap_or_else(|errors| panic!("{spec}: {errors:#?}"));
    assert_eq!(objects.policies.len(), 1, "{spec}");
    let mut policy = objects.policies.remove(0);
    let sent = sent(kind, &json(&text));
    // A server's text has no lines.
    policy.origin.line = 0;
    match &mut policy.spec {
        PolicySpec::Authorization(spec) => spec.rules.iter_mut().for_each(|rule| rule.line = 0),
        PolicySpec::RequestAuthentication(spec) => spec.rules.iter_mut().for_each(|rule| rule.line = 0),
        PolicySpec::PeerAuthentication(_) | PolicySpec::Rejected(_) => {}
    }
    assert_eq!(policy, sent, "{spec}");
    policy
}

/// Where and what is wrong with an illegal policy, the same from a file and from a server; and what the server's covers.
fn refused(kind: Kind, meta: &str, spec: &str) -> (Vec<String>, PolicyTarget) {
    let text = document(kind, meta, spec);
    let errors = parse(&[(file(), &text)]).expect_err(spec);
    let object = format!("{kind} shop/p");
    for error in &errors {
        assert_eq!(error.object.as_ref().map(ToString::to_string).as_deref(), Some(object.as_str()), "{spec}");
        assert!(error.to_string().starts_with("f.yaml:"), "{error}");
    }
    let lines: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.field, error.cause)).collect();
    let policy = sent(kind, &json(&text));
    assert_eq!(policy.spec, PolicySpec::Rejected(lines.join("\n").into()), "{spec}");
    (lines, policy.target)
}

fn sides<T>(any: &[&str], none: &[&str], read: fn(&str) -> T) -> Sides<T> {
    let all = |texts: &[&str]| texts.iter().map(|text| read(text)).collect();
    Sides { any: all(any), none: all(none) }
}

fn texts(any: &[&str], none: &[&str]) -> Sides<TextMatch> {
    sides(any, none, |text| text.parse().unwrap())
}

fn blocks(any: &[&str], none: &[&str]) -> Sides<ipnet::IpNet> {
    sides(any, none, |text| text.parse().unwrap())
}

fn ports(any: &[&str], none: &[&str]) -> Sides<Port> {
    sides(any, none, |text| text.parse().unwrap())
}

fn accounts(any: &[&str], none: &[&str]) -> Sides<(Namespace, weir_model::ServiceAccount)> {
    sides(any, none, |text| {
        let (namespace, name) = text.split_once('/').unwrap();
        (namespace.parse().unwrap(), name.parse().unwrap())
    })
}

fn rules(policy: PolicyObject) -> Vec<AuthorizationRule> {
    let PolicySpec::Authorization(spec) = policy.spec else { panic!("{policy:?}") };
    spec.rules
}

#[test]
fn every_field_of_a_source_is_read() {
    for (fields, want) in [
        (
            "principals: [td/ns/a/sa/b, 'spiffe://td/ns/a*'], notPrincipals: ['*/sa/b', '*']",
            Source { principals: texts(&["td/ns/a/sa/b", "td/ns/a*"], &["*/sa/b", "*"]), ..Source::default() },
        ),
        (
            "requestPrincipals: ['iss/*'], notRequestPrincipals: [iss/sub]",
            Source { request_principals: texts(&["iss/*"], &["iss/sub"]), ..Source::default() },
        ),
        (
            "namespaces: [a, 'b-*'], notNamespaces: ['*-c']",
            Source { namespaces: texts(&["a", "b-*"], &["*-c"]), ..Source::default() },
        ),
        (
            "serviceAccounts: [web, b/build.bot], notServiceAccounts: [shop/web]",
            Source { service_accounts: accounts(&["shop/web", "b/build.bot"], &["shop/web"]), ..Source::default() },
        ),
        (
            "trustDomains: [td, '*.example'], notTrustDomains: [old]",
            Source { trust_domains: texts(&["td", "*.example"], &["old"]), ..Source::default() },
        ),
        (
            "ipBlocks: [10.1.2.3, 10.1.2.3/8, 'fd00::7', 'fd00::7/64'], notIpBlocks: ['::ffff:10.0.0.0/104', '::ffff:10.0.0.1']",
            Source {
                ip_blocks: blocks(
                    &["10.1.2.3/32", "10.0.0.0/8", "fd00::7/128", "fd00::/64"],
                    &["10.0.0.0/8", "10.0.0.1/32"],
                ),
                ..Source::default()
            },
        ),
        (
            "ipBlocks: [0.0.0.0/0, '::/0', '::ffff:0:0/96', '::ffff:10.0.0.1/95']",
            Source {
                ip_blocks: blocks(&["0.0.0.0/0", "::/0", "0.0.0.0/0", "::fffe:0:0/95"], &[]),
                ..Source::default()
            },
        ),
        (
            "remoteIpBlocks: ['fd00::/8'], notRemoteIpBlocks: [192.0.2.1]",
            Source { remote_ip_blocks: blocks(&["fd00::/8"], &["192.0.2.1/32"]), ..Source::default() },
        ),
        // An empty list says nothing, as Istio has it.
        ("principals: [], namespaces: [a]", Source { namespaces: texts(&["a"], &[]), ..Source::default() }),
        ("principals: null, namespaces: [a]", Source { namespaces: texts(&["a"], &[]), ..Source::default() }),
    ] {
        let rules = rules(read(AUTHORIZATION, "", &format!("{{rules: [{{from: [{{source: {{{fields}}}}}]}}]}}")));
        assert_eq!(rules, [AuthorizationRule { from: vec![want], ..AuthorizationRule::default() }], "{fields}");
    }
}

#[test]
fn every_field_of_an_operation_is_read() {
    let template = |text: &str| PathMatch::Template(text.into());
    let path = |text: &str| PathMatch::Text(text.parse().unwrap());
    for (fields, want) in [
        (
            "hosts: [a.example, '*.example'], notHosts: ['b.example:*']",
            Operation { hosts: texts(&["a.example", "*.example"], &["b.example:*"]), ..Operation::default() },
        ),
        (
            "ports: ['1', '65535'], notPorts: ['80']",
            Operation { ports: ports(&["1", "65535"], &["80"]), ..Operation::default() },
        ),
        ("methods: [GET], notMethods: ['*']", Operation { methods: texts(&["GET"], &["*"]), ..Operation::default() }),
        (
            "paths: [/a, '/b*', '*.c', '/{*}', '/a/{*}/b/{**}', '/{**}/', '/{**}/x'], notPaths: ['*']",
            Operation {
                paths: Sides {
                    any: vec![
                        path("/a"),
                        path("/b*"),
                        path("*.c"),
                        template("/{*}"),
                        template("/a/{*}/b/{**}"),
                        template("/{**}/"),
                        template("/{**}/x"),
                    ],
                    none: vec![path("*")],
                },
                ..Operation::default()
            },
        ),
    ] {
        let rules = rules(read(AUTHORIZATION, "", &format!("{{rules: [{{to: [{{operation: {{{fields}}}}}]}}]}}")));
        assert_eq!(rules, [AuthorizationRule { to: vec![want], ..AuthorizationRule::default() }], "{fields}");
    }
}

#[test]
fn every_condition_is_read() {
    let request = |key: &str| Condition::Request { key: key.into(), values: texts(&["a*"], &["b"]) };
    let words = "values: ['a*'], notValues: [b]";
    let ips = "values: [10.0.0.0/8], notValues: ['fd00::1']";
    let ip = || blocks(&["10.0.0.0/8"], &["fd00::1/128"]);
    for (key, values, want) in [
        ("source.ip", ips, Condition::SourceIp(ip())),
        ("source.namespace", words, Condition::SourceNamespace(texts(&["a*"], &["b"]))),
        (
            "source.principal",
            "values: ['spiffe://a*'], notValues: [b]",
            Condition::SourcePrincipal(texts(&["a*"], &["b"])),
        ),
        (
            "source.serviceAccount",
            "values: [a], notValues: [b/c]",
            Condition::SourceServiceAccount(accounts(&["shop/a"], &["b/c"])),
        ),
        ("source.trustDomain", words, Condition::SourceTrustDomain(texts(&["a*"], &["b"]))),
        ("destination.ip", ips, Condition::DestinationIp(ip())),
        ("destination.port", "values: ['80'], notValues: ['81']", Condition::DestinationPort(ports(&["80"], &["81"]))),
        ("remote.ip", ips, Condition::RemoteIp(ip())),
        ("request.headers[X-A]", words, request("request.headers[X-A]")),
        ("request.experimental.inline.headers[x]", words, request("request.experimental.inline.headers[x]")),
        ("request.auth.principal", words, request("request.auth.principal")),
        ("request.auth.audiences", words, request("request.auth.audiences")),
        ("request.auth.presenter", words, request("request.auth.presenter")),
        ("request.auth.claims[a]", words, request("request.auth.claims[a]")),
        ("request.auth.claims[a][b.c]", words, request("request.auth.claims[a][b.c]")),
        ("connection.sni", words, request("connection.sni")),
        ("experimental.envoy.filters.a.b[c]", words, request("experimental.envoy.filters.a.b[c]")),
    ] {
        let rules = rules(read(AUTHORIZATION, "", &format!("{{rules: [{{when: [{{key: '{key}', {values}}}]}}]}}")));
        assert_eq!(rules, [AuthorizationRule { when: vec![want], ..AuthorizationRule::default() }], "{key}");
    }
}

#[test]
fn actions_rules_and_targets_are_read() {
    use AuthorizationAction::{Allow, Audit, Custom, Deny};
    let none = Vec::new;
    let all = || vec![AuthorizationRule::default()];
    let labels = PolicyTarget::Selector([("app".into(), "web".into()), ("a/b".into(), "".into())].into());
    let target = |group: &str, kind: &str| TargetRef { group: group.into(), kind: kind.into(), name: "w".into() };
    let refs = PolicyTarget::Refs(vec![target("", "Service"), target("networking.istio.io", "ServiceEntry")]);
    let gateway = |kind| PolicyTarget::Refs(vec![target("gateway.networking.k8s.io", kind)]);
    for (spec, action, rules, target) in [
        ("", Allow, none(), PolicyTarget::All),
        ("{}", Allow, none(), PolicyTarget::All),
        ("{rules: []}", Allow, none(), PolicyTarget::All),
        ("{action: ALLOW, rules: [{}]}", Allow, all(), PolicyTarget::All),
        ("{action: DENY, rules: [{when: []}]}", Deny, all(), PolicyTarget::All),
        ("{action: AUDIT, selector: {}}", Audit, none(), PolicyTarget::All),
        ("{action: CUSTOM, provider: {name: opa}}", Custom { provider: "opa".into() }, none(), PolicyTarget::All),
        ("{selector: {matchLabels: {}}}", Allow, none(), PolicyTarget::All),
        ("{selector: {matchLabels: {app: web, a/b: ''}}}", Allow, none(), labels),
        ("{targetRefs: []}", Allow, none(), PolicyTarget::All),
        (
            "{targetRefs: [{group: core, kind: Service, name: w}, {group: networking.istio.io, kind: ServiceEntry, name: w}]}",
            Allow,
            none(),
            refs,
        ),
        (
            "{targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: w, namespace: ''}}",
            Allow,
            none(),
            gateway("Gateway"),
        ),
        (
            "{targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: w}]}",
            Allow,
            none(),
            gateway("GatewayClass"),
        ),
    ] {
        let policy = read(AUTHORIZATION, "", spec);
        let want = AuthorizationSpec { action, dry_run: false, rules };
        assert_eq!((policy.spec, policy.target), (PolicySpec::Authorization(want), target), "{spec}");
    }
}

#[test]
fn modes_and_ports_are_read() {
    use MtlsMode::{Disable, Permissive, Strict, Unset};
    for (spec, mode, ports) in [
        ("", Unset, vec![]),
        ("{mtls: {}}", Unset, vec![]),
        ("{mtls: {mode: UNSET}}", Unset, vec![]),
        ("{mtls: {mode: STRICT}}", Strict, vec![]),
        ("{mtls: {mode: PERMISSIVE}}", Permissive, vec![]),
        ("{selector: {matchLabels: {a: b}}, mtls: {mode: DISABLE}}", Disable, vec![]),
        (
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {8080: {mode: STRICT}, '1': {mode: DISABLE}, 65535: {}}}",
            Unset,
            vec![(1, Disable), (8080, Strict), (65_535, Unset)],
        ),
    ] {
        let ports = ports.into_iter().map(|(port, mode)| (Port::new(port).unwrap(), mode)).collect();
        let policy = read(PEER, "", spec);
        assert_eq!(policy.spec, PolicySpec::PeerAuthentication(PeerAuthenticationSpec { mode, ports }), "{spec}");
    }
}

#[test]
fn when_it_was_made_and_whether_it_is_a_dry_run_is_read() {
    let meta = ", creationTimestamp: 2026-08-01T10:00:00Z, generation: 3, annotations: {istio.io/dry-run: 'true'}";
    let policy = read(AUTHORIZATION, meta, "{}");
    assert_eq!((policy.created.as_deref(), policy.generation), (Some("2026-08-01T10:00:00Z"), Some(3)));
    let PolicySpec::Authorization(spec) = policy.spec else { panic!("{:?}", policy.spec) };
    assert!(spec.dry_run);
    let policy = read(AUTHORIZATION, ", creationTimestamp: null, annotations: {istio.io/dry-run: 'false'}", "{}");
    assert_eq!((policy.created, policy.generation), (None, None));
    for (meta, want) in [
        (
            ", annotations: {istio.io/dry-run: 'yes'}",
            "annotations[\"istio.io/dry-run\"]: expected \"true\" or \"false\", found \"yes\"",
        ),
        (
            ", annotations: {istio.io/dry-run: true}",
            "annotations[\"istio.io/dry-run\"]: expected text, found the boolean true (quote it if it is meant as text)",
        ),
        (
            ", creationTimestamp: 2026-08-01",
            "creationTimestamp: expected a time such as \"2026-08-01T10:00:00Z\", found \"2026-08-01\"",
        ),
        (
            ", creationTimestamp: 2026-08-01T10:00:00+0",
            "creationTimestamp: expected a time such as \"2026-08-01T10:00:00Z\", found \"2026-08-01T10:00:00+0\"",
        ),
        (", generation: x", "generation: expected a whole number, found \"x\""),
    ] {
        let (lines, target) = refused(AUTHORIZATION, meta, "{}");
        assert_eq!((lines, target), (vec![format!("metadata.{want}")], PolicyTarget::All), "{meta}");
    }
}

#[test]
fn a_rule_knows_its_line() {
    let text = document(AUTHORIZATION, "", "\n  rules:\n  - from:\n    - source: {namespaces: [a]}\n  - {}");
    let objects = parse(&[(file(), &text)]).unwrap();
    assert_eq!(objects.policies[0].origin.line, 1);
    let lines: Vec<usize> = rules(objects.policies[0].clone()).iter().map(|rule| rule.line).collect();
    assert_eq!(lines, [6, 8]);
}

#[path = "refused.rs"]
mod refused;

#[path = "tokens.rs"]
mod tokens;
