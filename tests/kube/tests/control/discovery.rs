//! Objects of the API server reach agents, and nothing reaches them twice.

use anyhow::Result;
use serde_json::json;
use weir_manifest::Kind;
use weir_model::{Health, PolicyScope, Tunnel};
use weir_tests_kube::{eventually, things};
use weir_xds::Mode;

use crate::scene::Scene;

/// A real server tells of each write; what has no endpoint slices goes by its selector.
#[tokio::test]
async fn what_is_made_changed_and_deleted_reaches_an_agent() -> Result<()> {
    let scene = Scene::new().await?;
    scene.pod("before", "app", 1, &["10.1.0.1", "fd00:1::1"]).await?;
    let control = scene.control(&[]).await?;
    let mut agent = scene.agent(1, &control, Mode::Wildcard).await?;
    agent.synced().await?;
    let before = scene.uid("before");
    assert_eq!(agent.workloads[&before].addresses.len(), 2, "both families");
    assert_eq!(&*agent.workloads[&before].locality.zone, "z1");

    scene.pod("after", "app", 2, &["10.1.0.2", "fd00:1::2"]).await?;
    scene.service("shop", "app").await?;
    let (after, shop) = (scene.uid("after"), scene.host("shop"));
    let behind = |agent: &weir_tests_kube::Agent, uid: &str| {
        agent.workloads.get(uid).is_some_and(|one| one.services.iter().any(|at| at.service.to_string() == shop))
    };
    agent
        .until("service and pod are there", |agent| {
            agent.services.contains_key(&shop) && behind(agent, &after) && behind(agent, &before)
        })
        .await?;

    // Changed: not ready any more, and behind no service.
    things::delete(&scene.services(), "shop").await?;
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let merge = kube::api::Patch::Merge(&status);
    scene.pods().patch_status("after", &Default::default(), &merge).await?;
    agent
        .until("changed", |agent| {
            let unhealthy = agent.workloads.get(&after).is_some_and(|one| one.health == Health::Unhealthy);
            !agent.services.contains_key(&shop) && !behind(agent, &before) && unhealthy
        })
        .await?;

    // Enrolment by the namespace's label, and back.
    for (mode, want) in [(Some("ambient"), Tunnel::Hbone), (None, Tunnel::None)] {
        scene.enrol(mode).await?;
        agent
            .until("enrolled as labelled", |agent| {
                [&before, &after].iter().all(|uid| agent.workloads[*uid].tunnel == want)
            })
            .await?;
    }

    // Where a node is.
    scene.label(&scene.nodes(), &scene.node(1), json!({"topology.kubernetes.io/zone": "moved"})).await?;
    agent.until("moved", |agent| &*agent.workloads[&before].locality.zone == "moved").await?;
    assert_eq!(&*agent.workloads[&after].locality.zone, "z2");

    things::delete(&scene.pods(), "before").await?;
    agent.until("deleted", |agent| !agent.workloads.contains_key(&before)).await?;
    assert!(agent.workloads.contains_key(&after));
    control.stop().await?;
    scene.clean(()).await
}

