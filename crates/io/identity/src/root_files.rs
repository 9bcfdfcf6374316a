//! The development CA's two files: made once, however many agents start at the same moment on one folder.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use crate::Error;

/// How long to wait for another agent that is making the root.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often to look whether it is done.
const LOCK_POLL: Duration = Duration::from_millis(5);
/// No file of a root is larger; what is larger is something else.
const MAX_FILE: u64 = 1 << 20;

/// The contents of a root's files, in PEM.
pub(crate) struct RootPem {
    /// The signing certificate; further ones are trusted too, so that a root can be rotated.
    pub(crate) certificates: Vec<u8>,
    /// The signing key.
    pub(crate) key: Zeroizing<Vec<u8>>,
}

/// Where the files of a root are.
#[derive(Debug, Clone)]
pub(crate) struct RootFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    lock: PathBuf,
}

impl RootFiles {
    pub(crate) fn in_folder(dir: &Path) -> Self {
        Self { certificate: dir.join("root-cert.pem"), key: dir.join("root-key.pem"), lock: dir.join(".lock") }
    }

    /// Reads the root or, if there is none, makes it. Holds a lock on the folder meanwhile.
    pub(crate) fn load_or_make(
        &self,
        dir: &Path,
        make: impl FnOnce() -> Result<RootPem, Error>,
    ) -> Result<RootPem, Error> {
        let failed = |source| Error::File { act: "make", path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let _held = self.hold()?;
        match (self.certificate.exists(), self.key.exists()) {
            (true, true) => self.read(),
            (false, false) => {
                let made = make()?;
                write_new(&self.certificate, &made.certificates, 0o644)?;
                write_new(&self.key, &made.key, 0o600)?;
                self.read()
            }
            (true, false) => Err(Error::HalfRoot { missing: self.key.clone(), present: self.certificate.clone() }),
            (false, true) => Err(Error::HalfRoot { missing: self.certificate.clone(), present: self.key.clone() }),
        }
    }

    /// An exclusive lock, held until the file is dropped.
    fn hold(&self) -> Result<File, Error> {
        let failed = |source| Error::File { act: "lock", path: self.lock.clone(), source };
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.lock).map_err(failed)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT => thread::sleep(LOCK_POLL),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked { path: self.lock.clone(), waited: LOCK_WAIT });
                }
            }
        }
    }

    fn read(&self) -> Result<RootPem, Error> {
        let (certificates, _) = read_bounded(&self.certificate)?;
        let (key, mode) = read_bounded(&self.key)?;
        let key = Zeroizing::new(key);
        if mode & 0o077 != 0 {
            return Err(Error::KeyExposed { path: self.key.clone(), mode });
        }
        Ok(RootPem { certificates, key })
    }
}

/// The contents and the permission bits, both of the same open file.
fn read_bounded(path: &Path) -> Result<(Vec<u8>, u32), Error> {
    let failed = |source| Error::File { act: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    // One allocation, so that no copy of a key stays behind in a buffer that was outgrown.
    let mut bytes = Vec::with_capacity(8192);
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes, mode))
}

/// Writes beside the path, then renames: a reader sees the whole file or none.
fn write_new(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = path.with_extension("pem.new");
    let failed = |source| Error::File { act: "write", path: temporary.clone(), source };
    // Left by a process that died here; nobody else writes while we hold the lock.
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
