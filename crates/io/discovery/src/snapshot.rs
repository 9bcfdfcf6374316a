//! What a folder holds at one moment.

use std::{
    fs::{self, File},
    hash::{BuildHasher, Hash, Hasher},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use foldhash::quality::FixedState;
use weir_manifest::{FileName, MAX_FILE_BYTES};

use crate::error::SourceError;

/// Most a folder may hold, in bytes of manifests.
pub const MAX_FOLDER_BYTES: usize = 256 << 20;

/// Every manifest of a folder, sorted by name, or why it could not be read.
pub(crate) struct Snapshot {
    pub(crate) files: Vec<(FileName, String)>,
    pub(crate) errors: Vec<SourceError>,
    /// Equal for equal contents and equal errors.
    pub(crate) hash: u64,
}

/// Reads the folder's own `*.yaml`, `*.yml` and `*.json`, as `kubectl apply -f` does: not those of folders in it, and
/// none whose name starts with a dot. Links are followed.
pub(crate) fn read(folder: &Path) -> Snapshot {
    let mut snapshot = Snapshot { files: Vec::new(), errors: Vec::new(), hash: 0 };
    let mut hasher = FixedState::with_seed(0).build_hasher();
    match manifests(folder) {
        Err(source) => {
            snapshot.errors.push(SourceError::Folder { folder: folder.to_owned(), source: Arc::new(source) });
        }
        Ok(paths) => {
            let mut left = MAX_FOLDER_BYTES;
            for path in paths {
                let name = FileName::new(&path.to_string_lossy());
                name.hash(&mut hasher);
                match contents(&path) {
                    Ok(None) => {}
                    Ok(Some(bytes)) => {
                        bytes.hash(&mut hasher);
                        if bytes.len() > left {
                            let folder = folder.to_owned();
                            snapshot.errors.push(SourceError::TooMuch { folder, max: MAX_FOLDER_BYTES });
                            break;
                        }
                        left -= bytes.len();
                        match text(&name, bytes) {
                            Ok(text) => snapshot.files.push((name, text)),
                            Err(error) => snapshot.errors.push(error),
                        }
                    }
                    Err(source) => {
                        snapshot.errors.push(SourceError::Unreadable { file: name, source: Arc::new(source) });
                    }
                }
            }
        }
    }
    for error in &snapshot.errors {
        error.to_string().hash(&mut hasher);
    }
    snapshot.hash = hasher.finish();
    snapshot
}

/// The paths of the manifests, sorted.
pub(crate) fn manifests(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let manifest = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if manifest && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A file's bytes, one more than the parser takes at most. Nothing for a folder, and for a file that is gone by now.
fn contents(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // A link that leads nowhere is not a file that is gone: it is listed, and something is missing.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if metadata.is_dir() {
        return Ok(None);
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a link to one"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn text(name: &FileName, bytes: Vec<u8>) -> Result<String, SourceError> {
    if bytes.is_empty() {
        return Err(SourceError::Empty { file: name.clone() });
    }
    // A file cut at the limit may end within a character; the parser says that it is too large.
    let cut = bytes.len() > MAX_FILE_BYTES;
    String::from_utf8(bytes).or_else(|error| {
        let at = error.utf8_error().valid_up_to();
        if cut && error.utf8_error().error_len().is_none() {
            return Ok(String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        Err(SourceError::NotText { file: name.clone(), at })
    })
}
