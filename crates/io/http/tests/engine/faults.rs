//! What fails, and what is made of it: retries, resets, timeouts, breakers. What arrives at a backend is counted: nothing is sent twice that must not be.

use std::{num::NonZeroU32, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};
use weir_balance::{Limits, OutlierDetection, Percent, Policy};
use weir_route::{
    Audience, Backend, Backends, Destination, Forwarding, ObjectKind, RetryPolicy, RouteObject, RouteTable, Rule,
    Target, Timeouts,
};
use weir_serving::{ClusterPolicy, Destinations, Host, PortPolicies};

use crate::bed::{Act, Mesh, OK, SHOP, backend, body, read_message, run, settle, status, until};

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

/// A shop whose requests are sent on so.
fn host(forwarding: Forwarding, policy: ClusterPolicy) -> Host {
    let rule = Rule::new(0, weir_route::Act::Forward(Box::new(forwarding)));
    let object = RouteObject {
        kind: ObjectKind::HttpRoute,
        namespace: "default".parse().unwrap(),
        name: "route".into(),
        file: None,
        created: None,
        audience: Audience::Everyone,
        rules: vec![rule],
    };
    Host {
        name: format!("default/{SHOP}").parse().unwrap(),
        http: Arc::new(RouteTable::new(vec![object]).unwrap()),
        tcp: Arc::default(),
        destinations: Arc::new(Destinations {
            policies: PortPolicies { all: Arc::new(policy), ..PortPolicies::default() },
            ..Destinations::default()
        }),
        external: Default::default(),
        guard: Arc::default(),
        refused: None,
    }
}

fn to_shop() -> Forwarding {
    let destination = Destination { host: SHOP.parse().unwrap(), port: None, subset: None };
    Forwarding::to(Backends::of_gateway_route(vec![(None, Backend::new(Target::Valid(destination)))]))
}

fn retrying(attempts: u32, on: &str) -> Forwarding {
    let retries = RetryPolicy::new(attempts, on.parse().unwrap(), Some(Duration::from_millis(1))).unwrap();
    Forwarding { retries, ..to_shop() }
}

#[test]
fn a_request_is_sent_as_often_as_policy_says_and_no_oftener() {
    const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody";
    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    run(async {
        // What the backend does first, and then; the policy; the request; the status, how often it came, and what is flagged.
        for (first, then, on, request, want, count, flags) in [
            (Act::Answer(UNAVAILABLE), Act::Answer(OK), "5xx", GET, 200, 2, "-"),
            (Act::Answer(UNAVAILABLE), Act::Answer(OK), "5xx", POST, 200, 2, "-"),
            (Act::Answer(UNAVAILABLE), Act::Answer(UNAVAILABLE), "5xx", GET, 503, 3, "URX"),
            (Act::Answer(UNAVAILABLE), Act::Answer(OK), "connect-failure", GET, 503, 1, "-"),
            (Act::Answer(UNAVAILABLE), Act::Answer(OK), "503", GET, 200, 2, "-"),
            (Act::Reset(""), Act::Answer(OK), "reset", GET, 200, 2, "-"),
            (Act::Reset(""), Act::Answer(OK), "reset", POST, 200, 2, "-"),
            (Act::Reset(""), Act::Answer(OK), "connect-failure", GET, 503, 1, "UC"),
            (Act::Reset(""), Act::Answer(OK), "connect-failure", POST, 503, 1, "UC"),
            (Act::Last(""), Act::Answer(OK), "connect-failure", POST, 503, 1, "UC"),
            (Act::Last("HTTP/1.1 what\r\n\r\n"), Act::Answer(OK), "connect-failure", GET, 502, 1, "UPE"),
        ] {
            let what = format!("{first:?} {on} {request}");
            let backend = backend(move |number, _| if number == 0 { first.clone() } else { then.clone() }).await;
            let mesh = Mesh::http(&[backend.address]).await;
            mesh.serve(host(retrying(2, on), ClusterPolicy::default()));
            let answer = mesh.raw(request.as_bytes()).await;
            assert_eq!((status(&answer), backend.count()), (want, count), "{what}: {answer}");
            let seen = mesh.seen(1).await;
            assert_eq!((&*seen[0].flags, usize::try_from(seen[0].attempts).unwrap()), (flags, count), "{what}");
            if request == POST {
                assert!(backend.got.borrow().iter().all(|got| got.ends_with("\r\n\r\nbody")), "{what}");
            }
        }
    });
}

