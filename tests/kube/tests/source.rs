//! The source, against whichever server `WEIR_TEST_KUBECONFIG` names, else ours. Each case says in a line what a real server does.

use anyhow::Result;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::task::JoinSet;
use weir_manifest::{Kind, Object};
use weir_tests_kube::{Ground, Heard, quick, things};

/// A real server tells a watcher of each write, in the order of writes, from the version of its list on. That a pod is deleted at once
/// is two writes: first it is said to end.
#[tokio::test]
async fn what_is_made_changed_and_deleted_is_heard_once_and_in_order() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let pods = Api::<Pod>::namespaced(ground.client.clone(), &namespace);
    things::pod(&ground.client, &namespace, "before", "fd00::1").await?;
    let mut heard = Heard::start(ground.client.clone(), &namespace, quick(&[Kind::Pod]));
    heard.hears(&["set Pod before", "synced"]).await?;

    things::pod(&ground.client, &namespace, "after", "10.0.0.2").await?;
    heard.hears(&["set Pod after", "set Pod after"]).await?;
    let Some(Object::Pod(pod)) = &heard.last else { panic!("no pod") };
    assert_eq!(pod.addresses, ["10.0.0.2".parse::<std::net::IpAddr>()?]);
    assert_eq!((pod.service_account.as_str(), pod.ports.len()), ("app", 1));

    let label = json!({"metadata": {"labels": {"x": "y"}}});
    pods.patch("before", &PatchParams::default(), &Patch::Merge(&label)).await?;
    pods.patch("before", &PatchParams::default(), &Patch::Merge(&label)).await?;
    things::delete(&pods, "after").await?;
    heard.hears(&["set Pod before", "set Pod after", "removed Pod after"]).await?;
    things::delete(&pods, "before").await?;
    heard.hears(&["set Pod before", "removed Pod before"]).await?;
    ground.clean().await
}

/// A real server has these kinds at these paths, the namespaced ones in all namespaces at once.
#[tokio::test]
async fn every_core_kind_is_heard() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let kinds = [Kind::Namespace, Kind::Node, Kind::Pod, Kind::Service, Kind::EndpointSlice];
    let mut heard = Heard::start(ground.client.clone(), &namespace, quick(&kinds));
    let before = heard.until("synced").await?;
    assert_eq!(before, [format!("set Namespace {namespace}")]);

    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    things::make(&Api::<Service>::namespaced(ground.client.clone(), &namespace), service).await?;
    heard.hears(&["set Service s"]).await?;
    let Some(Object::Service(service)) = &heard.last else { panic!("no service") };
    assert_eq!(service.cluster_ips.len(), 1, "the server gives a cluster address");
    things::slice(&ground.client, &namespace, "e", "fd00::9").await?;
    heard.hears(&["set EndpointSlice e"]).await?;
    let nodes = Api::<Node>::all(ground.client.clone());
    // Named as the namespace, so that it counts.
    things::make(&nodes, json!({"metadata": {"name": namespace}})).await?;
    heard.hears(&[&format!("set Node {namespace}")]).await?;
    things::delete(&nodes, &namespace).await?;
    // A cluster's controllers may say something of a node before it goes.
    heard.until(&format!("removed Node {namespace}")).await?;

    let label = json!({"metadata": {"labels": {"istio.io/dataplane-mode": "ambient"}}});
    Api::<Namespace>::all(ground.client.clone())
        .patch(&namespace, &PatchParams::default(), &Patch::Merge(&label))
        .await?;
    heard.hears(&[&format!("set Namespace {namespace}")]).await?;
    ground.clean().await
}

/// A real server cuts a list into pages of one snapshot, and says where the next begins.
#[tokio::test]
async fn twelve_hundred_objects_come_in_pages_each_of_them_once() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let mut making = JoinSet::new();
    for part in 0..8 {
        let (client, namespace) = (ground.client.clone(), namespace.clone());
        making.spawn(async move {
            for i in 0..150 {
                let name = format!("e{:04}", part * 150 + i);
                things::slice(&client, &namespace, &name, "10.0.0.1").await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    let before = ground.server.as_ref().map(|server| server.lists());
    let mut heard = Heard::start(ground.client.clone(), &namespace, quick(&[Kind::EndpointSlice]));
    let lines = heard.until("synced").await?;
    let want: Vec<String> = (0..1200).map(|i| format!("set EndpointSlice e{i:04}")).collect();
    assert_eq!(lines, want);
    if let (Some(server), Some(before)) = (&ground.server, before) {
        assert_eq!(server.lists() - before, 3);
    }
    things::slice(&ground.client, &namespace, "one-more", "10.0.0.1").await?;
    heard.hears(&["set EndpointSlice one-more"]).await?;
    ground.clean().await
}

/// A real server lets through what means nothing to it, such as a label only a mesh reads.
#[tokio::test]
async fn a_bad_object_is_refused_while_others_go_on() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let pods = Api::<Pod>::namespaced(ground.client.clone(), &namespace);
    things::pod(&ground.client, &namespace, "a", "10.0.0.1").await?;
    things::pod(&ground.client, &namespace, "b", "10.0.0.2").await?;
    let label = |value: &str| json!({"metadata": {"labels": {"istio.io/dataplane-mode": value}}});
    pods.patch("a", &PatchParams::default(), &Patch::Merge(&label("Ambient"))).await?;
    let mut heard = Heard::start(ground.client.clone(), &namespace, quick(&[Kind::Pod]));
    heard.hears(&["refused Pod a", "set Pod b", "synced"]).await?;
    pods.patch("b", &PatchParams::default(), &Patch::Merge(&label("Ambient"))).await?;
    heard.hears(&["refused Pod b"]).await?;
    pods.patch("a", &PatchParams::default(), &Patch::Merge(&label("ambient"))).await?;
    heard.hears(&["set Pod a"]).await?;
    things::delete(&pods, "b").await?;
    heard.hears(&["refused Pod b", "removed Pod b"]).await?;
    ground.clean().await
}

/// A real server refuses addresses of the loopback.
#[tokio::test]
async fn no_endpoint_has_an_address_of_the_loopback() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    for address in ["127.0.0.1", "::1"] {
        assert!(things::slice(&ground.client, &namespace, "e", address).await.is_err(), "{address}");
    }
    let slices = Api::<EndpointSlice>::namespaced(ground.client.clone(), &namespace);
    assert!(slices.get_opt("e").await?.is_none());
    ground.clean().await
}
