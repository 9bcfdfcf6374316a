//! Rules that delegate.

use proptest::prelude::*;
use weir_manifest::{VirtualMatch, VirtualUri};
use weir_route::{AskerMatch, Case, StringMatch};

use super::*;

fn root(rule: &str) -> String {
    of_web(&format!("{rule}, {{match: [{{uri: {{exact: /rest}}}}], directResponse: {{status: 204}}}}"))
}

fn child(rules: &str) -> String {
    named("d", "team", &format!("{{http: [{rules}]}}"))
}

#[test]
fn a_delegate_s_rules_stand_in_place_of_the_rule() {
    let root =
        root("{name: a, match: [{name: m, uri: {prefix: /a}}], delegate: {name: d, namespace: team}, timeout: 5s}");
    let rules = "{match: [{uri: {prefix: /a/b}}], directResponse: {status: 201}}, \
         {name: b, match: [{name: n, headers: {x: {exact: y}}}], route: [{destination: {host: web.shop.svc.cluster.local}}], timeout: 1s}, \
         {route: [{destination: {host: pay.other.svc.cluster.local}}]}";
    let compiled = made(&format!("{root}{}", child(rules)));
    assert_eq!(compiled.findings, []);
    let x = get("/a").headers(&[Header { name: "x", value: b"y" }]);
    let other = get("/b").headers(&[Header { name: "x", value: b"y" }]);
    assert_eq!(
        [get("/a/b"), x, other, get("/a"), get("/rest")].map(|ask| ask.at(&compiled, "web.shop")),
        [
            "VirtualService shop/v, spec.http[0] \"a\".match[0] \"m\" (f.yaml:5): answered with 201",
            "VirtualService shop/v, spec.http[0] \"a-b\".match[0] \"m-n\" (f.yaml:5): to web.shop.svc.cluster.local:80; within 1s; up to 2 retries on \
             connect-failure,refused-stream,cancelled,unavailable",
            "no rule of any route is for this request: refused with 404",
            "VirtualService shop/v, spec.http[0] \"a\".match[0] \"m\" (f.yaml:5): to pay.other.svc.cluster.local:80; within 5s; up to 2 retries on \
             connect-failure,refused-stream,cancelled,unavailable",
            "VirtualService shop/v, spec.http[1].match[0] (f.yaml:5): answered with 204",
        ]
    );
}

#[test]
fn short_names_are_meant_from_where_they_are_written() {
    let root = of_web("{delegate: {name: d, namespace: other}, mirror: {host: canary}}");
    let child = named("d", "other", "{http: [{route: [{destination: {host: pay}}]}]}");
    let compiled = made(&format!("{root}{child}"));
    assert_eq!(
        get("/").at(&compiled, "web.shop"),
        "VirtualService shop/v, spec.http[0] \"other/d spec.http[0]\" (f.yaml:5): to pay.other.svc.cluster.local:80; up to 2 retries on \
         connect-failure,refused-stream,cancelled,unavailable; copies 100% to canary.shop.svc.cluster.local:8080"
    );
}

