//! Pods that do not say where their network namespace is: found by their processes, or handed over by ZDS.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::thread;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};
use weir_testbed::{PodSpec, Process, Topology, TopologySpec};
use weir_tests::{
    Bed, Cgroup, PATIENCE, client_seen, config_dump, eventually, metric, pod_state, serve, serve_http, wait_state,
};

fn one_node(pods: impl IntoIterator<Item = PodSpec>) -> anyhow::Result<Topology> {
    let mut topology = Topology::new(TopologySpec { nodes: 1, ..TopologySpec::default() })?;
    for pod in pods {
        topology.add_pod(pod)?;
    }
    Ok(topology)
}

/// Both families from one pod to port 8080 of another, through the mesh.
fn meet(bed: &Bed, from: &str, to: &str) -> anyhow::Result<()> {
    let labels = ["reporter=\"source\"", "connection_security_policy=\"mutual_tls\""];
    let tunnelled = || metric(&bed.topology, 0, "istio_tcp_connections_opened_total", &labels);
    let before = tunnelled()?;
    for at in bed.http(to) {
        let (name, client) = client_seen(bed.topology.pod(from).netns(), at, "/")?;
        ensure!(name == to && bed.topology.pod(from).addresses().contains(&client), "{at} is {name} and saw {client}");
    }
    ensure!(tunnelled()? == before + 2, "not both connections from {from} to {to} went through the mesh");
    Ok(())
}

/// What the dump says of a pod, for instance where its namespace was found.
fn of_pod(topology: &Topology, pod: &str, field: &str) -> anyhow::Result<String> {
    let dump = config_dump(topology, 0)?;
    let pods = dump["pods"].as_array().context("pods is a list")?;
    let found = pods.iter().find(|entry| entry["uid"].as_str().is_some_and(|uid| uid.ends_with(&format!("/{pod}"))));
    Ok(found.with_context(|| format!("no pod {pod}"))?[field].to_string())
}

fn end(mut process: Process) -> anyhow::Result<()> {
    process.signal(Signal::SIGKILL)?;
    process.wait(PATIENCE).map(drop)
}

#[test]
fn a_running_pod_is_found_by_its_processes_and_not_by_those_of_others() -> anyhow::Result<()> {
    let topology = one_node([PodSpec::new("web", 0).unannotated(), PodSpec::new("shop", 0)])?;
    let cgroup = Cgroup::new(&topology, topology.pod("web").uid())?;
    // Older than any of the pod's own: a process of the pod that is in another's namespace, and one that is in the node's.
    let visiting = serve(&topology, "shop", &["serve-http", "--name", "visiting"], 9000)?;
    cgroup.take(&visiting)?;
    let outside = topology
        .start_on_node(0, weir_tests::bed_command(&["serve-http", "--name", "outside", "--listen", "[::]:9000"])?)?;
    cgroup.take(&outside)?;
    let first = serve(&topology, "web", &["serve-http", "--name", "first"], 9001)?;
    cgroup.take(&first)?;
    let second = serve(&topology, "web", &["serve-http", "--name", "second"], 9002)?;
    cgroup.take(&second)?;
    let mut bed = Bed::on(topology, &[])?;
    wait_state(&bed.topology, 0, "web", "Enrolled")?;
    let at = |process: &Process| format!("\"/proc/{}/ns/net\"", process.pid());
    let found = of_pod(&bed.topology, "web", "netns")?;
    ensure!(found == at(&first), "{found} is not the oldest process in the pod's own namespace, {}", at(&first));
    meet(&bed, "web", "shop")?;
    meet(&bed, "shop", "web")?;

    // The next process speaks for the pod, which does not notice.
    let cookie = of_pod(&bed.topology, "web", "netnsCookie")?;
    let started = "workload_manager_proxies_started_total";
    let before = metric(&bed.topology, 0, started, &[])?;
    end(first)?;
    bed.kill_agent(0)?;
    bed.restart_agent(0, &[])?;
    wait_state(&bed.topology, 0, "web", "Enrolled")?;
    let found = of_pod(&bed.topology, "web", "netns")?;
    ensure!(found == at(&second) && of_pod(&bed.topology, "web", "netnsCookie")? == cookie, "found at {found}");
    ensure!(metric(&bed.topology, 0, started, &[])? <= before, "it was enrolled more than once");
    meet(&bed, "web", "shop")?;

    // Without a process of the pod there is no pod, whoever of its cgroup is elsewhere.
    end(second)?;
    eventually("the pod is not found", || {
        let state = pod_state(&bed.topology, 0, "web")?;
        Ok(state.is_some_and(|(state, reason)| state == "Failing" && reason.contains("no process of the pod")))
    })?;
    let third = serve(&bed.topology, "web", &["serve-http", "--name", "third"], 9003)?;
    cgroup.take(&third)?;
    wait_state(&bed.topology, 0, "web", "Enrolled")?;
    meet(&bed, "web", "shop")?;
    drop((visiting, outside, third));
    bed.mesh.stop()
}

