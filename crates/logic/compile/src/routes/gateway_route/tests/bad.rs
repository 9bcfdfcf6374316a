//! What is bad of objects as an API server sends them: it is told, and the rest is served.

use weir_manifest::{ConfigKind, Kind, Object, Sent};

use super::*;
use crate::Compiler;

fn sent(kind: ConfigKind, name: &str, spec: serde_json::Value) -> Object {
    let json = serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind.name(),
        "metadata": {"name": name, "namespace": "shop", "generation": 7}, "spec": spec,
    });
    let sent: Sent = serde_json::from_value(json).unwrap();
    sent.read(Kind::Config(kind), &FileName::new("kubernetes")).unwrap()
}

fn compiler() -> Compiler {
    let mut compiler = Compiler::new(settings());
    let objects = parse(&[(FileName::new("f.yaml"), &services())]).unwrap();
    objects.into_objects().for_each(|object| compiler.set(object));
    compiler.take();
    compiler
}

fn web(rules: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": rules})
}

#[test]
fn a_route_that_is_not_legal_is_told_and_others_are_served() {
    let to = |name: &str| serde_json::json!([{"name": name, "port": 80}]);
    let good = web(serde_json::json!([{"matches": [{"path": {"value": "/good"}}], "backendRefs": to("v1")}]));
    for (rules, want) in [
        (
            serde_json::json!([{"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a b", "value": "c"}]}}]}]),
            "spec.rules[0].filters[0].requestHeaderModifier.set[0].name: \"a b\" is no name of a header: expected 1 to 256 letters, digits or signs of RFC 9110 §5.6.2",
        ),
        (
            serde_json::json!([{"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["Content-Length"]}}]}]),
            "spec.rules[0].filters[0].requestHeaderModifier: content-length cannot be changed: it frames the message",
        ),
        (
            serde_json::json!([{"matches": [{"path": {"type": "RegularExpression", "value": "(a"}}]}]),
            "spec.rules[0].matches[0].path.value: the regular expression \"(a\" cannot be used",
        ),
        (
            serde_json::json!([{"backendRefs": [{"name": "v1", "port": 80, "weight": 1_000_001}]}]),
            "spec.rules[0].backendRefs[0].weight: expected a weight, 0 to 1000000, found the number 1000001",
        ),
        (serde_json::json!([{"newField": 1}]), "spec.rules[0].newField: unknown field"),
    ] {
        let mut compiler = compiler();
        compiler.set(sent(ConfigKind::HttpRoute, "bad", web(rules.clone())));
        compiler.set(sent(ConfigKind::HttpRoute, "good", good.clone()));
        let compiled = compiler.routes();
        assert_eq!(get("/good").goes(&compiled), "to v1.shop:80");
        assert_eq!(findings(&compiled), [format!("Invalid HTTPRoute shop/bad: {want}; it has no effect")]);
    }
}

#[test]
fn a_route_that_is_not_legal_any_more_stays_what_it_was() {
    let mut compiler = compiler();
    let legal = web(serde_json::json!([{"backendRefs": [{"name": "v1", "port": 80}]}]));
    compiler.set(sent(ConfigKind::HttpRoute, "r", legal));
    compiler.set(sent(ConfigKind::HttpRoute, "r", web(serde_json::json!([{"backendRefs": [{"port": 80}]}]))));
    let compiled = compiler.routes();
    assert_eq!(GET.goes(&compiled), "to v1.shop:80");
    let want = "Invalid HTTPRoute shop/r: spec.rules[0].backendRefs[0].name: missing, expected the object's name; \
                what it was before stays in force";
    assert_eq!(findings(&compiled), [want]);
}

#[test]
fn weights_that_add_up_to_0_answer_500() {
    let rules = "[{backendRefs: [{name: v1, port: 80, weight: 0}, {name: v2, port: 80, weight: 0}]}]";
    assert_eq!(GET.goes(&compiled(&http(rules))), "refused with 500: the weights of its backends add up to 0");
}

#[test]
fn an_expression_that_explodes_elsewhere_is_linear_here() {
    let rules =
        "[{matches: [{path: {type: RegularExpression, value: '/(a|aa|a*)*b'}}], backendRefs: [{name: v1, port: 80}]}]";
    let target = format!("/{}", "a".repeat(50_000));
    assert_eq!(get(&target).goes(&compiled(&http(rules))), "refused with 404");
}

/// Routes of which each has so many matches, of `web` and one of `v1`.
fn many(routes: usize, matches: usize) -> Compiled {
    let mut compiler = compiler();
    let (rules, each) = if matches > 64 { (2, matches / 2) } else { (1, matches) };
    for index in 0..routes {
        let matched = |at: usize| serde_json::json!({"path": {"value": format!("/r{index}/m{at}")}});
        let rule = |first: usize| {
            let matches: Vec<_> = (0..each).map(|at| matched(first + at)).collect();
            serde_json::json!({"matches": matches, "backendRefs": [{"name": "v1", "port": 80}]})
        };
        let rules: Vec<_> = (0..rules).map(|at| rule(at * each)).collect();
        compiler.set(sent(ConfigKind::HttpRoute, &format!("r{index}"), web(rules.into())));
    }
    let own = serde_json::json!({
        "parentRefs": [{"group": "", "kind": "Service", "name": "v1"}],
        "rules": [{"backendRefs": [{"name": "v2", "port": 80}]}]
    });
    compiler.set(sent(ConfigKind::HttpRoute, "own", own));
    compiler.routes()
}

#[test]
fn ten_thousand_routes_are_served() {
    let compiled = many(10_000, 1);
    assert_eq!(compiled.statuses.len(), 10_001);
    assert_eq!(get("/r9999/m0/x").goes(&compiled), "to v1.shop:80");
    assert_eq!(get("/r10000").goes(&compiled), "refused with 404");
    assert_eq!(Ask { host: "v1.shop", ..GET }.goes(&compiled), "to v2.shop:80");
}

#[test]
fn more_than_can_be_kept_of_one_service_refuse_that_service_only() {
    let compiled = many(800, 126);
    let web: Hostname = format!("web.shop{DOMAIN}").parse().unwrap();
    let refused = compiled.serving.host(&web).unwrap().refused.clone();
    let want = "100800 matches in the routes of one service, at most 100000 are allowed";
    assert_eq!(refused.as_deref(), Some(want));
    assert_eq!(Ask { host: "v1.shop", ..GET }.goes(&compiled), "to v2.shop:80");
}
