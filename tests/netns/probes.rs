//! The node's own processes reach its pods to probe them, whatever policies say; nobody else does by claiming to be one of them.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};
use weir_netlink::NetNs;
use weir_testbed::{PodSpec, Topology, run_to_end};
use weir_tests::{Bed, Cgroup, PATIENCE, bed_command, client_seen, eventually, kernel_decisions, refused};

/// Nothing may enter the pod, and nothing in plaintext.
const SHUT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: strict
  namespace: istio-system
spec:
  mtls:
    mode: STRICT
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: nobody
  namespace: default
";

/// Asks from the node's namespace, as a process in this cgroup.
fn ask_from(netns: &NetNs, cgroup: &Cgroup, to: SocketAddr) -> anyhow::Result<String> {
    let ask = bed_command(&["get", "--to", &to.to_string()])?;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"").arg(cgroup.procs());
    shell.arg(ask.get_program()).args(ask.get_args());
    run_to_end(netns, shell, PATIENCE)
}

#[test]
fn probes_of_the_node_enter_a_shut_pod_and_no_pod_and_no_other_node_does() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.add_pod(PodSpec::new("server", 0))?;
    topology.add_pod(PodSpec::new("neighbour", 0))?;
    topology.add_pod(PodSpec { host_network: true, ..PodSpec::new("monitor", 0) }.unenrolled())?;
    topology.add_manifest("shut.yaml", SHUT)?;
    // Before the agents: they look for pods' cgroups once. Nothing tells them who the kubelet is.
    let cgroup = Cgroup::new(&topology, topology.pod("monitor").uid())?;
    let names: Vec<String> = topology.pods().iter().map(|pod| pod.spec().name.clone()).collect();
    ensure!(names.len() == 3, "{names:?}");
    let mut bed = Bed::on(topology, &[])?;
    let node = NetNs::open(bed.topology.nodes()[0].netns_path())?;
    let shut = |bed: &Bed, to: SocketAddr| -> anyhow::Result<()> {
        let error = ask_from(&node, &cgroup, to).err().context("a pod on the node's network got in")?;
        let error = format!("{error:#}").to_lowercase();
        ensure!(error.contains("reset") || error.contains("refused"), "{error}");
        // Whoever is let in once is let in always; what is refused may be so for want of a route at first.
        for (who, netns) in
            [("another node", bed.topology.nodes()[1].netns()), ("a pod", bed.topology.pod("neighbour").netns())]
        {
            eventually(&format!("a process of {who} is refused"), || refused(netns, to).map(|()| true))?;
        }
        Ok(())
    };
    for to in bed.http("server") {
        let passed = kernel_decisions(&bed.topology, 0, "passed_host")?;
        // Neighbours are found late on a busy machine.
        eventually("a probe enters", || Ok(client_seen(&node, to, "/")?.0 == "server"))?;
        eventually("the kernel counts it", || Ok(kernel_decisions(&bed.topology, 0, "passed_host")? > passed))?;
        shut(&bed, to)?;
    }
    // The same without an agent.
    bed.kill_agent(0)?;
    for to in bed.http("server") {
        client_seen(&node, to, "/").context("a probe without an agent")?;
        shut(&bed, to)?;
    }
    Ok(())
}
