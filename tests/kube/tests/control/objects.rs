//! Objects that are wrong, odd or many: each is dealt with by itself, and the rest goes on.

use anyhow::{Context, Result};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use serde_json::{Value, json};
use weir_tests_kube::{Agent, eventually, things};
use weir_xds::Mode;

use crate::scene::Scene;

fn behind(agent: &Agent, host: &str) -> usize {
    let stands = |one: &&weir_model::Workload| one.services.iter().any(|at| at.service.to_string() == host);
    agent.workloads.values().filter(stands).count()
}

/// A real server knows nothing of what a label should say.
#[tokio::test]
async fn what_cannot_be_read_is_refused_alone_and_said() -> Result<()> {
    let scene = Scene::new().await?;
    scene.pod("good", "app", 1, &["10.1.0.1"]).await?;
    let control = scene.control(&[]).await?;
    let mut agent = scene.agent(1, &control, Mode::Wildcard).await?;
    agent.synced().await?;
    let others = control.metric("weir_objects_refused", "").await?;
    let mode = |value: &str| json!({"istio.io/dataplane-mode": value});
    scene.label(&scene.pods(), "good", mode("Ambient")).await?;
    let refused = || async {
        let page = control.page("/debug/configz").await?;
        let all = page["refused"].as_array().cloned().context("no list")?;
        Ok::<_, anyhow::Error>(
            all.into_iter().filter(|one| one["namespace"] == scene.space.as_str()).collect::<Vec<Value>>(),
        )
    };
    let found =
        eventually("it is refused", || async { Ok(Some(refused().await?).filter(|all| all.len() == 1)) }).await?;
    assert_eq!((&found[0]["kind"], &found[0]["name"]), (&json!("Pod"), &json!("good")));
    assert!(found[0]["errors"].to_string().contains("dataplane-mode"), "{found:?}");
    assert_eq!(control.metric("weir_objects_refused", "").await?, others + 1.0);
    control.says(&["refused", "good", "dataplane-mode"]).await?;
    // The rest goes on.
    scene.pod("next", "app", 2, &["fd00:1::2"]).await?;
    let (good, next) = (scene.uid("good"), scene.uid("next"));
    agent.until("the next one", |agent| agent.workloads.contains_key(&next)).await?;
    assert!(agent.workloads.get(&good).is_none_or(|one| one.unsupported.is_some()), "it is reached as if it were good");
    scene.label(&scene.pods(), "good", mode("ambient")).await?;
    agent
        .until("it is good again", |agent| agent.workloads.get(&good).is_some_and(|one| one.unsupported.is_none()))
        .await?;
    assert!(refused().await?.is_empty());
    assert_eq!(control.metric("weir_objects_refused", "").await?, others);
    // Deleted while it is refused.
    scene.label(&scene.pods(), "good", mode("Ambient")).await?;
    eventually("refused again", || async { Ok((refused().await?.len() == 1).then_some(())) }).await?;
    things::delete(&scene.pods(), "good").await?;
    agent.until("gone", |agent| !agent.workloads.contains_key(&good)).await?;
    eventually("and no longer refused", || async { Ok(refused().await?.is_empty().then_some(())) }).await?;
    scene.clean(control).await
}

