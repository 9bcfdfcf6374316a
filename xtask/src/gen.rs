//! `cargo xtask gen`: writes what of `deploy/` follows from something else, and says what does not agree.
//!
//! In: the description of Istio's kinds in Rust, and the kustomizations. Out: `deploy/crds`, `deploy/rendered`. A test and `cargo xtask lint` run it
//! as `--check`, so that what is committed is what it writes.

pub(crate) mod crds;
mod kustomize;
#[cfg(test)]
mod tests;
mod yaml;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{cargo::root, finding::Finding};

/// The overlays, each a folder of `deploy/overlays`.
pub(crate) const OVERLAYS: [&str; 3] = ["default", "ha", "minimal"];
const HEADER: &str = "# Written by `cargo xtask gen`.\n";

/// Arguments of `cargo xtask gen`.
#[derive(clap::Args)]
pub(crate) struct Gen {
    /// Write nothing; fail when what is committed is not what would be written.
    #[arg(long)]
    check: bool,

    /// Also hold what is rendered against what `kubectl kustomize` makes of the same overlays.
    #[arg(long)]
    kubectl: bool,
}

impl Gen {
    /// Writes, or compares.
    ///
    /// # Errors
    /// When an overlay cannot be rendered, or something is not as it should be.
    pub(crate) fn run(&self) -> Result<()> {
        let root = root();
        // What is rendered follows from the definitions, so they are written first.
        if !self.check {
            write(&root, &definitions())?;
            write(&root, &rendered(&root)?)?;
        }
        let findings = check(&root)?;
        findings.iter().for_each(|finding| println!("{finding}"));
        ensure!(findings.is_empty(), "{} files are stale: run `cargo xtask gen`", findings.len());
        if self.kubectl {
            OVERLAYS.iter().try_for_each(|overlay| same_as_kubectl(&root, overlay))?;
        }
        println!("deploy/crds and deploy/rendered are as they should be");
        Ok(())
    }
}

/// Every file that is not what would be written.
///
/// # Errors
/// When an overlay cannot be rendered.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut all = definitions();
    all.extend(rendered(root)?);
    let stale = all.iter().filter(|(path, text)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(text));
    Ok(stale.map(|(path, _)| Finding::at(&path.to_string_lossy(), 1, "is stale: run `cargo xtask gen`")).collect())
}

fn write(root: &Path, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    for (path, text) in files {
        let path = root.join(path);
        let folder = path.parent().context("a file is in a folder")?;
        fs::create_dir_all(folder)?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// `deploy/crds`.
fn definitions() -> BTreeMap<PathBuf, String> {
    let folder = Path::new("deploy/crds");
    let mut files = BTreeMap::new();
    let mut names = Vec::new();
    for definition in crds::all() {
        let name = format!("{}.yaml", definition["metadata"]["name"].as_str().unwrap_or_default());
        files.insert(folder.join(&name), format!("{HEADER}{}", yaml::document(&definition)));
        names.push(name);
    }
    names.sort();
    let list: String = names.iter().map(|name| format!("  - {name}\n")).collect();
    let kind = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    files.insert(folder.join("kustomization.yaml"), format!("{HEADER}{kind}resources:\n{list}"));
    files
}

/// `deploy/rendered`: each overlay as one file, and the definitions that all have, as another.
fn rendered(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let folder = Path::new("deploy/rendered");
    let mut files = BTreeMap::new();
    for overlay in OVERLAYS {
        let objects = kustomize::render(&root.join("deploy/overlays").join(overlay)).context(overlay)?;
        let (definitions, others): (Vec<Value>, Vec<Value>) =
            objects.into_iter().partition(|object| object["kind"] == "CustomResourceDefinition");
        files.insert(folder.join(format!("{overlay}.yaml")), documents(&others));
        files.insert(folder.join("crds.yaml"), documents(&definitions));
    }
    Ok(files)
}

fn documents(objects: &[Value]) -> String {
    let texts: Vec<String> = objects.iter().map(yaml::document).collect();
    format!("{HEADER}{}", texts.join("---\n"))
}

/// Fails if kubectl makes something else of an overlay.
fn same_as_kubectl(root: &Path, overlay: &str) -> Result<()> {
    let folder = root.join("deploy/overlays").join(overlay);
    let output = Command::new("kubectl").arg("kustomize").arg(&folder).output().context("kubectl")?;
    ensure!(output.status.success(), "kubectl kustomize: {}", String::from_utf8_lossy(&output.stderr));
    let mut theirs = kustomize::documents(&String::from_utf8(output.stdout)?)?;
    let mut ours = kustomize::render(&folder)?;
    let key = |object: &Value| {
        format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"])
    };
    ours.sort_by_key(key);
    theirs.sort_by_key(key);
    for (one, other) in ours.iter().zip(&theirs) {
        if one != other {
            bail!("{overlay}: kubectl makes of {} something else:\n{}", key(one), yaml::document(other));
        }
    }
    ensure!(ours.len() == theirs.len(), "{overlay}: {} objects, kubectl has {}", ours.len(), theirs.len());
    Ok(())
}
