//! A folder of manifests as the source of the mesh's state.

use std::{
    path::{Path, PathBuf, absolute},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
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
    /// Whether there was a change that was not read yet. Kept here so that `next` can be cancelled, as what follows: somebody who
    /// cancels it again and again must not wait for ever.
    changed: bool,
    /// When the folder is read without any sign of change.
    look_at: Option<Instant>,
    /// When the wait for quiet ends that has begun.
    quiet_by: Option<Instant>,
    /// The reading under way.
    reading: Option<JoinHandle<Option<Loaded<T>>>>,
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
        Ok((
            made,
            Self {
                folder,
                make,
                timing,
                watch,
                hash: loaded.hash,
                ignored,
                changed: false,
                look_at: None,
                quiet_by: None,
                reading: None,
            },
        ))
    }

    /// What the last good manifests hold that has no effect here.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// The next change. May be cancelled at any point without losing one.
    pub async fn next(&mut self) -> Update<T> {
        loop {
            if !self.changed {
                let look = *self.look_at.get_or_insert_with(|| Instant::now() + self.timing.poll);
                let sign = timeout_at(look, self.watch.changed()).await;
                self.changed = true;
                self.look_at = None;
                if sign.is_ok() {
                    self.settle().await;
                }
            } else if self.reading.is_none() {
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
    async fn settle(&mut self) {
        let deadline = *self.quiet_by.get_or_insert_with(|| Instant::now() + self.timing.patience);
        let (mut before, _) = self.watch.state();
        loop {
            if Instant::now() >= deadline {
                self.watch.forget_writers();
                break;
            }
            sleep(self.timing.settle).await;
            let (now, writing) = self.watch.state();
            if now == before && !writing {
                break;
            }
            before = now;
        }
        self.quiet_by = None;
    }

    /// Reads the folder; nothing when it holds what it held.
    async fn reload(&mut self) -> Option<Update<T>> {
        let (watch, folder) = (&mut self.watch, &self.folder);
        let (make, before) = (&self.make, self.hash);
        let reading = self.reading.get_or_insert_with(|| {
            watch.arm(folder);
            let (folder, make) = (folder.clone(), make.clone());
            tokio::task::spawn_blocking(move || {
                let snapshot = snapshot::read(&folder);
                (snapshot.hash != before).then(|| interpret(snapshot, &make))
            })
        });
        let loaded = reading.await;
        self.reading = None;
        let Ok(loaded) = loaded else {
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
