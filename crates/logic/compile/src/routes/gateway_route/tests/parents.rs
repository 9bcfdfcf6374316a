//! What a route is attached to: whose requests it is for, of which ports, and what is said where it cannot be.

use weir_model::{AppProtocol, HealthPolicy, ServiceName, ServicePort};
use weir_route::TcpFacts;
use weir_world::{Mesh, World};

use super::*;

/// A route of `shop` that sends everything to `v1`, with these parents.
fn of(kind: &str, parents: &str) -> String {
    let rules = "[{backendRefs: [{name: v1, port: 80}]}]";
    object(kind, "shop", "r", "", &format!("{{parentRefs: [{parents}], rules: {rules}}}"))
}

#[test]
fn a_parent_that_does_not_take_the_route_is_told() {
    for (parent, want) in [
        (WEB, vec![ACCEPTED]),
        ("{group: '', kind: Service, name: web, port: 80}", vec![ACCEPTED]),
        ("{group: '', kind: Service, name: web, sectionName: admin}", vec![ACCEPTED]),
        ("{group: '', kind: Service, name: web, sectionName: admin, port: 8080}", vec![ACCEPTED]),
        (
            "{group: '', kind: Service, name: gone}",
            vec!["0 Accepted=false NoMatchingParent: there is no Service shop/gone"],
        ),
        (
            "{group: '', kind: Service, name: v1, namespace: other}",
            vec!["0 Accepted=false NoMatchingParent: there is no Service other/v1"],
        ),
        (
            "{group: '', kind: Service, name: web, port: 81}",
            vec!["0 Accepted=false NoMatchingParent: Service shop/web has no such port"],
        ),
        (
            "{group: '', kind: Service, name: web, sectionName: gone}",
            vec!["0 Accepted=false NoMatchingParent: Service shop/web has no such port"],
        ),
        (
            "{group: '', kind: Service, name: web, sectionName: admin, port: 80}",
            vec!["0 Accepted=false NoMatchingParent: Service shop/web has no such port"],
        ),
        (
            "{group: networking.istio.io, kind: ServiceEntry, name: gone}",
            vec![
                "0 Accepted=false NoMatchingParent: there is no ServiceEntry shop/gone, or it is not exported to shop",
            ],
        ),
        // Somebody else's, of which somebody else says something.
        ("{group: example.com, kind: Service, name: web}", vec![]),
        ("{name: edge}", vec![]),
    ] {
        for kind in ["HTTPRoute", "GRPCRoute", "TCPRoute"] {
            let compiled = compiled(&of(kind, parent));
            let conditions = conditions(&compiled, kind, "shop/r");
            let mut with_refs = want.clone();
            with_refs.extend((!want.is_empty()).then_some(RESOLVED));
            assert_eq!(conditions, with_refs, "{kind} {parent}");
        }
    }
}

#[test]
fn a_route_is_for_the_port_of_its_parent() {
    let parents = "{group: '', kind: Service, name: web, port: 80}, {group: '', kind: Service, name: web, port: 9000}";
    let compiled = compiled(&of("HTTPRoute", parents));
    let goes = |port| Ask { port, ..GET }.goes(&compiled);
    // Gateway API conformance, MeshPorts: a port that is left out is served as if there was no route.
    assert_eq!([goes(80), goes(9000), goes(8080)], ["to v1.shop:80", "to v1.shop:80", "to the service itself"]);
    let told = conditions(&compiled, "HTTPRoute", "shop/r");
    assert_eq!([&told[0], &told[2]], [ACCEPTED, "1 Accepted=true Accepted: attached to Service shop/web"]);
    let named = of("HTTPRoute", "{group: '', kind: Service, name: web, sectionName: admin}");
    assert_eq!(Ask { port: 8080, ..GET }.goes(&super::compiled(&named)), "to v1.shop:80");
}

