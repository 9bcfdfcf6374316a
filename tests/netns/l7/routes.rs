//! Routes as their authors wrote them: counted where requests arrive.

use std::time::{Duration, Instant};

use crate::scene::{ECHO, QUICK, Scene};

const ROUTES: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec:
  host: web.default.svc.cluster.local
  subsets:
  - {name: one, labels: {version: '1'}}
  - {name: two, labels: {version: '2'}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec:
  hosts: [web.default.svc.cluster.local]
  http:
  - name: chosen
    match: [{headers: {x-version: {exact: '2'}}}]
    route: [{destination: {host: web.default.svc.cluster.local, subset: two}, headers: {request: {set: {x-chosen: 'yes'}, remove: [x-version]}}}]
  - name: abort
    match: [{uri: {prefix: /abort}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 418}}
    route: [{destination: {host: web.default.svc.cluster.local, subset: one}}]
  - name: delay
    match: [{uri: {prefix: /delay}}]
    fault: {delay: {percentage: {value: 100}, fixedDelay: 700ms}}
    route: [{destination: {host: web.default.svc.cluster.local, subset: one}}]
  - name: timeout
    match: [{uri: {prefix: /sleep}}]
    timeout: 500ms
    retries: {attempts: 0}
    route: [{destination: {host: web.default.svc.cluster.local, subset: one}}]
  - name: retried
    match: [{uri: {prefix: /flaky}}, {uri: {prefix: /status}, method: {exact: GET}}]
    retries: {attempts: 3, perTryTimeout: 5s, retryOn: 5xx}
    route: [{destination: {host: web.default.svc.cluster.local, subset: one}}]
  - name: once
    match: [{uri: {prefix: /status}}]
    retries: {attempts: 0}
    route: [{destination: {host: web.default.svc.cluster.local, subset: one}}]
  - name: mirrored
    match: [{uri: {prefix: /mirrored}}]
    route: [{destination: {host: web.default.svc.cluster.local, subset: one}}]
    mirror: {host: web.default.svc.cluster.local, subset: two}
  - name: moved
    match: [{uri: {exact: /old}}]
    redirect: {uri: /new, redirectCode: 301}
  - name: rewritten
    match: [{uri: {prefix: /api/}}]
    rewrite: {uri: /}
    route: [{destination: {host: web.default.svc.cluster.local, subset: one}}]
  - name: split
    route:
    - {destination: {host: web.default.svc.cluster.local, subset: one}, weight: 80}
    - {destination: {host: web.default.svc.cluster.local, subset: two}, weight: 20}
";

#[test]
fn a_virtual_service_does_what_it_says() {
    let scene = Scene::new(&[("routes.yaml", ROUTES)]);
    for at in scene.at(QUICK) {
        let tally = scene.tally(at, "/", 1_000);
        let two = tally.get("web-2").copied().unwrap_or(0);
        assert!(tally.values().sum::<u64>() == 1_000 && tally.len() == 2, "{tally:?}");
        // Five standard deviations of chance: each 12.6.
        assert!((137..=263).contains(&two), "{tally:?}");
    }
    for (number, at) in scene.at(ECHO).into_iter().enumerate() {
        for _ in 0..10 {
            let seen = scene.asked(at, "/chosen", &["-H", "x-version: 2"]);
            assert_eq!((&seen["name"], &seen["headers"]["x-chosen"]), (&"web-2".into(), &"yes".into()), "{seen}");
            assert!(seen["headers"]["x-version"].is_null(), "{seen}");
        }
        assert_eq!(scene.status("client", at, "/abort", &[]), 418);
        assert_eq!((scene.count("web-1", "GET /abort"), scene.count("web-2", "GET /abort")), (0, 0));
        let start = Instant::now();
        scene.asked(at, "/delay", &[]);
        assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
        let start = Instant::now();
        assert_eq!(scene.status("client", at, "/sleep/20000", &[]), 504);
        assert!((500..15_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        retried(&scene, at, number);
        scene.asked(at, &format!("/mirrored/{number}"), &[]);
        let mirrored = format!("GET /mirrored/{number}");
        assert_eq!(scene.count("web-1", &mirrored), 1);
        weir_tests::eventually("the mirror gets a copy", || Ok(scene.count("web-2", &mirrored) == 1)).unwrap();
        let moved = scene.curl("client", at, "/old", &["--write-out", "\n%{redirect_url}\n%{http_code} 1"]).unwrap();
        assert!(moved.status == 301 && moved.body.ends_with(&format!("http://{at}/new")), "{moved:?}");
        let seen = scene.asked(at, "/api/things?x=1", &[]);
        assert_eq!((&seen["name"], &seen["path"]), (&"web-1".into(), &"/things?x=1".into()), "{seen}");
    }
    scene.stop();
}

fn retried(scene: &Scene, at: std::net::SocketAddr, number: usize) {
    let path = format!("/flaky/{number}/2");
    let seen = scene.asked(at, &path, &[]);
    assert_eq!(seen["times"], 3, "{seen}");
    assert_eq!(scene.count("web-1", &format!("GET {path}")), 3);
    // A body is sent again as it was.
    let path = format!("/flaky/post-{number}/2");
    let seen = scene.asked(at, &path, &["--data", "a small body"]);
    assert_eq!((&seen["times"], &seen["length"]), (&3.into(), &12.into()), "{seen}");
    // Once and three times again, then the last answer is the client's.
    let path = format!("/status/503?get={number}");
    assert_eq!(scene.status("client", at, &path, &[]), 503);
    assert_eq!(scene.count("web-1", &format!("GET {path}")), 4);
    // What is not to be retried comes once.
    let path = format!("/status/503?post={number}");
    assert_eq!(scene.status("client", at, &path, &["--data", "x"]), 503);
    assert_eq!((scene.count("web-1", &format!("POST {path}")), scene.count("web-2", &format!("POST {path}"))), (1, 0));
}
