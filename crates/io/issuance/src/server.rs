//! `IstioCertificateService`, served.

use std::{
    convert::Infallible,
    fmt,
    num::NonZero,
    ops::ControlFlow,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant, SystemTime},
};

use prost_types::value::Kind;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower::Service;
use weir_authority::{Authority, LivePod, Refusal, Requester, SigningRequest, entitled};
use weir_model::{NodeName, SpiffeId};
use weir_rpc::{Caller, Credential};

use crate::{
    Denied, IstioCertificateRequest, IstioCertificateResponse, Settings, Stats,
    messages::{CREATE, IMPERSONATED, SERVICE},
    throttle::{Rate, Throttle},
};

/// Most a call's message may have, in bytes: a signing request of 16 KiB, and metadata.
const MAX_MESSAGE: usize = 64 << 10;
/// How long a message may be on its way once its call has begun.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most callers that are told apart for the rate.
const MAX_CALLERS: usize = 16_384;
/// How many refusals are logged: so many at once, so many in a second.
const LOGGED: (u32, u32) = (50, 10);

/// The pods that live, as whoever follows the cluster has them.
pub trait Pods: Send + Sync {
    /// Shows every pod of the node that was not deleted and did not end to `visit`, until that breaks off.
    fn on_node(&self, node: &NodeName, visit: &mut dyn FnMut(LivePod<'_>) -> ControlFlow<()>);
}

/// The service. Clones are the same one.
#[derive(Clone)]
pub struct Certificates {
    desk: Arc<Desk>,
}

impl Certificates {
    /// Signs by what `authority` holds at the time.
    pub fn new(authority: watch::Receiver<Arc<Authority>>, pods: Arc<dyn Pods>, settings: Settings) -> Self {
        let rate = Rate::new(settings.per_second, settings.burst);
        Self {
            desk: Arc::new(Desk {
                authority,
                pods,
                callers: Throttle::new(rate, MAX_CALLERS),
                at_once: Semaphore::new(settings.at_once),
                slow: Arc::new(Semaphore::new(thread::available_parallelism().map_or(1, NonZero::get))),
                logged: Mutex::new(Instant::now()),
                unlogged: AtomicU64::new(0),
                stats: Arc::default(),
                settings,
            }),
        }
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        self.desk.stats.clone()
    }

    /// Until when the root is valid that certificates lead to. `citadel_server_root_cert_expiry_timestamp`.
    pub fn root_not_after(&self) -> SystemTime {
        self.desk.authority.borrow().root_not_after()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("settings", &self.desk.settings).finish_non_exhaustive()
    }
}

impl NamedService for Certificates {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for Certificates {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<Body>) -> Self::Future {
        let desk = self.desk.clone();
        Box::pin(async move { Ok(desk.answer(call).await) })
    }
}

struct Desk {
    authority: watch::Receiver<Arc<Authority>>,
    pods: Arc<dyn Pods>,
    settings: Settings,
    /// By service account and node: the agents of all nodes have one account.
    callers: Throttle<(SpiffeId, Option<NodeName>)>,
    at_once: Semaphore,
    /// For signing by a slow key.
    slow: Arc<Semaphore>,
    logged: Mutex<Instant>,
    /// How many refusals were not logged since the last that was.
    unlogged: AtomicU64,
    stats: Arc<Stats>,
}

impl Desk {
    async fn answer(&self, call: http::Request<Body>) -> http::Response<Body> {
        if call.uri().path() != CREATE {
            return Status::unimplemented(format!("{SERVICE} has no method {:?}", call.uri().path())).into_http();
        }
        let Some(caller) = call.extensions().get::<Caller>().cloned() else {
            return self.refuse(None, None, &Denied::Unproven).into_http();
        };
        if !self.callers.take((caller.identity.clone(), caller.node.clone()), Instant::now()) {
            return self.refuse(Some(&caller), None, &Denied::Throttled).into_http();
        }
        let Ok(_turn) = self.at_once.try_acquire() else {
            return self.refuse(Some(&caller), None, &Denied::Busy).into_http();
        };
        let read = AtomicBool::new(false);
        let method = Create { desk: self, caller: &caller, read: &read };
        let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_MESSAGE);
        let Ok(answer) = timeout(DEADLINE, grpc.unary(method, call)).await else {
            let denied = if read.load(Relaxed) { Denied::Busy } else { Denied::TooSlow };
            return self.refuse(Some(&caller), None, &denied).into_http();
        };
        // What tonic refused itself is logged and counted as well, and goes back as tonic put it.
        if !read.load(Relaxed)
            && let Some(status) = Status::from_header_map(answer.headers())
        {
            self.refuse(Some(&caller), None, &Denied::Unreadable(status.message().to_owned()));
        }
        answer
    }

    /// The method itself.
    async fn create(
        &self,
        caller: &Caller,
        request: IstioCertificateRequest,
    ) -> Result<IstioCertificateResponse, Status> {
        self.stats.requests.fetch_add(1, Relaxed);
        let mut asked = None;
        let done = match self.decide(caller, &request, &mut asked) {
            Ok(order) => self.sign(order).await,
            Err(denied) => Err(denied),
        };
        match done {
            Ok(cert_chain) => {
                self.stats.issued.fetch_add(1, Relaxed);
                Ok(IstioCertificateResponse { cert_chain })
            }
            Err(denied) => Err(self.refuse(Some(caller), asked.as_ref(), &denied)),
        }
    }

    /// What is to be signed, if it may be. `asked` is for the log.
    fn decide(
        &self,
        caller: &Caller,
        request: &IstioCertificateRequest,
        asked: &mut Option<SpiffeId>,
    ) -> Result<Order, Denied> {
        let identity = asked.insert(asked_for(caller, request)?).clone();
        let authority = self.authority.borrow().clone();
        self.may_have(caller, &identity, &authority)?;
        let lifetime = match u64::try_from(request.validity_duration) {
            Ok(0) | Err(_) => self.settings.lifetime,
            Ok(seconds) => Duration::from_secs(seconds),
        };
        let request = SigningRequest::parse(request.csr.as_bytes(), &identity)?;
        Ok(Order { authority, request, identity, lifetime })
    }

    /// Signs: right here by a fast key, on a thread of its own by a slow one, with a few at once.
    async fn sign(&self, order: Order) -> Result<Vec<String>, Denied> {
        if !order.authority.is_slow() {
            return Ok(order.sign()?);
        }
        let turn = self.slow.clone().acquire_owned().await.expect("the semaphore is never closed");
        let signing = spawn_blocking(move || {
            let signed = order.sign();
            drop(turn);
            signed
        });
        match signing.await {
            Ok(signed) => Ok(signed?),
            Err(error) => Err(Refusal::Signing(error.to_string()).into()),
        }
    }

    /// Only an agent that proved its node by a token may ask for others.
    fn may_have(&self, caller: &Caller, asked: &SpiffeId, authority: &Authority) -> Result<(), Denied> {
        let identity = &caller.identity;
        let agent = self.settings.node_agents.include(caller.namespace(), caller.service_account());
        let node = caller.node.as_ref().filter(|_| agent && caller.credential == Credential::Token);
        let requester = node.map_or(Requester::Workload(identity), |node| Requester::NodeAgent { identity, node });
        let own = authority.trust_domain();
        let mut verdict = entitled(requester, asked, own, []);
        if let (Err(_), Some(node)) = (&verdict, node) {
            self.pods.on_node(node, &mut |pod| {
                verdict = entitled(requester, asked, own, [pod]);
                if verdict.is_ok() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        Ok(verdict?)
    }

    /// Counts and logs, and says how it goes back.
    fn refuse(&self, caller: Option<&Caller>, asked: Option<&SpiffeId>, denied: &Denied) -> Status {
        let reason = denied.reason();
        self.stats.refuse(reason);
        let may_log = {
            let mut whole = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            Rate::new(LOGGED.1, LOGGED.0).take(&mut whole, Instant::now())
        };
        if may_log {
            tracing::warn!(
                caller = caller.map(|caller| tracing::field::display(&caller.identity)),
                node = caller.and_then(|caller| caller.node.as_ref()).map(tracing::field::display),
                pod = caller.and_then(|caller| caller.pod.as_deref()),
                credential = caller.map(|caller| tracing::field::debug(caller.credential)),
                asked = asked.map(tracing::field::display),
                reason = reason.as_str(),
                why = denied.text(),
                not_logged_before = self.unlogged.swap(0, Relaxed),
                "a certificate was refused",
            );
        } else {
            self.unlogged.fetch_add(1, Relaxed);
        }
        denied.status()
    }
}

/// A certificate that somebody may have.
struct Order {
    authority: Arc<Authority>,
    request: SigningRequest,
    identity: SpiffeId,
    lifetime: Duration,
}

impl Order {
    fn sign(&self) -> Result<Vec<String>, Refusal> {
        self.authority.sign(&self.request, &self.identity, self.lifetime, SystemTime::now())
    }
}

/// For whom: as the metadata says, else the signing request, else for the caller itself.
fn asked_for(caller: &Caller, request: &IstioCertificateRequest) -> Result<SpiffeId, Denied> {
    let named = request.metadata.as_ref().and_then(|metadata| metadata.fields.get(IMPERSONATED));
    if let Some(value) = named {
        let Some(Kind::StringValue(name)) = &value.kind else { return Err(Denied::NoText) };
        return Ok(name.parse()?);
    }
    match SigningRequest::name(request.csr.as_bytes())? {
        Some(name) => Ok(name.parse()?),
        None => Ok(caller.identity.clone()),
    }
}

/// One call's method, for tonic.
struct Create<'a> {
    desk: &'a Desk,
    caller: &'a Caller,
    /// Set when the message has been read.
    read: &'a AtomicBool,
}

impl<'a> UnaryService<IstioCertificateRequest> for Create<'a> {
    type Response = IstioCertificateResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<IstioCertificateResponse>, Status>> + Send + 'a>>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        self.read.store(true, Relaxed);
        let (desk, caller) = (self.desk, self.caller);
        Box::pin(async move { desk.create(caller, request.into_inner()).await.map(Response::new) })
    }
}
