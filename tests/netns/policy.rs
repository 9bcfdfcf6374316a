//! Policies with real agents: who enters, who does not, and what a change ends.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use socket2::SockRef;
use weir_netlink::Rtnl;
use weir_testbed::{NamespaceSpec, PodSpec, ServiceSpec, Topology, WIRE, binary, http_get, http_get_from, labels};
use weir_tests::{
    Bed, PATIENCE, Server, bed_command, client_seen, config_dump, connect, eventually, fetch, metric, refused, reset,
    serve, talk,
};

/// Who enters where.
const MATRIX: &str = include_str!("policy.matrix");
/// How long a change may take from the moment it is in force until what it forbids is closed.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A machine on the wire that is none of the cluster's nodes.
const MACHINE: [&str; 2] = ["192.168.77.200", "fd00:77::200"];
/// The file of the tests' policies.
const FILE: &str = "policies.yaml";

/// An object of `security.istio.io`, over the pods with that label in `default`.
fn policy(kind: &str, name: &str, app: &str, spec: &str) -> String {
    dry_or_not("", kind, name, app, spec)
}

fn dry_or_not(annotations: &str, kind: &str, name: &str, app: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: default\n{annotations}spec:\n  \
         selector:\n    matchLabels:\n      app: {app}\n{spec}---\n"
    )
}

fn deny(name: &str, app: &str, account: &str) -> String {
    let rules = format!(
        "  action: DENY\n  rules:\n  - from:\n    - source:\n        principals: [cluster.local/ns/default/sa/{account}]\n"
    );
    policy("AuthorizationPolicy", name, app, &rules)
}

/// Puts policies in the place of those before, and waits until both agents have them in force. When the first had.
fn enforce(bed: &Bed, content: &str) -> anyhow::Result<Instant> {
    let count = content.matches("kind: ").count();
    let generation = |node| Ok::<_, anyhow::Error>(config_dump(&bed.topology, node)?["config"]["generation"].as_u64());
    let before = [generation(0)?, generation(1)?];
    bed.topology.add_manifest(FILE, content)?;
    let mut first = None;
    for (node, before) in before.into_iter().enumerate() {
        eventually("the policies are in force", || {
            let dump = config_dump(&bed.topology, node)?;
            let policies = dump["policies"].as_array().context("policies is a list")?;
            Ok(dump["config"]["generation"].as_u64() > before && policies.len() == count)
        })
        .with_context(|| bed.mesh.agent(node).log())?;
        first.get_or_insert_with(Instant::now);
    }
    first.context("two nodes")
}

/// The pods of the matrix: a policy each, all on the first node.
const DESTINATIONS: [&str; 8] = [
    "strict",
    "permissive",
    "exception",
    "allow-account",
    "deny-account",
    "allow-namespace",
    "ip-blocks",
    "default-deny",
];

fn matrix_policies(topology: &Topology) -> String {
    let authorization = |app, spec: &str| policy("AuthorizationPolicy", app, app, spec);
    let from = |source: String| format!("  rules:\n  - from:\n    - source:\n        {source}\n");
    let client = || "principals: [cluster.local/ns/default/sa/client]".to_owned();
    let blocks: Vec<String> = topology
        .pod("other-node")
        .addresses()
        .iter()
        .map(ToString::to_string)
        .chain(MACHINE.map(str::to_owned))
        .collect();
    let blocks = blocks.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
    [
        policy("PeerAuthentication", "strict", "strict", "  mtls:\n    mode: STRICT\n"),
        policy("PeerAuthentication", "permissive", "permissive", "  mtls:\n    mode: PERMISSIVE\n"),
        policy(
            "PeerAuthentication",
            "exception",
            "exception",
            "  mtls:\n    mode: STRICT\n  portLevelMtls:\n    8080:\n      mode: PERMISSIVE\n",
        ),
        authorization("allow-account", &from(client())),
        authorization("deny-account", &format!("  action: DENY\n{}", from(client()))),
        authorization("allow-namespace", &from("namespaces: [elsewhere]".to_owned())),
        authorization("ip-blocks", &from(format!("ipBlocks: [{blocks}]"))),
        authorization("default-deny", ""),
    ]
    .concat()
}

