//! `weirctl` of a mesh of 50,000 pods: it reads page after page, and holds one.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::{Said, admin_by, mesh, namespace, summary};

/// A third of what Kubernetes itself is made for.
const PODS: usize = 50_000;
/// What an agent answers at once.
const PAGE: usize = 500;
/// What `weirctl` may hold at most, in KiB. It holds about a third, of which its own code is most; all pods at once would be twice as much.
const MOST: u64 = 64 << 10;
/// Patience with it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs it to its end. Gives what it said, and the most that was resident of it, in KiB, as `VmHWM` of proc_pid_status(5) has it.
fn weirctl(kubeconfig: Option<&Path>, words: &str) -> Result<(Said, u64)> {
    let mut command = Command::new(weir_testbed::binary("weirctl")?);
    command.args(words.split(' ')).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(kubeconfig.map(|file| ("KUBECONFIG", file)));
    let mut child = command.spawn()?;
    let mut pipes = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let said = thread::spawn(move || -> Result<(String, String)> {
        let (mut out, mut err) = (String::new(), String::new());
        pipes.0.read_to_string(&mut out)?;
        pipes.1.read_to_string(&mut err)?;
        Ok((out, err))
    });
    let (code, peak) = watched(&mut child)?;
    let (out, err) = said.join().ok().context("reading what it says")??;
    Ok((Said { code, out, err }, peak))
}

/// What a process ends with, and its peak shortly before: a peak only grows, so the last look tells it.
fn watched(child: &mut Child) -> Result<(Option<i32>, u64)> {
    let status = format!("/proc/{}/status", child.id());
    let (mut peak, begun) = (0, Instant::now());
    loop {
        let text = std::fs::read_to_string(&status)?;
        // One that has ended has no memory, and no such line.
        if let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak = line.trim().trim_end_matches(" kB").parse().with_context(|| line.to_owned())?;
        }
        if let Some(status) = child.try_wait()? {
            return Ok((status.code(), peak));
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            bail!("weirctl does not end within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn of_50_000_pods_a_page_is_held_at_a_time_on_our_own_server() -> Result<()> {
    let (server, client) = mesh().await?;
    namespace(&client, "many", json!({})).await?;
    // As large as small pods are.
    let note = "x".repeat(1_000);
    server.populate((0..PODS).map(|number| {
        let metadata = json!({"name": format!("pod-{number}"), "namespace": "many", "annotations": {"note": note}});
        json!({"metadata": metadata, "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "none"}]}})
    }));
    let (before, at) = (server.lists(), server.kubeconfig());
    let (said, peak) = tokio::task::spawn_blocking(move || weirctl(Some(&at), "status")).await??;
    said.has(0, &["no problems", "50000 not (not asked for by a label)"])?;
    // Pods in pages of 500, of which the mesh's own are in the last; one page each of the mesh's pods, its waypoints', namespaces and Gateways.
    ensure!(server.lists() - before == 105, "{} pages", server.lists() - before);
    ensure!((1..MOST).contains(&peak), "{peak} KiB");
    Ok(())
}

#[tokio::test]
async fn of_50_000_workloads_of_an_agent_a_page_is_held_at_a_time_on_our_own_server() -> Result<()> {
    let note = "x".repeat(1_000);
    let agent = admin_by(move |target| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let after = query.split('&').find_map(|pair| pair.strip_prefix("after="));
        let from = after.and_then(|after| after.parse().ok()).unwrap_or(0);
        let to = PODS.min(from + PAGE);
        let workload = |number: usize| {
            json!({
                "uid": format!("Kubernetes//v1/Pod/many/pod-{number}"), "name": format!("pod-{number}"), "namespace": "many",
                "workloadIps": ["10.1.2.3", "fd00::3"], "protocol": "HBONE", "node": "n1", "status": "Healthy", "note": note,
            })
        };
        match path {
            "/debug/summary" => Some(summary("weir-agent", "n1", json!({})).to_string()),
            "/debug/workloads" => {
                let items: Vec<_> = (from..to).map(workload).collect();
                Some(json!({ "items": items, "next": (to < PODS).then(|| to.to_string()) }).to_string())
            }
            _ => None,
        }
    })?;
    for format in ["table", "json", "yaml"] {
        let words = format!("agent workloads --admin http://{agent} -o {format}");
        let (said, peak) = tokio::task::spawn_blocking(move || weirctl(None, &words)).await??;
        ensure!(said.code == Some(0) && said.err.is_empty(), "{:?} {}", said.code, said.err);
        // A name stands in its own row, or in its own line.
        let rows = said.out.lines().filter(|line| line.contains("pod-") && !line.contains("Kubernetes//"));
        ensure!(rows.count() == PODS, "{format}: not every pod once");
        ensure!((1..MOST).contains(&peak), "{format}: {peak} KiB");
    }
    Ok(())
}
