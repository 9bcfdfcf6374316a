//! A demo that goes on while its terminal is free: what it leaves in `target/demo` for who looks at it, and how it is ended.
//!
//! In that folder: `pid`, the log, the report once all is up, `manifests`, the programs' folder as `bin`, and each node's and pod's network namespace as
//! `in-NAME`. The process that runs the demo takes the folder away as the last thing it does.

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    os::unix::{
        fs::{MetadataExt, chown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use weir_netlink::NetNs;
use weir_testbed::demo::{Demo as Running, DemoReport};

use crate::{cargo, root};

/// How long it may take until all is up, and until all is gone.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The flag of the process behind.
pub(super) const FLAG: &str = "--behind";

fn folder() -> PathBuf {
    cargo::root().join("target/demo")
}

/// Starts the demo behind, waits until it has shown everything, and prints its report.
pub(super) fn start(built: &Path) -> Result<()> {
    let folder = folder();
    if let Some(pid) = running(&folder) {
        bail!("a demo runs already, as process {pid}: end it with `cargo xtask demo stop`");
    }
    clear(&folder)?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let log = File::create(folder.join("log"))?;
    let own = env::current_exe().context("the path of this program")?;
    let mut behind = Command::new(own);
    behind.args(["demo", FLAG]).env(root::BUILT, built);
    behind.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let mut behind = behind.spawn().context("start the demo behind")?;
    fs::write(folder.join("pid"), behind.id().to_string())?;
    own_as_above(&folder)?;
    let mut said = File::open(folder.join("log"))?;
    let deadline = Instant::now() + PATIENCE;
    let report = loop {
        let report = fs::read_to_string(folder.join("report"));
        let ended = behind.try_wait()?;
        pass_on(&mut said)?;
        if let Ok(report) = report {
            break report;
        }
        if let Some(status) = ended {
            bail!("the demo ended with {status}");
        }
        if Instant::now() > deadline {
            signal(i32::try_from(behind.id())?)?;
            bail!("the demo was not up after {PATIENCE:?}, and is ended");
        }
        thread::sleep(LOOK_AGAIN);
    };
    println!("\n{report}");
    println!(
        "it goes on: `cargo xtask demo in client COMMAND` runs something in a pod, `cargo xtask demo stop` ends it"
    );
    Ok(())
}

/// Says that all is up, where what is, and what was seen. Called by the process behind.
pub(super) fn announce(demo: &Running, report: &DemoReport, built: &Path) -> Result<()> {
    let (folder, topology) = (folder(), demo.topology());
    let places = topology.nodes().iter().map(|node| (node.name(), node.netns_path()));
    let pods = topology.pods().iter().map(|pod| (pod.spec().name.as_str(), pod.netns_path()));
    for (name, netns) in places.chain(pods) {
        symlink(netns, folder.join(format!("in-{name}")))?;
    }
    symlink(topology.manifests_dir(), folder.join("manifests"))?;
    symlink(built, folder.join("bin"))?;
    // Whole at once: who waits for it reads it as soon as it is there.
    fs::write(folder.join("report.new"), report.to_string())?;
    fs::rename(folder.join("report.new"), folder.join("report"))?;
    own_as_above(&folder)
}

/// Takes the folder away.
pub(super) fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context(folder.display().to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The folder of the process behind.
pub(super) fn own_folder() -> PathBuf {
    folder()
}

/// Runs a command in a pod or on a node of the demo; what it ends with.
pub(super) fn run_in(place: &str, command: &[String]) -> Result<ExitCode> {
    let folder = folder();
    ensure!(running(&folder).is_some(), "no demo runs: start one with `cargo xtask demo --detach`");
    let netns = folder.join(format!("in-{place}"));
    if !netns.exists() {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_prefix("in-")).map(str::to_owned));
        }
        names.sort();
        bail!("the demo has no pod and no node {place:?}; it has {}", names.join(", "));
    }
    let (program, arguments) = command.split_first().context("a command")?;
    let mut paths = vec![fs::read_link(folder.join("bin"))?];
    paths.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    // Looked for here: the child is given no other PATH to be found by.
    let found = paths.iter().map(|dir| dir.join(program)).find(|path| path.is_file());
    let mut child = Command::new(found.with_context(|| format!("there is no program {program:?}"))?);
    child.args(arguments).env("PATH", env::join_paths(&paths)?);
    let status = NetNs::open(&netns)?.spawn(child)?.wait()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Ends it, and waits until all of it is gone.
pub(super) fn stop() -> Result<()> {
    let folder = folder();
    let Some(pid) = running(&folder) else {
        clear(&folder)?;
        let left = weir_testbed::sweep()?.len();
        println!("no demo runs; {left} leftovers of one that was killed were removed");
        return Ok(());
    };
    signal(pid)?;
    let deadline = Instant::now() + PATIENCE;
    while folder.exists() {
        ensure!(
            Instant::now() < deadline,
            "process {pid} did not end in {PATIENCE:?}; {} has its log",
            folder.display()
        );
        thread::sleep(LOOK_AGAIN);
    }
    println!("all of it is gone again");
    Ok(())
}

/// The process behind, if it is there: another may have its number by now.
fn running(folder: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(folder.join("pid")).ok()?.parse().ok()?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    words.split(|byte| *byte == 0).any(|word| word == FLAG.as_bytes()).then_some(pid)
}

fn signal(pid: i32) -> Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("end process {pid}"))
}

/// What has been said since the last time.
fn pass_on(log: &mut File) -> Result<()> {
    let mut text = Vec::new();
    log.read_to_end(&mut text)?;
    std::io::stderr().write_all(&text)?;
    Ok(())
}

/// Gives what root made to whose checkout it is, who may take it away then.
fn own_as_above(folder: &Path) -> Result<()> {
    let owner = fs::metadata(cargo::root())?;
    let give = |path: &Path| chown(path, Some(owner.uid()), Some(owner.gid()));
    give(folder)?;
    for name in ["pid", "log", "report"] {
        match give(&folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
