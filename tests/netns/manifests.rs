//! Manifests with faults: at start nothing begins, later the last good state stays in force, and the one to blame is named.

use std::process::Command;

use anyhow::{Context, ensure};
use weir_testbed::{PodSpec, Process, Topology};
use weir_tests::{
    Bed, PATIENCE, agent, client_seen, config_dump, eventually, fetch, metric, pod_state, serve_http, wait_known,
    wait_state,
};

/// A pod in a file of its own, on no node of the test unless `more` says otherwise.
fn pod(name: &str, ips: &[&str], more: &str) -> String {
    let ips: String = ips.iter().map(|ip| format!("  - ip: \"{ip}\"\n")).collect();
    let ips = if ips.is_empty() { String::new() } else { format!("  podIPs:\n{ips}") };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  nodeName: elsewhere\n{more}  containers:\n  \
         - name: c\n    image: i\nstatus:\n  phase: Running\n{ips}"
    )
}

/// What each fault is, its file, and what the agent must say of it: file, object, field, and what is wrong.
fn faults(topology: &Topology) -> Vec<(&'static str, String, Vec<&'static str>)> {
    let taken = topology.pod("server").addresses();
    let (taken4, taken6) = (taken[0].to_string(), taken[1].to_string());
    let twin = pod("server", &["10.99.0.9"], "");
    vec![
        (
            "an unknown field",
            pod("odd", &["10.99.0.1"], "  serviceAcountName: odd\n"),
            vec!["odd", "spec.serviceAcountName", "did you mean \"serviceAccountName\"?"],
        ),
        (
            "a wrong type",
            pod("odd", &["10.99.0.1"], "  hostNetwork: [1]\n"),
            vec!["odd", "spec.hostNetwork", "expected"],
        ),
        ("a running pod without an address", pod("odd", &[], ""), vec!["odd", "status.podIP"]),
        ("an address that is none", pod("odd", &["10.99.0.256"], ""), vec!["odd", "status.podIPs[0].ip", "10.99.0.256"]),
        ("an object declared twice", twin, vec!["server", "declared already in", "topology.yaml"]),
        (
            "an IPv4 address two pods have",
            pod("odd", &[&taken4], ""),
            vec!["odd", "server", "topology.yaml"],
        ),
        (
            "an IPv6 address two pods have",
            pod("odd", &[&taken6], ""),
            vec!["odd", "server", "topology.yaml"],
        ),
        (
            "a policy with a typo",
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: odd\n  namespace: default\nspec:\n  \
             acton: DENY\n"
                .into(),
            vec!["odd", "AuthorizationPolicy", "spec.acton: unknown field"],
        ),
        (
            "peer authentication of no known mode",
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: odd\n  namespace: default\nspec:\n  \
             mtls: {mode: Strict}\n"
                .into(),
            vec!["odd", "PeerAuthentication", "spec.mtls.mode: expected"],
        ),
        (
            "an unknown kind",
            "apiVersion: weir.dev/v1\nkind: Wier\nmetadata:\n  name: odd\n".into(),
            vec!["Wier", "unknown kind"],
        ),
        ("no YAML at all", "kind: Pod\n  metadata: [\n".into(), vec!["no YAML"]),
    ]
}

#[test]
fn at_start_a_fault_ends_the_agent_with_file_object_and_field() -> anyhow::Result<()> {
    let mut topology = Topology::new(Default::default())?;
    topology.add_pod(PodSpec::new("client", 0))?;
    topology.add_pod(PodSpec::new("server", 1))?;
    for (number, (what, text, words)) in faults(&topology).into_iter().enumerate() {
        topology.add_manifest("odd.yaml", &text)?;
        let logs = topology.work_dir().join("logs");
        let command = topology.agent_command(&agent()?, 0);
        let mut process = Process::start(topology.nodes()[0].netns(), &format!("odd-{number}"), command, &logs)?;
        let status = process.wait(PATIENCE).with_context(|| format!("{what}: it must end"))?;
        let said = process.log();
        ensure!(!status.success(), "{what}: {status}\n{said}");
        for word in words.into_iter().chain(["odd.yaml"]) {
            ensure!(said.contains(word), "{what}: nothing of {word:?} in\n{said}");
        }
        // It said so before it touched the kernel.
        ensure!(!topology.bpf_dir(0).exists(), "{what}: pins are left");
    }
    // All that is wrong is told at once.
    topology.add_manifest("odd.yaml", &faults(&topology)[0].1)?;
    topology.add_manifest("worse.yaml", "kind: [\n")?;
    let said = ended(&topology)?;
    ensure!(said.contains("odd.yaml") && said.contains("worse.yaml"), "{said}");
    Ok(())
}