#[test]
fn a_body_that_is_too_long_to_be_held_is_sent_once() {
    run(async {
        let backend = backend(|_, _| Act::Answer(UNAVAILABLE)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        mesh.serve(host(retrying(2, "5xx"), ClusterPolicy::default()));
        let long = "x".repeat(65 << 10);
        let request =
            format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{long}", long.len());
        let answer = mesh.raw(request.as_bytes()).await;
        assert_eq!((status(&answer), backend.count()), (503, 1), "{answer}");
        assert_eq!(mesh.seen(1).await[0].received, 65 << 10);
    });
}

#[test]
fn an_endpoint_that_is_not_there_is_passed_over() {
    run(async {
        let gone = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[gone, backend.address]).await;
        for number in 1..=20 {
            let answer = mesh.get("/").await;
            assert_eq!((status(&answer), backend.count()), (200, number), "{answer}");
        }
        // A request may be recorded after its client has the answer: the next is to be the last.
        mesh.seen(20).await;
        mesh.endpoints(SHOP, &[gone], weir_model::AppProtocol::Http11);
        let answer = mesh.get("/").await;
        assert_eq!(status(&answer), 503, "{answer}");
        assert!(body(&answer).starts_with("upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure"), "{answer}");
        assert_eq!(mesh.seen(21).await[20].flags, "UF,URX");
        mesh.endpoints(SHOP, &[], weir_model::AppProtocol::Http11);
        let answer = mesh.get("/").await;
        assert_eq!((status(&answer), body(&answer)), (503, "no healthy upstream"));
        assert_eq!(mesh.seen(22).await[21].flags, "UH");
    });
}

#[test]
fn a_kept_connection_that_was_closed_costs_no_request() {
    run(async {
        // A reset may come when the next request is sent already: then only what is safe is sent again.
        for (method, closing) in [("POST", Act::Last(OK)), ("GET", Act::Reset(OK))] {
            let script = closing.clone();
            let backend = backend(move |_, _| script.clone()).await;
            let mesh = Mesh::http(&[backend.address]).await;
            let mut client = mesh.client().await;
            let mut rest = Vec::new();
            for number in 1..=20 {
                let request = format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
                client.write_all(request.as_bytes()).await.unwrap();
                let answer = read_message(&mut client, &mut rest).await.unwrap();
                assert_eq!((status(&answer), backend.count()), (200, number), "{closing:?}: {answer}");
                if number % 2 == 0 {
                    // Sometimes the end is known before the next request, sometimes it is not.
                    until(|| backend.ended.get() == number).await;
                    settle().await;
                }
            }
        }
    });
}

