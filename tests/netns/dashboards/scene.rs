//! A mesh with everything in it: weir-control, an agent on each node, a waypoint, pods that talk, and a Prometheus that looks on.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;
use weir_testbed::{PodSpec, Process, ServiceSpec, Topology, TopologySpec, binary, http_get, labels};
use weir_tests::{
    Cgroup, PATIENCE, agent, clean_up_all, connect, eventually, own, ready, serve, serve_http, wait_state,
};

use crate::prometheus::{POD, Prometheus, Target};

/// The name in the control plane's certificate.
pub(crate) const NAME: &str = "weir-control.weir-system.svc";
/// Where it serves agents.
const GRPC: u16 = 15012;
/// The service `web` is bound to the waypoint: HTTP at 80, anything at 81; and so is `lost`, which nothing stands behind. Of `shop` port 81
/// is closed by a policy.
const MANIFESTS: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: default, labels: {istio.io/use-waypoint: waypoint}}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp-echo, port: 81, targetPort: 7000}
---
apiVersion: v1
kind: Service
metadata: {name: lost, namespace: default, labels: {istio.io/use-waypoint: waypoint}}
spec:
  selector: {app: nobody}
  ports:
  - {name: http, port: 80, targetPort: 8080}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec:
  hosts: [web.default.svc.cluster.local]
  http:
  - match: [{uri: {prefix: /missing}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 404}}
    route: [{destination: {host: web.default.svc.cluster.local}}]
  - match: [{uri: {prefix: /broken}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 503}}
    route: [{destination: {host: web.default.svc.cluster.local}}]
  - route: [{destination: {host: web.default.svc.cluster.local}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: default}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{to: [{operation: {ports: ['7001']}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried, namespace: default, annotations: {istio.io/dry-run: 'true'}}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{to: [{operation: {ports: ['7000']}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watched, namespace: default}
spec:
  selector: {matchLabels: {app: server}}
  action: AUDIT
  rules: [{to: [{operation: {ports: ['7000']}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: requests-tried, namespace: default, annotations: {istio.io/dry-run: 'true'}}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  action: DENY
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: requests-watched, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  action: AUDIT
  rules: [{to: [{operation: {methods: [GET]}}]}]
";

pub(crate) struct Scene {
    pub(crate) prometheus: Prometheus,
    pub(crate) waypoint: Process,
    /// Ended before the cgroups that their processes are in.
    servers: Vec<Process>,
    pub(crate) agents: Vec<Process>,
    pub(crate) control: Process,
    cgroups: Vec<Cgroup>,
    pub(crate) topology: Topology,
}

impl Scene {
    /// All of it, with these flags of weir-control besides.
    pub(crate) fn start(flags: &[&str]) -> anyhow::Result<Self> {
        let mut topology = Topology::new(TopologySpec::default())?;
        for (name, node) in [("client", 0), ("web", 1), ("server", 1)] {
            topology.add_pod(PodSpec::new(name, node).unannotated())?;
        }
        topology.add_pod(PodSpec::new("legacy", 0).unenrolled())?;
        topology.add_pod(PodSpec::new(POD, 0).unenrolled())?;
        topology.add_waypoint("waypoint", 1)?;
        for name in ["web", "lost"] {
            topology.allot_cluster_ips("default", name)?;
        }
        topology.add_service(ServiceSpec {
            name: "shop".into(),
            namespace: "default".into(),
            selector: labels([("app", "server")]),
            ports: vec![("tcp-open".into(), 80, 7000), ("tcp-closed".into(), 81, 7001)],
        })?;
        topology.add_manifest("more.yaml", MANIFESTS)?;
        write_tokens(&topology)?;
        let control = start_control(&topology, flags)?;
        let (mut cgroups, mut servers) = (Vec::new(), Vec::new());
        // Agents find a pod by a process of its in a cgroup of its.
        for pod in ["client", "web", "server"] {
            let cgroup = Cgroup::new(&topology, topology.pod(pod).uid())?;
            servers.push(serve_http(&topology, pod)?);
            cgroup.take(servers.last().context("just pushed")?)?;
            cgroups.push(cgroup);
        }
        for (pod, port) in [("web", 7000), ("server", 7000), ("server", 7001)] {
            servers.push(serve(&topology, pod, &["serve-tcp", "--mode", "echo"], port)?);
        }
        let agents = (0..2).map(|node| start_agent(&topology, node)).collect::<anyhow::Result<Vec<_>>>()?;
        for (node, pod) in [(0, "client"), (1, "web"), (1, "server")] {
            wait_state(&topology, node, pod, "Enrolled")?;
            eventually("the agent is ready", || ready(&topology, node))?;
        }
        let waypoint = start_waypoint(&topology)?;
        let prometheus = Prometheus::start(&topology, &targets(&topology))?;
        let scene = Self { prometheus, waypoint, servers, agents, control, cgroups, topology };
        eventually("traffic passes", || scene.traffic().map(|()| true)).with_context(|| scene.logs())?;
        Ok(scene)
    }

    /// A bit of everything: requests that are answered with each class of status, connections that are none, some in the clear.
    pub(crate) fn traffic(&self) -> anyhow::Result<()> {
        for from in ["client", "web"] {
            for (path, want) in [("/", 200), ("/missing", 404), ("/broken", 503)] {
                self.request(from, path, want)?;
            }
            for at in self.at("web", 81).into_iter().chain(self.at("shop", 80)) {
                self.echo(from, at)?;
            }
        }
        for ip in self.topology.pod("server").addresses() {
            self.echo("legacy", SocketAddr::new(*ip, 7000))?;
        }
        Ok(())
    }

    /// A request through the waypoint to an address of each family, and the status that it must be answered with.
    pub(crate) fn request(&self, from: &str, path: &str, want: u16) -> anyhow::Result<()> {
        for at in self.at("web", 80) {
            let answer = self.ask(from, at, path)?;
            ensure!(answer == want, "{from} to {at}{path}: {answer}");
        }
        Ok(())
    }

    /// What a policy refuses.
    pub(crate) fn refused(&self) -> anyhow::Result<()> {
        for at in self.at("shop", 81) {
            ensure!(self.echo("client", at).is_err(), "{at} was served");
        }
        Ok(())
    }

    /// What has no endpoint.
    pub(crate) fn lost(&self) -> anyhow::Result<()> {
        for at in self.at("lost", 80) {
            let status = self.ask("client", at, "/")?;
            ensure!(status == 503, "{at}: {status}");
        }
        Ok(())
    }

    fn at(&self, service: &str, port: u16) -> [SocketAddr; 2] {
        self.topology.cluster_ips(service).map(|ip| SocketAddr::new(ip, port))
    }

    fn ask(&self, from: &str, at: SocketAddr, path: &str) -> anyhow::Result<u16> {
        Ok(http_get(self.topology.pod(from).netns(), at, path)?.status)
    }

    fn echo(&self, from: &str, at: SocketAddr) -> anyhow::Result<()> {
        let mut stream = connect(self.topology.pod(from).netns(), at)?;
        stream.write_all(b"hello").with_context(|| format!("{from} to {at}"))?;
        stream.shutdown(Shutdown::Write)?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back).with_context(|| format!("{from} to {at}"))?;
        ensure!(back == b"hello", "{from} to {at}: {back:?} came back");
        Ok(())
    }

    /// Everybody's last words, for people.
    pub(crate) fn logs(&self) -> String {
        let tail = |name: &str, log: String| {
            let lines: Vec<&str> = log.lines().collect();
            format!("{name}:\n{}\n", lines[lines.len().saturating_sub(25)..].join("\n"))
        };
        let agents = self.agents.iter().map(|agent| tail("agent", agent.log())).collect::<String>();
        let (control, waypoint) = (tail("control", self.control.log()), tail("waypoint", self.waypoint.log()));
        agents + &control + &waypoint + &tail(POD, self.prometheus.log())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.servers.clear();
        self.agents.clear();
        clean_up_all(&self.topology);
        // The first made the parents of the others.
        while self.cgroups.pop().is_some() {}
    }
}

fn write_tokens(topology: &Topology) -> anyhow::Result<()> {
    let dir = topology.work_dir();
    let mut list = String::new();
    for (name, account, node) in [
        ("node1", "weir-system/weir-agent", "node1"),
        ("node2", "weir-system/weir-agent", "node2"),
        ("waypoint", "default/waypoint", ""),
    ] {
        let token = format!("0123456789abcdef-{name}");
        list += &format!("{token} {account} {node}\n");
        fs::write(dir.join(format!("token-{name}")), token)?;
    }
    fs::write(dir.join("tokens"), list)?;
    Ok(())
}

fn start_control(topology: &Topology, flags: &[&str]) -> anyhow::Result<Process> {
    let dir = topology.work_dir();
    let mut command = Command::new(binary("weir-control")?);
    command.arg("--manifests").arg(topology.manifests_dir());
    command.arg("--ca-dir").arg(dir.join("control-ca"));
    command.arg("--static-tokens").arg(dir.join("tokens"));
    command.args(["--admin-addr", "localhost:15010"]).args(flags);
    let mut control = topology.start_on_node(0, command)?;
    control.wait_ready(own(8080), "/ready", PATIENCE)?;
    Ok(control)
}

/// Where the control plane is, on the first node, by the address of one family.
pub(crate) fn control_at(topology: &Topology, family: usize) -> SocketAddr {
    SocketAddr::new(topology.nodes()[0].addresses()[family], GRPC)
}

/// The flags by which a program follows the control plane.
fn follow(command: &mut Command, topology: &Topology, family: usize, token: &str) {
    let dir = topology.work_dir();
    command.args(["--control", &format!("https://{}", control_at(topology, family)), "--control-name", NAME]);
    for flag in ["--control-roots", "--ca-roots"] {
        command.arg(flag).arg(dir.join("control-ca/root-cert.pem"));
    }
    command.arg("--token").arg(dir.join(format!("token-{token}")));
}

fn start_agent(topology: &Topology, node: usize) -> anyhow::Result<Process> {
    let name = topology.nodes()[node].name();
    let mut command = Command::new(agent()?);
    follow(&mut command, topology, node, name);
    command.args(["--on-demand", "false", "--node-name", name]).arg("--bpf-dir").arg(topology.bpf_dir(node));
    topology.start_on_node(node, command)
}

fn start_waypoint(topology: &Topology) -> anyhow::Result<Process> {
    let mut command = Command::new(binary("weir-waypoint")?);
    command.args(["--gateway", "default/waypoint", "--pod-name", "waypoint", "--node-name", "node2"]);
    // Nobody listens there: spans are counted all the same.
    command.args(["--otlp-endpoint", "http://127.0.0.1:4318"]);
    follow(&mut command, topology, 1, "waypoint");
    let mut waypoint = topology.start_in_pod("waypoint", command)?;
    waypoint.wait_ready(own(15021), "/healthz/ready", PATIENCE)?;
    Ok(waypoint)
}

/// What deploy/prometheus/scrape.yaml finds in a cluster, with the same labels.
fn targets(topology: &Topology) -> Vec<Target> {
    let mut targets = Vec::new();
    for (number, node) in topology.nodes().iter().enumerate() {
        let pod = format!("weir-agent-{}", node.name());
        let labels = json!({ "namespace": "weir-system", "pod": pod, "node": node.name() });
        let at = SocketAddr::new(node.addresses()[number], 15020);
        targets.push(Target { job: "weir-agent", labels, at });
    }
    let labels = json!({ "namespace": "default", "pod": "waypoint-1", "gateway": "waypoint" });
    let at = SocketAddr::new(topology.pod("waypoint").addresses()[0], 15020);
    targets.push(Target { job: "weir-waypoint", labels, at });
    let labels = json!({ "namespace": "weir-system", "pod": "weir-control-1" });
    let at = SocketAddr::new(topology.nodes()[0].addresses()[1], 15014);
    targets.push(Target { job: "weir-control", labels, at });
    targets
}
