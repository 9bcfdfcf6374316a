//! What a route refers to: where its requests go, and what is said of references that lead nowhere.

use super::*;

fn grant(namespace: &str, spec: &str) -> String {
    object("ReferenceGrant", namespace, "g", "", spec)
}

const FROM: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";

#[test]
fn what_leads_nowhere_answers_500_and_is_told() {
    let refused = |why: &str| format!("refused with 500: {why}");
    for (backend, why, reason) in [
        ("{name: gone, port: 80}", "there is no Service shop/gone", "BackendNotFound"),
        ("{name: v1, port: 81}", "Service shop/v1 has no TCP port 81", "BackendNotFound"),
        ("{name: v1}", "Service shop/v1: the port is missing", "UnsupportedValue"),
        ("{name: Not.A.Name, port: 80}", "there is no Service shop/Not.A.Name", "BackendNotFound"),
        (
            "{group: example.com, kind: Bucket, name: b}",
            "Bucket.example.com b: expected a Service, or a Hostname of networking.istio.io",
            "InvalidKind",
        ),
        (
            "{kind: Pod, name: p, namespace: other, port: 1}",
            "Pod other/p: expected a Service, or a Hostname of networking.istio.io",
            "InvalidKind",
        ),
        (
            "{name: secure, port: 443}",
            "Service shop/secure speaks TLS on port 443, and waypoints send requests without",
            "UnsupportedProtocol",
        ),
        (
            "{name: web, namespace: other, port: 80}",
            "no ReferenceGrant of other lets a HTTPRoute of shop refer to Service web",
            "RefNotPermitted",
        ),
        // Whether it is there is nobody's business who may not refer to it.
        (
            "{name: gone, namespace: other, port: 80}",
            "no ReferenceGrant of other lets a HTTPRoute of shop refer to Service gone",
            "RefNotPermitted",
        ),
        (
            "{group: networking.istio.io, kind: Hostname, name: gone.example.com, port: 80}",
            "there is no host gone.example.com",
            "BackendNotFound",
        ),
        (
            "{group: networking.istio.io, kind: Hostname, name: web.other.svc.cluster.local, port: 80}",
            "no ReferenceGrant of other lets a HTTPRoute of shop refer to Service web",
            "RefNotPermitted",
        ),
        (
            "{group: networking.istio.io, kind: Hostname, name: a.b, namespace: shop, port: 80}",
            "Hostname.networking.istio.io shop/a.b: a Hostname is in no namespace",
            "UnsupportedValue",
        ),
    ] {
        let objects = http(&format!("[{{backendRefs: [{backend}]}}]"));
        assert_eq!(GET.goes(&compiled(&objects)), refused(why), "{backend}");
        let want = format!("0 ResolvedRefs=false {reason}: spec.rules[0].backendRefs[0]: {why}");
        assert_eq!(of_r(&objects), [ACCEPTED.to_owned(), want], "{backend}");
    }
}

#[test]
fn a_copy_that_leads_nowhere_is_told_and_not_sent() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 80}}}";
    let objects = http(&format!("[{{filters: [{mirror}], backendRefs: [{{name: v1, port: 80}}]}}]"));
    assert_eq!(GET.goes(&compiled(&objects)), "to v1.shop:80; copies nothing: there is no Service shop/gone");
    let want = "0 ResolvedRefs=false BackendNotFound: spec.rules[0].filters, mirror 0: there is no Service shop/gone";
    assert_eq!(of_r(&objects), [ACCEPTED, want]);
}

#[test]
fn a_grant_permits_what_it_names_and_nothing_else() {
    let rules = "[{backendRefs: [{name: web, namespace: other, port: 80}]}]";
    let service = "{group: '', kind: Service}";
    for (namespace, from, to, want) in [
        ("other", FROM, service, true),
        ("other", FROM, "{group: '', kind: Service, name: web}", true),
        ("other", FROM, "{group: '', kind: Service, name: db}", false),
        ("other", FROM, "{group: '', kind: Secret}", false),
        ("other", FROM, "{group: example.com, kind: Service}", false),
        ("other", "{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}", service, false),
        ("other", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: client}", service, false),
        ("other", "{group: '', kind: HTTPRoute, namespace: shop}", service, false),
        // It permits what is in its own namespace.
        ("shop", FROM, service, false),
    ] {
        let grant = grant(namespace, &format!("{{from: [{from}], to: [{to}]}}"));
        let got = GET.goes(&compiled(&format!("{}{grant}", http(rules))));
        assert_eq!(got == "to web.other:80", want, "{namespace} {from} {to}: {got}");
    }
    let two =
        format!("{{from: [{{group: a.b, kind: C, namespace: d}}, {FROM}], to: [{{group: e.f, kind: G}}, {service}]}}");
    assert_eq!(GET.goes(&compiled(&format!("{}{}", http(rules), grant("other", &two)))), "to web.other:80");
}

