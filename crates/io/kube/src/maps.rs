//! The ConfigMaps of one name, followed in all namespaces: whoever writes them sees what becomes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use weir_model::Namespace;

use crate::{Error, error::within};

/// Changes that may wait to be taken. When it is full the server is no longer read from.
const WAITING: usize = 256;
/// ConfigMaps asked for at once: each may have a bundle of roots in it.
const PAGE: u32 = 100;
/// How long a page, or the beginning of a watch, may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a watch lasts, in seconds, and how long it may be silent. Servers send a bookmark every minute.
const LIFETIME: u32 = 290;
const SILENCE: Duration = Duration::from_secs(150);
/// Least and most to wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What became of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapChange {
    /// Where.
    pub namespace: Namespace,
    /// What it holds; nothing when it is gone.
    pub data: Option<BTreeMap<String, String>>,
}

/// ConfigMaps that are followed until this is dropped.
pub struct ConfigMaps {
    following: JoinHandle<()>,
    changes: mpsc::Receiver<MapChange>,
}

impl ConfigMaps {
    /// Begins to follow those of the name. Needs a runtime.
    pub fn start(client: Client, name: &str) -> Self {
        let (sender, changes) = mpsc::channel(WAITING);
        let follower =
            Follower { maps: Api::all(client), name: name.to_owned(), changes: sender, known: BTreeSet::new() };
        Self { following: tokio::spawn(follower.run()), changes }
    }

    /// The next change. What was there at the start comes first. It may be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> MapChange {
        match self.changes.recv().await {
            Some(change) => change,
            // The follower ends with us.
            None => std::future::pending().await,
        }
    }
}

impl Drop for ConfigMaps {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Why following stops for now.
enum Stop {
    /// Nobody listens any more.
    Closed,
    /// A request failed, or the server has forgotten where we are.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Follower {
    maps: Api<ConfigMap>,
    name: String,
    changes: mpsc::Sender<MapChange>,
    /// Where there is one.
    known: BTreeSet<Namespace>,
}

impl Follower {
    async fn run(mut self) {
        let (mut wait, mut said) = (BACKOFF.0, false);
        loop {
            let mut listed = false;
            match self.follow(&mut listed).await {
                Stop::Closed => return,
                Stop::Failed(error) if error.status() == Some(410) => {}
                Stop::Failed(error) if listed || !said => {
                    tracing::warn!(name = self.name, %error, "ConfigMaps cannot be followed now");
                    said = true;
                }
                Stop::Failed(_) => {}
            }
            if listed {
                (wait, said) = (BACKOFF.0, false);
            }
            let chance: f64 = rand::random();
            sleep(wait.mul_f64(chance.mul_add(0.5, 0.5))).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} ConfigMaps {}", self.name)
    }

    fn selector(&self) -> String {
        format!("metadata.name={}", self.name)
    }

    /// One list and the watches that go on from it.
    async fn follow(&mut self, listed: &mut bool) -> Stop {
        let mut version = match self.list().await {
            Ok(version) => version,
            Err(stop) => return stop,
        };
        *listed = true;
        loop {
            if let Err(stop) = self.watch(&mut version).await {
                return stop;
            }
            sleep(BACKOFF.0).await;
        }
    }

    async fn list(&mut self) -> Result<String, Stop> {
        let mut there = BTreeSet::new();
        let mut token = None;
        loop {
            let params = ListParams {
                field_selector: Some(self.selector()),
                limit: Some(PAGE),
                continue_token: token.take(),
                ..ListParams::default()
            };
            let page = within(ANSWER, || self.what("list"), self.maps.list(&params)).await?;
            for map in page.items {
                there.extend(self.tell(map, true).await?);
            }
            token = page.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                let gone: Vec<_> = self.known.difference(&there).cloned().collect();
                self.known = there;
                for namespace in gone {
                    self.send(MapChange { namespace, data: None }).await?;
                }
                let missing = || Error::Incomplete { what: self.what("list"), field: "metadata.resourceVersion" };
                return Ok(page.metadata.resource_version.ok_or_else(missing)?);
            }
        }
    }

    /// One watch, as long as it lasts.
    async fn watch(&mut self, version: &mut String) -> Result<(), Stop> {
        let params = WatchParams::default().fields(&self.selector()).timeout(LIFETIME);
        let stream = within(ANSWER, || self.what("watch"), self.maps.watch(&params, version)).await?;
        let mut stream = pin!(stream);
        // One that is silent for too long is taken for dead, and asked for again.
        while let Ok(Some(event)) = timeout(SILENCE, stream.next()).await {
            match event {
                Ok(WatchEvent::Added(map) | WatchEvent::Modified(map)) => {
                    advance(version, &map);
                    let namespace = self.tell(map, true).await?;
                    self.known.extend(namespace);
                }
                Ok(WatchEvent::Deleted(map)) => {
                    advance(version, &map);
                    if let Some(namespace) = self.tell(map, false).await? {
                        self.known.remove(&namespace);
                    }
                }
                Ok(WatchEvent::Bookmark(bookmark)) => version.clone_from(&bookmark.metadata.resource_version),
                Ok(WatchEvent::Error(status)) => {
                    return Err(Error::of(self.what("watch"), kube::Error::Api(status)).into());
                }
                // It broke off, which only matters if the next one cannot be had.
                Err(error) => {
                    tracing::debug!(name = self.name, %error, "a watch broke off");
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tells of a map; answers with where it is.
    async fn tell(&self, map: ConfigMap, there: bool) -> Result<Option<Namespace>, Stop> {
        // The server knows no others.
        let Some(namespace) = map.metadata.namespace.and_then(|name| name.parse::<Namespace>().ok()) else {
            return Ok(None);
        };
        let data = there.then(|| map.data.unwrap_or_default());
        self.send(MapChange { namespace: namespace.clone(), data }).await?;
        Ok(Some(namespace))
    }

    async fn send(&self, change: MapChange) -> Result<(), Stop> {
        self.changes.send(change).await.map_err(|_| Stop::Closed)
    }
}

/// A watch goes on after what it has told.
fn advance(version: &mut String, map: &ConfigMap) {
    if let Some(now) = &map.metadata.resource_version {
        version.clone_from(now);
    }
}
