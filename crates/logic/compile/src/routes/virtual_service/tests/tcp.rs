//! Rules for connections that are not HTTP.

use weir_route::TcpFacts;

use super::*;

/// What becomes of a connection to `db`, asked for at this address and port by somebody of this namespace.
fn at(compiled: &Compiled, address: &str, asked: u16, namespace: Option<&str>) -> String {
    let facts = TcpFacts { destination: address.parse().unwrap(), client: [10, 9, 9, 9].into(), name: None };
    with(compiled, &facts, asked, namespace)
}

fn with(compiled: &Compiled, facts: &TcpFacts<'_>, asked: u16, namespace: Option<&str>) -> String {
    let namespace = namespace.map(|namespace| namespace.parse().unwrap());
    let labels = [("app", "ui")];
    let asker = Asker { namespace: namespace.as_ref(), labels: Some(&labels), gateway: MESH, port: port(asked) };
    let host: Hostname = "db.shop.svc.cluster.local".parse().unwrap();
    let table = compiled.serving.host(&host).map(|host| host.tcp.clone()).unwrap_or_default();
    table.decide(facts, &asker, &mut SmallRng::seed_from_u64(1)).to_string()
}

/// What becomes of a connection that asks for a host by TLS.
fn asking(compiled: &Compiled, name: Option<&str>, asked: u16) -> String {
    let facts = TcpFacts { destination: [10, 1, 2, 3].into(), client: [10, 9, 9, 9].into(), name };
    with(compiled, &facts, asked, None)
}

fn of_db(rest: &str) -> Compiled {
    made(&named("v", "shop", &format!("{{hosts: [db], {rest}}}")))
}

#[test]
fn every_field_asks() {
    let rule = |asked: &str| {
        format!(
            "tcp: [{{match: [{asked}], route: [{{destination: {{host: web}}}}]}}, {{route: [{{destination: {{host: canary}}}}]}}]"
        )
    };
    let (yes, no) = ("to web.shop.svc.cluster.local:80", "to canary.shop.svc.cluster.local:8080");
    for (asked, address, number, namespace, is) in [
        ("{destinationSubnets: [10.0.0.0/8]}", "10.1.2.3", 5432, None, true),
        ("{destinationSubnets: [10.0.0.0/8, 'fd00::/16']}", "fd00::5", 5432, None, true),
        ("{destinationSubnets: [10.0.0.0/8]}", "fd00::5", 5432, None, false),
        ("{port: 5432}", "10.1.2.3", 5432, None, true),
        ("{port: 5432}", "10.1.2.3", 9, None, false),
        ("{sourceLabels: {app: ui}}", "10.1.2.3", 9, None, true),
        ("{sourceLabels: {app: x}}", "10.1.2.3", 9, None, false),
        ("{sourceNamespace: other}", "10.1.2.3", 9, Some("other"), true),
        ("{sourceNamespace: other}", "10.1.2.3", 9, None, false),
        ("{gateways: [mesh]}", "10.1.2.3", 9, None, true),
        ("{gateways: [edge]}", "10.1.2.3", 9, None, false),
        ("{port: 1}, {port: 9}", "10.1.2.3", 9, None, true),
    ] {
        let said = at(&of_db(&rule(asked)), address, number, namespace);
        assert!(said.ends_with(if is { yes } else { no }), "{asked} {address} {number}: {said}");
    }
}

#[test]
fn weights_and_places_are_those_of_the_rule() {
    let compiled = of_db(
        "tcp: [{route: [{destination: {host: web, subset: v1}, weight: 1}, {destination: {host: nobody}, weight: 0}]}], http: [{redirect: {uri: /}}]",
    );
    assert_eq!(
        at(&compiled, "10.1.2.3", 5432, None),
        "VirtualService shop/v, spec.tcp[0] (f.yaml:5): to web.shop.svc.cluster.local:80 subset v1"
    );
    let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "VirtualService shop/v spec.tcp[0].route[1].destination: no service has the host nobody.shop.svc.cluster.local, a service of the mesh is \
          expected: its share of connections is closed (f.yaml:5 (document 1))"
        ]
    );
    let none =
        of_db("tcp: [{route: [{destination: {host: web}, weight: 0}, {destination: {host: canary}, weight: 0}]}]");
    assert_eq!(
        at(&none, "10.1.2.3", 5432, None),
        "VirtualService shop/v, spec.tcp[0] (f.yaml:5): closed: the weights of its backends add up to 0"
    );
    assert_eq!(none.findings.len(), 1);
}

