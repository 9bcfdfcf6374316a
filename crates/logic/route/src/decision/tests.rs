//! Decisions as people read them, and what is done to a request that is sent on.

use std::time::Duration;

use rand::{SeedableRng, rngs::SmallRng};

use crate::{
    Abort, Action, Audience, Backend, Backends, Case, Cors, Decision, Delay, Destination, DirectResponse, Fault,
    Fields, Forwarding, Ground, HeaderChanges, HeaderValue, Match, Mirror, ObjectKind, PathMatch, PathRewrite, Percent,
    Redirect, RetryPolicy, Rewrite, RouteObject, RouteTable, Rule, Target, Timeouts,
    rule::Act,
    testing::{BASE, anyone, destination, get, object, on, port, rule, segments, to, valid},
};

fn decided(table: &RouteTable, target: &str, with: impl FnOnce(Decision<'_>)) {
    with(table.decide(&get(target), &anyone(), &mut SmallRng::seed_from_u64(1)));
}

fn set(pairs: &[(&str, &str)]) -> HeaderChanges {
    let all = pairs.iter().map(|(name, value)| HeaderValue::new(name.parse().unwrap(), value).unwrap());
    HeaderChanges::new(all.collect(), vec![], vec![]).unwrap()
}

/// One object with everything that can be said of forwarding.
fn everything() -> RouteObject {
    let subset = |name: &str| {
        Target::Valid(Destination { subset: Some(name.into()), port: None, ..destination("reviews.shop.svc") })
    };
    let backends = Backends::of_virtual_service(vec![
        (Some(100), Backend::new(subset("v1"))),
        (Some(0), Backend::new(subset("v2"))),
    ]);
    let forwarding = Forwarding {
        rewrite: Rewrite::new(Some(PathRewrite::prefix("/v1", BASE).unwrap()), Some("ratings:80")).unwrap(),
        timeouts: Timeouts::new(Some(Duration::from_secs(5)), Some(Duration::from_millis(1_500))),
        retries: RetryPolicy::new(3, "5xx,429".parse().unwrap(), None).unwrap(),
        mirrors: vec![
            Mirror { target: valid("shadow.shop.svc"), percent: "12.5".parse().unwrap() },
            Mirror { target: Target::Invalid("the service gone is not known".into()), percent: Percent::EVERY },
        ],
        ..Forwarding::to(backends)
    };
    let fault = Fault::new(
        Some(Delay::new(Duration::from_secs(5), "0.1".parse().unwrap()).unwrap()),
        Some((Abort::Http(400), "1".parse().unwrap())),
    );
    let matched = Match { name: Some("api".into()), ..on(PathMatch::prefix("/api", Case::Counts, BASE).unwrap()) };
    let ruled = Rule {
        name: Some("canary".into()),
        line: Some(14),
        fault: Some(fault.unwrap()),
        ..rule(1, vec![Match::default(), matched].split_off(1), Act::Forward(Box::new(forwarding)))
    };
    RouteObject { file: Some("routes.yaml".into()), ..object(ObjectKind::VirtualService, "reviews", vec![ruled]) }
}

#[test]
fn a_decision_says_why() {
    let route = |act| {
        RouteTable::new(vec![object(ObjectKind::HttpRoute, "web", vec![rule(0, vec![on(segments("/"))], act)])])
            .unwrap()
    };
    let plain = |act| {
        let all = RouteObject {
            file: Some("r.yaml".into()),
            ..object(ObjectKind::GrpcRoute, "rpc", vec![Rule::new(2, act)])
        };
        RouteTable::new(vec![all]).unwrap()
    };
    let split = Backends::of_gateway_route(vec![
        (Some(1), Backend::new(valid("a.svc"))),
        (Some(1), Backend::new(valid("a.svc"))),
    ]);
    let nowhere =
        Backends::of_gateway_route(vec![(None, Backend::new(Target::Invalid("the service gone is not known".into())))]);
    let forward = |backends| Act::Forward(Box::new(Forwarding::to(backends)));
    let tables = [
        RouteTable::default(),
        RouteTable::new(vec![RouteObject {
            audience: Audience::Everyone,
            ..object(ObjectKind::HttpRoute, "web", vec![])
        }])
        .unwrap(),
        RouteTable::new(vec![everything()]).unwrap(),
        route(to("a.svc")),
        plain(to("a.svc")),
        route(forward(split)),
        route(forward(nowhere)),
        route(forward(Backends::default())),
        route(Act::Redirect(Redirect::new(302).unwrap())),
        route(Act::Respond(DirectResponse::new(503, b"").unwrap())),
    ];
    let mut lines = Vec::new();
    for table in &tables {
        decided(table, "/api/x", |decision| lines.push(decision.to_string()));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn cors_is_only_for_what_is_sent_on() {
    let redirect = Act::Redirect(Redirect::new(301).unwrap());
    let answer = Act::Respond(DirectResponse::new(200, b"").unwrap());
    for (act, want) in [(to("a.svc"), true), (redirect, false), (answer, false)] {
        let ruled = Rule { cors: Some(Cors::default()), ..Rule::new(0, act) };
        let table = RouteTable::new(vec![object(ObjectKind::HttpRoute, "web", vec![ruled])]).unwrap();
        decided(&table, "/", |decision| {
            let Ground::Rule(chosen) = decision.ground else { panic!("{decision}") };
            assert_eq!(chosen.cors().is_some(), want, "{decision}");
        });
    }
}

#[test]
fn what_is_sent_on_is_changed_as_the_rule_says() {
    let table = RouteTable::new(vec![everything()]).unwrap();
    decided(&table, "/api/x?q=1", |decision| {
        let Action::Forward(forward) = decision.action else { panic!("{decision}") };
        assert_eq!(forward.target(&get("/api/x?q=1")).unwrap().as_deref(), Some("/v1/x?q=1"));
        assert_eq!(forward.authority(), Some("ratings:80"));
        assert_eq!(forward.destination().subset.as_deref(), Some("v1"));
        assert_eq!(forward.share().weight, 100);
        assert_eq!(forward.forwarding().timeouts.attempt(), Some(Duration::from_millis(1_500)));
    });
    decided(&table, "/api..", |decision| {
        let Action::Forward(forward) = decision.action else { panic!("{decision}") };
        assert_eq!(forward.target(&get("/api..")).unwrap().as_deref(), Some("/v1.."));
    });
}

#[test]
fn headers_change_at_the_backend_then_at_the_rule() {
    let backend = Backend {
        request: set(&[("x", "backend"), ("host", "backend"), ("y", "backend")]),
        response: set(&[("z", "backend")]),
        ..Backend::new(valid("a.svc"))
    };
    let act = || Act::Forward(Box::new(Forwarding::to(Backends::of_gateway_route(vec![(None, backend.clone())]))));
    let ruled = Rule {
        request: set(&[("x", "rule"), ("host", "rule")]),
        response: set(&[("z", "rule")]),
        ..Rule::new(0, act())
    };
    for (ruled, host, x, z) in [(ruled, "rule", "rule", "rule"), (Rule::new(0, act()), "backend", "backend", "backend")]
    {
        let table = RouteTable::new(vec![object(ObjectKind::HttpRoute, "web", vec![ruled])]).unwrap();
        decided(&table, "/", |decision| {
            let Action::Forward(forward) = decision.action else { panic!("{decision}") };
            assert_eq!(forward.authority(), Some(host));
            let (mut request, mut response) = (Fields::default(), Fields::default());
            forward.change_request(&mut request);
            forward.change_response(&mut response);
            request.0.sort();
            assert_eq!(request.0, [("x".to_owned(), x.to_owned()), ("y".to_owned(), "backend".to_owned())]);
            assert_eq!(response.0, [("z".to_owned(), z.to_owned())]);
            assert_eq!(forward.target(&get("/")), Ok(None));
        });
    }
}

#[test]
fn copies_are_drawn_each_by_itself() {
    let table = RouteTable::new(vec![everything()]).unwrap();
    decided(&table, "/api", |decision| {
        let Action::Forward(forward) = decision.action else { panic!("{decision}") };
        let mut rng = SmallRng::seed_from_u64(4);
        let hosts: Vec<_> = (0..10_000).flat_map(|_| forward.mirrors(&mut rng).collect::<Vec<_>>()).collect();
        // sqrt(10000 * 1/8 * 7/8) is 33. The one that leads nowhere is never sent.
        assert!(hosts.len().abs_diff(1_250) <= 99, "{}", hosts.len());
        assert!(hosts.iter().all(|to| to.host.as_str() == "shadow.shop.svc" && to.port == Some(port(80))));
    });
}
