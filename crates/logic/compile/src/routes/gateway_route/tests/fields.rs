//! Every field of a rule: what it does with a request.

use std::time::Duration;

use weir_route::{Action, CorsAnswer, Fields};

use super::*;

const V1: &str = "backendRefs: [{name: v1, port: 80}]";

#[test]
fn fields_of_a_match_decide() {
    let header = |name, value| Ask { headers: Box::leak(Box::new([(name, value)])), ..GET };
    let method = |method| Ask { method, ..GET };
    for (matched, yes, no) in [
        ("{}", vec![get("/"), get("/any"), method("DELETE")], vec![]),
        ("{path: {}}", vec![get("/any")], vec![]),
        ("{path: {value: /a}}", vec![get("/a"), get("/a/"), get("/a/b")], vec![get("/ab"), get("/")]),
        ("{path: {type: PathPrefix, value: /a/}}", vec![get("/a"), get("/a/b")], vec![get("/ab")]),
        ("{path: {type: Exact, value: /a}}", vec![get("/a"), get("/a?q=1")], vec![get("/a/"), get("/A")]),
        (
            "{path: {type: RegularExpression, value: '/v[0-9]+/.*'}}",
            vec![get("/v1/x")],
            vec![get("/v/x"), get("/x/v1/x")],
        ),
        ("{method: POST}", vec![method("POST")], vec![GET]),
        (
            "{headers: [{name: Version, value: two}]}",
            vec![header("version", "two")],
            vec![GET, header("version", "Two")],
        ),
        (
            "{headers: [{name: v, type: RegularExpression, value: 't.+'}]}",
            vec![header("v", "two")],
            vec![header("v", "t"), header("v", "one")],
        ),
        // Of two for one name the first counts.
        ("{headers: [{name: v, value: a}, {name: V, value: b}]}", vec![header("v", "a")], vec![header("v", "b")]),
        (
            "{queryParams: [{name: animal, value: whale}]}",
            vec![get("/?animal=whale")],
            vec![get("/?animal=dolphin"), GET],
        ),
        (
            "{queryParams: [{name: q, type: Exact, value: 'a b'}]}",
            vec![get("/?q=a+b"), get("/?q=a%20b")],
            vec![get("/?q=ab")],
        ),
        (
            "{queryParams: [{name: a, type: RegularExpression, value: 'w.*'}, {name: b, value: c}]}",
            vec![get("/?a=whale&b=c"), get("/?b=c&a=w")],
            vec![get("/?a=whale"), get("/?b=c")],
        ),
        (
            "{path: {value: /a}, method: GET, headers: [{name: h, value: x}], queryParams: [{name: q, value: y}]}",
            vec![Ask { target: "/a?q=y", ..header("h", "x") }],
            vec![Ask { target: "/b?q=y", ..header("h", "x") }, get("/a?q=y"), Ask { target: "/a", ..header("h", "x") }],
        ),
    ] {
        let compiled = compiled(&http(&format!("[{{matches: [{matched}], {V1}}}]")));
        for ask in yes {
            assert_eq!(ask.goes(&compiled), "to v1.shop:80", "{matched} {}", ask.target);
        }
        for ask in no {
            assert_eq!(ask.goes(&compiled), "refused with 404", "not {matched} {}", ask.target);
        }
    }
}

