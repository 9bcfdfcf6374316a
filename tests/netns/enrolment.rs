//! Pods enter the mesh and leave it while they talk, appear, vanish, and come back as others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use weir_netlink::{Family, NetNs, Route, Rtnl, VethPeer, read_sysctl};
use weir_testbed::{NamespaceSpec, PodSpec, Removal, Stack, Topology, WIRE, labels};
use weir_tests::{
    Bed, Server, clean_end, clean_up, client_seen, connect, eventually, fetch, metric, own, pod_state, ready, refused,
    serve_http, talk, unheard, wait_state,
};

const NEEDLE: &str = "meet-me-behind-the-old-mill";

fn namespace(mode: Option<&str>) -> NamespaceSpec {
    let labels = mode.map_or_else(BTreeMap::new, |mode| labels([("istio.io/dataplane-mode", mode)]));
    NamespaceSpec { name: "default".into(), labels }
}

/// How often the needle passes the wire while a page is asked for with the needle in its path.
fn readable(topology: &Topology, from: &str, to: SocketAddr) -> anyhow::Result<u64> {
    let wire = topology.nodes()[0].netns();
    let ask = || client_seen(topology.pod(from).netns(), to, &format!("/{NEEDLE}"));
    let ((_, client), heard) = unheard(wire, WIRE, NEEDLE, ask)?;
    ensure!(topology.pod(from).addresses().contains(&client), "{to} takes {from} for {client}");
    Ok(heard.needle_hits)
}

fn routing(netns: &NetNs) -> anyhow::Result<(usize, usize, String)> {
    let mut rtnl = Rtnl::open_in(netns)?;
    let (mut rules, mut routes) = (0, 0);
    for family in Family::BOTH {
        rules += rtnl.rules(family)?.iter().filter(|rule| rule.table == 15_008).count();
        routes += rtnl.routes(family, 15_008)?.len();
    }
    Ok((rules, routes, read_sysctl(netns, "net/ipv4/tcp_fwmark_accept")?))
}

#[test]
fn a_label_moves_new_connections_and_leaves_open_ones_as_they_are() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.set_namespace(namespace(None))?;
    topology.add_pod(PodSpec::new("client", 0))?;
    topology.add_pod(PodSpec::new("server", 1))?;
    let mut bed = Bed::on(topology, &[])?;
    let untouched = routing(bed.topology.pod("client").netns())?;
    ensure!((untouched.0, untouched.1) == (0, 0), "{untouched:?}");
    let wire = NetNs::open(bed.topology.nodes()[0].netns_path())?;
    let mut before = Vec::new();
    for to in bed.at("server", 7000) {
        let server = Server::open(bed.topology.pod("server"), to)?;
        let mut client = connect(bed.topology.pod("client").netns(), to)?;
        let mut app = server.accept()?;
        talk(&mut client, &mut app, "hello")?;
        before.push((server, client, app));
    }
    for to in bed.http("server") {
        ensure!(readable(&bed.topology, "client", to)? > 0, "{to} is hidden although nobody is enrolled");
    }

    bed.topology.set_namespace(namespace(Some("ambient")))?;
    for (node, pod) in [(0, "client"), (1, "server")] {
        wait_state(&bed.topology, node, pod, "Enrolled")?;
    }
    let mut during = Vec::new();
    for (server, client, app) in &mut before {
        let (_, heard) = unheard(&wire, WIRE, NEEDLE, || talk(client, app, NEEDLE))?;
        ensure!(heard.needle_hits >= 4, "a connection from before the label must stay in plaintext: {heard:?}");
        let to = app.local_addr()?;
        let ((mut inside, mut at), heard) = unheard(&wire, WIRE, NEEDLE, || {
            let mut client = connect(bed.topology.pod("client").netns(), to)?;
            let mut app = server.accept()?;
            talk(&mut client, &mut app, NEEDLE)?;
            Ok((client, app))
        })?;
        ensure!((heard.needle_hits, heard.other_connections) == (0, 0), "{to} after the label: {heard:?}");
        talk(&mut inside, &mut at, "once more")?;
        during.push((inside, at));
    }
    for to in bed.http("server") {
        ensure!(readable(&bed.topology, "client", to)? == 0, "{to} is readable although both are enrolled");
    }
    let mutual = ["reporter=\"source\"", "connection_security_policy=\"mutual_tls\""];
    ensure!(metric(&bed.topology, 0, "istio_tcp_connections_opened_total", &mutual)? >= 4, "not seen as tunnelled");

    bed.topology.set_namespace(namespace(None))?;
    for (node, pod) in [(0, "client"), (1, "server")] {
        wait_state(&bed.topology, node, pod, "Leaving")?;
    }
    for (client, app) in &mut during {
        let (_, heard) = unheard(&wire, WIRE, NEEDLE, || talk(client, app, NEEDLE))?;
        ensure!(heard.needle_hits == 0, "a tunnelled connection must stay tunnelled: {heard:?}");
    }
    for to in bed.http("server") {
        ensure!(readable(&bed.topology, "client", to)? > 0, "{to} is hidden although nobody is enrolled any more");
    }
    for (mut client, mut app) in during.into_iter().chain(before.into_iter().map(|(_, client, app)| (client, app))) {
        talk(&mut client, &mut app, "the last words")?;
        drop(client);
        ensure!(clean_end(&mut app)? == 0, "more came than was said");
    }
    for (node, pod) in [(0, "client"), (1, "server")] {
        wait_state(&bed.topology, node, pod, "NotEnrolled")?;
        let left = routing(bed.topology.pod(pod).netns())?;
        ensure!(left == untouched, "{pod} was {untouched:?} and is left {left:?}");
    }
    bed.mesh.stop()
}

