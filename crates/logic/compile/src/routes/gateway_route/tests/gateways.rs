//! Gateways of waypoints: what attaches to them, and what is said of them.

use super::*;

fn gateway(meta: &str, class: &str, listeners: &str) -> String {
    object("Gateway", "shop", "wp", meta, &format!("{{gatewayClassName: {class}, listeners: [{listeners}]}}"))
}

const MESH_LISTENER: &str = "{name: mesh, port: 15008, protocol: HBONE}";

/// Two services that are bound to the waypoint `shop/wp`, and the Service of that.
const BOUND: &str = "
apiVersion: v1
kind: Service
metadata: {name: wp, namespace: shop}
spec: {clusterIP: 10.96.1.1, ports: [{port: 15008}]}
---
apiVersion: v1
kind: Service
metadata: {name: b1, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.96.1.2, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b2, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.96.1.3, ports: [{port: 80}]}
---
";

fn route(namespace: &str, more: &str) -> String {
    let parent = "{name: wp, namespace: shop}";
    let rules = "[{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}]}]";
    object("HTTPRoute", namespace, "r", "", &format!("{{parentRefs: [{parent}], rules: {rules}{more}}}"))
}

#[test]
fn a_route_of_a_waypoint_is_for_what_is_bound_to_it() {
    let all = |more: &str, listeners: &str| {
        compiled(&format!("{BOUND}{}{}", gateway("", "istio-waypoint", listeners), route("shop", more)))
    };
    let goes = |compiled: &Compiled, host: &str| {
        let host: Hostname = format!("{host}{DOMAIN}").parse().unwrap();
        compiled.serving.host(&host).is_some_and(|host| !host.http.objects().is_empty())
    };
    for (more, listener, want) in [
        ("", MESH_LISTENER, [true, true, false]),
        (", hostnames: [b1.shop.svc.cluster.local]", MESH_LISTENER, [true, false, false]),
        (", hostnames: ['*.shop.svc.cluster.local']", MESH_LISTENER, [true, true, false]),
        // What is not bound cannot be taken by its name.
        (", hostnames: [web.shop.svc.cluster.local]", MESH_LISTENER, [false, false, false]),
        ("", "{name: mesh, port: 15008, protocol: HBONE, hostname: b2.shop.svc.cluster.local}", [false, true, false]),
    ] {
        let compiled = all(more, listener);
        assert_eq!(["b1.shop", "b2.shop", "web.shop"].map(|host| goes(&compiled, host)), want, "{more} {listener}");
        let told = conditions(&compiled, "HTTPRoute", "shop/r");
        assert_eq!(told, ["0 Accepted=true Accepted: attached to Gateway shop/wp", RESOLVED], "{more}");
        let is_told =
            findings(&compiled).iter().any(|one| one.starts_with("NoEffect HTTPRoute shop/r spec.parentRefs[0]"));
        assert_eq!(is_told, !want.contains(&true), "{more}");
        assert_eq!(compiled.gateways[0].listeners[0].attached_routes, 1);
    }
    let one = all("", MESH_LISTENER);
    assert_eq!(Ask { host: "b1.shop", ..GET }.goes(&one), "redirected with 301");
}

