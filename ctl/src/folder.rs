//! A mesh in a folder of manifests.

use std::path::Path;

use anyhow::Result;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use weir_compile::Settings;
use weir_discovery::{Folder, Timing};
use weir_manifest::Objects;

use crate::cli::Mesh;

/// What the manifests do not say.
///
/// # Errors
/// Never: these names are ours.
pub(crate) fn settings(mesh: &Mesh) -> Result<Settings> {
    Ok(Settings {
        trust_domain: mesh.trust_domain.clone(),
        cluster: "Kubernetes".parse()?,
        network: "".parse()?,
        node: None,
        cluster_domain: mesh.cluster_domain.clone(),
        root_namespace: mesh.root_namespace.clone(),
    })
}

/// What is made of the objects in a folder.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn read<T: Send + 'static>(folder: &Path, make: impl Fn(Objects) -> T + Send + Sync + 'static) -> Result<T> {
    let (made, _folder) = Folder::open_as(folder, Timing::default(), make).map_err(|errors| {
        let lines: Vec<String> = errors.into_iter().map(|error| format!("  {:#}", anyhow::Error::new(error))).collect();
        anyhow::anyhow!("the manifests cannot be used:\n{}", lines.join("\n"))
    })?;
    Ok(made)
}

/// Names files as whoever named the folder knows them.
///
/// # Errors
/// If where the folder is cannot be found out.
pub(crate) fn shorten<T: Serialize + DeserializeOwned>(answer: T, folder: &Path) -> Result<T> {
    let folder = format!("{}/", std::path::absolute(folder)?.display());
    let mut value = serde_json::to_value(answer)?;
    shorten_in(&mut value, &folder);
    Ok(serde_json::from_value(value)?)
}

/// A text that names files as whoever named the folder knows them.
///
/// # Errors
/// If where the folder is cannot be found out.
pub(crate) fn short(text: &str, folder: &Path) -> Result<String> {
    Ok(text.replace(&format!("{}/", std::path::absolute(folder)?.display()), ""))
}

fn shorten_in(value: &mut Value, folder: &str) {
    match value {
        Value::String(text) if text.contains(folder) => *text = text.replace(folder, ""),
        Value::Array(values) => values.iter_mut().for_each(|value| shorten_in(value, folder)),
        Value::Object(fields) => fields.values_mut().for_each(|value| shorten_in(value, folder)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
