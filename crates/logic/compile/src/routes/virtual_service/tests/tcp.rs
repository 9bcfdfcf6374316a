//! Rules for connections that are not HTTP.

use std::net::IpAddr;

use super::*;

/// What becomes of a connection to `db`, asked for at this address and port by somebody of this namespace.
fn at(compiled: &Compiled, address: &str, asked: u16, namespace: Option<&str>) -> String {
    let namespace = namespace.map(|namespace| namespace.parse().unwrap());
    let labels = [("app", "ui")];
    let asker = Asker { namespace: namespace.as_ref(), labels: Some(&labels), gateway: MESH, port: port(asked) };
    let address: IpAddr = address.parse().unwrap();
    let host: Hostname = "db.shop.svc.cluster.local".parse().unwrap();
    let table = compiled.serving.host(&host).map(|host| host.tcp.clone()).unwrap_or_default();
    table.decide(address, &asker, &mut SmallRng::seed_from_u64(1)).to_string()
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
    assert_eq!(at(&http, "10.1.2.3", 9, None), "no route is for this client: to the service itself");
}

#[test]
fn of_tls_a_rule_for_the_very_host_counts_on_its_ports_of_tls() {
    let tls = |hosts: &str, rest: &str| {
        of_db(&format!("tls: [{{match: [{{sniHosts: [{hosts}]{rest}}}], route: [{{destination: {{host: web}}}}]}}]"))
    };
    for hosts in ["db.shop.svc.cluster.local", "other.com, '*.shop.svc.cluster.local'"] {
        let compiled = tls(hosts, "");
        assert_eq!(compiled.findings, [], "{hosts}");
        assert_eq!(
            at(&compiled, "10.1.2.3", 443, None),
            "VirtualService shop/v, spec.tls[0] (f.yaml:5): to web.shop.svc.cluster.local:80",
            "{hosts}"
        );
        assert!(at(&compiled, "10.1.2.3", 5432, None).ends_with(": to db.shop.svc.cluster.local"), "{hosts}");
    }
    for (hosts, rest) in [("other.com", ""), ("db.shop.svc.cluster.local", ", port: 5432")] {
        let compiled = tls(hosts, rest);
        let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            findings,
            [
                "VirtualService shop/v spec.tls[0]: the name that a client of TLS sends is not read: a rule counts only if sniHosts has the service's own \
              host, on its ports of TLS; this one has no effect (f.yaml:5 (document 1))"
            ],
            "{hosts}"
        );
        assert!(at(&compiled, "10.1.2.3", 443, None).ends_with(": to db.shop.svc.cluster.local"), "{hosts}");
    }
}

#[test]
fn a_client_s_address_is_not_asked_for() {
    let compiled = of_db(
        "tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: web}}]}, {route: [{destination: {host: canary}}]}]",
    );
    let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "VirtualService shop/v spec.tcp[0].match[0].sourceSubnet: addresses of clients are not asked for: the match never holds, the others may \
          (f.yaml:5 (document 1))"
        ]
    );
    assert!(at(&compiled, "10.1.2.3", 9, None).ends_with(": to canary.shop.svc.cluster.local:8080"));
    let never = of_db("tcp: [{route: [{destination: {host: web}}]}, {route: [{destination: {host: canary}}]}]");
    let findings: Vec<String> = never.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        ["VirtualService shop/v spec.tcp[1]: spec.tcp[0] takes every connection before it (f.yaml:5 (document 1))"]
    );
}
