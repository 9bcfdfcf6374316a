//! Objects of one kind with certain labels, followed in all namespaces: whoever makes them sees when somebody else changes them.

use std::{collections::BTreeMap, pin::pin};

use futures_util::StreamExt;
use kube::{
    Client, ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::object::AnyKind;

/// Changes that may wait to be taken. When it is full the server is no longer read from.
const WAITING: usize = 256;
/// Objects asked for at once.
const PAGE: u32 = 500;

/// An object that was made, changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.generation`, which counts changes of what is asked for; nothing when it is gone.
    pub generation: Option<i64>,
}

/// Objects that are followed until this is dropped.
pub struct Labelled {
    following: JoinHandle<()>,
    touched: mpsc::Receiver<Touched>,
}

impl Labelled {
    /// Begins to follow those of the kind with the labels `a=b,c=d`. Needs a runtime.
    pub fn start(client: &Client, kind: &AnyKind, labels: &str) -> Self {
        let (sender, touched) = mpsc::channel(WAITING);
        let config = Config::default().labels(labels).page_size(PAGE);
        let events = watcher(kind.api(client, None), config).default_backoff();
        let what = kind.resource_name();
        let following = tokio::spawn(async move {
            let mut events = pin!(events);
            let mut said = false;
            while let Some(event) = events.next().await {
                let (object, is_there): (DynamicObject, bool) = match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => (object, true),
                    Ok(Event::Delete(object)) => (object, false),
                    Ok(Event::Init) => continue,
                    Ok(Event::InitDone) => {
                        said = false;
                        continue;
                    }
                    // Said once: it is tried again all the time.
                    Err(error) => {
                        if !said {
                            tracing::warn!(what, %error, "cannot be followed now");
                        }
                        said = true;
                        continue;
                    }
                };
                let (name, labels) = (object.name_any(), object.labels().clone());
                let namespace = object.namespace().unwrap_or_default();
                let generation = object.metadata.generation.filter(|_| is_there);
                if sender.send(Touched { namespace, name, labels, generation }).await.is_err() {
                    return;
                }
            }
        });
        Self { following, touched }
    }

    /// The next one. What was there at the start comes first. It may be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Touched {
        match self.touched.recv().await {
            Some(touched) => touched,
            // The follower ends with us.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Labelled {
    fn drop(&mut self) {
        self.following.abort();
    }
}