#[test]
fn a_route_of_the_service_is_for_all_and_one_of_a_client_for_that_client() {
    let consumer = |namespace| {
        let parent = "{group: '', kind: Service, name: web, namespace: shop}";
        let rules = "[{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}]}]";
        object("HTTPRoute", namespace, "consumer", "", &format!("{{parentRefs: [{parent}], rules: {rules}}}"))
    };
    let producer = of("HTTPRoute", WEB);
    let ask = |from| Ask { from, ..GET };
    for (objects, from, want) in [
        (producer.clone(), None, "to v1.shop:80"),
        (producer.clone(), Some("client"), "to v1.shop:80"),
        (consumer("client"), Some("client"), "redirected with 301"),
        (consumer("client"), Some("stranger"), "to the service itself"),
        (consumer("client"), Some("shop"), "to the service itself"),
        (consumer("client"), None, "to the service itself"),
        // A client's own routes go before those of the service.
        (format!("{producer}{}", consumer("client")), Some("client"), "redirected with 301"),
        (format!("{producer}{}", consumer("client")), Some("stranger"), "to v1.shop:80"),
    ] {
        assert_eq!(ask(from).goes(&compiled(&objects)), want, "{from:?}");
    }
    let refs = "{group: '', kind: Service, name: web, namespace: other}";
    let told = conditions(&compiled(&of("HTTPRoute", refs)), "HTTPRoute", "shop/r");
    assert_eq!(told[0], "0 Accepted=true Accepted: attached to Service other/web");
}

#[test]
fn each_parent_has_its_own_conditions() {
    let parents = format!("{{name: edge}}, {WEB}, {{group: '', kind: Service, name: gone}}");
    let told = conditions(&compiled(&of("HTTPRoute", &parents)), "HTTPRoute", "shop/r");
    let want = [
        "1 Accepted=true Accepted: attached to Service shop/web",
        "1 ResolvedRefs=true ResolvedRefs: all references are resolved",
        "2 Accepted=false NoMatchingParent: there is no Service shop/gone",
        "2 ResolvedRefs=true ResolvedRefs: all references are resolved",
    ];
    assert_eq!(told, want);
}

#[test]
fn a_tcp_route_takes_connections_and_the_oldest_takes_all() {
    let tcp = |name: &str, meta: &str, port: &str, to: &str| {
        let parent = format!("{{group: '', kind: Service, name: web{port}}}");
        let spec = format!("{{parentRefs: [{parent}], rules: [{{backendRefs: [{{name: {to}, port: 80}}]}}]}}");
        object("TCPRoute", "shop", name, meta, &spec)
    };
    let goes = |objects: &str, port: u16| {
        let compiled = compiled(objects);
        let host: Hostname = format!("web.shop{DOMAIN}").parse().unwrap();
        let asker = Asker { namespace: None, labels: None, gateway: MESH, port: Port::new(port).unwrap() };
        let table = &compiled.serving.host(&host).unwrap().tcp;
        let facts = TcpFacts { destination: [10, 0, 0, 1].into(), client: [10, 0, 0, 2].into(), name: None };
        let decision = table.decide(&facts, &asker, &mut SmallRng::seed_from_u64(1));
        short(&decision.to_string()).split(" (f.yaml").next().unwrap().to_owned()
    };
    let young = ", creationTimestamp: '2026-08-02T00:00:00Z'";
    let old = ", creationTimestamp: '2026-08-01T00:00:00Z'";
    let both = format!("{}{}", tcp("a", young, "", "v1"), tcp("b", old, "", "v2"));
    assert_eq!(goes(&tcp("a", "", "", "v1"), 9000), "TCPRoute shop/a, spec.rules[0]");
    assert_eq!(goes(&both, 9000), "TCPRoute shop/b, spec.rules[0]");
    let told = |objects: &str, name: &str| conditions(&compiled(objects), "TCPRoute", name).remove(0);
    let lost = "0 Accepted=false Conflicted: the older TCPRoute shop/b takes every connection to Service shop/web";
    assert_eq!([told(&both, "shop/a"), told(&both, "shop/b")], [lost, ACCEPTED]);
    // Of different ports there is no conflict.
    let apart = format!("{}{}", tcp("a", young, ", port: 80", "v1"), tcp("b", old, ", port: 9000", "v2"));
    assert_eq!([told(&apart, "shop/a"), told(&apart, "shop/b")], [ACCEPTED, ACCEPTED]);
    assert_eq!(
        [goes(&apart, 80), goes(&apart, 9000)],
        ["TCPRoute shop/a, spec.rules[0]", "TCPRoute shop/b, spec.rules[0]"]
    );
    assert_eq!(goes(&apart, 8080), "no route is for this client and port: to the service itself");
}

