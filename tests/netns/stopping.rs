//! Agents that stop, die, come back, are replaced, and are taken out for good.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use weir_netlink::{Family, NetNs, Rtnl, read_sysctl};
use weir_testbed::work::ConnectReport;
use weir_testbed::{PodSpec, Process, Sniffer, Topology, WIRE};
use weir_tests::{
    Bed, PATIENCE, Server, bed_command, clean_end, clean_up, client_seen, connect, eventually, metric, own, refused,
    reset, talk, unheard,
};

const NEEDLE: &str = "nobody-must-read-this";

/// Connections through the mesh from `client` to `server` over both families, held open.
fn open(bed: &Bed, port: u16) -> anyhow::Result<Vec<(TcpStream, TcpStream)>> {
    bed.at("server", port)
        .into_iter()
        .map(|at| {
            let server = Server::open(bed.topology.pod("server"), at)?;
            let mut client = connect(bed.topology.pod("client").netns(), at)?;
            let mut app = server.accept()?;
            talk(&mut client, &mut app, "hello")?;
            Ok((client, app))
        })
        .collect()
}

/// Asks until nobody answers any more, but refuses.
fn wait_refused(bed: &Bed, from: &str, to: SocketAddr) -> anyhow::Result<()> {
    eventually(&format!("{from} is refused at {to}"), || refused(bed.topology.pod(from).netns(), to).map(|()| true))
}

#[test]
fn an_agent_told_to_stop_lets_open_connections_end_and_refuses_new_ones() -> anyhow::Result<()> {
    for node in [0, 1] {
        let mut bed = Bed::two(&["--drain", "50s"])?;
        let connections = open(&bed, 7000)?;
        bed.mesh.agent(node).signal(Signal::SIGTERM)?;
        for to in bed.http("server") {
            wait_refused(&bed, "client", to)?;
        }
        let payload = vec![b'x'; 3 << 20];
        for (mut client, mut app) in connections {
            talk(&mut client, &mut app, "still here")?;
            let received = std::thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut bytes = Vec::new();
                    client.read_to_end(&mut bytes).map(|_| bytes.len())
                });
                app.write_all(&payload)?;
                app.shutdown(Shutdown::Write)?;
                reader.join().expect("the reader does not panic").map_err(anyhow::Error::from)
            })?;
            ensure!(received == payload.len(), "{received} bytes of the transfer arrived");
            ensure!(bed.mesh.agent_mut(node).is_running()?, "it ended under an open connection");
            client.shutdown(Shutdown::Write)?;
            ensure!(clean_end(&mut app)? == 0, "more came than was said");
        }
        // Long before the drain time is over, for nothing is open any more.
        let began = Instant::now();
        let status = bed.mesh.agent_mut(node).wait(PATIENCE)?;
        ensure!(status.success(), "{status}\n{}", bed.mesh.agent(node).log());
        ensure!(began.elapsed().as_secs() < 25, "it waited {:?} for nothing", began.elapsed());
    }
    Ok(())
}

#[test]
fn when_the_drain_time_is_over_what_is_open_is_reset() -> anyhow::Result<()> {
    for node in [0, 1] {
        let mut bed = Bed::two(&["--drain", "1s"])?;
        let connections = open(&bed, 7000)?;
        bed.mesh.agent(node).signal(Signal::SIGTERM)?;
        for (mut client, mut app) in connections {
            reset(&mut client).with_context(|| format!("the client, agent {node} stopping"))?;
            reset(&mut app).with_context(|| format!("the application, agent {node} stopping"))?;
        }
        let status = bed.mesh.agent_mut(node).wait(PATIENCE)?;
        ensure!(status.success(), "{status}\n{}", bed.mesh.agent(node).log());
    }
    Ok(())
}