fn matrix_bed() -> anyhow::Result<Bed> {
    let mut topology = Topology::new(Default::default())?;
    let ambient = labels([("istio.io/dataplane-mode", "ambient")]);
    topology.set_namespace(NamespaceSpec { name: "elsewhere".into(), labels: ambient })?;
    for (name, node) in [("same-node", 0), ("other-node", 1)] {
        topology.add_pod(PodSpec { service_account: "client".into(), ..PodSpec::new(name, node) })?;
    }
    topology.add_pod(PodSpec { namespace: "elsewhere".into(), ..PodSpec::new("other-identity", 1) })?;
    topology.add_pod(PodSpec::new("unenrolled", 0).unenrolled())?;
    for name in DESTINATIONS {
        topology.add_pod(PodSpec::new(name, 0))?;
        let ports = vec![("http".to_owned(), 80, 8080), ("rest".to_owned(), 81, 8081)];
        let selector = labels([("app", name)]);
        topology.add_service(ServiceSpec { name: name.into(), namespace: "default".into(), selector, ports })?;
    }
    let mut wire = Rtnl::open_in(topology.nodes()[1].netns())?;
    for (ip, length) in MACHINE.into_iter().zip([24, 64]) {
        wire.add_address(WIRE, ip.parse()?, length)?;
    }
    topology.add_manifest(FILE, &matrix_policies(&topology))?;
    // This process plays the kubelet in the node's own namespace; in any other it is nobody special.
    let mut bed = Bed::on(topology, &["--host-process", &std::process::id().to_string()])?;
    bed.servers.push(serve(&bed.topology, "exception", &["serve-http", "--name", "exception"], 8081)?);
    Ok(bed)
}

/// One line of the table.
struct Cell<'t> {
    source: &'t str,
    pod: &'t str,
    port: u16,
    family: &'t str,
    address: &'t str,
    outcome: &'t str,
}

fn cells() -> anyhow::Result<Vec<Cell<'static>>> {
    let lines = MATRIX.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cell = |line: &'static str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [source, destination, family, address, outcome] = columns[..] else { return None };
        let (pod, port) = match destination {
            "port-exception" => ("exception", 8080),
            "port-rest" => ("exception", 8081),
            other => (other, 8080),
        };
        Some(Cell { source, pod, port, family, address, outcome })
    };
    lines.map(|line| cell(line).with_context(|| format!("not a cell of the table: {line}"))).collect()
}

/// What becomes of the cell's connection.
fn outcome(bed: &Bed, cell: &Cell<'_>) -> anyhow::Result<&'static str> {
    let v4 = match cell.family {
        "IPv4" => true,
        "IPv6" => false,
        other => anyhow::bail!("no family: {other}"),
    };
    let pick = |addresses: &[IpAddr]| addresses.iter().copied().find(|ip| ip.is_ipv4() == v4).context("of that family");
    let (pods, services) = (bed.topology.pod(cell.pod).addresses(), bed.topology.cluster_ips(cell.pod));
    let to = match cell.address {
        "pod" => SocketAddr::new(pick(pods)?, cell.port),
        "service" => SocketAddr::new(pick(&services)?, cell.port - 8000),
        other => anyhow::bail!("no address: {other}"),
    };
    let nodes = bed.topology.nodes();
    let answer = match cell.source {
        "host" => http_get(nodes[0].netns(), to, "/"),
        "machine" => http_get_from(nodes[1].netns(), MACHINE[usize::from(!v4)].parse()?, to, "/"),
        pod => http_get(bed.topology.pod(pod).netns(), to, "/"),
    };
    match answer {
        Ok(answer) => {
            ensure!(answer.body.contains(&format!("\"{}\"", cell.pod)), "somebody else answered: {answer:?}");
            Ok("enters")
        }
        Err(_) if cell.address == "service" && ["unenrolled", "host", "machine"].contains(&cell.source) => {
            Ok("unserved")
        }
        Err(error) => {
            let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
            let at_once = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::ConnectionRefused];
            ensure!(kind.is_some_and(|kind| at_once.contains(&kind)), "neither served nor refused: {error:#}");
            Ok("refused")
        }
    }
}

