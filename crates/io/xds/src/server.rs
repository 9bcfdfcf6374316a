//! The service: streams in, each a session of its own; who is connected and how it stands, out.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, future::BoxFuture, future::ready, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::Service;
use weir_model::NodeName;

use crate::{
    kind::{KINDS, Kind},
    proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    request::Node,
    session::Session,
    store::Store,
    subscription::Standing,
};

/// The service's name, as calls name it.
const NAME: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
/// The call that is answered.
pub(crate) const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// The call that is not.
const WHOLE: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
/// Longest that changes are kept to be sent together.
const MAX_DEBOUNCE: Duration = Duration::from_millis(100);

/// What subscribers may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams at a time.
    pub streams: usize,
    /// Length of a request, in bytes.
    pub request_bytes: usize,
    /// Length of a response, in bytes, about. What is more goes into the next.
    pub response_bytes: usize,
    /// How long a stream may take to say who it is.
    pub introduction: Duration,
    /// How long a subscriber may take to answer a response.
    pub answer: Duration,
    /// How long changes are kept to be sent together, at most 100 ms.
    pub debounce: Duration,
    /// The least time from one push of changes to a subscriber to the next, while changes keep coming. What it asks for is not kept waiting.
    pub pace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 4096,
            request_bytes: 1 << 20,
            response_bytes: 128 << 10,
            introduction: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            debounce: Duration::from_millis(10),
            pace: Duration::from_millis(100),
        }
    }
}

/// Who subscribes, as far as it was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// How reports call it.
    pub label: String,
    /// The node whose workloads it is always sent.
    pub node: Option<NodeName>,
}

/// Why somebody may not subscribe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It did not prove who it is.
    #[error("{0}")]
    Unauthenticated(String),
    /// It proved to be somebody who may not.
    #[error("{0}")]
    Denied(String),
}

/// A response that was handed to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// Of what.
    pub kind: Kind,
    /// Resources in it.
    pub resources: usize,
    /// Removals in it.
    pub removed: usize,
    /// Its length in bytes, about.
    pub bytes: usize,
    /// Since the first of the changes in it; nothing for the answer to a request.
    pub latency: Option<Duration>,
}

/// How much was done so far, and how many are connected now.
#[derive(Debug, Default)]
pub struct Stats {
    connected: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    pushes: [AtomicU64; KINDS],
    resources: [AtomicU64; KINDS],
    acks: [AtomicU64; KINDS],
    nacks: [AtomicU64; KINDS],
}

impl Stats {
    /// Streams that are open.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Streams that were ended because of what they asked for or who they were.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Bytes of all responses, about.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Responses of the kind.
    pub fn pushes(&self, kind: Kind) -> u64 {
        self.pushes[kind.index()].load(Ordering::Relaxed)
    }

    /// Resources in all of them.
    pub fn resources(&self, kind: Kind) -> u64 {
        self.resources[kind.index()].load(Ordering::Relaxed)
    }

    /// Responses that were taken.
    pub fn acks(&self, kind: Kind) -> u64 {
        self.acks[kind.index()].load(Ordering::Relaxed)
    }

    /// Responses that were not.
    pub fn nacks(&self, kind: Kind) -> u64 {
        self.nacks[kind.index()].load(Ordering::Relaxed)
    }

    pub(crate) fn acked(&self, kind: Kind) {
        self.acks[kind.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn nacked(&self, kind: Kind) {
        self.nacks[kind.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn pushed(&self, push: &Push) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.pushes[push.kind.index()].fetch_add(1, Ordering::Relaxed);
        self.resources[push.kind.index()].fetch_add(count(push.resources), Ordering::Relaxed);
        self.bytes.fetch_add(count(push.bytes), Ordering::Relaxed);
    }
}

/// One subscriber, for `/debug/syncz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number of its stream.
    pub stream: u64,
    /// How it is called; empty until it said who it is.
    pub label: String,
    /// The id it gives itself.
    pub id: String,
    /// Its node, proven.
    pub node: Option<NodeName>,
    /// Since when it is connected.
    pub since: SystemTime,
    /// How it stands with each kind, in the order of [`Kind::ALL`].
    pub standing: [Standing; KINDS],
}

type Admit = dyn Fn(&http::Extensions, &Node) -> Result<Subscriber, Refused> + Send + Sync;
type Hook = dyn Fn(&Push) + Send + Sync;

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) limits: Limits,
    pub(crate) admit: Box<Admit>,
    pub(crate) stats: Stats,
    hook: Box<Hook>,
    streams: Arc<Semaphore>,
    opened: AtomicU64,
    reports: Mutex<BTreeMap<u64, Report>>,
}

