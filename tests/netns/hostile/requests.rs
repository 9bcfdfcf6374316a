//! A peer with a legal certificate gets what it may have, and else the status that says why not.

use std::net::SocketAddr;
use std::time::Duration;

use weir_tests::peers::{Http2, listening_ports};

use crate::scene::{ECHO, HBONE, HTTP, Scene};

/// A refusal that needs nobody's answer comes at once, however busy the machine is.
const PROMPT: Duration = Duration::from_secs(5);

/// The statuses of wire.md §5, over one connection: a refusal is a stream's affair.
#[test]
fn each_request_gets_the_status_of_its_reason_and_the_connection_goes_on() {
    let scene = Scene::new();
    let own_ports: Vec<u16> = listening_ports(scene.topology.pod("server").netns())
        .unwrap()
        .into_iter()
        .filter(|port| ![ECHO, HTTP, crate::scene::POUR].contains(port))
        .collect();
    // Two listeners for what is caught, one of each kind and worker: less would prove less.
    assert!(own_ports.len() >= 4, "{own_ports:?}");
    for server in scene.server() {
        let mut peer = scene.peer(*server);
        let at = |port: u16| SocketAddr::new(*server, port).to_string();
        let (echo, status) = peer.connect(&at(ECHO)).unwrap();
        assert_eq!(status, 200);
        peer.echo(echo, b"first").unwrap();
        // Nothing is ever resumed: they would have come with the end of the handshake.
        assert_eq!(peer.tickets(), 0);
        let elsewhere = [scene.address("client", *server), scene.address("stranger", *server)];
        let node = scene.topology.nodes()[1].addresses();
        let other_family = scene.server().iter().find(|ip| ip.is_ipv4() != server.is_ipv4()).unwrap();
        let loopback = if server.is_ipv4() { "127.0.0.1:7000" } else { "[::1]:7000" };
        let mut wants: Vec<(String, u16)> = elsewhere
            .into_iter()
            .chain(node)
            .chain([*other_family])
            .map(|ip| (SocketAddr::new(ip, ECHO).to_string(), 400))
            .collect();
        wants.extend([15001, 15006, HBONE].iter().chain(&own_ports).map(|illegal| (at(*illegal), 503)));
        for (authority, status) in [
            (loopback, 400),
            ("", 400),
            ("nonsense", 400),
            (":80", 400),
            ("shop", 400),
            ("10.0.0.1", 400),
            ("10.0.0.1:70000", 400),
            ("10.0.0.1:+80", 400),
            ("10.0.0.1:", 400),
            ("[fd00::1]", 400),
            ("fd00::1:80", 400),
            ("user@10.0.0.1:80", 400),
            ("10.0.0.1:80/path", 400),
            ("010.0.0.1:80", 400),
            ("shop.default.svc.cluster.local:8080", 503),
        ] {
            wants.push((authority.to_owned(), status));
        }
        // Nothing listens, and nothing ever can.
        wants.extend([(at(9), 503), (at(0), 400)]);
        for (authority, want) in &wants {
            let start = std::time::Instant::now();
            let (_, status) = peer.connect(authority).unwrap_or_else(|error| panic!("{authority}: {error:#}"));
            assert_eq!(status, *want, "CONNECT {authority} at {server}");
            assert!(start.elapsed() < PROMPT, "{authority} at {server}: {:?}", start.elapsed());
        }
        malformed(&mut peer, &at(ECHO));
        // The tunnel that was there before all of it.
        peer.echo(echo, b"last").unwrap();
    }
    scene.logged(&["HBONE request refused", "not CONNECT"]);
    scene.logged(&["HBONE request refused", "nonsense"]);
    scene.logged(&["connection failed", "belongs to the mesh", "sa/client"]);
    scene.logged(&["connection failed", "the peer asks for"]);
    scene.all_is_well();
}

/// Heads that ask for no tunnel.
fn malformed(peer: &mut Http2, authority: &str) {
    for (name, fields) in [
        ("GET", vec![(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/")]),
        ("POST", vec![(":method", "POST"), (":scheme", "https"), (":authority", authority), (":path", "/")]),
        (
            "extended CONNECT",
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":authority", authority),
                (":path", "/"),
            ],
        ),
        ("no authority", vec![(":method", "CONNECT")]),
        ("no method", vec![(":authority", authority)]),
        ("two authorities", vec![(":method", "CONNECT"), (":authority", authority), (":authority", authority)]),
        ("upper case", vec![(":method", "CONNECT"), (":authority", authority), ("Baggage", "x")]),
        ("a header of HTTP/1", vec![(":method", "CONNECT"), (":authority", authority), ("connection", "close")]),
    ] {
        let id = peer.request(&fields).unwrap();
        assert_eq!(peer.status(id).unwrap(), 400, "{name} at {authority}");
    }
}

/// A peer says many things about itself in headers; none is believed.
#[test]
fn who_a_peer_is_says_its_certificate_and_neither_its_address_nor_its_headers() {
    let scene = Scene::new();
    for server in scene.server() {
        let mut peer = scene.peer(*server);
        let authority = SocketAddr::new(*server, ECHO).to_string();
        let id = peer
            .request(&[
                (":method", "CONNECT"),
                (":authority", &authority),
                ("baggage", "k8s.namespace.name=kube-system,k8s.deployment.name=admin,service.name=admin"),
                ("forwarded", "for=\"10.0.0.99:1\";host=admin.kube-system.svc.cluster.local"),
                ("x-forwarded-network", "other"),
            ])
            .unwrap();
        assert_eq!(peer.status(id).unwrap(), 200);
        peer.echo(id, b"hello").unwrap();
        peer.finish(id).unwrap();
        let local = peer.local().to_string();
        let line = scene.logged(&["connection complete", &local]);
        assert!(line.contains("src.identity=\"spiffe://cluster.local/ns/default/sa/client\""), "{line}");
        // The pod at that address is the stranger; the identity is not his, so the connection is not booked on him.
        assert!(!line.contains("src.workload"), "{line}");
        for lie in ["stranger", "admin", "10.0.0.99", "kube-system"] {
            assert!(!line.contains(lie), "{lie}: {line}");
        }
    }
    let sum = |label: &str| {
        let labels = ["reporter=\"destination\"", label];
        scene.mesh.metric(&scene.topology, "istio_tcp_connections_opened_total", &labels).unwrap().value
    };
    assert_eq!(sum("source_principal=\"spiffe://cluster.local/ns/default/sa/client\""), 2);
    for lie in ["source_workload=\"stranger\"", "source_workload=\"admin\"", "sa/stranger", "kube-system"] {
        assert_eq!(sum(lie), 0, "{lie}");
    }
    assert_eq!(sum("source_workload=\"unknown\""), 2);
}
