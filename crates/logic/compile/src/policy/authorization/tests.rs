//! What is left of a rule at an agent, field by field.

use std::net::IpAddr;

use proptest::prelude::*;
use weir_authz::{
    Compiled, Destination, Peer, Ruling,
    http::{HttpPolicies, HttpPolicy},
};
use weir_manifest::PathMatch;
use weir_model::{
    Namespace, Policy, PolicyKind, PolicyName, PolicyScope, PolicySource, Port, ServiceAccount, SpiffeId, TextMatch,
};

use weir_request::Normalization;

use super::*;
use crate::policy::http;

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

/// Mostly one side, sometimes both, often none.
fn sides<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Sides<T>> {
    let some = prop::collection::vec(prop::sample::select(values), 1..3);
    (0_u8..6, some.clone(), some).prop_map(|(which, any, none)| match which {
        0 => Sides { any, none },
        1 => Sides::any(any),
        2 => Sides::none(none),
        _ => Sides::default(),
    })
}

fn some_texts(values: &[&str]) -> impl Strategy<Value = Sides<TextMatch>> + use<> {
    sides(values.iter().map(|value| value.parse().unwrap()).collect())
}

fn some_nets() -> impl Strategy<Value = Sides<IpNet>> {
    sides(["10.0.0.0/8", "10.0.0.1/32", "fd00::/8", "::/0"].map(|net| net.parse().unwrap()).to_vec())
}

fn some_ports() -> impl Strategy<Value = Sides<Port>> {
    sides([80, 81].into_iter().filter_map(Port::new).collect())
}

fn some_accounts() -> impl Strategy<Value = Sides<(Namespace, ServiceAccount)>> {
    sides(
        [("a", "b"), ("c", "d")].map(|(namespace, name)| (namespace.parse().unwrap(), name.parse().unwrap())).to_vec(),
    )
}

fn a_source() -> impl Strategy<Value = Source> {
    let principals = some_texts(&["td/ns/a/sa/b", "td/*", "*/sa/d", "*"]);
    let identity = (principals, some_texts(&["a", "c", "*"]), some_accounts(), some_texts(&["td", "td*"]));
    (identity, some_nets(), some_texts(&["*"]), some_nets()).prop_map(|(identity, ip_blocks, request, remote)| {
        let (principals, namespaces, service_accounts, trust_domains) = identity;
        let (request_principals, remote_ip_blocks) = (request, remote);
        Source {
            principals,
            request_principals,
            namespaces,
            service_accounts,
            trust_domains,
            ip_blocks,
            remote_ip_blocks,
        }
    })
}

fn an_operation() -> impl Strategy<Value = Operation> {
    (some_ports(), some_texts(&["GET"]), sides(vec![path()])).prop_map(|(ports, methods, paths)| Operation {
        ports,
        methods,
        paths,
        ..Operation::default()
    })
}

fn a_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        some_nets().prop_map(Condition::SourceIp),
        some_texts(&["a", "*"]).prop_map(Condition::SourceNamespace),
        some_texts(&["td/ns/a/sa/b", "*"]).prop_map(Condition::SourcePrincipal),
        some_accounts().prop_map(Condition::SourceServiceAccount),
        some_texts(&["td"]).prop_map(Condition::SourceTrustDomain),
        some_nets().prop_map(Condition::DestinationIp),
        some_ports().prop_map(Condition::DestinationPort),
        some_nets().prop_map(Condition::RemoteIp),
        some_texts(&["x"]).prop_map(|values| Condition::Request { key: "request.headers[x]".into(), values }),
    ]
}

