//! What connections of every kind become in the mesh: where they arrive, from whom, and how they end.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use socket2::SockRef;
use weir_testbed::work::ConnectReport;
use weir_testbed::{NamespaceSpec, PodSpec, ServiceSpec, Sniffer, Topology, WIRE, labels, run_to_end};
use weir_tests::{
    Bed, PATIENCE, Server, bed_command, clean_end, client_seen, connect, eventually, kernel_decisions, refused, reset,
    talk, unheard,
};

const NEEDLE: &str = "the-password-is-swordfish";

#[test]
fn a_service_is_spread_over_its_ready_endpoints_and_no_others() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.add_pod(PodSpec::new("client", 0))?;
    for (name, node) in [("near", 0), ("far", 1), ("away", 1)] {
        topology.add_pod(PodSpec::new(name, node).label("tier", "shop"))?;
    }
    topology.change_pod("away", |pod| pod.ready = false)?;
    let vips = topology.add_service(ServiceSpec {
        name: "shop".into(),
        namespace: "default".into(),
        selector: labels([("tier", "shop")]),
        ports: vec![("http".into(), 80, 8080)],
    })?;
    let mut bed = Bed::on(topology, &[])?;
    let ask = |bed: &Bed| -> anyhow::Result<BTreeMap<String, usize>> {
        let mut seen = BTreeMap::new();
        for number in 0..60 {
            let client = bed.topology.pod("client");
            let (name, from) = client_seen(client.netns(), SocketAddr::new(vips[number % 2], 80), "/")?;
            ensure!(client.addresses().contains(&from), "{name} takes the client for {from}");
            *seen.entry(name).or_insert(0) += 1;
        }
        Ok(seen)
    };
    let names = |seen: &BTreeMap<String, usize>| seen.keys().cloned().collect::<Vec<_>>().join(" ");
    let seen = ask(&bed)?;
    // Sixty fair coins miss one side once in 10^18.
    ensure!(names(&seen) == "far near", "{seen:?}");
    let wire = bed.topology.nodes()[0].netns();
    for vip in vips {
        let asked = || {
            for _ in 0..20 {
                client_seen(bed.topology.pod("client").netns(), SocketAddr::new(vip, 80), &format!("/{NEEDLE}"))?;
            }
            Ok(())
        };
        let ((), heard) = unheard(wire, WIRE, NEEDLE, asked)?;
        ensure!((heard.needle_hits, heard.other_connections) == (0, 0), "{vip}: {heard:?}");
    }

    bed.topology.change_pod("near", |pod| pod.ready = false)?;
    bed.topology.change_pod("away", |pod| pod.ready = true)?;
    eventually("the service follows readiness", || Ok(names(&ask(&bed)?) == "away far"))?;
    for name in ["far", "away"] {
        bed.topology.change_pod(name, |pod| pod.ready = false)?;
    }
    eventually("a service with nobody behind it refuses", || {
        refused(bed.topology.pod("client").netns(), SocketAddr::new(vips[0], 80)).map(|()| true)
    })?;
    refused(bed.topology.pod("client").netns(), SocketAddr::new(vips[1], 80))?;
    // A port the service does not have.
    for vip in vips {
        refused(bed.topology.pod("client").netns(), SocketAddr::new(vip, 81))?;
    }
    bed.mesh.stop()
}

#[test]
fn whoever_talks_to_whom_is_seen_as_himself_and_readable_only_outside_the_mesh() -> anyhow::Result<()> {
    let bed = Bed::start(
        [
            PodSpec::new("one", 0),
            PodSpec::new("two", 0),
            PodSpec::new("three", 1),
            PodSpec::new("plain-near", 0).unenrolled(),
            PodSpec::new("plain-far", 1).unenrolled(),
        ],
        &[],
    )?;
    let mut looked = 0;
    let all = ["one", "two", "three", "plain-near", "plain-far"];
    for (from, to) in all.into_iter().flat_map(|from| all.map(|to| (from, to))).filter(|(from, to)| from != to) {
        let client = bed.topology.pod(from);
        let hidden = !from.starts_with("plain") && !to.starts_with("plain");
        for target in bed.http(to) {
            // At the pod's own link everything passes, also what never leaves the node.
            let ear = Sniffer::start(client.netns(), "eth0", NEEDLE.as_bytes())?;
            let ((name, seen), wire) = unheard(bed.topology.nodes()[0].netns(), WIRE, NEEDLE, || {
                client_seen(client.netns(), target, &format!("/{NEEDLE}"))
            })?;
            let heard = ear.stop()?;
            ensure!(name == to && client.addresses().contains(&seen), "{target} is {name} and takes {from} for {seen}");
            let hits = heard.needle_hits + wire.needle_hits;
            ensure!((hits == 0) == hidden, "{from} to {target}: {heard:?} {wire:?}");
            ensure!(!hidden || heard.other_connections == 0, "{from} to {target}: {heard:?}");
            looked += 1;
        }
    }
    ensure!(looked == 40, "{looked}");
    bed.mesh.stop()
}

