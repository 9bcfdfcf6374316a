//! What is left of a rule at an agent, field by field.

use weir_manifest::PathMatch;
use weir_model::{Port, TextMatch};

use super::*;

fn texts(value: &str) -> Sides<TextMatch> {
    Sides::any([value.parse().unwrap()])
}

fn ports(number: u16) -> Sides<Port> {
    Sides::any(Port::new(number))
}

fn net(text: &str) -> Sides<IpNet> {
    Sides::none([text.parse::<IpNet>().unwrap()])
}

fn rule(from: Vec<Source>, to: Vec<Operation>, when: Vec<Condition>) -> AuthorizationRule {
    AuthorizationRule { line: 7, from, to, when }
}

fn peer() -> Source {
    Source { principals: texts("td/ns/a/sa/b"), ..Source::default() }
}

fn path() -> PathMatch {
    PathMatch::Template("/a/{*}".into())
}

#[test]
fn a_part_is_a_clause_an_entry_a_match_and_a_condition_a_clause_of_its_own() {
    let accounts = Sides::none([("a".parse().unwrap(), "b".parse().unwrap())]);
    let full = Source {
        principals: texts("p*"),
        namespaces: texts("*n"),
        service_accounts: accounts.clone(),
        trust_domains: texts("td"),
        ip_blocks: net("10.0.0.0/8"),
        ..Source::default()
    };
    let full_match = Match {
        principals: texts("p*"),
        namespaces: texts("*n"),
        service_accounts: accounts.clone(),
        trust_domains: texts("td"),
        source_ips: net("10.0.0.0/8"),
        ..Match::default()
    };
    let to = Operation { ports: ports(80), ..Operation::default() };
    let to_match = Match { destination_ports: ports(80), ..Match::default() };
    let blank = Match::default();
    for (when, want) in [
        (Condition::SourceIp(net("fd00::/8")), Match { source_ips: net("fd00::/8"), ..blank.clone() }),
        (Condition::SourceNamespace(texts("a")), Match { namespaces: texts("a"), ..blank.clone() }),
        (Condition::SourcePrincipal(texts("*")), Match { principals: texts("*"), ..blank.clone() }),
        (
            Condition::SourceServiceAccount(accounts.clone()),
            Match { service_accounts: accounts.clone(), ..blank.clone() },
        ),
        (Condition::SourceTrustDomain(texts("td")), Match { trust_domains: texts("td"), ..blank.clone() }),
        (Condition::DestinationIp(net("fd00::1/128")), Match { destination_ips: net("fd00::1/128"), ..blank.clone() }),
        (Condition::DestinationPort(ports(81)), Match { destination_ports: ports(81), ..blank.clone() }),
    ] {
        let written = rule(vec![full.clone(), peer()], vec![to.clone()], vec![when.clone(), when]);
        for action in [PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Audit] {
            let (rules, of_requests) = rules(action, vec![AuthorizationRule::default(), written.clone()]);
            assert!(of_requests.is_empty());
            assert_eq!(rules[0], PolicyRule { place: RulePlace { index: Some(0), line: None }, clauses: Vec::new() });
            let from = Clause(vec![full_match.clone(), Match { principals: texts("td/ns/a/sa/b"), ..blank.clone() }]);
            let when = Clause(vec![want.clone()]);
            assert_eq!(rules[1].clauses, [from, Clause(vec![to_match.clone()]), when.clone(), when]);
            assert_eq!(rules[1].place, RulePlace { index: Some(1), line: Some(7) });
        }
    }
}

#[test]
fn a_field_of_requests_leaves_an_allow_rule_out_and_widens_a_deny_rule_to_the_rest() {
    let request = |key: &str| Condition::Request { key: key.into(), values: texts("x") };
    let to = |operation: Operation| rule(vec![peer()], vec![operation], Vec::new());
    let from = |source: Source| rule(vec![source], Vec::new(), Vec::new());
    let blank = Operation::default();
    let who = Clause(vec![Match { principals: texts("td/ns/a/sa/b"), ..Match::default() }]);
    let port = Clause(vec![Match { destination_ports: ports(80), ..Match::default() }]);
    let mut ported = to(Operation { ports: ports(80), methods: texts("GET"), ..Operation::default() });
    ported.when.push(Condition::DestinationPort(ports(80)));
    for (written, fields, denies) in [
        (to(Operation { hosts: texts("h"), ..blank.clone() }), "hosts", vec![who.clone()]),
        (to(Operation { methods: texts("GET"), ..blank.clone() }), "methods", vec![who.clone()]),
        (to(Operation { paths: Sides::none([path()]), ..blank.clone() }), "notPaths", vec![who.clone()]),
        (ported, "methods", vec![who.clone(), port.clone(), port.clone()]),
        // One of two operations is any request: whatever the other asks, the rest of the rule denies.
        (
            rule(
                vec![peer()],
                vec![
                    Operation { ports: ports(80), ..blank.clone() },
                    Operation { paths: Sides::any([path()]), ..blank.clone() },
                ],
                vec![],
            ),
            "paths",
            vec![who.clone()],
        ),
        (from(Source { request_principals: texts("*"), ..peer() }), "requestPrincipals", vec![who.clone()]),
        (from(Source { request_principals: texts("*"), ..Source::default() }), "requestPrincipals", vec![]),
        (from(Source { remote_ip_blocks: net("10.0.0.0/8"), ..Source::default() }), "notRemoteIpBlocks", vec![]),
        (
            rule(vec![peer()], vec![], vec![Condition::RemoteIp(net("::/0")), Condition::DestinationPort(ports(80))]),
            "remote.ip",
            vec![who.clone(), port.clone()],
        ),
        (rule(vec![], vec![], vec![request("request.headers[x]")]), "request.headers[x]", vec![]),
    ] {
        for (action, want) in
            [(PolicyAction::Allow, vec![]), (PolicyAction::Audit, vec![]), (PolicyAction::Deny, vec![denies])]
        {
            let (rules, of_requests) = rules(action, vec![written.clone()]);
            let clauses: Vec<_> = rules.into_iter().map(|rule| rule.clauses).collect();
            assert_eq!(clauses, want, "{action:?} {written:?}");
            assert_eq!(of_requests, [OfRequests { rule: 0, fields: fields.into() }]);
        }
    }
}

#[test]
fn a_rule_with_many_fields_of_requests_names_some() {
    let request = |i: usize| Condition::Request { key: format!("request.headers[h{i}]").into(), values: texts("x") };
    let (_, of_requests) =
        rules(PolicyAction::Allow, vec![rule(vec![], vec![], (0..9).chain(0..9).map(request).collect())]);
    assert!(of_requests[0].fields.ends_with("request.headers[h7] and 1 more"), "{of_requests:?}");
}
