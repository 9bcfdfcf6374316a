//! Gateways and ReferenceGrants: what is kept of them, and what is refused and in which words.

use weir_model::Namespace;

use super::*;
use crate::{
    ConfigObject, ConfigSpec, ExtensionRef, FileName, GrantFrom, GrantTo, LabelExpression, LabelOperator,
    LabelSelector, Listener, RouteNamespaces, TlsMode, parse,
};

fn read(kind: &str, meta: &str, spec: &str) -> Result<ConfigObject, Vec<String>> {
    let version = if kind == "Gateway" { "v1" } else { "v1beta1" };
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: g, namespace: shop{meta}}}\nspec: {spec}\n"
    );
    let parsed = parse(&[(FileName::new("f.yaml"), &text)]);
    let parsed = parsed.map(|mut objects| objects.configs.remove(0));
    parsed.map_err(|errors| errors.iter().map(|error| format!("{}: {}", error.field, error.cause)).collect())
}

fn gateway(meta: &str, spec: &str) -> GatewaySpec {
    let object = read("Gateway", meta, spec).unwrap_or_else(|errors| panic!("{spec}: {errors:#?}"));
    let ConfigSpec::Gateway(spec) = object.spec else { panic!("no Gateway: {object:?}") };
    *spec
}

const MESH: &str = "{name: mesh, port: 15008, protocol: HBONE}";

fn mesh() -> Listener {
    Listener {
        name: "mesh".into(),
        port: "15008".parse().unwrap(),
        protocol: "HBONE".into(),
        hostname: None,
        namespaces: RouteNamespaces::Same,
        kinds: vec![],
        tls: None,
    }
}

fn with(listener: &str) -> String {
    format!("{{gatewayClassName: istio-waypoint, listeners: [{listener}]}}")
}

#[test]
fn a_listener_is_kept_with_its_defaults() {
    let labels = |key: &str, value: &str| [(Arc::from(key), Arc::from(value))].into();
    let expression = |key: &str, operator| LabelExpression { key: key.into(), operator };
    let selector = LabelSelector {
        labels: labels("a", "b"),
        expressions: vec![
            expression("c", LabelOperator::In(vec!["d".into(), "e".into()])),
            expression("f", LabelOperator::NotIn(vec!["g".into()])),
            expression("h", LabelOperator::Exists),
            expression("i", LabelOperator::DoesNotExist),
        ],
    };
    let said = "{matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [d, e]}, \
                {key: f, operator: NotIn, values: [g]}, {key: h, operator: Exists}, {key: i, operator: DoesNotExist}]}";
    let of = |more: &str| gateway("", &with(&MESH.replace('}', &format!(", {more}}}")))).listeners;
    assert_eq!(gateway("", &with(MESH)).listeners, [mesh()]);
    assert_eq!(of("allowedRoutes: {}"), [mesh()]);
    assert_eq!(of("hostname: '*.a.b'"), [Listener { hostname: Some("*.a.b".parse().unwrap()), ..mesh() }]);
    assert_eq!(of("hostname: ''"), [mesh()]);
    let all = Listener { namespaces: RouteNamespaces::All, ..mesh() };
    assert_eq!(of("allowedRoutes: {namespaces: {from: All}}"), [all]);
    let selected = Listener { namespaces: RouteNamespaces::Selector(selector.clone()), ..mesh() };
    assert_eq!(of(&format!("allowedRoutes: {{namespaces: {{from: Selector, selector: {said}}}}}")), [selected]);
    let kinds = vec![("gateway.networking.k8s.io".into(), "TCPRoute".into()), ("a.b".into(), "C".into())];
    let kinds = Listener { kinds, ..mesh() };
    assert_eq!(of("allowedRoutes: {kinds: [{kind: TCPRoute}, {group: a.b, kind: C}]}"), [kinds]);
    let tls = "{name: t, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}], options: {a: b}}}";
    assert_eq!(gateway("", &with(tls)).listeners[0].tls, Some(TlsMode::Terminate));
    let through = "{name: t, port: 443, protocol: TLS, tls: {mode: Passthrough}}";
    assert_eq!(gateway("", &with(through)).listeners[0].tls, Some(TlsMode::Passthrough));

    for (pairs, want) in [
        (vec![("a", "b"), ("c", "e"), ("h", "")], true),
        (vec![("a", "b"), ("c", "e"), ("h", ""), ("f", "x")], true),
        (vec![("a", "b"), ("c", "e"), ("h", ""), ("f", "g")], false),
        (vec![("a", "b"), ("c", "e"), ("h", ""), ("i", "x")], false),
        (vec![("a", "b"), ("c", "x"), ("h", "")], false),
        (vec![("a", "b"), ("c", "e")], false),
        (vec![("c", "e"), ("h", "")], false),
    ] {
        let labels = pairs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect();
        assert_eq!(selector.matches(&labels), want, "{pairs:?}");
    }
}

