//! One watch: what happened, as lines of JSON, until it is over.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::channel::{Channel, Sender};
use serde_json::{Value, json};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep_until},
};

use crate::{
    fault::{Cut, Forgotten},
    reply::{Body, Refusal, stream},
    request::{Path, Query, Resource},
    server::State,
};

/// How long a watch lasts when the client does not say.
const LIFETIME: u64 = 1800;
/// Lines that may wait for a slow client.
const WAITING: usize = 64;

/// Why a watch ends.
enum End {
    /// In order.
    Over,
    /// The client is gone.
    Left,
    /// The connection breaks.
    Broken,
}

/// Begins a watch from the query's version on.
pub(crate) fn start(
    state: &Arc<State>,
    resource: &Resource,
    path: &Path,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let store = state.store();
    let from = match query.resource_version.as_deref() {
        Some(version) => version.parse().map_err(|_| Refusal::bad(format!("invalid resource version {version:?}")))?,
        None => return Err(Refusal::bad("this server begins a watch from a resource version only")),
    };
    if from > store.version {
        return Err(Refusal::new(
            504,
            "Timeout",
            format!("Too large resource version: {from}, current: {}", store.version),
        ));
    }
    if from < store.oldest && state.faults.forgotten() == Forgotten::Status {
        return Err(Refusal::gone());
    }
    drop(store);
    state.watched.store(from, Relaxed);
    let (sender, channel) = Channel::new(WAITING);
    let lifetime = Duration::from_secs(query.timeout.unwrap_or(LIFETIME));
    let watch = Watch {
        state: state.clone(),
        resource: resource.clone(),
        namespace: path.namespace.clone(),
        query: query.clone(),
        bookmarks: query.bookmarks,
        from,
        born: state.faults.silenced(),
        cuts: state.faults.cuts(),
        sender,
    };
    tokio::spawn(watch.run(lifetime));
    Ok(stream(channel))
}

/// Waits until the server goes down.
pub(crate) async fn gone(down: &mut Receiver<bool>) {
    // An error says that the server itself is no more.
    drop(down.wait_for(|down| *down).await);
}

struct Watch {
    state: Arc<State>,
    resource: Resource,
    namespace: Option<String>,
    query: Query,
    bookmarks: bool,
    from: u64,
    /// How often watches had been silenced when it began.
    born: u64,
    cuts: Receiver<(u64, Option<Cut>)>,
    sender: Sender<Bytes, io::Error>,
}

impl Watch {
    async fn run(mut self, lifetime: Duration) {
        let end = Instant::now() + lifetime;
        if let End::Broken = self.follow(end).await {
            self.sender.abort(io::Error::other("the watch was cut"));
        }
    }

    async fn follow(&mut self, end: Instant) -> End {
        let mut changed = self.state.store().changed.subscribe();
        let mut down = self.state.faults.down.subscribe();
        loop {
            changed.mark_unchanged();
            if let Err(end) = self.catch_up().await {
                return end;
            }
            if !self.state.store().resources.contains(&self.resource) {
                return End::Over;
            }
            tokio::select! {
                () = sleep_until(end) => return End::Over,
                _ = changed.changed() => continue,
                () = gone(&mut down) => return End::Broken,
                _ = self.cuts.changed() => {}
            }
            let cut = self.cuts.borrow_and_update().1;
            if let Some(cut) = cut
                && let Err(end) = self.cut(cut).await
            {
                return end;
            }
        }
    }

    async fn cut(&mut self, cut: Cut) -> Result<(), End> {
        match cut {
            Cut::Drop => Err(End::Broken),
            Cut::Expire => {
                self.line("ERROR", &Refusal::gone().status()).await?;
                Err(End::Over)
            }
            Cut::Bookmark if self.bookmarks && !self.is_silent() => {
                self.catch_up().await?;
                let version = self.state.store().version;
                self.from = self.from.max(version);
                let (kind, api_version) = (self.resource.kind.clone(), self.resource.api_version());
                let metadata = json!({"resourceVersion": self.from.to_string(), "creationTimestamp": null});
                self.line("BOOKMARK", &json!({"kind": kind, "apiVersion": api_version, "metadata": metadata})).await
            }
            Cut::Bookmark => Ok(()),
        }
    }

    fn is_silent(&self) -> bool {
        self.state.faults.silenced() > self.born
    }

    async fn catch_up(&mut self) -> Result<(), End> {
        if self.is_silent() {
            return Ok(());
        }
        let happened = self.state.store().since(self.from, &self.resource.id(), self.namespace.as_deref());
        let Some(happened) = happened else {
            self.line("ERROR", &Refusal::gone().status()).await?;
            return Err(End::Over);
        };
        for one in happened {
            // One whose labels were changed so that it is none any more goes unsaid: a real server would say that it is gone.
            if !self.query.selects(&one.object) {
                self.from = one.version;
                continue;
            }
            self.line(one.kind, &one.object).await?;
            self.from = one.version;
        }
        Ok(())
    }

    async fn line(&mut self, kind: &str, object: &Value) -> Result<(), End> {
        let mut text = json!({"type": kind, "object": object}).to_string();
        text.push('\n');
        let torn = kind != "ERROR" && kind != "BOOKMARK" && self.state.faults.tears();
        if torn {
            text.truncate(text.len() / 2);
        }
        self.sender.send_data(text.into()).await.map_err(|_| End::Left)?;
        if torn { Err(End::Broken) } else { Ok(()) }
    }
}
