//! What is written back, against whichever server `WEIR_TEST_KUBECONFIG` names, else ours.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use weir_kube::{
    Applied, Condition, Made, conditions_set, config_map_apply, pod_annotate, secret_create_or_get, secret_get,
};
use weir_manifest::{Kind, ObjectKey};
use weir_model::Namespace;
use weir_tests_kube::{Ground, things};

/// A real server lets one of several make an object of a name, and tells the others that it is there.
#[tokio::test]
async fn of_replicas_that_race_one_makes_the_root_and_all_have_it() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace: Namespace = ground.namespace().await?.parse()?;
    assert_eq!(secret_get(&ground.client, &namespace, "root").await?, None);
    let mut racing = tokio::task::JoinSet::new();
    for i in 0..8_u8 {
        let (client, namespace) = (ground.client.clone(), namespace.clone());
        let data = BTreeMap::from([("key".to_owned(), ByteString(vec![i]))]);
        let secret = Secret { data: Some(data), ..Secret::default() };
        racing.spawn(async move { secret_create_or_get(&client, &namespace, "root", secret).await });
    }
    let (mut ours, mut data) = (0, Vec::new());
    while let Some(made) = racing.join_next().await {
        let made = made??;
        ours += usize::from(matches!(made, Made::Ours(_)));
        data.push(made.object().data.context("an empty secret")?);
    }
    assert_eq!(ours, 1);
    data.dedup();
    assert_eq!(data.len(), 1, "one root: {data:?}");
    let there = secret_get(&ground.client, &namespace, "root").await?.context("it is there")?;
    assert_eq!(there.data.as_ref(), data.first());
    ground.clean().await
}

/// A real server merges applied fields with those of others, and a write that changes nothing is none.
#[tokio::test]
async fn a_config_map_is_applied_in_each_namespace_and_written_only_when_it_differs() -> Result<()> {
    let mut ground = Ground::new().await?;
    let roots = |text: &str| BTreeMap::from([("root-cert.pem".to_owned(), text.to_owned())]);
    for _ in 0..3 {
        let name = ground.namespace().await?;
        let (namespace, maps) =
            (name.parse::<Namespace>()?, Api::<ConfigMap>::namespaced(ground.client.clone(), &name));
        // As on a cluster that comes from Istio: the key is somebody else's.
        things::make(&maps, json!({"metadata": {"name": "roots"}, "data": {"root-cert.pem": "old", "other": "kept"}}))
            .await?;
        for (text, want) in
            [("one", Applied::Changed), ("one", Applied::Same), ("two", Applied::Changed), ("two", Applied::Same)]
        {
            let before = maps.get("roots").await?.resource_version();
            let applied = config_map_apply(&ground.client, &namespace, "roots", &roots(text)).await?;
            assert_eq!(applied, want, "{text}");
            let map = maps.get("roots").await?;
            assert_eq!(map.resource_version() == before, want == Applied::Same);
            let data = map.data.context("no data")?;
            assert_eq!((data["root-cert.pem"].as_str(), data["other"].as_str()), (text, "kept"));
        }
        things::delete(&maps, "roots").await?;
        assert_eq!(config_map_apply(&ground.client, &namespace, "roots", &roots("new")).await?, Applied::Changed);
        assert_eq!(maps.get("roots").await?.data, Some(roots("new")));
    }
    let nowhere: Namespace = "weir-test-is-not-there".parse()?;
    let error = config_map_apply(&ground.client, &nowhere, "roots", &roots("x")).await.expect_err("no namespace");
    assert_eq!(error.status(), Some(404), "{error}");
    ground.clean().await
}

