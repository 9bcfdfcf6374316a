//! Every field of a rule for requests, as it decides.

use weir_route::{Action, Forward};

use super::*;

const HEADERS: &[Header<'static>] = &[Header { name: "x-user", value: b"jason" }];

/// What the first rule, with this match, does not take, the second does.
fn matching(asked: &str) -> Compiled {
    made(&of_web(&format!(
        "{{match: [{asked}], directResponse: {{status: 201}}}}, {{directResponse: {{status: 202}}}}"
    )))
}

#[test]
fn every_field_of_a_match_asks() {
    let any = || get("/a");
    let to = |target: &'static str| get(target);
    let by = |change: fn(&mut Parts<'static>)| any().with(change);
    for (asked, yes, no) in [
        ("{uri: {exact: /a}}", any(), to("/ab")),
        ("{uri: {prefix: /a}}", to("/ab"), to("/b")),
        ("{uri: {regex: '/[ab]'}}", to("/b"), to("/c")),
        ("{uri: {prefix: /A}, ignoreUriCase: true}", to("/ab"), to("/b")),
        ("{uri: {exact: /A}, ignoreUriCase: true}", any(), to("/ab")),
        ("{scheme: {exact: https}}", by(|parts| parts.scheme = "https"), any()),
        ("{method: {exact: POST}}", by(|parts| parts.method = "POST"), any()),
        ("{method: {regex: 'P.*'}}", by(|parts| parts.method = "PUT"), any()),
        ("{authority: {prefix: web.}}", by(|parts| parts.authority = "web.shop"), any()),
        ("{headers: {x-user: {exact: jason}}}", any().headers(HEADERS), any()),
        ("{headers: {X-User: {prefix: ja}}}", any().headers(HEADERS), any()),
        ("{headers: {x-user: {regex: '.*son'}}}", any().headers(HEADERS), any()),
        ("{headers: {x-user: {}}}", any().headers(HEADERS), any()),
        ("{withoutHeaders: {x-user: {}}}", any(), any().headers(HEADERS)),
        ("{withoutHeaders: {x-user: {exact: jason}}}", any(), any().headers(HEADERS)),
        ("{queryParams: {q: {exact: '1'}}}", to("/a?q=1"), to("/a?q=2")),
        ("{queryParams: {q: {}}}", to("/a?q"), any()),
        ("{port: 80}", any(), any().port(81)),
        ("{sourceNamespace: other}", any().from("other"), any().from("shop")),
        ("{sourceNamespace: other}", any().from("other"), any()),
        (
            "{sourceLabels: {app: ui}}",
            Ask { labels: Some(&[("app", "ui"), ("v", "1")]), ..any() },
            Ask { labels: Some(&[("app", "db")]), ..any() },
        ),
        ("{gateways: [mesh]}, {gateways: [edge], uri: {prefix: /c}}", any(), to("/c").port(9)),
        ("{uri: {exact: /x}}, {uri: {exact: /y}}", to("/y"), to("/z")),
    ] {
        let compiled = matching(asked);
        assert_eq!(yes.at_web(&compiled), "answered with 201", "{asked}");
        if !asked.starts_with("{gateways") {
            assert_eq!(no.at_web(&compiled), "answered with 202", "not {asked}");
        }
    }
    let of_gateways = matching("{gateways: [edge, shop/edge]}");
    assert_eq!(any().at_web(&of_gateways), "answered with 202", "no gateway asks a waypoint");
}

#[test]
fn a_rule_is_named_as_its_author_names_it() {
    let rules = "{name: r, match: [{name: m, uri: {exact: /m}}, {statPrefix: s, uri: {exact: /s}}], directResponse: {status: 200}}";
    let compiled = made(&of_web(rules));
    assert_eq!(
        [get("/m"), get("/s"), get("/x")].map(|ask| ask.at(&compiled, "web.shop")),
        [
            "VirtualService shop/v, spec.http[0] \"r\".match[0] \"m\" (f.yaml:5): answered with 200",
            "VirtualService shop/v, spec.http[0] \"r\".match[1] \"s\" (f.yaml:5): answered with 200",
            "no rule of any route is for this request: refused with 404",
        ]
    );
}

#[test]
fn the_first_rule_counts_and_no_more_specific_one() {
    let rules = "{match: [{uri: {prefix: /}}], directResponse: {status: 201}}, {match: [{uri: {exact: /a}}], directResponse: {status: 202}}";
    assert_eq!(get("/a").at_web(&made(&of_web(rules))), "answered with 201");
}

#[test]
fn what_becomes_of_a_request() {
    const RETRIES: &str = "; up to 2 retries on connect-failure,refused-stream,cancelled,unavailable";
    let web = "to web.shop.svc.cluster.local:80";
    for (rule, want) in [
        ("route: [{destination: {host: web}}]", format!("{web}{RETRIES}")),
        ("route: [{destination: {host: web, port: {number: 80}, subset: v1}}]", format!("{web} subset v1{RETRIES}")),
        (
            "route: [{destination: {host: canary.shop.svc.cluster.local}}]",
            format!("to canary.shop.svc.cluster.local:8080{RETRIES}"),
        ),
        ("route: [{destination: {host: web}, weight: 0}]", format!("{web}{RETRIES}")),
        ("route: [{destination: {host: web}, weight: 1}, {destination: {host: canary}}]", format!("{web}{RETRIES}")),
        ("route: [{destination: {host: web}}], retries: {attempts: 0}", format!("{web}; no retries")),
        (
            "route: [{destination: {host: web}}], retries: {attempts: 3, retryOn: '5xx,429', perTryTimeout: 2s}, timeout: 9s",
            format!("{web}; within 9s; each attempt within 2s; up to 3 retries on 5xx,retriable-status-codes,429"),
        ),
        ("route: [{destination: {host: web}}], timeout: 1500ms", format!("{web}; within 1.5s{RETRIES}")),
        (
            "route: [{destination: {host: web}}], rewrite: {uri: /b, authority: b.c}",
            format!("{web}; rewrites what was matched of the path to /b; rewrites the authority to b.c{RETRIES}"),
        ),
        (
            "route: [{destination: {host: web}}], rewrite: {uriRegexRewrite: {match: '^/a', rewrite: /c}}",
            format!("{web}; rewrites the path where it matches ~^/a{RETRIES}"),
        ),
        (
            "route: [{destination: {host: web}}], mirror: {host: canary}, mirrorPercentage: {value: 12.5}",
            format!("{web}{RETRIES}; copies 12.5% to canary.shop.svc.cluster.local:8080"),
        ),
        (
            "route: [{destination: {host: web}}], mirrors: [{destination: {host: canary}}, {destination: {host: web, subset: v2}}]",
            format!(
                "{web}{RETRIES}; copies 100% to canary.shop.svc.cluster.local:8080; copies 100% to web.shop.svc.cluster.local:80 subset v2"
            ),
        ),
        ("redirect: {uri: /b, redirectCode: 302}", "redirected with 302".to_owned()),
        ("directResponse: {status: 418, body: {string: tea}}", "answered with 418".to_owned()),
    ] {
        let compiled = made(&of_web(&format!("{{match: [{{uri: {{prefix: /a}}}}], {rule}}}")));
        assert_eq!(get("/a/x").at_web(&compiled), want, "{rule}");
        assert_eq!(compiled.findings, [], "{rule}");
    }
}

fn forwarded<T>(rule: &str, ask: &Ask, then: impl FnOnce(&Request<'_>, Forward<'_>) -> T) -> T {
    let compiled = made(&of_web(rule));
    ask.decided(&compiled, "web.shop", |request, decision| {
        let Action::Forward(forward) = decision.action else { panic!("{decision}") };
        then(request, forward)
    })
}

#[test]
fn paths_and_headers_change_as_asked() {
    let rule = "{match: [{uri: {prefix: /a}}], route: [{destination: {host: web}, headers: {request: {set: {a: d}}, response: {add: {c: d}}}}], \
         headers: {request: {add: {c: r}, remove: [b]}, response: {set: {a: r}}}, rewrite: {uri: /z}}";
    let (target, request, response) = forwarded(rule, &get("/a/b?c"), |request, forward| {
        (
            forward.target(request).unwrap(),
            headers(|fields| forward.change_request(fields)),
            headers(|fields| forward.change_response(fields)),
        )
    });
    assert_eq!(target.as_deref(), Some("/z/b?c"));
    assert_eq!(request, ["a=d", "c=r"]);
    assert_eq!(response, ["b=2", "c=d", "a=r"]);
    let rule =
        "{route: [{destination: {host: web}}], headers: {request: {set: {host: h.i}}}, rewrite: {authority: j.k}}";
    assert_eq!(forwarded(rule, &get("/"), |_, forward| forward.authority().map(str::to_owned)), Some("h.i".to_owned()));
}

#[test]
fn redirects_lead_where_they_say() {
    for (redirect, want) in [
        ("{uri: /b}", "http://web/b?q=1"),
        ("{uri: '/b?x=y'}", "http://web/b?x=y"),
        ("{prefixRewrite: /b}", "http://web/b/x?q=1"),
        ("{authority: c.d}", "http://c.d/a/x?q=1"),
        ("{scheme: https}", "https://web/a/x?q=1"),
        ("{port: 81}", "http://web:81/a/x?q=1"),
        ("{scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}", "https://web/a/x?q=1"),
        ("{scheme: https, derivePort: FROM_REQUEST_PORT}", "https://web:80/a/x?q=1"),
    ] {
        let compiled = made(&of_web(&format!("{{match: [{{uri: {{prefix: /a}}}}], redirect: {redirect}}}")));
        let location = get("/a/x?q=1").decided(&compiled, "web.shop", |request, decision| {
            let (Action::Redirect(redirect), weir_route::Ground::Rule(chosen)) = (decision.action, decision.ground)
            else {
                panic!("{decision}")
            };
            redirect.location(request, port(80), chosen.prefix()).unwrap()
        });
        assert_eq!(location, want, "{redirect}");
    }
}

#[test]
fn bodies_faults_and_cors_stand_beside_the_rule() {
    let compiled = made(&of_web("{directResponse: {status: 200, body: {bytes: aGk=}}}"));
    let body = get("/").decided(&compiled, "web.shop", |_, decision| {
        let Action::Respond(response) = decision.action else { panic!("{decision}") };
        response.body().to_vec()
    });
    assert_eq!(body, b"hi");
    let fault = "fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0.5}}}";
    let cors = "corsPolicy: {allowOrigins: [{exact: 'https://a'}], allowMethods: [GET]}";
    let compiled = made(&of_web(&format!("{{route: [{{destination: {{host: web}}}}], {fault}, {cors}}}")));
    get("/").decided(&compiled, "web.shop", |_, decision| {
        let weir_route::Ground::Rule(chosen) = decision.ground else { panic!("{decision}") };
        let fault = chosen.rule.fault.unwrap().to_string();
        assert_eq!(fault, "delays 100% by 2s, answers 0.5% with gRPC UNAVAILABLE");
        assert_eq!(chosen.cors().unwrap().methods, ["GET".into()]);
    });
    // A share that is not said is none.
    let compiled = made(&of_web("{route: [{destination: {host: web}}], fault: {abort: {httpStatus: 500}}}"));
    assert!(get("/").at(&compiled, "web.shop").ends_with("; answers 0% with 500"));
}

#[test]
fn of_several_ports_the_one_that_was_asked_for_is_meant() {
    let of = |host: &str, asked: &str, to: &str| {
        made(&named(
            "v",
            "shop",
            &format!("{{hosts: [{host}], http: [{{match: [{asked}], route: [{{destination: {{host: {to}}}}}]}}]}}"),
        ))
    };
    for (host, asked, to, want) in [
        ("multi", "{}", "multi", None),
        ("multi", "{}", "twin", None),
        ("multi", "{port: 80}", "twin", None),
        ("web", "{}", "multi", None),
        (
            "canary",
            "{}",
            "multi",
            Some(
                "spec.http[0].route[0].destination: multi.shop.svc.cluster.local has several ports and none is named, expected one of 80, 81",
            ),
        ),
        (
            "db",
            "{port: 9}",
            "multi",
            Some(
                "spec.http[0].route[0].destination: multi.shop.svc.cluster.local has several ports and none is named, expected one of 80, 81",
            ),
        ),
    ] {
        let compiled = of(host, asked, to);
        let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
        match want {
            None => assert_eq!(findings, [""; 0], "{host} {asked} {to}"),
            Some(want) => {
                let place = "f.yaml:5 (document 1)";
                let want = format!("VirtualService shop/v {want}: its share of requests is refused with 503 ({place})");
                assert_eq!(findings, [want], "{host} {asked} {to}");
            }
        }
    }
    let compiled = of("multi", "{}", "twin");
    let asked = get("/").port(81).at(&compiled, "multi.shop");
    assert!(asked.contains(": to twin.shop.svc.cluster.local; up to 2 retries"), "{asked}");
}
