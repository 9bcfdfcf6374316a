//! The CNI plugin in a real chain, after Debian's bridge and host-local, run as a runtime runs it beside a real agent.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weir_netlink::{NetNs, Rtnl};
use weir_testbed::{Process, Topology, TopologySpec, binary, run_to_end};
use weir_tests::{Bed, PATIENCE, agent, bed_command, client_seen, eventually, metric, pod_state, wait_state};

/// Where Debian has the plugins of containernetworking-plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A pod's network namespace, and how the runtime names the pod.
struct Sandbox {
    name: &'static str,
    uid: String,
    path: PathBuf,
    netns: NetNs,
}

impl Sandbox {
    /// One with its loopback link up, as runtimes make them.
    fn new(topology: &Topology, name: &'static str, number: u8) -> anyhow::Result<Self> {
        let path = PathBuf::from(format!("/run/netns/{}-chain-{name}", topology.prefix()));
        let netns = NetNs::create(&path)?;
        Rtnl::open_in(&netns)?.set_up("lo")?;
        Ok(Self { name, uid: format!("7a1b7f2e-0c4d-4000-8000-{number:012}"), path, netns })
    }

    /// Its object as an API server has it.
    fn manifest(&self, uid: &str, ips: &[IpAddr]) -> String {
        let name = self.name;
        let ips: String = ips.iter().map(|ip| format!("  - ip: \"{ip}\"\n")).collect();
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: default\n  uid: {uid}\nspec:\n  nodeName: node1\n  \
             serviceAccountName: {name}\n  containers:\n  - name: c\n    image: i\nstatus:\n  phase: Running\n  conditions:\n  \
             - type: Ready\n    status: \"True\"\n  podIPs:\n{ips}"
        )
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Err(error) = NetNs::delete(&self.path) {
            eprintln!("{error:#}");
        }
    }
}

/// The addresses in a result.
fn ips(result: &Value) -> anyhow::Result<Vec<IpAddr>> {
    let all = result["ips"].as_array().context("a result with ips")?;
    let ip = |entry: &Value| entry["address"].as_str()?.split('/').next()?.parse().ok();
    all.iter().map(|entry| ip(entry).with_context(|| format!("{entry} has no address"))).collect()
}

/// A container runtime, as far as it is about networks.
struct Runtime<'n> {
    node: &'n NetNs,
    conf_dir: PathBuf,
    bin_dir: PathBuf,
    ipam_dir: PathBuf,
}

