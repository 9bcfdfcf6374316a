//! Routes of the Gateway API: what is kept of them, and what is refused and in which words. What they do with requests, the compiler's tests show.

mod refused;

use crate::{ConfigObject, ConfigSpec, FileName, GatewayScope, parse};

use super::*;

fn document(kind: &str, spec: &str) -> String {
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: r, namespace: shop}}\nspec: {spec}\n"
    )
}

fn read(kind: &str, spec: &str) -> Result<ConfigObject, Vec<String>> {
    let text = document(kind, spec);
    let parsed = parse(&[(FileName::new("f.yaml"), &text)]);
    parsed.map(|mut objects| objects.configs.remove(0)).map_err(|errors| {
        let line = |error: &crate::ManifestError| {
            assert_eq!(error.origin.line, 4, "{error}");
            format!("{}: {}", error.field, error.cause)
        };
        errors.iter().map(line).collect()
    })
}

fn spec_of(kind: &str, spec: &str) -> GatewayRouteSpec {
    let object = read(kind, spec).unwrap_or_else(|errors| panic!("{spec}: {errors:#?}"));
    let ConfigSpec::Route(spec) = object.spec else { panic!("no route: {object:?}") };
    *spec
}

const KINDS: [&str; 3] = ["HTTPRoute", "GRPCRoute", "TCPRoute"];

/// What a TCPRoute must have.
const RULES: &str = "rules: [{backendRefs: [{name: v1, port: 80}]}]";

#[test]
fn a_reference_to_a_parent_is_kept_with_its_defaults() {
    let own = ParentRef {
        group: "gateway.networking.k8s.io".into(),
        kind: "Gateway".into(),
        namespace: None,
        name: "a".into(),
        section: None,
        port: None,
    };
    let all = "{group: '', kind: Service, namespace: b, name: a, sectionName: http, port: 80}";
    let said = ParentRef {
        group: "".into(),
        kind: "Service".into(),
        namespace: Some("b".parse().unwrap()),
        section: Some("http".into()),
        port: Some("80".parse().unwrap()),
        ..own.clone()
    };
    for kind in KINDS {
        for (parents, want) in [
            ("[]", vec![]),
            ("[{name: a}]", vec![own.clone()]),
            (all, vec![said.clone()]),
            ("{name: a, port: null}", vec![own.clone()]),
        ] {
            let parents = if parents.starts_with('[') { parents.to_owned() } else { format!("[{parents}]") };
            assert_eq!(spec_of(kind, &format!("{{parentRefs: {parents}, {RULES}}}")).parents, want, "{kind} {parents}");
        }
    }
    // Several to one object name different ports of it.
    let several = "[{name: a, port: 1}, {name: a, port: 2}, {name: a, namespace: b}, {kind: Service, name: a}]";
    assert_eq!(spec_of("HTTPRoute", &format!("{{parentRefs: {several}}}")).parents.len(), 4);
}

#[test]
fn hosts_and_scope_are_kept() {
    let spec = spec_of("HTTPRoute", "{hostnames: [a.example, '*.b.example'], useDefaultGateways: None}");
    assert_eq!(spec.hostnames, ["a.example".parse().unwrap(), "*.b.example".parse().unwrap()]);
    assert_eq!(spec.default_gateways, Some(GatewayScope::None));
    let spec = spec_of("TCPRoute", &format!("{{useDefaultGateways: All, {RULES}}}"));
    assert_eq!((spec.default_gateways, spec.hostnames.len()), (Some(GatewayScope::All), 0));
}

