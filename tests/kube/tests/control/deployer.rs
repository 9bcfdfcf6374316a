//! Waypoints are deployed: what a Gateway asks for is made, kept and taken away, by who leads.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use weir_manifest::{ConfigKind, Kind};
use weir_tests_kube::{Control, eventually, things};

use crate::scene::Scene;

const IMAGE: &str = "--waypoint-image=registry.example/weir-waypoint:1";

fn api(scene: &Scene, api_version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(scene.client(), &scene.space, &resource)
}

fn gateways(scene: &Scene) -> Api<DynamicObject> {
    things::custom(&scene.client(), Kind::Config(ConfigKind::Gateway), &scene.space)
}

async fn gateway(scene: &Scene, name: &str, class: &str, more: Value) -> Result<String> {
    let mut spec =
        json!({"gatewayClassName": class, "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]});
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    let object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name}, "spec": spec});
    let made: DynamicObject = things::make(&gateways(scene), object).await?;
    made.metadata.uid.context("a uid")
}

/// The object, once it is as it should be.
async fn until(api: &Api<DynamicObject>, name: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(&format!("{name} as it should be"), || async {
        let found = api.get_opt(name).await?.map(serde_json::to_value).transpose()?;
        Ok(found.filter(&holds))
    })
    .await
}

async fn until_gone(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    eventually(&format!("{name} gone"), || async { Ok(api.get_opt(name).await?.is_none().then_some(())) }).await
}

fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    object["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == kind)
}

async fn deploying(scene: &Scene) -> Result<Control> {
    scene.control(&[IMAGE]).await
}

/// The waypoint itself takes what it is started with: flags are read before a level of logging that is none.
fn takes_its_flags(container: &Value) -> Result<()> {
    let args = container["args"].as_array().context("args")?.iter().filter_map(Value::as_str);
    let mut command = Command::new(weir_testbed::binary("weir-waypoint")?);
    command.env_clear().env("POD_NAME", "gate-1").env("NODE_NAME", "n1").args(args).arg("--log-level=weir=[");
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("--log-level"), "{}: {said}", output.status);
    Ok(())
}

/// Kubernetes' own type has every field of the spec.
fn fits<K: DeserializeOwned + Serialize>(object: &Value) -> Result<()> {
    let typed: K = serde_json::from_value(object.clone())?;
    let again = serde_json::to_value(typed)?;
    ensure!(again["spec"] == object["spec"], "{} is {}", object["spec"], again["spec"]);
    Ok(())
}

async fn patch(api: &Api<DynamicObject>, name: &str, change: Value) -> Result<()> {
    api.patch(name, &PatchParams::default(), &Patch::Merge(&change)).await?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_gets_a_waypoint_that_is_its_own_and_its_status_says_where_on_our_own_server() -> Result<()> {
    let scene = Scene::own().await?;
    let uid = gateway(&scene, "gate", "weir-waypoint", json!({"infrastructure": {"labels": {"team": "a"}}})).await?;
    let control = deploying(&scene).await?;
    let deployment = until(&api(&scene, "apps/v1", "Deployment"), "gate", |_| true).await?;
    let service = until(&api(&scene, "v1", "Service"), "gate", |_| true).await?;
    let account = until(&api(&scene, "v1", "ServiceAccount"), "gate", |_| true).await?;
    for object in [&deployment, &service, &account] {
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], *uid, "{object}");
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["gateway.networking.k8s.io/gateway-name"], "gate");
        assert_eq!(labels["gateway.istio.io/managed"], "istio.io-mesh-controller");
        assert_eq!(labels["team"], "a");
    }
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example/weir-waypoint:1");
    assert!(deployment["spec"].get("replicas").is_none(), "left to whoever scales");
    takes_its_flags(container)?;
    fits::<Deployment>(&deployment)?;
    fits::<Service>(&service)?;
    let said = until(&gateways(&scene), "gate", |gateway| {
        condition(gateway, "Programmed").is_some_and(|one| one["status"] == "True")
            && gateway["status"]["addresses"][0]["value"] == service["spec"]["clusterIP"]
    })
    .await?;
    assert_eq!(condition(&said, "Accepted").map(|one| &one["status"]), Some(&json!("True")));
    scene.clean(control).await
}