#[test]
fn what_has_no_effect_is_told() {
    let v1 = "{backendRefs: [{name: v1, port: 80}]}";
    for (kind, spec, want) in [
        (
            "HTTPRoute",
            format!("{{parentRefs: [{WEB}], hostnames: [a.example], rules: [{v1}]}}"),
            "spec.hostnames: a service is known by its address: host names of its routes are not looked at",
        ),
        (
            "HTTPRoute",
            format!("{{parentRefs: [{WEB}], useDefaultGateways: All, rules: [{v1}]}}"),
            "spec.useDefaultGateways: no waypoint is a default Gateway",
        ),
        ("HTTPRoute", format!("{{rules: [{v1}]}}"), "spec.parentRefs: attached to nothing"),
        (
            "HTTPRoute",
            format!("{{parentRefs: [{{name: edge}}], rules: [{v1}]}}"),
            "spec.parentRefs[0]: there is no Gateway edge",
        ),
        ("GRPCRoute", format!("{{parentRefs: [{WEB}]}}"), "spec.rules: there are none"),
        (
            "HTTPRoute",
            format!("{{parentRefs: [{WEB}]}}"),
            "spec.rules[0].backendRefs: there are none: its requests are answered with 500",
        ),
        (
            "HTTPRoute",
            format!("{{parentRefs: [{WEB}], rules: [{{backendRefs: [{{name: v1, port: 80, weight: 0}}]}}]}}"),
            "spec.rules[0].backendRefs: their weights add up to 0: its requests are answered with 500",
        ),
        (
            "TCPRoute",
            format!("{{parentRefs: [{WEB}], rules: [{v1}, {v1}]}}"),
            "spec.rules[1]: the first rule takes every connection",
        ),
        (
            "TCPRoute",
            format!("{{parentRefs: [{WEB}], rules: [{{backendRefs: [{{name: v1, port: 80, weight: 0}}]}}]}}"),
            "spec.rules[0].backendRefs: their weights add up to 0: its connections are closed",
        ),
    ] {
        let told = findings(&compiled(&object(kind, "shop", "r", "", &spec)));
        assert_eq!(told.len(), 1, "{spec}: {told:?}");
        let want = format!(" {kind} shop/r {want} (f.yaml:");
        assert!(told[0].contains(&want), "{want} in {told:?}");
    }
}

#[test]
fn host_names_mean_nothing_at_a_service() {
    let spec =
        format!("{{parentRefs: [{WEB}], hostnames: [a.example], rules: [{{backendRefs: [{{name: v1, port: 80}}]}}]}}");
    assert_eq!(GET.goes(&compiled(&object("HTTPRoute", "shop", "r", "", &spec))), "to v1.shop:80");
}

#[test]
fn a_route_without_rules_leaves_the_service_alone_or_refuses() {
    let bare = |kind| compiled(&object(kind, "shop", "r", "", &format!("{{parentRefs: [{WEB}]}}")));
    assert_eq!(GET.goes(&bare("HTTPRoute")), "refused with 500: it names no backend");
    assert_eq!(call("/s/M").goes(&bare("GRPCRoute")), "to the service itself");
}

