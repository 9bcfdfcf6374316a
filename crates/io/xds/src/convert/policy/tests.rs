//! What is sent is what is read, what others read of it admits no more, and what cannot be read denies.

mod vocabulary;
mod ztunnel;

use proptest::{collection::vec, prelude::*};
use weir_model::{Match, Sides, TextMatch};

use super::*;
use crate::testing::policy;
use vocabulary::{connections, policies, rules};
use ztunnel::{DryRuns, admits};

fn plain(policy: &Policy) -> proto::Authorization {
    proto::Authorization::decode(Authorization::encode(policy).as_slice()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_policy_is_read_as_it_was_sent(policy in policies()) {
        let read = Authorization::decode(&policy.name.to_string(), Authorization::encode(&policy));
        prop_assert_eq!(read, Ok(Authorization { policy, unread: None }));
    }

    #[test]
    fn what_the_plain_form_admits_the_policies_admit(policies in vec(policies(), 0..4), from in vec(connections(), 20)) {
        let plain: Vec<_> = policies.iter().map(plain).collect();
        for connection in from {
            for dry_runs in [DryRuns::DecideNothing, DryRuns::AreEnforced] {
                let admitted = admits(&plain, &connection, dry_runs);
                prop_assert!(!admitted || may_enter(&connection, &policies), "{:?} {:?}", dry_runs, connection);
            }
        }
    }

    #[test]
    fn what_the_plain_form_can_say_it_says(policies in vec(policies(), 0..4), from in vec(connections(), 20)) {
        let mut policies = policies;
        for policy in &mut policies {
            policy.rules.retain(fits);
            policy.dry_run &= policy.action == PolicyAction::Deny;
        }
        let plain: Vec<_> = policies.iter().map(plain).collect();
        for connection in from {
            let admitted = admits(&plain, &connection, DryRuns::DecideNothing);
            prop_assert_eq!(admitted, may_enter(&connection, &policies), "{:?}", connection);
        }
    }

    #[test]
    fn a_policy_of_istiod_decides_as_at_a_ztunnel(said in vec((any::<bool>(), prop::bool::weighted(0.2), vec(rules(), 0..4)), 0..4), from in vec(connections(), 20)) {
        let said: Vec<_> = said.into_iter().enumerate().map(|(index, (allow, dry_run, rules))| {
            let action = if allow { proto::Action::Allow } else { proto::Action::Deny };
            foreign(&index.to_string(), action, dry_run, rules)
        }).collect();
        let read = said.iter().map(|message| {
            let read = Authorization::decode(&format!("default/{}", message.name), message.encode_to_vec()).unwrap();
            assert_eq!(read.unread, None);
            read.policy
        });
        let read: Vec<_> = read.collect();
        for connection in from {
            let admitted = admits(&said, &connection, DryRuns::DecideNothing);
            prop_assert_eq!(admitted, may_enter(&connection, &read), "{:?}", connection);
        }
    }

    #[test]
    fn damaged_bytes_are_read_or_refused(policy in policies(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = Authorization::encode(&policy);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let name = policy.name.to_string();
        if let Ok(read) = Authorization::decode(&name, bytes) {
            prop_assert!(read.unread.is_none() || read.policy.rejected.is_some());
            let again = Authorization::decode(&name, Authorization::encode(&read.policy)).unwrap();
            prop_assert_eq!(again, Authorization { policy: read.policy, unread: None });
        }
    }
}

fn may_enter(connection: &vocabulary::Connection, policies: &[Policy]) -> bool {
    // Each has a name of its own, which arbitrary ones need not have.
    let named = policies.iter().enumerate().map(|(index, policy)| {
        let name = PolicyName::new("default".parse().unwrap(), &index.to_string()).unwrap();
        Policy { name, ..policy.clone() }
    });
    connection.may_enter(named)
}

/// One without our extension, and without what Istio cannot say. Clauses without matches are in it, too.
fn foreign(name: &str, action: proto::Action, dry_run: bool, mut rules: Vec<PolicyRule>) -> proto::Authorization {
    for rule in &mut rules {
        for clause in &mut rule.clauses {
            clause
                .0
                .retain(|one| fits(&PolicyRule { clauses: vec![Clause(vec![one.clone()])], ..PolicyRule::default() }));
        }
    }
    proto::Authorization {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        scope: proto::Scope::Namespace.into(),
        action: action.into(),
        rules: rules.iter().map(|rule| rule_to(&rule.clauses)).collect(),
        dry_run,
        extensions: Vec::new(),
    }
}

fn one_rule(one: Match) -> PolicyRule {
    PolicyRule { place: RulePlace { index: Some(3), line: Some(7) }, clauses: vec![Clause(vec![one])] }
}

fn ours(action: PolicyAction, rules: Vec<PolicyRule>) -> Policy {
    Policy { action, rules, rejected: None, ..policy("p") }
}

#[test]
fn the_plain_form_of_what_it_cannot_say_is_one_that_admits_no_more() {
    let rule = one_rule(Match { namespaces: Sides::any([TextMatch::Present]), ..Match::default() });
    let rules = vec![rule];
    let own = [rule_to(&rules[0].clauses)];
    let everything = [Bytes::new()];
    let (allow, deny) = (i32::from(proto::Action::Allow), i32::from(proto::Action::Deny));
    let cases: [(PolicyAction, bool, bool, i32, &[Bytes]); 8] = [
        (PolicyAction::Allow, false, false, allow, &own),
        (PolicyAction::Allow, true, false, deny, &[]),
        (PolicyAction::Allow, false, true, deny, &everything),
        (PolicyAction::Allow, true, true, deny, &[]),
        (PolicyAction::Deny, false, false, deny, &own),
        (PolicyAction::Deny, true, false, deny, &own),
        (PolicyAction::Audit, false, false, deny, &[]),
        (PolicyAction::Audit, false, true, deny, &everything),
    ];
    for (action, dry_run, rejected, want, rules_want) in cases {
        let rejected = rejected.then(|| "nobody can".into());
        let policy = Policy { dry_run, rejected, ..ours(action, rules.clone()) };
        let sent = plain(&policy);
        let nothing = rules_want.is_empty();
        assert_eq!(
            (sent.action, sent.dry_run, sent.rules.as_slice()),
            (want, dry_run || nothing, rules_want),
            "{policy:?}"
        );
    }
}

#[test]
fn trust_domains_become_principals_or_what_refuses_more() {
    let text = |text: &&str| text.parse::<TextMatch>().unwrap();
    let list = |texts: &[&str]| texts.iter().map(text).collect::<Vec<_>>();
    type Case<'c> = (&'c [&'c str], &'c [&'c str], &'c [&'c str], Option<&'c [&'c str]>, Option<&'c [&'c str]>);
    // Principals, trust domains, trust domains that are not wanted; the principals said where that allows and where it denies. None: nothing
    // can match.
    let cases: [Case<'_>; 14] = [
        (&[], &["a"], &[], Some(&["a/*"]), Some(&["a/*"])),
        (&[], &["a", "b*"], &[], Some(&["a/*", "b*"]), Some(&["a/*", "b*"])),
        (&[], &["*"], &[], Some(&["*"]), Some(&["*"])),
        (&[], &["*a"], &[], None, Some(&["*"])),
        (&[], &["a", "*a"], &[], Some(&["a/*"]), Some(&["a/*", "*"])),
        (&["a/ns/x/*", "b/ns/x/sa/y"], &["a"], &[], Some(&["a/ns/x/*"]), Some(&["a/ns/x/*"])),
        (&["b/ns/x/sa/y"], &["a"], &[], None, None),
        (&["ba/ns/x/sa/y"], &["*a"], &[], Some(&["ba/ns/x/sa/y"]), Some(&["ba/ns/x/sa/y"])),
        (&["*/sa/y"], &["a"], &[], None, Some(&["*/sa/y"])),
        (&["ab*"], &["a*"], &[], Some(&["ab*"]), Some(&["ab*"])),
        (&["a*"], &["ab*", "ac"], &[], Some(&["ac/*", "ab*"]), Some(&["ac/*", "ab*"])),
        (&[], &["a/b"], &[], None, None),
        (&[], &[], &["a", "b*"], Some(&["!a/*", "!b*"]), Some(&["!a/*", "!b*"])),
        (&[], &[], &["a", "*a"], Some(&["!a/*", "!*"]), Some(&["!a/*"])),
    ];
    for (principals, domains, not_domains, narrower, wider) in cases {
        for (bend, want) in [(Bend::Narrower, narrower), (Bend::Wider, wider)] {
            let trust_domains = Sides { any: list(domains), none: list(not_domains) };
            let rule = one_rule(Match { trust_domains, principals: Sides::any(list(principals)), ..Match::default() });
            let mut want: Vec<String> = want.unwrap_or_default().iter().map(ToString::to_string).collect();
            let bent = bent(&rule, bend);
            assert!(bent.len() == 1 && bent[0].0.len() == 1, "{bent:?}");
            let said = &bent[0].0[0].principals;
            let unwanted = said.none.iter().map(|text| format!("!{text}"));
            let mut got: Vec<String> = said.any.iter().map(ToString::to_string).chain(unwanted).collect();
            got.sort();
            want.sort();
            assert_eq!(got, want, "{principals:?} {domains:?} {not_domains:?} {bend:?}");
            assert_eq!(bent[0].0[0].is_empty(), want.is_empty(), "a match that says nothing matches nothing");
        }
    }
    let unsaid = Match { trust_domains: Sides::none(list(&["*a"])), ..Match::default() };
    let bent = bent(&one_rule(unsaid), Bend::Wider);
    assert_eq!(bent[0].0[0].source_ips.any.len(), 2, "everything of both families: {bent:?}");
    let many = |count: usize| (0..count).map(|one| TextMatch::Exact(format!("{one}").into())).collect();
    let trust_domains = Sides { any: many(2000), none: Vec::new() };
    let unmet =
        one_rule(Match { trust_domains, principals: Sides { any: many(2000), none: Vec::new() }, ..Match::default() });
    assert_eq!(plain::bent(&unmet, Bend::Narrower), [Clause(vec![Match::default()])]);
    assert_eq!(plain::bent(&unmet, Bend::Wider)[0].0[0].principals.any.len(), 2000);
}

type Change = fn(&mut proto::Match);

/// A message with one rule, of one match.
fn with(change: Change) -> proto::Authorization {
    let mut one = proto::Match { destination_ports: vec![80], ..proto::Match::default() };
    change(&mut one);
    let clause = proto::Clause { matches: vec![one.encode_to_vec().into()] };
    let rule = proto::Rule { clauses: vec![clause.encode_to_vec().into()] };
    let rules = vec![rule.encode_to_vec().into()];
    proto::Authorization { rules, ..foreign("p", proto::Action::Allow, false, Vec::new()) }
}

fn text(kind: Option<proto::StringMatchType>) -> Vec<proto::StringMatch> {
    vec![proto::StringMatch { match_type: kind }]
}

fn denies_as(message: &[u8], want: &str) -> Policy {
    let read = Authorization::decode("default/p", message.to_vec()).unwrap();
    assert_eq!((read.policy.rejected.as_deref(), read.policy.action), (Some(want), PolicyAction::Deny));
    assert_eq!(read.unread, Some(format!("\"default/p\": {want}")));
    assert!(read.policy.rules.is_empty());
    read.policy
}

#[test]
fn a_match_that_cannot_be_read_rejects_its_policy_by_the_name_of_the_field() {
    use proto::StringMatchType::{Exact, Prefix, Suffix};
    let range = |address: &[u8], length| vec![proto::AddressRange { address: address.to_vec(), length }];
    let account = |namespace: &str, name: &str| {
        let (namespace, service_account) = (namespace.to_owned(), name.to_owned());
        vec![proto::ServiceAccountMatch { namespace, service_account }]
    };
    let mut one = proto::Match::default();
    let mut cases: Vec<(proto::Match, &str)> = Vec::new();
    let mut case = |change: &dyn Fn(&mut proto::Match), want| {
        change(&mut one);
        cases.push((std::mem::take(&mut one), want));
    };
    case(&|one| one.source_ips = range(&[10, 0, 0, 0, 1], 8), "source_ips[0]: an address of 5 bytes, expected 4 or 16");
    case(&|one| one.not_source_ips = range(&[], 0), "not_source_ips[0]: an address of 0 bytes, expected 4 or 16");
    case(
        &|one| one.destination_ips = range(&[10, 0, 0, 0], 33),
        "destination_ips[0]: 10.0.0.0 has no prefix of 33 bits",
    );
    case(&|one| one.not_destination_ips = range(&[0; 16], 300), "not_destination_ips[0]: :: has no prefix of 300 bits");
    case(&|one| one.destination_ports = vec![80, 0], "destination_ports[1]: 0 is not a port: expected 1 to 65535");
    case(
        &|one| one.not_destination_ports = vec![65_536],
        "not_destination_ports[0]: 65536 is not a port: expected 1 to 65535",
    );
    case(&|one| one.namespaces = text(None), "namespaces[0]: neither exact, prefix, suffix nor presence");
    case(&|one| one.not_namespaces = text(Some(Exact(String::new()))), "not_namespaces[0]: an empty text");
    case(&|one| one.principals = text(Some(Prefix(String::new()))), "principals[0]: an empty text");
    case(&|one| one.not_principals = text(Some(Suffix(String::new()))), "not_principals[0]: an empty text");
    case(&|one| one.service_accounts = account("", "x"), "service_accounts[0]: empty namespace");
    case(&|one| one.not_service_accounts = account("a", ""), "not_service_accounts[0]: empty service account");
    for (one, want) in cases {
        let clause = proto::Clause { matches: vec![Bytes::new(), one.encode_to_vec().into()] };
        let rule = proto::Rule { clauses: vec![clause.encode_to_vec().into()] };
        let rules = vec![Bytes::new(), rule.encode_to_vec().into()];
        let message = proto::Authorization { rules, ..foreign("p", proto::Action::Allow, false, Vec::new()) };
        denies_as(&message.encode_to_vec(), &format!("rules[1].clauses[0].matches[1].{want}"));
    }
    let many = with(|one| one.destination_ports = vec![0; 20]).encode_to_vec();
    let read = Authorization::decode("default/p", many).unwrap().unread.unwrap();
    assert!(read.ends_with("; and 12 more"), "{read}");
}

#[test]
fn what_is_not_known_rejects_wherever_it_stands() {
    let unknown = b"\xf8\x7f\x01";
    let named = |name: &str| proto::Extension { name: name.to_owned(), config: None };
    let good = with(|_| {}).encode_to_vec();
    assert_eq!(Authorization::decode("default/p", good.clone()).unwrap().unread, None);
    denies_as(
        &[&good, &unknown[..]].concat(),
        "istio.security.Authorization: it has fields that this version does not know",
    );
    let unknown = Bytes::from_static(unknown);
    let rule_of = |clause: Bytes| Bytes::from(proto::Rule { clauses: vec![clause] }.encode_to_vec());
    let clause_of = |one: Bytes| Bytes::from(proto::Clause { matches: vec![one] }.encode_to_vec());
    for (rule, place) in [
        (unknown.clone(), "rules[0]"),
        (rule_of(unknown.clone()), "rules[0].clauses[0]"),
        (rule_of(clause_of(unknown.clone())), "rules[0].clauses[0].matches[0]"),
    ] {
        let message = proto::Authorization { rules: vec![rule], ..with(|_| {}) };
        denies_as(&message.encode_to_vec(), &format!("{place}: it has fields that this version does not know"));
    }
    let extended = with(|one| one.extensions = vec![proto::Extension { name: "x".to_owned(), config: None }]);
    denies_as(&extended.encode_to_vec(), "rules[0].clauses[0].matches[0]: the extension \"x\" is not known");
    let ours_alone = with(|one| one.trust_domains = text(Some(proto::StringMatchType::Presence(()))));
    denies_as(
        &ours_alone.encode_to_vec(),
        "rules[0].clauses[0].matches[0]: it has fields that this version does not know",
    );
    let own = |extensions: Vec<proto::Extension>| proto::Authorization { extensions, ..with(|_| {}) }.encode_to_vec();
    denies_as(&own(vec![named("x")]), "extensions: \"x\" is not known");
    denies_as(&own(vec![named(POLICY)]), "weir.dev/policy: it holds no policy");
    denies_as(&own(vec![named(POLICY), named(POLICY)]), "extensions: \"weir.dev/policy\" is there twice");
    let with_own = |change: fn(&mut OwnPolicy)| {
        let mut own = OwnPolicy { rules: vec![Bytes::new()], ..OwnPolicy::default() };
        change(&mut own);
        let config = Some(prost_types::Any { type_url: OWN_POLICY.to_owned(), value: own.encode_to_vec() });
        let extensions = vec![proto::Extension { name: POLICY.to_owned(), config }];
        proto::Authorization { extensions, ..with(|_| {}) }.encode_to_vec()
    };
    assert_eq!(Authorization::decode("default/p", with_own(|_| {})).unwrap().unread, None);
    denies_as(&with_own(|own| own.kind = 9), "weir.dev/policy: the kind 9 is not known");
    denies_as(&with_own(|own| own.action = 9), "weir.dev/policy: the action 9 is not known");
    denies_as(&with_own(|own| own.rules.push(Bytes::new())), "rules[1]: it is not there");
    let why = "weir.dev/policy: rules[0]: it has fields that this version does not know";
    denies_as(&with_own(|own| own.rules[0] = Bytes::from_static(b"\xf8\x7f\x01")), why);
}

#[test]
fn one_of_unknown_scope_is_over_the_whole_mesh_and_one_of_another_name_denies() {
    let scoped = proto::Authorization { scope: 9, ..with(|_| {}) };
    assert_eq!(denies_as(&scoped.encode_to_vec(), "scope: 9 is not known").scope, PolicyScope::Mesh);
    let acting = proto::Authorization { action: 2, ..with(|_| {}) };
    assert_eq!(denies_as(&acting.encode_to_vec(), "action: 2 is not known").scope, PolicyScope::Namespace);
    let other = proto::Authorization { name: "q".to_owned(), ..with(|_| {}) };
    let read = denies_as(&other.encode_to_vec(), "name: it is \"default/q\" by its own words");
    assert_eq!(read.name.to_string(), "default/p");
    let dry = proto::Authorization { dry_run: true, ..acting };
    assert!(denies_as(&dry.encode_to_vec(), "action: 2 is not known").dry_run);
    for name in ["p", "default/", "DEFAULT/p"] {
        assert!(matches!(Authorization::decode(name, Vec::new()), Err(ConvertError::Field { field: "name", .. })));
    }
    let error = Authorization::decode("default/p", b"\xff".to_vec()).unwrap_err();
    assert!(matches!(error, ConvertError::Malformed { .. }));
    let unreadable = Authorization::unreadable(policy("p").name, &error);
    assert_eq!((unreadable.scope, unreadable.rejected), (PolicyScope::Mesh, Some(error.to_string().into())));
}

#[test]
fn what_istiod_makes_of_a_peer_authentication_is_known_by_its_name() {
    for (name, kind, own) in [
        ("istio_converted_static_strict", PolicyKind::PeerAuthentication, "istio_converted_static_strict"),
        ("converted_peer_authentication_db", PolicyKind::PeerAuthentication, "db"),
        ("converted_peer_authentication_", PolicyKind::Authorization, "converted_peer_authentication_"),
        ("db", PolicyKind::Authorization, "db"),
    ] {
        let message = foreign(name, proto::Action::Deny, false, Vec::new());
        let read = Authorization::decode(&format!("default/{name}"), message.encode_to_vec()).unwrap();
        assert_eq!(read.policy.source, PolicySource { kind, name: own.into(), file: None });
    }
}

#[test]
fn a_range_of_mapped_addresses_is_one_of_ipv4() {
    let message = with(|one| {
        let mut address = vec![0; 10];
        address.extend([0xff, 0xff, 10, 1, 0, 0]);
        one.source_ips = vec![proto::AddressRange { address, length: 112 }];
    });
    let read = Authorization::decode("default/p", message.encode_to_vec()).unwrap();
    assert_eq!(read.policy.rules[0].clauses[0].0[0].source_ips.any, ["10.1.0.0/16".parse().unwrap()]);
}

#[test]
fn a_million_ranges_are_sent_and_what_is_beyond_the_bounds_is_sent_as_rejected() {
    let ranges = |count: u32| {
        (0..count)
            .map(|one| std::net::IpAddr::from(std::net::Ipv6Addr::from_bits(u128::from(one) << 64)).into())
            .collect()
    };
    let listed = |count| {
        let source_ips = Sides { any: ranges(count), none: Vec::new() };
        ours(PolicyAction::Allow, vec![one_rule(Match { source_ips, ..Match::default() })])
    };
    let large = listed(1_000_000);
    let read = Authorization::decode("default/p", Authorization::encode(&large));
    assert!(read == Ok(Authorization { policy: large, unread: None }), "a million ranges are others");

    let small = one_rule(Match { namespaces: Sides::any([TextMatch::Present]), ..Match::default() });
    let many = ours(PolicyAction::Audit, vec![small; MAX_PARTS / 3 + 1]);
    for (policy, want) in [
        (listed(1_200_000), "27600098 bytes as it is sent, at most 25165824 are"),
        (many, "131073 rules, clauses and matches, at most 131072 are sent"),
    ] {
        let sent = Authorization::encode(&policy);
        let read = Authorization::decode("default/p", sent).unwrap();
        assert_eq!((read.policy.rejected.as_deref(), read.unread), (Some(want), None));
        assert_eq!((read.policy.action, read.policy.scope), (policy.action, policy.scope));
    }
    let clause = proto::Clause { matches: vec![Bytes::new(); MAX_PARTS] };
    let rule = proto::Rule { clauses: vec![clause.encode_to_vec().into()] };
    let message = proto::Authorization { rules: vec![rule.encode_to_vec().into()], ..with(|_| {}) };
    denies_as(&message.encode_to_vec(), "rules: more than 131072 rules, clauses and matches");
    let message = proto::Authorization { rules: vec![Bytes::new(); MAX_PARTS + 1], ..with(|_| {}) };
    denies_as(&message.encode_to_vec(), "rules: more than 131072 rules, clauses and matches");
    let long = Authorization::decode("default/p", vec![0; MAX_POLICY_BYTES + 1]);
    assert!(matches!(long, Err(ConvertError::TooLong { most: MAX_POLICY_BYTES, .. })));
}
