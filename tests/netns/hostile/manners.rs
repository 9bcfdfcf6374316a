//! Legal peers with bad manners: their connection ends, nobody else's does, and memory stays bounded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_tests::peers::until;
use weir_wire::frame::{self, Code, flag, kind};
use weir_wire::hpack;

use crate::scene::{ECHO, HTTP, POUR, Scene};

/// What a flood may cost, in MiB: it is over long before, and a debug build is no small thing.
const FLOOD: u64 = 24;

fn connect(id: u32, target: &str) -> Vec<u8> {
    let mut block = Vec::new();
    hpack::write_named(&mut block, hpack::index::METHOD, b"CONNECT");
    hpack::write_named(&mut block, hpack::index::AUTHORITY, target.as_bytes());
    let mut out = Vec::new();
    frame::write(&mut out, kind::HEADERS, flag::END_HEADERS, id, &block);
    out
}

fn floods(app: &str) -> [(&'static str, Vec<u8>); 6] {
    let (mut rapid, mut endless, mut fat, mut pings, mut parameters, mut nonsense) = Default::default();
    for n in 0..2_000u32 {
        let id = 2 * n + 1;
        rapid = [rapid, connect(id, app)].concat();
        frame::write_reset(&mut rapid, id, Code::Cancel);
        nonsense = [nonsense, connect(id, "nonsense")].concat();
    }
    frame::write(&mut endless, kind::HEADERS, 0, 1, &[]);
    for _ in 0..10_000 {
        frame::write(&mut endless, kind::CONTINUATION, 0, 1, b"\x82");
        frame::write(&mut pings, kind::PING, 0, 0, b"12345678");
        frame::write_settings(&mut parameters, &[]);
    }
    let mut block = Vec::new();
    for _ in 0..80 {
        hpack::write_literal(&mut block, b"x", &[b'y'; 1_200]);
    }
    for piece in 0..20u32 {
        frame::write(&mut fat, kind::HEADERS, flag::END_HEADERS, 2 * piece + 1, &block);
    }
    [
        ("rapid reset", rapid),
        ("continuation flood", endless),
        ("header flood", fat),
        ("ping flood", pings),
        ("settings flood", parameters),
        ("flood of nonsense", nonsense),
    ]
}

#[test]
fn a_flood_ends_its_own_connection_and_harms_no_other() {
    let scene = Scene::new();
    for server in scene.server() {
        let app = SocketAddr::new(*server, ECHO).to_string();
        let mut decent = scene.peer(*server);
        let (tunnel, status) = decent.connect(&app).unwrap();
        assert_eq!(status, 200);
        for (name, bytes) in floods(&app) {
            let before = scene.memory();
            let mut rude = scene.peer(*server);
            // Whether we get to the end of it or are cut off before is the agent's choice.
            let _cut_off = rude.send(&bytes);
            rude.end().unwrap_or_else(|error| panic!("{name}: the connection goes on: {error:#}"));
            decent.echo(tunnel, name.as_bytes()).unwrap();
            let after = scene.memory();
            assert!(after <= before + FLOOD, "{name}: {before} MiB before, {after} MiB after");
        }
        scene.all_is_well();
    }
}

/// A hundred streams of an application that never stops, to a peer that granted every window and never reads; and the reverse.
#[test]
fn a_peer_or_an_application_that_never_reads_costs_bounded_memory() {
    let scene = Scene::new();
    for server in scene.server() {
        let before = scene.memory();
        let at = |port| SocketAddr::new(*server, port).to_string();
        let mut deaf = scene.peer(*server);
        let mut requests = Vec::new();
        for n in 0..100u32 {
            requests.extend(connect(2 * n + 1, &at(POUR)));
        }
        deaf.send(&requests).unwrap();
        let open = || {
            let gauge = ["direction=\"inbound\""];
            Ok(scene.mesh.metric(&scene.topology, "weir_open_connections", &gauge)?.value >= 100)
        };
        until("the opening of a hundred tunnels", open).unwrap();
        stalls(&scene);
        let after = scene.memory();
        println!("deaf peer at {server}: {before} MiB before, {after} MiB after");
        assert!(after <= before + 32, "a deaf peer at {server}: {before} MiB before, {after} MiB after");
        // The other way: the source of bytes never reads what is sent to it, the peer sends all its window allows.
        let mut loud = scene.peer(*server);
        let (stream, status) = loud.connect(&at(POUR)).unwrap();
        assert_eq!(status, 200);
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind::DATA, 0, stream, &vec![0; 16_000]);
        for _ in 0..250 {
            if loud.send(&bytes).is_err() {
                break;
            }
        }
        stalls(&scene);
        let after = scene.memory();
        println!("loud peer at {server}: {after} MiB after");
        assert!(after <= before + 40, "a loud peer at {server}: {before} MiB before, {after} MiB after");
        let mut decent = scene.peer(*server);
        let (tunnel, status) = decent.connect(&at(ECHO)).unwrap();
        assert_eq!(status, 200);
        decent.echo(tunnel, b"still there").unwrap();
    }
    scene.all_is_well();
    slow_client(&scene);
}

/// Waits until the agent's bytes stand still: everything that could be taken in has been.
fn stalls(scene: &Scene) {
    let sent = || {
        let labels = ["reporter=\"destination\""];
        scene.mesh.metric(&scene.topology, "istio_tcp_sent_bytes_total", &labels).unwrap().value
    };
    let mut last = (sent(), std::time::Instant::now());
    until("the standstill", || {
        let now = sent();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        Ok(last.1.elapsed() > Duration::from_millis(500))
    })
    .unwrap();
}

/// A client in the mesh that asks for much and reads nothing stalls alone.
fn slow_client(scene: &Scene) {
    let netns = scene.topology.pod("client").netns();
    for server in scene.server() {
        let open = |port| netns.run(|| TcpStream::connect(SocketAddr::new(*server, port))).unwrap().unwrap();
        let _deaf: Vec<TcpStream> = (0..20).map(|_| open(POUR)).collect();
        stalls(scene);
        let mut quick = open(HTTP);
        quick.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        quick.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        quick.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}
