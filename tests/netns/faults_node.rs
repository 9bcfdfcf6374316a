//! A node that lacks something, or loses it: the agent says what, refuses rather than leaks, and goes on when it can.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use weir_testbed::{PodSpec, Process, Removal, Topology, WIRE};
use weir_tests::{
    Bed, PATIENCE, Server, agent, clean_up, client_seen, connect, eventually, kernel_decisions, own, pod_state,
    refused, reset, serve_http, talk, unheard, wait_known, wait_state,
};

const NEEDLE: &str = "nothing-to-see-here";

#[test]
fn a_peer_agent_killed_in_the_middle_of_a_transfer_is_a_reset_and_its_return_is_noticed() -> anyhow::Result<()> {
    let mut bed = Bed::two(&[])?;
    for to in bed.at("server", 7000) {
        let http = SocketAddr::new(to.ip(), 8080);
        let server = Server::open(bed.topology.pod("server"), to)?;
        let mut client = connect(bed.topology.pod("client").netns(), to)?;
        let mut app = server.accept()?;
        talk(&mut client, &mut app, "hello")?;
        // More than all buffers on the way hold, so that it is under way when the agent dies.
        let mut source = app.try_clone()?;
        let pouring = thread::spawn(move || {
            let block = vec![b'x'; 1 << 20];
            while source.write_all(&block).is_ok() {}
        });
        let mut first = [0; 4096];
        std::io::Read::read_exact(&mut client, &mut first)?;
        bed.kill_agent(1)?;
        reset(&mut client).context("the client, when the server's agent died")?;
        // The kernel closes the dead agent's socket beside the server as it sees fit; but close it does.
        let _end = std::io::copy(&mut app, &mut std::io::sink());
        pouring.join().expect("it only writes");
        refused(bed.topology.pod("client").netns(), http).context("while the server's agent is away")?;
        eventually("the log gives a reason a person can act on", || {
            Ok(bed.mesh.agent(0).log().contains("is the agent of that node running?"))
        })?;
        bed.restart_agent(1, &[])?;
        let ((), heard) = unheard(bed.topology.nodes()[0].netns(), WIRE, NEEDLE, || {
            eventually("it works again", || {
                client_seen(bed.topology.pod("client").netns(), http, &format!("/{NEEDLE}")).map(|_| true)
            })
        })?;
        ensure!(heard.needle_hits == 0, "{heard:?}");
    }
    bed.mesh.stop()
}

#[test]
fn a_namespace_deleted_under_the_agent_harms_nobody_else() -> anyhow::Result<()> {
    let mut bed = Bed::start([PodSpec::new("client", 0), PodSpec::new("server", 1), PodSpec::new("doomed", 1)], &[])?;
    for order in [Removal::NetnsFirst, Removal::ObjectFirst] {
        let mut open = Vec::new();
        for to in bed.at("doomed", 7000) {
            let server = Server::open(bed.topology.pod("doomed"), to)?;
            let mut client = connect(bed.topology.pod("client").netns(), to)?;
            let mut app = server
                .accept()
                .with_context(|| format!("{order:?}\n{}\n{}", bed.mesh.agent(0).log(), bed.mesh.agent(1).log()))?;
            talk(&mut client, &mut app, "hello")?;
            open.push((client, app));
        }
        let targets = bed.http("doomed");
        bed.servers.retain_mut(|server| !server.log().contains("doomed"));
        bed.topology.remove_pod("doomed", order)?;
        // The application's socket is still held: only that the link is gone tells the client's agent, by an unanswered PING.
        for (mut client, _app) in open {
            reset(&mut client).with_context(|| format!("{order:?}"))?;
        }
        eventually("the pod is forgotten", || Ok(pod_state(&bed.topology, 1, "doomed")?.is_none()))?;
        wait_known(&bed.topology, 0, "doomed", false)?;
        for to in bed.http("server") {
            client_seen(bed.topology.pod("client").netns(), to, "/")?;
        }
        ensure!(bed.mesh.agent_mut(1).is_running()?, "the agent ended\n{}", bed.mesh.agent(1).log());
        let addresses = targets.iter().map(SocketAddr::ip).collect();
        bed.topology.add_pod_at(PodSpec::new("doomed", 1), addresses)?;
        bed.servers.push(serve_http(&bed.topology, "doomed")?);
        wait_state(&bed.topology, 1, "doomed", "Enrolled")?;
        // Before, its address is nobody's: the connection would be plain, and nothing but its application could end it.
        wait_known(&bed.topology, 0, "doomed", true)?;
        for to in targets {
            eventually("its successor is reached", || {
                client_seen(bed.topology.pod("client").netns(), to, "/").map(|_| true)
            })?;
        }
    }
    bed.mesh.stop()
}

