//! A folder of manifests as the source of the mesh's state.

use std::{
    path::{Path, PathBuf, absolute},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use weir_compile::{Settings, compile};
use weir_manifest::{FileName, Ignored, Objects, parse};
use weir_world::World;

use crate::{
    error::SourceError,
    snapshot::{self, Snapshot},
    watch::Watch,
};

/// How long a source waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Quiet after the last change before the folder is read.
    pub settle: Duration,
    /// The longest wait for quiet, and for writers that have not closed their files.
    pub patience: Duration,
    /// Between readings without any sign of change.
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { settle: Duration::from_millis(50), patience: Duration::from_secs(2), poll: Duration::from_secs(5) }
    }
}

/// What a change of the source came to.
#[derive(Debug)]
pub enum Update<T = Arc<World>> {
    /// A new world, or what else is made of the objects.
    World(T),
    /// What the source holds is not taken; the last good world stays in force.
    Rejected(Vec<SourceError>),
}

/// What is made of the objects of a folder.
type Make<T> = Arc<dyn Fn(Objects) -> T + Send + Sync>;

/// A folder of manifests, followed as worlds.
pub type FolderSource = Folder<Arc<World>>;

/// A folder of manifests, followed.
pub struct Folder<T> {
    folder: PathBuf,
    make: Make<T>,
    timing: Timing,
    watch: Watch,
    /// Of what was last delivered, taken or not.
    hash: u64,
    ignored: Vec<Ignored>,
    /// Whether there was a change that was not read yet. Kept here so that `next` can be cancelled.
    changed: bool,
}

/// A folder's contents, made into what they mean.
struct Loaded<T> {
    hash: u64,
    outcome: Result<(T, Vec<Ignored>), Vec<SourceError>>,
}

impl Folder<Arc<World>> {
    /// Reads the folder and begins to watch it. Blocks while it reads.
    ///
    /// # Errors
    /// Everything that keeps the folder's contents from being taken.
    pub fn open(folder: &Path, settings: Settings) -> Result<(Arc<World>, Self), Vec<SourceError>> {
        Self::open_with(folder, settings, Timing::default())
    }

    /// As `open`, with other waits than the usual ones.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(
        folder: &Path,
        settings: Settings,
        timing: Timing,
    ) -> Result<(Arc<World>, Self), Vec<SourceError>> {
        Self::open_as(folder, timing, move |objects| Arc::new(World::new(compile(objects, &settings))))
    }
}

impl<T: Send + 'static> Folder<T> {
    /// Reads the folder, begins to watch it, and makes of its objects what `make` makes. Blocks while it reads.
    ///
    /// # Errors
    /// Everything that keeps the folder's contents from being taken.
    pub fn open_as(
        folder: &Path,
        timing: Timing,
        make: impl Fn(Objects) -> T + Send + Sync + 'static,
    ) -> Result<(T, Self), Vec<SourceError>> {
        let make: Make<T> = Arc::new(make);
        let folder = absolute(folder)
            .map_err(|source| vec![SourceError::Folder { folder: folder.to_owned(), source: Arc::new(source) }])?;
        let mut watch = Watch::new();
        // Before the reading, lest a change between the two be missed.
        watch.arm(&folder);
        let loaded = interpret(snapshot::read(&folder), &make);
        let (made, ignored) = loaded.outcome?;
        Ok((made, Self { folder, make, timing, watch, hash: loaded.hash, ignored, changed: false }))
    }

    /// What the last good manifests hold that has no effect here.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// The next change. May be cancelled at any point without losing one.
    pub async fn next(&mut self) -> Update<T> {
        loop {
            if !self.changed {
                let sign = timeout(self.timing.poll, self.watch.changed()).await;
                self.changed = true;
                if sign.is_ok() {
                    self.settle().await;
                }
            } else {
                self.settle().await;
            }
            let update = self.reload().await;
            self.changed = false;
            if let Some(update) = update {
                return update;
            }
        }
    }

    /// Until the folder has been quiet for a while and nobody is writing.
    async fn settle(&self) {
        let deadline = Instant::now() + self.timing.patience;
        let (mut before, _) = self.watch.state();
        while Instant::now() < deadline {
            sleep(self.timing.settle).await;
            let (now, writing) = self.watch.state();
            if now == before && !writing {
                return;
            }
            before = now;
        }
        self.watch.forget_writers();
    }

    /// Reads the folder; nothing when it holds what it held.
    async fn reload(&mut self) -> Option<Update<T>> {
        self.watch.arm(&self.folder);
        let (folder, make, before) = (self.folder.clone(), self.make.clone(), self.hash);
        let reading = tokio::task::spawn_blocking(move || {
            let snapshot = snapshot::read(&folder);
            (snapshot.hash != before).then(|| interpret(snapshot, &make))
        });
        let Ok(loaded) = reading.await else {
            return Some(Update::Rejected(vec![SourceError::Abandoned { folder: self.folder.clone() }]));
        };
        let loaded = loaded?;
        self.hash = loaded.hash;
        Some(match loaded.outcome {
            Ok((made, ignored)) => {
                self.ignored = ignored;
                Update::World(made)
            }
            Err(errors) => Update::Rejected(errors),
        })
    }
}

fn interpret<T>(snapshot: Snapshot, make: &Make<T>) -> Loaded<T> {
    let Snapshot { files, mut errors, hash } = snapshot;
    let sources: Vec<(FileName, &str)> = files.iter().map(|(name, text)| (name.clone(), text.as_str())).collect();
    let outcome = match parse(&sources) {
        Ok(mut objects) if errors.is_empty() => {
            let ignored = std::mem::take(&mut objects.ignored);
            Ok((make(objects), ignored))
        }
        Ok(_) => Err(errors),
        Err(wrong) => {
            errors.extend(wrong.into_iter().map(|error| SourceError::Manifest(Box::new(error))));
            Err(errors)
        }
    };
    Loaded { hash, outcome }
}

#[cfg(test)]
#[path = "folder/tests.rs"]
mod tests;
