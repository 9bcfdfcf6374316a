//! What each field comes to at a waypoint.

use ipnet::IpNet;
use weir_model::{Namespace, Port, ServiceAccount};

use super::*;

fn texts(text: &str) -> Sides<TextMatch> {
    Sides { any: vec![text.parse().unwrap()], none: vec!["x".parse().unwrap()] }
}

fn nets() -> Sides<IpNet> {
    Sides::none(["10.0.0.0/8".parse().unwrap()])
}

fn ports() -> Sides<Port> {
    Sides::any(Port::new(80))
}

fn accounts() -> Sides<(Namespace, ServiceAccount)> {
    Sides::any([("a".parse().unwrap(), "b".parse().unwrap())])
}

fn request(key: &str) -> Condition {
    Condition::Request { key: key.into(), values: texts("v*") }
}

#[test]
fn every_field_is_asked_for() {
    let from = Source {
        principals: texts("p"),
        request_principals: texts("r"),
        namespaces: texts("n"),
        service_accounts: accounts(),
        trust_domains: texts("t"),
        ip_blocks: nets(),
        remote_ip_blocks: nets(),
    };
    let text = |text: &str| PathMatch::Text(text.parse().unwrap());
    let to = Operation {
        hosts: texts("h"),
        ports: ports(),
        methods: texts("m"),
        paths: Sides { any: vec![text("/a*"), PathMatch::Template("/{*}".into())], none: vec![text("*/b")] },
    };
    let pattern = |text: &str| PathPattern::text(text.parse().unwrap()).unwrap();
    let paths =
        Sides { any: vec![pattern("/a*"), PathPattern::template("/{*}".into()).unwrap()], none: vec![pattern("*/b")] };
    let when = [
        (Condition::SourceIp(nets()), HttpField::SourceIps(nets())),
        (Condition::SourceNamespace(texts("a")), HttpField::Namespaces(texts("a"))),
        (Condition::SourcePrincipal(texts("a")), HttpField::Principals(texts("a"))),
        (Condition::SourceServiceAccount(accounts()), HttpField::ServiceAccounts(accounts())),
        (Condition::SourceTrustDomain(texts("a")), HttpField::TrustDomains(texts("a"))),
        (Condition::DestinationIp(nets()), HttpField::DestinationIps(nets())),
        (Condition::DestinationPort(ports()), HttpField::DestinationPorts(ports())),
        (Condition::RemoteIp(nets()), HttpField::RemoteIps(nets())),
        (request("request.headers[X-A]"), HttpField::Header { name: "X-A".into(), values: texts("v*") }),
        (request("request.auth.principal"), HttpField::RequestPrincipals(texts("v*"))),
        (request("request.auth.audiences"), HttpField::Audiences(texts("v*"))),
        (request("request.auth.presenter"), HttpField::Presenter(texts("v*"))),
        (request("request.auth.claims[a]"), HttpField::Claim { path: vec!["a".into()], values: texts("v*") }),
        (
            request("request.auth.claims[a][b.c/d]"),
            HttpField::Claim { path: vec!["a".into(), "b.c/d".into()], values: texts("v*") },
        ),
        (request("connection.sni"), HttpField::Sni(texts("v*"))),
    ];
    let (conditions, fields): (Vec<Condition>, Vec<HttpField>) = when.into_iter().unzip();
    let narrow = Source { namespaces: texts("n"), ..Source::default() };
    let written = AuthorizationRule { line: 7, from: vec![from, narrow], to: vec![to], when: conditions };
    let rules = rules(vec![AuthorizationRule::default(), written]).unwrap();
    assert_eq!(rules[0], HttpRule { place: RulePlace { index: Some(0), line: None }, clauses: Vec::new() });
    let sources = vec![
        HttpMatch(vec![
            HttpField::Principals(texts("p")),
            HttpField::RequestPrincipals(texts("r")),
            HttpField::Namespaces(texts("n")),
            HttpField::ServiceAccounts(accounts()),
            HttpField::TrustDomains(texts("t")),
            HttpField::SourceIps(nets()),
            HttpField::RemoteIps(nets()),
        ]),
        HttpMatch(vec![HttpField::Namespaces(texts("n"))]),
    ];
    let operations = vec![HttpMatch(vec![
        HttpField::Hosts(texts("h")),
        HttpField::DestinationPorts(ports()),
        HttpField::Methods(texts("m")),
        HttpField::Paths(paths),
    ])];
    let mut clauses = vec![
        HttpClause { part: Part::From, alternatives: sources },
        HttpClause { part: Part::To, alternatives: operations },
    ];
    let alone = |field| HttpClause { part: Part::When, alternatives: vec![HttpMatch(vec![field])] };
    clauses.extend(fields.into_iter().map(alone));
    assert_eq!(rules[1], HttpRule { place: RulePlace { index: Some(1), line: Some(7) }, clauses });
}

#[test]
fn what_cannot_be_asked_is_told_with_its_place() {
    let path = |text: &str| match text.contains('{') {
        true => PathMatch::Template(text.into()),
        false => PathMatch::Text(text.parse().unwrap()),
    };
    let operation = |any: &[&str], none: &[&str]| Operation {
        paths: Sides {
            any: any.iter().map(|text| path(text)).collect(),
            none: none.iter().map(|text| path(text)).collect(),
        },
        ..Operation::default()
    };
    let written = AuthorizationRule {
        to: vec![operation(&["/a"], &[]), operation(&["admin*", "/b"], &["/a b", "/{*}/%"])],
        when: vec![
            request("request.headers[x]"),
            request("experimental.envoy.filters.network.mysql_proxy[db.table]"),
            request("request.experimental.inline.headers[x]"),
        ],
        ..AuthorizationRule::default()
    };
    let error = rules(vec![AuthorizationRule::default(), written]).unwrap_err();
    let expected = [
        "spec.rules[1].to[1].operation.paths: \"admin*\", which no request asks for: the path does not begin with '/'",
        "spec.rules[1].to[1].operation.notPaths: \"/a b\", which no request asks for: the character ' ' at byte 2 of the \
         path, which must be escaped there",
        "spec.rules[1].to[1].operation.notPaths: \"/{*}/%\", which no request asks for: the '%' at byte 2 of the path is not \
         followed by two hexadecimal digits",
        "spec.rules[1].when[1].key: \"experimental.envoy.filters.network.mysql_proxy[db.table]\" is known to filters of \
         Envoy only, and this version has none",
        "spec.rules[1].when[2].key: \"request.experimental.inline.headers[x]\" is known to filters of Envoy only, and this \
         version has none",
    ];
    assert_eq!(error.split("; ").collect::<Vec<_>>(), expected);
}
