//! Where the built programs are: beside the one that runs.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, bail};

/// Path of a built program of this workspace: in `$WEIR_BIN_DIR`, else in the folder of the running test or task, or the one above.
///
/// # Errors
/// When it is in none of them, with how to build it.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("the path of the running program")?;
    let mut dirs: Vec<PathBuf> = env::var_os("WEIR_BIN_DIR").map(PathBuf::from).into_iter().collect();
    // Tests run from target/PROFILE/deps, programs from target/PROFILE.
    dirs.extend(own.ancestors().skip(1).take(2).map(PathBuf::from));
    for dir in &dirs {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("{name} is not built: run `cargo build -p {name}` first, or `cargo xtask test` (looked in {dirs:?})")
}