/// A message of protobuf with one field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short");
    assert!(length < 0x80, "a length of one byte");
    [&[(number << 3) | 2, length], bytes].concat()
}

fn add(uid: &str, name: &str) -> Vec<u8> {
    let info = [field(1, name.as_bytes()), field(2, b"default"), field(3, name.as_bytes())].concat();
    field(1, &[field(1, uid.as_bytes()), field(2, &info)].concat())
}

fn del(uid: &str) -> Vec<u8> {
    field(2, &field(2, uid.as_bytes()))
}

fn keep(uid: &str) -> Vec<u8> {
    field(5, &field(1, uid.as_bytes()))
}

fn snapshot_sent() -> Vec<u8> {
    field(3, &[])
}

/// The CNI node agent's end of ZDS.
struct NodeAgent {
    listener: Socket,
}

struct Connection(Socket);

impl NodeAgent {
    fn listen(path: &Path) -> anyhow::Result<Self> {
        let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        listener.bind(&SockAddr::unix(path)?)?;
        listener.listen(4)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// The mesh's agent, when it has said hello.
    fn accept(&self) -> anyhow::Result<Connection> {
        let mut accepted = None;
        eventually("the agent connects", || {
            accepted = Some(self.listener.accept()?.0);
            Ok(true)
        })?;
        let stream = accepted.context("a connection")?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut hello = [0; 64];
        let length = (&stream).read(&mut hello)?;
        ensure!(hello[..length] == [0x08, 0x01], "no hello: {:?}", &hello[..length]);
        Ok(Connection(stream))
    }
}

impl Connection {
    /// The error in the answer, empty if there is none.
    fn ask(&self, message: &[u8], files: &[&dyn AsFd]) -> anyhow::Result<String> {
        let raw: Vec<_> = files.iter().map(|file| file.as_fd().as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(message)], control, MsgFlags::empty(), None)?;
        let mut answer = [0; 1024];
        let length = (&self.0).read(&mut answer)?;
        match &answer[..length] {
            [0x0a, 0x00] => Ok(String::new()),
            [0x0a, rest @ ..] => Ok(String::from_utf8_lossy(rest).into_owned()),
            other => bail!("no ack: {other:?}"),
        }
    }

    fn done(&self, message: &[u8], files: &[&dyn AsFd]) -> anyhow::Result<()> {
        let error = self.ask(message, files)?;
        ensure!(error.is_empty(), "{error}");
        Ok(())
    }
}

