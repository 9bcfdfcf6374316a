//! `weirctl` on a node, of agents that run: what is open, and why something was refused.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_testbed::{binary, write_atomically};
use weir_tests::peers::until;

use crate::scene::{PORT, Scene, dial};

/// How soon the first of an answer is to be seen.
const SOON: Duration = Duration::from_millis(300);
/// How often it is looked: the quickest is what the program needs, all above it is a machine that does other things besides.
const LOOKS: usize = 10;
/// A program tells of bytes a mebibyte at a time.
const MEBIBYTE: u64 = 1 << 20;

fn command(words: &str) -> Command {
    let mut command = Command::new(binary("weirctl").unwrap());
    command.args(words.split(' ')).arg("--admin=http://localhost:15000");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it prints on a node of the agent there.
fn weirctl(scene: &Scene, node: usize, words: &str) -> String {
    let command = command(words);
    let output = scene.topology.nodes()[node].netns().spawn(command).unwrap().wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Asks again until it prints all of these in one line.
fn prints(scene: &Scene, node: usize, words: &str, wanted: &[&str]) {
    let so = || weirctl(scene, node, words).lines().any(|line| wanted.iter().all(|one| line.contains(one)));
    let printed = until("what weirctl prints", || Ok(so()));
    printed.unwrap_or_else(|error| panic!("{error}: {words}: {wanted:?}\n{}", weirctl(scene, node, words)));
}

/// Waits until the only connection of a node has moved bytes both ways, as far as that was told.
fn moved(scene: &Scene, node: usize) {
    let open = || serde_json::from_str::<Value>(&weirctl(scene, node, "agent connections -o json")).unwrap();
    let all = |open: &Value| {
        ["/0/bytesSent", "/0/bytesReceived"]
            .iter()
            .all(|at| open.pointer(at).and_then(Value::as_u64).is_some_and(|bytes| (1..=2 * MEBIBYTE).contains(&bytes)))
    };
    until("bytes that were moved", || Ok(all(&open()))).unwrap_or_else(|error| panic!("{error}: {}", open()));
}

#[test]
fn the_first_of_an_answer_is_seen_at_once() {
    let scene = Scene::new(&[]);
    prints(&scene, 0, "status", &["no problems"]);
    let netns = scene.topology.nodes()[0].netns();
    for words in [
        "status",
        "version",
        "agent workloads",
        "agent services -o json",
        "agent connections",
        "agent certificates",
        "agent log",
        "describe pod default/client",
        "describe service default/shop -o yaml",
        "why",
    ] {
        let first = || {
            let begun = Instant::now();
            let mut child = netns.spawn(command(words)).unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            let taken = begun.elapsed();
            // What it goes on to say fits into the pipe.
            assert!(child.wait().unwrap().success(), "{words}");
            taken
        };
        let quickest = (0..LOOKS).map(|_| first()).min().unwrap();
        assert!(quickest < SOON, "{words}: {quickest:?}");
    }
}

#[test]
fn connections_that_are_open_are_listed_and_those_that_have_ended_are_not() {
    let scene = Scene::new(&[]);
    prints(&scene, 0, "status", &["no problems"]);
    prints(&scene, 0, "agent connections", &["no connection is open"]);
    for vip in scene.topology.cluster_ips("shop") {
        let mut held = dial(scene.topology.pod("client").netns(), SocketAddr::new(vip, PORT)).unwrap();
        let mut part = vec![b'x'; 1 << 14];
        for _ in 0..128 {
            held.write_all(&part).unwrap();
            held.read_exact(&mut part).unwrap();
        }
        let mine = held.local_addr().unwrap().to_string();
        for (node, direction) in [(0, "outbound"), (1, "inbound")] {
            let words = "agent connections -n default --name client";
            prints(&scene, node, words, &[direction, "default/client", "default/server", "HBONE"]);
            moved(&scene, node);
            assert!(weirctl(&scene, node, "agent connections --name nobody").contains("no connection is open"));
        }
        let outbound: Value = serde_json::from_str(&weirctl(&scene, 0, "agent connections -o json")).unwrap();
        assert_eq!(outbound[0]["source"]["address"], mine.as_str(), "{outbound}");
        drop(held);
        for node in [0, 1] {
            prints(&scene, node, "agent connections", &["no connection is open"]);
        }
    }
}

#[test]
fn a_refused_connection_is_explained_with_what_would_let_it_through() {
    let scene = Scene::new(&[]);
    assert!(weirctl(&scene, 1, "why").contains("nothing was refused lately"));
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: closed, namespace: default}\nspec:\n  \
                  selector: {matchLabels: {app: server}}\n  rules: [{from: [{source: {namespaces: [elsewhere]}}]}]\n";
    write_atomically(&scene.topology.manifests_dir().join("closed.yaml"), policy).unwrap();
    prints(&scene, 1, "agent policies", &["closed", "AuthorizationPolicy", "enforced"]);
    for vip in scene.topology.cluster_ips("shop") {
        scene.refused("client", SocketAddr::new(vip, PORT));
    }
    prints(&scene, 1, "why default/client", &["default/client -> default/server"]);
    let told = weirctl(&scene, 1, "why default/client");
    for part in ["cluster.local/ns/default/sa/client", "AuthorizationPolicy default/closed", "from.source.principals"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(weirctl(&scene, 1, "why default/nobody").contains("nothing was refused lately of default/nobody"));
    // The client's side tells what it was answered; a service with nothing behind it is refused there.
    let void = scene.topology.cluster_ips("void")[0];
    scene.refused("client", SocketAddr::new(void, PORT));
    prints(&scene, 0, "why", &["remedy", "a pod behind default/void", "must be ready"]);
    let all: Value = serde_json::from_str(&weirctl(&scene, 1, "why -o json")).unwrap();
    let families: Vec<bool> = all["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["destination"]["address"].as_str().unwrap().starts_with('['))
        .collect();
    assert!(families.contains(&true) && families.contains(&false), "both families: {all}");
    assert!(
        all["refusals"].as_array().unwrap().iter().all(|one| one["by"].as_str().unwrap().starts_with("weir-agent "))
    );
}
