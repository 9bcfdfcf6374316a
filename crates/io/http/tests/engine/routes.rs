//! What a rule may ask for, done to requests and answers.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::time::Instant;
use weir_balance::{Algorithm, ConsistentHash, Cookie, HashSource, HashTable, Policy};
use weir_model::AppProtocol;
use weir_request::Normalization;
use weir_route::{
    Abort, Audience, Backend, Backends, Cors, Delay, Destination, DirectResponse, Fault, Forwarding, HeaderChanges,
    HeaderValue, Match, Mirror, ObjectKind, OriginMatch, PathMatch, PathRewrite, Percent, Redirect, Rewrite,
    RouteObject, RouteTable, Rule, Target, Unmatched,
};
use weir_serving::{ClusterPolicy, Destinations, Host, PortPolicies, Serving};

use crate::bed::{self, Act, FAMILIES, Mesh, OK, SHOP, backend, body, run, settings, status, until};

const OTHER: &str = "other.default.svc.cluster.local";

fn destination(host: &str, subset: Option<&str>) -> Destination {
    Destination { host: host.parse().unwrap(), port: None, subset: subset.map(Into::into) }
}

fn to(host: &str) -> Backend {
    Backend::new(Target::Valid(destination(host, None)))
}

fn forward(backends: Vec<(Option<u32>, Backend)>) -> Forwarding {
    Forwarding::to(Backends::of_gateway_route(backends))
}

fn act(forwarding: Forwarding) -> weir_route::Act {
    weir_route::Act::Forward(Box::new(forwarding))
}

fn host(rules: Vec<Rule>) -> Host {
    let object = RouteObject {
        kind: ObjectKind::HttpRoute,
        namespace: "default".parse().unwrap(),
        name: "route".into(),
        file: None,
        created: None,
        audience: Audience::Everyone,
        rules,
    };
    Host {
        name: format!("default/{SHOP}").parse().unwrap(),
        http: Arc::new(RouteTable::new(vec![object]).unwrap()),
        tcp: Arc::default(),
        destinations: Arc::default(),
        external: Default::default(),
        guard: Arc::default(),
        refused: None,
    }
}

fn changes(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderChanges {
    let value = |(name, value): &(&str, &str)| HeaderValue::new(name.parse().unwrap(), value).unwrap();
    let (set, add) = (set.iter().map(value).collect(), add.iter().map(value).collect());
    HeaderChanges::new(set, add, remove.iter().map(|name| name.parse().unwrap()).collect()).unwrap()
}

#[test]
fn headers_are_changed_as_rule_and_backend_say() {
    run(async {
        let backend =
            backend(|_, _| Act::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-gone: 1\r\nx-set: 1\r\n\r\nok"))
                .await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut there = to(SHOP);
        there.request = changes(&[], &[("x-add", "backend")], &[]);
        there.response = changes(&[], &[("x-from", "backend")], &[]);
        let mut rule = Rule::new(0, act(forward(vec![(None, there)])));
        rule.request = changes(&[("x-set", "2"), ("host", "changed")], &[("x-add", "rule")], &["x-gone"]);
        rule.response = changes(&[("x-set", "2")], &[("x-from", "rule")], &["x-gone"]);
        mesh.serve(host(vec![rule]));
        let answer = mesh
            .raw(b"GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\nx-set: 1\r\nx-gone: 1\r\nx-add: client\r\n\r\n")
            .await;
        let got = backend.last();
        for line in ["host: changed\r\n", "x-set: 2\r\n", "x-add: client\r\nx-add: backend\r\nx-add: rule\r\n"] {
            assert!(got.contains(line), "{line:?} in {got}");
        }
        assert!(!got.contains("x-gone"), "{got}");
        assert!(answer.contains("x-from: backend\r\nx-from: rule\r\n") && answer.contains("x-set: 2\r\n"), "{answer}");
        assert!(!answer.contains("x-gone") && !answer.contains("x-set: 1"), "{answer}");
    });
}

#[test]
fn paths_and_authorities_are_rewritten() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let prefix = PathRewrite::prefix("/new", Normalization::Base).unwrap();
        let mut forwarding = forward(vec![(None, to(SHOP))]);
        forwarding.rewrite = Rewrite::new(Some(prefix), Some("elsewhere:8080")).unwrap();
        let mut rule = Rule::new(0, act(forwarding));
        let path = PathMatch::segments("/old", Normalization::Base).unwrap();
        rule.matches = vec![Match { path: Some(path), ..Match::default() }];
        let rest = Rule::new(1, act(forward(vec![(None, to(SHOP))])));
        mesh.serve(host(vec![rule, rest]));
        for (path, want) in [
            ("/old/a?b=c", "GET /new/a?b=c HTTP/1.1\r\n"),
            ("/old", "GET /new HTTP/1.1\r\n"),
            ("/x/../%6fld/a", "GET /new/a HTTP/1.1\r\n"),
            ("/x/./y", "GET /x/y HTTP/1.1\r\n"),
        ] {
            assert_eq!(status(&mesh.get(path).await), 200, "{path}");
            let got = backend.last();
            assert!(got.starts_with(want), "{path}: {got}");
            assert_eq!(got.contains("host: elsewhere:8080\r\n"), want.contains("new"), "{got}");
        }
    });
}

