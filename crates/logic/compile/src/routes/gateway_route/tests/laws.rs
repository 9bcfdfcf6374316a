//! Laws of routes: whatever they say, and in whatever order they come.

use proptest::prelude::*;

use super::*;

/// A rule with a few matches of a few kinds, so that many are alike.
fn rules() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        Just("{path: {value: /}}"),
        Just("{path: {value: /a}}"),
        Just("{path: {type: Exact, value: /a}}"),
        Just("{path: {type: RegularExpression, value: '/a.*'}}"),
        Just("{method: GET}"),
        Just("{headers: [{name: h, value: x}]}"),
        Just("{headers: [{name: h, value: x}], queryParams: [{name: q, value: y}]}"),
        Just("{queryParams: [{name: q, value: y}]}"),
    ];
    let to = prop_oneof![Just("v1"), Just("v2"), Just("v3"), Just("gone")];
    let rule = (prop::collection::vec(path, 0..3), to).prop_map(|(matches, to)| {
        format!("{{matches: [{}], backendRefs: [{{name: {to}, port: 80}}]}}", matches.join(", "))
    });
    prop::collection::vec(rule, 1..4).prop_map(|rules| format!("[{}]", rules.join(", ")))
}

/// Routes of one service: each with its rules, its age, and whether it is a client's.
fn routes() -> impl Strategy<Value = Vec<String>> {
    let one = (rules(), 1..4_u8, any::<bool>());
    prop::collection::vec(one, 1..6).prop_map(|all| {
        let route = |(index, (rules, day, is_client)): (usize, &(String, u8, bool))| {
            let namespace = if *is_client { "client" } else { "shop" };
            let parent = "{group: '', kind: Service, name: web, namespace: shop}";
            let created = format!(", creationTimestamp: '2026-01-0{day}T00:00:00Z'");
            let spec = format!("{{parentRefs: [{parent}], rules: {rules}}}");
            object("HTTPRoute", namespace, &format!("r{index}"), &created, &spec)
        };
        all.iter().enumerate().map(route).collect()
    })
}

/// Without the line, which is another when the order is.
fn decided(compiled: &Compiled, ask: Ask<'_>) -> String {
    let text = ask.why(compiled);
    match text.split_once(" (f.yaml") {
        Some((start, rest)) => format!("{start}{}", rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => text,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_that_routes_come_in_decides_nothing(
        (one, other) in routes().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        from in prop_oneof![Just(None), Just(Some("client"))],
    ) {
        let (one, other) = (compiled(&one.concat()), compiled(&other.concat()));
        prop_assert_eq!(&one.statuses, &other.statuses);
        for target in ["/", "/a", "/a/b", "/ab", "/?q=y", "/a?q=y"] {
            for headers in [&[][..], &[("h", "x")][..]] {
                let ask = Ask { target, headers, from, ..GET };
                prop_assert_eq!(decided(&one, ask), decided(&other, ask));
            }
        }
    }

    #[test]
    fn every_route_is_told_of_every_parent_that_is_the_meshs(all in routes()) {
        let compiled = compiled(&all.concat());
        prop_assert_eq!(compiled.statuses.len(), all.len());
        for status in &compiled.statuses {
            prop_assert_eq!(status.parents.len(), 1);
            let kinds: Vec<_> = status.parents[0].conditions.iter().map(|one| one.kind).collect();
            prop_assert_eq!(&kinds[..2], &[RouteConditionKind::Accepted, RouteConditionKind::ResolvedRefs]);
        }
    }
}
