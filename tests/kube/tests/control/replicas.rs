//! Several replicas, and none: one root, one writer, and agents that go on whatever happens.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::Namespace,
    rbac::v1::{ClusterRole, PolicyRule},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use weir_identity::Issuer;
use weir_tests_kube::{Control, PATIENCE, eventually, things};
use weir_xds::Mode;

use crate::scene::{ROOTS, Scene};

impl Scene {
    /// Two replicas that begin at the same moment, one for IPv4 and one for IPv6. The leader is first.
    async fn pair(&self) -> Result<[Control; 2]> {
        let (one, two) = (self.plan("one", &[])?, self.plan("two", &[])?.over_ipv6());
        let (mut one, mut two) = (self.start(&one)?, self.start(&two)?);
        one.ready().await?;
        two.ready().await?;
        let leader = self.leader().await?;
        Ok(if leader.starts_with("one") { [one, two] } else { [two, one] })
    }

    async fn leader(&self) -> Result<String> {
        let leases = Api::<Lease>::namespaced(self.client(), &self.home);
        eventually("a leader", || async {
            let lease = leases.get_opt("weir-control-leader").await?;
            Ok(lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity))
        })
        .await
    }

    /// Waits until the map of a namespace has these roots.
    async fn has_roots(&self, namespace: &str, roots: &str) -> Result<()> {
        let maps = self.maps(namespace);
        eventually("the roots as they should be", || async {
            let data = maps.get_opt(ROOTS).await?.and_then(|map| map.data).unwrap_or_default();
            Ok((data.get("root-cert.pem").map(String::as_str) == Some(roots)).then_some(()))
        })
        .await
    }
}

/// Each gauge is read until both have one and a half of it between them: exactly one leads.
async fn leaders(both: &[Control; 2]) -> Result<f64> {
    Ok(both[0].metric("weir_leader", "").await? + both[1].metric("weir_leader", "").await?)
}

#[tokio::test]
async fn two_that_start_at_once_have_one_root_and_one_writer() -> Result<()> {
    let mut scene = Scene::new().await?;
    let both = scene.pair().await?;
    let roots = scene.roots(&scene.space).await?;
    assert_eq!(roots.matches("BEGIN CERTIFICATE").count(), 1, "one root");
    for control in &both {
        let agent = scene.agent(1, control, Mode::Wildcard).await?;
        // It is taken only if it leads to the roots that the answer has, and these are those that were published.
        let identity = scene.spiffe("agent").parse()?;
        agent.ca(Duration::from_secs(600))?.certify(&identity).await?;
    }
    assert_eq!(leaders(&both).await?, 1.0);

    // Every namespace has them, one that is made later too; and what somebody does to them is undone.
    let all = Api::<Namespace>::all(scene.client()).list(&ListParams::default()).await?;
    // A real server takes its time to delete one, and lets nothing be made in it meanwhile.
    let stays = all.items.iter().filter(|one| one.metadata.deletion_timestamp.is_none());
    for namespace in stays.filter_map(|one| one.metadata.name.as_deref()) {
        scene.has_roots(namespace, &roots).await?;
    }
    let later = scene.ground.namespace().await?;
    scene.has_roots(&later, &roots).await?;
    let maps = scene.maps(&later);
    let damage = json!({"data": {"root-cert.pem": "mine", "other": "stays"}});
    let began = tokio::time::Instant::now();
    maps.patch(ROOTS, &PatchParams::default(), &Patch::Merge(&damage)).await?;
    scene.has_roots(&later, &roots).await?;
    let map = maps.get(ROOTS).await?;
    assert_eq!(map.data.context("data")?.get("other").map(String::as_str), Some("stays"));
    things::delete(&maps, ROOTS).await?;
    scene.has_roots(&later, &roots).await?;
    assert!(began.elapsed() < Duration::from_secs(20), "only after {:?}", began.elapsed());
    scene.clean(both).await
}

/// The other takes over from one that is killed; an agent that changes between them is told nothing it knows.
#[tokio::test]
async fn when_the_leader_is_killed_the_other_publishes() -> Result<()> {
    let mut scene = Scene::own().await?;
    scene.pod("p", "app", 1, &["10.1.0.1", "fd00:1::1"]).await?;
    let [mut leader, other] = scene.pair().await?;
    let roots = scene.roots(&scene.space).await?;
    let mut agent = scene.agent(1, &leader, Mode::Wildcard).await?;
    agent.synced().await?;
    let before = agent.workloads.clone();
    leader.kill()?;
    agent.lost().await?;
    assert_eq!(agent.workloads, before, "what is known stays known");
    agent.returns_to_the_same(other.plan.agents).await?;
    // Whoever does not lead serves and signs all the same.
    agent.ca(Duration::from_secs(600))?.certify(&scene.spiffe("app").parse()?).await?;
    let later = scene.ground.namespace().await?;
    scene.has_roots(&later, &roots).await?;
    assert_eq!(other.metric("weir_leader", "").await?, 1.0);
    Ok(())
}

