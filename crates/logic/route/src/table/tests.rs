//! Precedence, row by row; and the law that the index finds what a walk would.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};
use weir_request::{Header, Parts};

use super::*;
use crate::{
    asker::MESH,
    backend::{Backend, Backends, Target},
    matching::{Match, Speech},
    path::{Case, PathMatch},
    pattern::Pattern,
    rule::{ObjectKind, Rule},
    testing::{BASE, anyone, get, object, on, parts, request_of, rule, segments, to, valid},
    text::StringMatch,
};

fn table(objects: Vec<RouteObject>) -> RouteTable {
    RouteTable::new(objects).unwrap()
}

/// What a request comes to: the first label of the host it is sent to, or a status.
fn goes(table: &RouteTable, request: &Request<'_>, asker: &Asker<'_>) -> String {
    match table.decide(request, asker, &mut SmallRng::seed_from_u64(1)).action {
        Action::Service => "service".to_owned(),
        Action::Forward(forward) => forward.destination().host.as_str().split('.').next().unwrap().to_owned(),
        Action::Redirect(redirect) => redirect.code().to_string(),
        Action::Respond(response) => response.status().to_string(),
        Action::Invalid { status, .. } => format!("invalid {status}"),
        Action::NotFound => "404".to_owned(),
    }
}

fn exact(text: &str) -> PathMatch {
    PathMatch::exact(text, Case::Counts, BASE).unwrap()
}

fn prefix(text: &str) -> PathMatch {
    PathMatch::prefix(text, Case::Counts, BASE).unwrap()
}

fn regex(text: &str) -> PathMatch {
    PathMatch::regex(Pattern::new(text).unwrap())
}

fn method(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Exact(text.into()))
}

fn headers(names: &[&str]) -> Vec<(crate::HeaderName, StringMatch)> {
    names.iter().map(|name| (name.parse().unwrap(), StringMatch::Present)).collect()
}

fn query(names: &[&str]) -> Vec<(Box<str>, StringMatch)> {
    names.iter().map(|name| ((*name).into(), StringMatch::Present)).collect()
}

/// Rules that send each match to a host of the given name.
fn rules(matches: Vec<(&str, Match)>) -> Vec<Rule> {
    matches.into_iter().enumerate().map(|(i, (host, asked))| rule(i, vec![asked], to(&format!("{host}.svc")))).collect()
}