#[test]
fn rules_answer_by_themselves() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let redirect = Redirect::new(302).unwrap().with_authority("elsewhere").unwrap();
        let teapot = DirectResponse::new(418, b"short and stout").unwrap();
        let nowhere = Backend::new(Target::Invalid("no such service".into()));
        for (rule, want, text, line, details, flags) in [
            (
                weir_route::Act::Redirect(redirect),
                302,
                "",
                "location: http://elsewhere/a?b=c\r\n",
                "direct_response",
                "-",
            ),
            (weir_route::Act::Respond(teapot), 418, "short and stout", "x-dressed: yes\r\n", "direct_response", "-"),
            (act(forward(vec![(None, nowhere)])), 500, "", "x-dressed: yes\r\n", "cluster_not_found", "NC"),
            (
                act(forward(vec![(None, Backend::new(Target::Valid(destination(SHOP, Some("v9")))))])),
                503,
                "no DestinationRule for shop.default.svc.cluster.local has a subset \"v9\"",
                "x-dressed: yes\r\n",
                "cluster_not_found",
                "NC",
            ),
        ] {
            let mut rule = Rule::new(0, rule);
            rule.response = changes(&[], &[("x-dressed", "yes")], &[]);
            let what = format!("{rule:?}");
            mesh.serve(host(vec![rule]));
            let before = mesh.bed.seen.borrow().len();
            let answer = mesh.get("/a?b=c").await;
            assert_eq!((status(&answer), body(&answer)), (want, text), "{what}");
            assert!(answer.contains(line), "{line:?} in {answer}");
            let seen = mesh.seen(before + 1).await;
            assert!(seen[before].details.starts_with(details), "{:?}", seen[before]);
            assert_eq!(seen[before].flags, flags, "{what}");
        }
        let mut only = Rule::new(0, act(forward(vec![(None, to(SHOP))])));
        let path = PathMatch::segments("/only", Normalization::Base).unwrap();
        only.matches = vec![Match { path: Some(path), ..Match::default() }];
        mesh.serve(host(vec![only]));
        assert_eq!(status(&mesh.get("/").await), 404);
        let seen = mesh.seen(5).await;
        assert_eq!((&*seen[4].flags, &*seen[4].details), ("NR", "route_not_found"));
        mesh.serve(Host { refused: Some("it is wrong".into()), ..host(vec![]) });
        let answer = mesh.get("/").await;
        assert_eq!((status(&answer), body(&answer), backend.count()), (503, "it is wrong", 0));
    });
}