#[test]
fn a_pod_reaches_itself_without_the_agent() -> anyhow::Result<()> {
    let mut bed = Bed::two(&[])?;
    let pod = bed.topology.pod("client");
    let own: Vec<SocketAddr> = bed.http("client");
    for to in &own {
        let (name, seen) = client_seen(pod.netns(), *to, "/")?;
        ensure!(name == "client" && seen == to.ip(), "{to}: {name} {seen}");
    }
    let netns = weir_netlink::NetNs::open(pod.netns_path())?;
    bed.kill_agent(0)?;
    for to in own {
        client_seen(&netns, to, "/").context("its own addresses need no agent")?;
    }
    Ok(())
}

#[test]
fn only_the_named_process_of_the_node_reaches_pods_past_the_agent() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    for (name, node) in [("server", 0), ("neighbour", 0), ("remote", 1)] {
        topology.add_pod(PodSpec::new(name, node))?;
    }
    topology.add_pod(PodSpec::new("outsider", 0).unenrolled())?;
    // This very process plays the kubelet; programs it starts are other processes.
    let me = std::process::id().to_string();
    let mut bed = Bed::on(topology, &["--host-process", &me])?;
    let node = weir_netlink::NetNs::open(bed.topology.nodes()[0].netns_path())?;
    let targets = bed.http("server");
    let unnamed = |bed: &Bed, to: SocketAddr| -> anyhow::Result<String> {
        let command = bed_command(&["get", "--to", &to.to_string()])?;
        run_to_end(bed.topology.nodes()[0].netns(), command, PATIENCE)
    };
    let gateway = |to: SocketAddr| if to.is_ipv4() { "10.244.1.1" } else { "fd00:10:244:1::1" };
    for to in &targets {
        let direct = kernel_decisions(&bed.topology, 0, "passed_host")?;
        let (_, seen) = client_seen(&node, *to, "/")?;
        ensure!(seen.to_string() == gateway(*to), "{to} takes the node for {seen}");
        eventually("the kernel counts a pass", || Ok(kernel_decisions(&bed.topology, 0, "passed_host")? > direct))?;
        let caught = kernel_decisions(&bed.topology, 0, "to_inbound")?;
        let answer = unnamed(&bed, *to)?;
        ensure!(answer.contains(gateway(*to)), "{to} takes the node for another: {answer}");
        eventually("the kernel counts a catch", || Ok(kernel_decisions(&bed.topology, 0, "to_inbound")? > caught))?;
    }
    // From inside pods the same process is nobody special.
    let passed = kernel_decisions(&bed.topology, 0, "passed_host")?;
    for from in ["neighbour", "outsider", "remote"] {
        for to in &targets {
            client_seen(bed.topology.pod(from).netns(), *to, "/")?;
        }
    }
    let fresh = kernel_decisions(&bed.topology, 0, "passed_agent")?;
    client_seen(bed.topology.pod("neighbour").netns(), targets[0], "/")?;
    eventually("the counters are up to date", || Ok(kernel_decisions(&bed.topology, 0, "passed_agent")? > fresh))?;
    ensure!(kernel_decisions(&bed.topology, 0, "passed_host")? == passed, "a pod passed as if it were the node");

    // Probes go on while the agent is away; nobody else gets in.
    bed.kill_agent(0)?;
    for to in &targets {
        client_seen(&node, *to, "/").context("a probe without an agent")?;
        let error = unnamed(&bed, *to).err().context("a process that is not named got in without an agent")?;
        ensure!(format!("{error:#}").contains("refused"), "{error:#}");
        for from in ["neighbour", "outsider"] {
            refused(bed.topology.pod(from).netns(), *to)?;
        }
    }
    Ok(())
}

/// The kinds of connection whose ends must look the same.
const PAIRS: [(&str, &str); 5] =
    [("one", "far"), ("one", "near"), ("one", "plain-far"), ("plain-near", "far"), ("plain-far", "near")];

fn five() -> [PodSpec; 5] {
    [
        PodSpec::new("one", 0),
        PodSpec::new("near", 0),
        PodSpec::new("far", 1),
        PodSpec::new("plain-near", 0).unenrolled(),
        PodSpec::new("plain-far", 1).unenrolled(),
    ]
}

/// Runs `check` on a new connection of each kind and family: the client's end, the application's end.
fn on_every_kind(
    bed: &Bed,
    port: u16,
    check: impl Fn(TcpStream, TcpStream) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for (from, to) in PAIRS {
        for at in bed.at(to, port) {
            let server = Server::open(bed.topology.pod(to), at)?;
            let client = connect(bed.topology.pod(from).netns(), at)?;
            let app = server.accept()?;
            check(client, app).with_context(|| format!("from {from} to {to} at {at}"))?;
        }
    }
    Ok(())
}