/// As the parser leaves them: an entry and a condition ask for something.
fn a_rule() -> impl Strategy<Value = AuthorizationRule> {
    let sources = prop::collection::vec(a_source().prop_filter("empty", |one| *one != Source::default()), 0..3);
    let operations =
        prop::collection::vec(an_operation().prop_filter("empty", |one| *one != Operation::default()), 0..3);
    let asks = |one: &Condition| match one {
        Condition::SourceIp(sides) | Condition::DestinationIp(sides) | Condition::RemoteIp(sides) => !sides.is_empty(),
        Condition::SourceNamespace(sides) | Condition::SourcePrincipal(sides) | Condition::SourceTrustDomain(sides) => {
            !sides.is_empty()
        }
        Condition::SourceServiceAccount(sides) => !sides.is_empty(),
        Condition::DestinationPort(sides) => !sides.is_empty(),
        Condition::Request { key: _, values } => !values.is_empty(),
    };
    let conditions = prop::collection::vec(a_condition().prop_filter("empty", asks), 0..2);
    (sources, operations, conditions).prop_map(|(from, to, when)| rule(from, to, when))
}

/// A rule read as the reference says, with one answer to everything that is asked of a request.
struct Reading<'r> {
    peer: Peer<'r>,
    destination: Destination,
    of_requests: bool,
}

impl Reading<'_> {
    fn rule(&self, rule: &AuthorizationRule) -> bool {
        (rule.from.is_empty() || rule.from.iter().any(|one| self.source(one)))
            && (rule.to.is_empty() || rule.to.iter().any(|one| self.operation(one)))
            && rule.when.iter().all(|one| self.condition(one))
    }

    fn unknown<T>(&self, sides: &Sides<T>) -> bool {
        sides.is_empty() || self.of_requests
    }

    fn principal(&self, sides: &Sides<TextMatch>) -> bool {
        let text = self.peer.identity.map(|one| one.to_string().replace("spiffe://", ""));
        holds(sides, |one| text.as_ref().is_some_and(|text| one.matches(text)))
    }

    fn namespace(&self, sides: &Sides<TextMatch>) -> bool {
        holds(sides, |one| self.peer.identity.is_some_and(|peer| one.matches(peer.namespace().as_str())))
    }

    fn account(&self, sides: &Sides<(Namespace, ServiceAccount)>) -> bool {
        holds(sides, |(space, name)| {
            self.peer.identity.is_some_and(|peer| peer.namespace() == space && peer.service_account() == name)
        })
    }

    fn domain(&self, sides: &Sides<TextMatch>) -> bool {
        holds(sides, |one| self.peer.identity.is_some_and(|peer| one.matches(peer.trust_domain().as_str())))
    }

    fn source(&self, source: &Source) -> bool {
        self.principal(&source.principals)
            && self.namespace(&source.namespaces)
            && self.account(&source.service_accounts)
            && self.domain(&source.trust_domains)
            && holds(&source.ip_blocks, |net| net.contains(&self.peer.address))
            && self.unknown(&source.request_principals)
            && self.unknown(&source.remote_ip_blocks)
    }

    fn operation(&self, operation: &Operation) -> bool {
        holds(&operation.ports, |port| *port == self.destination.port)
            && self.unknown(&operation.methods)
            && self.unknown(&operation.paths)
            && self.unknown(&operation.hosts)
    }

    fn condition(&self, condition: &Condition) -> bool {
        match condition {
            Condition::SourceIp(nets) => holds(nets, |net| net.contains(&self.peer.address)),
            Condition::SourceNamespace(texts) => self.namespace(texts),
            Condition::SourcePrincipal(texts) => self.principal(texts),
            Condition::SourceServiceAccount(accounts) => self.account(accounts),
            Condition::SourceTrustDomain(texts) => self.domain(texts),
            Condition::DestinationIp(nets) => holds(nets, |net| net.contains(&self.destination.address)),
            Condition::DestinationPort(ports) => holds(ports, |port| *port == self.destination.port),
            Condition::RemoteIp(_) | Condition::Request { .. } => self.of_requests,
        }
    }
}

fn holds<T>(sides: &Sides<T>, is: impl Fn(&T) -> bool) -> bool {
    (sides.any.is_empty() || sides.any.iter().any(&is)) && !sides.none.iter().any(&is)
}

