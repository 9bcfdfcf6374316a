//! As much of kustomize as `deploy/` uses: `resources`, files and folders, and `patches` by JSON Patch (RFC 6902). Anything else is refused, so
//! that nothing is left out unseen. `cargo xtask gen --kubectl` holds it against the real one.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawKustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    patches: Vec<RawPatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPatch {
    target: RawTarget,
    patch: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperation {
    op: String,
    path: String,
    #[serde(default)]
    value: Value,
}

/// Kinds in the order they are made in; others come after.
const ORDER: &[&str] = &[
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "GatewayClass",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "Deployment",
    "DaemonSet",
    // Whoever is asked by it runs.
    "ValidatingWebhookConfiguration",
];

/// The objects of a folder with a `kustomization.yaml`, in the order they are to be made in.
///
/// # Errors
/// When a file cannot be read, says something that is not known here, or a patch fits nothing.
pub(super) fn render(folder: &Path) -> Result<Vec<Value>> {
    let mut objects = gathered(folder)?;
    let rank = |object: &Value| ORDER.iter().position(|kind| object["kind"] == *kind).unwrap_or(ORDER.len());
    objects.sort_by_key(rank);
    Ok(objects)
}

fn gathered(folder: &Path) -> Result<Vec<Value>> {
    let path = folder.join("kustomization.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let raw: RawKustomization = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
    let mut objects = Vec::new();
    for resource in &raw.resources {
        let path = folder.join(resource);
        if path.is_dir() {
            objects.extend(gathered(&path)?);
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        objects.extend(documents(&text).with_context(|| path.display().to_string())?);
    }
    for patch in &raw.patches {
        apply(&mut objects, patch).with_context(|| path.display().to_string())?;
    }
    Ok(objects)
}

/// The documents of a file.
///
/// # Errors
/// When one is no YAML.
pub(super) fn documents(text: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for text in format!("\n{text}").split("\n---") {
        if text.lines().all(|line| line.is_empty() || line.starts_with('#')) {
            continue;
        }
        all.push(serde_saphyr::from_str(text)?);
    }
    Ok(all)
}

fn apply(objects: &mut [Value], patch: &RawPatch) -> Result<()> {
    let RawTarget { kind, name } = &patch.target;
    let operations: Vec<RawOperation> = serde_saphyr::from_str(&patch.patch)?;
    let mut meant = objects.iter_mut().filter(|one| one["kind"] == **kind && one["metadata"]["name"] == **name);
    let object = meant.next().with_context(|| format!("a patch for {kind} {name}, which is not there"))?;
    ensure!(meant.next().is_none(), "a patch for {kind} {name}, of which there are several");
    for RawOperation { op, path, value } in operations {
        let (parent, last) = path.rsplit_once('/').with_context(|| format!("{path}: expected a path"))?;
        let parent = object.pointer_mut(parent).with_context(|| format!("{kind} {name} has no {parent}"))?;
        match (op.as_str(), parent) {
            ("add", Value::Array(items)) if last == "-" => items.push(value),
            ("add", Value::Object(fields)) => drop(fields.insert(last.to_owned(), value)),
            ("replace", parent) => {
                let there = parent.pointer_mut(&format!("/{last}"));
                *there.with_context(|| format!("{kind} {name} has no {path}"))? = value;
            }
            (op, _) => bail!("{op} {path}: expected to add to a map or at the end of a list, or to replace"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_are_laid_over_and_what_is_not_known_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("base")).unwrap();
        fs::create_dir_all(at("over")).unwrap();
        let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
        fs::write(at("base/kustomization.yaml"), format!("{head}resources: [all.yaml]\n")).unwrap();
        let all = "# first\nkind: DaemonSet\nmetadata: {name: a}\nspec: {n: 1, list: [1]}\n---\n# second\nkind: Namespace\nmetadata: {name: n}\n";
        fs::write(at("base/all.yaml"), all).unwrap();
        let patch = |text: &str| {
            format!(
                "{head}resources: [../base]\npatches: [{{target: {{kind: DaemonSet, name: a}}, patch: '{text}'}}]\n"
            )
        };
        let over = |text: &str| {
            fs::write(at("over/kustomization.yaml"), text).unwrap();
            render(&at("over"))
        };
        let good = "[{op: replace, path: /spec/n, value: 2}, {op: add, path: /spec/list/-, value: 3}, {op: add, path: /spec/new, value: x}]";
        let objects = over(&patch(good)).unwrap();
        assert_eq!(objects[0]["kind"], "Namespace", "it comes first");
        assert_eq!(objects[1]["spec"], serde_json::json!({"n": 2, "list": [1, 3], "new": "x"}));
        for bad in [
            patch("[{op: replace, path: /spec/other, value: 2}]"),
            patch("[{op: move, path: /spec/n}]"),
            patch(good).replace("name: a", "name: b"),
            format!("{head}resources: [../base]\nnamePrefix: x\n"),
            format!("{head}resources: [../nowhere]\n"),
        ] {
            assert!(over(&bad).is_err(), "{bad}");
        }
    }
}
