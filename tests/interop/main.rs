//! Envoy at the other end of our tunnels, in both directions: what it takes for HBONE is what we speak.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod envoy;
mod to_waypoint;
mod waypoints;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use weir_netlink::NetNs;
use weir_testbed::{PodSpec, Process, ServiceSpec, Topology, TopologySpec, labels};
use weir_tests::peers::{Agent, listening_ports, serve, until};

use crate::envoy::{Files, client, server, start};

const PATIENCE: Duration = Duration::from_secs(60);
const HBONE: u16 = 15008;
/// Sends back what it gets.
const ECHO: u16 = 7000;
/// Reads to the end, then says how much it was.
const COUNT: u16 = 7001;
/// Envoy's own ports, for what it shall tunnel.
const TO_ECHO: u16 = 9000;
const TO_COUNT: u16 = 9001;
/// More than any window on the way.
const MUCH: usize = 24 << 20;

/// A client and a server on a node with an agent; a pod elsewhere whose HBONE is Envoy's, for that node has no agent of ours.
struct Scene {
    agent: Agent,
    _apps: Vec<Process>,
    topology: Topology,
}

impl Scene {
    fn new() -> Self {
        let mut topology = Topology::new(TopologySpec::default()).unwrap();
        topology.add_pod(PodSpec::new("client", 0)).unwrap();
        topology.add_pod(PodSpec::new("server", 0)).unwrap();
        topology.add_pod(PodSpec::new("foreign", 1)).unwrap();
        let selector = labels([("app", "foreign")]);
        let ports = vec![("echo".into(), 80, ECHO), ("count".into(), 81, COUNT)];
        topology.add_service(ServiceSpec { name: "far".into(), namespace: "default".into(), selector, ports }).unwrap();
        let mut apps = Vec::new();
        for pod in ["server", "foreign"] {
            apps.push(serve(&topology, pod, &["serve-tcp", "--mode", "echo"], ECHO).unwrap());
            apps.push(serve(&topology, pod, &["serve-tcp", "--mode", "half-close"], COUNT).unwrap());
        }
        let mut agent = Agent::start(&topology, 0, &[]).unwrap();
        let ready = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 15021);
        agent.process.wait_ready(ready, "/healthz/ready", PATIENCE).unwrap();
        Self { agent, _apps: apps, topology }
    }

    fn addresses(&self, pod: &str) -> &[IpAddr] {
        self.topology.pod(pod).addresses()
    }

    fn listens(&self, envoy: &mut Process, ports: &[u16]) {
        until("Envoy's listening", || {
            anyhow::ensure!(envoy.is_running()?, "{}", envoy.log());
            let open = listening_ports(self.topology.pod("foreign").netns())?;
            Ok(ports.iter().all(|port| open.iter().filter(|other| *other == port).count() == 2))
        })
        .unwrap();
    }
}

fn dial(netns: &NetNs, to: SocketAddr) -> TcpStream {
    let stream = netns.run(|| TcpStream::connect(to)).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends much, reads the same back meanwhile, and ends one direction before the other.
fn echoes(netns: &NetNs, to: SocketAddr) {
    let mut stream = dial(netns, to);
    let sent: Vec<u8> = (0..MUCH).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[2]).collect();
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        let mut write = stream.try_clone().unwrap();
        let sent = &sent;
        scope.spawn(move || {
            write.write_all(sent).unwrap();
            write.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut back).unwrap();
    });
    assert!(back == sent, "{} bytes of {} came back, or others", back.len(), sent.len());
}

