//! The part that needs root. What is built is built as whoever calls; only what makes namespaces is raised.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, bail};

/// Set for the raised part of a task, to where its programs are.
pub(crate) const BUILT: &str = "WEIR_XTASK_BUILT";

/// Whether this process may make namespaces.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where the programs are that the part without privileges built; none when this is that part.
pub(crate) fn already_built() -> Option<PathBuf> {
    env::var_os(BUILT).map(PathBuf::from)
}

/// Runs this very task again as root, with the programs in `built`.
pub(crate) fn run_again_as_root(built: &Path) -> anyhow::Result<ExitStatus> {
    let own = env::current_exe().context("the path of this program")?;
    let mut setting = std::ffi::OsString::from(format!("{BUILT}="));
    setting.push(built);
    let mut command = sudo()?;
    // Through env(1), because sudo drops most of the environment.
    command.arg("env").arg(setting).arg(own).args(env::args_os().skip(1));
    Ok(command.status()?)
}

/// sudo, if there is one.
pub(crate) fn sudo() -> anyhow::Result<Command> {
    let paths = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&paths).any(|dir| dir.join("sudo").is_file()) {
        return Ok(Command::new("sudo"));
    }
    bail!(
        "this makes network namespaces and loads eBPF programs, for which it must be root, and there is no sudo here: \
         run it as root"
    )
}
