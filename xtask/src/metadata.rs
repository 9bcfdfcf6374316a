//! What cargo knows of the workspace: `cargo metadata` in, members and their dependency graph out. Never touches the
//! network when all packages are already on the machine.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The answer of `cargo metadata --format-version 1`, as far as it is read here.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    /// Every package of the graph, foreign ones included.
    pub(crate) packages: Vec<RawPackage>,
    /// The ids of the workspace's own packages.
    pub(crate) workspace_members: Vec<String>,
    /// The folder of the root `Cargo.toml`.
    pub(crate) workspace_root: PathBuf,
    resolve: RawResolve,
}

/// One package.
#[derive(Deserialize)]
pub(crate) struct RawPackage {
    /// Opaque, unique.
    pub(crate) id: String,
    /// The name; two versions of a package share it.
    pub(crate) name: String,
    /// Its `Cargo.toml`, absolute.
    pub(crate) manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct RawResolve {
    nodes: Vec<RawNode>,
}

#[derive(Deserialize)]
struct RawNode {
    id: String,
    deps: Vec<RawDep>,
}

impl RawNode {
    fn normal_dependencies(&self) -> impl Iterator<Item = &str> {
        let normal = |dep: &&RawDep| dep.dep_kinds.iter().any(|k| k.kind.is_none());
        self.deps.iter().filter(normal).map(|dep| dep.pkg.as_str())
    }
}

#[derive(Deserialize)]
struct RawDep {
    pkg: String,
    dep_kinds: Vec<RawDepKind>,
}

#[derive(Deserialize)]
struct RawDepKind {
    /// Absent for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
}

impl Metadata {
    /// The metadata of the workspace at `root`, resolved for this machine's target.
    ///
    /// # Errors
    /// When cargo fails, for example because `Cargo.lock` is out of date.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let target = host()?;
        let offline = metadata(root, &target, &["--offline"])?;
        // On a fresh checkout some packages may not have been fetched yet.
        let output = if offline.status.success() { offline } else { metadata(root, &target, &[])? };
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata printed what is not its format 1")
    }

    /// Package id to the ids of its normal dependencies.
    pub(crate) fn normal_dependencies(&self) -> HashMap<&str, Vec<&str>> {
        let nodes = self.resolve.nodes.iter();
        nodes.map(|node| (node.id.as_str(), node.normal_dependencies().collect())).collect()
    }

    /// The `Cargo.toml` of every member, relative to the root.
    pub(crate) fn member_manifests(&self) -> Vec<String> {
        let member = |package: &&RawPackage| self.workspace_members.contains(&package.id);
        self.packages.iter().filter(member).map(|package| self.relative(&package.manifest_path)).collect()
    }

    /// `path` as seen from the root.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.workspace_root).unwrap_or(path).to_string_lossy().into_owned()
    }
}

/// The root of the repository: xtask stands right below it.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask has a parent folder").to_owned()
}

/// The cargo that runs us, or the one on the path.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn metadata(root: &Path, target: &str, more: &[&str]) -> Result<Output> {
    Command::new(cargo())
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target])
        .args(more)
        .current_dir(root)
        .output()
        .context("cargo metadata could not be started")
}

/// The target this machine builds for, as rustc names it.
pub(crate) fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("rustc -vV could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).with_context(|| format!("rustc -vV names no host: {text:?}"))
}