#[test]
fn a_reference_to_the_parent_takes_no_grant() {
    let parent = "{group: '', kind: Service, name: web, namespace: other}";
    let backends = "[{name: web, namespace: other, port: 80, weight: 1}]";
    let spec = format!("{{parentRefs: [{parent}], rules: [{{backendRefs: {backends}}}]}}");
    let compiled = compiled(&object("HTTPRoute", "shop", "r", "", &spec));
    assert_eq!(Ask { host: "web.other", from: Some("shop"), ..GET }.goes(&compiled), "to web.other:80");
}

#[test]
fn a_hostname_leads_to_a_host_of_the_mesh() {
    let backend = "{group: networking.istio.io, kind: Hostname, name: v2.shop.svc.cluster.local, port: 80}";
    assert_eq!(GET.goes(&compiled(&http(&format!("[{{backendRefs: [{backend}]}}]")))), "to v2.shop:80");
}

#[test]
fn a_hostname_leads_only_to_what_is_exported_to_the_route() {
    let backend = "{group: networking.istio.io, kind: Hostname, name: bank.example.com, port: 80}";
    for (export, namespace, want) in [
        ("['*']", "other", true),
        ("[shop]", "other", true),
        ("['.']", "other", false),
        ("[client]", "other", false),
        ("['.']", "shop", true),
    ] {
        let entry = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: bank, namespace: {namespace}}}\n\
             spec: {{hosts: [bank.example.com], resolution: STATIC, exportTo: {export}, \
             ports: [{{name: http, number: 80, protocol: HTTP}}], endpoints: [{{address: 192.0.2.1}}]}}\n---\n"
        );
        let got = GET.goes(&compiled(&format!("{entry}{}", http(&format!("[{{backendRefs: [{backend}]}}]")))));
        let refused = "refused with 500: bank.example.com is not exported to shop, the namespace of what sends to it";
        assert_eq!(got, if want { "to bank.example.com:80" } else { refused }, "{export} of {namespace}");
    }
}

#[test]
fn only_the_share_of_what_leads_nowhere_is_refused() {
    let rules = "[{backendRefs: [{name: v1, port: 80, weight: 3}, {name: gone, port: 80, weight: 1}]}]";
    let compiled = compiled(&http(rules));
    let went = |seed| GET.with(&compiled, |decision, _| short(&decision.action.to_string()), seed);
    let all: Vec<String> = (0..4_000).map(went).collect();
    let count = |want: &str| all.iter().filter(|one| *one == want).count();
    let (sent, refused) = (count("to v1.shop:80 (3 of 4)"), count("refused with 500: there is no Service shop/gone"));
    assert_eq!(sent + refused, 4_000);
    // 3,000 and three standard deviations.
    assert!((2_918..=3_082).contains(&sent), "{sent}");
}

#[test]
fn all_that_leads_nowhere_is_told_up_to_a_bound() {
    let one = |count: usize| format!("{{backendRefs: [{}]}}", vec!["{name: gone, port: 80}"; count].join(", "));
    let told = of_r(&http(&format!("[{}, {}]", one(8), one(4)))).remove(1);
    assert!(told.contains("spec.rules[0].backendRefs[7]: there is no Service shop/gone; and 4 more"), "{told}");
}

