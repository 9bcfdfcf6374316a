//! One attempt to have a request answered by one endpoint.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::time::{Sleep, sleep, timeout};
use weir_balance::{Overflow, Shared, Slot};
use weir_route::Outcome;
use weir_serving::UpstreamTls;

use crate::{
    around::{Around, ConnectError, Speaks},
    cluster::{Client, Cluster, Upstream},
    headers,
    link::{ATTEMPT_COUNT, Link},
    log::Log,
    meter::{Meter, Patience},
    mux::{self, Mux, Ride},
    record::{Flag, Protocol},
    serve::Talk,
    upload::{Source, Upload},
};

/// The head of a request as it is to be sent, as often as need be.
pub(crate) struct Head {
    pub(crate) method: Method,
    /// Path and query alone.
    pub(crate) target: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) authority: HeaderValue,
    /// The protocol to change to.
    pub(crate) upgrade: Option<HeaderValue>,
    pub(crate) client: Client,
    /// The stream of a client of HTTP/2 that is to become a tunnel. RFC 8441.
    pub(crate) tunnel: Option<OnUpgrade>,
    pub(crate) source: Option<Rc<Source>>,
    /// Its body, if that is no client's.
    pub(crate) body: Option<Bytes>,
}

/// An answer that has begun.
pub(crate) enum Got<A: Around> {
    Link(Response<()>, Box<Link<A::Io>>),
    Ride(Response<Incoming>, Ride),
}

impl<A: Around> Got<A> {
    pub(crate) fn head(&self) -> (StatusCode, &HeaderMap) {
        match self {
            Self::Link(answer, _) => (answer.status(), answer.headers()),
            Self::Ride(answer, _) => (answer.status(), answer.headers()),
        }
    }
}

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection.
    Connect(Box<str>),
    /// No connection in time.
    ConnectTimeout(Box<str>),
    /// A circuit breaker.
    Overflow(Overflow),
    /// The endpoint did nothing with it.
    Refused,
    /// The connection ended, and nothing of the request had been sent.
    NotSent,
    /// A connection that had been used before ended without a word: it may have been closed before the request came.
    Stale,
    /// The connection ended.
    Ended,
    /// The endpoint reset the stream.
    Reset,
    /// The endpoint's bytes are no HTTP.
    Protocol,
    /// The client's body broke off, or was none.
    Client(Flag),
    /// The time of the attempt is over.
    TryTimeout,
    /// The time of the request is over.
    Timeout,
}

impl Failure {
    /// What a policy of retries knows it as. What it never sends again, it does not know.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Connect(_) | Self::ConnectTimeout(_) => Some(Outcome::ConnectFailure),
            Self::Refused => Some(Outcome::RefusedStream),
            Self::NotSent => Some(Outcome::ResetBeforeRequest),
            Self::Stale | Self::Ended | Self::Reset | Self::Protocol => Some(Outcome::Reset),
            Self::TryTimeout => Some(Outcome::TryTimeout),
            Self::Overflow(_) | Self::Client(_) | Self::Timeout => None,
        }
    }

    pub(crate) fn flag(&self) -> Flag {
        match self {
            Self::Connect(_) | Self::ConnectTimeout(_) => Flag::UpstreamConnectionFailure,
            Self::Overflow(_) => Flag::UpstreamOverflow,
            Self::NotSent | Self::Stale | Self::Ended => Flag::UpstreamConnectionTermination,
            Self::Refused | Self::Reset => Flag::UpstreamRemoteReset,
            Self::Protocol => Flag::UpstreamProtocolError,
            Self::Client(flag) => *flag,
            Self::TryTimeout | Self::Timeout => Flag::UpstreamRequestTimeout,
        }
    }

    /// As Envoy calls it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Connect(_) => "remote connection failure",
            Self::ConnectTimeout(_) => "connection timeout",
            Self::Overflow(_) => "overflow",
            Self::NotSent | Self::Stale | Self::Ended => "connection termination",
            Self::Refused => "remote refused stream reset",
            Self::Reset => "remote reset",
            Self::Protocol => "protocol error",
            Self::Client(_) => "downstream body",
            Self::TryTimeout | Self::Timeout => "timeout",
        }
    }

    /// Why there is no connection.
    pub(crate) fn transport(&self) -> Option<Box<str>> {
        match self {
            Self::Connect(why) | Self::ConnectTimeout(why) => Some(why.clone()),
            Self::Overflow(full) => Some(full.to_string().into()),
            Self::Refused
            | Self::NotSent
            | Self::Stale
            | Self::Ended
            | Self::Reset
            | Self::Protocol
            | Self::Client(_)
            | Self::TryTimeout
            | Self::Timeout => None,
        }
    }

    /// What it says of the endpoint; a breaker says nothing.
    pub(crate) fn health(&self) -> Option<weir_balance::Outcome> {
        match self {
            Self::Overflow(_) | Self::Client(_) => None,
            Self::TryTimeout | Self::Timeout | Self::ConnectTimeout(_) => Some(weir_balance::Outcome::TimedOut),
            Self::Connect(_)
            | Self::Refused
            | Self::NotSent
            | Self::Stale
            | Self::Ended
            | Self::Reset
            | Self::Protocol => Some(weir_balance::Outcome::Failed),
        }
    }
}

