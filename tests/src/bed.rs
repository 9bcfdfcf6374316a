//! Two nodes, agents on them, servers in their pods.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use nix::sys::signal::Signal;
use weir_testbed::{Cleanup, Mesh, PodSpec, Process, Topology, TopologySpec, binary};

use crate::cgroup::Cgroup;
use crate::state::own;
use crate::wait::PATIENCE;

/// A topology with its agents. Dropping it ends all of it in order.
#[derive(Debug)]
pub struct Bed {
    /// An agent on each node.
    pub mesh: Mesh,
    /// Servers in pods.
    pub servers: Vec<Process>,
    /// What these are in, where agents find pods by them. Ended after the processes in them, the first last.
    pub cgroups: Vec<Cgroup>,
    /// Nodes and pods.
    pub topology: Topology,
}

/// The agent's program.
///
/// # Errors
/// When it is not built.
pub fn agent() -> anyhow::Result<PathBuf> {
    binary("weir-agent")
}

/// Takes out of the kernel what a node's agent left there. Answers with what the agent said of it.
///
/// # Errors
/// When the agent is not built, or fails.
pub fn clean_up(topology: &Topology, node: usize) -> anyhow::Result<String> {
    Cleanup::of(topology, &agent()?, node)?.run()
}

/// The same on every node, for what is dropped: errors are printed.
pub fn clean_up_all(topology: &Topology) {
    for node in 0..topology.nodes().len() {
        if let Err(error) = clean_up(topology, node) {
            eprintln!("{error:#}");
        }
    }
}

/// The workloads' program, with these arguments.
///
/// # Errors
/// When it is not built.
pub fn bed_command(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(binary("weir-testbed")?);
    command.args(arguments);
    Ok(command)
}

/// Starts a server of the testbed at a port of every address of a pod.
///
/// # Errors
/// When it does not listen.
pub fn serve(topology: &Topology, pod: &str, arguments: &[&str], port: u16) -> anyhow::Result<Process> {
    let mut command = bed_command(arguments)?;
    let addresses = topology.pod(pod).addresses();
    for ip in addresses {
        command.arg("--listen").arg(SocketAddr::new(*ip, port).to_string());
    }
    let mut process = topology.start_in_pod(pod, command)?;
    let last = addresses.last().context("a pod has an address")?;
    process.wait_listening(SocketAddr::new(*last, port), PATIENCE)?;
    Ok(process)
}

/// An HTTP server at port 8080 that answers with the pod's name and whom it takes for its client.
///
/// # Errors
/// As [`serve`].
pub fn serve_http(topology: &Topology, pod: &str) -> anyhow::Result<Process> {
    serve(topology, pod, &["serve-http", "--name", pod], 8080)
}

/// One in each pod.
fn servers(topology: &Topology) -> anyhow::Result<Vec<Process>> {
    topology.pods().iter().map(|pod| serve_http(topology, &pod.spec().name)).collect()
}

impl Bed {
    /// Two nodes with these pods, an HTTP server at port 8080 of each, and agents with these flags.
    ///
    /// # Errors
    /// When anything does not start.
    pub fn start(pods: impl IntoIterator<Item = PodSpec>, flags: &[&str]) -> anyhow::Result<Self> {
        let mut topology = Topology::new(TopologySpec::default())?;
        for pod in pods {
            topology.add_pod(pod)?;
        }
        Self::on(topology, flags)
    }

    /// The same on a topology that is there.
    ///
    /// # Errors
    /// When anything does not start.
    pub fn on(topology: Topology, flags: &[&str]) -> anyhow::Result<Self> {
        let agent = agent()?;
        let servers = servers(&topology)?;
        let mesh = Mesh::start(&topology, &agent, flags)?;
        Ok(Self { mesh, servers, cgroups: Vec::new(), topology })
    }

    /// The same under a control plane, which does not say where pods are: each server is in its pod's own cgroup. The agents are started by a
    /// command for each node.
    ///
    /// # Errors
    /// When anything does not start.
    pub fn controlled(topology: Topology, command: impl Fn(&Topology, usize) -> Command) -> anyhow::Result<Self> {
        let servers = servers(&topology)?;
        let mut cgroups = Vec::new();
        for (pod, server) in topology.pods().iter().zip(&servers) {
            let cgroup = Cgroup::new(&topology, pod.uid())?;
            cgroup.take(server)?;
            cgroups.insert(0, cgroup);
        }
        let mesh = Mesh::start_with(&topology, &agent()?, |node| command(&topology, node))?;
        Ok(Self { mesh, servers, cgroups, topology })
    }

    /// A client on node 1 and a server on node 2.
    ///
    /// # Errors
    /// When anything does not start.
    pub fn two(flags: &[&str]) -> anyhow::Result<Self> {
        Self::start([PodSpec::new("client", 0), PodSpec::new("server", 1)], flags)
    }

    /// Port 8080 of every address of a pod.
    #[must_use]
    pub fn http(&self, pod: &str) -> Vec<SocketAddr> {
        self.at(pod, 8080)
    }

    /// A port of every address of a pod.
    #[must_use]
    pub fn at(&self, pod: &str, port: u16) -> Vec<SocketAddr> {
        self.topology.pod(pod).addresses().iter().map(|ip| SocketAddr::new(*ip, port)).collect()
    }

    /// Starts another agent for a node, with `flags` besides the usual, and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start_agent(&self, node: usize, flags: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.topology.agent_command(&agent()?, node);
        command.args(flags);
        self.topology.start_on_node(node, command)
    }

    /// Kills a node's agent, which then has no chance to put anything in order.
    ///
    /// # Errors
    /// When it does not even die.
    pub fn kill_agent(&mut self, node: usize) -> anyhow::Result<()> {
        let agent = self.mesh.agent_mut(node);
        agent.signal(Signal::SIGKILL)?;
        agent.wait(PATIENCE)?;
        Ok(())
    }

    /// Starts a node's agent in the place of one that ended, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart_agent(&mut self, node: usize, flags: &[&str]) -> anyhow::Result<()> {
        let mut agent = self.start_agent(node, flags)?;
        agent.wait_ready(own(15021), "/healthz/ready", PATIENCE)?;
        *self.mesh.agent_mut(node) = agent;
        Ok(())
    }
}