#[test]
fn listeners_say_which_routes_attach() {
    let listener = |more: &str| format!("{{name: mesh, port: 15008, protocol: HBONE{more}}}");
    let allowed = |said: &str| listener(&format!(", allowedRoutes: {{{said}}}"));
    let named = |value: &str| format!("namespaces: {{from: Selector, selector: {value}}}");
    let accepted = "Accepted: attached to Gateway shop/wp";
    let not_allowed = "NotAllowedByListeners: no listener of Gateway shop/wp takes a HTTPRoute of namespace ";
    for (from, listener, more, want) in [
        ("shop", listener(""), "", accepted.to_owned()),
        ("client", listener(""), "", format!("{not_allowed}client")),
        ("client", allowed("namespaces: {from: Same}"), "", format!("{not_allowed}client")),
        ("client", allowed("namespaces: {from: All}"), "", accepted.to_owned()),
        ("client", allowed(&named("{matchLabels: {kubernetes.io/metadata.name: client}}")), "", accepted.to_owned()),
        (
            "client",
            allowed(&named("{matchLabels: {kubernetes.io/metadata.name: shop}}")),
            "",
            format!("{not_allowed}client"),
        ),
        (
            "client",
            allowed(&named(
                "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [a, client]}]}",
            )),
            "",
            accepted.to_owned(),
        ),
        // No other label is known, so nobody is let in for it.
        ("client", allowed(&named("{matchLabels: {team: a}}")), "", format!("{not_allowed}client")),
        (
            "client",
            allowed(&named("{matchExpressions: [{key: team, operator: DoesNotExist}]}")),
            "",
            format!("{not_allowed}client"),
        ),
        ("client", allowed(&named("{}")), "", format!("{not_allowed}client")),
        ("shop", allowed("kinds: [{kind: HTTPRoute}]"), "", accepted.to_owned()),
        ("shop", allowed("kinds: [{kind: GRPCRoute}]"), "", format!("{not_allowed}shop")),
        ("shop", allowed("kinds: [{group: example.com, kind: HTTPRoute}]"), "", format!("{not_allowed}shop")),
        (
            "shop",
            listener(", hostname: a.example"),
            ", hostnames: [b.example]",
            "NoMatchingListenerHostname: no listener of Gateway shop/wp has one of the route's host names".to_owned(),
        ),
        ("shop", "{name: web, port: 80, protocol: HTTP}".to_owned(), "", format!("{not_allowed}shop")),
    ] {
        let compiled = compiled(&format!("{}{}", gateway("", "weir-waypoint", &listener), route(from, more)));
        let told = conditions(&compiled, "HTTPRoute", &format!("{from}/r")).remove(0);
        assert_eq!(told.split_once(' ').unwrap().1.split_once(' ').unwrap().1, want, "{from} {listener}");
        assert_eq!(compiled.gateways[0].listeners[0].attached_routes, usize::from(want == accepted));
    }
    for parent in ["{name: wp, sectionName: gone}", "{name: wp, port: 80}"] {
        let rules = "[{filters: [{type: RequestRedirect, requestRedirect: {}}]}]";
        let spec = format!("{{parentRefs: [{parent}], rules: {rules}}}");
        let objects = gateway("", "weir-waypoint", MESH_LISTENER) + &object("HTTPRoute", "shop", "r", "", &spec);
        assert_eq!(of_r(&objects)[0], "0 Accepted=false NoMatchingParent: Gateway shop/wp has no such listener");
    }
}

#[test]
fn a_gateway_of_another_class_is_somebody_elses() {
    let compiled = compiled(&format!("{}{}", gateway("", "istio", MESH_LISTENER), route("shop", "")));
    assert!(compiled.gateways.is_empty());
    assert!(conditions(&compiled, "HTTPRoute", "shop/r").is_empty());
    assert!(findings(&compiled).is_empty());
}

/// `type=status reason: message` of each condition of the only waypoint, and of its listeners.
fn told(objects: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let of = |all: &[GatewayCondition]| {
        all.iter().map(|one| format!("{:?}={} {:?}: {}", one.kind, one.holds, one.reason, one.message)).collect()
    };
    let mut compiled = compiled(objects);
    assert_eq!(compiled.gateways.len(), 1);
    let status = compiled.gateways.remove(0);
    assert_eq!((status.namespace.as_str(), status.name.as_str(), status.generation), ("shop", "wp", Some(7)));
    (of(&status.conditions), status.listeners.iter().map(|one| of(&one.conditions)).collect())
}

