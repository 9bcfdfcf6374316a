//! The texts of files, of folders, and of standard input.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use weir_manifest::{FileName, MAX_FILE_BYTES};

/// Files at most.
const MAX_FILES: usize = 100_000;
/// Bytes at most, of all of them.
const MAX_BYTES: usize = 1 << 30;
/// Folders within folders at most: more is a circle of links.
const MAX_DEPTH: usize = 32;

/// Every text, named as whoever asks knows it, in the order they are named and then of their names.
///
/// # Errors
/// With the first that cannot be read, or when there are none, or too many.
pub(super) fn read(sources: &[String], recursive: bool) -> Result<Vec<(FileName, String)>> {
    let mut reading = Reading { all: Vec::new(), left: MAX_BYTES, recursive };
    for source in sources {
        if source == "-" {
            reading.take("-", io::stdin().lock())?;
            continue;
        }
        let path = Path::new(source);
        let meta = fs::metadata(path).with_context(|| source.clone())?;
        if meta.is_dir() {
            reading.folder(path, 0)?;
        } else {
            reading.file(path)?;
        }
    }
    ensure!(
        !reading.all.is_empty(),
        "no *.yaml, *.yml or *.json in {}; -R reads the folders in it, too",
        sources.join(", ")
    );
    Ok(reading.all)
}

struct Reading {
    all: Vec<(FileName, String)>,
    left: usize,
    recursive: bool,
}

impl Reading {
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let shown = || folder.display().to_string();
        ensure!(depth < MAX_DEPTH, "{}: more than {MAX_DEPTH} folders within each other", shown());
        let entries = fs::read_dir(folder).with_context(shown)?;
        let entries: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = entries.with_context(shown)?;
        paths.sort();
        for path in paths {
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden {
                continue;
            }
            // Its own kind, and not that of what a link leads to: a folder is walked once.
            let kind = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?.file_type();
            let end = path.extension().and_then(OsStr::to_str);
            if kind.is_dir() {
                if self.recursive {
                    self.folder(&path, depth + 1)?;
                }
            } else if matches!(end, Some("yaml" | "yml" | "json")) {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let shown = path.display().to_string();
        let file = File::open(path).with_context(|| shown.clone())?;
        self.take(&shown, file)
    }

    fn take(&mut self, name: &str, from: impl Read) -> Result<()> {
        ensure!(self.all.len() < MAX_FILES, "{name}: more than {MAX_FILES} files, analyze fewer at once");
        let mut bytes = Vec::new();
        // One more than is read, so that what is too large is told as that.
        let most = u64::try_from(MAX_FILE_BYTES + 1)?;
        from.take(most).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            bail!("{name}: all files together have more than {MAX_BYTES} bytes, analyze fewer at once")
        };
        self.left = left;
        let text = String::from_utf8(bytes).with_context(|| format!("{name}: no UTF-8 text"))?;
        self.all.push((FileName::new(name), text));
        Ok(())
    }
}