#[test]
fn both_matches_hold_or_the_rule_has_no_effect() {
    let ask = |target: &'static str| get(target).port(80);
    for (wider, own, yes) in [
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}", Some(ask("/a/b"))),
        ("{uri: {prefix: /a}}", "{uri: {exact: /a/b}}", Some(ask("/a/b"))),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /}}", None),
        ("{uri: {prefix: /a}}", "{uri: {exact: /b}}", None),
        ("{uri: {exact: /a}}", "{uri: {exact: /a}}", Some(ask("/a"))),
        ("{uri: {exact: /a}}", "{uri: {prefix: /a}}", None),
        ("{uri: {regex: '/a.*'}}", "{uri: {prefix: /a}}", None),
        ("{uri: {regex: '/a.*'}}", "{uri: {regex: '/a.*'}}", Some(ask("/ab"))),
        ("{uri: {prefix: /A}, ignoreUriCase: true}", "{uri: {prefix: /ab}}", Some(ask("/ab"))),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /ab}, ignoreUriCase: true}", None),
        ("{uri: {prefix: /a}}", "{method: {exact: GET}}", Some(ask("/a"))),
        ("{method: {prefix: G}}", "{method: {exact: GET}}", Some(ask("/"))),
        ("{method: {exact: GET}}", "{method: {exact: PUT}}", None),
        ("{scheme: {exact: http}}", "{scheme: {exact: https}}", None),
        ("{authority: {exact: a}}", "{authority: {exact: b}}", None),
        (
            "{headers: {x: {}}}",
            "{headers: {x: {exact: y}}}",
            Some(ask("/").headers(&[Header { name: "x", value: b"y" }])),
        ),
        ("{headers: {x: {exact: y}}}", "{headers: {x: {exact: z}}}", None),
        ("{withoutHeaders: {x: {exact: y}}}", "{withoutHeaders: {x: {exact: z}}}", Some(ask("/"))),
        ("{queryParams: {q: {exact: '1'}}}", "{queryParams: {q: {exact: '2'}}}", None),
        ("{queryParams: {q: {exact: '1'}}}", "{queryParams: {r: {exact: '2'}}}", Some(ask("/?q=1&r=2"))),
        ("{port: 80}", "{port: 81}", None),
        ("{port: 80}", "{uri: {prefix: /}}", Some(ask("/"))),
        ("{sourceNamespace: a}", "{sourceNamespace: b}", None),
        ("{sourceNamespace: a}", "{}", Some(ask("/").from("a"))),
        ("{sourceLabels: {a: b}}", "{sourceLabels: {a: c}}", None),
        (
            "{sourceLabels: {a: b}}",
            "{sourceLabels: {c: d}}",
            Some(Ask { labels: Some(&[("a", "b"), ("c", "d")]), ..ask("/") }),
        ),
        ("{gateways: [mesh, x]}", "{gateways: [mesh]}", Some(ask("/"))),
        ("{gateways: [mesh]}", "{gateways: [mesh, x]}", None),
    ] {
        let rule = format!("{{match: [{wider}], delegate: {{name: d, namespace: team}}}}");
        let child = child(&format!("{{match: [{own}], directResponse: {{status: 201}}}}"));
        let compiled = made(&format!("{}{child}", root(&rule)));
        let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
        match yes {
            Some(ask) => {
                assert_eq!(ask.at_web(&compiled), "answered with 201", "{wider} {own}");
                assert_eq!(findings, [""; 0], "{wider} {own}");
                let nobody =
                    get("/no").with(|parts| (parts.method, parts.scheme) = ("PUT", "https")).from("no").port(9);
                let is_for_many = wider.contains("without") || wider.contains("gateways");
                assert_eq!(nobody.at_web(&compiled) == "answered with 201", is_for_many, "{wider} {own}");
            }
            None => {
                let want = "VirtualService team/d spec.http[0].match: it asks for what VirtualService shop/v spec.http[0], which delegates to it, does \
                     not: the rule has no effect, the others have (f.yaml:10 (document 2))";
                assert_eq!(findings, [want], "{wider} {own}");
                assert_eq!(get("/rest").at_web(&compiled), "answered with 204", "{wider} {own}");
            }
        }
    }
}

#[test]
fn a_match_of_the_delegate_is_looked_for_in_all_of_the_rule() {
    let root = of_web("{match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}], delegate: {name: d, namespace: team}}");
    let child = child(
        "{match: [{uri: {exact: /a/x}}, {uri: {exact: /b/x}}], directResponse: {status: 201}}, {directResponse: {status: 202}}",
    );
    let compiled = made(&format!("{root}{child}"));
    let got = ["/a/x", "/b/x", "/b", "/c"].map(|path| get(path).at_web(&compiled));
    assert_eq!(got, ["answered with 201", "answered with 201", "answered with 202", "refused with 404"]);
}