/// With no control plane at all agents keep what they have.
#[tokio::test]
async fn when_all_are_killed_an_agent_goes_on_as_it_was() -> Result<()> {
    let scene = Scene::own().await?;
    scene.pod("p", "app", 1, &["10.1.0.1"]).await?;
    scene.service("shop", "app").await?;
    let [mut one, mut two] = scene.pair().await?;
    let (at, plan) = (one.plan.agents, one.plan.clone());
    let mut agent = scene.agent(1, &one, Mode::Wildcard).await?;
    agent.synced().await?;
    let ca = agent.ca(Duration::from_secs(600))?;
    let identity = scene.spiffe("app").parse()?;
    ca.certify(&identity).await?;
    let before = (agent.workloads.clone(), agent.services.clone());
    one.kill()?;
    two.kill()?;
    agent.lost().await?;
    agent.lost().await?;
    assert!(ca.certify(&identity).await.is_err(), "nobody is there to sign");
    assert_eq!((&agent.workloads, &agent.services), (&before.0, &before.1));
    let mut again = scene.start(&plan)?;
    again.ready().await?;
    agent.returns_to_the_same(at).await?;
    assert_eq!((&agent.workloads, &agent.services), (&before.0, &before.1));
    assert_eq!(again.metric("weir_xds_resources_sent_total", "").await?, 0.0);
    ca.certify(&identity).await?;
    Ok(())
}

/// A Secret that is deleted is put back as it was, and a replica that starts just then makes no CA of its own.
#[tokio::test]
async fn a_secret_that_is_deleted_comes_back_as_it_was() -> Result<()> {
    let scene = Scene::own().await?;
    let mut control = scene.control(&[]).await?;
    let secrets = scene.secrets();
    let before = secrets.get("weir-ca").await?.data.context("data")?;
    let late = scene.plan("late", &[])?;
    scene.leader().await?;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        things::delete(&secrets, "weir-ca").await?;
        let mut late = scene.start(&late)?;
        let back = eventually("the Secret is back", || async { Ok(secrets.get_opt("weir-ca").await?) }).await?;
        ensure!(back.data.as_ref() == Some(&before), "another CA, after {PATIENCE:?} at most");
        late.ready().await?;
        seen.extend(back.metadata.uid);
    }
    assert_eq!(seen.len(), 2, "it was made anew each time");
    control.says(&["were deleted", "put back"]).await?;
    // Damaged by somebody: what was good goes on, and it is said.
    let agent = scene.agent(1, &control, Mode::Wildcard).await?;
    let damage = json!({"data": {"ca-cert.pem": "bm8gY2VydGlmaWNhdGU="}});
    secrets.patch("weir-ca", &PatchParams::default(), &Patch::Merge(&damage)).await?;
    control.says(&["the CA goes on as it is", "ca-cert.pem"]).await?;
    agent.ca(Duration::from_secs(600))?.certify(&scene.spiffe("agent").parse()?).await?;
    control.ready().await
}

/// Who is told to stop gives up the lease: nobody waits for its end, although agents were connected to the very last.
#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over() -> Result<()> {
    let scene = Scene::own().await?;
    let [leader, other] = scene.pair().await?;
    let mut agent = scene.agent(1, &leader, Mode::Wildcard).await?;
    agent.synced().await?;
    leader.stop().await?;
    let stopped = tokio::time::Instant::now();
    eventually("the other leads", || async { Ok((other.metric("weir_leader", "").await? > 0.5).then_some(())) })
        .await?;
    // A lease lasts 15 s.
    assert!(stopped.elapsed() < Duration::from_secs(8), "after {:?}", stopped.elapsed());
    agent.lost().await?;
    agent.returns_to_the_same(other.plan.agents).await
}

/// What the roles do not allow is said, and tried again.
#[tokio::test]
async fn roots_that_may_not_be_published_are_said_and_published_later() -> Result<()> {
    let scene = Scene::own().await?;
    let roles = Api::<ClusterRole>::all(scene.client());
    let rules = roles.get("weir-control").await?.rules.context("rules")?;
    let maps = |rule: &PolicyRule| rule.resources.iter().flatten().any(|one| one == "configmaps");
    let fewer: Vec<_> = rules.iter().filter(|rule| !maps(rule)).collect();
    let with = |rules: serde_json::Value| Patch::Merge(json!({ "rules": rules }));
    roles.patch("weir-control", &PatchParams::default(), &with(json!(fewer))).await?;
    let control = scene.control(&[]).await?;
    control.says(&["the roots cannot be published", &scene.space, "forbidden"]).await?;
    assert!(scene.maps(&scene.space).get_opt(ROOTS).await?.is_none());
    roles.patch("weir-control", &PatchParams::default(), &with(json!(rules))).await?;
    scene.roots(&scene.space).await.map(drop)
}
