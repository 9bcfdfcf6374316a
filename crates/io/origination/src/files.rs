//! Files of PEM, read whole and bounded.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::Error;

/// Most a file may have, in bytes.
const MOST: u64 = 4 << 20;

/// By what a file is known to be another, or written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Of the file that has the path now; none if there is none.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

/// What a file holds. Nothing is opened that is no file: a pipe would not end.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source: Arc::new(source) };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::NoFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    // One allocation, so that no copy of a key stays behind in a buffer that was outgrown.
    let mut bytes = Vec::with_capacity(16 << 10);
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= MOST => Ok(bytes),
        Ok(_) | Err(_) => Err(Error::TooLarge { path: path.to_owned(), most: MOST }),
    }
}

/// All certificates of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(Error::Nothing { path: path.to_owned(), what: "certificates" }),
    }
}

/// The first key of a file.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| Error::Nothing { path: path.to_owned(), what: "private key" })
}

/// All lists of revocations of a file, at least one.
pub(crate) fn revocations(path: &Path) -> Result<Vec<CertRevocationList<'static>>, Error> {
    let nothing = || Error::Nothing { path: path.to_owned(), what: "certificate revocation lists" };
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&read(path)?).collect();
    let lists = found.map_err(|_| nothing())?;
    if lists.is_empty() {
        return Err(nothing());
    }
    let parsed = lists.iter().map(|list| OwnedCertRevocationList::from_der(list).map(CertRevocationList::from));
    parsed.collect::<Result<_, _>>().map_err(|source| Error::Unusable {
        path: path.to_owned(),
        what: "certificate revocation list",
        source,
    })
}