#[test]
fn fields_of_a_match_of_grpc_decide() {
    let with = |name, value| Ask { headers: Box::leak(Box::new([GRPC, (name, value)])), ..call("/s.S/M") };
    for (matched, yes, no) in [
        (
            "{}",
            vec![call("/s.S/M")],
            vec![Ask { method: "POST", ..get("/s.S/M") }, Ask { method: "GET", ..call("/s.S/M") }],
        ),
        ("{method: {service: s.S, method: M}}", vec![call("/s.S/M")], vec![call("/s.S/N"), call("/t.S/M")]),
        ("{method: {type: Exact, service: s.S}}", vec![call("/s.S/M"), call("/s.S/N")], vec![call("/t.S/M")]),
        ("{method: {method: M}}", vec![call("/s.S/M"), call("/t.S/M")], vec![call("/s.S/N")]),
        (
            "{method: {type: RegularExpression, service: 's[.].*', method: 'Get.+'}}",
            vec![call("/s.S/GetX")],
            vec![call("/s.S/Get"), call("/t.S/GetX")],
        ),
        ("{headers: [{name: v, value: a}]}", vec![with("v", "a")], vec![with("v", "b"), call("/s.S/M")]),
        (
            "{method: {service: s.S}, headers: [{name: v, type: RegularExpression, value: a+}]}",
            vec![with("v", "aa")],
            vec![with("v", "b")],
        ),
    ] {
        let spec = format!("{{parentRefs: [{WEB}], rules: [{{matches: [{matched}], {V1}}}]}}");
        let compiled = compiled(&object("GRPCRoute", "shop", "g", "", &spec));
        for ask in yes {
            assert_eq!(ask.goes(&compiled), "to v1.shop:80", "{matched} {}", ask.target);
        }
        for ask in no {
            assert_eq!(ask.goes(&compiled), "refused with 404", "not {matched} {}", ask.target);
        }
        assert_eq!(conditions(&compiled, "GRPCRoute", "shop/g"), [ACCEPTED, RESOLVED]);
    }
}

#[test]
fn filters_and_policies_say_what_becomes_of_a_request() {
    let prefix = "matches: [{path: {value: /old}}]";
    for (rule, want) in [
        (format!("{{{V1}}}"), "to v1.shop:80"),
        ("{filters: [{type: RequestRedirect, requestRedirect: {}}]}".to_owned(), "redirected with 302"),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 308, scheme: https}}]}".to_owned(),
            "redirected with 308",
        ),
        (
            format!("{{{V1}, filters: [{{type: URLRewrite, urlRewrite: {{hostname: a.example}}}}]}}"),
            "to v1.shop:80; rewrites the authority to a.example",
        ),
        (
            format!(
                "{{{V1}, filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath, replaceFullPath: /one}}}}}}]}}"
            ),
            "to v1.shop:80; rewrites the path to /one",
        ),
        (
            format!(
                "{{{prefix}, {V1}, filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}}}}}]}}"
            ),
            "to v1.shop:80; rewrites the segments matched of the path to /new/",
        ),
        (
            format!(
                "{{{V1}, filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: v2, port: 80}}}}}}]}}"
            ),
            "to v1.shop:80; copies 100% to v2.shop:80",
        ),
        (
            format!(
                "{{{V1}, filters: [{{type: RequestMirror, requestMirror: {{percent: 20, backendRef: {{name: v2, port: 80}}}}}}, {{type: RequestMirror, requestMirror: {{fraction: {{numerator: 1, denominator: 8}}, backendRef: {{name: v3, port: 80}}}}}}]}}"
            ),
            "to v1.shop:80; copies 20% to v2.shop:80; copies 12.5% to v3.shop:80",
        ),
        (format!("{{{V1}, timeouts: {{request: 10s}}}}"), "to v1.shop:80; within 10s"),
        (
            format!("{{{V1}, timeouts: {{request: 1m, backendRequest: 500ms}}}}"),
            "to v1.shop:80; within 60s; each attempt within 500ms",
        ),
        (format!("{{{V1}, timeouts: {{request: 0s}}}}"), "to v1.shop:80"),
        (
            format!("{{{V1}, retry: {{codes: [500, 503], attempts: 4, backoff: 100ms}}}}"),
            "to v1.shop:80; up to 4 retries on reset,connect-failure,refused-stream,retriable-status-codes,500,503",
        ),
        (format!("{{{V1}, retry: {{}}}}"), "to v1.shop:80"),
        // A filter of the only backend is as good as the rule's.
        (
            format!(
                "{{{prefix}, backendRefs: [{{name: v1, port: 80, filters: [{{type: URLRewrite, urlRewrite: {{hostname: a.example}}}}, {{type: RequestMirror, requestMirror: {{backendRef: {{name: v2, port: 80}}}}}}]}}]}}"
            ),
            "to v1.shop:80; rewrites the authority to a.example; copies 100% to v2.shop:80",
        ),
    ] {
        let objects = http(&format!("[{rule}]"));
        assert_eq!(get("/old/x").goes(&compiled(&objects)), want, "{rule}");
        assert_eq!(of_r(&objects), [ACCEPTED, RESOLVED], "{rule}");
    }
}

