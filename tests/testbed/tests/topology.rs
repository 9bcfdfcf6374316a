//! The testbed itself: pods reach each other, the ear hears, and nothing stays behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weir_netlink::Rtnl;
use weir_testbed::work::{ConnectReport, RequestReport, StreamReport, as_float};
use weir_testbed::{
    PodSpec, Process, Removal, ServiceSpec, Sniffer, Stack, Topology, TopologySpec, WIRE, http_get, labels, run_to_end,
};

const PATIENCE: Duration = Duration::from_secs(20);
const BED: &str = env!("CARGO_BIN_EXE_weir-testbed");

fn bed(arguments: &[&str]) -> Command {
    let mut command = Command::new(BED);
    command.args(arguments);
    command
}

fn serve(topology: &Topology, pod: &str, arguments: &[&str], port: u16) -> Process {
    let mut command = bed(arguments);
    let addresses = topology.pod(pod).addresses();
    for ip in addresses {
        command.arg("--listen").arg(SocketAddr::new(*ip, port).to_string());
    }
    let mut process = topology.start_in_pod(pod, command).unwrap();
    process.wait_listening(SocketAddr::new(*addresses.last().unwrap(), port), PATIENCE).unwrap();
    process
}

fn two_pods() -> Topology {
    let mut topology = Topology::new(TopologySpec::default()).unwrap();
    topology.add_pod(PodSpec::new("client", 0)).unwrap();
    topology.add_pod(PodSpec::new("server", 1)).unwrap();
    topology
}

/// Whatever in the machine carries this prefix.
fn traces(prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["/run/netns", "/run", "/sys/fs/bpf"] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(prefix)));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(prefix)).map(PathBuf::from));
    found
}

fn wait_for_no_traces(prefix: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !traces(prefix).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", traces(prefix));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_pod_reaches_every_other_over_every_address_and_is_seen_as_itself() {
    let mut topology = Topology::new(TopologySpec { nodes: 3, mtu: 1500 }).unwrap();
    topology.add_pod(PodSpec::new("a", 0)).unwrap();
    topology.add_pod(PodSpec { addresses: 2, ..PodSpec::new("b", 0) }).unwrap();
    topology.add_pod(PodSpec { stack: Stack::V4, ..PodSpec::new("c", 1) }).unwrap();
    topology.add_pod(PodSpec { stack: Stack::V6, ..PodSpec::new("d", 2) }).unwrap();
    topology.add_pod(PodSpec { host_network: true, ..PodSpec::new("e", 1) }).unwrap();
    let names = ["a", "b", "c", "d", "e"];
    let _servers = names.map(|name| serve(&topology, name, &["serve-http", "--name", name], 8080));
    let mut reached = 0;
    for from in names.map(|name| topology.pod(name)) {
        for to in names.map(|name| topology.pod(name)).into_iter().filter(|to| to.spec().name != from.spec().name) {
            for ip in
                to.addresses().iter().filter(|ip| from.addresses().iter().any(|own| own.is_ipv4() == ip.is_ipv4()))
            {
                let answer = http_get(from.netns(), SocketAddr::new(*ip, 8080), "/").unwrap();
                assert_eq!(answer.status, 200);
                assert!(answer.body.contains(&format!("\"name\":\"{}\"", to.spec().name)), "{}", answer.body);
                let seen = from
                    .addresses()
                    .iter()
                    .any(|own| answer.body.contains(&SocketAddr::new(*own, 0).to_string().replace(":0", ":")));
                assert!(seen || from.spec().host_network, "{}: {}", from.spec().name, answer.body);
                reached += 1;
            }
        }
    }
    assert_eq!(reached, 8 + 6 + 4 + 4 + 8, "from a, b, c, d, e");
}

