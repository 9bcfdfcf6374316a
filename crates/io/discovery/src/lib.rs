//! Sources of the mesh's state.
//!
//! In: a folder of manifests. Out: a `World`, and a new one for every change; or the errors that keep the last good one
//! in force. It never delivers a world made of only a part of what the source holds.

mod error;
mod folder;
mod snapshot;
mod watch;

pub use error::SourceError;
pub use folder::{Folder, FolderSource, Timing, Update};
pub use snapshot::MAX_FOLDER_BYTES;
