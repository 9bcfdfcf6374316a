//! A service of two pods behind a waypoint, two clients, and what they ask with.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use weir_testbed::{PodSpec, Process, Tally, Topology, TopologySpec, Waypoint, binary, http_get, run_to_end};
use weir_tests::{Bed, PATIENCE, agent, eventually, own};

/// A server of ours, that is quick.
pub(crate) const QUICK: u16 = 80;
/// A server of another make, that says what it was asked.
pub(crate) const ECHO: u16 = 81;
/// gRPC.
pub(crate) const GRPC: u16 = 82;
/// WebSocket.
pub(crate) const SOCKET: u16 = 83;
/// Where the one of another make is in its pod.
const ECHO_TARGET: u16 = 8081;
/// The service `web`, bound to the waypoint.
const WEB: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: default
  labels:
    istio.io/use-waypoint: waypoint
spec:
  selector:
    app: web
  ports:
  - {name: http-quick, port: 80, targetPort: 8080}
  - {name: http-echo, port: 81, targetPort: 8081}
  - {name: grpc, port: 82, targetPort: 8082}
  - {name: http-socket, port: 83, targetPort: 8083}
  - {name: tcp-line, port: 84, targetPort: 8080}
";
/// Connections that are no HTTP, to the server of ours.
pub(crate) const LINE: u16 = 84;
/// Where the waypoint is handed what its agent took.
pub(crate) const HANDED: u16 = 15088;
/// Where the control plane is served on the first node.
const DISCOVERY: u16 = 15012;
/// Tokens of the agents, in the order of their nodes, and of the waypoint.
const TOKENS: [&str; 3] = ["0123456789abcdef-one", "0123456789abcdef-two", "0123456789abcdef-waypoint"];

/// From whom agents and waypoint have the mesh, and who ends HBONE before the waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A folder; the waypoint itself.
    Folder,
    /// A folder; the agent of its node, which hands over to it.
    Agent,
    /// weir-control; the waypoint itself.
    Control,
}

/// Clients `client` and `other` on the first node, `web-1` on the second, `web-2` on the first, the waypoint on the second.
pub(crate) struct Scene {
    by: By,
    pub(crate) control: Option<Process>,
    pub(crate) waypoint: Option<Waypoint>,
    /// The servers of another make, by pod.
    pub(crate) echo: BTreeMap<&'static str, Process>,
    pub(crate) bed: Bed,
}

/// What curl heard.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    /// `1.1` or `2`.
    pub(crate) version: String,
    pub(crate) body: String,
}

impl Scene {
    /// All of it, with these manifests besides; the waypoint is the only way to `web`, and used.
    pub(crate) fn new(manifests: &[(&str, &str)]) -> Self {
        Self::by(By::Folder, manifests, |_| {})
    }

    /// The same by another way, with more in it.
    pub(crate) fn by(by: By, manifests: &[(&str, &str)], more: impl FnOnce(&mut Topology)) -> Self {
        let mut topology = Topology::new(TopologySpec::default()).unwrap();
        for pod in [
            PodSpec::new("client", 0),
            PodSpec::new("other", 0),
            PodSpec::new("web-1", 1).label("app", "web").label("version", "1"),
            PodSpec::new("web-2", 0).label("app", "web").label("version", "2"),
        ] {
            topology.add_pod(pod).unwrap();
        }
        topology.add_waypoint("waypoint", 1).unwrap();
        topology.allot_cluster_ips("default", "web").unwrap();
        topology.add_manifest("web.yaml", WEB).unwrap();
        for (name, content) in manifests {
            topology.add_manifest(name, content).unwrap();
        }
        more(&mut topology);
        let control = (by == By::Control).then(|| start_control(&topology));
        let bed = match by {
            By::Folder | By::Agent => Bed::on(topology, &[]),
            By::Control => Bed::controlled(topology, controlled),
        };
        let mut scene = Self { by, control, waypoint: None, echo: BTreeMap::new(), bed: bed.unwrap() };
        for pod in ["web-1", "web-2"] {
            scene.start_echo(pod);
        }
        scene.start_waypoint();
        scene
    }

    /// Starts the waypoint, and waits until both pods are reached through it over both families.
    pub(crate) fn start_waypoint(&mut self) {
        let (program, topology) = (binary("weir-waypoint").unwrap(), &self.bed.topology);
        let flags: Vec<OsString> = match self.by {
            By::Folder => Vec::new(),
            By::Agent => {
                let at = format!("[::]:{HANDED}");
                vec!["--manifests".into(), topology.manifests_dir().into(), "--proxy-addr".into(), at.into()]
            }
            By::Control => to_control(topology, 2),
        };
        let waypoint = match self.by {
            By::Folder => Waypoint::start(topology, &program, "waypoint"),
            By::Agent | By::Control => {
                let flags: Vec<&OsStr> = flags.iter().map(OsString::as_os_str).collect();
                Waypoint::start_from(topology, &program, "waypoint", &flags)
            }
        };
        self.waypoint = Some(waypoint.unwrap());
        self.reached();
    }