fn compiled(action: PolicyAction, written: &AuthorizationRule) -> Compiled {
    let (rules, _) = rules(action, vec![written.clone()]);
    let source = PolicySource { kind: PolicyKind::Authorization, name: "p".into(), file: None };
    let name = PolicyName::new("a".parse().unwrap(), "p").unwrap();
    Compiled::new(Policy { name, scope: PolicyScope::Mesh, action, dry_run: false, rules, rejected: None, source })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn an_agent_admits_nothing_that_a_request_could_forbid_and_denies_all_that_one_could(written in a_rule()) {
        let identities = ["spiffe://td/ns/a/sa/b", "spiffe://td/ns/c/sa/d", "spiffe://other/ns/a/sa/b"];
        let identities: Vec<SpiffeId> = identities.iter().map(|one| one.parse().unwrap()).collect();
        let addresses: [IpAddr; 3] = ["10.0.0.1", "10.9.9.9", "fd00::1"].map(|ip| ip.parse().unwrap());
        let (allow, deny) = (compiled(PolicyAction::Allow, &written), compiled(PolicyAction::Deny, &written));
        for identity in identities.iter().map(Some).chain([None]) {
            for (address, port) in addresses.into_iter().flat_map(|ip| [80, 81].map(|port| (ip, Port::new(port).unwrap()))) {
                let (peer, destination) = (Peer { identity, address }, Destination { address, port });
                let [never, always] = [false, true].map(|of_requests| Reading { peer, destination, of_requests }.rule(&written));
                let admits = allow.matching(&peer, &destination).is_some();
                prop_assert!(never || !admits, "admits {:?} {:?}", peer, destination);
                prop_assert_eq!(deny.matching(&peer, &destination).is_some(), always, "{:?} {:?}", peer, destination);
                if allow.policy().rules.len() == 1 {
                    prop_assert_eq!(admits, always, "a rule about connections alone is enforced as written");
                }
            }
        }
    }
    #[test]
    fn a_waypoint_decides_on_connections_as_the_rules_say(written in a_rule().prop_filter("remote", |one| !asks_for_the_client(one))) {
        let at_waypoint = |action| {
            let (rules, agents) = (http::rules(vec![written.clone()]).unwrap(), compiled(action, &written));
            let (name, source) = (agents.policy().name.clone(), agents.policy().source.clone());
            let policy = HttpPolicy { name, action, dry_run: false, rules, rejected: None, source };
            HttpPolicies::new([Arc::new(policy)], Normalization::Base)
        };
        let (allow, deny) = (at_waypoint(PolicyAction::Allow), at_waypoint(PolicyAction::Deny));
        let asks_for_requests = !rules(PolicyAction::Allow, vec![written.clone()]).1.is_empty();
        let identity: SpiffeId = "spiffe://td/ns/a/sa/b".parse().unwrap();
        let other: SpiffeId = "spiffe://other/ns/c/sa/d".parse().unwrap();
        for identity in [Some(&identity), Some(&other), None] {
            for (address, port) in [("10.0.0.1", 80), ("10.9.9.9", 81), ("fd00::1", 80)] {
                let address = address.parse().unwrap();
                let (peer, destination) = (Peer { identity, address }, Destination { address, port: Port::new(port).unwrap() });
                let matches = Reading { peer, destination, of_requests: true }.rule(&written);
                let denied = deny.decide_connection(&peer, &destination, None).ruling == Ruling::Deny;
                prop_assert_eq!(denied, matches, "{:?} {:?}", peer, destination);
                let admitted = allow.decide_connection(&peer, &destination, None).ruling == Ruling::Allow;
                prop_assert_eq!(admitted, matches && !asks_for_requests, "{:?} {:?}", peer, destination);
            }
        }
    }
}

/// Agents do not know the client behind a proxy; a waypoint knows that of a connection.
fn asks_for_the_client(rule: &AuthorizationRule) -> bool {
    rule.from.iter().any(|one| !one.remote_ip_blocks.is_empty())
        || rule.when.iter().any(|one| matches!(one, Condition::RemoteIp(_)))
}
