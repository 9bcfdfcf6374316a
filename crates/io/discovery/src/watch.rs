//! Watches a folder and what its links lead to.
//!
//! The kernel watches inodes, so the watch is set anew before every reading: a folder that was replaced, or a link that
//! leads elsewhere by now, is watched where it is.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::Notify;

use crate::snapshot;

/// Files whose writers are waited for. Beyond these, only the calm counts.
const MAX_WRITING: usize = 1024;

/// What the kernel said since it was last asked.
#[derive(Default)]
struct Seen {
    events: u64,
    /// Files written to and not closed yet.
    writing: HashSet<PathBuf>,
    /// The folders whose entries count.
    folders: HashSet<PathBuf>,
    /// The folder itself, as an entry of its parent.
    folder: PathBuf,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Notify,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // No one panics while holding it, and each change of it stands for itself.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: notify::Result<Event>) {
        let mut seen = self.seen();
        // An error is a lost event: something may have changed.
        let counts = event.as_ref().map_or(true, |event| seen.take(event));
        if counts {
            seen.events += 1;
            drop(seen);
            self.changed.notify_one();
        }
    }
}

impl Seen {
    fn take(&mut self, event: &Event) -> bool {
        let ours = |path: &PathBuf| *path == self.folder || path.parent().is_some_and(|p| self.folders.contains(p));
        if !event.need_rescan() && !event.paths.iter().any(ours) {
            return false;
        }
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                for path in &event.paths {
                    self.writing.remove(path);
                }
            }
            // Our own reading is no change.
            EventKind::Access(_) => return false,
            EventKind::Modify(ModifyKind::Data(_)) => {
                let room = MAX_WRITING.saturating_sub(self.writing.len());
                self.writing.extend(event.paths.iter().take(room).cloned());
            }
            EventKind::Modify(_) | EventKind::Create(_) | EventKind::Any | EventKind::Other => {}
        }
        true
    }
}

/// The watch on a folder.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    watcher: Option<RecommendedWatcher>,
    armed: HashSet<PathBuf>,
}

impl Watch {
    /// A watch of nothing yet. Without one from the kernel, only polling sees changes, and a warning says so.
    pub(crate) fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let taker = shared.clone();
        let watcher = notify::recommended_watcher(move |event| taker.take(event))
            .inspect_err(|error| tracing::warn!(%error, "manifests are not watched but polled"))
            .ok();
        Self { shared, watcher, armed: HashSet::new() }
    }

    /// A watch that sees nothing.
    #[cfg(test)]
    pub(crate) fn deaf() -> Self {
        Self { shared: Arc::default(), watcher: None, armed: HashSet::new() }
    }

    /// Watches the folder, its place in its parent, and the folders its links lead to.
    pub(crate) fn arm(&mut self, folder: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut folders = HashSet::from([folder.to_owned()]);
        for path in snapshot::manifests(folder).unwrap_or_default() {
            let real = path.canonicalize().ok();
            folders.extend(real.and_then(|real| real.parent().map(Path::to_owned)));
        }
        let mut wanted = folders.clone();
        wanted.extend(folder.parent().map(Path::to_owned));
        {
            let mut seen = self.shared.seen();
            seen.folders = folders;
            seen.folder = folder.to_owned();
        }
        for path in self.armed.drain() {
            // It may be gone with its folder, which is no loss.
            drop(watcher.unwatch(&path));
        }
        for path in wanted {
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.armed.insert(path)),
                // A folder that is gone shows in its parent when it comes back.
                Err(_) if !path.exists() => {}
                Err(error) => tracing::warn!(%error, folder = %path.display(), "not watched but polled"),
            }
        }
    }

    /// Until something changed. Remembers a change that nobody waited for.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// How many changes there were, and whether someone is still writing.
    pub(crate) fn state(&self) -> (u64, bool) {
        let seen = self.shared.seen();
        (seen.events, !seen.writing.is_empty())
    }

    /// Stops waiting for writers that do not finish.
    pub(crate) fn forget_writers(&self) {
        self.shared.seen().writing.clear();
    }
}