#[test]
fn a_path_that_vanishes_while_its_pod_lives_does_not_let_the_pod_out_of_the_mesh() -> anyhow::Result<()> {
    let bed = Bed::two(&[])?;
    let pod = bed.topology.pod("client");
    let targets = bed.http("server");
    let ((), heard) = unheard(bed.topology.nodes()[0].netns(), WIRE, NEEDLE, || {
        nix::mount::umount2(pod.netns_path(), nix::mount::MntFlags::MNT_DETACH)?;
        wait_state(&bed.topology, 0, "client", "Failing")?;
        for to in &targets {
            // What stands in the queue at that moment is still carried.
            eventually("a pod whose path is gone is refused", || refused(pod.netns(), *to).map(|()| true))?;
            let mut stream = connect(pod.netns(), *to).ok();
            if let Some(stream) = &mut stream {
                // Whether it can be said at all is all the same, as long as nobody can read it.
                let _said = stream.write_all(NEEDLE.as_bytes());
            }
        }
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(pod.netns())));
        let (nothing, bind) = (None::<&str>, nix::mount::MsFlags::MS_BIND);
        nix::mount::mount(Some(own.as_str()), pod.netns_path(), nothing, bind, nothing)?;
        wait_state(&bed.topology, 0, "client", "Enrolled")?;
        for to in &targets {
            client_seen(pod.netns(), *to, &format!("/{NEEDLE}"))?;
        }
        Ok(())
    })?;
    ensure!((heard.needle_hits, heard.other_connections) == (0, 0), "{heard:?}");
    bed.mesh.stop()
}

#[test]
fn when_the_map_of_connections_under_way_is_full_the_rest_is_refused_and_none_is_plain() -> anyhow::Result<()> {
    let bed = Bed::two(&["--max-flows", "4", "--workers", "1"])?;
    let targets = bed.http("server");
    for to in &targets {
        // Stopped, the agent accepts nothing: every connection is under way.
        bed.mesh.agent(0).signal(Signal::SIGSTOP)?;
        let netns = bed.topology.pod("client").netns();
        let (streams, heard) = unheard(bed.topology.nodes()[0].netns(), WIRE, NEEDLE, || {
            let mut streams = Vec::new();
            for _ in 0..100 {
                // Refused at once is as good as refused later.
                if let Ok(mut stream) = connect(netns, *to) {
                    write!(stream, "GET /{NEEDLE} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
                    streams.push(stream);
                }
            }
            bed.mesh.agent(0).signal(Signal::SIGCONT)?;
            let mut served = 0;
            for stream in &mut streams {
                let mut answer = Vec::new();
                match std::io::Read::read_to_end(stream, &mut answer) {
                    Ok(_) if answer.starts_with(b"HTTP/1.1 200") => served += 1,
                    Ok(_) => anyhow::bail!("neither served nor refused: {:?}", String::from_utf8_lossy(&answer)),
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                    Err(error) => return Err(error).context("neither served nor refused"),
                }
            }
            Ok(served)
        })?;
        ensure!((heard.needle_hits, heard.other_connections) == (0, 0), "{heard:?}");
        ensure!(streams < 100, "a map for four held a hundred");
        for _ in 0..10 {
            client_seen(netns, *to, "/").context("afterwards")?;
        }
    }
    let log = bed.mesh.agent(0).log();
    ensure!(log.contains("the kernel noted no original destination"), "no reason in\n{log}");
    eventually("the kernel counts what it lost", || Ok(kernel_decisions(&bed.topology, 0, "caught")? >= 200))?;
    bed.mesh.stop()
}

#[test]
fn at_the_limit_of_descriptors_connections_wait_or_are_refused_and_later_ones_are_served() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.add_pod(PodSpec::new("client", 0))?;
    topology.add_pod(PodSpec::new("server", 1))?;
    let mut bed = Bed::on(topology, &[])?;
    bed.kill_agent(0)?;
    let mut command = bed.topology.agent_command(&agent()?, 0);
    command.args(["--workers", "1"]);
    // The hard limit: the agent itself raises the soft one.
    let command = wrapped(&["/bin/sh", "-c", "ulimit -n 128 && exec \"$0\" \"$@\""], &command);
    let logs = bed.topology.work_dir().join("logs");
    let mut starved = Process::start(bed.topology.nodes()[0].netns(), "starved", command, &logs)?;
    starved.wait_ready(own(15021), "/healthz/ready", PATIENCE)?;
    *bed.mesh.agent_mut(0) = starved;
    for to in bed.at("server", 7000) {
        let server = Server::open(bed.topology.pod("server"), to)?;
        let netns = bed.topology.pod("client").netns();
        let mut held = Vec::new();
        for _ in 0..300 {
            held.extend(connect(netns, to).ok());
        }
        let limit_met = |bed: &Bed| bed.mesh.agent(0).log().contains("cannot accept");
        eventually("the agent meets its limit and says so", || Ok(limit_met(&bed)))?;
        ensure!(bed.mesh.agent_mut(0).is_running()?, "it ended\n{}", bed.mesh.agent(0).log());
        drop(held);
        drop(server);
        let http = SocketAddr::new(to.ip(), 8080);
        let ((), heard) = unheard(bed.topology.nodes()[0].netns(), WIRE, NEEDLE, || {
            eventually("it serves again", || client_seen(netns, http, &format!("/{NEEDLE}")).map(|_| true))
        })?;
        ensure!(heard.needle_hits == 0, "{heard:?}");
    }
    bed.mesh.stop()
}