#[test]
fn a_used_connection_that_ends_without_a_word_is_asked_again_only_what_is_safe() {
    run(async {
        for (method, want, count) in [("GET", 200, 3), ("HEAD", 200, 3), ("POST", 503, 2), ("DELETE", 503, 2)] {
            // The second request is read, and the connection ends.
            let backend = backend(|number, _| if number == 1 { Act::Last("") } else { Act::Answer(OK) }).await;
            let mesh = Mesh::http(&[backend.address]).await;
            assert_eq!(status(&mesh.get("/").await), 200);
            let request = format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let answer = mesh.raw(request.as_bytes()).await;
            assert_eq!((status(&answer), backend.count()), (want, count), "{method}: {answer}");
        }
    });
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    run(async {
        for act in [
            Act::Reset("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
            Act::Last("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
            Act::Last("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            Act::Reset("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ] {
            let script = act.clone();
            let backend = backend(move |_, _| script.clone()).await;
            let mesh = Mesh::http(&[backend.address]).await;
            let answer = mesh.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(!answer.ends_with("0\r\n\r\n") && !body(&answer).contains("halfhalf"), "{act:?}: {answer}");
            assert_eq!(backend.count(), 1, "{act:?}");
            let seen = mesh.seen(1).await;
            assert_eq!(seen[0].flags, "UC", "{act:?}: {:?}", seen[0]);
        }
    });
}

#[test]
fn a_client_that_goes_away_takes_its_request_along() {
    run(async {
        let backend = backend(|_, _| Act::Hang).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut client = mesh.client().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        until(|| backend.count() == 1).await;
        drop(client);
        let seen = mesh.seen(1).await;
        assert_eq!((&*seen[0].flags, &*seen[0].details), ("DC", "downstream_remote_disconnect"));
        until(|| mesh.engine.connections() == 0).await;
    });
}

#[test]
fn a_request_takes_no_longer_than_it_may() {
    const SLOW: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let time = |millis| Some(Duration::from_millis(millis));
    run(async {
        for (act, timeouts, on, want, text, count, flags) in [
            (Act::Hang, Timeouts::new(time(100), None), "connect-failure", 504, "upstream request timeout", 1, "UT"),
            (Act::Hang, Timeouts::new(None, time(50)), "connect-failure", 504, "upstream request timeout", 1, "UT"),
            (Act::Hang, Timeouts::new(None, time(50)), "5xx", 504, "upstream request timeout", 3, "UT,URX"),
            (Act::Hang, Timeouts::new(time(120), time(50)), "5xx", 504, "upstream request timeout", 3, "UT"),
            (Act::Answer(SLOW), Timeouts::new(time(500), None), "5xx", 200, "half", 1, "UT"),
        ] {
            let what = format!("{act:?} {timeouts:?} {on}");
            let backend = backend(move |_, _| act.clone()).await;
            let mesh = Mesh::http(&[backend.address]).await;
            mesh.serve(host(Forwarding { timeouts, ..retrying(2, on) }, ClusterPolicy::default()));
            let answer = mesh.get("/").await;
            assert_eq!((status(&answer), body(&answer)), (want, text), "{what}");
            assert!(backend.count() <= count, "{what}: {}", backend.count());
            assert_eq!(mesh.seen(1).await[0].flags, flags, "{what}");
        }
    });
}

#[test]
fn breakers_say_no() {
    run(async {
        let requests = Limits { requests: 1, ..Limits::default() };
        let pending = Limits { connections: 1, pending: 0, ..Limits::default() };
        for (limits, want) in [(requests, "overflow"), (pending, "overflow")] {
            let backend = backend(|_, _| Act::Hang).await;
            let mesh = Mesh::http(&[backend.address]).await;
            let balance = Policy { limits, ..Policy::default() };
            mesh.serve(host(to_shop(), ClusterPolicy { balance, ..ClusterPolicy::default() }));
            let mut first = mesh.client().await;
            if limits.requests == 1 {
                first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                until(|| backend.count() == 1).await;
            }
            let answer = mesh.get("/").await;
            assert_eq!(status(&answer), 503, "{limits:?}: {answer}");
            assert!(body(&answer).ends_with(want) && answer.contains("x-envoy-overloaded: true\r\n"), "{answer}");
            assert!(mesh.seen(1).await[0].flags.contains("UO"), "{limits:?}");
        }
    });
}

#[test]
fn a_request_waits_for_a_connection_when_no_more_may_be_opened() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Rc::new(Mesh::http(&[backend.address]).await);
        let limits = Limits { connections: 1, ..Limits::default() };
        let balance = Policy { limits, ..Policy::default() };
        mesh.serve(host(to_shop(), ClusterPolicy { balance, ..ClusterPolicy::default() }));
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let mesh = Rc::clone(&mesh);
                tokio::task::spawn_local(async move { status(&mesh.get("/").await) })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 200);
        }
        assert_eq!((backend.count(), backend.connections.get()), (10, 1));
    });
}