/// What an agent said that ended with an error.
fn ended(topology: &Topology) -> anyhow::Result<String> {
    let logs = topology.work_dir().join("logs");
    let command: Command = topology.agent_command(&agent()?, 0);
    let mut process = Process::start(topology.nodes()[0].netns(), "ended", command, &logs)?;
    let status = process.wait(PATIENCE)?;
    ensure!(!status.success(), "{status}\n{}", process.log());
    Ok(process.log())
}

#[test]
fn a_fault_that_comes_later_leaves_the_last_good_state_in_force_until_it_is_repaired() -> anyhow::Result<()> {
    let mut bed = Bed::two(&[])?;
    let generation = |bed: &Bed| -> anyhow::Result<u64> {
        config_dump(&bed.topology, 0)?["config"]["generation"].as_u64().context("no generation")
    };
    let rejected = |bed: &Bed| metric(&bed.topology, 0, "weir_config_rejected_loads_total", &[]);
    for (number, (what, text, words)) in faults(&bed.topology).into_iter().enumerate() {
        let (good, refused) = (generation(&bed)?, rejected(&bed)?);
        bed.topology.add_manifest("odd.yaml", &text)?;
        eventually(&format!("{what} is reported"), || {
            let errors = config_dump(&bed.topology, 0)?["config"]["errors"].to_string();
            let errors = errors.replace("\\\"", "\"");
            for word in words.iter().chain(&["odd.yaml"]) {
                ensure!(errors.contains(word), "nothing of {word:?} in {errors}");
            }
            Ok(true)
        })?;
        ensure!(generation(&bed)? == good, "{what}: took effect");
        ensure!(rejected(&bed)? > refused, "{what}: weir_config_rejected_loads does not count it");
        ensure!(
            fetch(&bed.topology, 0, 15021, "/healthz/ready")?.status == 200,
            "{what}: the agent is no longer ready"
        );
        for to in bed.http("server") {
            client_seen(bed.topology.pod("client").netns(), to, "/").context(what)?;
        }
        // What changes elsewhere has to wait as well: half a configuration is none.
        let next = format!("next{number}");
        bed.topology.add_pod(PodSpec::new(&next, 0))?;
        eventually("the agent looks again", || Ok(rejected(&bed)? > refused + 1))?;
        ensure!(pod_state(&bed.topology, 0, &next)?.is_none(), "{what}: a part took effect");
        let repaired = pod(&format!("fine{number}"), &[&format!("10.99.1.{number}")], "");
        bed.topology.add_manifest("odd.yaml", &repaired)?;
        wait_state(&bed.topology, 0, &next, "Enrolled")?;
        let errors = config_dump(&bed.topology, 0)?["config"]["errors"].clone();
        ensure!(errors.as_array().is_some_and(Vec::is_empty), "{what}: still reported after the repair: {errors}");
    }
    bed.mesh.stop()
}

#[test]
fn a_pod_without_address_waits_for_one() -> anyhow::Result<()> {
    let mut bed = Bed::two(&[])?;
    bed.topology.add_manifest("odd.yaml", &pod("pending", &[], "").replace("Running", "Pending"))?;
    // It disturbs nobody: what else changes takes effect.
    bed.topology.add_pod(PodSpec::new("later", 1))?;
    bed.servers.push(serve_http(&bed.topology, "later")?);
    wait_state(&bed.topology, 1, "later", "Enrolled")?;
    for to in bed.http("later") {
        client_seen(bed.topology.pod("client").netns(), to, "/")?;
    }
    ensure!(config_dump(&bed.topology, 0)?["config"]["errors"].as_array().is_some_and(Vec::is_empty), "an error");
    bed.topology.add_manifest("odd.yaml", &pod("pending", &["10.99.0.7", "fd00:99::7"], ""))?;
    wait_known(&bed.topology, 0, "pending", true)?;
    bed.mesh.stop()
}
