//! What is printed is read again as the same policy.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::{collection::vec, prelude::*, sample::select};
use weir_model::{PolicyKind, Port, TextMatch};

use super::*;
use crate::{FileName, Kind, Object, Origin, Sent, object::TargetRef, parse};

const PEOPLE: &str = include_str!("../read/policy/testdata/people.yaml");

fn file() -> FileName {
    FileName::new("f.yaml")
}

/// A policy without the places it was read from.
fn nowhere(mut policy: PolicyObject) -> PolicyObject {
    policy.origin = Origin { file: file(), document: 1, line: 0 };
    match &mut policy.spec {
        PolicySpec::Authorization(spec) => spec.rules.iter_mut().for_each(|rule| rule.line = 0),
        PolicySpec::RequestAuthentication(spec) => spec.rules.iter_mut().for_each(|rule| rule.line = 0),
        PolicySpec::PeerAuthentication(_) | PolicySpec::Rejected(_) => {}
    }
    policy
}

fn read(text: &str) -> PolicyObject {
    let mut objects = parse(&[(file(), text)]).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    assert_eq!((objects.policies.len(), objects.ignored.len()), (1, 0), "{text}");
    nowhere(objects.policies.remove(0))
}

fn read_sent(text: &str) -> PolicyObject {
    let sent: Sent = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let said = |kind: &Kind| text.contains(&format!("\"kind\":\"{kind}\""));
    let kinds = [Kind::PeerAuthentication, Kind::RequestAuthentication];
    let kind = kinds.into_iter().find(said).unwrap_or(Kind::AuthorizationPolicy);
    match sent.read(kind, &file()) {
        Ok(Object::Policy(policy)) => nowhere(policy),
        other => panic!("{other:?}\n{text}"),
    }
}