#[test]
fn an_endpoint_that_fails_is_left_alone() {
    run(async {
        let bad = backend(|_, _| Act::Answer(UNAVAILABLE)).await;
        let good = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[bad.address, good.address]).await;
        let outlier = OutlierDetection {
            consecutive_5xx: NonZeroU32::new(2),
            max_ejected: Percent::new("maxEjectionPercent", 100.0).unwrap(),
            ..OutlierDetection::default()
        };
        let balance = Policy { outlier: Some(outlier), ..Policy::default() };
        let policy = ClusterPolicy { balance, ..ClusterPolicy::default() };
        mesh.serve(host(retrying(0, "5xx"), policy));
        for _ in 0..40 {
            mesh.get("/").await;
        }
        assert_eq!((bad.count(), good.count()), (2, 38));
    });
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let balance = Policy { requests_per_connection: NonZeroU32::new(2), ..Policy::default() };
        mesh.serve(host(to_shop(), ClusterPolicy { balance, ..ClusterPolicy::default() }));
        for _ in 0..6 {
            assert_eq!(status(&mesh.get("/").await), 200);
        }
        assert_eq!(backend.connections.get(), 3);
    });
}

#[test]
fn authorization_answers_for_itself() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        mesh.bed.refuse.set(Some(403));
        let answer = mesh.get("/").await;
        assert_eq!((status(&answer), body(&answer), backend.count()), (403, "RBAC: access denied", 0));
        let grpc = mesh
            .raw(b"POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\nconnection: close\r\n\r\n")
            .await;
        assert_eq!(status(&grpc), 200);
        assert!(
            grpc.contains("grpc-status: 7\r\n") && grpc.contains("grpc-message: RBAC: access denied\r\n"),
            "{grpc}"
        );
    });
}

#[test]
fn a_request_whose_keys_are_fetched_waits_for_them_once() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        for (by_then, want) in [(None, 200), (Some(401), 401)] {
            let fetched = Rc::new(Notify::new());
            mesh.bed.refuse.set(Some(401));
            mesh.bed.later.replace(Some(fetched.clone()));
            let before = (backend.count(), mesh.bed.seen.borrow().len());
            let told = async {
                settle().await;
                assert_eq!((backend.count(), mesh.bed.seen.borrow().len()), before, "it waits");
                mesh.bed.refuse.set(by_then);
                fetched.notify_one();
            };
            let (answer, ()) = tokio::join!(mesh.get("/"), told);
            assert_eq!(status(&answer), want, "{answer}");
            assert_eq!(backend.count() - before.0, usize::from(want == 200));
        }
    });
}

#[test]
fn a_client_that_reads_nothing_holds_back_the_endpoint() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Rc::new(std::cell::Cell::new(0_usize));
        let counted = Rc::clone(&sent);
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_message(&mut stream, &mut Vec::new()).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
            while let Ok(count) = stream.write(&[7; 65_536]).await {
                counted.set(counted.get() + count);
            }
        });
        let mesh = Mesh::http(&[address]).await;
        let mut client = mesh.client().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut before = usize::MAX;
        let mut same = 0;
        while same < 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            same = if sent.get() == before && before > 0 { same + 1 } else { 0 };
            before = sent.get();
        }
        // What the sockets of both sides hold, and a little more.
        assert!(sent.get() < 64 << 20, "{}", sent.get());
        let mut some = [0; 1_024];
        client.read_exact(&mut some).await.unwrap();
    });
}
