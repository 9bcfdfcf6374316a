//! `weir-agent cni`: puts the CNI plugin into the chain that the container runtime runs, puts it back, and takes it out again. Folders
//! in, changed files out, each replaced whole or not at all. Nothing of others is changed or reordered.

mod repair;

pub(crate) use repair::{Repair, Repairs};

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::cli::{Cni, CniFolders};

/// The plugin's file, and the `type` of its entry.
const PLUGIN: &str = "weir-cni";
/// The chain made for a configuration that is none. It must come first by name, since runtimes take the first.
const OWN_CHAIN: &str = "00-weir.conflist";
/// What is being written; runtimes look at other endings only.
const UNFINISHED: &str = ".weir-cni.unfinished";
/// The largest configuration, in bytes.
const CONFIG_BOUND: u64 = 1 << 20;
/// What the plugin speaks, of the versions that have chains.
const VERSIONS: &[&str] = &["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Why the plugin cannot be put in or taken out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is larger than {CONFIG_BOUND} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} is not JSON")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path}: expected {expected}")]
    Shape { path: PathBuf, expected: &'static str },
    #[error("{folder} has no network configuration to join: the network's own plugin has to be installed first")]
    NoNetwork { folder: PathBuf },
    #[error("{path} would come before {OWN_CHAIN}: rename it so that it does not")]
    Order { path: PathBuf },
}

/// Installs or uninstalls, and says what was done.
pub(crate) fn run(task: &Cni) -> anyhow::Result<()> {
    match task {
        Cni::Install { node, plugin, agent_socket } => {
            let socket = agent_socket.to_str().context("--agent-socket is not UTF-8")?;
            let chain = install(node, plugin, socket).context("the CNI plugin cannot be installed")?;
            println!("{PLUGIN} is the last plugin of {}", chain.display());
        }
        Cni::Uninstall { node } => {
            let changed = uninstall(node).context("the CNI plugin cannot be uninstalled")?;
            println!("{PLUGIN} is taken out of {changed} files and off the node");
        }
    }
    Ok(())
}

/// The chain that the plugin is in now. What cannot be is noticed before anything is changed; the plugin is there before a chain
/// names it.
fn install(node: &CniFolders, plugin: &Path, socket: &str) -> Result<PathBuf, InstallError> {
    let _alone = lock(node)?;
    let plan = Plan::of(node, socket)?;
    copy(plugin, &node.bin_dir)?;
    plan.apply(node)?;
    Ok(plan.target)
}

/// Puts back what others took out, or put before ours: the chain, if anything was changed. Where the plugin is not on the node any
/// more it was uninstalled, and stays so.
fn put_back(node: &CniFolders, socket: &str) -> Result<Back, InstallError> {
    let _alone = lock(node)?;
    if !node.bin_dir.join(PLUGIN).exists() {
        return Ok(Back::Uninstalled);
    }
    let plan = Plan::of(node, socket)?;
    if plan.is_done(node) {
        return Ok(Back::AsItWas);
    }
    plan.apply(node)?;
    Ok(Back::Changed(plan.target))
}

/// What became of a look at the chain.
#[derive(Debug, PartialEq, Eq)]
enum Back {
    AsItWas,
    Changed(PathBuf),
    Uninstalled,
}

/// The chain as it should be, where, and as it is there now.
struct Plan {
    target: PathBuf,
    chain: Value,
    present: Option<Value>,
    joins: Joins,
}

/// What kind of configuration comes first by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joins {
    /// A chain: ours is its last entry.
    Chain,
    /// A lone plugin: a chain of our own stands before it.
    Lone,
}

impl Plan {
    fn of(node: &CniFolders, socket: &str) -> Result<Self, InstallError> {
        let own = node.conf_dir.join(OWN_CHAIN);
        let others = configs(&node.conf_dir)?.into_iter().find(|path| *path != own);
        let first = others.ok_or_else(|| InstallError::NoNetwork { folder: node.conf_dir.clone() })?;
        let before = parse(&first)?;
        if first.extension().is_some_and(|ending| ending == "conflist") {
            let chain = join(&first, before.clone(), socket)?;
            return Ok(Self { target: first, chain, present: Some(before), joins: Joins::Chain });
        }
        if first < own {
            return Err(InstallError::Order { path: first });
        }
        let present = if own.exists() { Some(parse(&own)?) } else { None };
        let chain = join(&first, wrap(&first, before, present.as_ref())?, socket)?;
        Ok(Self { target: own, chain, present, joins: Joins::Lone })
    }

    fn is_done(&self, node: &CniFolders) -> bool {
        let alone = self.joins == Joins::Lone || !node.conf_dir.join(OWN_CHAIN).exists();
        alone && self.present.as_ref() == Some(&self.chain)
    }

    fn apply(&self, node: &CniFolders) -> Result<(), InstallError> {
        if self.present.as_ref() != Some(&self.chain) {
            store(&self.target, &self.chain)?;
        }
        match self.joins {
            // Of a time when the network had no chain of its own.
            Joins::Chain => remove(&node.conf_dir.join(OWN_CHAIN)),
            Joins::Lone => Ok(()),
        }
    }
}

/// Nobody else of ours changes the folder while this is held: what is being uninstalled is not put back.
fn lock(node: &CniFolders) -> Result<File, InstallError> {
    let failed = |source| InstallError::File { path: node.conf_dir.clone(), source };
    let folder = File::open(&node.conf_dir).map_err(failed)?;
    folder.lock().map_err(failed)?;
    Ok(folder)
}

