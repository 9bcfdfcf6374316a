//! What is told of requests: metrics and lines of log, held against what curl saw; and who the server's agent is told the client is.

use std::net::SocketAddr;

use weir_tests::eventually;

use crate::scene::{ECHO, Scene};

#[test]
fn what_is_told_is_what_curl_saw() {
    let scene = Scene::new(&[]);
    let own = scene.bed.topology.pod("waypoint").addresses().to_vec();
    let clients = scene.bed.topology.pod("client").addresses().to_vec();
    for (path, status, flag, protocol) in
        [("/told", 200, "--http1.1", "HTTP/1.1"), ("/status/404", 404, "--http2-prior-knowledge", "HTTP/2")]
    {
        for (at, client) in scene.at(ECHO).into_iter().zip(&clients) {
            let heard = scene
                .curl(
                    "client",
                    at,
                    path,
                    &[flag, "-H", "user-agent: told/1", "-H", "x-request-id: 00000000-0000-4000-8000-000000000001"],
                )
                .unwrap();
            assert_eq!(heard.status, status);
            let seen: serde_json::Value = serde_json::from_str(&heard.body).unwrap();
            let pod = seen["name"].as_str().unwrap();
            let from: SocketAddr = seen["client"].as_str().unwrap().parse().unwrap();
            assert!(own.contains(&from.ip()), "{seen}");
            let begins = format!("\"GET {path} {protocol}\" {status} - via_upstream - \"-\" 0 {} ", heard.body.len());
            let names = format!("\"told/1\" \"00000000-0000-4000-8000-000000000001\" \"{at}\" ");
            let upstreams: Vec<String> = scene
                .bed
                .topology
                .pod(pod)
                .addresses()
                .iter()
                .map(|ip| {
                    format!("\"{}\" inbound-vip|81|http|web.default.svc.cluster.local ", SocketAddr::new(*ip, 8081))
                })
                .collect();
            let ends = format!(" {at} {}", SocketAddr::new(*client, 0).to_string().trim_end_matches('0'));
            let told = |line: &str| {
                line.contains(&begins)
                    && line.contains(&names)
                    && line.contains(&ends)
                    && upstreams.iter().any(|one| line.contains(one))
            };
            eventually("a line of log", || Ok(scene.waypoint().log().lines().any(told)))
                .unwrap_or_else(|error| panic!("{error:#}: {begins} {names} {upstreams:?} {ends}\n{}", scene.logs()));
        }
    }
    counted(&scene);
    entered(&scene);
    scene.stop();
}

fn counted(scene: &Scene) {
    for (code, count) in [("200", 2), ("404", 2)] {
        let code = format!("response_code=\"{code}\"");
        let labels = [
            "reporter=\"waypoint\"",
            "source_workload=\"client\"",
            "source_principal=\"spiffe://cluster.local/ns/default/sa/client\"",
            "destination_service=\"web.default.svc.cluster.local\"",
            "destination_service_name=\"web\"",
            "destination_service_namespace=\"default\"",
            "request_protocol=\"http\"",
            "connection_security_policy=\"mutual_tls\"",
            &code,
        ];
        // The first requests, while everything began, were to another port: of that no label speaks.
        let told = || Ok(scene.waypoint().metric("istio_requests_total", &labels)?.value >= count);
        eventually("requests are counted", told)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.waypoint().metrics().unwrap()));
    }
    let code = ["reporter=\"waypoint\"", "response_code=\"404\""];
    assert_eq!(scene.waypoint().metric("istio_requests_total", &code).unwrap().value, 2);
    assert_eq!(scene.waypoint().metric("istio_request_duration_milliseconds_count", &code).unwrap().value, 2);
}

/// The servers' agents know the waypoint for their client, and the client's agent knows where it went.
fn entered(scene: &Scene) {
    let said = |node: usize, words: &[&str]| {
        let log = scene.bed.mesh.agent(node).log();
        log.lines().any(|line| words.iter().all(|word| line.contains(word)))
    };
    // Their lines are written when a connection ends: the waypoint's are kept for the next request, until it drops them.
    for (node, pod) in [(1, "web-1"), (0, "web-2")] {
        let workload = format!("dst.workload=\"{pod}\"");
        let client =
            [&*workload, "direction=\"inbound\"", "src.identity=\"spiffe://cluster.local/ns/default/sa/client\""];
        for at in scene.at(ECHO).into_iter().cycle().take(4) {
            scene.asked(at, "/close", &["-H", "connection: close"]);
        }
        assert!(!said(node, &client), "{}", scene.logs());
        let told = || {
            Ok(scene
                .bed
                .mesh
                .metric(
                    &scene.bed.topology,
                    "istio_tcp_connections_opened_total",
                    &[
                        "reporter=\"destination\"",
                        &format!("destination_workload=\"{pod}\""),
                        "source_principal=\"spiffe://cluster.local/ns/default/sa/waypoint\"",
                    ],
                )?
                .value
                > 0)
        };
        eventually("its agent counts the waypoint", told).unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    }
    let out = [
        "connection complete",
        "direction=\"outbound\"",
        "src.workload=\"client\"",
        "dst.workload=\"waypoint\"",
        "dst.service=\"web.default.svc.cluster.local\"",
    ];
    eventually("the client's agent says where it went", || Ok(said(0, &out)))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
}