const ALL: &[Header<'static>] = &[Header { name: "a", value: b"1" }, Header { name: "b", value: b"2" }];

#[test]
fn the_most_specific_match_of_the_gateway_api_counts() {
    let path = || Some(segments("/a"));
    let cases = [
        ("exact before a longer prefix", vec![("no", on(segments("/a/b/"))), ("yes", on(exact("/a/b")))]),
        ("the longest prefix", vec![("no", on(segments("/"))), ("yes", on(segments("/a"))), ("no", on(regex("/a.*")))]),
        ("a prefix before a pattern", vec![("no", on(regex(".*"))), ("yes", on(segments("/a")))]),
        (
            "a method before headers",
            vec![
                ("no", Match { path: path(), headers: headers(&["a", "b"]), ..Match::default() }),
                ("yes", Match { path: path(), method: method("GET"), ..Match::default() }),
            ],
        ),
        (
            "more headers before query",
            vec![
                ("no", Match { path: path(), headers: headers(&["a"]), query: query(&["q", "r"]), ..Match::default() }),
                ("yes", Match { path: path(), headers: headers(&["a", "b"]), ..Match::default() }),
            ],
        ),
        (
            "more of the query",
            vec![
                ("no", Match { path: path(), query: query(&["q"]), ..Match::default() }),
                ("yes", Match { path: path(), query: query(&["q", "r"]), ..Match::default() }),
            ],
        ),
        ("the first of equals", vec![("yes", on(segments("/a"))), ("no", on(segments("/a")))]),
        (
            "the path before everything",
            vec![
                ("no", Match { method: method("GET"), headers: headers(&["a", "b"]), ..on(segments("/a")) }),
                ("yes", on(segments("/a/b"))),
            ],
        ),
    ];
    for (name, matches) in cases {
        let table = table(vec![object(ObjectKind::HttpRoute, "r", rules(matches))]);
        let request = request_of(Parts { headers: ALL, ..parts("GET", "/a/b?q=1&r=2") });
        assert_eq!(goes(&table, &request, &anyone()), "yes", "{name}");
    }
}

#[test]
fn of_equals_the_oldest_object_counts_then_the_first_by_name() {
    let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let route = |namespace: &str, name: &str, created, host: &str| RouteObject {
        namespace: namespace.parse().unwrap(),
        created,
        ..object(ObjectKind::HttpRoute, name, rules(vec![(host, on(segments("/")))]))
    };
    for (one, other) in [
        (route("z", "z", at(1), "yes"), route("a", "a", at(2), "no")),
        (route("a", "z", at(1), "yes"), route("b", "a", at(1), "no")),
        (route("a", "a", at(1), "yes"), route("a", "b", at(1), "no")),
        (route("a", "b", None, "yes"), route("a", "a", at(1), "no")),
    ] {
        for objects in [vec![one.clone(), other.clone()], vec![other.clone(), one.clone()]] {
            assert_eq!(goes(&table(objects), &get("/"), &anyone()), "yes", "{one:?} {other:?}");
        }
    }
}

#[test]
fn the_first_match_of_a_virtual_service_counts() {
    let matches = vec![
        ("first", Match { method: method("POST"), ..on(prefix("/a")) }),
        ("second", on(regex("/a/[0-9]+"))),
        ("third", on(prefix("/"))),
        ("never", on(exact("/a/b"))),
    ];
    let table = table(vec![object(ObjectKind::VirtualService, "vs", rules(matches))]);
    for (verb, target, want) in
        [("POST", "/a/1", "first"), ("GET", "/a/1", "second"), ("GET", "/a/b", "third"), ("GET", "/", "third")]
    {
        assert_eq!(goes(&table, &request_of(parts(verb, target)), &anyone()), want, "{verb} {target}");
    }
}

#[test]
fn http_and_grpc_routes_of_one_service_merge() {
    let grpc = |service: &str, name: Option<&str>| Match {
        speech: Speech::Grpc,
        path: Some(PathMatch::grpc(method(service), name.and_then(method))),
        ..Match::default()
    };
    let table = table(vec![
        object(ObjectKind::HttpRoute, "http", rules(vec![("web", on(segments("/"))), ("exact", on(exact("/s.S/X")))])),
        object(
            ObjectKind::GrpcRoute,
            "grpc",
            rules(vec![("service", grpc("s.S", None)), ("call", grpc("s.S", Some("M")))]),
        ),
    ]);
    let call = &[Header { name: "content-type", value: b"application/grpc" }];
    for (headers, target, want) in [
        (&call[..], "/s.S/M", "call"),
        (call, "/s.S/N", "service"),
        (call, "/t.T/M", "web"),
        (call, "/s.S/X", "exact"),
        (&[], "/s.S/M", "web"),
    ] {
        let request = request_of(Parts { headers, ..parts("POST", target) });
        assert_eq!(goes(&table, &request, &anyone()), want, "{target}");
    }
}

#[test]
fn the_gateway_api_wins_over_virtual_services() {
    let route = object(ObjectKind::HttpRoute, "route", rules(vec![("route", on(segments("/a")))]));
    let service = object(ObjectKind::VirtualService, "vs", rules(vec![("vs", Match::default())]));
    for (objects, in_a, elsewhere, unasked) in [
        (vec![], "service", "service", vec![]),
        (vec![service.clone()], "vs", "vs", vec![]),
        (vec![route.clone()], "route", "404", vec![]),
        (vec![service, route], "route", "404", vec!["vs"]),
    ] {
        let table = table(objects);
        assert_eq!(goes(&table, &get("/a"), &anyone()), in_a);
        assert_eq!(goes(&table, &get("/b"), &anyone()), elsewhere);
        assert_eq!(table.unasked().map(|object| &*object.name).collect::<Vec<_>>(), unasked);
    }
}

#[test]
fn a_route_of_the_client_is_for_the_client_only_and_comes_first() {
    let (own, other): (Namespace, Namespace) = ("own".parse().unwrap(), "other".parse().unwrap());
    let consumer = RouteObject {
        namespace: own.clone(),
        audience: Audience::OwnNamespace,
        ..object(ObjectKind::HttpRoute, "mine", rules(vec![("mine", on(segments("/a")))]))
    };
    let producer =
        object(ObjectKind::HttpRoute, "theirs", rules(vec![("theirs", on(exact("/a"))), ("rest", on(exact("/b")))]));
    let from = |namespace| Asker { namespace, ..anyone() };
    for (objects, namespace, target, want) in [
        (vec![consumer.clone(), producer.clone()], Some(&own), "/a", "mine"),
        (vec![consumer.clone(), producer.clone()], Some(&own), "/b", "rest"),
        (vec![consumer.clone(), producer.clone()], Some(&own), "/c", "404"),
        (vec![consumer.clone(), producer.clone()], Some(&other), "/a", "theirs"),
        (vec![consumer.clone(), producer], None, "/a", "theirs"),
        (vec![consumer.clone()], Some(&own), "/b", "404"),
        (vec![consumer.clone()], Some(&other), "/a", "service"),
        (vec![consumer], None, "/a", "service"),
    ] {
        assert_eq!(goes(&table(objects), &get(target), &from(namespace)), want, "{namespace:?} {target}");
    }
}

#[test]
fn a_backend_that_leads_nowhere_is_refused_for_its_share() {
    let invalid = || Backend::new(Target::Invalid("the service nowhere is not known".into()));
    let fine = || Backend::new(valid("fine.svc"));
    let forward = |backends| vec![rule(0, vec![], Act::Forward(Box::new(Forwarding::to(backends))))];
    let gateway = |weights: Vec<(Option<u32>, Backend)>| {
        table(vec![object(ObjectKind::HttpRoute, "r", forward(Backends::of_gateway_route(weights)))])
    };
    let service = |weights: Vec<(Option<u32>, Backend)>| {
        table(vec![object(ObjectKind::VirtualService, "v", forward(Backends::of_virtual_service(weights)))])
    };
    for (table, want) in [
        (gateway(vec![(None, invalid())]), "invalid 500"),
        (service(vec![(None, invalid())]), "invalid 503"),
        (gateway(vec![]), "invalid 500"),
        (service(vec![]), "invalid 503"),
        (gateway(vec![(Some(0), fine())]), "invalid 500"),
        (service(vec![(Some(0), fine()), (None, fine())]), "invalid 503"),
        (gateway(vec![(Some(0), invalid()), (None, fine())]), "fine"),
        (service(vec![(Some(0), fine())]), "fine"),
    ] {
        assert_eq!(goes(&table, &get("/"), &anyone()), want, "{table:?}");
    }
    let table = gateway(vec![(Some(9), fine()), (Some(1), invalid())]);
    let mut rng = SmallRng::seed_from_u64(9);
    let is_refused = |rng: &mut SmallRng| {
        matches!(table.decide(&get("/"), &anyone(), rng).action, Action::Invalid { status: 500, .. })
    };
    let refused = (0..10_000).filter(|_| is_refused(&mut rng)).count();
    // sqrt(10000 * 0.1 * 0.9) is 30.
    assert!(refused.abs_diff(1_000) <= 90, "{refused}");
}

#[test]
fn a_rule_redirects_or_answers() {
    let redirect = crate::Redirect::new(302).unwrap();
    let answer = crate::DirectResponse::new(418, b"no").unwrap();
    let table = table(vec![object(
        ObjectKind::VirtualService,
        "v",
        vec![
            rule(0, vec![on(exact("/r"))], Act::Redirect(redirect)),
            rule(1, vec![on(exact("/a"))], Act::Respond(answer)),
        ],
    )]);
    for (target, want) in [("/r", "302"), ("/a", "418"), ("/", "404")] {
        assert_eq!(goes(&table, &get(target), &anyone()), want);
    }
}

#[test]
fn too_many_matches_are_refused() {
    let objects =
        |count| vec![object(ObjectKind::HttpRoute, "r", vec![rule(0, vec![Match::default(); count], to("a.svc"))])];
    assert!(RouteTable::new(objects(MAX_ENTRIES)).is_ok());
    assert_eq!(RouteTable::new(objects(MAX_ENTRIES + 1)).unwrap_err(), TableError::TooMany { count: MAX_ENTRIES + 1 });
}

#[test]
fn few_are_asked_however_many_there_are() {
    for kind in [ObjectKind::HttpRoute, ObjectKind::VirtualService] {
        let path =
            |i: usize| if i.is_multiple_of(2) { exact(&format!("/item/{i}")) } else { prefix(&format!("/item/{i}/")) };
        let matches = (0..10_000).map(|i| ("x", on(path(i)))).chain([("rest", on(segments("/")))]).collect();
        let table = table(vec![object(kind, "r", rules(matches))]);
        for (target, most) in [("/item/4", 2), ("/item/7777/x", 2), ("/none", 1)] {
            let asked: usize = table.layers(&anyone()).map(|layer| layer.asked(target)).sum();
            assert!(asked <= most, "{kind} {target}: {asked}");
        }
        assert_eq!(goes(&table, &get("/none"), &anyone()), "rest");
    }
}

#[test]
fn a_decision_allocates_nothing() {
    let matches = vec![
        ("a", Match { headers: headers(&["b"]), query: query(&["q"]), ..on(segments("/a")) }),
        ("b", on(PathMatch::prefix("/A", Case::Ignored, BASE).unwrap())),
        ("c", on(regex("/[0-9]+/x"))),
    ];
    let table = table(vec![object(ObjectKind::VirtualService, "v", rules(matches))]);
    let mut rng = SmallRng::seed_from_u64(1);
    for (target, want) in [("/a/1?q=1", "a.svc"), ("/a", "b.svc"), ("/12/x", "c.svc")] {
        let parts = Parts { headers: ALL, ..parts("GET", target) };
        // The first time a regular expression is asked it makes room for itself.
        let _first = table.decide(&request_of(parts), &anyone(), &mut rng);
        let counts = allocation_counter::measure(|| {
            let request = request_of(parts);
            let Action::Forward(forward) = table.decide(&request, &anyone(), &mut rng).action else {
                panic!("{target}")
            };
            assert_eq!(forward.destination().host.as_str(), want);
        });
        assert_eq!(counts.count_total, 0, "{target}");
    }
}

fn asked() -> impl Strategy<Value = Match> {
    let text = || prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/A", "/ab", "/a/b/c", "/b"]);
    let case = || prop_oneof![Just(Case::Counts), Just(Case::Ignored)];
    let path = prop_oneof![
        Just(None),
        (text(), case()).prop_map(|(text, case)| Some(PathMatch::exact(text, case, BASE).unwrap())),
        (text(), case()).prop_map(|(text, case)| Some(PathMatch::prefix(text, case, BASE).unwrap())),
        text().prop_map(|text| Some(segments(text))),
        text().prop_map(|text| Some(regex(&format!("{text}.*")))),
        Just(Some(PathMatch::grpc(method("a"), None))),
        Just(Some(PathMatch::grpc(None, method("b")))),
    ];
    let verb = prop_oneof![Just(None), Just(method("GET")), Just(method("PUT"))];
    let names = || prop::sample::subsequence(vec!["a", "b", "c"], 0..=2);
    (path, verb, names(), names()).prop_map(|(path, method, given, asked)| Match {
        path,
        method,
        headers: headers(&given),
        query: query(&asked),
        ..Match::default()
    })
}

fn objects() -> impl Strategy<Value = Vec<RouteObject>> {
    let kind = prop_oneof![Just(ObjectKind::HttpRoute), Just(ObjectKind::GrpcRoute), Just(ObjectKind::VirtualService)];
    let rules = prop::collection::vec(prop::collection::vec(asked(), 0..4), 0..4);
    let one = (kind, 0_u64..2, any::<bool>(), rules).prop_map(|(kind, age, own, all)| RouteObject {
        created: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(age)),
        audience: if own { Audience::OwnNamespace } else { Audience::Everyone },
        ..object(kind, "", all.into_iter().enumerate().map(|(i, m)| rule(i, m, to("x.svc"))).collect())
    });
    prop::collection::vec(one, 0..5).prop_map(|mut objects| {
        for (at, object) in objects.iter_mut().enumerate() {
            object.name = at.to_string().into();
        }
        objects
    })
}