/// How many files were changed.
fn uninstall(node: &CniFolders) -> Result<usize, InstallError> {
    let _alone = lock(node)?;
    let mut changed = 0;
    for path in configs(&node.conf_dir)? {
        if path.ends_with(OWN_CHAIN) {
            remove(&path)?;
            changed += 1;
            continue;
        }
        let text = read(&path)?;
        // What others left broken is not ours to complain about.
        if !String::from_utf8_lossy(&text).contains(PLUGIN) {
            continue;
        }
        let mut chain: Value =
            serde_json::from_slice(&text).map_err(|source| InstallError::Json { path: path.clone(), source })?;
        let Some(plugins) = chain.get_mut("plugins").and_then(Value::as_array_mut) else { continue };
        let count = plugins.len();
        plugins.retain(|entry| !is_ours(entry));
        if plugins.len() < count {
            store(&path, &chain)?;
            changed += 1;
        }
    }
    remove(&node.bin_dir.join(PLUGIN))?;
    Ok(changed)
}

/// The network configurations, in the order in which runtimes look at them.
fn configs(folder: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let failed = |source| InstallError::File { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ["conflist", "conf", "json"].iter().any(|known| ending == *known)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// `chain` with the plugin as its last. An entry that is there already keeps what people wrote into it.
fn join(path: &Path, mut chain: Value, socket: &str) -> Result<Value, InstallError> {
    let refused = |expected| InstallError::Shape { path: path.to_owned(), expected };
    let version = chain.get("cniVersion").and_then(Value::as_str);
    if !version.is_some_and(|version| VERSIONS.contains(&version)) {
        return Err(refused("a cniVersion from 0.3.0 to 1.1.0"));
    }
    let plugins = chain.get_mut("plugins").and_then(Value::as_array_mut).ok_or_else(|| refused("an array plugins"))?;
    let ours = plugins.iter().find(|entry| is_ours(entry)).cloned();
    plugins.retain(|entry| !is_ours(entry));
    if plugins.is_empty() {
        return Err(refused("a plugin before ours"));
    }
    let mut entry = ours.unwrap_or_else(|| json!({ "type": PLUGIN }));
    entry
        .as_object_mut()
        .ok_or_else(|| refused("entries that are objects"))?
        .insert("agentSocket".into(), socket.into());
    plugins.push(entry);
    Ok(chain)
}

/// A chain of one configuration, and of our entry of the chain that was made before.
fn wrap(path: &Path, single: Value, present: Option<&Value>) -> Result<Value, InstallError> {
    let refused = |expected| InstallError::Shape { path: path.to_owned(), expected };
    let fields = single.as_object().ok_or_else(|| refused("an object"))?;
    if !fields.get("type").is_some_and(Value::is_string) {
        return Err(refused("a text type"));
    }
    let name = fields.get("name").filter(|name| name.is_string()).ok_or_else(|| refused("a text name"))?;
    let mut chain = Map::new();
    chain.insert("cniVersion".into(), fields.get("cniVersion").cloned().unwrap_or_default());
    chain.insert("name".into(), name.clone());
    let ours = present.and_then(|chain| chain.get("plugins")?.as_array()?.iter().find(|entry| is_ours(entry)));
    chain.insert("plugins".into(), std::iter::once(single).chain(ours.cloned()).collect());
    Ok(Value::Object(chain))
}

fn is_ours(entry: &Value) -> bool {
    entry.get("type").and_then(Value::as_str) == Some(PLUGIN)
}

fn parse(path: &Path) -> Result<Value, InstallError> {
    serde_json::from_slice(&read(path)?).map_err(|source| InstallError::Json { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, InstallError> {
    let failed = |source| InstallError::File { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let length = file.take(CONFIG_BOUND + 1).read_to_end(&mut text).map_err(failed)?;
    if u64::try_from(length).is_ok_and(|length| length <= CONFIG_BOUND) {
        Ok(text)
    } else {
        Err(InstallError::TooLarge { path: path.to_owned() })
    }
}

/// Writes a configuration; one that is replaced keeps its mode, and a link to it stays one.
fn store(path: &Path, chain: &Value) -> Result<(), InstallError> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&target).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
    replace(&target, mode, &mut format!("{chain:#}\n").as_bytes())
}

fn copy(plugin: &Path, folder: &Path) -> Result<(), InstallError> {
    let mut file = File::open(plugin).map_err(|source| InstallError::File { path: plugin.to_owned(), source })?;
    fs::create_dir_all(folder).map_err(|source| InstallError::File { path: folder.to_owned(), source })?;
    replace(&folder.join(PLUGIN), 0o755, &mut file)
}

/// Puts `content` at `path`, at once and for good: a runtime that looks meanwhile sees the old file or the new one.
fn replace(path: &Path, mode: u32, content: &mut impl Read) -> Result<(), InstallError> {
    let unfinished = path.with_file_name(UNFINISHED);
    remove(&unfinished)?;
    let mut write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        io::copy(content, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|source| {
        // The reason is what counts, not what is left.
        drop(fs::remove_file(&unfinished));
        InstallError::File { path: path.to_owned(), source }
    })
}

fn remove(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(InstallError::File { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