#[test]
fn the_rest_of_a_gateway_is_kept() {
    let spec = format!(
        "{{gatewayClassName: weir-waypoint, listeners: [{MESH}], defaultScope: All, allowedListeners: {{namespaces: {{from: Same}}}}, \
         addresses: [{{value: 10.0.0.1}}, {{type: Hostname, value: a.b}}, {{type: example.com/x, value: y}}, {{}}], \
         infrastructure: {{labels: {{a: b}}, annotations: {{c: d}}, parametersRef: {{group: '', kind: ConfigMap, name: p}}}}, \
         tls: {{backend: {{}}}}}}"
    );
    let read = gateway("", &spec);
    assert_eq!((&*read.class, read.default_scope), ("weir-waypoint", Some(GatewayScope::All)));
    assert_eq!(read.allowed_listeners, ListenerNamespaces::Same);
    let addresses: Vec<_> = read.addresses.iter().map(|one| (&*one.kind, one.value.as_deref())).collect();
    let want =
        [("IPAddress", Some("10.0.0.1")), ("Hostname", Some("a.b")), ("example.com/x", Some("y")), ("IPAddress", None)];
    assert_eq!(addresses, want);
    let parameters = ExtensionRef { group: "".into(), kind: "ConfigMap".into(), name: "p".into() };
    let labels = |key: &str, value: &str| [(Arc::from(key), Arc::from(value))].into();
    let infrastructure =
        Infrastructure { labels: labels("a", "b"), annotations: labels("c", "d"), parameters: Some(parameters) };
    assert_eq!(read.infrastructure, infrastructure);
    let bare = gateway("", &with(MESH));
    assert_eq!((bare.allowed_listeners, bare.default_scope), (ListenerNamespaces::None, None));
    for (from, want) in [
        ("All", ListenerNamespaces::All),
        ("None", ListenerNamespaces::None),
        ("Selector", ListenerNamespaces::Selector(LabelSelector::default())),
    ] {
        let spec = with(MESH).replace('{', "{ ").replacen(
            "{ ",
            &format!("{{allowedListeners: {{namespaces: {{from: {from}}}}}, "),
            1,
        );
        assert_eq!(gateway("", &spec).allowed_listeners, want);
    }
}

#[test]
fn labels_and_annotations_say_what_a_waypoint_is_for() {
    let label = |value: &str| format!(", labels: {{istio.io/waypoint-for: '{value}'}}");
    for (value, want) in [
        ("", None),
        ("service", Some(WaypointFor::Service)),
        ("workload", Some(WaypointFor::Workload)),
        ("all", Some(WaypointFor::All)),
        ("none", Some(WaypointFor::None)),
    ] {
        assert_eq!(gateway(&label(value), &with(MESH)).waypoint_for, want, "{value}");
    }
    let binding = |value: &str| format!(", annotations: {{ambient.istio.io/waypoint-inbound-binding: '{value}'}}");
    for (value, want) in
        [("NONE", InboundBinding::None), ("PROXY/15088", InboundBinding::Proxy("15088".parse().unwrap()))]
    {
        assert_eq!(gateway(&binding(value), &with(MESH)).inbound_binding, Some(want), "{value}");
    }
    let of = "metadata.annotations[\"ambient.istio.io/waypoint-inbound-binding\"]: expected \"NONE\", or \"PROXY/\" and a port, found";
    for value in ["PROXY", "PROXY/0", "PROXY/080", "proxy/1", "", "HBONE/1"] {
        assert_eq!(read("Gateway", &binding(value), &with(MESH)).unwrap_err(), [format!("{of} {value:?}")]);
    }
    let want = "metadata.labels[\"istio.io/waypoint-for\"]: expected \"service\", \"workload\", \"all\" or \"none\", found \"pods\"";
    assert_eq!(read("Gateway", &label("pods"), &with(MESH)).unwrap_err(), [want]);
}