#[test]
fn addresses_first_words_and_ends_are_as_without_a_mesh() -> anyhow::Result<()> {
    let bed = Bed::start(five(), &[])?;
    on_every_kind(&bed, 7000, |mut client, mut app| {
        let (own, peer) = (client.local_addr()?, client.peer_addr()?);
        ensure!(peer == app.local_addr()?, "the client sees {peer}, the application is at {}", app.local_addr()?);
        ensure!(own.ip() == app.peer_addr()?.ip(), "the client is {own}, the application sees {}", app.peer_addr()?);
        talk(&mut client, &mut app, "hello")
    })
    .context("addresses")?;
    on_every_kind(&bed, 7001, |mut client, mut app| {
        app.write_all(b"220 ready\r\n")?;
        let mut banner = [0; 11];
        client.read_exact(&mut banner)?;
        ensure!(banner == *b"220 ready\r\n", "{banner:?}");
        talk(&mut client, &mut app, "helo")
    })
    .context("a server that speaks first")?;
    on_every_kind(&bed, 7002, |mut client, mut app| {
        client.write_all(b"all I have to say")?;
        client.shutdown(Shutdown::Write)?;
        ensure!(clean_end(&mut app)? == 17, "not all was heard");
        app.write_all(b"and this is the answer")?;
        app.shutdown(Shutdown::Write)?;
        ensure!(clean_end(&mut client)? == 22, "not all was heard");
        Ok(())
    })
    .context("the client ends first")?;
    on_every_kind(&bed, 7003, |mut client, mut app| {
        app.write_all(b"no more from me")?;
        app.shutdown(Shutdown::Write)?;
        ensure!(clean_end(&mut client)? == 15, "not all was heard");
        client.write_all(b"but I go on")?;
        client.shutdown(Shutdown::Write)?;
        ensure!(clean_end(&mut app)? == 11, "not all was heard");
        Ok(())
    })
    .context("the server ends first")?;
    bed.mesh.stop()
}

/// Closes with a reset.
fn cut(stream: TcpStream) -> anyhow::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

#[test]
fn a_reset_is_a_reset_at_the_other_end() -> anyhow::Result<()> {
    let bed = Bed::start(five(), &[])?;
    on_every_kind(&bed, 7000, |mut client, mut app| {
        talk(&mut client, &mut app, "hello")?;
        cut(client)?;
        reset(&mut app)
    })
    .context("by the client")?;
    on_every_kind(&bed, 7001, |mut client, mut app| {
        talk(&mut client, &mut app, "hello")?;
        cut(app)?;
        reset(&mut client)
    })
    .context("by the server")?;
    // Nobody listens there: the client learns it at once.
    for (from, to) in PAIRS {
        for at in bed.at(to, 7999) {
            refused(bed.topology.pod(from).netns(), at).with_context(|| format!("from {from} to {to}"))?;
        }
    }
    bed.mesh.stop()
}

#[test]
fn a_pod_of_another_namespace_is_reached_and_an_opted_out_one_is_not_tunnelled() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.set_namespace(NamespaceSpec {
        name: "shop".into(),
        labels: labels([("istio.io/dataplane-mode", "ambient")]),
    })?;
    topology.set_namespace(NamespaceSpec { name: "legacy".into(), labels: BTreeMap::new() })?;
    topology.add_pod(PodSpec::new("client", 0))?;
    topology.add_pod(PodSpec { namespace: "shop".into(), ..PodSpec::new("till", 1) })?;
    topology.add_pod(PodSpec { namespace: "legacy".into(), ..PodSpec::new("ledger", 1) })?;
    topology.add_pod(
        PodSpec { namespace: "legacy".into(), ..PodSpec::new("joined", 1) }.label("istio.io/dataplane-mode", "ambient"),
    )?;
    let bed = Bed::on(topology, &[])?;
    for (to, hidden) in [("till", true), ("ledger", false), ("joined", true)] {
        for at in bed.http(to) {
            let ask = || client_seen(bed.topology.pod("client").netns(), at, &format!("/{NEEDLE}"));
            let (_, heard) = unheard(bed.topology.nodes()[0].netns(), WIRE, NEEDLE, ask)?;
            ensure!((heard.needle_hits == 0) == hidden, "{to} at {at}: {heard:?}");
        }
    }
    bed.mesh.stop()
}

/// The agent delivers in the client's name, so its connection to the application is the mirror image of the client's own if
/// it chooses the client's port: the kernel would then give its SYN to the wrong socket.
#[test]
fn thousands_of_plain_connections_of_one_client_do_not_meet_their_own_deliveries() -> anyhow::Result<()> {
    let bed = Bed::start([PodSpec::new("inside", 0), PodSpec::new("outside", 0).unenrolled()], &[])?;
    let outside = bed.topology.pod("outside").netns();
    for at in bed.http("inside") {
        let at = at.to_string();
        let hold = bed_command(&["hold", "--connections", "3000", "--to", &at])?;
        let mut held = bed.topology.start_in_pod("outside", hold)?;
        held.wait_log("{\"open\":3000}", PATIENCE)?;
        let more = bed_command(&["connect", "--at-once", "8", "--seconds", "2", "--to", &at])?;
        let report: ConnectReport = serde_json::from_str(&run_to_end(outside, more, PATIENCE)?)?;
        ensure!(report.failed == 0 && report.ok > 0, "{at}: {report:?}");
        ensure!(held.is_running()?, "{at}: a held connection was cut");
    }
    Ok(())
}
