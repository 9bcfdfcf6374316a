//! Pods that agents have caught carry Istio's annotation.

use std::{collections::BTreeSet, fs};

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use weir_report::{Caught, Reporter};
use weir_tests_kube::eventually;

use crate::scene::Scene;

const ANNOTATION: &str = "ambient.istio.io/redirection";

fn caught(pod: &Pod) -> Caught {
    Caught { namespace: pod.namespace().unwrap_or_default(), name: pod.name_any(), uid: pod.uid().unwrap_or_default() }
}

/// A real server keeps annotations that a patch with the pod's own uid sets, and refuses one with another's.
#[tokio::test]
async fn caught_pods_are_annotated_and_only_those_of_the_agents_own_node() -> Result<()> {
    let scene = Scene::new().await?;
    scene.pod("p", "app", 1, &["10.1.0.1"]).await?;
    scene.pod("q", "app", 2, &["fd00:1::2"]).await?;
    let control = scene.control(&[]).await?;
    let (token, roots) = (scene.folder.path().join("report-token"), scene.folder.path().join("report-roots"));
    let agent = scene.agent(1, &control, weir_xds::Mode::Wildcard).await?;
    fs::write(&token, scene.token("agent", "agent-1").await?)?;
    fs::write(&roots, scene.roots(&scene.space).await?)?;
    let mut reporter = Reporter::new(weir_tests_kube::dial(control.plan.agents, &roots, Some(&token))?);
    let pods = scene.pods();
    let annotated = |name: &'static str| {
        let pods = pods.clone();
        async move { anyhow::Ok(pods.get(name).await?.annotations().get(ANNOTATION).cloned()) }
    };
    let (mine, other) = (pods.get("p").await?, pods.get("q").await?);
    let all = BTreeSet::from([caught(&mine), caught(&other)]);
    // A pod that the control plane has not read of yet is not believed, and told of again.
    let reporter = tokio::sync::Mutex::new(&mut reporter);
    eventually("the pod is annotated", || async {
        reporter.lock().await.report(&all).await?;
        Ok(annotated("p").await?.filter(|value| value == "enabled"))
    })
    .await?;
    assert_eq!(annotated("q").await?, None, "it is on another node");
    reporter.lock().await.report(&BTreeSet::new()).await?;
    eventually("it is taken off", || async { Ok(annotated("p").await?.is_none().then_some(())) }).await?;
    drop(agent);
    control.stop().await?;
    scene.clean(()).await
}