#[test]
fn a_filter_that_is_not_done_is_never_skipped() {
    let extension = "{type: ExtensionRef, extensionRef: {group: example.com, kind: Limit, name: slow}}";
    let auth =
        "{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {path: /ask}, backendRef: {name: v2, port: 80}}}";
    let v1 = "{name: v1, port: 80}";
    let limit = "spec.rules[0].filters: ExtensionRef to Limit.example.com slow, a kind that is not known";
    let ask = "spec.rules[0].filters: ExternalAuth by Service v2 is not supported";
    for (rule, goes, conditions) in [
        (
            format!("{{filters: [{extension}], backendRefs: [{v1}]}}"),
            format!("refused with 500: {limit}"),
            vec![
                format!("0 Accepted=false UnsupportedValue: no rule can be served, and its requests are answered with 500: {limit}"),
                format!("0 ResolvedRefs=false InvalidKind: {limit}"),
            ],
        ),
        (
            format!("{{filters: [{auth}], backendRefs: [{v1}]}}, {{matches: [{{path: {{value: /x}}}}], backendRefs: [{v1}]}}"),
            format!("refused with 500: {ask}"),
            vec![
                ACCEPTED.to_owned(),
                RESOLVED.to_owned(),
                format!("0 PartiallyInvalid=true UnsupportedValue: Dropped Rule: {ask}"),
            ],
        ),
        (
            format!("{{backendRefs: [{{name: v1, port: 80, filters: [{auth}]}}, {{name: v2, port: 80, weight: 0}}]}}"),
            "refused with 500: spec.rules[0].backendRefs[0].filters: ExternalAuth by Service v2 is not supported".to_owned(),
            vec![
                ACCEPTED.to_owned(),
                RESOLVED.to_owned(),
                "0 PartiallyInvalid=true UnsupportedValue: spec.rules[0].backendRefs[0].filters: ExternalAuth by Service v2 is not supported: its share of requests is answered with 500".to_owned(),
            ],
        ),
    ] {
        let objects = http(&format!("[{rule}]"));
        assert_eq!(GET.goes(&compiled(&objects)), goes, "{rule}");
        assert_eq!(of_r(&objects), conditions, "{rule}");
    }
}

#[test]
fn a_filter_where_it_cannot_be_done_refuses_its_share() {
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a.b}}";
    let cors = "{type: CORS, cors: {allowOrigins: ['*']}}";
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 80}}}";
    let redirect = "{type: RequestRedirect, requestRedirect: {}}";
    for (of_rule, of_backend, several, want) in [
        ("", redirect, false, Some("RequestRedirect at a backend")),
        ("", rewrite, false, None),
        ("", rewrite, true, Some("URLRewrite at one of several backends")),
        (rewrite, rewrite, false, Some("URLRewrite beside that of the rule")),
        ("", cors, false, None),
        ("", cors, true, Some("CORS at one of several backends")),
        (cors, cors, false, Some("CORS beside that of the rule")),
        ("", mirror, false, None),
        ("", mirror, true, Some("RequestMirror at one of several backends")),
        (mirror, mirror, false, None),
    ] {
        let more = if several { ", {name: v2, port: 80, weight: 0}" } else { "" };
        let backends = format!("[{{name: v1, port: 80, filters: [{of_backend}]}}{more}]");
        let objects = http(&format!("[{{filters: [{of_rule}], backendRefs: {backends}}}]"));
        let goes = GET.goes(&compiled(&objects));
        match want {
            None => assert!(goes.starts_with("to v1.shop:80"), "{objects}: {goes}"),
            Some(what) => {
                let why = format!("spec.rules[0].backendRefs[0].filters: {what} is not supported");
                assert_eq!(goes, format!("refused with 500: {why}"));
                let told = format!(
                    "0 PartiallyInvalid=true UnsupportedValue: {why}: its share of requests is answered with 500"
                );
                assert_eq!(of_r(&objects).last(), Some(&told));
            }
        }
    }
}

#[test]
fn a_session_that_cannot_be_kept_is_told() {
    let objects = http("[{sessionPersistence: {sessionName: a b}, backendRefs: [{name: v1, port: 80}]}]");
    assert_eq!(GET.goes(&compiled(&objects)), "to v1.shop:80");
    let want = "0 PartiallyInvalid=true UnsupportedValue: spec.rules[0].sessionPersistence: \"a b\" is no name of a header or cookie, expected at \
                most 128 letters, digits and !#$%&'*+-.^_`|~: requests are balanced without it";
    assert_eq!(of_r(&objects), [ACCEPTED, RESOLVED, want]);
}
