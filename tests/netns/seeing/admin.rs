//! The admin pages: for whoever is on the node, as itself, and for nobody else.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use weir_tests::peers::{Ca, Http2, Leaf, client};

use crate::scene::{PORT, Scene, own, raw};

const ADMIN: u16 = 15000;

/// The dump with every value that differs from run to run made a word.
fn shape(value: &Value, key: &str) -> Value {
    match value {
        // In the order of the alphabet: whether a map keeps its own depends on what else is built along.
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().map(|(key, value)| (key.clone(), shape(value, key))).collect();
            sorted.into_iter().collect()
        }
        Value::Array(list) => list.iter().map(|value| shape(value, key)).collect(),
        Value::String(_) => match key {
            "netns" => "PATH".into(),
            "loadedAt" | "rejectedAt" | "validFrom" | "expirationTime" => "TIME".into(),
            "serialNumber" => "SERIAL".into(),
            "version" => "VERSION".into(),
            _ => value.clone(),
        },
        Value::Number(_) if key == "netnsCookie" || key == "generation" => "NUMBER".into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[test]
fn the_dump_shows_pods_workloads_services_and_certificates_and_no_key() {
    let scene = Scene::new(&[]);
    scene.echo("client", SocketAddr::new(scene.topology.cluster_ips("shop")[0], PORT), 1);
    let answer = scene.get(0, ADMIN, "/config_dump");
    assert_eq!(answer.status, 200);
    for secret in ["PRIVATE", "BEGIN", "key"] {
        assert!(!answer.body.contains(secret), "{secret}");
    }
    let dump: Value = serde_json::from_str(&answer.body).unwrap();
    insta::assert_snapshot!("config_dump", serde_json::to_string_pretty(&shape(&dump, "")).unwrap());
}

#[test]
fn the_log_level_changes_while_the_agent_runs() {
    let scene = Scene::new(&[]);
    let (node, server) = (scene.topology.nodes()[1].netns(), scene.addresses("server")[0]);
    let set = |level: &str| {
        raw(
            node,
            own(ADMIN),
            &format!("POST /logging?level={level} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"),
        )
    };
    let legal =
        Ca::open(&scene.topology.work_dir().join("ca")).unwrap().sign(&Leaf::new("cluster.local", "x")).unwrap();
    let config = client(&legal).unwrap();
    // A peer that comes and goes is worth a line of debug, which names it.
    let visit = || {
        let peer = Http2::open(scene.topology.pod("legacy").netns(), None, (server, 15008).into(), &config).unwrap();
        peer.local().to_string()
    };
    let told = |visitor: &str| {
        let log = scene.mesh.agent(1).log();
        log.lines()
            .any(|line| line.contains("DEBUG") && line.contains("HBONE connection ended") && line.contains(visitor))
    };
    assert!(set("debug").contains("current log filter: debug"));
    assert!(scene.get(1, ADMIN, "/logging").body.contains("current log filter: debug"));
    let meanwhile = visit();
    let lines = weir_tests::peers::until("the line of debug", || Ok(told(&meanwhile)));
    lines.unwrap_or_else(|error| panic!("{error}\n{}", scene.mesh.agent(1).log()));
    assert!(set("info").contains("current log filter: info"));
    let after = visit();
    scene.echo("client", SocketAddr::new(server, crate::scene::ECHO), 1);
    scene.logged(1, &["connection complete"]);
    assert!(!told(&after), "debug goes on");
    // A level that is none changes nothing and says so.
    let refused = set("no=such=thing");
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    assert!(scene.get(1, ADMIN, "/logging").body.contains("current log filter: info"));
}

#[test]
fn the_opening_of_connections_is_logged_while_the_filter_asks_for_it() {
    let scene = Scene::new(&[]);
    let (node, vip) = (scene.topology.nodes()[0].netns(), SocketAddr::new(scene.topology.cluster_ips("shop")[0], PORT));
    let set = |level: &str| {
        let line = format!("POST /logging?level={level} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        assert!(raw(node, own(ADMIN), &line).starts_with("HTTP/1.1 200"));
    };
    for (level, told) in [("info", false), ("info%2Caccess%3Ddebug", true), ("info", false)] {
        set(level);
        let from = scene.echo("client", vip, 1).to_string();
        scene.logged(0, &["connection complete", &from]);
        let opened = scene.mesh.agent(0).log().lines().any(|l| l.contains("connection opened") && l.contains(&from));
        assert_eq!(opened, told, "{level}:\n{}", scene.mesh.agent(0).log());
    }
}

#[test]
fn the_admin_port_is_for_the_nodes_own_loopback_and_for_no_web_page() {
    let scene = Scene::new(&[]);
    let node = scene.topology.nodes()[0].netns();
    let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ADMIN);
    for to in [v4, own(ADMIN)] {
        for (head, want) in [
            ("host: localhost:15000", "HTTP/1.1 200"),
            ("host: 127.0.0.1:15000", "HTTP/1.1 200"),
            ("host: [::1]:15000", "HTTP/1.1 200"),
            ("host: evil.example", "HTTP/1.1 403"),
            ("host: localhost.evil.example:15000", "HTTP/1.1 403"),
            ("host: 192.168.77.1:15000", "HTTP/1.1 403"),
            ("host: localhost\r\norigin: http://evil.example", "HTTP/1.1 403"),
            ("host: localhost\r\nhost: evil.example", "HTTP/1.1 4"),
            ("x: y", "HTTP/1.1 4"),
        ] {
            let answer = raw(node, to, &format!("GET /config_dump HTTP/1.1\r\n{head}\r\nconnection: close\r\n\r\n"));
            assert!(answer.starts_with(want), "{head:?} at {to}: {}", &answer[..answer.len().min(200)]);
            assert!(want.ends_with("200") || !answer.contains("workloads"), "{head:?} at {to}");
        }
    }
    // By GET, nothing changes.
    let quit = raw(node, v4, "GET /quitquitquit HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(quit.starts_with("HTTP/1.1 405"), "{quit}");
    // On no other address, from nowhere.
    let gateways = [scene.topology.nodes()[0].addresses(), scene.topology.nodes()[1].addresses()].concat();
    let connect = |to: SocketAddr| move || TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_ok();
    for address in gateways {
        let to = SocketAddr::new(address, ADMIN);
        assert!(!node.run(connect(to)).unwrap(), "{to} is open to the node");
        let reached = scene.topology.pod("legacy").netns().run(connect(to)).unwrap();
        assert!(!reached, "{to} is open to a pod outside the mesh");
    }
    for pod in ["client", "legacy", "server"] {
        let netns = scene.topology.pod(pod).netns();
        for to in [v4, own(ADMIN)] {
            assert!(!netns.run(connect(to)).unwrap(), "{to} is open in {pod}");
        }
    }
    // A caught connection is refused after it was taken: no answer comes.
    for address in scene.topology.nodes()[0].addresses() {
        scene.refused("client", SocketAddr::new(address, ADMIN));
    }
}