#[test]
fn a_client_is_sent_where_a_redirect_says() {
    for (said, want) in [
        ("{}", "http://web.shop/old/x?q=1"),
        ("{hostname: a.example}", "http://a.example/old/x?q=1"),
        ("{scheme: https}", "https://web.shop/old/x?q=1"),
        ("{port: 8080}", "http://web.shop:8080/old/x?q=1"),
        ("{path: {type: ReplaceFullPath, replaceFullPath: /new}}", "http://web.shop/new?q=1"),
        ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}", "http://web.shop/new/x?q=1"),
        ("{scheme: https, hostname: a.example, port: 443, statusCode: 301}", "https://a.example/old/x?q=1"),
    ] {
        let rule = format!(
            "[{{matches: [{{path: {{value: /old}}}}], filters: [{{type: RequestRedirect, requestRedirect: {said}}}]}}]"
        );
        let location = get("/old/x?q=1").with(
            &compiled(&http(&rule)),
            |decision, request| {
                let weir_route::Ground::Rule(chosen) = decision.ground else { panic!("no rule") };
                let Action::Redirect(redirect) = decision.action else { panic!("no redirect: {}", decision.action) };
                redirect.location(request, Port::new(80).unwrap(), chosen.prefix()).unwrap()
            },
            1,
        );
        assert_eq!(location, want, "{said}");
    }
}

