//! The task that fetches, and what others hold of it.

use std::{collections::HashMap, error::Error, future::Future, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::body::Bytes;
use rand::Rng;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use weir_manifest::KeySource;
use weir_token::{KeySet, Keys};

use crate::{
    error::{FetchError, RootsError},
    get::Client,
    guard::Allowed,
    state::Source,
    tls::Roots,
};

/// Most sources that are followed.
const MAX_SOURCES: usize = 1_024;

/// Most fetches at a time.
const MAX_RUNNING: usize = 8;

/// Most askers for other keys that stand in line for the task.
const MAX_ASKS: usize = 1_024;

/// How keys are fetched.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose certificates are believed.
    pub roots: Roots,
    /// Which addresses may be asked that are not public.
    pub allowed: Allowed,
    /// How long keys are used before they are fetched again, a tenth more or less. Istio, `PILOT_JWT_PUB_KEY_REFRESH_INTERVAL`: 20 minutes.
    pub refresh: Duration,
    /// How soon after an attempt an unknown key may cause another.
    pub pause: Duration,
    /// How long after a failed attempt another is made; each doubles it, until it is `refresh` or five minutes.
    pub retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roots: Roots::default(),
            allowed: Allowed::default(),
            refresh: Duration::from_secs(20 * 60),
            pause: Duration::from_secs(10),
            retry: Duration::from_secs(1),
        }
    }
}

/// The longest time between attempts that fail.
const MAX_RETRY: Duration = Duration::from_secs(5 * 60);

/// What was fetched, by where from.
type Snapshot = HashMap<KeySource, Arc<KeySet>>;

/// What is followed, and how long a fetch of each may take.
type Wanted = Arc<HashMap<KeySource, Duration>>;

/// Somebody who saw a token of a key that is not known.
struct Ask {
    source: KeySource,
    waiter: oneshot::Sender<()>,
}

/// What others hold: it says what to follow, and reads what was fetched. Reading takes no lock.
#[derive(Clone)]
pub struct Handle {
    snapshot: Arc<ArcSwap<Snapshot>>,
    wanted: Arc<watch::Sender<Wanted>>,
    asks: mpsc::Sender<Ask>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Keys for Handle {
    fn keys(&self, source: &KeySource) -> Option<Arc<KeySet>> {
        self.snapshot.load().get(source).cloned()
    }
}

impl Handle {
    /// From now on these are followed and no others, each fetched within its time; of one named twice the longer counts. What is followed
    /// already goes on as it was.
    pub fn follow<'s>(&self, sources: impl IntoIterator<Item = (&'s KeySource, Duration)>) {
        let mut wanted: HashMap<KeySource, Duration> = HashMap::new();
        for (source, wait) in sources {
            if wanted.len() >= MAX_SOURCES && !wanted.contains_key(source) {
                tracing::warn!(
                    source = place(source),
                    "more than {MAX_SOURCES} sources of keys: this one is not fetched"
                );
                continue;
            }
            let longest = wanted.entry(source.clone()).or_insert(wait);
            *longest = wait.max(*longest);
        }
        self.wanted.send_replace(Arc::new(wanted));
    }

    /// Asks for keys anew, as a token names one that is not known or has come before the first were fetched; returns when they are there, or when
    /// they will not come now. Then the token can be checked once more. It takes no longer than a fetch of that source may.
    pub async fn renew(&self, source: &KeySource) {
        let Some(wait) = self.wanted.borrow().get(source).copied() else { return };
        let (waiter, told) = oneshot::channel();
        if self.asks.try_send(Ask { source: source.clone(), waiter }).is_ok() {
            // Told, not told, or too late: what there is now is all there is.
            drop(timeout(wait, told).await);
        }
    }
}

type Fetch = Pin<Box<dyn Future<Output = (KeySource, Result<(Bytes, KeySet), FetchError>)> + Send>>;