#[test]
fn on_a_port_without_a_rule_connections_go_to_the_service_itself() {
    let compiled = of_db("tcp: [{match: [{port: 5432, sourceNamespace: a}], route: [{destination: {host: web}}]}]");
    assert_eq!(
        at(&compiled, "10.1.2.3", 5432, None),
        "there are routes: closed: no rule of any route is for this connection"
    );
    assert!(at(&compiled, "10.1.2.3", 9, None).ends_with(": to db.shop.svc.cluster.local"));
    // What is only about HTTP says nothing of them.
    let http = of_db("http: [{redirect: {uri: /}}]");
    assert_eq!(at(&http, "10.1.2.3", 9, None), "no route is for this client and port: to the service itself");
}

#[test]
fn the_host_that_tls_asks_for_counts_on_ports_of_tls() {
    let tls = |hosts: &str, rest: &str| {
        of_db(&format!("tls: [{{match: [{{sniHosts: [{hosts}]{rest}}}], route: [{{destination: {{host: web}}}}]}}]"))
    };
    let own = "db.shop.svc.cluster.local";
    let yes = "VirtualService shop/v, spec.tls[0] (f.yaml:5): to web.shop.svc.cluster.local:80";
    let no = "there are routes: closed: no rule of any route is for this connection";
    for (hosts, name, want) in [
        ("db.shop.svc.cluster.local", Some(own), yes),
        ("other.com, '*.shop.svc.cluster.local'", Some(own), yes),
        ("other.com, '*.shop.svc.cluster.local'", Some("other.com"), yes),
        ("other.com", Some(own), no),
        ("other.com", None, no),
    ] {
        let compiled = tls(hosts, "");
        assert_eq!(compiled.findings, [], "{hosts}");
        assert_eq!(asking(&compiled, name, 443), want, "{hosts} {name:?}");
        assert!(asking(&compiled, name, 5432).ends_with(": to db.shop.svc.cluster.local"), "{hosts}");
    }
    let compiled = tls("db.shop.svc.cluster.local", ", port: 5432");
    let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "VirtualService shop/v spec.tls[0]: it is for no port where a service that it is for speaks TLS (named tls or https): it has no effect \
          (f.yaml:5 (document 1))"
        ]
    );
    assert!(asking(&compiled, Some(own), 443).ends_with(": to db.shop.svc.cluster.local"));
}

#[test]
fn where_a_client_connects_from_counts() {
    let compiled = of_db(
        "tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: web}}]}, {route: [{destination: {host: canary}}]}]",
    );
    assert_eq!(compiled.findings, []);
    for (client, want) in [
        ("10.9.9.9", "web.shop.svc.cluster.local:80"),
        ("192.0.2.1", "canary.shop.svc.cluster.local:8080"),
        ("fd00::1", "canary.shop.svc.cluster.local:8080"),
    ] {
        let facts = TcpFacts { destination: [10, 1, 2, 3].into(), client: client.parse().unwrap(), name: None };
        let said = with(&compiled, &facts, 9, None);
        assert!(said.ends_with(&format!(": to {want}")), "{client}: {said}");
    }
    let never = of_db("tcp: [{route: [{destination: {host: web}}]}, {route: [{destination: {host: canary}}]}]");
    let findings: Vec<String> = never.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        ["VirtualService shop/v spec.tcp[1]: spec.tcp[0] takes every connection before it (f.yaml:5 (document 1))"]
    );
}