#[test]
fn faults_are_made_on_purpose() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let time = Duration::from_millis(100);
        let delay = Some(Delay::new(time, Percent::EVERY).unwrap());
        let grpc = Abort::Grpc("UNAVAILABLE".parse().unwrap());
        for (fault, want, line, flags, count) in [
            (Fault::new(delay, None), 200, "", "DI", 1),
            (Fault::new(None, Some((Abort::Http(429), Percent::EVERY))), 429, "", "FI", 1),
            (Fault::new(delay, Some((Abort::Http(503), Percent::EVERY))), 503, "", "DI,FI", 1),
            (Fault::new(None, Some((grpc, Percent::EVERY))), 200, "grpc-status: 14\r\n", "FI", 1),
        ] {
            let fault = fault.unwrap();
            let mut rule = Rule::new(0, act(forward(vec![(None, to(SHOP))])));
            rule.fault = Some(fault);
            mesh.serve(host(vec![rule]));
            let begun = Instant::now();
            let before = mesh.bed.seen.borrow().len();
            let answer = mesh.get("/").await;
            assert_eq!((status(&answer), backend.count()), (want, count), "{fault}: {answer}");
            assert!(answer.contains(line), "{fault}: {answer}");
            assert!(!flags.contains("DI") || begun.elapsed() >= time, "{fault}");
            assert_eq!(mesh.seen(before + 1).await[before].flags, flags, "{fault}");
        }
    });
}

#[test]
fn browsers_are_told_of_other_origins() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut rule = Rule::new(0, act(forward(vec![(None, to(SHOP))])));
        rule.cors = Some(Cors {
            origins: vec![OriginMatch::pattern("http://good").unwrap()],
            methods: vec!["GET".into()],
            unmatched: Unmatched::Answered,
            ..Cors::default()
        });
        mesh.serve(host(vec![rule]));
        let preflight = |origin: &str| {
            format!(
                "OPTIONS / HTTP/1.1\r\nhost: a\r\nconnection: close\r\norigin: {origin}\r\naccess-control-request-method: GET\r\n\r\n"
            )
        };
        let answer = mesh.raw(preflight("http://good").as_bytes()).await;
        assert!(status(&answer) == 200 && answer.contains("access-control-allow-origin: http://good\r\n"), "{answer}");
        let answer = mesh.raw(preflight("http://bad").as_bytes()).await;
        assert!(status(&answer) == 200 && !answer.contains("access-control"), "{answer}");
        assert_eq!(backend.count(), 0);
        let answer = mesh.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\norigin: http://good\r\n\r\n").await;
        assert!(body(&answer) == "ok" && answer.contains("access-control-allow-origin: http://good\r\n"), "{answer}");
    });
}

#[test]
fn requests_are_copied_whole_and_nobody_waits_for_the_copy() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let shadow = bed::backend(|number, _| if number == 0 { Act::Hang } else { Act::Answer(OK) }).await;
        let mesh = Mesh::http(&[backend.address]).await;
        mesh.endpoints(OTHER, &[shadow.address], AppProtocol::Http11);
        let mut forwarding = forward(vec![(None, to(SHOP))]);
        let target = Target::Valid(destination(OTHER, None));
        forwarding.mirrors = vec![Mirror { target, percent: Percent::EVERY }];
        mesh.serve(host(vec![Rule::new(0, act(forwarding))]));
        for (number, request) in [
            "GET /x HTTP/1.1\r\nhost: shop:80\r\nconnection: close\r\n\r\n",
            "POST /x HTTP/1.1\r\nhost: shop:80\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(status(&mesh.raw(request.as_bytes()).await), 200);
            until(|| shadow.count() == number + 1).await;
            let copy = shadow.last();
            assert!(copy.contains("host: shop-shadow:80\r\n"), "{copy}");
            assert_eq!(copy.ends_with("hello"), number == 1, "{copy}");
        }
        assert_eq!(mesh.seen(2).await.len(), 2, "copies are not recorded");
    });
}

