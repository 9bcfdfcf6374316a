//! What the conformance tests of the Gateway API ask of a mesh, as tables.

use super::*;

fn rule(matches: &str, to: &str) -> String {
    format!("{{matches: [{matches}], backendRefs: [{{name: {to}, port: 80}}]}}")
}

fn headers(pairs: &'static [(&'static str, &'static str)]) -> Ask<'static> {
    Ask { headers: pairs, ..GET }
}

/// `MeshHTTPRouteMatching`.
#[test]
fn the_most_specific_match_wins() {
    let rules = [
        rule("{path: {type: Exact, value: /}}, {headers: [{name: version, value: one}]}", "v1"),
        rule("{path: {type: Exact, value: /v2}}, {headers: [{name: version, value: two}]}", "v2"),
    ];
    let compiled = compiled(&http(&format!("[{}]", rules.join(", "))));
    for (ask, want) in [
        (get("/"), "to v1.shop:80"),
        (get("/example"), "refused with 404"),
        (headers(&[("version", "one")]), "to v1.shop:80"),
        (get("/v2"), "to v2.shop:80"),
        (get("/v2example"), "refused with 404"),
        (get("/foo/v2/example"), "refused with 404"),
        (Ask { target: "/v2", ..headers(&[("version", "one")]) }, "to v2.shop:80"),
        (Ask { target: "/v3", ..headers(&[("version", "two")]) }, "to v2.shop:80"),
    ] {
        assert_eq!(ask.goes(&compiled), want, "{} {:?}", ask.target, ask.headers);
    }
}

/// `MeshHTTPRouteQueryParamMatching`.
#[test]
fn parameters_of_the_query_match() {
    let animal = |value| format!("{{queryParams: [{{name: animal, value: {value}}}]}}");
    let path = "{path: {value: /path1}, queryParams: [{name: animal, value: whale}]}";
    let rules = [
        rule(&animal("whale"), "v1"),
        rule(&animal("dolphin"), "v2"),
        rule(
            &format!(
                "{path}, {{headers: [{{name: version, value: one}}], queryParams: [{{name: animal, value: shark}}]}}"
            ),
            "v3",
        ),
    ];
    let compiled = compiled(&http(&format!("[{}]", rules.join(", "))));
    for (ask, want) in [
        (get("/?animal=whale"), "to v1.shop:80"),
        (get("/?animal=dolphin"), "to v2.shop:80"),
        (get("/?animal=dolphin&color=blue"), "to v2.shop:80"),
        (get("/?animal=dog"), "refused with 404"),
        (get("/?animal=whaledolphin"), "refused with 404"),
        (get("/"), "refused with 404"),
        (get("/path1?animal=whale"), "to v3.shop:80"),
        (Ask { target: "/?animal=shark", ..headers(&[("version", "one")]) }, "to v3.shop:80"),
        (get("/?animal=shark"), "refused with 404"),
        // The first of several values counts.
        (get("/?animal=whale&animal=dolphin"), "to v1.shop:80"),
    ] {
        assert_eq!(ask.goes(&compiled), want, "{}", ask.target);
    }
}

/// Ten thousand requests, and how many went where.
fn counted(compiled: &Compiled, ask: Ask<'_>, wants: &[(&str, f64)]) {
    let mut counts = vec![0_u32; wants.len()];
    for seed in 0..10_000 {
        let went = ask.with(compiled, |decision, _| decision.action.to_string(), seed);
        let at = wants.iter().position(|(host, _)| went.starts_with(&format!("to {host}{DOMAIN}")));
        counts[at.unwrap_or_else(|| panic!("{went}"))] += 1;
    }
    for ((host, share), count) in wants.iter().zip(&counts) {
        let deviation = (10_000.0 * share * (1.0 - share)).sqrt();
        assert!((f64::from(*count) - 10_000.0 * share).abs() <= 3.0 * deviation, "{host}: {count} of {share}");
    }
}

/// `MeshHTTPRouteWeight`, and that of GRPCRoute.
#[test]
fn weights_are_kept() {
    let backends =
        "[{name: v1, port: 80, weight: 70}, {name: v2, port: 80, weight: 30}, {name: v3, port: 80, weight: 0}]";
    let wants = [("v1.shop", 0.7), ("v2.shop", 0.3), ("v3.shop", 0.0)];
    counted(&compiled(&http(&format!("[{{backendRefs: {backends}}}]"))), GET, &wants);
    let spec = format!("{{parentRefs: [{WEB}], rules: [{{backendRefs: {backends}}}]}}");
    counted(&compiled(&object("GRPCRoute", "shop", "g", "", &spec)), call("/s/M"), &wants);
    let even = "[{backendRefs: [{name: v1, port: 80}, {name: v2, port: 80}]}]";
    counted(&compiled(&http(even)), GET, &[("v1.shop", 0.5), ("v2.shop", 0.5)]);
}

/// `MeshHTTPRouteRewritePath`.
#[test]
fn paths_are_rewritten() {
    let rewrite = |matched: &str, path: &str| {
        format!(
            "{{matches: [{{path: {{value: {matched}}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path: {path}}}}}], \
             backendRefs: [{{name: v1, port: 80}}]}}"
        )
    };
    let prefix = |to: &str| format!("{{type: ReplacePrefixMatch, replacePrefixMatch: {to}}}");
    let full = "{type: ReplaceFullPath, replaceFullPath: /one}";
    let rules = [
        rewrite("/prefix/one", &prefix("/one")),
        rewrite("/strip-prefix", &prefix("/")),
        rewrite("/full/one", full),
        rewrite("/empty", &prefix("''")),
    ];
    let compiled = compiled(&http(&format!("[{}]", rules.join(", "))));
    for (sent, want) in [
        ("/prefix/one/two", "/one/two"),
        ("/prefix/one", "/one"),
        ("/strip-prefix/three", "/three"),
        ("/strip-prefix", "/"),
        ("/full/one/two", "/one"),
        ("/empty/three", "/three"),
    ] {
        let path = get(sent).with(
            &compiled,
            |decision, request| {
                let weir_route::Ground::Rule(chosen) = decision.ground else { panic!("no rule") };
                let weir_route::Action::Forward(forward) = decision.action else { panic!("not sent on") };
                let rewrite = forward.forwarding().rewrite.path.clone().unwrap();
                rewrite.apply(request.path().as_str(), chosen.prefix()).unwrap()
            },
            1,
        );
        assert_eq!(path, want, "{sent}");
    }
}

/// `MeshHTTPRouteNamedRule`.
#[test]
fn a_rule_has_a_name() {
    let rules = "[{name: named-rule, backendRefs: [{name: v1, port: 80}]}, \
                 {matches: [{path: {value: /unnamed}}], backendRefs: [{name: v2, port: 80}]}]";
    let compiled = compiled(&http(rules));
    assert!(GET.why(&compiled).starts_with("HTTPRoute shop/r, spec.rules[0] \"named-rule\".matches[0] (f.yaml:"));
    assert_eq!(get("/unnamed").goes(&compiled), "to v2.shop:80");
}

/// `GRPCExactMethodMatching`, `GRPCRouteHeaderMatching`.
#[test]
fn calls_of_grpc_match_by_service_and_method() {
    let rules = [
        rule("{method: {service: echo.GrpcEcho, method: Echo}}", "v1"),
        rule("{method: {service: echo.GrpcEcho, method: EchoTwo}}", "v2"),
        rule("{headers: [{name: version, value: three}]}", "v3"),
    ];
    let spec = format!("{{parentRefs: [{WEB}], rules: [{}]}}", rules.join(", "));
    let compiled = compiled(&object("GRPCRoute", "shop", "g", "", &spec));
    for (ask, want) in [
        (call("/echo.GrpcEcho/Echo"), "to v1.shop:80"),
        (call("/echo.GrpcEcho/EchoTwo"), "to v2.shop:80"),
        (call("/echo.GrpcEcho/EchoThree"), "refused with 404"),
        (Ask { headers: &[GRPC, ("version", "three")], ..call("/echo.GrpcEcho/EchoThree") }, "to v3.shop:80"),
        // No call.
        (Ask { method: "POST", ..get("/echo.GrpcEcho/Echo") }, "refused with 404"),
    ] {
        assert_eq!(ask.goes(&compiled), want, "{}", ask.target);
    }
}

/// Routes of both kinds of one service: the more specific counts, and among equals that which is for gRPC.
#[test]
fn http_and_grpc_routes_are_one_table() {
    let grpc =
        |rules: &str| object("GRPCRoute", "shop", "g", "", &format!("{{parentRefs: [{WEB}], rules: [{rules}]}}"));
    let all = |to| format!("{{backendRefs: [{{name: {to}, port: 80}}]}}");
    let exact = rule("{path: {type: Exact, value: /s.S/M}}", "v1");
    for (of_http, of_grpc, ask, want) in [
        (all("v1"), all("v2"), GET, "to v1.shop:80"),
        (all("v1"), all("v2"), call("/s.S/M"), "to v2.shop:80"),
        (all("v1"), rule("{method: {service: s.S}}", "v2"), call("/t.T/M"), "to v1.shop:80"),
        (exact.clone(), all("v2"), call("/s.S/M"), "to v1.shop:80"),
        (exact.clone(), rule("{method: {service: s.S, method: M}}", "v2"), call("/s.S/M"), "to v2.shop:80"),
        (rule("{path: {value: /s.S}}", "v1"), rule("{method: {service: s.S}}", "v2"), call("/s.S/M"), "to v2.shop:80"),
    ] {
        let compiled = compiled(&format!("{}{}", http(&format!("[{of_http}]")), grpc(&of_grpc)));
        assert_eq!(ask.goes(&compiled), want, "{of_http} {of_grpc}");
    }
}

/// The older route, then the name, decide between equal matches.
#[test]
fn among_equal_matches_the_oldest_counts() {
    let of = |name: &str, created: &str, to: &str| {
        let spec = format!("{{parentRefs: [{WEB}], rules: [{{backendRefs: [{{name: {to}, port: 80}}]}}]}}");
        object("HTTPRoute", "shop", name, &format!(", creationTimestamp: '{created}'"), &spec)
    };
    let (early, late) = ("2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z");
    for (objects, want) in [
        (format!("{}{}", of("a", late, "v1"), of("b", early, "v2")), "to v2.shop:80"),
        (format!("{}{}", of("a", early, "v1"), of("b", early, "v2")), "to v1.shop:80"),
        (format!("{}{}", of("b", early, "v2"), of("a", early, "v1")), "to v1.shop:80"),
    ] {
        assert_eq!(GET.goes(&compiled(&objects)), want);
    }
}
