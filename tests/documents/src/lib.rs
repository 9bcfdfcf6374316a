//! The documents of this repository, as tests read them to keep them true.
//!
//! In: Markdown, and what a program says of its flags. Out: the blocks of commands with what is to be done with each, the rows of tables, and pages
//! made of code. It runs nothing; what runs commands or decides questions are the tests of the programs.

mod blocks;
mod faults;
mod flags;
mod printed;
mod shell;
mod tables;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

pub use blocks::{Block, Fault, Mark, blocks, others};
pub use faults::faults;
pub use flags::flags;
pub use printed::matches;
pub use shell::{read_all, words};
pub use tables::{Section, sections};

/// Set to have pages written that are made of code, instead of compared. `cargo xtask reference` sets it.
pub const WRITE: &str = "WEIR_REFERENCE_WRITE";

/// The root of the repository, as of when this was built.
#[must_use]
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("this package is two folders below the root").to_owned()
}

/// README.md and every Markdown file below `docs`, by their paths from the root, in order.
///
/// # Errors
/// When one of them cannot be read.
pub fn documents() -> io::Result<Vec<(String, String)>> {
    let root = root();
    let mut names = vec!["README.md".to_owned()];
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(name);
            } else if name.ends_with(".md") {
                names.push(name);
            }
        }
    }
    names.sort();
    names.into_iter().map(|name| fs::read_to_string(root.join(&name)).map(|text| (name, text))).collect()
}

/// Compares a page that is made of code with what is committed at `path` from the root; with [`WRITE`] set, writes it.
///
/// # Errors
/// That the page is stale, in which line, and what writes it; or that it cannot be read or written.
pub fn same(path: &str, page: &str) -> Result<(), String> {
    let file = root().join(path);
    if env::var_os(WRITE).is_some() {
        return fs::write(&file, page).map_err(|error| format!("{path}: {error}"));
    }
    let there =
        fs::read_to_string(&file).map_err(|error| format!("{path}: {error}; `cargo xtask reference` writes it"))?;
    if there == page {
        return Ok(());
    }
    let differs = page.lines().zip(there.lines()).position(|(new, old)| new != old);
    let line = differs.unwrap_or_else(|| page.lines().count().min(there.lines().count()));
    let new = page.lines().nth(line).unwrap_or("(nothing)");
    Err(format!("{path}:{}: stale, it should say {new:?}: run `cargo xtask reference`", line + 1))
}