/// A real server lets nobody change a uid, so that a patch which names one changes no other object of the name.
#[tokio::test]
async fn a_pod_is_annotated_but_never_its_successor() -> Result<()> {
    let mut ground = Ground::new().await?;
    let name = ground.namespace().await?;
    let (namespace, pods) = (name.parse::<Namespace>()?, Api::<Pod>::namespaced(ground.client.clone(), &name));
    let first = things::pod(&ground.client, &name, "p", "10.0.0.1").await?.uid().context("no uid")?;
    let annotation = ("ambient.istio.io/redirection", Some("enabled"));
    pod_annotate(&ground.client, &namespace, "p", &first, annotation).await?;
    let pod = pods.get("p").await?;
    assert_eq!(pod.annotations().get(annotation.0).map(String::as_str), Some("enabled"));
    assert_eq!(pod.status.and_then(|status| status.pod_ip).as_deref(), Some("10.0.0.1"), "nothing else changed");
    pod_annotate(&ground.client, &namespace, "p", &first, (annotation.0, None)).await?;
    assert!(pods.get("p").await?.annotations().is_empty(), "it is taken off");
    things::delete(&pods, "p").await?;
    let gone = pod_annotate(&ground.client, &namespace, "p", &first, annotation).await.expect_err("it is gone");
    assert_eq!(gone.status(), Some(404), "{gone}");
    things::pod(&ground.client, &name, "p", "10.0.0.2").await?;
    let other = pod_annotate(&ground.client, &namespace, "p", &first, annotation).await.expect_err("it is another");
    assert!(matches!(other.status(), Some(409 | 422)), "{other}");
    assert!(pods.get("p").await?.annotations().is_empty());
    ground.clean().await
}

fn condition(kind: &'static str, holds: bool) -> Condition {
    Condition { kind, holds, reason: "Test", message: "said by the suite".to_owned(), generation: Some(1) }
}

/// The definitions of Istio have a list of conditions without keys: whoever applies one takes all over.
#[tokio::test]
async fn conditions_are_set_beside_those_of_others_and_the_spec_stays_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let name = ground.namespace().await?;
    let kind = Kind::AuthorizationPolicy;
    things::define(&ground.client, kind).await?;
    let policies = things::custom(&ground.client, kind, &name);
    let object = json!({"apiVersion": "security.istio.io/v1", "kind": kind.name(), "metadata": {"name": "p"},
        "spec": {"action": "DENY"}});
    things::make(&policies, object).await?;
    let theirs = json!({"status": {"conditions": [{"type": "Theirs", "status": "True", "extra": 1}]}});
    policies.patch_status("p", &PatchParams::default(), &Patch::Merge(&theirs)).await?;
    let key = ObjectKey { kind: kind.name().into(), namespace: Some(name.parse()?), name: "p".into() };
    let ours = ["Weir", "Old"];
    let said = |object: &DynamicObject| {
        let all = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| format!("{}={}", one["type"], one["status"]).replace('"', "")).collect::<Vec<_>>()
    };
    for (wanted, want, applied) in [
        (
            vec![condition("Weir", true), condition("Old", true)],
            vec!["Theirs=True", "Weir=True", "Old=True"],
            Applied::Changed,
        ),
        (
            vec![condition("Weir", true), condition("Old", true)],
            vec!["Theirs=True", "Weir=True", "Old=True"],
            Applied::Same,
        ),
        (vec![condition("Weir", false)], vec!["Theirs=True", "Weir=False"], Applied::Changed),
        (vec![], vec!["Theirs=True"], Applied::Changed),
    ] {
        let before = policies.get("p").await?;
        assert_eq!(conditions_set(&ground.client, kind, &key, &ours, &wanted).await?, applied);
        let after = policies.get("p").await?;
        assert_eq!(said(&after), want);
        assert_eq!(after.data["spec"], before.data["spec"]);
        assert_eq!(after.data["status"]["conditions"][0]["extra"], 1, "theirs is left as it is");
        assert_eq!(after.resource_version() == before.resource_version(), applied == Applied::Same);
    }
    let gone = ObjectKey { name: "q".into(), ..key };
    let error = conditions_set(&ground.client, kind, &gone, &ours, &[]).await.expect_err("it is not there");
    assert_eq!(error.status(), Some(404), "{error}");
    ground.clean().await
}