#[test]
fn none_on_a_pod_beats_its_namespace_at_any_time() -> anyhow::Result<()> {
    let pods = [PodSpec::new("client", 0), PodSpec::new("server", 1), PodSpec::new("neighbour", 1)];
    let mut bed = Bed::start(pods, &[])?;
    for (mode, state) in [("none", "NotEnrolled"), ("ambient", "Enrolled"), ("none", "NotEnrolled")] {
        bed.topology.change_pod("server", |pod| {
            pod.labels.insert("istio.io/dataplane-mode".into(), mode.into());
        })?;
        // Both agents must know: the one that serves it, and the one that would tunnel to it.
        wait_state(&bed.topology, 1, "server", state)?;
        for to in bed.http("server") {
            eventually(&format!("{to} answers as {state}"), || {
                let plain = readable(&bed.topology, "client", to)? > 0;
                Ok(plain == (state == "NotEnrolled"))
            })?;
        }
        for to in bed.http("neighbour") {
            ensure!(readable(&bed.topology, "client", to)? == 0, "its neighbour on the node is in the mesh");
        }
        // On the very node, where the outsider is a neighbour of pods of the mesh.
        for to in bed.http("neighbour") {
            client_seen(bed.topology.pod("server").netns(), to, "/")?;
        }
    }
    bed.mesh.stop()
}

#[test]
fn a_pod_that_vanishes_and_comes_back_is_met_as_who_it_is_now() -> anyhow::Result<()> {
    let mut bed = Bed::two(&[])?;
    let addresses = bed.topology.pod("server").addresses().to_vec();
    let all = bed.http("server");
    let mut name = "server".to_owned();
    for (order, next) in [
        (Removal::ObjectFirst, "server"),
        (Removal::NetnsFirst, "server"),
        (Removal::ObjectFirst, "heir"),
        (Removal::NetnsFirst, "usurper"),
    ] {
        let mut open = Vec::new();
        for to in &all {
            let seen = client_seen(bed.topology.pod("client").netns(), *to, "/")?;
            ensure!(seen.0 == name, "{to} is {} and not {name}", seen.0);
            let server = Server::open(bed.topology.pod(&name), SocketAddr::new(to.ip(), 7000))?;
            let mut client = connect(bed.topology.pod("client").netns(), SocketAddr::new(to.ip(), 7000))?;
            let mut app = server.accept()?;
            talk(&mut client, &mut app, "still there?")?;
            open.push((client, app));
        }
        bed.servers.pop();
        // A pod's processes end before its network goes.
        for (mut client, app) in open {
            drop(app);
            clean_end(&mut client).with_context(|| format!("the application in {name} is gone"))?;
        }
        bed.topology.remove_pod(&name, order)?;
        eventually("the agent forgets the pod", || Ok(pod_state(&bed.topology, 1, &name)?.is_none()))?;
        let spec = PodSpec::new(next, 1);
        bed.topology.add_pod_at(spec, addresses.clone())?;
        bed.servers.push(serve_http(&bed.topology, next)?);
        name = next.into();
        wait_state(&bed.topology, 1, next, "Enrolled")?;
        for to in &all {
            // The client's agent may read the folder a moment later than the server's.
            eventually(&format!("{next} is met at {to}"), || {
                let seen = client_seen(bed.topology.pod("client").netns(), *to, "/")?;
                ensure!(seen.0 == next, "it is {}", seen.0);
                Ok(true)
            })?;
            // Until the client's agent has read of it, the address belongs to nobody of the mesh.
            eventually(&format!("{to} is tunnelled to"), || Ok(readable(&bed.topology, "client", *to)? == 0))?;
        }
        let principal = format!("destination_principal=\"spiffe://cluster.local/ns/default/sa/{next}\"");
        let labels = ["reporter=\"source\"", &principal];
        ensure!(
            metric(&bed.topology, 0, "istio_tcp_connections_opened_total", &labels)? > 0,
            "{next} was not met under its own name"
        );
    }
    bed.mesh.stop()
}