#[test]
fn what_an_api_server_fills_in_is_filled_in() {
    let root = matches::everything(Speaks::Http);
    for spec in ["{}", "{rules: []}", "{rules: [{}]}", "{rules: [{matches: []}]}", "{rules: [{matches: [{}]}]}"] {
        let rules = spec_of("HTTPRoute", spec).rules;
        assert_eq!(rules.len(), 1, "{spec}");
        assert_eq!(rules[0].matches, root, "{spec}");
    }
    assert!(spec_of("GRPCRoute", "{}").rules.is_empty());
    assert_eq!(spec_of("GRPCRoute", "{rules: [{}]}").rules[0].matches, matches::everything(Speaks::Grpc));
    let rule = &spec_of("HTTPRoute", &format!("{{{RULES}}}")).rules[0];
    let want = "BackendRef { group: \"\", kind: \"Service\", namespace: None, name: \"v1\", port: Some(80) }";
    assert_eq!(format!("{:?}", rule.backends[0].to).replace("Port(80)", "80"), want);
    assert_eq!((rule.backends[0].weight, rule.line, rule.name.as_deref()), (None, 4, None));
}

#[test]
fn what_is_not_done_is_kept_and_not_forgotten() {
    let filters = "[{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}, \
                   {type: ExtensionRef, extensionRef: {group: '', kind: C, name: e}}, \
                   {type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {allowedHeaders: [x]}, \
                   forwardBody: {maxSize: 10}, backendRef: {name: v1, port: 80}}}]";
    let rule = spec_of("HTTPRoute", &format!("{{rules: [{{filters: {filters}}}]}}")).rules.remove(0);
    let shown: Vec<String> = rule.filters.extensions.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["C.a.b d", "C e"]);
    assert_eq!(rule.filters.external_auth.map(|to| to.to_string()).as_deref(), Some("Service v1"));
}

#[test]
fn a_session_is_kept_as_said() {
    use crate::{CookieLifetime, SessionCarrier, SessionPersistence};
    let kept =
        |said: &str| spec_of("GRPCRoute", &format!("{{rules: [{{sessionPersistence: {said}}}]}}")).rules.remove(0);
    let plain = SessionPersistence {
        name: None,
        carrier: SessionCarrier::Cookie,
        absolute_timeout: None,
        lifetime: CookieLifetime::Session,
    };
    let hour = Some(std::time::Duration::from_secs(3_600));
    for (said, want) in [
        ("{}", plain.clone()),
        ("{type: Cookie, cookieConfig: {}}", plain.clone()),
        (
            "{type: Header, sessionName: s}",
            SessionPersistence { name: Some("s".into()), carrier: SessionCarrier::Header, ..plain.clone() },
        ),
        (
            "{absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}",
            SessionPersistence { absolute_timeout: hour, lifetime: CookieLifetime::Permanent, ..plain.clone() },
        ),
    ] {
        assert_eq!(kept(said).persistence, Some(want), "{said}");
    }
}

#[test]
fn paths_are_those_that_the_api_takes() {
    for (text, want) in [
        ("/", true),
        ("/a/b", true),
        ("/a%20b", true),
        ("/a.b/..c/d.", true),
        ("/~-_!$&'()*+,;=:@", true),
        ("", false),
        ("a", false),
        ("/a//b", false),
        ("/a/./b", false),
        ("/a/../b", false),
        ("/a/.", false),
        ("/a/..", false),
        ("/a%2fb", false),
        ("/a%2Fb", false),
        ("/a#b", false),
        ("/a?b", false),
        ("/a b", false),
        ("/a%", false),
        ("/a%2", false),
        ("/a%zz", false),
        ("/é", false),
    ] {
        assert_eq!(matches::is_path(text), want, "{text:?}");
    }
}

proptest::proptest! {
    #[test]
    fn a_path_that_is_taken_has_one_spelling_at_every_level(text in "/([a-z.%2fF/~]{0,4}/?){0,3}") {
        use weir_request::{Normalization, spelt};
        if matches::is_path(&text) {
            let base = spelt(&text, Normalization::Base);
            for level in [Normalization::MergeSlashes, Normalization::DecodeAndMergeSlashes] {
                proptest::prop_assert_eq!(&spelt(&text, level), &base, "{}", text);
            }
        }
    }
}
