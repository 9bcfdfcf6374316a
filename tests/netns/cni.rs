//! The CNI plugin beside a real agent: a pod's ADD ends when the pod is caught, in the namespace that is meant.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weir_testbed::{PodSpec, Topology, TopologySpec, binary};
use weir_tests::{Bed, PATIENCE, eventually, pod_state};

struct Runtime<'r> {
    socket: &'r str,
    netns: &'r Path,
}

impl Runtime<'_> {
    /// What the plugin answers for a pod: a result, nothing, or an error.
    fn ask(&self, command: &str, pod: &str) -> anyhow::Result<Value> {
        let output = self.start(command, pod)?.wait_with_output()?;
        let answer = if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout)? };
        ensure!(output.status.success() == answer.get("code").is_none(), "{:?}: {answer}", output.status);
        Ok(answer)
    }

    fn start(&self, command: &str, pod: &str) -> anyhow::Result<Child> {
        let config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "weir-cni", "agentSocket": self.socket,
            "prevResult": {"ips": [{"address": "10.0.0.7/24"}]},
        });
        let mut child = Command::new(binary("weir-cni")?)
            .env_clear()
            .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")])
            .env("CNI_NETNS", self.netns)
            .env("CNI_ARGS", format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("its input")?.write_all(config.to_string().as_bytes())?;
        Ok(child)
    }
}

#[test]
fn a_pod_starts_when_the_agent_has_caught_it_and_not_without_an_agent() -> anyhow::Result<()> {
    let mut topology = Topology::new(TopologySpec { nodes: 1, ..TopologySpec::default() })?;
    topology.add_pod(PodSpec::new("web", 0))?;
    topology.add_pod(PodSpec::new("plain", 0).label("istio.io/dataplane-mode", "none"))?;
    let socket = topology.work_dir().join("cni/cni.sock").display().to_string();
    let mut bed = Bed::on(topology, &["--cni-socket", &socket])?;
    let web = bed.topology.pod("web").netns_path().to_owned();
    let plain = bed.topology.pod("plain").netns_path().to_owned();
    let of = |netns| Runtime { socket: &socket, netns };
    let result = json!({"ips": [{"address": "10.0.0.7/24"}]});
    ensure!(of(&web).ask("ADD", "web")? == result);
    ensure!(of(&web).ask("CHECK", "web")? == Value::Null);
    ensure!(of(&plain).ask("ADD", "plain")? == result);
    for (netns, pod, reason) in [(&plain, "web", "which is not"), (&web, "nobody", "does not know")] {
        let error = of(netns).ask("CHECK", pod)?;
        ensure!(error["code"] == 100 && error["details"].as_str().is_some_and(|text| text.contains(reason)), "{error}");
    }
    ensure!(of(&web).ask("STATUS", "web")? == Value::Null);

    bed.mesh.agent(0).signal(Signal::SIGKILL)?;
    bed.mesh.agent_mut(0).wait(PATIENCE)?;
    for (command, code) in [("ADD", 11), ("STATUS", 50)] {
        let error = of(&web).ask(command, "web")?;
        ensure!(error["code"] == code, "{command}: {error}");
    }
    ensure!(of(&web).ask("DEL", "web")? == Value::Null);
    Ok(())
}

#[test]
fn a_namespace_that_is_another_s_is_not_taken_whoever_says_so() -> anyhow::Result<()> {
    let mut topology = Topology::new(TopologySpec { nodes: 1, ..TopologySpec::default() })?;
    topology.add_pod(PodSpec::new("web", 0))?;
    let socket = topology.work_dir().join("cni.sock").display().to_string();
    let mut bed = Bed::on(topology, &["--cni-socket", &socket])?;
    bed.topology.add_pod(PodSpec::new("late", 0).unannotated())?;
    let of = |netns| Runtime { socket: &socket, netns };
    let node = bed.topology.nodes()[0].netns_path();
    let (web, late) = (bed.topology.pod("web").netns_path(), bed.topology.pod("late").netns_path());
    for (netns, says) in [(node, "is the node's own network namespace"), (web, "is the network namespace of")] {
        let mut asking = of(netns).start("ADD", "late")?;
        eventually(says, || {
            let state = pod_state(&bed.topology, 0, "late")?;
            Ok(state.is_some_and(|(state, reason)| state == "Failing" && reason.contains(says)))
        })?;
        ensure!(asking.try_wait()?.is_none_or(|status| !status.success()), "the pod may start in {}", netns.display());
        asking.kill()?;
        asking.wait()?;
    }
    ensure!(of(late).ask("ADD", "late")? == json!({"ips": [{"address": "10.0.0.7/24"}]}));
    let state = pod_state(&bed.topology, 0, "late")?;
    ensure!(state.as_ref().is_some_and(|(state, _)| state == "Enrolled"), "{state:?}");
    // What the plugin said of the addresses is not what the mesh says: the mesh counts, and it is told.
    ensure!(bed.mesh.agent(0).log().contains("differ on its addresses"), "{}", bed.mesh.agent(0).log());
    ensure!(of(web).ask("CHECK", "web")? == Value::Null, "web is caught as before");
    bed.mesh.stop()
}
