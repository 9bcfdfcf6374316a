//! A client and a server in the mesh, each on a node of its own, and a stranger outside the mesh beside the server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weir_testbed::{Mesh, PodSpec, Process, ServiceSpec, Topology, TopologySpec, http_get, labels};
use weir_tests::peers::{Ca, Http2, Leaf, agent, client, serve, until};

pub(crate) const HBONE: u16 = 15008;
/// Sends back what it gets.
pub(crate) const ECHO: u16 = 7000;
/// Pours out bytes without end.
pub(crate) const POUR: u16 = 7001;
/// Takes bytes in, one connection at a time is enough.
pub(crate) const HTTP: u16 = 8080;
/// The node of the server and of the stranger.
pub(crate) const NODE: usize = 1;

pub(crate) struct Scene {
    // Agents and programs end before their namespaces go.
    pub(crate) mesh: Mesh,
    _apps: Vec<Process>,
    pub(crate) topology: Topology,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let mut topology = Topology::new(TopologySpec::default()).unwrap();
        topology.add_pod(PodSpec::new("client", 0)).unwrap();
        topology.add_pod(PodSpec::new("server", NODE)).unwrap();
        topology.add_pod(PodSpec::new("stranger", NODE).unenrolled()).unwrap();
        let ports = [("http", HTTP), ("echo", ECHO)].map(|(name, port)| (name.to_owned(), port, port));
        let selector = labels([("app", "server")]);
        let service = ServiceSpec { name: "shop".into(), namespace: "default".into(), selector, ports: ports.into() };
        topology.add_service(service).unwrap();
        let apps = vec![
            serve(&topology, "server", &["serve-tcp", "--mode", "echo"], ECHO).unwrap(),
            serve(&topology, "server", &["serve-tcp", "--mode", "source"], POUR).unwrap(),
            serve(&topology, "server", &["serve-http", "--name", "server"], HTTP).unwrap(),
        ];
        let mesh = Mesh::start(&topology, &agent().unwrap(), &[]).unwrap();
        Self { mesh, _apps: apps, topology }
    }

    pub(crate) fn ca(&self) -> Ca {
        Ca::open(&self.topology.work_dir().join("ca")).unwrap()
    }

    /// A legal identity of the mesh, in the hands of the stranger.
    pub(crate) fn legal(&self) -> Arc<rustls::ClientConfig> {
        client(&self.ca().sign(&Leaf::new("cluster.local", "client")).unwrap()).unwrap()
    }

    /// The stranger's connection to the server's HBONE port, with a legal identity.
    pub(crate) fn peer(&self, server: IpAddr) -> Http2 {
        Http2::open(self.topology.pod("stranger").netns(), None, (server, HBONE).into(), &self.legal()).unwrap()
    }

    /// The server's addresses, IPv4 first.
    pub(crate) fn server(&self) -> &[IpAddr] {
        self.topology.pod("server").addresses()
    }

    /// The address of a pod in the family of `like`.
    pub(crate) fn address(&self, pod: &str, like: IpAddr) -> IpAddr {
        *self.topology.pod(pod).addresses().iter().find(|ip| ip.is_ipv4() == like.is_ipv4()).unwrap()
    }

    /// What the server's agent has logged.
    pub(crate) fn log(&self) -> String {
        self.mesh.agent(NODE).log()
    }

    /// Waits for a line in the log of the server's agent that has all of `words` in it, and returns it.
    pub(crate) fn logged(&self, words: &[&str]) -> String {
        let find = || self.log().lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
        let found = until("a log line", || Ok(find().is_some()));
        found.unwrap_or_else(|error| panic!("{error}: {words:?}\n{}", self.log()));
        find().unwrap()
    }

    /// Legal traffic through both agents, in both families; also a check that both agents live.
    pub(crate) fn all_is_well(&self) {
        for to in self.topology.cluster_ips("shop") {
            let answer = http_get(self.topology.pod("client").netns(), SocketAddr::new(to, HTTP), "/").unwrap();
            let client = self.address("client", to);
            assert!(answer.status == 200 && answer.body.contains(&client.to_string()), "{answer:?}");
        }
    }

    /// How many descriptors the server's agent holds.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.mesh.agent(NODE).pid())).unwrap().count()
    }

    /// Memory of the server's agent, in MiB.
    pub(crate) fn memory(&self) -> u64 {
        self.mesh.agent(NODE).resident_bytes().unwrap() >> 20
    }
}