    pub(crate) fn reached(&self) {
        let own = self.bed.topology.pod("waypoint").addresses();
        for (from, at) in ["client", "other"].into_iter().flat_map(|from| self.at(QUICK).map(|at| (from, at))) {
            let through = || {
                let answer = http_get(self.bed.topology.pod(from).netns(), at, "/reached")?;
                let seen: Value = serde_json::from_str(&answer.body).with_context(|| format!("{answer:?}"))?;
                let client: SocketAddr = seen["client"].as_str().context("client")?.parse()?;
                ensure!(own.contains(&client.ip()), "{seen}");
                Ok(true)
            };
            eventually("the service is reached through the waypoint", through)
                .unwrap_or_else(|error| panic!("{from} to {at}: {error:#}\n{}", self.logs()));
        }
    }

    pub(crate) fn waypoint(&self) -> &Waypoint {
        self.waypoint.as_ref().unwrap()
    }

    /// A port of the service, at its address of each family.
    pub(crate) fn at(&self, port: u16) -> [SocketAddr; 2] {
        self.bed.topology.cluster_ips("web").map(|ip| SocketAddr::new(ip, port))
    }

    /// What curl hears of `path` at the echo, asked from a pod.
    pub(crate) fn curl(&self, from: &str, at: SocketAddr, path: &str, more: &[&str]) -> anyhow::Result<Heard> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--globoff", "--path-as-is", "--max-time", "30"]);
        command.args(["--write-out", "\n%{http_code} %{http_version}"]).args(more).arg(format!("http://{at}{path}"));
        let said = self.run(from, command)?;
        let (body, end) = said.rsplit_once('\n').context("curl says how it went")?;
        let (status, version) = end.split_once(' ').context("a status and a version")?;
        Ok(Heard { status: status.parse()?, version: version.to_owned(), body: body.to_owned() })
    }

    /// Curl's status of `path`.
    pub(crate) fn status(&self, from: &str, at: SocketAddr, path: &str, more: &[&str]) -> u16 {
        let heard = self.curl(from, at, path, more);
        heard.unwrap_or_else(|error| panic!("{from} {at}{path} {more:?}: {error:#}\n{}", self.logs())).status
    }

    /// What the echo was asked, by what it answers.
    pub(crate) fn asked(&self, at: SocketAddr, path: &str, more: &[&str]) -> Value {
        let heard = self.curl("client", at, path, more).unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
        assert_eq!(heard.status, 200, "{at}{path} {more:?}: {heard:?}\n{}", self.logs());
        serde_json::from_str(&heard.body).unwrap_or_else(|error| panic!("{at}{path}: {error}: {heard:?}"))
    }

    /// Waits until the status of `path` is `want`: a change has come everywhere.
    pub(crate) fn wait_status(&self, from: &str, path: &str, more: &[&str], want: u16) {
        for at in self.at(ECHO) {
            eventually(&format!("{path} is answered with {want}"), || {
                Ok(self.curl(from, at, path, more)?.status == want)
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
        }
    }

    /// How often each method and path came to a pod's echo, asked past the waypoint.
    pub(crate) fn counts(&self, pod: &str) -> BTreeMap<String, u64> {
        let at = SocketAddr::new(self.pod_ip(pod), ECHO_TARGET);
        let answer = http_get(self.bed.topology.pod("client").netns(), at, "/counts").unwrap();
        serde_json::from_str(&answer.body).unwrap()
    }

    /// How often this came to a pod's echo.
    pub(crate) fn count(&self, pod: &str, what: &str) -> u64 {
        self.counts(pod).get(what).copied().unwrap_or(0)
    }

    fn pod_ip(&self, pod: &str) -> IpAddr {
        self.bed.topology.pod(pod).addresses()[0]
    }

    /// Who answered how often.
    pub(crate) fn tally(&self, at: SocketAddr, path: &str, requests: u64) -> BTreeMap<String, u64> {
        let tally = Tally { to: at, path, requests, field: "name" };
        let netns = self.bed.topology.pod("client").netns();
        tally.run(netns).unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()))
    }

    /// Starts a pod's server of another make.
    pub(crate) fn start_echo(&mut self, pod: &'static str) {
        let mut process = self.serve(pod, python("backend.py", &[], &[pod]), ECHO_TARGET);
        process.wait_listening(SocketAddr::new(self.pod_ip(pod), ECHO_TARGET), PATIENCE).unwrap();
        self.echo.insert(pod, process);
    }

    /// Runs a server in a pod, at a port of all its addresses.
    pub(crate) fn serve(&self, pod: &str, mut command: Command, port: u16) -> Process {
        let addresses = self.bed.topology.pod(pod).addresses();
        command.args(addresses.iter().map(|ip| SocketAddr::new(*ip, port).to_string()));
        let mut process = self.bed.topology.start_in_pod(pod, command).unwrap();
        for ip in addresses {
            process.wait_listening(SocketAddr::new(*ip, port), PATIENCE).unwrap();
        }
        process
    }

    /// Runs a program in a pod to its end.
    pub(crate) fn run(&self, pod: &str, command: Command) -> anyhow::Result<String> {
        run_to_end(self.bed.topology.pod(pod).netns(), command, PATIENCE)
    }

    /// Everybody's logs, for people.
    pub(crate) fn logs(&self) -> String {
        let waypoint = self.waypoint.as_ref().map(Waypoint::log).unwrap_or_default();
        let tail = |log: String| {
            log.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        let [first, second] = [0, 1].map(|node| tail(self.bed.mesh.agent(node).log()));
        format!("waypoint:\n{}\nnode1:\n{first}\nnode2:\n{second}", tail(waypoint))
    }

    /// Ends all of it in order.
    pub(crate) fn stop(self) {
        let Self { control, waypoint, echo, bed, by: _ } = self;
        waypoint.map_or(Ok(()), Waypoint::stop).unwrap();
        drop(echo);
        bed.mesh.stop().unwrap();
        drop(control);
    }
}