#[test]
fn a_dead_agent_leaves_its_pods_refusing_and_the_next_one_takes_them_over() -> anyhow::Result<()> {
    let mut bed = Bed::start(
        [
            PodSpec::new("client", 0),
            PodSpec::new("server", 1),
            PodSpec::new("outside", 0).unenrolled(),
            PodSpec::new("beyond", 1).unenrolled(),
        ],
        &[],
    )?;
    let pins = pinned(&bed.topology.bpf_dir(0))?;
    for _ in 0..2 {
        let ear = Sniffer::start(bed.topology.nodes()[0].netns(), WIRE, NEEDLE.as_bytes())?;
        let held = open(&bed, 7000)?;
        bed.kill_agent(0)?;
        for (mut client, mut app) in held {
            reset(&mut client).context("beside the agent that was killed")?;
            reset(&mut app).context("far from the agent that was killed")?;
        }
        for to in bed.http("server").into_iter().chain(bed.http("beyond")) {
            refused(bed.topology.pod("client").netns(), to).context("out of a pod without an agent")?;
            let mut words = TcpWords::new(&bed.topology, "client", to);
            ensure!(words.say(NEEDLE).is_err(), "somebody took the words at {to}");
        }
        for to in bed.http("client") {
            for from in ["server", "outside", "beyond"] {
                refused(bed.topology.pod(from).netns(), to).context("into a pod without an agent")?;
                let mut words = TcpWords::new(&bed.topology, from, to);
                ensure!(words.say(NEEDLE).is_err(), "somebody took the words at {to}");
            }
        }
        // Those who are not in the mesh are not in its agent's hands.
        for to in bed.http("beyond") {
            client_seen(bed.topology.pod("outside").netns(), to, "/")?;
        }
        let heard = ear.stop()?;
        ensure!((heard.needle_hits, heard.lost) == (0, 0), "{heard:?}");
        ensure!(pinned(&bed.topology.bpf_dir(0))? == pins, "the pins changed although nobody was there");

        // The next agent: until it is ready pods are refused, never plain, and from then on all is well.
        let ear = Sniffer::start(bed.topology.nodes()[0].netns(), WIRE, NEEDLE.as_bytes())?;
        let mut next = bed.start_agent(0, &[])?;
        for to in bed.http("server") {
            eventually("the pod talks again", || {
                let (_, seen) = client_seen(bed.topology.pod("client").netns(), to, &format!("/{NEEDLE}"))?;
                ensure!(bed.topology.pod("client").addresses().contains(&seen), "seen as {seen}");
                Ok(true)
            })?;
        }
        next.wait_ready(own(15021), "/healthz/ready", PATIENCE)?;
        *bed.mesh.agent_mut(0) = next;
        for to in bed.http("client") {
            for from in ["server", "outside", "beyond"] {
                client_seen(bed.topology.pod(from).netns(), to, "/")?;
            }
        }
        let heard = ear.stop()?;
        ensure!((heard.needle_hits, heard.lost) == (0, 0), "{heard:?}");
        ensure!(pinned(&bed.topology.bpf_dir(0))? == pins, "the next agent pinned beside what was there");
    }
    bed.mesh.stop()
}

/// Words sent without waiting for an answer, as a client would that trusts the network.
struct TcpWords<'t> {
    netns: &'t NetNs,
    to: SocketAddr,
}

impl<'t> TcpWords<'t> {
    fn new(topology: &'t Topology, from: &str, to: SocketAddr) -> Self {
        Self { netns: topology.pod(from).netns(), to }
    }

    fn say(&mut self, words: &str) -> anyhow::Result<()> {
        let mut stream = connect(self.netns, self.to)?;
        stream.write_all(words.as_bytes())?;
        stream.read_exact(&mut [0; 1])?;
        Ok(())
    }
}

/// All files of a folder of pins.
fn pinned(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(pinned(&path)?);
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    Ok(found)
}

/// Flags of a second agent on a node, whose own pages must be elsewhere.
const BESIDE: [&str; 6] =
    ["--stats-addr", "[::]:16020", "--ready-addr", "[::]:16021", "--admin-addr", "localhost:16000"];

/// A load of new connections that runs on its own.
fn load(bed: &Bed, from: &str, to: SocketAddr) -> anyhow::Result<Process> {
    let to = to.to_string();
    let mut command = bed_command(&["connect", "--at-once", "4", "--seconds", "12", "--to", &to])?;
    command.args(["--path", &format!("/{NEEDLE}")]);
    let logs = bed.topology.work_dir().join("logs");
    Process::start(bed.topology.pod(from).netns(), &format!("load-{from}-{to}"), command, &logs)
}