/// What counts, as object, rule and match.
fn place(chosen: Chosen<'_>) -> (String, usize, Option<usize>) {
    (chosen.object.name.to_string(), chosen.rule.index, chosen.matched.map(|(index, _)| index))
}

proptest! {
    #[test]
    fn the_index_finds_what_a_walk_over_all_would(
        objects in objects(),
        target in prop::sample::select(vec!["/", "/a", "/a/b", "/A/b/c?a=1&b=2", "/ab?a", "/a/b/c", "/b/b", "/x"]),
        own in any::<bool>(),
    ) {
        let table = table(objects.clone());
        let shop: Namespace = "shop".parse().unwrap();
        let asker = Asker { namespace: own.then_some(&shop), gateway: MESH, ..anyone() };
        let request = request_of(Parts { headers: ALL, ..parts("GET", target) });
        let found = table.layers(&asker).find_map(|layer| layer.find(table.objects(), &request, &asker));
        let walked = table.layers(&asker).flat_map(|layer| layer.walk(table.objects())).find(|chosen| {
            chosen.matched.is_none_or(|(_, asked)| asked.holds(&request, &asker))
        });
        prop_assert_eq!(found.map(place), walked.map(place));

        // The order objects come in makes no difference.
        let reversed = RouteTable::new(objects.into_iter().rev().collect()).unwrap();
        let again = reversed.layers(&asker).find_map(|layer| layer.find(reversed.objects(), &request, &asker));
        prop_assert_eq!(again.map(place), found.map(place));
    }
}