/// The times of a request. They begin when all of it has come, as Envoy's do.
pub(crate) struct Watch {
    source: Option<Rc<Source>>,
    request: (Option<Duration>, Option<Pin<Box<Sleep>>>),
    attempt: (Option<Duration>, Option<Pin<Box<Sleep>>>),
    /// No attempt is under way.
    is_between: bool,
}

impl Watch {
    pub(crate) fn new(source: Option<Rc<Source>>, request: Option<Duration>, attempt: Option<Duration>) -> Self {
        // An attempt that may take as long as the request ends with it.
        let attempt = attempt.filter(|attempt| Some(*attempt) != request);
        Self { source, request: (request, None), attempt: (attempt, None), is_between: true }
    }

    /// Another attempt begins.
    pub(crate) fn again(&mut self) {
        (self.attempt.1, self.is_between) = (None, false);
    }

    /// An attempt has ended.
    pub(crate) fn pause(&mut self) {
        self.is_between = true;
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.request.0.is_none() && self.attempt.0.is_none() {
            return Poll::Pending;
        }
        if self.source.as_ref().is_some_and(|source| !source.poll_ended(cx)) {
            return Poll::Pending;
        }
        for ((time, armed), failure) in
            [(&mut self.request, Failure::Timeout), (&mut self.attempt, Failure::TryTimeout)]
        {
            let Some(time) = *time else { continue };
            if self.is_between && matches!(failure, Failure::TryTimeout) {
                continue;
            }
            let armed = armed.get_or_insert_with(|| Box::pin(sleep(time)));
            if armed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(failure);
            }
        }
        Poll::Pending
    }

    /// Waits for something, if time allows.
    pub(crate) async fn during<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Failure> {
        let mut what = pin!(what);
        poll_fn(|cx| match what.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }

    /// What is left of the time of the request, for the rest of its answer.
    pub(crate) fn rest(self) -> Option<Pin<Box<Sleep>>> {
        self.request.1
    }
}

/// One attempt: whose, where.
pub(crate) struct Attempt<'a, A: Around> {
    pub(crate) talk: &'a Talk<A>,
    pub(crate) cluster: &'a Cluster<A>,
    pub(crate) upstream: &'a Rc<Upstream<A>>,
    pub(crate) head: &'a Head,
    /// Which it is, from 1.
    pub(crate) number: u32,
}