impl Shared {
    fn reports(&self) -> MutexGuard<'_, BTreeMap<u64, Report>> {
        // Each change of it stands for itself.
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pushed(&self, push: &Push) {
        self.stats.pushed(push);
        (self.hook)(push);
    }
}

/// Delta discovery as a service: `envoy.service.discovery.v3.AggregatedDiscoveryService`.
#[derive(Clone)]
pub struct Discovery {
    shared: Arc<Shared>,
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl Discovery {
    /// Serves a store to whom `admit` lets in: it is asked once for each stream, with the extensions of its call and what the
    /// first request says of its node, and answers with what of it was proven. `hook` is told each response.
    pub fn new(
        store: Arc<Store>,
        limits: Limits,
        admit: impl Fn(&http::Extensions, &Node) -> Result<Subscriber, Refused> + Send + Sync + 'static,
        hook: impl Fn(&Push) + Send + Sync + 'static,
    ) -> Self {
        let limits = Limits { debounce: limits.debounce.min(MAX_DEBOUNCE), ..limits };
        let shared = Shared {
            store,
            limits,
            admit: Box::new(admit),
            stats: Stats::default(),
            hook: Box::new(hook),
            streams: Arc::new(Semaphore::new(limits.streams.min(Semaphore::MAX_PERMITS))),
            opened: AtomicU64::new(0),
            reports: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What was done so far.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Who is connected, in the order they came.
    pub fn reports(&self) -> Vec<Report> {
        let now = Kind::ALL.map(|kind| self.shared.store.read(kind).table.now());
        let mut reports: Vec<Report> = self.shared.reports().values().cloned().collect();
        for report in &mut reports {
            for (standing, now) in report.standing.iter_mut().zip(now) {
                // A session that waits does not write down what it waits with.
                standing.pending |= standing.wildcard && standing.seen < now;
            }
        }
        reports
    }

    /// Opens a stream.
    fn open(&self, requests: Streaming<DeltaDiscoveryRequest>, extensions: http::Extensions) -> Result<Open, Status> {
        let shared = self.shared.clone();
        let permit = shared.streams.clone().try_acquire_owned().map_err(|_| {
            shared.stats.refuse();
            Status::resource_exhausted(format!("{} streams are open, which is all there may be", shared.limits.streams))
        })?;
        let session = Session::new(shared.clone(), requests, extensions, Entry::new(shared, permit));
        let next = |session: Option<Session>| async move {
            let mut session = session?;
            match session.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(session))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        };
        Ok(Box::pin(stream::unfold(Some(session), next)))
    }
}

/// The responses of a stream.
type Open = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

/// A stream's place among the reports, and among the streams there may be.
pub(crate) struct Entry {
    shared: Arc<Shared>,
    stream: u64,
    _permit: OwnedSemaphorePermit,
}

impl Entry {
    fn new(shared: Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        let stream = shared.opened.fetch_add(1, Ordering::Relaxed);
        shared.stats.connected.fetch_add(1, Ordering::Relaxed);
        let report = Report {
            stream,
            label: String::new(),
            id: String::new(),
            node: None,
            since: SystemTime::now(),
            standing: Default::default(),
        };
        shared.reports().insert(stream, report);
        Self { shared, stream, _permit: permit }
    }

    /// How the report calls it.
    pub(crate) fn label(&self) -> Option<String> {
        self.shared.reports().get(&self.stream).map(|report| report.label.clone())
    }

    /// Changes the report.
    pub(crate) fn write(&self, change: impl FnOnce(&mut Report)) {
        if let Some(report) = self.shared.reports().get_mut(&self.stream) {
            change(report);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.stats.connected.fetch_sub(1, Ordering::Relaxed);
        self.shared.reports().remove(&self.stream);
    }
}

impl NamedService for Discovery {
    const NAME: &'static str = NAME;
}

impl Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<Body>) -> Self::Future {
        let path = call.uri().path();
        if path != DELTA {
            let why = if path == WHOLE {
                "only DeltaAggregatedResources is served: resources are sent as they change".to_owned()
            } else {
                format!("there is no {path:?} here")
            };
            return Box::pin(ready(Ok(Status::unimplemented(why).into_http())));
        }
        let most = self.shared.limits.request_bytes;
        let method = Delta { discovery: self.clone(), extensions: call.extensions().clone() };
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(most);
            Ok(grpc.streaming(method, call).await)
        })
    }
}

/// The one call that is answered.
struct Delta {
    discovery: Discovery,
    extensions: http::Extensions,
}

impl Service<Request<Streaming<DeltaDiscoveryRequest>>> for Delta {
    type Response = Response<Open>;
    type Error = Status;
    type Future = futures_util::future::Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        ready(self.discovery.open(request.into_inner(), self.extensions.clone()).map(Response::new))
    }
}
