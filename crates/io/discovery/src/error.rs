//! Why a source's state is not taken.

use std::{io, path::PathBuf, sync::Arc};

use weir_manifest::{FileName, ManifestError};

/// One reason not to take what the source holds.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The folder cannot be listed.
    #[error("cannot list the folder {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file cannot be read.
    #[error("{file}: cannot be read")]
    Unreadable {
        /// The file.
        file: FileName,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file is no text.
    #[error("{file}: not UTF-8 at byte {at}")]
    NotText {
        /// The file.
        file: FileName,
        /// Bytes before the first bad one.
        at: usize,
    },
    /// A file is empty: most likely someone is about to write it, and taking it would drop all it held.
    #[error("{file}: the file is empty; remove it if it is meant to declare nothing")]
    Empty {
        /// The file.
        file: FileName,
    },
    /// The folder holds more than is read.
    #[error("the folder {folder} holds more than {max} bytes of manifests")]
    TooMuch {
        /// The folder.
        folder: PathBuf,
        /// Bytes it may hold.
        max: usize,
    },
    /// The reading task ended without an answer.
    #[error("reading the folder {folder} ended without an answer")]
    Abandoned {
        /// The folder.
        folder: PathBuf,
    },
    /// A manifest is wrong.
    #[error(transparent)]
    Manifest(Box<ManifestError>),
}