/// How long a request waits for a connection of its worker's before it looks whether another worker has given one back.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl<A: Around> Attempt<'_, A> {
    /// Makes it.
    pub(crate) async fn make(&self, log: Option<&mut Log<A>>, watch: &mut Watch) -> Result<Got<A>, Failure> {
        // An upgrade of HTTP/1.1 has no way through HTTP/2.
        let is_http2 = self.head.upgrade.is_none() && self.cluster.is_http2(&self.upstream.endpoint, self.head.client);
        if is_http2 { self.ride(log, watch).await } else { self.link(log, watch).await }
    }

    async fn link(&self, log: Option<&mut Log<A>>, watch: &mut Watch) -> Result<Got<A>, Failure> {
        let mut link = match self.upstream.take() {
            Some(link) => link,
            // Rare, and large: the future of each request would have room for it.
            None => Box::pin(self.open(watch)).await?,
        };
        let before = link.bytes();
        if let Some(log) = log {
            log.is_sent(Protocol::Http11);
        }
        match link.send((self.head, self.number), self.upload(), |cx| watch.poll(cx)).await? {
            Ok(answer) => Ok(Got::Link(answer, link)),
            Err(error) => {
                let (read, written) = link.bytes();
                let came = read != before.0;
                Err(match () {
                    () if written == before.1 => Failure::NotSent,
                    () if !came && link.rested.is_some() => Failure::Stale,
                    () if came && error.is_malformed() => Failure::Protocol,
                    () => Failure::Ended,
                })
            }
        }
    }

    async fn ride(&self, log: Option<&mut Log<A>>, watch: &mut Watch) -> Result<Got<A>, Failure> {
        let ride = match self.upstream.mux() {
            Some(ride) => ride,
            None => Box::pin(self.board(watch)).await?,
        };
        if let Some(log) = log {
            log.is_sent(Protocol::Http2);
        }
        match watch.during(ride.send(self.request2())).await? {
            mux::Sent::Answer(answer) => Ok(Got::Ride(answer, ride)),
            mux::Sent::Back => Err(Failure::NotSent),
            mux::Sent::Refused => Err(Failure::Refused),
            mux::Sent::Reset(h2::Reason::NO_ERROR) => Err(Failure::Ended),
            mux::Sent::Reset(_) => Err(Failure::Reset),
            mux::Sent::Broken => Err(Failure::Ended),
        }
    }

    /// A connection, new or become free while it was waited for.
    async fn open(&self, watch: &mut Watch) -> Result<Box<Link<A::Io>>, Failure> {
        let _pending = self.cluster.breaker.pending().map_err(Failure::Overflow)?;
        loop {
            if let Some(link) = self.upstream.take() {
                return Ok(link);
            }
            match self.slot() {
                Some(slot) => return self.connect_link(slot, watch).await,
                None => self.wait(watch).await?,
            }
        }
    }

    fn slot(&self) -> Option<Slot<Shared>> {
        let breaker = &self.cluster.breaker;
        breaker.connection().ok().or_else(|| self.cluster.evict().then(|| breaker.connection().ok()).flatten())
    }

    async fn wait(&self, watch: &mut Watch) -> Result<(), Failure> {
        let freed = timeout(LOOK_AGAIN, self.cluster.freed.notified());
        // Whether it was told or has waited, it looks again.
        watch.during(freed).await.map(|_| ())
    }

    async fn connect_link(&self, slot: Slot<Shared>, watch: &mut Watch) -> Result<Box<Link<A::Io>>, Failure> {
        let io = self.connect(Speaks::Http1, watch).await?;
        let engine = &self.talk.engine;
        let room = (&engine.scratch, engine.settings.head_bytes);
        Ok(Box::new(Link::new(io, self.meter(), self.cluster.uses(), slot, room)))
    }

    /// A place on a connection of HTTP/2, new or made while it was waited for.
    async fn board(&self, watch: &mut Watch) -> Result<Ride, Failure> {
        let _pending = self.cluster.breaker.pending().map_err(Failure::Overflow)?;
        let _opening = watch.during(self.upstream.opening.lock()).await?;
        loop {
            if let Some(ride) = self.upstream.mux() {
                return Ok(ride);
            }
            let Some(slot) = self.slot() else {
                self.wait(watch).await?;
                continue;
            };
            let mux = self.connect_mux(slot, watch).await?;
            let ride = mux.board().ok_or(Failure::Refused)?;
            self.upstream.add_mux(mux);
            return Ok(ride);
        }
    }

    async fn connect_mux(&self, slot: Slot<Shared>, watch: &mut Watch) -> Result<Rc<Mux>, Failure> {
        let io = self.connect(Speaks::Http2, watch).await?;
        let engine = &self.talk.engine;
        let most = self.cluster.policy.http.max_streams.map_or(u32::MAX, std::num::NonZeroU32::get);
        let head_bytes = u32::try_from(engine.settings.head_bytes).unwrap_or(u32::MAX);
        let clock = Rc::clone(&engine.clock);
        let made = Mux::new(io, self.meter(), clock, (self.cluster.uses(), most), slot, head_bytes);
        let limit = self.cluster.policy.tcp.connect_timeout;
        match watch.during(timeout(limit, made)).await? {
            Ok(Ok(mux)) => Ok(mux),
            Ok(Err(error)) => Err(Failure::Connect(error.to_string().into())),
            Err(_) => Err(Failure::ConnectTimeout(format!("no HTTP/2 within {limit:?}").into())),
        }
    }

    async fn connect(&self, speaks: Speaks, watch: &mut Watch) -> Result<A::Io, Failure> {
        let limit = self.cluster.policy.tcp.connect_timeout;
        let Talk { engine, arrival, .. } = self.talk;
        let connecting = engine.around.connect(&self.upstream.endpoint, self.cluster.dial(arrival, speaks));
        match watch.during(timeout(limit, connecting)).await? {
            Ok(Ok(io)) => Ok(io),
            Ok(Err(error @ ConnectError::Timeout(_))) => Err(Failure::ConnectTimeout(error.to_string().into())),
            Ok(Err(error @ (ConnectError::Failed(_) | ConnectError::Refused(_)))) => {
                Err(Failure::Connect(error.to_string().into()))
            }
            Err(_) => Err(Failure::ConnectTimeout(ConnectError::Timeout(limit).to_string().into())),
        }
    }

    /// What the engine looks after is the client's connection: an endpoint's lasts as long as its pool lets it.
    fn meter(&self) -> Rc<Meter> {
        let ever = Duration::MAX;
        Meter::new(&self.talk.engine.clock, Patience { head: ever, idle: ever, silence: ever })
    }

    fn upload(&self) -> Upload {
        match (&self.head.source, &self.head.body) {
            (Some(source), _) => source.replay(),
            (None, Some(body)) => Upload::Whole(Some(body.clone())),
            (None, None) => Upload::Empty,
        }
    }

    fn request2(&self) -> Request<Upload> {
        let mut request = Request::new(self.upload());
        *request.method_mut() = self.head.method.clone();
        let mut parts = uri::Parts::default();
        parts.scheme = Some(match &self.cluster.policy.tls {
            UpstreamTls::Own(_) => uri::Scheme::HTTPS,
            UpstreamTls::Mesh | UpstreamTls::Off | UpstreamTls::Refused(_) => uri::Scheme::HTTP,
        });
        parts.authority = self.head.authority.to_str().ok().and_then(|text| text.parse().ok());
        parts.path_and_query = self.head.target.path_and_query().cloned();
        // All three are there: the authority was read when the request came.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        let fields = request.headers_mut();
        *fields = self.head.headers.clone();
        fields.insert(ATTEMPT_COUNT, headers::number(self.number.into()));
        fields.remove(header::HOST);
        fields.remove(header::TRANSFER_ENCODING);
        request
    }
}

/// The body of an answer to a request of which every attempt failed, as Envoy words it.
pub(crate) fn text(failure: &Failure, retried: bool) -> Bytes {
    let retried = if retried { "retried and the latest " } else { "" };
    let mut text = format!(
        "upstream connect error or disconnect/reset before headers. {retried}reset reason: {}",
        failure.reason()
    );
    if let Failure::Connect(why) | Failure::ConnectTimeout(why) = failure {
        text.push_str(", transport failure reason: ");
        text.push_str(why);
    }
    text.into()
}