#[test]
fn pods_of_one_family_or_of_many_addresses_are_reached_and_caught_at_every_address() -> anyhow::Result<()> {
    let pods = [
        PodSpec { addresses: 3, ..PodSpec::new("many", 0) },
        PodSpec { stack: Stack::V4, ..PodSpec::new("four", 1) },
        PodSpec { stack: Stack::V6, ..PodSpec::new("six", 1) },
        PodSpec { addresses: 2, ..PodSpec::new("twice", 1) },
        PodSpec::new("outsider", 1).unenrolled(),
    ];
    let bed = Bed::start(pods, &[])?;
    let same_family = |one: IpAddr, other: IpAddr| one.is_ipv4() == other.is_ipv4();
    let mut met = 0;
    for (from, to) in [("many", "four"), ("many", "six"), ("many", "twice"), ("four", "many"), ("six", "many")] {
        for source in bed.topology.pod(from).addresses() {
            for target in bed.http(to).into_iter().filter(|target| same_family(target.ip(), *source)) {
                let wire = bed.topology.nodes()[0].netns();
                let (answer, heard) = unheard(wire, WIRE, NEEDLE, || {
                    let netns = bed.topology.pod(from).netns();
                    weir_testbed::http_get_from(netns, *source, target, &format!("/{NEEDLE}"))
                })?;
                ensure!((heard.needle_hits, heard.other_connections) == (0, 0), "{source} to {target}: {heard:?}");
                let expected = SocketAddr::new(*source, 0).to_string();
                let expected = expected.trim_end_matches('0');
                ensure!(answer.body.contains(expected), "{target} takes {source} for another: {}", answer.body);
                met += 1;
            }
        }
    }
    ensure!(met == 3 + 3 + 12 + 3 + 3, "{met} pairs of addresses");
    // From outside the mesh, in plaintext, every address is served through the agent as well.
    let caught = metric(&bed.topology, 0, "istio_tcp_connections_opened_total", &["reporter=\"destination\""])?;
    for target in bed.http("many") {
        client_seen(bed.topology.pod("outsider").netns(), target, "/")?;
    }
    let now = metric(&bed.topology, 0, "istio_tcp_connections_opened_total", &["reporter=\"destination\""])?;
    ensure!(now - caught == 6, "{} of six plaintext connections came through the agent", now - caught);
    bed.mesh.stop()
}

/// A pod that the testbed does not know: with the annotation given, if any.
fn late_pod(node: &str, netns: Option<&PathBuf>) -> String {
    let annotations =
        netns.map_or_else(String::new, |path| format!("  annotations:\n    weir.dev/netns: {}\n", path.display()));
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: late\n  namespace: default\n  uid: late-1\n{annotations}spec:\n  \
         nodeName: {node}\n  serviceAccountName: late\n  containers:\n  - name: late\n    image: late\nstatus:\n  phase: Running\n  \
         conditions:\n  - type: Ready\n    status: \"True\"\n  podIP: 10.244.2.200\n  podIPs:\n  - ip: 10.244.2.200\n  \
         - ip: fd00:10:244:2::c8\n"
    )
}