fn list(pairs: &[(&str, &str)]) -> Fields {
    Fields(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn headers_are_changed_at_the_rule_and_at_the_backend() {
    let modifier = |kind: &str, field: &str, said: &str| format!("{{type: {kind}, {field}: {said}}}");
    let request = |said: &str| modifier("RequestHeaderModifier", "requestHeaderModifier", said);
    let response = |said: &str| modifier("ResponseHeaderModifier", "responseHeaderModifier", said);
    for (rule, backend, (to, back)) in [
        (request("{set: [{name: X-A, value: b}]}"), String::new(), (vec![("keep", "1"), ("x-a", "b")], None)),
        (
            request("{add: [{name: x-a, value: b}]}"),
            String::new(),
            (vec![("x-a", "before"), ("keep", "1"), ("x-a", "b")], None),
        ),
        (request("{remove: [X-A]}"), String::new(), (vec![("keep", "1")], None)),
        (String::new(), request("{set: [{name: x-a, value: c}]}"), (vec![("keep", "1"), ("x-a", "c")], None)),
        // Of two for one name the first counts.
        (
            request("{set: [{name: x-a, value: b}, {name: X-A, value: c}]}"),
            String::new(),
            (vec![("keep", "1"), ("x-a", "b")], None),
        ),
        (
            response("{set: [{name: x-a, value: r}], remove: [keep]}"),
            response("{add: [{name: x-b, value: s}]}"),
            (vec![("x-a", "before"), ("keep", "1")], Some(vec![("x-b", "s"), ("x-a", "r")])),
        ),
    ] {
        let rules = format!("[{{filters: [{rule}], backendRefs: [{{name: v1, port: 80, filters: [{backend}]}}]}}]");
        let compiled = compiled(&http(&rules));
        let before = [("x-a", "before"), ("keep", "1")];
        let (mut sent, mut answered) = (list(&before), list(&before));
        GET.with(
            &compiled,
            |decision, _| {
                let Action::Forward(forward) = decision.action else { panic!("not sent on") };
                forward.change_request(&mut sent);
                forward.change_response(&mut answered);
            },
            1,
        );
        assert_eq!(sent, list(&to), "{rules}");
        assert_eq!(answered, list(&back.unwrap_or(before.to_vec())), "{rules}");
    }
}

#[test]
fn what_a_browser_is_told_is_what_cors_says() {
    let said = "{allowOrigins: ['https://*.example.com', 'http://a.example:8080'], allowMethods: [GET, PUT], \
                allowHeaders: [x-a], exposeHeaders: [x-b], allowCredentials: true, maxAge: 60}";
    let preflight = |origin| {
        let headers =
            [("origin", origin), ("access-control-request-method", "PUT"), ("access-control-request-headers", "x-a")];
        Ask { method: "OPTIONS", headers: Box::leak(Box::new(headers)), ..GET }
    };
    let told = |said: &str, origin: &'static str| {
        let filter = format!("[{{filters: [{{type: CORS, cors: {said}}}], {V1}}}]");
        let answer = |decision: weir_route::Decision<'_>, request: &Request<'_>| {
            let weir_route::Ground::Rule(chosen) = decision.ground else { panic!("no rule") };
            chosen.cors().unwrap().answer(request)
        };
        match preflight(origin).with(&compiled(&http(&filter)), answer, 1) {
            CorsAnswer::Preflight(fields) => fields.0,
            other @ (CorsAnswer::Silent | CorsAnswer::Actual(_)) => panic!("{other:?}"),
        }
    };
    let of =
        |fields: Vec<(String, String)>, name: &str| fields.into_iter().find(|(own, _)| own == name).map(|(_, v)| v);
    let fields = told(said, "https://www.example.com");
    for (name, want) in [
        ("access-control-allow-origin", Some("https://www.example.com")),
        ("access-control-allow-credentials", Some("true")),
        ("access-control-allow-methods", Some("GET,PUT")),
        ("access-control-allow-headers", Some("x-a")),
        ("access-control-max-age", Some("60")),
    ] {
        assert_eq!(of(fields.clone(), name).as_deref(), want, "{name} in {fields:?}");
    }
    // Of an origin that is not allowed nothing is said, and it is not sent on.
    assert_eq!(of(told(said, "https://example.org"), "access-control-allow-origin"), None);
    assert_eq!(of(told("{allowOrigins: ['*']}", "https://x.y"), "access-control-max-age").as_deref(), Some("5"));
}

#[test]
fn rules_keep_their_names_places_and_lines() {
    let rules = "\n  - {name: first, matches: [{path: {value: /a}}], backendRefs: [{name: v1, port: 80}]}\
                 \n  - name: second\n    matches: [{path: {value: /b}}, {path: {value: /c}}]\n    backendRefs: [{name: v2, port: 80}]\n";
    let spec = format!("\n  parentRefs: [{WEB}]\n  rules:{rules}");
    let text = object("HTTPRoute", "shop", "r", "", &spec);
    let compiled = compiled(&text);
    let line = format!("{}{text}", services()).lines().position(|line| line.contains("name: second")).unwrap() + 1;
    let want = format!("HTTPRoute shop/r, spec.rules[1] \"second\".matches[1] (f.yaml:{line}): to v2.shop:80");
    assert_eq!(get("/c").why(&compiled), want);
}

#[test]
fn durations_are_kept_to_the_millisecond() {
    let rule = format!("[{{{V1}, timeouts: {{request: 1h1m1s1ms, backendRequest: 5ms}}}}]");
    GET.with(
        &compiled(&http(&rule)),
        |decision, _| {
            let Action::Forward(forward) = decision.action else { panic!("not sent on") };
            let timeouts = forward.forwarding().timeouts;
            assert_eq!(timeouts.request(), Some(Duration::from_millis(3_661_001)));
            assert_eq!(timeouts.attempt(), Some(Duration::from_millis(5)));
        },
        1,
    );
}

#[test]
fn clients_hold_on_to_where_they_went_as_the_rule_says() {
    for (said, want) in [
        ("{sessionName: s}", "goes on with its endpoint by the cookie s"),
        ("{sessionName: S, type: Header}", "goes on with its endpoint by the header s"),
        ("{}", "goes on with its endpoint by the cookie weir-session-"),
    ] {
        let compiled = compiled(&http(&format!("[{{sessionPersistence: {said}, {V1}}}]")));
        let goes = get("/").goes(&compiled);
        assert!(goes.starts_with("to v1.shop:80; ") && goes.contains(want), "{said}: {goes}");
    }
    let name = |index: usize| {
        let rules = format!(
            "[{{matches: [{{path: {{value: /a}}}}], sessionPersistence: {{}}, {V1}}}, {{sessionPersistence: {{}}, {V1}}}]"
        );
        get(["/a", "/b"][index]).goes(&compiled(&http(&rules)))
    };
    assert_ne!(name(0), name(1), "each rule has a name of its own");
}
