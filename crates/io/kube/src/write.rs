//! What is written back: small requests, each with a deadline, each safe to repeat.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use weir_model::Namespace;

use crate::{Error, error::within};

/// As whom fields are applied.
pub const FIELD_MANAGER: &str = "weir-control";

/// How long a write may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often a Secret that is there and not there is looked for again.
const RACES: usize = 3;

/// Who made an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Made<T> {
    /// We did.
    Ours(T),
    /// Somebody else was faster; this is what they made.
    Theirs(T),
}

impl<T> Made<T> {
    /// The object, whoever made it.
    pub fn object(self) -> T {
        match self {
            Self::Ours(object) | Self::Theirs(object) => object,
        }
    }
}

/// Whether anything had to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was so already.
    Same,
    /// It is now.
    Changed,
}

/// A Secret, if it is there.
///
/// # Errors
/// When the server does not say in time.
pub async fn secret_get(client: &Client, namespace: &Namespace, name: &str) -> Result<Option<Secret>, Error> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace.as_str());
    within(DEADLINE, || format!("get Secret {namespace}/{name}"), secrets.get_opt(name)).await
}

/// Makes a Secret unless it is there, and answers with the one that is. Of several who try one makes it, and all get the same.
///
/// # Errors
/// When the server refuses, or does not say in time. It may have been made nevertheless: ask again.
pub async fn secret_create_or_get(
    client: &Client,
    namespace: &Namespace,
    name: &str,
    secret: Secret,
) -> Result<Made<Secret>, Error> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace.as_str());
    let what = || format!("create Secret {namespace}/{name}");
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..secret.metadata };
    let secret = Secret { metadata, ..secret };
    let mut failed = None;
    for _ in 0..RACES {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match within(DEADLINE, what, secrets.create(&params, &secret)).await {
            Ok(ours) => return Ok(Made::Ours(ours)),
            Err(error) if error.status() == Some(409) => failed = Some(error),
            Err(error) => return Err(error),
        }
        // It may have been deleted in between; then we try again.
        if let Some(theirs) = secret_get(client, namespace, name).await? {
            return Ok(Made::Theirs(theirs));
        }
    }
    Err(failed.expect("a round that does not return has failed"))
}

/// Sees to it that a ConfigMap holds `data`; other keys of it stay.
///
/// # Errors
/// When the server refuses, or does not say in time. 404 and 403 of a namespace that is being deleted are errors too.
pub async fn config_map_apply(
    client: &Client,
    namespace: &Namespace,
    name: &str,
    data: &BTreeMap<String, String>,
) -> Result<Applied, Error> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace.as_str());
    let there = within(DEADLINE, || format!("get ConfigMap {namespace}/{name}"), maps.get_opt(name)).await?;
    if let Some(there) = there.and_then(|map| map.data)
        && data.iter().all(|(key, value)| there.get(key) == Some(value))
    {
        return Ok(Applied::Same);
    }
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    // By force: on a cluster that comes from Istio the keys belong to istiod.
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let apply = async { maps.patch(name, &params, &Patch::Apply(&map)).await };
    within(DEADLINE, || format!("apply ConfigMap {namespace}/{name}"), apply).await?;
    Ok(Applied::Changed)
}

/// Annotates a pod, but not another one of its name; without a value the annotation is taken off.
///
/// # Errors
/// With status 422, or 409 when it has just changed, if the pod has another uid; 404 when there is none; when the server refuses or does not
/// say in time.
pub async fn pod_annotate(
    client: &Client,
    namespace: &Namespace,
    name: &str,
    uid: &str,
    annotation: (&str, Option<&str>),
) -> Result<(), Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace.as_str());
    let patch = json!({"metadata": {"uid": uid, "annotations": {annotation.0: annotation.1}}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = async { pods.patch_metadata(name, &params, &Patch::Merge(&patch)).await };
    within(DEADLINE, || format!("patch Pod {namespace}/{name}"), patch).await.map(drop)
}
