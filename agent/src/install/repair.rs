//! Keeps the CNI plugin in the chain while the agent runs: other agents of the node write their configurations anew, at an upgrade by
//! name, and know nothing of ours. In: what happens in the folder. Out: the chain as it should be.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{Back, InstallError, PLUGIN, install, put_back};
use crate::{cli::CniFolders, enrol::chain};

/// How long whoever writes into the folder is left alone, and the least time between two looks.
const CALM: Duration = Duration::from_millis(500);
/// How often the folder is looked at though nothing is heard of it: where the kernel does not watch, this is all.
const LOOK: Duration = Duration::from_secs(10);

/// How often the plugin was put back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repairs(Arc<AtomicU64>);

impl Repairs {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Who keeps it there.
pub(crate) struct Repair {
    node: CniFolders,
    plugin: PathBuf,
    socket: String,
    repairs: Repairs,
    said: Option<String>,
}

/// What is to be done at the next look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Install,
    PutBack,
    Nothing,
}

impl Repair {
    pub(crate) fn new(node: CniFolders, plugin: PathBuf, socket: String, repairs: Repairs) -> Self {
        Self { node, plugin, socket, repairs, said: None }
    }

    /// Installs as soon as the node has a network, and puts back from then on, until `shutdown` is done or the plugin is uninstalled.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.keep() => {}
        }
    }

    async fn keep(mut self) {
        let changed = Arc::new(Notify::new());
        let watcher = watch(&self.node, &changed);
        let mut next = Next::Install;
        while next != Next::Nothing {
            // It may wait for an uninstallation, and writes to a disk.
            let work = tokio::task::spawn_blocking(move || {
                let done = self.look(next);
                (self, done)
            });
            match work.await {
                Ok((this, done)) => (self, next) = (this, done),
                Err(error) => return tracing::error!(%error, "the CNI plugin is not put back any more"),
            }
            sleep(CALM).await;
            // Late is as good as changed.
            drop(timeout(LOOK, changed.notified()).await);
        }
        drop(watcher);
    }

    /// How often it was put back.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.repairs.count()
    }

    /// One look at the folder, and what the next one is for.
    pub(super) fn look(&mut self, next: Next) -> Next {
        let (done, then) = match next {
            Next::Install => (install(&self.node, &self.plugin, &self.socket).map(Back::Changed), Next::PutBack),
            Next::PutBack => (put_back(&self.node, &self.socket), Next::PutBack),
            Next::Nothing => return Next::Nothing,
        };
        match done {
            Ok(Back::AsItWas) => self.said = None,
            Ok(Back::Changed(chain)) => {
                self.said = None;
                if next == Next::PutBack {
                    self.repairs.0.fetch_add(1, Relaxed);
                    tracing::warn!(chain = %chain.display(), "{PLUGIN} was not the last plugin of the chain: put back");
                } else {
                    tracing::info!(chain = %chain.display(), "{PLUGIN} is the last plugin of the chain");
                }
            }
            Ok(Back::Uninstalled) => {
                tracing::info!("{PLUGIN} was uninstalled: it is not put back");
                return Next::Nothing;
            }
            Err(error) => {
                self.complain(&error);
                return next;
            }
        }
        then
    }

    /// Once for each reason: it is tried again and again.
    fn complain(&mut self, error: &InstallError) {
        let reason = chain(error);
        if self.said.as_ref() != Some(&reason) {
            tracing::error!(reason, "{PLUGIN} is not in the chain; trying again");
            self.said = Some(reason);
        }
    }
}

/// Says when something in the folder changes. It is looked at in any case, only later.
fn watch(node: &CniFolders, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let changed = changed.clone();
    let heard = move |event: notify::Result<notify::Event>| {
        // Our own reading is no change.
        if event.map_or(true, |event| !event.kind.is_access()) {
            changed.notify_one();
        }
    };
    let watched = notify::recommended_watcher(heard).and_then(|mut watcher| {
        watcher.watch(&node.conf_dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watched
        .inspect_err(|error| tracing::warn!(%error, folder = %node.conf_dir.display(), "not watched but looked at every {LOOK:?}"))
        .ok()
}