/// What routes come to beside a ServiceEntry `shop/e` of two hosts, which are services of the mesh.
fn beside_an_entry(export: &str, objects: &str) -> Compiled {
    let port = |name: &str, port: &str| ServicePort {
        name: name.into(),
        port: port.parse().unwrap(),
        protocol: AppProtocol::Http11,
        target: None,
    };
    let service = |host: &str| Service {
        name: ServiceName { namespace: "shop".parse().unwrap(), hostname: host.parse().unwrap() },
        short_name: host.into(),
        vips: vec![],
        ports: vec![port("http", "80"), port("alt", "8080")],
        health_policy: HealthPolicy::OnlyReady,
        waypoint: None,
        seen: Default::default(),
        unsupported: None,
    };
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: shop}}\n\
         spec: {{hosts: [a.example.com, b.example.com], resolution: DNS, exportTo: {export}, \
         ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 8080, name: alt, protocol: HTTP}}]}}\n---\n{objects}"
    );
    let mut configs = Configs::default();
    parse(&[(FileName::new("f.yaml"), &entry)]).unwrap().configs.into_iter().for_each(|one| configs.set(one));
    let services = ["a.example.com", "b.example.com", "c.example.com"].map(service).to_vec();
    let world = World::new(Mesh { services, ..Mesh::default() });
    crate::routes(&settings(), &world, &configs)
}

#[test]
fn a_service_entry_is_the_parent_of_all_its_hosts() {
    let route = |namespace: &str, parent: &str| {
        let parent = format!("{{group: networking.istio.io, kind: ServiceEntry, name: e, namespace: shop{parent}}}");
        let rules = "[{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}]}]";
        object("HTTPRoute", namespace, "r", "", &format!("{{parentRefs: [{parent}], rules: {rules}}}"))
    };
    let goes = |compiled: &Compiled, host: &str, ask: Ask<'_>| {
        let host: Hostname = host.parse().unwrap();
        let namespace: Option<Namespace> = ask.from.map(|from| from.parse().unwrap());
        let port = Port::new(ask.port).unwrap();
        let asker = Asker { namespace: namespace.as_ref(), labels: None, gateway: MESH, port };
        let parts = Parts { method: "GET", scheme: "http", authority: "x", target: "/", headers: &[] };
        let request = Request::read(parts, Normalization::Base).unwrap();
        let Some(host) = compiled.serving.host(&host) else { return "untouched".to_owned() };
        host.http.decide(&request, &asker, &mut SmallRng::seed_from_u64(1)).action.to_string()
    };
    let all = beside_an_entry("['*']", &route("shop", ""));
    for (host, want) in [
        ("a.example.com", "redirected with 301"),
        ("b.example.com", "redirected with 301"),
        ("c.example.com", "untouched"),
    ] {
        assert_eq!(goes(&all, host, GET), want, "{host}");
    }
    let named = beside_an_entry("['*']", &route("shop", ", sectionName: alt"));
    assert_eq!(goes(&named, "a.example.com", Ask { port: 8080, ..GET }), "redirected with 301");
    assert_eq!(goes(&named, "a.example.com", GET), "to the service itself");
    let consumer = beside_an_entry("['*']", &route("client", ""));
    assert_eq!(goes(&consumer, "a.example.com", Ask { from: Some("client"), ..GET }), "redirected with 301");
    assert_eq!(goes(&consumer, "a.example.com", GET), "to the service itself");
    let told = |compiled: &Compiled, name: &str| conditions(compiled, "HTTPRoute", name).remove(0);
    assert_eq!(told(&all, "shop/r"), "0 Accepted=true Accepted: attached to ServiceEntry shop/e");
    let unseen = beside_an_entry("['.']", &route("client", ""));
    let want = "0 Accepted=false NoMatchingParent: there is no ServiceEntry shop/e, or it is not exported to client";
    assert_eq!(told(&unseen, "client/r"), want);
    let no_port = beside_an_entry("['*']", &route("shop", ", port: 81"));
    assert_eq!(told(&no_port, "shop/r"), "0 Accepted=false NoMatchingParent: ServiceEntry shop/e has no such port");
}