#[test]
fn every_cell_of_the_matrix_is_as_the_table_says() -> anyhow::Result<()> {
    let bed = matrix_bed()?;
    let cells = cells()?;
    ensure!(cells.len() == 6 * 9 * 2 * 2, "{} cells", cells.len());
    // Neighbours are found late on a busy machine: each source and each destination is reached once before it counts.
    for cell in
        cells.iter().filter(|cell| (cell.pod == "permissive" || cell.source == "host") && cell.outcome == "enters")
    {
        eventually("the network is there", || Ok(outcome(&bed, cell)? == "enters"))?;
    }
    let mut wrong = Vec::new();
    for Cell { source, pod, port, family, address, outcome: want } in &cells {
        let cell = Cell { source, pod, port: *port, family, address, outcome: want };
        let found = outcome(&bed, &cell);
        if !matches!(&found, Ok(found) if found == want) {
            wrong.push(format!("{source} to {pod}:{port} ({family}, {address}) {want}: found {found:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{} cells are not as the table says:\n{}", wrong.len(), wrong.join("\n"));
    // Every refusal is counted where it was decided.
    let refused = u64::try_from(cells.iter().filter(|cell| cell.outcome == "refused").count())?;
    let flags = ["reporter=\"destination\"", "response_flags=\"DENY\""];
    let counted = metric(&bed.topology, 0, "istio_tcp_connections_failed_total", &flags)?;
    ensure!(counted == refused, "{refused} were refused, {counted} counted");
    bed.mesh.stop()
}

/// Waits until the network of a bed that was just made carries packets between two pods: neighbours are found late on a busy machine.
fn reach(bed: &Bed, from: &str, to: &str) -> anyhow::Result<()> {
    bed.http(to).into_iter().try_for_each(|at| {
        eventually("the network is there", || client_seen(bed.topology.pod(from).netns(), at, "/").map(|_| true))
    })
}

/// Both ends of a connection that works.
fn open(bed: &Bed, from: &str, to: &str, at: SocketAddr) -> anyhow::Result<(TcpStream, TcpStream)> {
    reach(bed, from, to)?;
    let server = Server::open(bed.topology.pod(to), at)?;
    let mut client = connect(bed.topology.pod(from).netns(), at)?;
    let logs = || (0..2).map(|node| bed.mesh.agent(node).log()).collect::<Vec<_>>().join("\n");
    let mut app = server.accept().with_context(|| format!("from {from} to {to} at {at}\n{}", logs()))?;
    talk(&mut client, &mut app, "hello").with_context(|| format!("from {from} to {to} at {at}"))?;
    Ok((client, app))
}

#[test]
fn a_changed_policy_ends_what_it_forbids_within_a_second_and_nothing_else() -> anyhow::Result<()> {
    let bed = Bed::start(
        [
            PodSpec::new("near", 0),
            PodSpec::new("far", 1),
            PodSpec::new("other", 1),
            PodSpec::new("plain", 0).unenrolled(),
            PodSpec::new("server", 0),
            PodSpec::new("bystander", 0),
        ],
        &[],
    )?;
    let mut held = Vec::new();
    for from in ["near", "far", "other", "plain"] {
        for to in ["server", "bystander"] {
            for at in bed.at(to, 7000) {
                held.push((from, to, open(&bed, from, to, at)?));
            }
        }
    }
    let strict = policy("PeerAuthentication", "strict", "server", "  mtls:\n    mode: STRICT\n");
    let allow = "  rules:\n  - from:\n    - source:\n        principals: [cluster.local/ns/default/sa/other]\n";
    for (content, ends) in [
        (deny("no-far", "server", "far"), vec!["far"]),
        (format!("{}{strict}", deny("no-far", "server", "far")), vec!["plain"]),
        (policy("AuthorizationPolicy", "only-other", "server", allow), vec!["near"]),
    ] {
        let in_force = enforce(&bed, &content)?;
        let (forbidden, rest): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(from, to, _)| *to == "server" && ends.contains(from));
        ensure!(forbidden.len() == 2 * ends.len(), "one in each family of {ends:?}");
        for (from, _, (mut client, mut app)) in forbidden {
            reset(&mut client).with_context(|| format!("the end at {from}"))?;
            reset(&mut app).with_context(|| format!("the application's end of {from}"))?;
        }
        let took = in_force.elapsed();
        ensure!(took < AT_ONCE, "{ends:?} ended only after {took:?}");
        held = rest;
        for (from, to, (client, app)) in &mut held {
            talk(client, app, "still here").with_context(|| format!("{from} to {to} is allowed"))?;
        }
    }
    let flags = ["reporter=\"destination\"", "response_flags=\"DENY\""];
    eventually("every end is counted", || {
        Ok(metric(&bed.topology, 0, "istio_tcp_connections_closed_total", &flags)? == 6)
    })?;
    for words in [
        ["connection complete", "closed by a change of policy", "AuthorizationPolicy default/no-far, spec.rules[0]"],
        ["connection complete", "closed by a change of policy", "PeerAuthentication default/strict"],
        ["connection complete", "closed by a change of policy", "AuthorizationPolicy default/only-other"],
    ] {
        eventually("a line of log says why", || {
            let log = bed.mesh.agent(0).log();
            Ok(log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count() == 2)
        })
        .with_context(|| format!("{words:?}"))?;
    }
    bed.mesh.stop()
}

#[test]
fn no_connection_slips_through_while_policies_change() -> anyhow::Result<()> {
    let bed = Bed::start(
        [
            PodSpec::new("client", 1),
            PodSpec::new("near", 0),
            PodSpec::new("plain", 0).unenrolled(),
            PodSpec::new("server", 0),
        ],
        &[],
    )?;
    for from in ["client", "near", "plain"] {
        reach(&bed, from, "server")?;
    }
    let nobody = policy("AuthorizationPolicy", "nobody", "server", "");
    let other = deny("nobody-else", "near", "nobody");
    for _round in 0..5 {
        enforce(&bed, &other)?;
        let ends = AtomicBool::new(false);
        let opened = thread::scope(|scope| {
            let openers: Vec<_> = ["client", "near", "plain"]
                .into_iter()
                .flat_map(|from| bed.http("server").into_iter().map(move |at| (from, at)))
                .map(|(from, at)| {
                    let (bed, ends) = (&bed, &ends);
                    scope.spawn(move || {
                        let mut opened = Vec::new();
                        while !ends.load(SeqCst) {
                            // Those that are refused are no matter here.
                            opened.extend(connect(bed.topology.pod(from).netns(), at));
                            if opened.len() > 300 {
                                opened.drain(..200);
                            }
                        }
                        opened
                    })
                })
                .collect();
            let enforced = enforce(&bed, &nobody);
            // Of those begun before, each has been decided by now or has found nobody to decide.
            thread::yield_now();
            ends.store(true, SeqCst);
            let opened: Vec<TcpStream> =
                openers.into_iter().flat_map(|opener| opener.join().unwrap_or_default()).collect();
            enforced.map(|_in_force| opened)
        })?;
        ensure!(opened.len() > 10, "{} connections were opened meanwhile", opened.len());
        for mut stream in opened {
            // An application that was reached would wait for a request.
            let end = reset(&mut stream);
            ensure!(
                end.is_ok(),
                "a connection from {:?} slipped through: {end:?}",
                SockRef::from(&stream).local_addr()
            );
        }
    }
    bed.mesh.stop()
}

#[test]
fn what_is_tried_out_decides_nothing_and_is_seen() -> anyhow::Result<()> {
    let bed =
        Bed::start([PodSpec::new("client", 1), PodSpec::new("plain", 0).unenrolled(), PodSpec::new("server", 0)], &[])?;
    for from in ["client", "plain"] {
        reach(&bed, from, "server")?;
    }
    let everything = "  action: AUDIT\n  rules:\n  - {}\n";
    let dry = "  annotations:\n    istio.io/dry-run: \"true\"\n";
    enforce(
        &bed,
        &[
            policy("AuthorizationPolicy", "watch", "server", everything),
            dry_or_not(dry, "AuthorizationPolicy", "tried", "server", "  action: DENY\n  rules:\n  - {}\n"),
        ]
        .concat(),
    )?;
    for from in ["client", "plain"] {
        for at in bed.http("server") {
            client_seen(bed.topology.pod(from).netns(), at, "/").with_context(|| format!("from {from} at {at}"))?;
        }
    }
    for (name, labels) in [
        ("weir_policy_audit_total", &["/watch\""][..]),
        ("weir_policy_dry_run_total", &["/tried\"", "result=\"denied\""][..]),
    ] {
        ensure!(metric(&bed.topology, 0, name, labels)? == 4, "{name}");
        ensure!(metric(&bed.topology, 0, name, &[])? == 4, "{name} of others");
    }
    let log = bed.mesh.agent(0).log();
    for words in
        ["audited: AuthorizationPolicy default/watch", "it would be refused: AuthorizationPolicy default/tried"]
    {
        // Four within ten seconds are one line.
        ensure!(log.lines().filter(|line| line.contains(words)).count() == 1, "{words}\n{log}");
    }
    let dump = config_dump(&bed.topology, 0)?;
    let tried = dump["policies"].as_array().context("a list")?.iter().find(|policy| policy["source"] == "tried");
    ensure!(tried.is_some_and(|policy| policy["dryRun"] == true), "{}", dump["policies"]);
    bed.mesh.stop()
}

#[test]
fn an_agent_that_drains_still_ends_what_a_changed_policy_forbids() -> anyhow::Result<()> {
    let mut bed = Bed::start(
        [PodSpec::new("client", 1), PodSpec::new("plain", 0).unenrolled(), PodSpec::new("server", 0)],
        &["--drain", "60s"],
    )?;
    let mut held = Vec::new();
    for from in ["client", "plain"] {
        for at in bed.at("server", 7000) {
            held.push((from, open(&bed, from, "server", at)?));
        }
    }
    bed.mesh.agent(0).signal(Signal::SIGTERM)?;
    bed.mesh.agent_mut(0).wait_log("stopping: open connections may end", PATIENCE)?;
    bed.topology.add_manifest(FILE, &deny("no-client", "server", "client"))?;
    for (from, (client, app)) in &mut held {
        match *from {
            "client" => reset(client).and_then(|()| reset(app)),
            _ => talk(client, app, "still here"),
        }
        .with_context(|| format!("what {from} holds"))?;
    }
    drop(held);
    ensure!(bed.mesh.agent_mut(0).wait(PATIENCE)?.success(), "it ends when the last connection has");
    Ok(())
}

/// Asks a node's agent, on that node, whether the client may enter the server: what it ends with, and what it prints.
fn weirctl(bed: &Bed, node: usize, words: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = Command::new(binary("weirctl")?);
    command.args(words).args(["--from=default/client", "--to=default/server:8080"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = bed.topology.nodes()[node].netns().spawn(command)?.wait_with_output()?;
    ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), String::from_utf8(output.stdout)?))
}

/// Every agent knows both of its hops: where the connection is led, and whether it is let in.
fn explained(bed: &Bed, code: i32, parts: &[&str]) -> anyhow::Result<()> {
    for node in 0..2 {
        // What one has read another may not have.
        eventually("it is explained", || {
            let (ended, told) = weirctl(bed, node, &["explain"])?;
            ensure!(ended == Some(code) && parts.iter().all(|part| told.contains(part)), "{ended:?}: {told}");
            Ok(true)
        })?;
    }
    Ok(())
}

#[test]
fn policies_that_are_taken_away_forbid_nothing_any_more() -> anyhow::Result<()> {
    let bed = Bed::two(&[])?;
    reach(&bed, "client", "server")?;
    let client = bed.topology.pod("client").netns();
    enforce(&bed, &policy("AuthorizationPolicy", "nobody", "server", ""))?;
    for at in bed.http("server") {
        refused(client, at)?;
    }
    let ask = || fetch(&bed.topology, 1, 15000, "/debug/authz?from=default/client&to=default/server:8080");
    let answer = ask()?;
    ensure!(answer.body.contains("\"verdict\": \"DENY\"") && answer.body.contains("nobody"), "{answer:?}");
    let (ended, told) = weirctl(&bed, 1, &["authz", "explain"])?;
    let reason = "DENY     no rule of AuthorizationPolicy default/nobody matches\n";
    ensure!(ended == Some(1) && told.starts_with(reason), "{ended:?}: {told}");
    let (_, json) = weirctl(&bed, 1, &["authz", "explain", "-o", "json"])?;
    ensure!(json == answer.body, "weirctl changes what the agent says: {json}");
    explained(&bed, 1, &["DENY", "AuthorizationPolicy default/nobody"])?;
    fs::remove_file(bed.topology.manifests_dir().join(FILE))?;
    for at in bed.http("server") {
        eventually("it may enter again", || Ok(client_seen(client, at, "/").is_ok()))?;
    }
    let answer = ask()?;
    ensure!(answer.body.contains("\"verdict\": \"ALLOW\""), "{answer:?}");
    let (ended, told) = weirctl(&bed, 1, &["authz", "explain"])?;
    ensure!(ended == Some(0) && told.starts_with("ALLOW    no ALLOW policy covers it"), "{ended:?}: {told}");
    explained(&bed, 0, &["ALLOW"])?;
    let own =
        weir_testbed::run_to_end(client, bed_command(&["get", "--to", &bed.http("server")[0].to_string()])?, PATIENCE)?;
    ensure!(own.contains("server"), "{own}");
    bed.mesh.stop()
}
