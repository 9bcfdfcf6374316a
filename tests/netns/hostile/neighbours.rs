//! The pod next door, with all the capabilities a container may have: CAP_NET_RAW, marks, transparent binds.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use weir_tests::peers::listening_ports;

use crate::scene::{ECHO, HTTP, POUR, Scene};

/// The mark the agent puts on its own sockets.
const MARK: u32 = 0x7765_6972;
const PATIENCE: Duration = Duration::from_secs(3);

struct Way {
    from: Option<IpAddr>,
    mark: Option<u32>,
}

impl Way {
    /// Connects from inside a pod and tries to have four bytes echoed. Gives our address.
    fn echo(&self, scene: &Scene, pod: &str, to: SocketAddr) -> std::io::Result<SocketAddr> {
        let connect = || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            if let Some(mark) = self.mark {
                socket.set_mark(mark)?;
            }
            if let Some(ip) = self.from {
                // Linux keeps one flag for both families: an IPv6 socket takes IPv4's option.
                socket.set_ip_transparent_v4(true)?;
                socket.bind(&SocketAddr::new(ip, 0).into())?;
            }
            socket.connect_timeout(&to.into(), PATIENCE)?;
            std::io::Result::Ok(TcpStream::from(socket))
        };
        let mut stream = scene.topology.pod(pod).netns().run(connect).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"echo")?;
        let mut back = [0; 4];
        stream.read_exact(&mut back)?;
        assert_eq!(&back, b"echo");
        stream.local_addr()
    }
}

#[test]
fn the_agents_mark_on_a_pods_own_socket_opens_nothing() {
    let scene = Scene::new();
    for server in scene.server() {
        let way = Way { from: None, mark: Some(MARK) };
        // From the mesh: caught as ever, so the other side knows who it is.
        let from = way.echo(&scene, "client", SocketAddr::new(*server, ECHO));
        // In the client's pod the mark leads replies into the agent's routing: the connection may fail, but not slip by.
        match from {
            Ok(from) => {
                let line = scene.logged(&["connection complete", "inbound", &from.ip().to_string()]);
                assert!(line.contains("src.identity=\"spiffe://cluster.local/ns/default/sa/client\""), "{line}");
            }
            Err(error) => println!("from the client: {error}"),
        }
        // From outside the mesh: it goes through the agent as anybody's plaintext does.
        let from = way.echo(&scene, "stranger", SocketAddr::new(*server, ECHO)).unwrap();
        let line = scene.logged(&["connection complete", &from.to_string(), "inbound"]);
        assert!(!line.contains("src.identity"), "{line}");
    }
    let plain = scene
        .log()
        .lines()
        .filter(|line| line.contains("connection complete") && !line.contains("src.identity"))
        .count();
    assert_eq!(plain, 2, "the stranger's two connections and no others are in plaintext:\n{}", scene.log());
}

#[test]
fn another_pods_address_gets_nobody_anywhere() {
    let scene = Scene::new();
    for server in scene.server() {
        let client = scene.address("client", *server);
        for (pod, from, to, mark) in [
            // In the name of a pod of the mesh, from outside of it and from another pod in it, to the application and to HBONE.
            ("stranger", client, SocketAddr::new(*server, ECHO), None),
            ("stranger", client, SocketAddr::new(*server, ECHO), Some(MARK)),
            ("client", scene.address("stranger", *server), SocketAddr::new(*server, ECHO), None),
            ("client", scene.address("stranger", *server), SocketAddr::new(*server, ECHO), Some(MARK)),
            ("client", *server, SocketAddr::new(*server, ECHO), Some(MARK)),
        ] {
            let outcome = Way { from: Some(from), mark }.echo(&scene, pod, to);
            assert!(outcome.is_err(), "{pod} as {from} with mark {mark:?} reached {to}");
        }
    }
    let log = scene.log();
    assert!(!log.contains("connection complete"), "somebody got in:\n{log}");
    scene.all_is_well();
}

#[test]
fn the_agents_listeners_in_a_pod_serve_nobody_who_comes_by_hand() {
    let scene = Scene::new();
    let apps = [ECHO, HTTP, POUR];
    let way = Way { from: None, mark: None };
    for (number, server) in scene.server().iter().enumerate() {
        for of in ["server", "client"] {
            let pod = scene.topology.pod(of);
            let mut ports: Vec<u16> =
                listening_ports(pod.netns()).unwrap().into_iter().filter(|port| !apps.contains(port)).collect();
            ports.sort_unstable();
            ports.dedup();
            assert!(ports.len() >= 3, "{ports:?}");
            ports.extend([15001, 15006]);
            for port in ports {
                let to = SocketAddr::new(scene.address(of, *server), port);
                // From next door, from another pod of the mesh, and from the pod itself.
                for from in ["stranger", "client", "server"] {
                    let outcome = way.echo(&scene, from, to);
                    assert!(outcome.is_err(), "{from} was served at {to} of {of}, round {number}");
                }
            }
        }
    }
    let log = scene.log();
    assert!(!log.contains("connection complete"), "somebody was served:\n{log}");
    scene.logged(&["connection failed", "belongs to the mesh"]);
    scene.all_is_well();
}