/// The answer comes only after the end of what is asked.
fn counts(netns: &NetNs, to: SocketAddr) {
    let mut stream = dial(netns, to);
    stream.write_all(&[7; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "received 100000 bytes, sum 700000\n");
}

#[test]
fn envoys_tunnels_end_in_a_pod_of_ours() {
    let scene = Scene::new();
    let files = Files::new(&scene.topology, "foreign");
    let mut parts = Vec::new();
    for (own, to) in scene.addresses("foreign").iter().zip(scene.addresses("server")) {
        for (port, app) in [(TO_ECHO, ECHO), (TO_COUNT, COUNT)] {
            let name = format!("{own} {port}");
            let (at, hop, app) = (SocketAddr::new(*own, port), SocketAddr::new(*to, HBONE), SocketAddr::new(*to, app));
            parts.push(client(&files, &name, at, hop, app, "spiffe://cluster.local/ns/default/sa/server"));
        }
    }
    let mut envoy = start(&scene.topology, "foreign", parts);
    scene.listens(&mut envoy, &[TO_ECHO, TO_COUNT]);
    let netns = scene.topology.pod("foreign").netns();
    for own in scene.addresses("foreign") {
        for _ in 0..3 {
            echoes(netns, SocketAddr::new(*own, TO_ECHO));
            counts(netns, SocketAddr::new(*own, TO_COUNT));
        }
    }
    let complete = || {
        let log = scene.agent.process.log();
        log.lines()
            .filter(|line| line.contains("connection complete") && line.contains("inbound"))
            .filter(|line| line.contains("src.identity=\"spiffe://cluster.local/ns/default/sa/foreign\""))
            .filter(|line| line.contains("src.workload=\"foreign\"") && !line.contains("error="))
            .count()
    };
    let all = until("twelve lines of log", || Ok(complete() == 12));
    all.unwrap_or_else(|error| panic!("{error}: {}\n{}", scene.agent.process.log(), envoy.log()));
}

#[test]
fn our_tunnels_end_in_an_envoy() {
    let scene = Scene::new();
    let files = Files::new(&scene.topology, "foreign");
    let mut parts = Vec::new();
    for own in scene.addresses("foreign") {
        // Envoy shares a port among listeners of one address only if told to: one listener, two hosts.
        let (mut listener, mut clusters) =
            server(&files, &format!("{own} echo"), SocketAddr::new(*own, HBONE), SocketAddr::new(*own, ECHO));
        let (count, more) =
            server(&files, &format!("{own} count"), SocketAddr::new(*own, HBONE), SocketAddr::new(*own, COUNT));
        let hosts = "/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts";
        let second = count.pointer(hosts).unwrap()[0].clone();
        listener.pointer_mut(hosts).unwrap().as_array_mut().unwrap().push(second);
        clusters.extend(more);
        parts.push((listener, clusters));
    }
    let mut envoy = start(&scene.topology, "foreign", parts);
    scene.listens(&mut envoy, &[HBONE]);
    let netns = scene.topology.pod("client").netns();
    let vips = scene.topology.cluster_ips("far");
    for (own, vip) in scene.addresses("foreign").iter().zip(vips) {
        for _ in 0..3 {
            echoes(netns, SocketAddr::new(*own, ECHO));
            counts(netns, SocketAddr::new(*own, COUNT));
            counts(netns, SocketAddr::new(vip, 81));
        }
    }
    let told = |words: &[&str]| {
        let found = until("what Envoy saw", || {
            Ok(envoy.log().lines().any(|line| words.iter().all(|word| line.contains(word))))
        });
        found.unwrap_or_else(|error| panic!("{error}: {words:?}\n{}\n{}", envoy.log(), scene.agent.process.log()));
    };
    let identity = "peer=spiffe://cluster.local/ns/default/sa/client tls=TLSv1.3";
    for (own, from) in scene.addresses("foreign").iter().zip(scene.addresses("client")) {
        let (seen, remote) = (format!("SEEN CONNECT {}", SocketAddr::new(*own, COUNT)), format!("remote={from}"));
        let forwarded = format!("forwarded=for=\"{}", SocketAddr::new(*from, 0).to_string().trim_end_matches('0'));
        told(&[&seen, "code=200", identity, &remote, &forwarded, "k8s.namespace.name=default", "trace=00-"]);
        told(&[&seen, "code=200", "host=far.default.svc.cluster.local"]);
    }
    refused_by_envoy(&scene, &envoy);
}

/// Envoy has no such host: 404, and our agent says so and resets the client.
fn refused_by_envoy(scene: &Scene, envoy: &Process) {
    let to = SocketAddr::new(scene.addresses("foreign")[0], 7999);
    let mut stream = dial(scene.topology.pod("client").netns(), to);
    let ended = stream.read(&mut [0; 1]);
    assert!(ended.is_err(), "{ended:?}\n{}", envoy.log());
    let log = || scene.agent.process.log();
    let line = until("the log line", || Ok(log().contains("the peer answered 404")));
    line.unwrap_or_else(|error| panic!("{error}\n{}", log()));
}

/// A certificate of our root that is somebody else's: the client's agent must not talk to it.
#[test]
fn an_envoy_with_another_workloads_certificate_gets_nothing_from_us() {
    let scene = Scene::new();
    let files = Files::new(&scene.topology, "impostor");
    let parts = scene
        .addresses("foreign")
        .iter()
        .map(|own| server(&files, &own.to_string(), SocketAddr::new(*own, HBONE), SocketAddr::new(*own, ECHO)));
    let mut envoy = start(&scene.topology, "foreign", parts.collect());
    scene.listens(&mut envoy, &[HBONE]);
    for own in scene.addresses("foreign") {
        let mut stream = dial(scene.topology.pod("client").netns(), SocketAddr::new(*own, ECHO));
        // Whichever call meets the reset; the next would see an ordinary end.
        let outcome = stream.write_all(b"secret").and_then(|()| stream.read(&mut [0; 1]));
        assert!(outcome.is_err(), "{outcome:?}");
        let words = [
            "connection failed",
            &own.to_string(),
            "sa/impostor, expected spiffe://cluster.local/ns/default/sa/foreign",
        ];
        let log = || scene.agent.process.log();
        let line = until("the log line", || Ok(log().lines().any(|line| words.iter().all(|word| line.contains(word)))));
        line.unwrap_or_else(|error| panic!("{error}\n{}", log()));
    }
    assert!(!envoy.log().contains("SEEN"), "{}", envoy.log());
}
