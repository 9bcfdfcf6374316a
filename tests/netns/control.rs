//! Agents under a control plane: weir-control tells them of the mesh and signs for them, and may go away.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use weir_testbed::{PodSpec, Process, ServiceSpec, Topology, TopologySpec, binary, http_get, labels};
use weir_tests::{
    Cgroup, PATIENCE, Server, agent, clean_up_all, client_seen, config_dump, connect, eventually, metric, own,
    pod_state, ready, refused, serve_http, talk, wait_known, wait_state,
};

/// Where the control plane is served on its node, besides what agents have there.
const GRPC: u16 = 15012;
const STATS: u16 = 15014;
const READY: u16 = 8080;

/// Two nodes, weir-control on the first, an agent under it on each.
struct Controlled {
    /// Ended before the cgroups that their processes are in.
    servers: Vec<Process>,
    agents: Vec<Process>,
    control: Process,
    cgroups: Vec<Cgroup>,
    topology: Topology,
}

impl Controlled {
    fn start(on_demand: bool) -> anyhow::Result<Self> {
        let mut topology = Topology::new(TopologySpec::default())?;
        for pod in [PodSpec::new("client", 0), PodSpec::new("server", 1).label("app", "server")] {
            topology.add_pod(pod.unannotated())?;
        }
        topology.add_service(ServiceSpec {
            name: "shop".to_owned(),
            namespace: "default".to_owned(),
            selector: labels([("app", "server")]),
            ports: vec![("http".to_owned(), 80, 8080)],
        })?;
        let dir = topology.work_dir();
        let tokens = ["0123456789abcdef-one", "0123456789abcdef-two"];
        let mut list = String::new();
        for (node, token) in topology.nodes().iter().zip(tokens) {
            list += &format!("{token} weir-system/weir-agent {}\n", node.name());
            fs::write(dir.join(format!("token-{}", node.name())), token)?;
        }
        fs::write(dir.join("tokens"), list)?;
        let control = start_control(&topology)?;
        let mut bed = Self { servers: Vec::new(), agents: Vec::new(), control, cgroups: Vec::new(), topology };
        for pod in ["client", "server"] {
            bed.serve(pod)?;
        }
        for node in 0..2 {
            let agent = bed.start_agent(node, on_demand)?;
            bed.agents.push(agent);
        }
        for (node, pod) in ["client", "server"].into_iter().enumerate() {
            wait_state(&bed.topology, node, pod, "Enrolled")?;
            eventually("the agent is ready", || ready(&bed.topology, node))?;
        }
        Ok(bed)
    }

    /// A server in a pod, in the pod's own cgroup: so that the agent finds the pod.
    fn serve(&mut self, pod: &str) -> anyhow::Result<()> {
        let cgroup = Cgroup::new(&self.topology, self.topology.pod(pod).uid())?;
        let server = serve_http(&self.topology, pod)?;
        cgroup.take(&server)?;
        self.cgroups.push(cgroup);
        self.servers.push(server);
        Ok(())
    }

    fn start_agent(&self, node: usize, on_demand: bool) -> anyhow::Result<Process> {
        let (dir, topology) = (self.topology.work_dir(), &self.topology);
        let name = topology.nodes()[node].name();
        let at = SocketAddr::new(topology.nodes()[0].addresses()[node], GRPC);
        let mut command = Command::new(agent()?);
        command.args(["--control", &format!("https://{at}"), "--control-name", "weir-control.weir-system.svc"]);
        for flag in ["--control-roots", "--ca-roots"] {
            command.arg(flag).arg(dir.join("control-ca/root-cert.pem"));
        }
        command.arg("--token").arg(dir.join(format!("token-{name}")));
        command.args(["--on-demand", if on_demand { "true" } else { "false" }, "--node-name", name]);
        command.arg("--bpf-dir").arg(topology.bpf_dir(node));
        topology.start_on_node(node, command)
    }

    /// Whether `client` reaches `server` by its addresses and by the service, through the mesh.
    fn meet(&self) -> anyhow::Result<()> {
        let labels = ["reporter=\"source\"", "connection_security_policy=\"mutual_tls\""];
        let tunnelled = || metric(&self.topology, 0, "istio_tcp_connections_opened_total", &labels);
        let before = tunnelled()?;
        let client = self.topology.pod("client");
        let pods = self.topology.pod("server").addresses().iter().map(|ip| SocketAddr::new(*ip, 8080));
        let vips = self.topology.cluster_ips("shop").map(|ip| SocketAddr::new(ip, 80));
        for to in pods.chain(vips) {
            let (name, seen) = client_seen(client.netns(), to, "/")
                .with_context(|| format!("{to}\n{}\n{}", self.agents[0].log(), self.agents[1].log()))?;
            ensure!(name == "server" && client.addresses().contains(&seen), "{to} is {name} and saw {seen}");
        }
        ensure!(tunnelled()? == before + 4, "not every connection went through the mesh");
        Ok(())
    }

