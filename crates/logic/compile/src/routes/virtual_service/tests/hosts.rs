//! Whom an object is for, and which of several counts.

use super::*;

fn answering(name: &str, namespace: &str, rest: &str, status: u16) -> String {
    named(name, namespace, &format!("{{{rest}, http: [{{directResponse: {{status: {status}}}}}]}}"))
}

/// The status that each client gets at each service: none if the request goes to the service itself.
fn statuses(objects: &str, asks: &[(&str, Option<&'static str>)]) -> Vec<Option<u16>> {
    let compiled = made(objects);
    let of = |(service, namespace): &(&str, Option<&'static str>)| {
        let ask = Ask { namespace: *namespace, ..get("/") };
        ask.decided(&compiled, service, |_, decision| {
            if matches!(decision.action, weir_route::Action::Service) {
                return None;
            }
            let weir_route::Action::Respond(response) = decision.action else { panic!("{decision}") };
            Some(response.status())
        })
    };
    asks.iter().map(of).collect()
}

#[test]
fn a_host_means_the_services_it_names() {
    let (web, multi, pay) = (("web.shop", None), ("multi.shop", None), ("pay.other", None));
    for (host, want) in [
        ("web", [true, false, false]),
        ("web.shop.svc.cluster.local", [true, false, false]),
        ("'*.shop.svc.cluster.local'", [true, true, false]),
        ("10.0.0.1", [true, false, false]),
        ("web, multi", [true, true, false]),
    ] {
        let got = statuses(&answering("v", "shop", &format!("hosts: [{host}]"), 201), &[web, multi, pay]);
        assert_eq!(got, want.map(|is| is.then_some(201)), "{host}");
    }
    let by_address = statuses(&answering("v", "shop", "hosts: ['fd00::5']", 201), &[("db.shop", None)]);
    assert_eq!(by_address, [Some(201)]);
}

#[test]
fn the_namespace_says_whose_requests_are_shaped() {
    let asks = [("web.shop", None), ("web.shop", Some("shop")), ("web.shop", Some("other"))];
    let host = "hosts: [web.shop.svc.cluster.local]";
    for (namespace, rest, want) in [
        ("shop", "", [Some(201), Some(201), Some(201)]),
        ("shop", ", exportTo: ['*']", [Some(201), Some(201), Some(201)]),
        ("shop", ", exportTo: ['.']", [Some(201), Some(201), Some(201)]),
        ("shop", ", exportTo: [shop]", [Some(201), Some(201), Some(201)]),
        ("shop", ", exportTo: [other]", [None, None, None]),
        ("shop", ", exportTo: ['~']", [None, None, None]),
        ("shop", ", gateways: [mesh, edge]", [Some(201), Some(201), Some(201)]),
        ("shop", ", gateways: [edge]", [None, None, None]),
        ("other", "", [None, None, Some(201)]),
        ("other", ", exportTo: ['.']", [None, None, Some(201)]),
        ("other", ", exportTo: [shop]", [None, None, None]),
    ] {
        let got = statuses(&answering("v", namespace, &format!("{host}{rest}"), 201), &asks);
        assert_eq!(got, want, "{namespace}{rest}");
    }
}

#[test]
fn the_namespace_of_the_waypoint_counts_as_that_of_the_service() {
    let object = |namespace: &str, export: &str| {
        let text =
            answering("v", namespace, &format!("hosts: [web.shop.svc.cluster.local], exportTo: [{export}]"), 201);
        parse(&[(FileName::new("f.yaml"), &text)]).unwrap().configs.remove(0)
    };
    let waypoint = weir_model::WaypointAddress {
        destination: weir_model::WaypointDestination::Service(
            "infra/waypoint.infra.svc.cluster.local".parse().unwrap(),
        ),
        port: port(15_008),
    };
    let service = Service {
        name: "shop/web.shop.svc.cluster.local".parse().unwrap(),
        short_name: "web".into(),
        vips: Vec::new(),
        ports: Vec::new(),
        health_policy: weir_model::HealthPolicy::OnlyReady,
        waypoint: Some(waypoint),
        seen: Default::default(),
        unsupported: None,
    };
    let world = World::new(weir_world::Mesh { services: vec![service], ..weir_world::Mesh::default() });
    let (everyone, own) = (Some(Audience::Everyone), Some(Audience::OwnNamespace));
    for (namespace, export, want) in [
        ("infra", "'*'", everyone),
        ("infra", "'.'", everyone),
        ("shop", "'*'", everyone),
        ("shop", "infra", everyone),
        ("shop", "'.'", None),
        ("other", "'*'", own),
        ("other", "'.'", own),
        ("other", "infra", None),
    ] {
        let mut configs = Configs::default();
        configs.set(object(namespace, export));
        let settings = settings();
        let routes = super::super::compile(&Ground::new(&settings, &world), &configs, &BTreeMap::new());
        let audience = routes.hosts.values().flat_map(|host| &host.http).map(|object| object.audience).next();
        assert_eq!(audience, want, "{namespace} {export}");
    }
}

#[test]
fn the_most_specific_host_counts_and_of_several_the_oldest_first() {
    let wide = answering("wide", "shop", "hosts: ['*.svc.cluster.local']", 201);
    let narrow = answering("narrow", "shop", "hosts: ['*.shop.svc.cluster.local']", 202);
    let exact = answering("exact", "shop", "hosts: [web]", 203);
    let all = format!("{wide}{narrow}{exact}");
    let asks = [("web.shop", None), ("multi.shop", None), ("pay.other", None), ("pay.other", Some("shop"))];
    // In another namespace it is for its own clients alone.
    assert_eq!(statuses(&all, &asks), [Some(203), Some(202), None, Some(201)]);

    let aged = |name: &str, created: &str, uri: &str, status: u16| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop, creationTimestamp: \
             '{created}'}}\nspec: {{hosts: [web], http: [{{match: [{{uri: {{prefix: {uri}}}}}], directResponse: {{status: {status}}}}}]}}\n"
        )
    };
    let young = aged("a", "2026-02-01T00:00:00Z", "/", 201);
    let old = aged("b", "2026-01-31T23:59:59Z", "/b", 202);
    let compiled = made(&format!("{young}{old}"));
    assert_eq!(["/b", "/c"].map(|path| get(path).at_web(&compiled)), ["answered with 202", "answered with 201"]);
}