#[test]
fn what_people_write_is_read_and_printed_as_the_same() {
    let objects = parse(&[(file(), PEOPLE)]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    for policy in &objects.policies {
        let (yaml, json) = (policy.to_yaml().unwrap(), policy.to_json().unwrap());
        let want = nowhere(policy.clone());
        assert_eq!((&read(&yaml), &read(&json), &read_sent(&json)), (&want, &want, &want), "{yaml}");
        assert_eq!((read(&yaml).to_yaml(), read(&json).to_json()), (Some(yaml), Some(json)));
    }
    assert_eq!(objects.policies.len(), 8);
}

#[test]
fn it_is_laid_out_as_kubectl_does() {
    let objects = parse(&[(file(), PEOPLE)]).unwrap();
    let printed = |name: &str| {
        let policy = objects.policies.iter().find(|policy| &*policy.name == name).unwrap();
        (policy.to_yaml().unwrap(), policy.to_json().unwrap())
    };
    assert_eq!(
        printed("web").0,
        "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  creationTimestamp: \"2026-08-01T10:00:00Z\"
  generation: 2
  name: web
  namespace: shop
spec:
  selector:
    matchLabels:
      app: web
  action: ALLOW
  rules:
  - from:
    - source:
        principals:
        - cluster.local/ns/shop/sa/gateway
        - \"*/sa/probe\"
    - source:
        namespaces:
        - monitoring
        - \"team-*\"
        notIpBlocks:
        - \"10.9.0.0/16\"
    to:
    - operation:
        ports:
        - \"8080\"
        - \"8443\"
  - from:
    - source:
        serviceAccounts:
        - shop/web
        - billing/cron
"
    );
    let head = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"#;
    assert_eq!(
        printed("ext-authz").1,
        head.to_owned()
            + r#""ext-authz","namespace":"shop"},"spec":{"targetRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","#
            + r#""name":"edge"}],"action":"CUSTOM","provider":{"name":"oauth2-proxy"},"rules":[{}]}}"#
    );
    assert!(printed("ext-authz").0.ends_with("  rules:\n  - {}\n"), "{}", printed("ext-authz").0);
    assert_eq!(
        printed("metrics").1.split_once("\"spec\":").unwrap().1,
        r#"{"selector":{"matchLabels":{"app":"web"}},"portLevelMtls":{"8080":{"mode":"STRICT"},"9090":{"mode":"PERMISSIVE"}}}}"#
    );
}

#[test]
fn what_was_not_read_whole_is_not_printed() {
    let mut policy = read("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}");
    assert!(policy.to_yaml().is_some_and(|text| text.ends_with("spec: {}\n")));
    policy.target = PolicyTarget::Unknown;
    assert_eq!((policy.to_yaml(), policy.to_json()), (None, None));
    policy.target = PolicyTarget::All;
    policy.spec = PolicySpec::Rejected("why".into());
    assert_eq!((policy.to_yaml(), policy.to_json()), (None, None));
}

/// Any text but the empty one, with what is special in YAML, in JSON and in policies, and without `*`.
fn words() -> impl Strategy<Value = String> {
    let special = select(
        "\"'\\\n\t\r\0\u{7f}\u{85}\u{2028}\u{feff}:#-?{}[],&!|>%@` ~=\u{e9}\u{1f512}".chars().collect::<Vec<_>>(),
    );
    let known =
        select(vec!["null", "true", "no", "~", "0x1f", "1e3", "0.1", "- a", "a: b", "#", "spiffe:/", "<<", "=", "y"]);
    prop_oneof![
        "[a-z/.-]{1,12}",
        vec(prop_oneof![any::<char>(), special], 1..12).prop_map(String::from_iter),
        known.prop_map(str::to_owned),
    ]
    .prop_map(|text| text.replace('*', ""))
    .prop_filter("empty", |text| !text.is_empty())
}

fn text_match() -> impl Strategy<Value = TextMatch> {
    (words(), 0..4).prop_map(|(text, kind)| match kind {
        0 => TextMatch::Exact(text.into()),
        1 => TextMatch::Prefix(text.into()),
        2 => TextMatch::Suffix(text.into()),
        _ => TextMatch::Present,
    })
}

fn principal() -> impl Strategy<Value = TextMatch> {
    text_match().prop_filter("of which the scheme is taken off", |text| !text.to_string().starts_with("spiffe://"))
}

fn path() -> impl Strategy<Value = PathMatch> {
    let segment = prop_oneof!["[a-zA-Z0-9._~%!$&'()+,;:@=-]{1,5}", Just("{*}".to_owned())];
    let template = (vec(segment, 0..4), any::<bool>(), any::<bool>()).prop_map(|(segments, rest, slash)| {
        let text: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let rest = if rest || !text.contains("{*}") { "/{**}" } else { "" };
        PathMatch::Template(format!("{text}{rest}{}", if slash { "/" } else { "" }).into())
    });
    let text = text_match().prop_filter("a template", |text| !text.to_string().contains(['{', '}']));
    prop_oneof![text.prop_map(PathMatch::Text), template]
}

fn block() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(ip, length)| IpNet::V4(Ipv4Net::new(ip.into(), length).unwrap()));
    let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(ip, length)| IpNet::V6(Ipv6Net::new(ip.into(), length).unwrap()));
    prop_oneof![v4, v6].prop_map(|net| net.trunc())
}

fn port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(|port| Port::new(port).unwrap())
}

const NAME: &str = "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?";

fn account() -> impl Strategy<Value = (Namespace, ServiceAccount)> {
    (NAME, NAME).prop_map(|(namespace, name)| (namespace.parse().unwrap(), name.parse().unwrap()))
}