#[test]
fn pods_that_zds_hands_over_are_caught_and_no_others() -> anyhow::Result<()> {
    let new = |name| PodSpec::new(name, 0).unannotated();
    let topology = one_node([new("web"), new("shop"), new("aside").unenrolled()])?;
    let path = topology.work_dir().join("ztunnel.sock");
    let node_agent = NodeAgent::listen(&path)?;
    let uid = |name: &str| topology.pod(name).uid().to_owned();
    let (web, shop, aside) = (uid("web"), uid("shop"), uid("aside"));
    let (mut bed, first) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let connection = node_agent.accept()?;
            connection.done(&add(&web, "web"), &[topology.pod("web").netns()])?;
            connection.done(&snapshot_sent(), &[])?;
            anyhow::Ok(connection)
        });
        // The agent is ready when all pods that ZDS sent are caught.
        let path = path.display().to_string();
        let mesh = weir_testbed::Mesh::start(&topology, &weir_tests::agent()?, &["--zds-socket", &path])?;
        let sent = sending.join().map_err(|_| anyhow::anyhow!("the node agent panicked"))??;
        anyhow::Ok((mesh, sent))
    })
    .map(|(mesh, sent)| (Bed { mesh, servers: Vec::new(), cgroups: Vec::new(), topology }, sent))?;
    wait_state(&bed.topology, 0, "web", "Enrolled")?;
    let state = pod_state(&bed.topology, 0, "shop")?;
    ensure!(state == Some(("NotEnrolled".into(), "NotSentByZds".into())), "{state:?}");

    let netns = |bed: &Bed, name: &str| bed.topology.pod(name).netns().as_fd().try_clone_to_owned();
    first.done(&add(&shop, "shop"), &[&netns(&bed, "shop")?])?;
    let state = pod_state(&bed.topology, 0, "shop")?;
    ensure!(state.as_ref().is_some_and(|(state, _)| state == "Enrolled"), "the answer did not wait: {state:?}");
    bed.servers = vec![serve_http(&bed.topology, "web")?, serve_http(&bed.topology, "shop")?];
    meet(&bed, "web", "shop")?;

    let null = File::open("/dev/null")?;
    let null: &dyn AsFd = &null;
    let node = bed.topology.nodes()[0].netns().as_fd().try_clone_to_owned()?;
    let some = netns(&bed, "web")?;
    for (message, files, says) in [
        (add("u", "nobody"), vec![null], "not a network namespace"),
        (add("u", "nobody"), vec![&node], "the node's own"),
        (add("u", "nobody"), vec![], "0 descriptors"),
        (add("u", "nobody"), vec![&some, &some], "2 descriptors"),
        (add("u", ""), vec![&some], "workload_info.name"),
        (del(&web), vec![&some], "1 descriptors"),
        (vec![0xff; 20], vec![], "varint"),
        (field(9, b"later"), vec![], "no request that is known"),
        (add("u", "nobody"), vec![&some], "does not know it"),
        (add(&aside, "aside"), vec![&netns(&bed, "aside")?], "does not want it caught: OptedOut"),
    ] {
        let error = first.ask(&message, &files)?;
        ensure!(error.contains(says), "{message:?} is answered with {error:?}, and not {says:?}");
    }
    // What it has is remembered: the mesh decides when.
    bed.topology.change_pod("aside", |pod| drop(pod.labels.remove("istio.io/dataplane-mode")))?;
    wait_state(&bed.topology, 0, "aside", "Enrolled")?;

    first.done(&del(&shop), &[])?;
    wait_state(&bed.topology, 0, "shop", "NotEnrolled")?;
    first.done(&add(&shop, "shop"), &[&netns(&bed, "shop")?])?;
    meet(&bed, "web", "shop")?;

    // Gone and back: what it does not send again is let go of, and the rest does not notice.
    let cookie = of_pod(&bed.topology, "web", "netnsCookie")?;
    drop(first);
    let second = node_agent.accept()?;
    ensure!(pod_state(&bed.topology, 0, "shop")?.is_some_and(|(state, _)| state == "Enrolled"), "let go of too early");
    second.done(&keep(&web), &[])?;
    second.done(&keep("never sent"), &[])?;
    second.done(&snapshot_sent(), &[])?;
    for name in ["shop", "aside"] {
        wait_state(&bed.topology, 0, name, "NotEnrolled")?;
    }
    ensure!(of_pod(&bed.topology, "web", "netnsCookie")? == cookie, "web was enrolled anew");
    second.done(&add(&shop, "shop"), &[&netns(&bed, "shop")?])?;
    meet(&bed, "web", "shop")?;
    // More than any message may have: that is the end of the connection, and not of the pods.
    let error = second.ask(&vec![0; 5_000], &[])?;
    ensure!(error.contains("4096 bytes"), "{error}");
    drop(second);
    let third = node_agent.accept()?;
    for (uid, name) in [(&web, "web"), (&shop, "shop")] {
        third.done(&add(uid, name), &[&netns(&bed, name)?])?;
    }
    third.done(&snapshot_sent(), &[])?;
    meet(&bed, "shop", "web")?;
    bed.mesh.stop()
}