#[test]
fn on_a_port_without_a_rule_requests_go_to_the_service_itself() {
    let compiled = made(&named(
        "v",
        "shop",
        "{hosts: [multi], http: [{match: [{port: 80, uri: {exact: /a}}], directResponse: {status: 201}}]}",
    ));
    let asks = [get("/a"), get("/b"), get("/a").port(81)].map(|ask| ask.at(&compiled, "multi.shop"));
    assert_eq!(
        asks,
        [
            "VirtualService shop/v, spec.http[0].match[0] (f.yaml:5): answered with 201",
            "no rule of any route is for this request: refused with 404",
            "VirtualService shop/v, spec.http[1] \"no rule is for this port\".match[0] (f.yaml): to multi.shop.svc.cluster.local; up to 2 retries \
             on connect-failure,refused-stream,cancelled,unavailable",
        ]
    );
}

#[test]
fn a_client_s_own_rules_come_before_those_of_the_service() {
    let own = named(
        "own",
        "other",
        "{hosts: [web.shop.svc.cluster.local], http: [{match: [{uri: {prefix: /a}}], directResponse: {status: 201}}]}",
    );
    let producer = answering("v", "shop", "hosts: [web]", 202);
    let compiled = made(&format!("{own}{producer}"));
    let asks = [get("/a").from("other"), get("/b").from("other"), get("/a").from("shop")];
    let got = asks.map(|ask| ask.at_web(&compiled));
    assert_eq!(got, ["answered with 201", "answered with 202", "answered with 202"]);
    assert_eq!(compiled.findings, []);
}

