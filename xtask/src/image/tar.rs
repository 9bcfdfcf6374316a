//! A tar archive in the format of POSIX (ustar), of folders and files that belong to nobody in particular and have no time.

use anyhow::{Result, ensure};

/// What tar counts in.
const BLOCK: usize = 512;
/// Most bytes of a path.
const MAX_PATH: usize = 100;

/// A folder or a file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    path: String,
    mode: u32,
    kind: u8,
    bytes: Vec<u8>,
}

impl Entry {
    /// A folder.
    pub(super) fn folder(path: &str) -> Self {
        Self { path: format!("{path}/"), mode: 0o755, kind: b'5', bytes: Vec::new() }
    }

    /// A file.
    pub(super) fn file(path: &str, mode: u32, bytes: Vec<u8>) -> Self {
        Self { path: path.to_owned(), mode, kind: b'0', bytes }
    }
}

/// Makes archives.
pub(super) struct Tar;

impl Tar {
    /// The archive of these, in their order.
    ///
    /// # Errors
    /// When a path is too long.
    pub(super) fn of(entries: &[Entry]) -> Result<Vec<u8>> {
        let mut archive = Vec::new();
        for entry in entries {
            ensure!(entry.path.len() < MAX_PATH, "{}: a path of at most {MAX_PATH} bytes", entry.path);
            archive.extend(header(entry));
            archive.extend(&entry.bytes);
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
        // Two empty blocks are the end.
        archive.resize(archive.len() + 2 * BLOCK, 0);
        Ok(archive)
    }
}

/// The block before the bytes of an entry. POSIX `pax`, ustar Interchange Format.
fn header(entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, entry.path.as_bytes());
    put(100, format!("{:07o}", entry.mode).as_bytes());
    // Owner, group, and time: zero.
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", entry.bytes.len()).as_bytes());
    put(136, b"00000000000");
    // The sum is counted with blanks in its own place.
    put(148, b"        ");
    put(156, &[entry.kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    #[test]
    fn tar_unpacks_what_was_packed() {
        let content = vec![7; 1_000];
        let entries =
            [Entry::folder("etc"), Entry::file("etc/a", 0o644, content.clone()), Entry::file("b", 0o755, Vec::new())];
        let archive = Tar::of(&entries).unwrap();
        assert_eq!(archive, Tar::of(&entries).unwrap(), "the same again");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("all.tar"), archive).unwrap();
        let unpacked = Command::new("tar").args(["-xf", "all.tar"]).current_dir(folder.path()).output().unwrap();
        assert!(unpacked.status.success() && unpacked.stderr.is_empty(), "{unpacked:?}");
        assert_eq!(fs::read(folder.path().join("etc/a")).unwrap(), content);
        let mode = fs::metadata(folder.path().join("b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111 & mode, "{mode:o}");
        assert!(mode & 0o100 != 0, "{mode:o}");
        assert!(Tar::of(&[Entry::file(&"x".repeat(MAX_PATH), 0o644, Vec::new())]).is_err());
    }
}