    fn kill_control(&mut self) -> anyhow::Result<()> {
        self.control.signal(Signal::SIGKILL)?;
        self.control.wait(PATIENCE)?;
        self.connected(false)
    }

    /// Waits until every agent says so of its control plane.
    fn connected(&self, connected: bool) -> anyhow::Result<()> {
        eventually("the agents notice", || {
            for node in 0..2 {
                if metric(&self.topology, node, "weir_control_connected", &[])? != u64::from(connected) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// A number of weir-control's.
    fn control_metric(&self, name: &str) -> anyhow::Result<u64> {
        let answer = http_get(self.topology.nodes()[0].netns(), own(STATS), "/metrics")?;
        let lines = answer.body.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        lines.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
    }

    fn stop(mut self) -> anyhow::Result<()> {
        for agent in &mut self.agents {
            agent.signal(Signal::SIGTERM)?;
            let status = agent.wait(PATIENCE)?;
            ensure!(status.success(), "an agent ended with {status}\n{}", agent.log());
        }
        self.control.signal(Signal::SIGTERM)?;
        let status = self.control.wait(PATIENCE)?;
        ensure!(status.success(), "weir-control ended with {status}\n{}", self.control.log());
        Ok(())
    }
}

impl Drop for Controlled {
    fn drop(&mut self) {
        self.servers.clear();
        self.agents.clear();
        clean_up_all(&self.topology);
        // The first made the parents of the others.
        while self.cgroups.pop().is_some() {}
    }
}

fn start_control(topology: &Topology) -> anyhow::Result<Process> {
    let dir = topology.work_dir();
    let mut command = Command::new(binary("weir-control")?);
    command.arg("--manifests").arg(topology.manifests_dir());
    command.arg("--ca-dir").arg(dir.join("control-ca"));
    command.arg("--static-tokens").arg(dir.join("tokens"));
    command.args(["--admin-addr", "localhost:15010"]);
    let mut control = topology.start_on_node(0, command)?;
    control.wait_ready(own(READY), "/ready", PATIENCE)?;
    Ok(control)
}

#[test]
fn agents_live_by_a_control_plane_and_go_on_without_it() -> anyhow::Result<()> {
    let mut bed = Controlled::start(false)?;
    bed.meet()?;
    let server =
        Server::open(bed.topology.pod("server"), SocketAddr::new(bed.topology.pod("server").addresses()[0], 7000))?;
    let to = SocketAddr::new(bed.topology.pod("server").addresses()[0], 7000);
    let mut client = connect(bed.topology.pod("client").netns(), to)?;
    let mut app = server.accept()?;
    talk(&mut client, &mut app, "hello")?;

    bed.kill_control()?;
    talk(&mut client, &mut app, "still here")?;
    bed.meet().context("without the control plane")?;
    let dump = config_dump(&bed.topology, 0)?;
    ensure!(dump["control"]["connected"] == false && dump["control"]["lastLost"]["reason"].is_string(), "{dump:#}");

    // Who begins without it knows nothing, and lets nothing through.
    bed.agents[0].signal(Signal::SIGKILL)?;
    bed.agents[0].wait(PATIENCE)?;
    bed.agents[0] = bed.start_agent(0, false)?;
    eventually("the agent answers", || Ok(!ready(&bed.topology, 0)?))?;
    refused(bed.topology.pod("client").netns(), SocketAddr::new(to.ip(), 8080))?;

    bed.control = start_control(&bed.topology)?;
    bed.connected(true)?;
    eventually("the agent is ready", || ready(&bed.topology, 0))?;
    wait_state(&bed.topology, 0, "client", "Enrolled")?;
    bed.meet().context("with the control plane back")?;
    // The agent of the second node had it all: two pods, their service, and what else the testbed declares went to the first alone.
    let resources = bed.control_metric("weir_mesh_resources{type=\"workload\"}")?;
    let sent = bed.control_metric("weir_xds_resources_sent_total{type=\"workload\"}")?;
    ensure!(sent == resources, "{sent} resources were sent, of {resources}: unchanged ones again");

    // And it is followed.
    bed.topology.add_pod(PodSpec::new("late", 1).unannotated())?;
    bed.serve("late")?;
    wait_state(&bed.topology, 1, "late", "Enrolled")?;
    wait_known(&bed.topology, 0, "late", true)?;
    for ip in bed.topology.pod("late").addresses() {
        let (name, _) = client_seen(bed.topology.pod("client").netns(), SocketAddr::new(*ip, 8080), "/")?;
        ensure!(name == "late", "{ip} is {name}");
    }
    bed.topology.change_pod("late", |spec| {
        spec.labels.insert("istio.io/dataplane-mode".to_owned(), "none".to_owned());
    })?;
    eventually("it is let go", || {
        Ok(pod_state(&bed.topology, 1, "late")?.is_none_or(|(state, _)| state == "NotEnrolled"))
    })?;
    bed.stop()
}

#[test]
fn on_demand_an_agent_knows_its_own_pods_and_what_they_talk_to() -> anyhow::Result<()> {
    let mut bed = Controlled::start(true)?;
    let known = |bed: &Controlled| -> anyhow::Result<Vec<String>> {
        let dump = config_dump(&bed.topology, 0)?;
        let workloads = dump["workloads"].as_array().context("workloads is a list")?;
        Ok(workloads.iter().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect())
    };
    ensure!(known(&bed)? == ["client"], "before anybody asks: {:?}", known(&bed)?);
    bed.meet()?;
    ensure!(known(&bed)? == ["client", "server"], "afterwards: {:?}", known(&bed)?);

    // What goes through a waypoint asks for that, too. The waypoint's agent does not know that it is one, and refuses.
    let bound = |name: &str, waypoint: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default, labels: {{istio.io/use-waypoint: {waypoint}}}}}\n\
             spec: {{selector: {{app: client}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
        )
    };
    let (selector, ports) = (labels([("app", "server")]), vec![("mesh".to_owned(), 15008, 15008)]);
    bed.topology.add_service(ServiceSpec { name: "gate".into(), namespace: "default".into(), selector, ports })?;
    for (name, waypoint, words) in [
        ("lost", "nobody", ["default/nobody.default.svc.cluster.local only", "the mesh knows no such waypoint"]),
        ("led", "gate", ["dst.workload=\"server\"", "the peer answered 400"]),
    ] {
        let vips = bed.topology.allot_cluster_ips("default", name)?;
        bed.topology.add_manifest(&format!("{name}.yaml"), &bound(name, waypoint))?;
        for vip in vips.map(|ip| SocketAddr::new(ip, 80)) {
            eventually("it is led to its waypoint", || {
                let log = |bed: &Controlled| bed.agents[0].log();
                let line = |log: String| {
                    log.lines()
                        .any(|line| line.contains(&vip.to_string()) && words.iter().all(|word| line.contains(word)))
                };
                Ok(refused(bed.topology.pod("client").netns(), vip).is_ok() && line(log(&bed)))
            })
            .with_context(|| format!("{words:?}\n{}", bed.agents[0].log()))?;
        }
    }

    // What is nobody's is outside the mesh, and only known to be so once the control plane has said it.
    let client = bed.topology.pod("client");
    for ip in bed.topology.nodes()[1].addresses() {
        let outside = Process::start(
            bed.topology.nodes()[1].netns(),
            "outside",
            {
                let mut command = weir_tests::bed_command(&["serve-http", "--name", "outside"])?;
                command.arg("--listen").arg(SocketAddr::new(ip, 9000).to_string());
                command
            },
            &bed.topology.work_dir(),
        );
        let mut outside = outside?;
        outside.wait_listening(SocketAddr::new(ip, 9000), PATIENCE)?;
        let (name, _) = client_seen(client.netns(), SocketAddr::new(ip, 9000), "/")?;
        ensure!(name == "outside", "{ip} is {name}");
    }
    bed.kill_control()?;
    bed.meet().context("what was asked for stays known")?;
    // Nobody can say whose this is: it may be in the mesh.
    for ip in ["192.0.2.77", "2001:db8::77"] {
        refused(bed.topology.pod("client").netns(), SocketAddr::new(ip.parse()?, 80))?;
    }
    ensure!(bed.agents[0].log().contains("the control plane did not say within"), "{}", bed.agents[0].log());
    bed.control = start_control(&bed.topology)?;
    bed.connected(true)?;
    bed.meet()?;
    bed.stop()
}