#[test]
fn what_is_for_nobody_is_told() {
    let place = "(f.yaml:1 (document 1))";
    for (namespace, rest, want) in [
        (
            "shop",
            "hosts: [nobody]",
            "spec.hosts[0]: no service has the host nobody.shop.svc.cluster.local, a service of the mesh is expected",
        ),
        (
            "shop",
            "hosts: [web, '*.none.svc.cluster.local']",
            "spec.hosts[1]: no service has the host *.none.svc.cluster.local, a service of the mesh is expected",
        ),
        ("shop", "hosts: [example.com]", "spec.hosts: none of its hosts is a service of the mesh; it has no effect"),
        (
            "shop",
            "hosts: [web], gateways: [edge]",
            "spec.gateways: it is for gateways alone, since gateways does not name \"mesh\": no waypoint asks it",
        ),
        (
            "shop",
            "hosts: [web], exportTo: [other]",
            "spec.exportTo: exportTo keeps it from all that look at web.shop.svc.cluster.local; it has no effect there",
        ),
    ] {
        let want = format!("VirtualService {namespace}/v {want} {place}");
        assert_eq!(told(&answering("v", namespace, rest, 200)), [want], "{rest}");
    }
    // Hosts of gateways stand beside those of the mesh.
    assert_eq!(told(&answering("v", "shop", "hosts: [web, example.com]", 200)), [""; 0]);
}

#[test]
fn where_there_are_routes_of_the_gateway_api_it_is_told_that_none_is_asked() {
    let route = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: canary, port: 8080}]}]}
";
    let compiled = made(&format!("{}{route}", answering("v", "shop", "hosts: [web, multi]", 201)));
    let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "VirtualService shop/v spec.http: HTTPRoute shop/r is for web.shop.svc.cluster.local as well: where there are routes of the Gateway API, \
          VirtualServices are not asked (f.yaml:1 (document 1))"
        ]
    );
    assert!(get("/").at_web(&compiled).starts_with("to canary.shop"));
    assert!(get("/").at(&compiled, "multi.shop").ends_with("answered with 201"));
    let own = made(&format!("{}{route}", answering("v", "other", "hosts: [web.shop.svc.cluster.local]", 201)));
    assert_eq!(own.findings, [], "it is for other clients");
}

#[test]
fn conflicting_hosts_are_told() {
    let one = answering("a", "shop", "hosts: [web]", 201);
    let other =
        named("b", "shop", "{hosts: [web], http: [{match: [{uri: {prefix: /b}}], directResponse: {status: 202}}]}");
    let last = named("c", "shop", "{hosts: ['*.shop.svc.cluster.local'], http: [{directResponse: {status: 203}}]}");
    let host = "web.shop.svc.cluster.local";
    assert_eq!(
        told(&format!("{one}{other}")),
        [format!(
            "VirtualService shop/b spec.hosts: VirtualService shop/a says something of {host} as well: its rules are asked first, and take every \
             request (f.yaml:6 (document 2))"
        )]
    );
    assert_eq!(told(&format!("{one}{last}")), [""; 0], "it is for others");
    let narrow = named(
        "d",
        "shop",
        "{hosts: ['*.web.shop.svc.cluster.local', '*.other.svc.cluster.local'], http: [{redirect: {uri: /}}]}",
    );
    let wide = named("e", "other", "{hosts: ['*.svc.cluster.local', pay], http: [{redirect: {uri: /}}]}");
    assert!(told(&format!("{narrow}{wide}")).iter().all(|finding| finding.contains("no service has the host")));
    let shadowed = named("f", "other", "{hosts: ['*.other.svc.cluster.local'], http: [{redirect: {uri: /}}]}");
    let exact = answering("g", "other", "hosts: [pay]", 201);
    assert_eq!(
        told(&format!("{shadowed}{exact}")),
        [
            "VirtualService other/f spec.hosts: others with a more specific host count in its place, for every service it names (f.yaml:1 (document 1))"
        ]
    );
}
