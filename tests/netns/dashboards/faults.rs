//! Alerts fire when what they are about is made to happen, and not before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use weir_testbed::{PodSpec, Process, Waypoint, binary, run_to_end};
use weir_tests::{PATIENCE, eventually};

use crate::scene::{NAME, Scene, control_at};

/// Alerts whose fault is not made to happen here, and why; promtool alone shows that they fire.
const ELSEWHERE: [(&str, &str); 6] = [
    ("WeirNoLeader", "replicas agree on who leads by a cluster's Lease: this weir-control reads a folder"),
    ("WeirObjectsRefused", "of a folder all is refused at once: WeirKindsNotFollowed tells of it"),
    ("WeirRootExpires", "a root of our own lives for years"),
    ("WeirCertificateExpired", "it follows WeirCertificateNotRenewed when nobody does anything for as long again"),
    ("WeirKernelRefuses", "while no agent listens, none tells of it either"),
    ("WeirSeriesBeyondLimit", "takes 16,384 sets of labels"),
];
/// An object that cannot be read.
const MISSPELT: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: misspelt, namespace: default}
spec: {acton: DENY}
";

/// Each alert, and whether it fires.
fn states(scene: &Scene) -> anyhow::Result<BTreeMap<String, bool>> {
    let rules = scene.prometheus.rules(&scene.topology)?;
    let state = |rule: &Value| {
        let name = rule["name"].as_str().context("a rule has a name")?;
        ensure!(rule["health"] == "ok", "{name} is not evaluated: {rule}");
        for alert in rule["alerts"].as_array().context("alerts are a list")? {
            for part in ["summary", "description"] {
                let said = alert["annotations"][part].as_str().context(part)?;
                ensure!(!said.is_empty() && !said.contains("<no value>") && !said.contains("<error"), "{name}: {said}");
            }
        }
        Ok((name.to_owned(), rule["state"] == "firing"))
    };
    rules.iter().map(state).collect()
}

/// Makes `fault` happen again and again until all these fire.
fn fire(scene: &Scene, alerts: &[&str], fault: &dyn Fn() -> anyhow::Result<()>) {
    let mut quiet = Vec::new();
    let done = eventually("alerts fire", || {
        fault()?;
        let states = states(scene)?;
        quiet = alerts.iter().filter(|name| !states[**name]).copied().collect();
        Ok(quiet.is_empty())
    });
    done.unwrap_or_else(|error| panic!("{error:#}: {quiet:?}\n{}", scene.logs()));
}

fn kill(process: &mut Process) {
    process.signal(Signal::SIGKILL).unwrap();
    process.wait(PATIENCE).unwrap();
}

/// A subscriber of another make that rejects what it is sent.
fn reject(scene: &Scene) -> anyhow::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target: PathBuf = std::env::current_exe()?.ancestors().nth(3).context("target/PROFILE/deps")?.join("interop");
    let library = Command::new(here.join("interop/setup-grpc.sh")).arg(target).output()?;
    ensure!(library.status.success(), "{}", String::from_utf8_lossy(&library.stderr));
    let dir = scene.topology.work_dir();
    let mut command = Command::new("python3");
    command.arg(here.join("netns/dashboards/reject.py"));
    command.arg(control_at(&scene.topology, 0).to_string()).arg(NAME);
    command.arg(dir.join("control-ca/root-cert.pem")).arg(dir.join("token-node1"));
    command.env("PYTHONPATH", String::from_utf8(library.stdout)?.trim_end()).env("PYTHONDONTWRITEBYTECODE", "1");
    run_to_end(scene.topology.nodes()[0].netns(), command, Duration::from_secs(30)).map(drop)
}

#[test]
fn alerts_fire_when_their_fault_is_made_to_happen() {
    // Two minutes, and two more of them in the past for clocks that go wrong.
    let mut scene = Scene::start(&["--longest-lifetime", "120s"]).unwrap();
    let mut seen: BTreeSet<&str> = ELSEWHERE.iter().map(|(name, _)| *name).collect();
    let mut fires = |scene: &Scene, alerts: &[&'static str], fault: &dyn Fn() -> anyhow::Result<()>| {
        fire(scene, alerts, fault);
        seen.extend(alerts);
    };
    let quiet = || {
        let states = states(&scene)?;
        let firing: BTreeSet<&String> = states.iter().filter(|(_, firing)| **firing).map(|(name, _)| name).collect();
        // The scene's own traffic has a request answered with 503.
        ensure!(firing.iter().all(|name| *name == "WeirServiceErrors"), "without a fault: {firing:?}");
        Ok(scene.prometheus.query(&scene.topology, "count(up == 1) == 4")?.len() == 1)
    };
    eventually("everything is scraped, and no alert fires", quiet)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));

    reject(&scene).unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    let refused = ["WeirPushRejected", "WeirConnectionsRefused", "WeirNoEndpoints", "WeirServiceErrors"];
    fires(&scene, &refused, &|| {
        scene.refused()?;
        scene.lost()
    });

    // Nobody runs in it, so that its network namespace cannot be found.
    scene.topology.add_pod(PodSpec::new("empty", 0).unannotated()).unwrap();
    fires(&scene, &["WeirPodsPending"], &|| Ok(()));
    scene.topology.add_manifest("misspelt.yaml", MISSPELT).unwrap();
    fires(&scene, &["WeirKindsNotFollowed"], &|| Ok(()));
    fs::remove_file(scene.topology.manifests_dir().join("misspelt.yaml")).unwrap();

    kill(&mut scene.control);
    kill(&mut scene.agents[1]);
    kill(&mut scene.waypoint);
    let gone = ["WeirControlDown", "WeirAgentDown", "WeirWaypointDown", "WeirControlLost"];
    fires(&scene, &gone, &|| Ok(()));
    // The certificate that the first agent holds was renewed a minute ago at most.
    fires(&scene, &["WeirCertificatesNotIssued"], &|| Ok(()));
    fires(&scene, &["WeirCertificateNotRenewed"], &|| Ok(()));
    let agents = scene.prometheus.query(&scene.topology, "up{job=\"weir-agent\"} == 1").unwrap();
    assert_eq!(agents.len(), 1, "the other agent is there all the time: {agents:?}");

    // In its place one that reads a folder, where something is misspelt while it runs.
    let _other = Waypoint::start(&scene.topology, &binary("weir-waypoint").unwrap(), "waypoint").unwrap();
    scene.topology.add_manifest("misspelt.yaml", MISSPELT).unwrap();
    fires(&scene, &["WeirConfigurationRefused"], &|| Ok(()));

    let states = states(&scene).unwrap();
    assert_eq!(states.keys().map(String::as_str).collect::<BTreeSet<_>>(), seen, "an alert is neither seen nor listed");
}