#[test]
fn every_field_that_a_delegate_leaves_out_the_rule_says() {
    let fields = "headers: {request: {set: {a: r}}}, rewrite: {uri: /r}, retries: {attempts: 7}, timeout: 7s, fault: {abort: {httpStatus: 507}}, \
         mirror: {host: canary}, corsPolicy: {allowMethods: [R]}";
    let root = of_web(&format!("{{delegate: {{name: d, namespace: shop}}, {fields}}}"));
    let of =
        |fields: &str| named("d", "shop", &format!("{{http: [{{route: [{{destination: {{host: web}}}}]{fields}}}]}}"));
    let said = |child: &str| {
        let compiled = made(&format!("{root}{child}"));
        get("/").decided(&compiled, "web.shop", |_, decision| {
            let (weir_route::Ground::Rule(chosen), weir_route::Action::Forward(forward)) =
                (decision.ground, decision.action)
            else {
                panic!("{decision}")
            };
            let cors = chosen.cors().unwrap().methods.clone();
            (decision.to_string(), headers(|fields| forward.change_request(fields)), cors)
        })
    };
    let at = "VirtualService shop/v, spec.http[0] \"shop/d spec.http[0]\" (f.yaml:5): to web.shop.svc.cluster.local:80";
    let on = "connect-failure,refused-stream,cancelled,unavailable";
    assert_eq!(
        said(&of("")),
        (
            format!(
                "{at}; rewrites what was matched of the path to /r; within 7s; up to 7 retries on {on}; copies 100% to \
                 canary.shop.svc.cluster.local:8080; answers 0% with 507"
            ),
            vec!["b=2".to_owned(), "a=r".to_owned()],
            vec!["R".into()],
        )
    );
    let own = ", headers: {}, rewrite: {authority: o}, retries: {attempts: 0}, timeout: 1s, fault: {abort: {httpStatus: 501}}, mirrors: [], corsPolicy: \
         {allowMethods: [O]}";
    assert_eq!(
        said(&of(own)),
        (
            format!("{at}; rewrites the authority to o; within 1s; no retries; answers 0% with 501"),
            vec!["a=1".to_owned(), "b=2".to_owned()],
            vec!["O".into()],
        )
    );
}

#[test]
fn a_bad_delegate_is_told_and_the_rest_is_served() {
    let at = "VirtualService shop/v spec.http[0].delegate:";
    let then = "the rule has no effect, the others have (f.yaml:5 (document 1))";
    let answers = "{directResponse: {status: 201}}";
    let of = |name: &str, namespace: &str, spec: &str| named(name, namespace, spec);
    for (delegate, others, want) in [
        ("{name: d}", String::new(), vec![format!("{at} there is no VirtualService shop/d: {then}")]),
        (
            "{name: d, namespace: team}",
            of("d", "shop", &format!("{{hosts: [multi], http: [{answers}]}}")),
            vec![format!("{at} there is no VirtualService team/d: {then}")],
        ),
        ("{name: v}", String::new(), vec![format!("{at} it delegates to itself: {then}")]),
        (
            "{name: d}",
            of("d", "shop", &format!("{{hosts: [multi], http: [{answers}]}}")),
            vec![format!("{at} VirtualService shop/d has hosts of its own, and only one without is delegated to: {then}")],
        ),
        (
            "{name: d, namespace: team}",
            of("d", "team", &format!("{{exportTo: ['.'], http: [{answers}]}}")),
            vec![format!("{at} VirtualService team/d is not exported to shop: {then}")],
        ),
        (
            "{name: d}",
            of("d", "shop", "{http: [{delegate: {name: v}}]}"),
            vec![
                "VirtualService shop/d spec.http[0].delegate: it comes round to VirtualService shop/v, which delegates to it: the rule has no effect, \
                 the others have (f.yaml:10 (document 2))"
                    .to_owned(),
            ],
        ),
        (
            "{name: d}",
            of("d", "shop", "{http: [{delegate: {name: d}}]}"),
            vec![
                "VirtualService shop/d spec.http[0].delegate: it comes round to VirtualService shop/d, which delegates to it: the rule has no effect, \
                 the others have (f.yaml:10 (document 2))"
                    .to_owned(),
            ],
        ),
        (
            "{name: d}",
            of("d", "shop", "{http: [{delegate: {name: e}}]}") + &of("e", "shop", &format!("{{http: [{answers}]}}")),
            vec![
                "VirtualService shop/d spec.http[0].delegate: it is delegated to itself, and only one level is followed: the rule has no effect, the \
                 others have (f.yaml:10 (document 2))"
                    .to_owned(),
                "VirtualService shop/e spec.hosts: it has no hosts, and no VirtualService delegates to it (f.yaml:11 (document 3))".to_owned(),
            ],
        ),
    ] {
        let compiled = made(&format!("{}{others}", root(&format!("{{delegate: {delegate}}}"))));
        let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings, want, "{delegate} {others}");
        assert_eq!([get("/rest"), get("/x")].map(|ask| ask.at_web(&compiled)), ["answered with 204", "refused with 404"]);
    }
}