/// Makes the late pod's namespace and plugs it into its node, as a container runtime would.
fn plug(topology: &Topology, path: &PathBuf) -> anyhow::Result<()> {
    let staging = path.with_extension("staging");
    let netns = NetNs::create(&staging)?;
    let mut outside = Rtnl::open_in(topology.nodes()[1].netns())?;
    outside.add_veth("late0", VethPeer { name: "eth0", netns: &netns }, 1500)?;
    outside.set_bridge("late0", "br0")?;
    outside.set_up("late0")?;
    let mut inside = Rtnl::open_in(&netns)?;
    inside.set_up("lo")?;
    inside.set_up("eth0")?;
    for (ip, prefix, gateway) in [("10.244.2.200", 24, "10.244.2.1"), ("fd00:10:244:2::c8", 64, "fd00:10:244:2::1")] {
        inside.add_address("eth0", ip.parse()?, prefix)?;
        inside.add_route(&Route::default_via(gateway.parse()?))?;
    }
    // It appears all at once, addresses and all.
    std::fs::write(path, "")?;
    nix::mount::mount(Some(&staging), path, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>)?;
    NetNs::delete(&staging)?;
    Ok(())
}

#[test]
fn a_pod_whose_namespace_is_not_there_is_reported_and_enrolled_once_it_is() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.add_pod(PodSpec::new("client", 0))?;
    topology.add_pod(PodSpec::new("server", 1))?;
    let path = PathBuf::from(format!("/run/netns/{}-late", topology.prefix()));
    topology.add_manifest("late.yaml", &late_pod("node2", None))?;
    let agent = weir_tests::agent()?;
    let start = |node| topology.start_on_node(node, topology.agent_command(&agent, node));
    let mut agents = [start(0)?, start(1)?];
    agents[0].wait_ready(own(15021), "/healthz/ready", weir_tests::PATIENCE)?;
    let _server = serve_http(&topology, "server")?;

    eventually("the agent reports a pod without annotation", || {
        let found = pod_state(&topology, 1, "late")?;
        Ok(found.is_some_and(|(state, reason)| state == "Failing" && reason.contains("weir.dev/netns")))
    })?;
    // The others do not wait for it.
    wait_state(&topology, 1, "server", "Enrolled")?;
    for ip in topology.pod("server").addresses() {
        ensure!(readable(&topology, "client", SocketAddr::new(*ip, 8080))? == 0, "{ip} is readable");
    }
    let answer = fetch(&topology, 1, 15021, "/healthz/ready")?;
    ensure!(answer.status == 503 && answer.body.contains("pods of this node"), "{answer:?}");
    ensure!(metric(&topology, 1, "workload_manager_pending_proxy_count", &[])? == 1, "one pod waits");
    ensure!(metric(&topology, 1, "workload_manager_active_proxy_count", &[])? == 1, "one pod is served");

    topology.add_manifest("late.yaml", &late_pod("node2", Some(&path)))?;
    eventually("the agent reports a path that leads nowhere", || {
        let found = pod_state(&topology, 1, "late")?;
        let named = path.display().to_string();
        Ok(found.is_some_and(|(state, reason)| state == "Failing" && reason.contains(&named)))
    })?;
    ensure!(!ready(&topology, 1)?, "ready although a pod is not caught");

    plug(&topology, &path)?;
    wait_state(&topology, 1, "late", "Enrolled")?;
    eventually("the agent is ready", || ready(&topology, 1))?;
    eventually("no pod waits", || Ok(metric(&topology, 1, "workload_manager_pending_proxy_count", &[])? == 0))?;
    let late = NetNs::open(&path)?;
    for (ip, own) in topology.pod("server").addresses().iter().zip(["10.244.2.200", "fd00:10:244:2::c8"]) {
        let (_, client) = client_seen(&late, SocketAddr::new(*ip, 8080), "/")?;
        ensure!(client == own.parse::<IpAddr>()?, "{ip} takes it for {client}");
    }
    // It is in the mesh: without its agent nothing goes out of it.
    agents[1].signal(nix::sys::signal::Signal::SIGKILL)?;
    agents[1].wait(weir_tests::PATIENCE)?;
    for ip in topology.pod("server").addresses() {
        refused(&late, SocketAddr::new(*ip, 8080))?;
    }
    drop(agents);
    for node in 0..2 {
        clean_up(&topology, node)?;
    }
    Ok(())
}