/// A real server gives out an address once; two that look alike come of clusters that were joined, or of a restored backup.
#[tokio::test]
async fn what_is_odd_is_served_as_it_is_on_our_own_server() -> Result<()> {
    let mut scene = Scene::own().await?;
    let control = scene.control(&[]).await?;
    let mut agent = scene.agent(1, &control, Mode::Wildcard).await?;
    let mut asking = scene.agent(2, &control, Mode::OnDemand).await?;
    agent.synced().await?;
    asking.synced().await?;
    let service = |name: &str, address: &str| {
        json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "clusterIPs": [address],
            "selector": {"app": "nobody"}, "ports": [{"port": 80}]}})
    };
    // Two services at one address; and a selector that matches nothing.
    for name in ["one", "two"] {
        things::make(&scene.services(), service(name, "10.96.7.7")).await?;
    }
    let (one, two) = (scene.host("one"), scene.host("two"));
    agent.until("both", |agent| agent.services.contains_key(&one) && agent.services.contains_key(&two)).await?;
    assert_eq!((behind(&agent, &one), behind(&agent, &two)), (0, 0));
    asking.demand("/10.96.7.7")?;
    asking.until("either of them", |agent| !agent.services.is_empty()).await?;
    for (name, host) in [("one", &two), ("two", &one)] {
        things::delete(&scene.services(), name).await?;
        if name == "one" {
            asking.until("the one that is left", |agent| agent.services.contains_key(host)).await?;
            agent.until("one is gone", |agent| !agent.services.contains_key(&one)).await?;
        }
    }
    asking.until("none is left", |agent| agent.services.is_empty()).await?;

    // A pod outside any node's range and on no node that is known; a pod's address given to another one while the first is there.
    scene.pod_in(&scene.space, "far", "app", "nowhere", &["203.0.113.9"]).await?;
    scene.pod("same", "app", 1, &["203.0.113.9"]).await?;
    let (far, same) = (scene.uid("far"), scene.uid("same"));
    agent.until("both pods", |agent| agent.workloads.contains_key(&far) && agent.workloads.contains_key(&same)).await?;
    assert!(agent.workloads[&far].locality.region.is_empty());

    // Names as long as names may be.
    let label = "a".repeat(63);
    let long = [label.as_str(), &label, &label, &"b".repeat(61)].join(".");
    assert_eq!(long.len(), 253);
    scene.pod(&long, &label, 1, &["10.1.2.3"]).await?;
    things::make(&scene.services(), service(&label, "fd00:96::1")).await?;
    let (pod, host) = (scene.uid(&long), scene.host(&label));
    agent.until("long names", |agent| agent.workloads.contains_key(&pod) && agent.services.contains_key(&host)).await?;
    asking.demand(&pod)?;
    asking.demand(&host)?;
    asking.until("by name", |agent| agent.workloads.contains_key(&pod) && agent.services.contains_key(&host)).await?;

    // Deleted and made anew while nobody looks: it is another one, and there is no moment in between.
    scene.pod("again", "app", 1, &["10.1.3.1"]).await?;
    let again = scene.uid("again");
    agent.until("the first", |agent| agent.workloads.get(&again).is_some_and(|one| !one.addresses.is_empty())).await?;
    let first = agent.workloads[&again].clone();
    scene.server()?.faults().silence_watches();
    things::delete(&scene.pods(), "again").await?;
    scene.pod("again", "other", 2, &["10.1.3.2"]).await?;
    scene.server()?.faults().drop_watches();
    agent
        .until("the second", |agent| agent.workloads.get(&again).is_some_and(|one| one.addresses != first.addresses))
        .await?;
    let second = &agent.workloads[&again];
    assert_ne!(second.incarnation, first.incarnation);
    assert_eq!(second.service_account.as_str(), "other");

    // A namespace with everything in it goes, and comes back.
    let elsewhere = scene.ground.namespace().await?;
    scene.pod_in(&elsewhere, "p", "app", &scene.node(1), &["10.1.4.1"]).await?;
    let inside = format!("Kubernetes//v1/Pod/{elsewhere}/p");
    agent.until("it is there", |agent| agent.workloads.contains_key(&inside)).await?;
    scene.roots(&elsewhere).await?;
    let spaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(scene.client());
    things::delete(&spaces, &elsewhere).await?;
    things::make(&spaces, json!({"metadata": {"name": elsewhere}})).await?;
    agent.until("all is gone", |agent| !agent.workloads.contains_key(&inside)).await?;
    scene.roots(&elsewhere).await.map(drop)
}

/// A slice of a real server has at most a thousand endpoints.
#[tokio::test]
async fn a_service_may_have_five_thousand_endpoints() -> Result<()> {
    let scene = Scene::new().await?;
    let control = scene.control(&[]).await?;
    let mut agent = scene.agent(1, &control, Mode::Wildcard).await?;
    agent.synced().await?;
    let spec = json!({"ports": [{"name": "http", "port": 80}]});
    things::make(&scene.services(), json!({"metadata": {"name": "big"}, "spec": spec})).await?;
    let slices = Api::<EndpointSlice>::namespaced(scene.client(), &scene.space);
    for part in 0..5 {
        let one = |n: usize| json!({"addresses": [format!("10.{}.{}.{}", 20 + part, n / 250, n % 250 + 1)], "conditions": {"ready": true}});
        let endpoints: Vec<_> = (0..1000).map(one).collect();
        let metadata = json!({"name": format!("big-{part}"), "labels": {"kubernetes.io/service-name": "big"}});
        let ports = json!([{"name": "http", "port": 8080}]);
        things::make(
            &slices,
            json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}),
        )
        .await?;
    }
    let big = scene.host("big");
    agent.until("all endpoints", |agent| behind(agent, &big) == 5000).await?;
    let from = agent.heard.len();
    things::delete(&slices, "big-4").await?;
    agent.until("a thousand less", |agent| behind(agent, &big) == 4000).await?;
    let changed: usize =
        agent.heard[from..].iter().filter_map(|line| line.strip_suffix(" changes")?.parse::<usize>().ok()).sum();
    assert!(changed <= 1001, "{changed} changes for a thousand endpoints");
    scene.clean(control).await
}