#[tokio::test]
async fn what_others_change_is_put_back_and_what_they_add_stays_on_our_own_server() -> Result<()> {
    let scene = Scene::own().await?;
    gateway(&scene, "gate", "istio-waypoint", json!({})).await?;
    let control = deploying(&scene).await?;
    let deployments = api(&scene, "apps/v1", "Deployment");
    until(&deployments, "gate", |_| true).await?;
    patch(
        &deployments,
        "gate",
        json!({"spec": {"replicas": 4, "template": {"spec": {"serviceAccountName": "other"}}}}),
    )
    .await?;
    let back =
        until(&deployments, "gate", |one| one["spec"]["template"]["spec"]["serviceAccountName"] == "gate").await?;
    assert_eq!(back["spec"]["replicas"], 4, "the number is an autoscaler's");
    things::delete(&deployments, "gate").await?;
    until(&deployments, "gate", |_| true).await?;
    // Of another class it is none of ours, and neither is what was made for it.
    patch(&gateways(&scene), "gate", json!({"spec": {"gatewayClassName": "ingress"}})).await?;
    until_gone(&deployments, "gate").await?;
    until_gone(&api(&scene, "v1", "Service"), "gate").await?;
    until_gone(&api(&scene, "v1", "ServiceAccount"), "gate").await?;
    scene.clean(control).await
}

#[tokio::test]
async fn what_is_not_the_gateways_is_left_alone_and_its_status_says_so_on_our_own_server() -> Result<()> {
    let scene = Scene::own().await?;
    let before = scene.service("gate", "other").await?;
    gateway(&scene, "gate", "weir-waypoint", json!({})).await?;
    let control = deploying(&scene).await?;
    let said = until(&gateways(&scene), "gate", |gateway| {
        condition(gateway, "Programmed").is_some_and(|one| one["reason"] == "NoResources")
    })
    .await?;
    let message = condition(&said, "Programmed").and_then(|one| one["message"].as_str()).context("a message")?;
    assert!(message.contains(&format!("Service {}/gate is there and is not this Gateway's", scene.space)), "{message}");
    assert_eq!(scene.services().get("gate").await?.spec, before.spec);
    assert!(api(&scene, "apps/v1", "Deployment").get_opt("gate").await?.is_none(), "nothing was made");
    // It goes, and the waypoint comes.
    things::delete(&scene.services(), "gate").await?;
    scene.clean(control).await
}

#[tokio::test]
async fn a_config_map_says_how_it_runs_and_may_not_say_as_whom_on_our_own_server() -> Result<()> {
    let scene = Scene::own().await?;
    let named = json!({"infrastructure": {"parametersRef": {"group": "", "kind": "ConfigMap", "name": "options"}}});
    gateway(&scene, "gate", "weir-waypoint", named.clone()).await?;
    let data = json!({"deployment": "spec: {replicas: 3}", "podDisruptionBudget": "spec: {minAvailable: 1}"});
    things::make(&scene.maps(&scene.space), json!({"metadata": {"name": "options"}, "data": data})).await?;
    let data = json!({"deployment": "spec: {template: {spec: {serviceAccountName: admin}}}"});
    things::make(&scene.maps(&scene.space), json!({"metadata": {"name": "rights"}, "data": data})).await?;
    let rights = json!({"infrastructure": {"parametersRef": {"group": "", "kind": "ConfigMap", "name": "rights"}}});
    gateway(&scene, "rights", "weir-waypoint", rights).await?;
    let control = deploying(&scene).await?;
    until(&api(&scene, "apps/v1", "Deployment"), "gate", |one| one["spec"]["replicas"] == 3).await?;
    let budgets = api(&scene, "policy/v1", "PodDisruptionBudget");
    until(&budgets, "gate", |one| one["spec"]["minAvailable"] == 1).await?;
    let said = until(&gateways(&scene), "rights", |gateway| {
        condition(gateway, "Accepted").is_some_and(|one| one["reason"] == "InvalidParameters")
    })
    .await?;
    let message = condition(&said, "Accepted").and_then(|one| one["message"].as_str()).context("a message")?;
    assert!(message.contains("/rights: deployment: ") && message.contains("serviceAccountName"), "{message}");
    assert!(api(&scene, "apps/v1", "Deployment").get_opt("rights").await?.is_none());
    // What is no longer asked for goes.
    patch(&gateways(&scene), "gate", json!({"spec": {"infrastructure": null}})).await?;
    until_gone(&budgets, "gate").await?;
    until(&api(&scene, "apps/v1", "Deployment"), "gate", |one| one["spec"].get("replicas").is_none()).await?;
    scene.clean(control).await
}
