//! The CA's data in a folder: a file for each key of the Secret it stands for.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

/// Most a file may have, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most files that are read.
const MAX_FILES: usize = 32;

/// Everything the folder holds, by file name; nothing if it is not there. A key that others can read is refused.
pub(crate) fn load(dir: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut data = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(data),
        Err(error) => return Err(error).with_context(|| dir.display().to_string()),
    };
    for entry in entries {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let at = || path.display().to_string();
        let metadata = fs::metadata(&path).with_context(at)?;
        if !metadata.is_file() {
            continue;
        }
        let mode = metadata.permissions().mode();
        if name.ends_with("key.pem") && mode & 0o077 != 0 {
            bail!("{} can be read by others (mode {:04o}): run `chmod 600 {}`", at(), mode & 0o7777, at());
        }
        if data.len() == MAX_FILES {
            bail!("{} holds more than {MAX_FILES} files: it is for the CA alone", dir.display());
        }
        // Room for all of it at once: a buffer that grows leaves copies of a key behind.
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_FILE))? + 1);
        File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)).with_context(at)?;
        data.insert(name.to_owned(), bytes);
    }
    Ok(data)
}

/// Makes the folder hold this. All of it is written beside what is there, and only then takes its place: where there is no room for
/// it, everything stays as it was. What is no longer among the data goes last.
pub(crate) fn store(dir: &Path, data: &BTreeMap<&'static str, Zeroizing<Vec<u8>>>) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| dir.display().to_string())?;
    let before = load(dir)?;
    let news = data.iter().filter(|(name, bytes)| before.get(**name).is_none_or(|old| *old != ***bytes));
    let drafts: Vec<_> = news.map(|(name, bytes)| (*name, dir.join(format!(".{name}.new")), bytes)).collect();
    for (name, draft, bytes) in &drafts {
        if let Err(error) = write(name, draft, bytes) {
            for (_, draft, _) in &drafts {
                // Those that are not there yet need not go.
                let _gone = fs::remove_file(draft).is_ok();
            }
            return Err(error).with_context(|| draft.display().to_string());
        }
    }
    for (name, draft, _) in &drafts {
        let path = dir.join(name);
        fs::rename(draft, &path).with_context(|| path.display().to_string())?;
    }
    for name in before.keys().filter(|name| !data.contains_key(name.as_str())) {
        let path = dir.join(name);
        fs::remove_file(&path).with_context(|| path.display().to_string())?;
    }
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| dir.display().to_string())
}

fn write(name: &str, draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mode = if name.ends_with("key.pem") { 0o600 } else { 0o644 };
    // What an earlier try left behind.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(files: &[(&'static str, &str)]) -> BTreeMap<&'static str, Zeroizing<Vec<u8>>> {
        files.iter().map(|(name, text)| (*name, text.as_bytes().to_vec().into())).collect()
    }

    #[test]
    fn a_folder_holds_what_was_stored_last_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("ca");
        assert!(load(&dir).unwrap().is_empty());
        for files in [&[("ca-cert.pem", "a"), ("ca-key.pem", "b")][..], &[("ca-cert.pem", "c")]] {
            store(&dir, &data(files)).unwrap();
            let want: BTreeMap<_, _> =
                files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
            assert_eq!(load(&dir).unwrap(), want);
        }
    }

    #[test]
    fn a_key_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), &data(&[("ca-key.pem", "b")])).unwrap();
        let key = dir.path().join("ca-key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