/// The task that fetches: to be run by whoever owns it. It ends when the last handle is gone.
pub struct Fetcher {
    config: Config,
    client: Client,
    wanted: watch::Receiver<Wanted>,
    asks: mpsc::Receiver<Ask>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    sources: HashMap<KeySource, Source>,
    running: FuturesUnordered<Fetch>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A task that follows nothing yet.
    ///
    /// # Errors
    /// When the file of roots cannot be used.
    pub fn new(config: Config) -> Result<(Self, Handle), RootsError> {
        let client = Client { tls: Arc::new(config.roots.config()?), allowed: Arc::new(config.allowed.clone()) };
        let snapshot = Arc::new(ArcSwap::default());
        let (send_wanted, wanted) = watch::channel(Wanted::default());
        let (send_ask, asks) = mpsc::channel(MAX_ASKS);
        let handle = Handle { snapshot: snapshot.clone(), wanted: Arc::new(send_wanted), asks: send_ask };
        let (sources, running) = (HashMap::new(), FuturesUnordered::new());
        Ok((Self { config, client, wanted, asks, snapshot, sources, running }, handle))
    }

    /// Fetches, for as long as there is a handle.
    pub async fn run(mut self) {
        loop {
            self.begin_due();
            let can_begin = self.running.len() < MAX_RUNNING;
            let next = self.sources.values().filter_map(|source| source.due).min().filter(|_| can_begin);
            tokio::select! {
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.follow(),
                    Err(_) => return,
                },
                Some(ask) = self.asks.recv() => {
                    // Who asks knows what is wanted already.
                    if !self.sources.contains_key(&ask.source) {
                        self.follow();
                    }
                    if let Some(source) = self.sources.get_mut(&ask.source) {
                        source.wanted(ask.waiter, Instant::now(), self.config.pause);
                    }
                }
                Some((source, outcome)) = self.running.next() => self.ended(&source, outcome),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Takes over what is to be followed.
    fn follow(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let now = Instant::now();
        let gone = self.sources.len();
        self.sources.retain(|source, _| wanted.contains_key(source));
        let is_less = self.sources.len() < gone;
        for (source, wait) in wanted.iter() {
            self.sources.entry(source.clone()).or_insert_with(|| Source::new(*wait, now)).wait = *wait;
        }
        if is_less {
            self.publish();
        }
    }

    /// Begins to fetch what is due, the longest due first.
    fn begin_due(&mut self) {
        let now = Instant::now();
        let mut due: Vec<_> =
            self.sources.iter_mut().filter(|(_, one)| one.due.is_some_and(|due| due <= now)).collect();
        due.sort_by_key(|(_, one)| one.due);
        for (source, state) in due.into_iter().take(MAX_RUNNING.saturating_sub(self.running.len())) {
            state.begun(now);
            let (client, source, wait) = (self.client.clone(), source.clone(), state.wait);
            self.running.push(Box::pin(async move {
                let outcome = client.fetch(&source, wait).await.and_then(|bytes| {
                    let keys = KeySet::read(&bytes)?;
                    Ok((bytes, keys))
                });
                (source, outcome)
            }));
        }
    }

    fn ended(&mut self, source: &KeySource, outcome: Result<(Bytes, KeySet), FetchError>) {
        // It may be followed no more; or again, and then be asked twice.
        let Some(state) = self.sources.get_mut(source) else { return };
        let now = Instant::now();
        match outcome {
            Ok((bytes, keys)) => {
                let (count, next) = (keys.len(), now + self.config.refresh.mul_f64(rand::rng().random_range(0.9..1.1)));
                if state.fetched(bytes, keys, next) {
                    tracing::info!(source = place(source), keys = count, "keys fetched");
                    self.publish();
                }
            }
            Err(error) => {
                let first = self.config.retry.mul_f64(rand::rng().random_range(0.75..1.25));
                state.failed(now, first, MAX_RETRY.min(self.config.refresh));
                let (kept, failures) = (state.kept.is_some(), state.failures());
                tracing::warn!(source = place(source), error = causes(&error), kept, failures, "keys not fetched");
            }
        }
    }

    fn publish(&self) {
        let kept =
            self.sources.iter().filter_map(|(source, state)| Some((source.clone(), state.kept.as_ref()?.keys.clone())));
        self.snapshot.store(Arc::new(kept.collect()));
    }
}

/// Where a source is, for people.
fn place(source: &KeySource) -> &str {
    match source {
        KeySource::Inline(_) => "the rule itself",
        KeySource::Uri(url) | KeySource::Discovery(url) => url.as_str(),
    }
}

/// An error and what caused it.
fn causes(error: &FetchError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
