//! Much at once: bounded in time and memory, and what is too much is refused aloud.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

fn rules(count: usize, act: &str) -> String {
    let mut text = String::new();
    for at in 0..count {
        write!(text, "{{match: [{{uri: {{prefix: /r{at}/}}}}], {act}}}, ").unwrap();
    }
    text
}

/// What ten times as many rules cost, in times of allocations and of bytes held at once.
#[test]
fn ten_thousand_rules_cost_ten_times_what_a_thousand_do() {
    let cost = |count: usize| {
        let text = of_web(&rules(count, "route: [{destination: {host: web}}]"));
        let files = [(FileName::new("services.yaml"), SERVICES), (FileName::new("f.yaml"), &*text)];
        let objects = parse(&files).unwrap();
        let mut configs = Configs::default();
        objects.configs.iter().cloned().for_each(|object| configs.set(object));
        let (settings, world) = (settings(), World::new(compile(objects, &settings())));
        let mut status = String::new();
        let cost = allocation_counter::measure(|| {
            let compiled = crate::routes(&settings, &world, &configs);
            status = get("/r999/x").at_web(&compiled);
            assert_eq!(compiled.findings, []);
        });
        assert!(status.starts_with("to web.shop"), "{status}");
        cost
    };
    let (small, large) = (cost(1_000), cost(10_000));
    assert!(large.count_total < 11 * small.count_total, "{small:?} {large:?}");
    assert!(large.bytes_max < 11 * small.bytes_max && large.bytes_max < 32 << 20, "{small:?} {large:?}");
}

#[test]
fn a_wildcard_over_many_services_is_refused_where_it_comes_to_too_much() {
    let mut services = String::from("---\napiVersion: v1\nkind: List\nitems:\n");
    for at in 0..30 {
        writeln!(services, "- {{apiVersion: v1, kind: Service, metadata: {{name: s{at:02}, namespace: many}}, spec: {{ports: [{{port: 80}}]}}}}").unwrap();
    }
    let wide = named(
        "wide",
        "many",
        &format!("{{hosts: ['*.many.svc.cluster.local'], http: [{}]}}", rules(8_000, "redirect: {uri: /}")),
    );
    let compiled = made(&format!("{services}{wide}"));
    let mut served: Vec<bool> = Vec::new();
    for at in 0..30 {
        let said = get("/r1/").at(&compiled, &format!("s{at:02}.many"));
        match said.contains("refused with 503: more than 200000 matches over all services it is for") {
            true => served.push(false),
            false => served.push(said.ends_with("redirected with 301")),
        }
    }
    assert_eq!(served.iter().filter(|is| **is).count(), 25);
    let first = compiled.findings.iter().map(ToString::to_string).find(|text| text.contains("s25"));
    assert_eq!(
        first.unwrap(),
        "VirtualService many/wide spec.http: more than 200000 matches over all services it is for, or 65536 of all VirtualServices for \
         s25.many.svc.cluster.local: requests to it are refused with 503 (f.yaml:35 (document 2))"
    );
}

#[test]
fn no_client_takes_the_room_of_a_service_s_own_rules() {
    let much = |name: &str| {
        let rule = format!("{{match: [{}], redirect: {{uri: /}}}}", "{uri: {exact: /x}}, ".repeat(40_000));
        named(
            name,
            "other",
            &format!(
                "{{hosts: [web.shop.svc.cluster.local], http: [{rule}], tcp: [{{route: [{{destination: {{host: pay}}}}]}}]}}"
            ),
        )
    };
    let own = of_web("{match: [{uri: {prefix: /}}], directResponse: {status: 201}}");
    let compiled = made(&format!("{}{}{own}", much("a"), much("b")));
    assert_eq!(get("/x").from("shop").at_web(&compiled), "answered with 201");
    assert_eq!(get("/x").from("other").at_web(&compiled), "redirected with 301");
    let host = "web.shop.svc.cluster.local";
    let why =
        format!("more than 200000 matches over all services it is for, or 65536 of all VirtualServices for {host}");
    assert_eq!(get("/y").from("other").at_web(&compiled), format!("refused with 503: {why}"));
    let told: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
    assert!(
        told.contains(&format!(
            "VirtualService other/b spec.http: {why}: requests to it are refused with 503 (f.yaml:6 (document 2))"
        )),
        "{told:?}"
    );
}

#[test]
fn not_more_than_a_hundred_things_are_told_of_an_object() {
    let rule = "{match: [{uri: {exact: /a}}], route: [{destination: {host: nobody}}]}, ".repeat(300);
    let told = told(&of_web(&rule));
    assert_eq!(told.len(), 101);
    assert_eq!(
        told[100],
        "VirtualService shop/v: more than this is to be told of it, and left out (f.yaml:1 (document 1))"
    );
}

#[test]
fn an_expression_that_explodes_elsewhere_is_linear_here() {
    let compiled = made(&of_web(
        "{match: [{uri: {regex: '/(a|aa|a*)*b'}}], directResponse: {status: 201}}, {directResponse: {status: 202}}",
    ));
    let path: &'static str = Box::leak(format!("/{}", "a".repeat(7_000)).into_boxed_str());
    assert_eq!(get(path).at_web(&compiled), "answered with 202");
}

proptest! {
    /// Whatever stands in an object, what is legal is compiled, and each request is decided.
    #[test]
    fn what_is_legal_is_compiled(
        hosts in prop::sample::select(vec!["web", "web, multi", "'*.shop.svc.cluster.local'", "nobody", "example.com"]),
        namespace in prop::sample::select(vec!["shop", "other"]),
        rules in prop::collection::vec((
            prop::sample::select(vec!["{}", "{uri: {prefix: /a}}", "{port: 81}", "{sourceNamespace: shop}", "{headers: {x: {}}}"]),
            prop::sample::select(vec![
                "route: [{destination: {host: web}}]",
                "route: [{destination: {host: nobody}}, {destination: {host: multi}}]",
                "delegate: {name: d, namespace: shop}",
                "redirect: {uri: /x}",
            ]),
        ), 1..5),
        target in prop::sample::select(vec!["/", "/a", "/a/b?c=d"]),
        asked in prop::sample::select(vec![80_u16, 81, 9]),
    ) {
        let rules: Vec<String> = rules.iter().map(|(asked, act)| format!("{{match: [{asked}], {act}}}")).collect();
        let root = named("v", namespace, &format!("{{hosts: [{hosts}], http: [{}]}}", rules.join(", ")));
        let child = named("d", "shop", "{http: [{match: [{uri: {prefix: /a/b}}], directResponse: {status: 200}}]}");
        let compiled = made(&format!("{root}{child}"));
        for service in ["web.shop", "multi.shop"] {
            prop_assert!(!get(target).port(asked).from("shop").at(&compiled, service).is_empty());
        }
        prop_assert!(compiled.findings.iter().all(|finding| !finding.message.is_empty()));
    }
}
