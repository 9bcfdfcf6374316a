//! Running Cargo, and reading what it built.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// Cargo, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The workspace's root, as of when this program was built.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in a folder of the workspace").to_owned()
}

/// Builds programs of the workspace, and says where they are. Cargo's own words go to standard error.
pub(crate) fn build<const N: usize>(names: [&str; N], profile: &str) -> anyhow::Result<[PathBuf; N]> {
    let mut command = cargo();
    command.args(["build", "--profile", profile]);
    for name in names {
        // The one program whose package has another name.
        let package = if name == "weirctl" { "weir-ctl" } else { name };
        command.args(["--package", package, "--bin", name]);
    }
    let built = run_with_messages(command)?;
    let find = |name: &str| {
        let found = built.iter().find(|artifact| artifact.target.name == name && !artifact.profile.test);
        found.and_then(|artifact| artifact.executable.clone()).with_context(|| format!("cargo built no {name}"))
    };
    let paths: Vec<PathBuf> = names.iter().map(|name| find(name)).collect::<anyhow::Result<_>>()?;
    Ok(paths.try_into().expect("one path for each name"))
}

/// Runs a build with `--message-format` added, and returns its artifacts.
pub(crate) fn run_with_messages(mut command: Command) -> anyhow::Result<Vec<Artifact>> {
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("run cargo")?;
    let mut artifacts = Vec::new();
    for line in BufReader::new(child.stdout.take().context("piped")?).lines() {
        let message: Message = serde_json::from_str(&line?).context("a message of cargo")?;
        if message.reason == "compiler-artifact" {
            artifacts.extend(message.artifact);
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo ended with {status}");
    Ok(artifacts)
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(flatten)]
    artifact: Option<Artifact>,
}

/// Something Cargo built. The Cargo Book, External Tools, JSON messages.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) package_id: String,
    pub(crate) target: Target,
    pub(crate) profile: Profile,
    pub(crate) executable: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Profile {
    pub(crate) test: bool,
}

/// A package of the workspace, as `cargo metadata` lists it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    metadata: Option<serde_json::Value>,
}

impl Package {
    /// Whether its tests need root: `[package.metadata.weir] privileged-tests = true`.
    pub(crate) fn has_privileged_tests(&self) -> bool {
        let flag = self.metadata.as_ref().and_then(|metadata| metadata.pointer("/weir/privileged-tests"));
        flag.and_then(serde_json::Value::as_bool).unwrap_or(false)
    }
}

/// The packages of the workspace.
pub(crate) fn packages() -> anyhow::Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let output = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "cargo metadata ended with {}", output.status);
    Ok(serde_json::from_slice::<Metadata>(&output.stdout).context("output of cargo metadata")?.packages)
}