/// An agent that returns with what it knows is told nothing, by the same process and by the next.
#[tokio::test]
async fn who_returns_is_told_only_what_changed() -> Result<()> {
    let scene = Scene::own().await?;
    for n in 0..50 {
        scene.pod(&format!("p{n}"), "app", 1 + n % 2, &[&format!("10.1.0.{n}"), &format!("fd00:1::{n:x}")]).await?;
    }
    scene.service("shop", "app").await?;
    let mut control = scene.control(&[]).await?;
    let mut everything = scene.agent(1, &control, Mode::Wildcard).await?;
    let mut some = scene.agent(2, &control, Mode::OnDemand).await?;
    some.demand(&scene.uid("p0"))?;
    some.demand(&scene.host("shop"))?;
    everything.synced().await?;
    some.synced().await?;
    let (pods, shop) = (scene.uid("p0"), scene.host("shop"));
    some.until("what was demanded", |agent| agent.workloads.contains_key(&pods) && agent.services.contains_key(&shop))
        .await?;
    assert!(!some.workloads.contains_key(&scene.uid("agent-1")), "another node's pod that nobody demanded");
    assert!(some.workloads.contains_key(&scene.uid("p1")), "its own node's pod");

    let plan = control.plan.clone();
    control.kill()?;
    everything.lost().await?;
    some.lost().await?;
    let (all, few) = (everything.workloads.clone(), some.workloads.clone());
    let mut control = scene.start(&plan)?;
    control.ready().await?;
    everything.returns_to_the_same(plan.agents).await?;
    some.returns_to_the_same(plan.agents).await?;
    assert_eq!((&everything.workloads, &some.workloads), (&all, &few));
    let sent = eventually("both are counted", || async {
        let connected = control.metric("pilot_xds", "").await?;
        let sent = control.metric("weir_xds_resources_sent_total", "").await?;
        Ok((connected > 1.5).then_some(sent))
    });
    assert_eq!(sent.await?, 0.0, "resources were sent again");

    // While it is away something changes: only that is told.
    let from = everything.heard.len();
    control.kill()?;
    everything.lost().await?;
    things::delete(&scene.pods(), "p3").await?;
    scene.pod("p4x", "app", 1, &["10.1.1.1"]).await?;
    let mut control = scene.start(&plan)?;
    control.ready().await?;
    everything.synced().await?;
    let changes: Vec<_> = everything.heard[from..].iter().filter(|line| line.ends_with("changes")).collect();
    assert_eq!(changes, ["2 changes"], "{:?}", &everything.heard[from..]);
    assert!(!everything.workloads.contains_key(&scene.uid("p3")));
    assert!(everything.workloads.contains_key(&scene.uid("p4x")));
    scene.clean(control).await
}

/// A cluster without the kinds of Istio is followed all the same; where there are some, their objects reach agents.
#[tokio::test]
async fn policies_reach_agents_where_there_are_such() -> Result<()> {
    let scene = Scene::without_definitions().await?;
    scene.pod("p", "app", 1, &["10.1.0.1", "fd00:1::1"]).await?;
    let mut control = scene.control(&[]).await?;
    let mut agent = scene.agent(1, &control, Mode::Wildcard).await?;
    agent.synced().await?;
    control.kill()?;
    agent.lost().await?;
    let kind = Kind::AuthorizationPolicy;
    things::define(&scene.client(), kind).await?;
    let mut control = scene.start(&control.plan)?;
    control.ready().await?;
    let policies = things::custom(&scene.client(), kind, &scene.space);
    let (whole, some, uid) = (format!("{}/whole", scene.space), format!("{}/some", scene.space), scene.uid("p"));
    for (name, spec) in [("whole", json!({})), ("some", json!({"selector": {"matchLabels": {"app": "app"}}}))] {
        let metadata = json!({"name": name});
        let object =
            json!({"apiVersion": "security.istio.io/v1", "kind": kind.name(), "metadata": metadata, "spec": spec});
        things::make(&policies, object).await?;
    }
    agent
        .until("both policies", |agent| {
            let named: Vec<_> = agent.workloads[&uid].policies.iter().map(ToString::to_string).collect();
            let scopes = [&whole, &some].map(|name| agent.policies.get(name).map(|policy| policy.scope));
            scopes == [Some(PolicyScope::Namespace), Some(PolicyScope::Workloads)] && named == [some.as_str()]
        })
        .await?;
    things::delete(&policies, "some").await?;
    agent
        .until("one is gone", |agent| !agent.policies.contains_key(&some) && agent.workloads[&uid].policies.is_empty())
        .await?;
    assert!(agent.policies.contains_key(&whole));
    scene.clean(control).await
}
