//! What fails around a control plane: its API server, clocks, disks. Every case runs against our own server: no real one can be told to do this.

use std::{fs, os::unix::fs::MetadataExt, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use tonic::Code;
use weir_identity::Issuer;
use weir_rpc::Dial;
use weir_tests_kube::{Control, Plan, dial, eventually, things};
use weir_xds::Mode;

use crate::{scene::Scene, wire};

impl Scene {
    async fn call(&self, control: &Control) -> Result<Dial> {
        let (roots, token) = (self.folder.path().join("call-roots"), self.folder.path().join("call-token"));
        fs::write(&roots, self.roots(&self.space).await?)?;
        fs::write(&token, self.token("agent", "agent-2").await?)?;
        dial(control.plan.agents, &roots, Some(&token))
    }
}

/// A server that is away, or back without its history, changes nothing but that it is said.
#[tokio::test]
async fn an_api_server_that_goes_and_comes_back_costs_nothing() -> Result<()> {
    let scene = Scene::own().await?;
    scene.pod("p", "app", 1, &["10.1.0.1"]).await?;
    let mut control = scene.control(&[]).await?;
    let mut agent = scene.agent(1, &control, Mode::Wildcard).await?;
    agent.synced().await?;
    let stranger = scene.call(&control).await?.connect().await?;
    let server = scene.server()?;
    for forgets in [false, true] {
        let from = agent.heard.len();
        let name = if forgets { "while-gone" } else { "unseen" };
        server.faults().silence_watches();
        scene.pod(name, "app", 2, &["10.1.0.2"]).await?;
        things::delete(&scene.pods(), name).await?;
        scene.pod(&format!("{name}-2"), "app", 2, &["fd00:1::2"]).await?;
        server.faults().go_down();
        eventually("it is said that kinds are not followed", || async {
            let lost = control.metric("weir_kinds_not_followed", "").await?;
            let page = control.page("/debug/configz").await?;
            Ok((lost > 3.5 && page["notFollowed"]["Pod"].is_string()).then_some(()))
        })
        .await?;
        control.says(&["cannot be followed now", "Pod"]).await?;
        // Nobody can say who asks: that is not the asker's fault.
        let refused = wire::create(&stranger, "", None).await.err().context("nobody was asked")?;
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert_eq!(control.readiness().await, Some(200), "what it has it serves");
        if forgets {
            server.compact();
        }
        server.faults().come_back();
        let uid = scene.uid(&format!("{name}-2"));
        agent.until("what happened meanwhile", |agent| agent.workloads.contains_key(&uid)).await?;
        let lost: Vec<_> = agent.heard[from..].iter().filter(|line| line.starts_with("lost")).collect();
        ensure!(lost.is_empty(), "the agent noticed: {lost:?}");
        assert!(agent.workloads.contains_key(&scene.uid("p")) && !agent.workloads.contains_key(&scene.uid(name)));
        eventually("all is followed again", || async {
            Ok((control.metric("weir_kinds_not_followed", "").await? < 0.5).then_some(()))
        })
        .await?;
    }
    control.ready().await
}

/// Until the first list is in nobody is served: an agent that knows the mesh would be told that it is gone.
#[tokio::test]
async fn with_a_slow_api_server_nobody_is_served_before_all_is_read() -> Result<()> {
    let scene = Scene::own().await?;
    scene.pod("p", "app", 1, &["10.1.0.1"]).await?;
    let mut control = scene.control(&[]).await?;
    let plan = control.plan.clone();
    let mut agent = scene.agent(1, &control, Mode::Wildcard).await?;
    agent.synced().await?;
    control.kill()?;
    agent.lost().await?;
    let before = agent.workloads.clone();
    let from = agent.heard.len();
    let faults = scene.server()?.faults();
    faults.delay(Duration::from_millis(200));
    faults.delay_lists(Duration::from_millis(2500));
    let control = scene.start(&plan)?;
    let unready = eventually("it answers", || async { Ok(control.readiness().await) }).await?;
    assert_eq!(unready, 503, "ready before anything can have been read");
    agent.until("it connects", |agent| agent.heard[from..].iter().any(|line| line == "synced")).await?;
    assert_eq!(control.readiness().await, Some(200));
    let told: Vec<_> = agent.heard[from..].iter().filter(|line| line.ends_with("changes")).collect();
    assert_eq!((agent.workloads, told), (before, vec![]));
    Ok(())
}

/// A control plane that starts before its API server waits for it, and says so.
#[tokio::test]
async fn a_control_plane_waits_for_its_api_server() -> Result<()> {
    let scene = Scene::own().await?;
    let faults = scene.server()?.faults();
    faults.go_down();
    let mut control = scene.start(&scene.plan("early", &[])?)?;
    control.says(&["waiting for the CA's data", "weir-ca"]).await?;
    faults.come_back();
    control.ready().await?;
    // Without a kubeconfig that can be read there is nothing to wait for.
    let mut flags = scene.plan("lost", &[])?.flags;
    flags[0] = "--kubeconfig=/nowhere/at/all".to_owned();
    let mut lost = Plan::new(flags)?.start(scene.folder.path())?;
    assert_eq!(lost.ended().await?, Some(1));
    lost.says(&["/nowhere/at/all"]).await.map(drop)
}

/// The other replica's clock is minutes off: it leads as long as it renews its lease, and no longer, whatever the lease says.
async fn takes_over_from_a_clock(renewed: &str) -> Result<()> {
    let scene = Scene::own().await?;
    let leases = Api::<Lease>::namespaced(scene.client(), &scene.home);
    let spec = json!({"holderIdentity": "skewed", "leaseDurationSeconds": 3, "renewTime": renewed});
    things::make(&leases, json!({"metadata": {"name": "weir-control-leader"}, "spec": spec})).await?;
    let mut control = scene.start(&scene.plan("ours", &[])?)?;
    // It may live: the Secret is its to make, and here it makes none.
    control.says(&["waiting for the CA's data", "the leader makes it"]).await?;
    ensure!(scene.secrets().get_opt("weir-ca").await?.is_none(), "made by who does not lead");
    ensure!(control.readiness().await.is_none(), "ready without a CA");
    control.ready().await?;
    eventually("it leads when the other is dead", || async {
        Ok((control.metric("weir_leader", "").await? > 0.5).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_clock_that_is_off_makes_no_second_leader() -> Result<()> {
    let [long_ago, to_come] = ["2020-01-01T00:00:00.000000Z", "2096-01-01T00:00:00.000000Z"];
    tokio::try_join!(takes_over_from_a_clock(long_ago), takes_over_from_a_clock(to_come)).map(drop)
}

/// A disk that is full is said, nothing half is left on it, and with room again it goes on.
#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing_half() -> Result<()> {
    let scene = Scene::own().await?;
    let disk = scene.folder.path().join("disk");
    fs::create_dir(&disk)?;
    let plan = scene.plan("small", &[&format!("--ca-dir={}/ca", disk.display())])?;
    let program = plan.command()?;
    // One page, and one file needs that.
    let script = "mount -t tmpfs -o size=4k,nr_inodes=64 tmpfs \"$0\" && \"$@\"; echo \"ended with $?\"; ls -A \"$0/ca\"; \
        mount -o remount,size=1m \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    if fs::metadata("/proc/self")?.uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c", script]).arg(&disk);
    command.arg(program.get_program()).args(program.get_args()).env_remove("RUST_LOG").env_remove("KUBECONFIG");
    let mut control = Control::run(plan, command, scene.folder.path())?;
    control.ready().await?;
    let log = control.log();
    let (full, rest) = log.split_once("ended with 1\n").with_context(|| format!("it did not end:\n{log}"))?;
    assert!(full.contains("No space left on device") && full.contains("disk/ca"), "{full}");
    assert!(!rest.lines().next().unwrap_or_default().ends_with(".pem"), "something was left:\n{rest}");
    let agent = scene.agent(1, &control, Mode::Wildcard).await?;
    agent.ca(Duration::from_secs(60))?.certify(&scene.spiffe("agent").parse()?).await?;
    Ok(())
}