#[test]
fn requests_are_shared_out_by_weight() {
    run(async {
        let (one, other) = (backend(|_, _| Act::Answer(OK)).await, backend(|_, _| Act::Answer(OK)).await);
        let mesh = Mesh::http(&[one.address]).await;
        mesh.endpoints(OTHER, &[other.address], AppProtocol::Http11);
        mesh.serve(host(vec![Rule::new(0, act(forward(vec![(Some(9), to(SHOP)), (Some(1), to(OTHER))])))]));
        let mut client = mesh.client().await;
        let mut rest = Vec::new();
        for _ in 0..1_000 {
            tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            bed::read_message(&mut client, &mut rest).await.unwrap();
        }
        // Three standard deviations, and one more.
        assert!((862..=938).contains(&one.count()) && one.count() + other.count() == 1_000, "{}", one.count());
    });
}

#[test]
fn a_cookie_binds_a_client_to_an_endpoint() {
    run(async {
        let (one, other) = (backend(|_, _| Act::Answer(OK)).await, backend(|_, _| Act::Answer(OK)).await);
        let mesh = Mesh::http(&[one.address, other.address]).await;
        let cookie = Cookie::new("bound", Some("/"), Some(Duration::from_secs(60)), &[]).unwrap();
        let hash = ConsistentHash { source: HashSource::Cookie(cookie), table: HashTable::default() };
        let balance = Policy { algorithm: Algorithm::ConsistentHash(hash), ..Policy::default() };
        let policy = Arc::new(ClusterPolicy { balance, ..ClusterPolicy::default() });
        let destinations = Destinations {
            policies: PortPolicies { all: policy, ..PortPolicies::default() },
            ..Destinations::default()
        };
        mesh.serve(Host { destinations: Arc::new(destinations), http: Arc::default(), ..host(vec![]) });
        let answer = mesh.get("/").await;
        let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        assert!(line.ends_with("; Max-Age=60; Path=/; HttpOnly"), "{line}");
        let value = line.split(';').next().unwrap();
        let first = if one.count() == 1 { &one } else { &other };
        for number in 2..=10 {
            let request = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncookie: {value}\r\n\r\n");
            let answer = mesh.raw(request.as_bytes()).await;
            assert!(!answer.contains("set-cookie"), "{answer}");
            assert_eq!(first.count(), number);
        }
    });
}

#[test]
fn a_pod_is_reached_by_its_address() {
    run(async {
        for family in FAMILIES {
            let backend = bed::backend_on(family, |_, _| Act::Answer(OK)).await;
            let target = weir_http::Target::Pod { address: backend.address };
            let mesh = Rc::new(Mesh::to(family, target, settings()).await);
            mesh.swap(Arc::new(Serving::default()));
            assert_eq!(status(&mesh.get("/").await), 200);
            assert_eq!(mesh.seen(1).await[0].upstream, Some(backend.address));
        }
    });
}

#[test]
fn what_admission_changes_is_what_is_routed_and_sent() {
    use weir_http::{Edits, QueryEdit};
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::new(FAMILIES[0], AppProtocol::Http11, settings()).await;
        mesh.endpoints(SHOP, &[backend.address], AppProtocol::Http11);
        let headers = || {
            let name = http::HeaderName::from_static;
            vec![(name("x-claim"), Some(http::HeaderValue::from_static("me"))), (name("authorization"), None)]
        };
        for (query, want) in [
            (QueryEdit::None, "GET /a?access_token=t&b=1 "),
            (QueryEdit::To("b=1".to_owned()), "GET /a?b=1 "),
            (QueryEdit::Gone, "GET /a "),
        ] {
            *mesh.bed.edits.borrow_mut() = Edits { headers: headers(), query };
            let request = b"GET /a?access_token=t&b=1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer t\r\n\
                            x-claim: forged\r\nconnection: close\r\n\r\n";
            assert_eq!(status(&mesh.raw(request).await), 200);
            let seen = backend.last();
            assert!(seen.starts_with(want), "{seen}");
            assert!(seen.contains("x-claim: me") && !seen.contains("forged") && !seen.contains("Bearer"), "{seen}");
        }
    });
}