#[test]
fn a_waypoint_is_told_what_became_of_it() {
    let taken = "Accepted=true Accepted: a waypoint";
    let programmed = "Programmed=true Programmed: reached as wp.shop.svc.cluster.local";
    let absent = "Programmed=false AddressNotAssigned: there is no Service shop/wp, by which a waypoint is reached";
    let served = vec![
        "Accepted=true Accepted: taken".to_owned(),
        "Programmed=true Programmed: served".to_owned(),
        "ResolvedRefs=true ResolvedRefs: all kinds are known".to_owned(),
    ];
    let (own, listeners) = told(&format!("{BOUND}{}", gateway("", "istio-waypoint", MESH_LISTENER)));
    assert_eq!((own, listeners), (vec![taken.to_owned(), programmed.to_owned()], vec![served.clone()]));
    assert_eq!(told(&gateway("", "istio-waypoint", MESH_LISTENER)).0, [taken, absent]);
    let proxy = "{name: p, port: 15088, protocol: istio.io/PROXY}";
    assert_eq!(told(&gateway("", "istio-waypoint", proxy)).1, [served]);
    for (listener, reason, why) in [
        (
            "{name: web, port: 80, protocol: HTTP}",
            "UnsupportedProtocol",
            "protocol HTTP: a listener of a waypoint speaks HBONE or istio.io/PROXY",
        ),
        (
            "{name: web, port: 80, protocol: HBONE}",
            "PortUnavailable",
            "HBONE is spoken on port 15008, nobody connects to 80",
        ),
    ] {
        let (own, listeners) = told(&gateway("", "istio-waypoint", listener));
        assert_eq!(own[0], format!("Accepted=false ListenersNotValid: listener web: {why}"));
        let want = [format!("Accepted=false {reason}: {why}"), "Programmed=false Invalid: not accepted".to_owned()];
        assert_eq!(listeners[0][..2], want);
    }
    let kinds =
        "{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {kinds: [{kind: TLSRoute}, {kind: TCPRoute}]}}";
    let (_, listeners) = told(&gateway("", "istio-waypoint", kinds));
    let strange = "ResolvedRefs=false InvalidRouteKinds: allowedRoutes.kinds: TLSRoute of \"gateway.networking.k8s.io\" is no route of the mesh";
    assert_eq!(listeners[0][2], strange);
    let addresses = "{gatewayClassName: istio-waypoint, addresses: [{value: 10.0.0.1}], listeners: [{name: mesh, port: 15008, protocol: HBONE}]}";
    let (own, _) = told(&object("Gateway", "shop", "wp", "", addresses));
    assert_eq!(
        own[0],
        "Accepted=false UnsupportedAddress: spec.addresses: a waypoint has the addresses of its Service"
    );
}

#[test]
fn listeners_tell_the_kinds_they_take() {
    for (said, want) in [
        ("", vec!["HTTPRoute", "GRPCRoute", "TCPRoute"]),
        (", allowedRoutes: {kinds: [{kind: TCPRoute}, {kind: TLSRoute}]}", vec!["TCPRoute"]),
        (", allowedRoutes: {kinds: [{group: '', kind: TCPRoute}]}", vec![]),
    ] {
        let listener = format!("{{name: mesh, port: 15008, protocol: HBONE{said}}}");
        let compiled = compiled(&gateway("", "istio-waypoint", &listener));
        assert_eq!(compiled.gateways[0].listeners[0].supported_kinds, want, "{said}");
    }
}

#[test]
fn statuses_are_written_as_the_api_has_them() {
    let compiled = compiled(&format!("{}{}", gateway("", "istio-waypoint", MESH_LISTENER), route("shop", "")));
    let json = serde_json::to_value(&compiled.statuses[0].parents[0].conditions[0]).unwrap();
    let want = serde_json::json!({
        "type": "Accepted", "holds": true, "reason": "Accepted", "message": "attached to Gateway shop/wp"
    });
    assert_eq!(json, want);
    let json = serde_json::to_value(&compiled.gateways[0].listeners[0]).unwrap();
    assert_eq!((&json["attachedRoutes"], &json["supportedKinds"][0]), (&1.into(), &"HTTPRoute".into()));
}