fn both<T: Clone + std::fmt::Debug>(values: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = Sides<T>> {
    (vec(values.clone(), 0..4), vec(values, 0..4)).prop_map(|(any, none)| Sides { any, none })
}

fn some<T: Clone + std::fmt::Debug>(values: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = Sides<T>> {
    both(values).prop_filter("no values", |sides| !sides.is_empty())
}

fn shared<T>(values: impl Strategy<Value = T> + 'static) -> BoxedStrategy<T>
where
    T: std::fmt::Debug + 'static,
{
    values.boxed()
}

fn any_source() -> impl Strategy<Value = Source> {
    let text = shared(text_match());
    let who = (both(shared(principal())), both(text.clone()), both(shared(account())), any::<bool>());
    let rest = (both(text.clone()), both(text), both(shared(block())), both(shared(block())));
    (who, rest)
        .prop_map(|((principals, namespaces, service_accounts, by_account), rest)| {
            let (request_principals, trust_domains, ip_blocks, remote_ip_blocks) = rest;
            let rest = Source { request_principals, trust_domains, ip_blocks, remote_ip_blocks, ..Source::default() };
            match by_account {
                true => Source { service_accounts, ..rest },
                false => Source { principals, namespaces, ..rest },
            }
        })
        .prop_filter("no fields", |source| *source != Source::default())
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let text = shared(text_match());
    (both(text.clone()), both(shared(port())), both(text), both(shared(path())))
        .prop_map(|(hosts, ports, methods, paths)| Operation { hosts, ports, methods, paths })
        .prop_filter("no fields", |operation| *operation != Operation::default())
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let (text, ip) = (shared(text_match()), shared(block()));
    let name = "[^\\[\\]]{1,8}";
    let key = prop_oneof![
        select(vec!["request.auth.principal", "request.auth.audiences", "request.auth.presenter", "connection.sni"])
            .prop_map(str::to_owned),
        name.prop_map(|name| format!("request.headers[{name}]")),
        (name, name).prop_map(|(a, b)| format!("request.auth.claims[{a}][{b}]")),
        ("[a-z.]{1,8}", name).prop_map(|(a, b)| format!("experimental.envoy.filters.{a}[{b}]")),
    ];
    prop_oneof![
        some(ip.clone()).prop_map(Condition::SourceIp),
        some(text.clone()).prop_map(Condition::SourceNamespace),
        some(shared(principal())).prop_map(Condition::SourcePrincipal),
        some(shared(account())).prop_map(Condition::SourceServiceAccount),
        some(text.clone()).prop_map(Condition::SourceTrustDomain),
        some(ip.clone()).prop_map(Condition::DestinationIp),
        some(shared(port())).prop_map(Condition::DestinationPort),
        some(ip).prop_map(Condition::RemoteIp),
        (key, some(text)).prop_map(|(key, values)| Condition::Request { key: key.into(), values }),
    ]
}

fn any_authorization() -> impl Strategy<Value = PolicySpec> {
    let action = prop_oneof![
        Just(AuthorizationAction::Allow),
        Just(AuthorizationAction::Deny),
        Just(AuthorizationAction::Audit),
        words().prop_map(|name| AuthorizationAction::Custom { provider: name.into() }),
    ];
    let rule = (vec(any_source(), 0..3), vec(any_operation(), 0..3), vec(any_condition(), 0..3))
        .prop_map(|(from, to, when)| AuthorizationRule { line: 0, from, to, when });
    (action, any::<bool>(), vec(rule, 0..4))
        .prop_map(|(action, dry_run, rules)| PolicySpec::Authorization(AuthorizationSpec { action, dry_run, rules }))
}

fn labels() -> impl Strategy<Value = PolicyTarget> {
    let label = (words(), prop_oneof![words(), Just(String::new())]);
    vec(label, 1..4).prop_map(|labels| {
        let shared = |text: String| Arc::<str>::from(text);
        PolicyTarget::Selector(labels.into_iter().map(|(key, value)| (shared(key), shared(value))).collect())
    })
}

fn refs() -> impl Strategy<Value = PolicyTarget> {
    let kind = select(vec![
        ("", "Service"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("networking.istio.io", "ServiceEntry"),
    ]);
    vec((kind, words()), 1..4).prop_map(|refs| {
        let one = |((group, kind), name): ((&str, &str), String)| TargetRef {
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
        };
        PolicyTarget::Refs(refs.into_iter().map(one).collect())
    })
}

fn any_peer_authentication() -> impl Strategy<Value = (PolicyTarget, PolicySpec)> {
    let mode = select(vec![MtlsMode::Unset, MtlsMode::Disable, MtlsMode::Permissive, MtlsMode::Strict]);
    let ports = vec((port(), mode.clone()), 0..4);
    (prop_oneof![Just(PolicyTarget::All), labels()], mode, ports).prop_map(|(target, mode, ports)| {
        let ports: BTreeMap<_, _> =
            if target == PolicyTarget::All { BTreeMap::new() } else { ports.into_iter().collect() };
        (target, PolicySpec::PeerAuthentication(PeerAuthenticationSpec { mode, ports }))
    })
}

#[path = "token_tests.rs"]
mod tokens;

/// Any legal policy that was read whole.
fn any_policy() -> impl Strategy<Value = PolicyObject> {
    let target = prop_oneof![Just(PolicyTarget::All), labels(), refs()];
    let spec = prop_oneof![
        3 => (target, any_authorization()).prop_map(|(target, spec)| (PolicyKind::Authorization, target, spec)),
        1 => any_peer_authentication().prop_map(|(target, spec)| (PolicyKind::PeerAuthentication, target, spec)),
        1 => (prop_oneof![Just(PolicyTarget::All), labels(), refs()], tokens::any_request_authentication())
            .prop_map(|(target, spec)| (PolicyKind::RequestAuthentication, target, spec)),
    ];
    let created = prop::option::of("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z");
    (spec, NAME, NAME, created, prop::option::of(any::<i64>())).prop_map(
        |((kind, target, spec), namespace, name, created, generation)| PolicyObject {
            origin: Origin { file: file(), document: 1, line: 0 },
            kind,
            namespace: namespace.parse().unwrap(),
            name: name.into(),
            created: created.map(Into::into),
            generation,
            target,
            spec,
        },
    )
}

proptest! {
    #[test]
    fn printed_and_read_again_it_is_the_same_policy(policy in any_policy()) {
        let (yaml, json) = (policy.to_yaml().unwrap(), policy.to_json().unwrap());
        prop_assert_eq!(&read(&yaml), &policy, "{}", yaml);
        prop_assert_eq!(&read(&json), &policy, "{}", json);
        prop_assert_eq!(&read_sent(&json), &policy, "{}", json);
        prop_assert_eq!(read(&yaml).to_yaml(), Some(yaml));
    }

    #[test]
    fn whatever_stands_in_a_policy_it_is_taken_or_rejected_with_a_reason(policy in any_policy(), from in any::<prop::sample::Index>(), with in "[\\[\\]{}:,\"a*/0 ]{0,3}") {
        // Damaged at one place, it is no JSON any more, or another policy, or rejected.
        let kind = Kind::ALL.into_iter().find(|kind| kind.to_string() == policy.kind.to_string()).unwrap();
        let mut text: Vec<char> = policy.to_json().unwrap().chars().collect();
        let at = from.index(text.len());
        text.splice(at..=at, with.chars());
        let text = String::from_iter(text);
        if let Ok(sent) = serde_json::from_str::<Sent>(&text) {
            match sent.read(kind, &file()) {
                Ok(Object::Policy(policy)) => match &policy.spec {
                    PolicySpec::Rejected(why) => prop_assert!(!why.is_empty() && why.len() <= 4_096),
                    PolicySpec::Authorization(_)
                    | PolicySpec::PeerAuthentication(_)
                    | PolicySpec::RequestAuthentication(_) => {
                        prop_assert_eq!(read(&policy.to_json().unwrap()), nowhere(policy));
                    }
                },
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(errors) => prop_assert!(!errors.is_empty()),
            }
        }
    }
}
