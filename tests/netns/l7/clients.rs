//! Clients from packages: curl, nghttp2, gRPC and WebSocket of others.

use std::process::Command;

use crate::scene::{ECHO, GRPC, QUICK, SOCKET, Scene, python};

/// More than any buffer on the way.
const MUCH: usize = 3_000_000;

#[test]
fn curl_is_served_over_both_versions_of_http() {
    let scene = Scene::new(&[]);
    let file = scene.bed.topology.work_dir().join("much");
    std::fs::write(&file, "w".repeat(MUCH)).unwrap();
    let upload = format!("@{}", file.display());
    for (version, flag) in [("1.1", "--http1.1"), ("2", "--http2-prior-knowledge")] {
        for at in scene.at(ECHO) {
            let heard = scene.curl("client", at, "/a?b=c%20d", &[flag, "-H", "x-mine: 1"]).unwrap();
            assert_eq!((heard.status, &*heard.version), (200, version), "{heard:?}");
            let seen = scene.asked(at, "/a?b=c%20d", &[flag, "-H", "x-mine: 1", "-H", "x-twice: 1", "-H", "host: web"]);
            assert_eq!((&seen["method"], &seen["path"]), (&"GET".into(), &"/a?b=c%20d".into()), "{seen}");
            assert_eq!((&seen["headers"]["x-mine"], &seen["headers"]["host"]), (&"1".into(), &"web".into()), "{seen}");
            assert_eq!(seen["headers"]["x-request-id"].as_str().map(str::len), Some(36), "{seen}");
            assert_eq!(scene.status("client", at, "/", &[flag, "--head"]), 200);
            // With `expect: 100-continue`, and with a length that is not known before.
            for more in [&["-H", "expect: 100-continue"][..], &["-H", "transfer-encoding: chunked"]] {
                let more = [&[flag, "--data-binary", &upload], more].concat();
                let seen = scene.asked(at, "/up", &more);
                assert_eq!((&seen["method"], &seen["length"]), (&"POST".into(), &MUCH.into()), "{more:?}");
            }
            let heard = scene.curl("client", at, &format!("/size/{MUCH}"), &[flag]).unwrap();
            assert_eq!((heard.status, heard.body.len()), (200, MUCH), "{flag}");
            for status in [204, 304, 404, 500] {
                assert_eq!(scene.status("client", at, &format!("/status/{status}"), &[flag]), status, "{flag}");
            }
        }
    }
    for at in scene.at(ECHO) {
        // One connection for all: none is made for the second.
        let mut twice = Command::new("curl");
        twice.args(["--silent", "--globoff", "--http1.1", "--write-out", " %{num_connects}", "--output", "/dev/null"]);
        twice.args([format!("http://{at}/one"), "--output".into(), "/dev/null".into(), format!("http://{at}/two")]);
        assert_eq!(scene.run("client", twice).unwrap(), " 1 0", "{at}");
    }
    scene.stop();
}

#[test]
fn the_tools_of_nghttp2_are_served() {
    let scene = Scene::new(&[]);
    for at in scene.at(ECHO) {
        let mut nghttp = Command::new("nghttp");
        nghttp.args(["--timeout=20", "--header=x-mine: 1"]).arg(format!("http://{at}/from-nghttp"));
        let said = scene.run("client", nghttp).unwrap();
        let seen: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!((&seen["path"], &seen["headers"]["x-mine"]), (&"/from-nghttp".into(), &"1".into()), "{seen}");
    }
    for at in scene.at(QUICK) {
        // Named, for it writes addresses of IPv6 without brackets.
        for flags in [&["-c4", "-m16", "--header=:authority: web"][..], &["--h1", "-c8", "--header=:authority: web"]] {
            let mut h2load = Command::new("h2load");
            h2load.args(["-n1000", "-t1"]).args(flags).arg(format!("http://{at}/"));
            let said = scene.run("client", h2load).unwrap();
            for want in ["1000 succeeded, 0 failed, 0 errored, 0 timeout", "1000 2xx, 0 3xx, 0 4xx, 0 5xx"] {
                assert!(said.contains(want), "{flags:?} at {at}: {said}\n{}", scene.logs());
            }
        }
    }
    scene.stop();
}

#[test]
fn grpc_of_another_make_is_served_at_both_ends() {
    let scene = Scene::new(&[]);
    let library = ["setup-grpc.sh"];
    // One of them: what a call leaves behind at its server is asked for in the next.
    let mut servers = [scene.serve("web-1", python("grpc_peer.py", &library, &["serve"]), 8082)];
    scene.bed.topology.add_manifest("only-one.yaml", ONLY_ONE).unwrap();
    for at in scene.at(GRPC) {
        // Until the only one is, the other refuses.
        let ask = || scene.run("client", python("grpc_peer.py", &library, &["call", &at.to_string()]));
        weir_tests::eventually("all kinds of calls", || ask().map(|_| true))
            .unwrap_or_else(|error| panic!("{at}: {error:#}\n{}", scene.logs()));
        ask().unwrap_or_else(|error| panic!("{at}: {error:#}\n{}", scene.logs()));
    }
    scene.bed.topology.add_manifest("policy.yaml", NO_CALLS).unwrap();
    for at in scene.at(GRPC) {
        weir_tests::eventually("calls are denied", || {
            scene.run("client", python("grpc_peer.py", &library, &["denied", &at.to_string()])).map(|_| true)
        })
        .unwrap_or_else(|error| panic!("{at}: {error:#}\n{}", scene.logs()));
    }
    assert!(servers[0].is_running().unwrap(), "{}", servers[0].log());
    scene.stop();
}

#[test]
fn websockets_of_another_make_are_served_at_both_ends() {
    let scene = Scene::new(&[]);
    let library = ["setup-websockets.sh"];
    let servers = ["web-1", "web-2"].map(|pod| scene.serve(pod, python("ws_peer.py", &library, &["serve"]), 8083));
    for at in scene.at(SOCKET) {
        scene
            .run("client", python("ws_peer.py", &library, &["call", &format!("ws://{at}/socket")]))
            .unwrap_or_else(|error| panic!("{at}: {error:#}\n{}", scene.logs()));
    }
    scene.bed.topology.add_manifest("policy.yaml", NO_CALLS).unwrap();
    for at in scene.at(SOCKET) {
        weir_tests::eventually("sockets are denied", || {
            let url = format!("ws://{at}/test.Peer/Unary");
            scene.run("client", python("ws_peer.py", &library, &["refused", &url, "403"])).map(|_| true)
        })
        .unwrap_or_else(|error| panic!("{at}: {error:#}\n{}", scene.logs()));
    }
    drop(servers);
    scene.stop();
}

const ONLY_ONE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec:
  host: web.default.svc.cluster.local
  subsets:
  - {name: one, labels: {version: \"1\"}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec:
  hosts: [web.default.svc.cluster.local]
  http:
  - route:
    - destination: {host: web.default.svc.cluster.local, subset: one}
";

const NO_CALLS: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-calls, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  action: DENY
  rules:
  - to: [{operation: {paths: [/test.Peer/*]}}]
";