/// What agents logged of connections that failed; each node's agents share a log.
fn complaints(bed: &Bed) -> String {
    let logs = [0, 1].map(|node| bed.mesh.agent(node).log());
    let lines = logs.iter().flat_map(|log| log.lines());
    lines
        .filter(|line| ["error", "WARN", "ERROR"].iter().any(|word| line.contains(word)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn an_upgrade_under_load_refuses_nobody() -> anyhow::Result<()> {
    let mut bed = Bed::start(
        [PodSpec::new("client", 0), PodSpec::new("server", 1), PodSpec::new("outside", 0).unenrolled()],
        &["--drain", "30s"],
    )?;
    let ear = Sniffer::start(bed.topology.nodes()[0].netns(), WIRE, NEEDLE.as_bytes())?;
    let mut held = open(&bed, 7000)?;
    let mut loads = Vec::new();
    for (from, to) in [("client", "server"), ("server", "client"), ("outside", "client")] {
        for at in bed.http(to) {
            loads.push((format!("{from} to {at}"), load(&bed, from, at)?));
        }
    }
    let carried = |bed: &Bed, node| metric(&bed.topology, node, "istio_tcp_connections_opened_total", &[]);
    eventually("the load runs", || Ok(carried(&bed, 0)? > 50 && carried(&bed, 1)? > 50))?;
    for node in [0, 1] {
        let mut next = bed.start_agent(node, &BESIDE)?;
        next.wait_ready(own(16021), "/healthz/ready", PATIENCE)?;
        let mut old = std::mem::replace(bed.mesh.agent_mut(node), next);
        old.signal(Signal::SIGTERM)?;
        for (client, app) in &mut held {
            talk(client, app, "carried on by the old one")?;
        }
        ensure!(old.is_running()?, "the old agent left its connections");
        if node == 1 {
            for (mut client, app) in held.drain(..) {
                drop(app);
                clean_end(&mut client)?;
            }
        }
        // Each agent of the other node holds a part of them, too.
        if node == 1 {
            let status = old.wait(PATIENCE)?;
            ensure!(status.success(), "{status}\n{}", old.log());
        } else {
            loads.push(("the old agent".into(), old));
        }
    }
    for (name, mut process) in loads {
        let status = process.wait(PATIENCE * 2)?;
        ensure!(status.success(), "{name}: {status}\n{}", process.log());
        if let Some(line) = process.log().lines().find(|line| line.starts_with("{\"ok\"")) {
            let report: ConnectReport = serde_json::from_str(line)?;
            ensure!(report.failed == 0 && report.ok > 0, "{name}: {report:?}\n{}", complaints(&bed));
        }
    }
    let heard = ear.stop()?;
    ensure!(heard.needle_hits == 0, "{heard:?}");
    bed.mesh.stop()
}

/// What a namespace has of rules, routes and settings that an agent might change.
fn network_state(netns: &NetNs) -> anyhow::Result<BTreeMap<String, String>> {
    let mut rtnl = Rtnl::open_in(netns)?;
    let mut found = BTreeMap::new();
    for family in Family::BOTH {
        found.insert(format!("{family:?} rules"), format!("{:?}", rtnl.rules(family)?));
        for table in [15_008, 254] {
            let mut routes = rtnl.routes(family, table)?;
            // The kernel adds that of link-local addresses when it has made sure that nobody else has them.
            routes.retain(|route| !route.destination.to_string().starts_with("fe80"));
            found.insert(format!("{family:?} routes {table}"), format!("{routes:?}"));
        }
    }
    for name in ["tcp_fwmark_accept", "ip_nonlocal_bind", "ip_forward", "conf/all/rp_filter", "conf/all/route_localnet"]
    {
        found.insert(name.into(), read_sysctl(netns, &format!("net/ipv4/{name}"))?);
    }
    for family in ["ipv4", "ipv6"] {
        found.insert(format!("{family} reflect"), read_sysctl(netns, &format!("net/{family}/fwmark_reflect"))?);
    }
    Ok(found)
}

#[test]
fn cleanup_leaves_nothing_and_pods_talk_plainly() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    for (name, node) in [("client", 0), ("server", 1), ("other", 1)] {
        topology.add_pod(PodSpec::new(name, node))?;
    }
    let places = |topology: &Topology| -> anyhow::Result<Vec<BTreeMap<String, String>>> {
        let nodes = topology.nodes().iter().map(|node| network_state(node.netns()));
        nodes.chain(topology.pods().iter().map(|pod| network_state(pod.netns()))).collect()
    };
    let before = places(&topology)?;
    let mut bed = Bed::on(topology, &[])?;
    let connections = open(&bed, 7000)?;
    ensure!(places(&bed.topology)? != before, "the look is blind: an enrolled pod must look different");
    // One agent stops in order, one dies with connections open: cleanup cannot choose what it finds.
    drop(connections);
    bed.mesh.agent(0).signal(Signal::SIGTERM)?;
    bed.mesh.agent_mut(0).wait(PATIENCE)?;
    bed.kill_agent(1)?;
    for node in [0, 1] {
        let said = clean_up(&bed.topology, node)?;
        ensure!(!said.contains("removed 0 links"), "{said}");
        ensure!(!bed.topology.bpf_dir(node).exists(), "pins are left in {}", bed.topology.bpf_dir(node).display());
    }
    let after = places(&bed.topology)?;
    ensure!(after == before, "before {before:#?}\nafter {after:#?}");
    for (from, to) in [("client", "server"), ("server", "client"), ("other", "server")] {
        for at in bed.http(to) {
            let ask = || client_seen(bed.topology.pod(from).netns(), at, &format!("/{NEEDLE}"));
            let ((_, seen), heard) = unheard(bed.topology.nodes()[0].netns(), WIRE, NEEDLE, ask)?;
            ensure!(bed.topology.pod(from).addresses().contains(&seen), "{from} is seen as {seen}");
            ensure!(from == "other" || heard.needle_hits > 0, "{from} to {at} is not plain: {heard:?}");
        }
    }
    // Twice is as good as once.
    for node in [0, 1] {
        clean_up(&bed.topology, node)?;
    }
    Ok(())
}