/// `command`, started by another program.
fn wrapped(by: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(by[0]);
    wrapped.args(&by[1..]).arg(command.get_program()).args(command.get_args());
    wrapped
}

/// `command` with another value of a flag.
fn with(command: &Command, flag: &str, value: &Path) -> Command {
    let mut changed = Command::new(command.get_program());
    let mut words = command.get_args();
    while let Some(word) = words.next() {
        if word == flag {
            words.next();
        } else {
            changed.arg(word);
        }
    }
    changed.arg(flag).arg(value);
    changed
}

/// What an agent said that could not start.
fn complaint(topology: &Topology, name: &str, command: Command) -> anyhow::Result<String> {
    let logs = topology.work_dir().join("logs");
    let mut process = Process::start(topology.nodes()[0].netns(), name, command, &logs)?;
    let status = process.wait(PATIENCE).with_context(|| format!("{name}: it must end"))?;
    ensure!(!status.success(), "{name}: {status}\n{}", process.log());
    Ok(process.log())
}

#[test]
fn a_privilege_that_is_missing_is_named() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.add_pod(PodSpec::new("client", 0))?;
    // The CA's folder is made first, by one who may: so only privileges are in question.
    let first = topology.agent_command(&agent()?, 0);
    let logs = topology.work_dir().join("logs");
    let mut process = Process::start(topology.nodes()[0].netns(), "privileged", first, &logs)?;
    process.wait_ready(own(15021), "/healthz/ready", PATIENCE)?;
    process.signal(Signal::SIGTERM)?;
    process.wait(PATIENCE)?;
    clean_up(&topology, 0)?;

    let privileged = topology.agent_command(&agent()?, 0);
    for (name, drop, missing) in [
        ("no-net-admin", "--bounding-set=-net_admin", "CAP_NET_ADMIN"),
        ("no-bpf", "--bounding-set=-sys_admin,-cap_39", "CAP_BPF"),
    ] {
        let said = complaint(&topology, name, wrapped(&["setpriv", drop], &privileged))?;
        ensure!(said.contains(missing), "{name}: nothing of {missing} in\n{said}");
        ensure!(!topology.bpf_dir(0).exists(), "{name}: pins are left");
    }
    let ca = topology.work_dir().join("ca-of-nobody");
    std::fs::create_dir(&ca)?;
    std::os::unix::fs::chown(&ca, Some(65_534), Some(65_534))?;
    let command = topology.agent_command(&agent()?, 0);
    let nobody =
        wrapped(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], &with(&command, "--ca-dir", &ca));
    let said = complaint(&topology, "nobody", nobody)?;
    ensure!(said.contains("CAP_NET_ADMIN") && said.contains("run it privileged"), "{said}");
    Ok(())
}

#[test]
fn what_the_node_does_not_offer_is_named_together_with_the_remedy() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.add_pod(PodSpec::new("client", 0))?;
    let elsewhere = topology.work_dir().join("pins");
    let elsewhere = elsewhere.to_str().context("a path of ours is text")?;
    let usual = topology.agent_command(&agent()?, 0);
    for (name, flag, value, expected) in [
        ("pins-on-tmpfs", "--bpf-dir", elsewhere, ["is not on bpffs", "mount -t bpf bpf /sys/fs/bpf"]),
        ("no-cgroup", "--cgroup-root", "/tmp", ["/tmp", "cgroup v2"]),
        ("no-manifests", "--manifests", "/nowhere/at/all", ["/nowhere/at/all", "cannot list the folder"]),
    ] {
        let said = complaint(&topology, name, with(&usual, flag, Path::new(value)))?;
        for words in expected {
            ensure!(said.contains(words), "{name}: nothing of {words:?} in\n{said}");
        }
        ensure!(!Path::new(elsewhere).exists(), "{name}: it made {elsewhere}");
    }
    // Not the root of the tree, but a part of it: pods elsewhere would not be caught.
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let root = mounts.lines().find(|line| line.contains(" cgroup2 ")).and_then(|line| line.split(' ').nth(1));
    let part = Path::new(root.context("no cgroup v2 here")?).join(topology.prefix());
    std::fs::create_dir(&part)?;
    let said = complaint(&topology, "part", with(&usual, "--cgroup-root", &part));
    std::fs::remove_dir(&part)?;
    let said = said?;
    ensure!(said.contains("is not the root of the node's cgroup v2 tree"), "{said}");
    // A port of its own that is taken.
    let taken = topology.nodes()[0].netns().run(|| std::net::TcpListener::bind("[::]:15020"))??;
    let said = complaint(&topology, "taken", topology.agent_command(&agent()?, 0))?;
    ensure!(said.contains("--stats-addr") && said.contains("15020"), "{said}");
    drop(taken);
    clean_up(&topology, 0)?;
    Ok(())
}
