//! The access log: a line for each connection, in the words of ztunnel.

use std::net::SocketAddr;

use crate::scene::{ECHO, PORT, Scene};

/// Times, lengths of time and ports that the kernel chose become words.
fn redact(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    // Ephemeral ports are those with five digits: all others here are chosen by us, and 15008.
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        out.push_str(before);
        let port = before.ends_with(':') && digits.len() == 5 && digits != "15008";
        let time = digits.len() == 4 && digits.starts_with("20") && after.starts_with('-');
        if time {
            out.push_str("TIME");
            rest = after.split_once('Z').map_or("", |(_, rest)| rest);
        } else {
            out.push_str(if port {
                "PORT"
            } else if after.starts_with("ms\"") {
                "N"
            } else {
                digits
            });
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn lines(format: &str) -> String {
    let scene = Scene::new(&["--log-format", format]);
    let mut all = Vec::new();
    let families = scene.topology.cluster_ips("shop").into_iter().zip(scene.topology.cluster_ips("void"));
    for ((vip, void), (server, legacy)) in
        families.zip(scene.addresses("server").into_iter().zip(scene.addresses("legacy")))
    {
        // Tunnelled, seen by both ends; passed through; in plaintext from outside; refused.
        let from = scene.echo("client", SocketAddr::new(vip, PORT), 1_234).to_string();
        all.push(scene.logged(0, &["connection complete", &from]));
        all.push(scene.logged(1, &["connection complete", &server.to_string(), "inbound", "1234"]));
        let from = scene.echo("client", SocketAddr::new(legacy, ECHO), 5).to_string();
        all.push(scene.logged(0, &["connection complete", &from]));
        let from = scene.echo("legacy", SocketAddr::new(server, ECHO), 6).to_string();
        all.push(scene.logged(1, &["connection complete", &from]));
        scene.refused("client", SocketAddr::new(void, PORT));
        all.push(scene.logged(0, &["connection failed", &void.to_string()]));
        scene.refused("client", SocketAddr::new(server, 9));
        all.push(scene.logged(0, &["connection failed", &server.to_string()]));
        all.push(scene.logged(1, &["connection failed", &server.to_string()]));
    }
    if format == "json" {
        for line in &all {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        // The agent's other lines are JSON as well.
        for line in scene.mesh.agent(0).log().lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
    }
    all.iter().map(|line| redact(line) + "\n").collect()
}

#[test]
fn text_lines_say_who_talked_to_whom_and_why_not() {
    insta::assert_snapshot!("text", lines("text"));
}

#[test]
fn json_lines_say_the_same() {
    insta::assert_snapshot!("json", lines("json"));
}