/// A control plane on the first node, which follows the manifests.
fn start_control(topology: &Topology) -> Process {
    let dir = topology.work_dir();
    let accounts = ["weir-system/weir-agent", "weir-system/weir-agent", "default/waypoint"];
    let mut list = String::new();
    for (number, (token, account)) in TOKENS.into_iter().zip(accounts).enumerate() {
        let node = topology.nodes().get(number).map(|node| node.name()).unwrap_or_default();
        writeln!(list, "{token} {account} {node}").unwrap();
        std::fs::write(dir.join(format!("token-{number}")), token).unwrap();
    }
    std::fs::write(dir.join("tokens"), list).unwrap();
    let mut command = Command::new(binary("weir-control").unwrap());
    command.arg("--manifests").arg(topology.manifests_dir());
    command.arg("--ca-dir").arg(dir.join("control-ca"));
    command.arg("--static-tokens").arg(dir.join("tokens"));
    // An agent of the same node has the usual one.
    command.args(["--admin-addr", "localhost:15010"]);
    let mut control = topology.start_on_node(0, command).unwrap();
    control.wait_ready(own(8080), "/ready", PATIENCE).unwrap();
    control
}

/// What a program is told of the control plane, with a token of its own.
fn to_control(topology: &Topology, token: usize) -> Vec<OsString> {
    let (dir, at) = (topology.work_dir(), SocketAddr::new(topology.nodes()[0].addresses()[token % 2], DISCOVERY));
    let roots = dir.join("control-ca/root-cert.pem").into_os_string();
    let mut flags: Vec<OsString> = vec!["--control".into(), format!("https://{at}").into()];
    flags.extend(["--control-name".into(), "weir-control.weir-system.svc".into()]);
    flags.extend(["--control-roots".into(), roots.clone(), "--ca-roots".into(), roots]);
    flags.extend(["--token".into(), dir.join(format!("token-{token}")).into()]);
    flags
}

fn controlled(topology: &Topology, node: usize) -> Command {
    let mut command = Command::new(agent().unwrap());
    command.args(to_control(topology, node));
    command.args(["--node-name", topology.nodes()[node].name()]).arg("--bpf-dir").arg(topology.bpf_dir(node));
    command
}

/// One of our scripts, with these libraries.
pub(crate) fn python(script: &str, libraries: &[&str], arguments: &[&str]) -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(here.join("netns/l7").join(script)).args(arguments);
    let paths: Vec<PathBuf> = libraries.iter().map(|setup| library(&here.join("interop").join(setup))).collect();
    command.env("PYTHONPATH", std::env::join_paths(paths).unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The path to import a library from; fetched the first time.
fn library(setup: &Path) -> PathBuf {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("interop");
    let output = Command::new(setup).arg(target).output().unwrap();
    assert!(output.status.success(), "{}: {}", setup.display(), String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}
