//! A client and a server in the mesh on two nodes, a legacy server outside of it, and a service with nothing behind it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use weir_netlink::NetNs;
use weir_testbed::{Answer, Mesh, PodSpec, Process, ServiceSpec, Topology, TopologySpec, http_get, labels};
use weir_tests::peers::{agent, serve, until};

/// Sends back what it gets.
pub(crate) const ECHO: u16 = 7000;
/// The echo server's port of the service.
pub(crate) const PORT: u16 = 80;

pub(crate) struct Scene {
    pub(crate) mesh: Mesh,
    _apps: Vec<Process>,
    pub(crate) topology: Topology,
}

impl Scene {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let mut topology = Topology::new(TopologySpec::default()).unwrap();
        topology.add_pod(PodSpec::new("client", 0).label("version", "v1")).unwrap();
        topology.add_pod(PodSpec::new("server", 1)).unwrap();
        topology.add_pod(PodSpec::new("legacy", 1).unenrolled()).unwrap();
        for (name, app) in [("shop", "server"), ("void", "nobody")] {
            let (name, selector) = (name.to_owned(), labels([("app", app)]));
            let ports = vec![("echo".to_owned(), PORT, ECHO)];
            topology.add_service(ServiceSpec { name, namespace: "default".into(), selector, ports }).unwrap();
        }
        let apps =
            ["server", "legacy"].map(|pod| serve(&topology, pod, &["serve-tcp", "--mode", "echo"], ECHO).unwrap());
        let mesh = Mesh::start(&topology, &agent().unwrap(), flags).unwrap();
        Self { mesh, _apps: apps.into(), topology }
    }

    pub(crate) fn addresses(&self, pod: &str) -> [IpAddr; 2] {
        self.topology.pod(pod).addresses().try_into().unwrap()
    }

    /// Has `count` bytes echoed, to the end of the connection. Gives our address.
    pub(crate) fn echo(&self, from: &str, to: SocketAddr, count: usize) -> SocketAddr {
        let mut stream = dial(self.topology.pod(from).netns(), to).unwrap();
        stream.write_all(&vec![b'x'; count]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back.len(), count);
        stream.local_addr().unwrap()
    }

    /// A connection that must not come about, or end at once.
    pub(crate) fn refused(&self, from: &str, to: SocketAddr) {
        if let Ok(mut stream) = dial(self.topology.pod(from).netns(), to) {
            // Whichever call meets the reset; the next would see an ordinary end.
            let outcome = stream.write_all(b"x").and_then(|()| stream.read(&mut [0; 1]));
            assert!(outcome.is_err(), "{to} was served: {outcome:?}");
        }
    }

    /// Waits for a line of a node's log with all of `words` in it.
    pub(crate) fn logged(&self, node: usize, words: &[&str]) -> String {
        let log = || self.mesh.agent(node).log();
        let find = || log().lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
        let found = until("a log line", || Ok(find().is_some()));
        found.unwrap_or_else(|error| panic!("{error}: {words:?}\n{}", log()));
        find().unwrap()
    }

    /// GET on a node's own loopback.
    pub(crate) fn get(&self, node: usize, port: u16, path: &str) -> Answer {
        http_get(self.topology.nodes()[node].netns(), own(port), path).unwrap()
    }
}

pub(crate) fn own(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)
}

pub(crate) fn dial(netns: &NetNs, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = netns.run(|| TcpStream::connect(to)).unwrap()?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Sends a request as it is and gives the whole answer.
pub(crate) fn raw(netns: &NetNs, to: SocketAddr, request: &str) -> String {
    let mut stream = dial(netns, to).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