#[test]
fn what_is_illegal_in_a_gateway_is_told() {
    let listener = |more: &str| with(&MESH.replace('}', &format!(", {more}}}")));
    let class = "gatewayClassName: istio-waypoint";
    let of = |more: &str| format!("{{{class}, listeners: [{MESH}], {more}}}");
    let at = |protocol: &str, more: &str| with(&format!("{{name: a, port: 1, protocol: {protocol}{more}}}"));
    for (spec, want) in [
        (format!("{{listeners: [{MESH}]}}"), "gatewayClassName: missing, expected the name of a GatewayClass"),
        (format!("{{{class}}}"), "listeners: missing, expected a list of 1 to 64"),
        (with(""), "listeners: expected a list of 1 to 64, found a list of 0"),
        (with(&vec![MESH; 65].join(", ")), "listeners: more than 64 listeners"),
        (
            with("{name: a, port: 1, protocol: HTTP}, {name: a, port: 2, protocol: HTTP}"),
            "listeners[1]: the same name as spec.listeners[0]",
        ),
        (
            with("{name: a, port: 1, protocol: HTTP}, {name: b, port: 1, protocol: HTTP}"),
            "listeners[1]: the same port, protocol and hostname as spec.listeners[0]",
        ),
        (with("{name: a, protocol: HTTP}"), "listeners[0].port: missing, expected a port, 1 to 65535"),
        (listener("hosts: a"), "listeners[0].hosts: unknown field"),
        (
            at("'a b'", ""),
            "listeners[0].protocol: expected a protocol such as \"HTTP\", or \"example.com/name\" for one of somebody's own, found \"a b\"",
        ),
        (at("HTTP", ", tls: {}"), "listeners[0].tls: expected no tls: the protocol has none, found a map of 0 fields"),
        (
            at("HTTPS", ", tls: {mode: Passthrough}"),
            "listeners[0].tls: expected tls of mode Terminate: the protocol is HTTPS, found a map of 1 fields",
        ),
        (at("TLS", ""), "listeners[0]: expected tls with a mode: the protocol is TLS, found a map of 3 fields"),
        (
            at("TCP", ", hostname: a.b"),
            "listeners[0].hostname: expected no hostname: the protocol has none, found \"a.b\"",
        ),
        (
            listener("allowedRoutes: {namespaces: {from: Selector}}"),
            "listeners[0].allowedRoutes.namespaces.from: only together with selector",
        ),
        (
            listener("allowedRoutes: {namespaces: {from: Some}}"),
            "listeners[0].allowedRoutes.namespaces.from: expected \"All\", \"Selector\" or \"Same\", found \"Some\"",
        ),
        (
            listener(
                "allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: In}]}}}",
            ),
            "listeners[0].allowedRoutes.namespaces.selector.matchExpressions[0].operator: expected \"In\" or \"NotIn\" with values, \"Exists\" or \"DoesNotExist\" without, found \"In\"",
        ),
        (
            listener("allowedRoutes: {kinds: [{}]}"),
            "listeners[0].allowedRoutes.kinds[0].kind: missing, expected a kind of route",
        ),
        (of("defaultScope: Some"), "defaultScope: expected \"All\" or \"None\", found \"Some\""),
        (
            of("allowedListeners: {namespaces: {from: Some}}"),
            "allowedListeners.namespaces.from: expected \"All\", \"Selector\", \"Same\" or \"None\", found \"Some\"",
        ),
        (of("addresses: [{value: a.b}]"), "addresses[0].value: expected an IPv4 or IPv6 address, found \"a.b\""),
        (of("tls: {front: {}}"), "tls.front: unknown field"),
        (
            of(&format!(
                "infrastructure: {{labels: {{{}}}}}",
                (0..9).map(|n| format!("a{n}: b")).collect::<Vec<_>>().join(", ")
            )),
            "infrastructure.labels: more than 8 labels",
        ),
        (
            of(&format!("infrastructure: {{labels: {{a: {}}}}}", "b".repeat(64))),
            "infrastructure.labels: more than 63 bytes in one value",
        ),
    ] {
        assert_eq!(read("Gateway", "", &spec).unwrap_err(), [format!("spec.{want}")], "{spec}");
    }
}

#[test]
fn a_grant_is_kept_and_both_its_sides_are_said() {
    let spec = "{from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], \
                to: [{group: '', kind: Service}, {group: '', kind: Secret, name: s}]}";
    let ConfigSpec::ReferenceGrant(grant) = read("ReferenceGrant", "", spec).unwrap().spec else { panic!("no grant") };
    let namespace: Namespace = "a".parse().unwrap();
    let from = GrantFrom { group: "gateway.networking.k8s.io".into(), kind: "HTTPRoute".into(), namespace };
    assert_eq!(grant.from, [from]);
    let to =
        |kind: &str, name: Option<&str>| GrantTo { group: "".into(), kind: kind.into(), name: name.map(Into::into) };
    assert_eq!(grant.to, [to("Service", None), to("Secret", Some("s"))]);
    let from = "from: [{group: '', kind: A, namespace: a}]";
    for (spec, want) in [
        ("{to: [{group: '', kind: A}]}".to_owned(), "from: missing, expected a list of 1 to 16"),
        (format!("{{{from}}}"), "to: missing, expected a list of 1 to 16"),
        (format!("{{{from}, to: []}}"), "to: expected a list of 1 to 16, found a list of 0"),
        (format!("{{{from}, to: [{}]}}", vec!["{group: '', kind: A}"; 17].join(", ")), "to: more than 16 entries"),
        (format!("{{{from}, to: [{{kind: A}}]}}"), "to[0].group: missing, expected the group of what is referred to"),
        (format!("{{{from}, to: [{{group: ''}}]}}"), "to[0].kind: missing, expected the kind of what is referred to"),
        (
            format!("{{{from}, to: [{{group: '', kind: A, name: ''}}]}}"),
            "to[0].name: expected a name of 1 to 253 bytes, found \"\"",
        ),
        (
            "{from: [{group: '', kind: A}], to: [{group: '', kind: A}]}".to_owned(),
            "from[0].namespace: missing, expected the namespace of who refers",
        ),
        (format!("{{{from}, to: [{{group: '', kind: A}}], at: 1}}"), "at: unknown field, did you mean \"to\"?"),
    ] {
        assert_eq!(read("ReferenceGrant", "", &spec).unwrap_err(), [format!("spec.{want}")], "{spec}");
    }
}