#[test]
fn nothing_stays_behind_when_it_is_dropped_even_by_a_panic() {
    let topology = two_pods();
    let prefix = topology.prefix().to_owned();
    assert!(traces(&prefix).len() >= 5, "{:?}", traces(&prefix));
    let server = serve(&topology, "server", &["serve-http"], 80);
    let pid = server.pid();
    let panicked = std::thread::spawn(move || {
        let (_topology, _server) = (topology, server);
        panic!("as intended");
    })
    .join();
    assert!(panicked.is_err());
    assert_eq!(traces(&prefix), Vec::<PathBuf>::new());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn nothing_stays_behind_when_the_run_is_killed() {
    const ROLE: &str = "WEIR_TESTBED_TEST_ROLE";
    let own_name = "nothing_stays_behind_when_the_run_is_killed";
    if std::env::var(ROLE).is_ok() {
        let topology = two_pods();
        let server = serve(&topology, "server", &["serve-http"], 80);
        println!("\nready {} {}", topology.prefix(), server.pid());
        loop {
            std::thread::park();
        }
    }
    let mut run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", own_name, "--nocapture"])
        .env(ROLE, "victim")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(run.stdout.take().unwrap());
    let line = loop {
        let mut line = String::new();
        assert_ne!(std::io::BufRead::read_line(&mut output, &mut line).unwrap(), 0, "it ended early");
        if line.starts_with("ready") {
            break line;
        }
    };
    let words: Vec<_> = line.split_whitespace().collect();
    assert!(traces(words[1]).len() >= 5);
    run.kill().unwrap();
    run.wait().unwrap();
    wait_for_no_traces(words[1]);
    let deadline = Instant::now() + PATIENCE;
    while Path::new(&format!("/proc/{}", words[2])).exists() {
        assert!(Instant::now() < deadline, "the server outlived its run");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_a_dead_run_left_is_swept_and_what_a_live_one_uses_is_not() {
    let topology = two_pods();
    let leftover = PathBuf::from("/run/netns/wt-999999999-1-1-node1");
    weir_netlink::NetNs::create(&leftover).unwrap();
    let removed = weir_testbed::sweep().unwrap();
    assert!(removed.contains(&leftover), "{removed:?}");
    assert!(!leftover.exists());
    assert!(topology.pod("client").netns_path().exists());
}

#[test]
fn a_pod_comes_back_with_the_address_it_had() {
    let mut topology = two_pods();
    let (spec, addresses) = (topology.pod("server").spec().clone(), topology.pod("server").addresses().to_vec());
    for order in [Removal::ObjectFirst, Removal::NetnsFirst] {
        let old = (topology.pod("server").uid().to_owned(), topology.pod("server").netns_path().to_owned());
        topology.remove_pod("server", order).unwrap();
        assert!(!old.1.exists());
        topology.add_pod_at(spec.clone(), addresses.clone()).unwrap();
        assert_ne!(topology.pod("server").uid(), old.0);
        let _server = serve(&topology, "server", &["serve-http"], 80);
        for ip in &addresses {
            http_get(topology.pod("client").netns(), SocketAddr::new(*ip, 80), "/").unwrap();
        }
    }
}

#[test]
fn the_manifests_describe_what_is_there() {
    let mut topology = two_pods();
    let selector = labels([("app", "server")]);
    let ports = vec![("http".to_owned(), 80, 8080)];
    let ips =
        topology.add_service(ServiceSpec { name: "web".into(), namespace: "default".into(), selector, ports }).unwrap();
    let allotted = topology.allot_cluster_ips("default", "elsewhere").unwrap();
    assert_eq!((topology.cluster_ips("web"), topology.cluster_ips("elsewhere")), (ips, allotted));
    assert_ne!(ips, allotted);
    topology.change_pod("client", |pod| pod.ready = false).unwrap();
    let text = fs::read_to_string(topology.manifests_dir().join("topology.yaml")).unwrap();
    let pod = topology.pod("server");
    for wanted in [
        format!("weir.dev/netns: {}", pod.netns_path().display()),
        format!("podIP: \"{}\"", pod.v4().unwrap()),
        format!("- ip: \"{}\"", pod.v6().unwrap()),
        format!("kind: IPAddress\nmetadata:\n  name: \"{}\"\n", allotted[1]),
        format!("clusterIP: \"{}\"", ips[0]),
        format!("- \"{}\"", ips[1]),
        "istio.io/dataplane-mode: \"ambient\"".into(),
        "nodeName: node2".into(),
        "containers:\n  - name: server\n    image: weir-testbed\n".into(),
        "status: \"False\"".into(),
    ] {
        assert!(text.contains(&wanted), "{wanted} is not in\n{text}");
    }
    assert_eq!(fs::read_dir(topology.manifests_dir()).unwrap().count(), 1, "no part files");
}

#[test]
fn a_needle_is_heard_on_the_wire_also_when_it_is_cut_in_two() {
    let topology = two_pods();
    let _server = serve(&topology, "server", &["serve-tcp", "--mode", "echo"], 15008);
    for ip in topology.pod("server").addresses() {
        let sniffer = Sniffer::start(topology.nodes()[0].netns(), WIRE, b"find-this-needle").unwrap();
        let mut stream = connect(&topology, *ip, 15008);
        for piece in [&b"find-this-needle and find-"[..], b"this-needle", b" but no need"] {
            stream.write_all(piece).unwrap();
            let mut echo = vec![0; piece.len()];
            stream.read_exact(&mut echo).unwrap();
        }
        drop(stream);
        let report = sniffer.stop().unwrap();
        assert_eq!(report.needle_hits, 4, "two, there and back: {report:?}");
        assert_eq!((report.hbone_connections, report.other_connections, report.lost), (1, 0, 0));
        assert!(report.tls.is_empty());
    }
}

fn connect(topology: &Topology, ip: IpAddr, port: u16) -> TcpStream {
    let connect = || TcpStream::connect_timeout(&SocketAddr::new(ip, port), PATIENCE).unwrap();
    let stream = topology.pod("client").netns().run(connect).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn tcp_servers_behave_as_their_mode_says() {
    let topology = two_pods();
    let modes = [
        ("echo", "hello", "hello"),
        ("banner", "hello", "220 weir ready\r\nhello"),
        ("half-close", "abc", "received 3 bytes, sum 294\n"),
        ("sink", "abc", "\0\0\0\0\0\0\0\u{3}"),
        ("source", "", "wwwwwwwwww"),
    ];
    for ((mode, sent, want), port) in modes.into_iter().zip(7000..) {
        let _server = serve(&topology, "server", &["serve-tcp", "--mode", mode, "--bytes", "10"], port);
        for ip in topology.pod("server").addresses() {
            let mut stream = connect(&topology, *ip, port);
            stream.write_all(sent.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, want, "{mode} at {ip}");
        }
    }
}

fn load<T: serde::de::DeserializeOwned>(topology: &Topology, arguments: &[&str], to: SocketAddr) -> T {
    let mut command = bed(arguments);
    command.args(["--to", &to.to_string()]);
    serde_json::from_str(&run_to_end(topology.pod("client").netns(), command, PATIENCE).unwrap()).unwrap()
}

#[test]
fn load_generators_report_what_they_did() {
    let topology = two_pods();
    let _http = serve(&topology, "server", &["serve-http", "--body-bytes", "100"], 80);
    let _sink = serve(&topology, "server", &["serve-tcp", "--mode", "sink"], 7000);
    let _source = serve(&topology, "server", &["serve-tcp", "--mode", "source"], 7001);
    for ip in topology.pod("server").addresses() {
        let http = SocketAddr::new(*ip, 80);
        let report: RequestReport = load(&topology, &["request", "--connections", "8", "--seconds", "0.3"], http);
        assert!(report.ok > 100 && report.failed == 0 && report.latency.p50_ms > 0.0, "{report:?}");
        let fixed = ["request", "--connections", "8", "--seconds", "0.5", "--rate", "400"];
        let report: RequestReport = load(&topology, &fixed, http);
        // As many as were due until the end, whenever a busy machine let that come; a connection each may be on its way.
        let due = 400.0 * report.seconds;
        assert!(((0.9 * due - 8.0)..=(due + 8.0)).contains(&as_float(report.ok)), "{report:?}");
        assert_eq!(report.failed, 0, "{report:?}");
        let most = ["request", "--connections", "4", "--most", "50"];
        let report: RequestReport = load(&topology, &most, http);
        assert_eq!((report.ok, report.failed), (50, 0));
        let report: ConnectReport = load(&topology, &["connect", "--at-once", "4", "--seconds", "0.3"], http);
        assert!(report.ok > 20 && report.failed == 0, "{report:?}");
        for (direction, port) in [("up", 7000), ("down", 7001)] {
            let arguments = ["stream", "--streams", "2", "--seconds", "0.3", "--direction", direction];
            let report: StreamReport = load(&topology, &arguments, SocketAddr::new(*ip, port));
            assert!(report.bytes > 10_000_000, "{direction}: {report:?}");
        }
    }
}

#[test]
fn a_page_is_printed() {
    let topology = two_pods();
    let _http = serve(&topology, "server", &["serve-http", "--body-bytes", "9"], 80);
    for ip in topology.pod("server").addresses() {
        let get = bed(&["get", "--to", &SocketAddr::new(*ip, 80).to_string()]);
        assert_eq!(run_to_end(topology.pod("client").netns(), get, PATIENCE).unwrap(), "weir weir\n");
    }
}

#[test]
fn failures_are_counted_as_failures() {
    let topology = two_pods();
    let _echo = serve(&topology, "server", &["serve-tcp", "--mode", "echo"], 7000);
    let nobody = SocketAddr::new(topology.pod("server").v4().unwrap(), 81);
    let report: ConnectReport = load(&topology, &["connect", "--seconds", "0.1"], nobody);
    assert!(report.ok == 0 && report.failed > 0, "{report:?}");
    let mut request = bed(&["request", "--seconds", "0.1", "--to", &nobody.to_string()]);
    request.stdout(Stdio::null());
    assert!(run_to_end(topology.pod("client").netns(), request, PATIENCE).is_err());
}

#[test]
fn held_connections_are_open_until_the_holder_ends() {
    let topology = two_pods();
    let _server = serve(&topology, "server", &["serve-http"], 80);
    let to = SocketAddr::new(topology.pod("server").v4().unwrap(), 80).to_string();
    let mut holder = topology.start_in_pod("client", bed(&["hold", "--connections", "300", "--to", &to])).unwrap();
    holder.wait_log("{\"open\":300}", PATIENCE).unwrap();
    let established = || {
        let table =
            topology.pod("client").netns().run(|| fs::read_to_string("/proc/thread-self/net/tcp")).unwrap().unwrap();
        table.lines().filter(|line| line.split_whitespace().nth(3) == Some("01")).count()
    };
    assert_eq!(established(), 300);
    assert!(holder.is_running().unwrap());
    drop(holder);
    assert_eq!(established(), 0);
}

#[test]
fn the_wire_counts_what_goes_over_it() {
    let topology = two_pods();
    let _server = serve(&topology, "server", &["serve-http"], 80);
    let to = SocketAddr::new(topology.pod("server").v6().unwrap(), 80);
    let before = Rtnl::open_in(topology.nodes()[0].netns()).unwrap().link(WIRE).unwrap().stats;
    http_get(topology.pod("client").netns(), to, "/").unwrap();
    let after = Rtnl::open_in(topology.nodes()[0].netns()).unwrap().link(WIRE).unwrap().stats;
    assert!(
        after.tx_packets >= before.tx_packets + 4 && after.rx_bytes > before.rx_bytes + 100,
        "{before:?} {after:?}"
    );
}
