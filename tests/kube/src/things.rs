//! Objects the suite makes, by hand: a real server without a scheduler and kubelets has nobody else who would.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{Pod, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weir_manifest::Kind;

/// Makes an object of any kind from its JSON.
///
/// # Errors
/// When it is none, or the server refuses.
pub async fn make<K>(api: &Api<K>, object: Value) -> Result<K>
where
    K: Resource + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)?;
    Ok(api.create(&PostParams::default(), &object).await?)
}

/// Deletes an object at once: no kubelet would end a pod in its own time.
///
/// # Errors
/// When the server refuses.
pub async fn delete<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Resource + DeserializeOwned + Clone + std::fmt::Debug,
{
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    api.delete(name, &at_once).await.with_context(|| format!("delete {name}"))?;
    Ok(())
}

/// A service account.
///
/// # Errors
/// When the server refuses.
pub async fn account(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    make(&accounts, json!({"metadata": {"name": name}})).await.map(drop)
}

/// A pod of the account `app` on node `n1` that runs under an address. The account is made when it is not there.
///
/// # Errors
/// When the server refuses.
pub async fn pod(client: &Client, namespace: &str, name: &str, address: &str) -> Result<Pod> {
    pod_on(client, namespace, name, address, "n1").await
}

/// As [`pod`], on a node.
///
/// # Errors
/// When the server refuses.
pub async fn pod_on(client: &Client, namespace: &str, name: &str, address: &str, node: &str) -> Result<Pod> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    if accounts.get_opt("app").await?.is_none() {
        account(client, namespace, "app").await?;
    }
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    make(
        &pods,
        json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {
            "serviceAccountName": "app", "automountServiceAccountToken": false, "nodeName": node,
            "containers": [{"name": "app", "image": "none", "ports": [{"name": "web", "containerPort": 80}]}]}}),
    )
    .await?;
    runs(client, namespace, name, address).await
}

/// Says that a pod runs, as its kubelet would.
///
/// # Errors
/// When the server refuses.
pub async fn runs(client: &Client, namespace: &str, name: &str, address: &str) -> Result<Pod> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let ready = json!({"type": "Ready", "status": "True"});
    let status =
        json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}});
    Ok(pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?)
}

/// An endpoint slice of nobody: the object with the least to it.
///
/// # Errors
/// When the server refuses.
pub async fn slice(client: &Client, namespace: &str, name: &str, address: &str) -> Result<()> {
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    let endpoints = json!([{"addresses": [address]}]);
    make(&slices, json!({"metadata": {"name": name}, "addressType": family, "endpoints": endpoints, "ports": []}))
        .await
        .map(drop)
}

/// A token of the account `app`, bound to a pod.
///
/// # Errors
/// When the server refuses.
pub async fn token(
    client: &Client,
    namespace: &str,
    account: &str,
    audience: &str,
    pod: Option<&str>,
) -> Result<String> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let bound = |name: &str| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.to_owned()),
        uid: None,
    };
    let audiences = if audience.is_empty() { Vec::new() } else { vec![audience.to_owned()] };
    let spec = TokenRequestSpec { audiences, bound_object_ref: pod.map(bound), expiration_seconds: Some(600) };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(made.status.context("a token request without an answer")?.token)
}

/// Objects of a kind that a definition brings.
pub fn custom(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(kind.group(), kind.version(), kind.name());
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&gvk, kind.plural()))
}

/// Defines a kind of Istio and waits until the server serves it.
///
/// # Errors
/// When the server refuses, or does not serve it in time.
pub async fn define(client: &Client, kind: Kind) -> Result<()> {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}});
    let version = json!({"name": kind.version(), "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}});
    let names = json!({"plural": kind.plural(), "singular": kind.name().to_lowercase(), "kind": kind.name(),
        "listKind": format!("{}List", kind.name())});
    let name = format!("{}.{}", kind.plural(), kind.group());
    let spec = json!({"group": kind.group(), "scope": "Namespaced", "names": names, "versions": [version]});
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    make(&definitions, json!({"metadata": {"name": name}, "spec": spec})).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while custom(client, kind, "default").list(&ListParams::default()).await.is_err() {
        if Instant::now() > deadline {
            bail!("{kind} is defined but not served");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Takes a kind of Istio away.
///
/// # Errors
/// When the server refuses.
pub async fn undefine(client: &Client, kind: Kind) -> Result<()> {
    delete(&Api::<CustomResourceDefinition>::all(client.clone()), &format!("{}.{}", kind.plural(), kind.group())).await
}