#[test]
fn one_that_gateways_delegate_to_is_used() {
    let root = named("v", "shop", "{hosts: [web], gateways: [edge], http: [{delegate: {name: d, namespace: team}}]}");
    let told = told(&format!("{root}{}", child("{redirect: {uri: /}}")));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("it is for gateways alone"), "{told:?}");
}

fn a_text() -> impl Strategy<Value = Option<StringMatch>> {
    let texts = ["/", "/a", "/a/b", "/b"];
    let exact = prop::sample::select(texts.to_vec()).prop_map(|text| Some(StringMatch::Exact(text.into())));
    let prefix = prop::sample::select(texts.to_vec()).prop_map(|text| Some(StringMatch::Prefix(text.into())));
    let regex = prop::sample::select(vec!["/a.*", "/[ab]"])
        .prop_map(|text| Some(StringMatch::Regex(weir_route::Pattern::new(text).unwrap())));
    prop_oneof![1 => Just(None), 1 => Just(Some(StringMatch::Present)), 3 => exact, 4 => prefix, 1 => regex]
}

fn a_match() -> impl Strategy<Value = VirtualMatch> {
    let case = prop::sample::select(vec![Case::Counts, Case::Ignored]);
    let name = prop::sample::select(vec!["x", "y"]);
    let port = prop::sample::select(vec![None, None, None, Some(port(80)), Some(port(81))]);
    let seldom = |text: BoxedStrategy<Option<StringMatch>>| prop_oneof![6 => Just(None), 1 => text];
    let entry = || {
        let one = (name.clone(), a_text()).prop_map(|entry| vec![entry]);
        prop_oneof![6 => Just(Vec::new()), 1 => one]
    };
    (a_text(), case, seldom(a_text().boxed()), entry(), entry(), port).prop_map(
        |(uri, case, authority, headers, without, port)| {
            let entries = |entries: Vec<(&str, Option<StringMatch>)>| {
                let entry = |(name, text): (&str, Option<StringMatch>)| Some((name.parse().unwrap(), text?));
                entries.into_iter().filter_map(entry).collect()
            };
            VirtualMatch {
                uri: uri.and_then(|uri| VirtualUri::new(uri, case).unwrap()),
                authority,
                headers: entries(headers),
                without_headers: entries(without),
                asker: AskerMatch { port, ..AskerMatch::default() },
                ..VirtualMatch::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    /// A delegate's rule takes nothing that the rule which delegates to it does not ask for, nor what it does not ask for itself.
    #[test]
    fn what_both_ask_for_each_asks_for(
        root in prop::collection::vec(a_match(), 0..3),
        own in prop::collection::vec(a_match(), 0..3),
        target in prop::sample::select(vec!["/", "/a", "/A", "/a/b", "/ab", "/b"]),
        values in prop::collection::vec(prop::sample::select(vec!["/", "/a", "/a/b", "/b"]), 2),
        asked in prop::sample::select(vec![80_u16, 81]),
    ) {
        let headers = [("x", values[0]), ("y", values[1])].map(|(name, value)| Header { name, value: value.as_bytes() });
        let parts = Parts { method: "GET", scheme: "http", authority: "a", target, headers: &headers };
        let request = Request::read(parts, Normalization::Base).unwrap();
        let asker = Asker { namespace: None, labels: None, gateway: MESH, port: port(asked) };
        let holds = |matches: &[VirtualMatch]| {
            matches.is_empty() || matches.iter().any(|one| http::matched(one).holds(&request, &asker))
        };
        if let Some(both) = narrowed::narrowed(&root, &own) && holds(&both) {
            prop_assert!(holds(&root) && holds(&own));
        }
    }
}