impl Runtime<'_> {
    fn conflist(&self) -> PathBuf {
        self.conf_dir.join("10-net.conflist")
    }

    /// The network as its own agent writes it.
    fn write_network(&self) -> anyhow::Result<()> {
        let ranges = json!([[{"subnet": "10.245.1.0/24"}], [{"subnet": "fd00:10:245:1::/64"}]]);
        let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
        let ipam = json!({"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": self.ipam_dir});
        let bridge = json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam});
        let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [bridge]});
        fs::create_dir_all(&self.conf_dir)?;
        Ok(fs::write(self.conflist(), list.to_string())?)
    }

    fn list(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.conflist())?)?)
    }

    fn plugins(&self) -> anyhow::Result<Vec<Value>> {
        self.list()?["plugins"].as_array().cloned().context("a list has plugins")
    }

    /// Whether ours is the last of the chain.
    fn is_chained(&self) -> anyhow::Result<bool> {
        Ok(self.plugins()?.last().is_some_and(|entry| entry["type"] == "weir-cni"))
    }

    fn start(&self, verb: &str, of: &Sandbox, entry: &Value, previous: Option<&Value>) -> anyhow::Result<Child> {
        let mut config = entry.clone();
        let list = self.list()?;
        for key in ["cniVersion", "name"] {
            config[key] = list[key].clone();
        }
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        if verb == "GC" {
            config["cni.dev/valid-attachments"] = json!([{"containerID": of.name, "ifname": "eth0"}]);
        }
        if matches!(verb, "GC" | "STATUS") {
            config["cniVersion"] = "1.1.0".into();
        }
        let kind = entry["type"].as_str().context("an entry has a type")?;
        let folders = [Path::new(PLUGINS), &self.bin_dir];
        let program = folders.iter().map(|folder| folder.join(kind)).find(|program| program.exists());
        let program =
            program.with_context(|| format!("no {kind} in {folders:?}: is containernetworking-plugins installed?"))?;
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={0};K8S_POD_UID={}",
            of.name, of.uid
        );
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", of.name), ("CNI_IFNAME", "eth0")])
            .env("CNI_NETNS", &of.path)
            .env("CNI_PATH", format!("{PLUGINS}:{}", self.bin_dir.display()))
            .env("CNI_ARGS", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = self.node.spawn(command)?;
        child.stdin.take().context("its input")?.write_all(config.to_string().as_bytes())?;
        Ok(child)
    }

    /// One plugin: its result, or its error.
    fn call(
        &self,
        verb: &str,
        of: &Sandbox,
        entry: &Value,
        previous: Option<&Value>,
    ) -> anyhow::Result<Result<Value, Value>> {
        finish(self.start(verb, of, entry, previous)?)
    }

    /// The whole chain; when our plugin asks, `known` makes the pod known. After a failure, as much is taken down as for DEL.
    fn add(
        &self,
        of: &Sandbox,
        known: impl Fn(&[IpAddr]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Result<Value, Value>> {
        let mut result = None;
        for entry in self.plugins()? {
            let child = self.start("ADD", of, &entry, result.as_ref())?;
            if let Some(before) = result.as_ref().filter(|_| entry["type"] == "weir-cni") {
                known(&ips(before)?)?;
            }
            match finish(child)? {
                Ok(value) => result = Some(value),
                Err(error) => {
                    self.del(of, result.as_ref())?;
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(result.context("a chain has plugins")?))
    }

    fn check(&self, of: &Sandbox, result: &Value) -> anyhow::Result<()> {
        for entry in self.plugins()? {
            let answer = self.call("CHECK", of, &entry, Some(result))?;
            ensure!(answer == Ok(Value::Null), "CHECK of {}: {answer:?}", entry["type"]);
        }
        Ok(())
    }

    fn del(&self, of: &Sandbox, result: Option<&Value>) -> anyhow::Result<()> {
        for entry in self.plugins()?.iter().rev() {
            let answer = self.call("DEL", of, entry, result)?;
            ensure!(answer == Ok(Value::Null), "DEL of {}: {answer:?}", entry["type"]);
        }
        Ok(())
    }

    /// Whether anything is left of a pod: an address, a link.
    fn is_clean(&self, of: &Sandbox) -> anyhow::Result<bool> {
        let mut leased = false;
        for entry in fs::read_dir(self.ipam_dir.join("net"))? {
            leased |= String::from_utf8_lossy(&fs::read(entry?.path())?).starts_with(of.name);
        }
        let linked = of.netns.run(|| nix::net::if_::if_nametoindex("eth0").is_ok())?;
        Ok(!leased && !linked)
    }
}

fn finish(child: Child) -> anyhow::Result<Result<Value, Value>> {
    let output = child.wait_with_output()?;
    let answer = if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout)? };
    Ok(if output.status.success() { Ok(answer) } else { Err(answer) })
}

#[test]
fn a_pod_of_a_real_chain_is_caught_before_its_add_returns() -> anyhow::Result<()> {
    let topology = Topology::new(TopologySpec { nodes: 1, ..TopologySpec::default() })?;
    let work = topology.work_dir();
    let node = NetNs::open(topology.nodes()[0].netns_path())?;
    let (conf_dir, bin_dir, ipam_dir) = (work.join("net.d"), work.join("bin"), work.join("ipam"));
    let runtime = Runtime { node: &node, conf_dir, bin_dir, ipam_dir };
    runtime.write_network()?;
    let text = |path: PathBuf| path.display().to_string();
    let (socket, plugin) = (text(work.join("cni/cni.sock")), text(binary("weir-cni")?));
    let (conf_dir, bin_dir) = (text(runtime.conf_dir.clone()), text(runtime.bin_dir.clone()));
    let flags =
        ["--cni-socket", &socket, "--cni-plugin", &plugin, "--cni-conf-dir", &conf_dir, "--cni-bin-dir", &bin_dir];
    let mut bed = Bed::on(topology, &flags)?;
    eventually("the agent joins the chain", || runtime.is_chained())?;

    let (web, shop) = (Sandbox::new(&bed.topology, "web", 1)?, Sandbox::new(&bed.topology, "shop", 2)?);
    let added = runtime.add(&web, |ips| {
        // The agent first learns of the pod that had the name before, and must not give it this one's namespace.
        bed.topology.add_manifest("web.yaml", &web.manifest("7a1b7f2e-0c4d-4000-8000-000000000000", ips))?;
        wait_state(&bed.topology, 0, "web", "Failing")?;
        bed.topology.add_manifest("web.yaml", &web.manifest(&web.uid, ips))
    });
    let in_web = added?.map_err(|error| anyhow::anyhow!("ADD: {error}"))?;
    ensure!(pod_state(&bed.topology, 0, "web")?.is_some_and(|(state, _)| state == "Enrolled"), "ADD did not wait");
    let added = runtime.add(&shop, |ips| bed.topology.add_manifest("shop.yaml", &shop.manifest(&shop.uid, ips)))?;
    let in_shop = added.map_err(|error| anyhow::anyhow!("ADD: {error}"))?;
    ensure!(pod_state(&bed.topology, 0, "shop")?.is_some_and(|(state, _)| state == "Enrolled"), "ADD did not wait");
    ensure!(ips(&in_shop)?.len() == 2, "{in_shop}");
    runtime.check(&web, &in_web)?;
    let ours = runtime.plugins()?.pop().context("ours")?;
    for verb in ["STATUS", "GC"] {
        ensure!(runtime.call(verb, &web, &ours, None)? == Ok(Value::Null), "{verb}");
    }

    let at: Vec<SocketAddr> = ips(&in_shop)?.into_iter().map(|ip| SocketAddr::new(ip, 8080)).collect();
    let mut command = bed_command(&["serve-http", "--name", "shop"])?;
    for at in &at {
        command.arg("--listen").arg(at.to_string());
    }
    let mut server = Process::start(&shop.netns, "shop", command, &bed.topology.work_dir().join("logs"))?;
    server.wait_listening(at[1], PATIENCE)?;
    let tunnelled = |bed: &Bed| {
        let labels = ["reporter=\"source\"", "connection_security_policy=\"mutual_tls\""];
        metric(&bed.topology, 0, "istio_tcp_connections_opened_total", &labels)
    };
    let meet = || {
        for to in &at {
            let seen = client_seen(&web.netns, *to, "/")?;
            ensure!(seen.0 == "shop" && ips(&in_web)?.contains(&seen.1), "{to}: {seen:?}");
        }
        anyhow::Ok(())
    };
    meet()?;
    ensure!(tunnelled(&bed)? == 2, "both families go through the mesh");

    runtime.write_network()?;
    eventually("the agent joins the chain again", || runtime.is_chained())?;
    eventually("it says so", || Ok(metric(&bed.topology, 0, "weir_cni_repairs_total", &[])? >= 1))?;

    bed.kill_agent(0)?;
    let late = Sandbox::new(&bed.topology, "late", 3)?;
    let error = runtime.add(&late, |_| Ok(()))?.err().context("a pod starts without an agent")?;
    ensure!(error["code"] == 11, "{error}");
    ensure!(runtime.is_clean(&late)?, "something is left of a pod that did not start");
    bed.restart_agent(0, &flags)?;
    // Nobody told this one.
    wait_state(&bed.topology, 0, "web", "Enrolled")?;
    meet()?;
    ensure!(tunnelled(&bed)? == 2, "both families go through the mesh after a restart");

    bed.kill_agent(0)?;
    runtime.del(&web, Some(&in_web))?;
    ensure!(runtime.is_clean(&web)?, "something is left of a pod that ended");
    fs::remove_file(bed.topology.manifests_dir().join("web.yaml"))?;
    let (file, path) = (PathBuf::from(&socket).with_extension("pods"), text(web.path.clone()));
    ensure!(fs::read_to_string(&file)?.contains(&path), "{path} is not noted");
    drop(web);
    bed.restart_agent(0, &flags)?;
    eventually("the pod is forgotten", || Ok(!fs::read_to_string(&file)?.contains(&path)))?;

    let mut uninstall = Command::new(agent()?);
    uninstall.args(["cni", "uninstall", "--conf-dir", &conf_dir, "--bin-dir", &bin_dir]);
    run_to_end(&node, uninstall, PATIENCE)?;
    bed.mesh.agent_mut(0).wait_log("was uninstalled", PATIENCE)?;
    ensure!(runtime.plugins()?.len() == 1, "put back although it was uninstalled");
    drop(server);
    runtime.del(&shop, Some(&in_shop))?;
    bed.mesh.stop()
}
