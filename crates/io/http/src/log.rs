//! What is noted of a request while it is under way. When it is dropped, the request has ended, however that came about.

use std::{
    borrow::Cow,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, Uri};
use weir_balance::{Chosen, Outcome, Shared, Slot};

use crate::{
    around::Around,
    cluster::{Cluster, Upstream},
    grpc::{self, Messages},
    meter::Ending,
    record::{Call, Flag, Flags, Protocol, Record, Times},
    serve::Talk,
    upload::Source,
};

/// What is noted of a request.
pub(crate) struct Log<A: Around> {
    pub(crate) talk: Rc<Talk<A>>,
    span: Option<A::Span>,
    started: Instant,
    protocol: Protocol,
    method: Method,
    target: Uri,
    pub(crate) authority: HeaderValue,
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    pub(crate) details: Cow<'static, str>,
    pub(crate) failure: Option<Box<str>>,
    pub(crate) route: Option<Box<str>>,
    pub(crate) attempts: u32,
    pub(crate) source: Option<Rc<Source>>,
    sent: Option<Duration>,
    answered: Option<Duration>,
    pub(crate) received: u64,
    pub(crate) written: u64,
    cluster: Option<Rc<Cluster<A>>>,
    upstream: Option<Rc<Upstream<A>>>,
    upstream_protocol: Option<Protocol>,
    /// Its places among the requests of the endpoint and of the service.
    chosen: Option<Chosen>,
    pub(crate) slot: Option<Slot<Shared>>,
    pub(crate) is_grpc: bool,
    grpc_status: Option<u32>,
    answers: Messages,
    /// The last attempt was judged already.
    is_judged: bool,
    /// It was asked whether it may go on.
    pub(crate) is_admitted: bool,
    /// Its answer has ended as it should.
    is_complete: bool,
}

impl<A: Around> Log<A> {
    pub(crate) fn new(
        talk: Rc<Talk<A>>,
        span: A::Span,
        (protocol, method, target): (Protocol, Method, Uri),
        authority: HeaderValue,
    ) -> Box<Self> {
        talk.meter.begin();
        Box::new(Self {
            talk,
            span: Some(span),
            started: Instant::now(),
            protocol,
            method,
            target,
            authority,
            status: 0,
            flags: Flags::NONE,
            details: Cow::Borrowed(""),
            failure: None,
            route: None,
            attempts: 0,
            source: None,
            sent: None,
            answered: None,
            received: 0,
            written: 0,
            cluster: None,
            upstream: None,
            upstream_protocol: None,
            chosen: None,
            slot: None,
            is_grpc: false,
            grpc_status: None,
            answers: Messages::default(),
            is_judged: true,
            is_admitted: false,
            is_complete: false,
        })
    }

    pub(crate) fn flag(&mut self, flag: Flag) {
        self.flags = self.flags.with(flag);
    }

    /// It goes to a service.
    pub(crate) fn goes_to(&mut self, cluster: &Rc<Cluster<A>>) {
        self.cluster = Some(Rc::clone(cluster));
    }

    /// It is to be sent to an endpoint.
    pub(crate) fn is_tried(&mut self, upstream: &Rc<Upstream<A>>, chosen: Option<Chosen>) {
        self.attempts += 1;
        self.upstream = Some(Rc::clone(upstream));
        self.chosen = chosen;
        self.is_judged = false;
    }

    /// It is being sent to the endpoint.
    pub(crate) fn is_sent(&mut self, protocol: Protocol) {
        self.upstream_protocol = Some(protocol);
        self.sent = Some(self.started.elapsed());
    }

    /// The endpoint has answered. Gives the time it took.
    pub(crate) fn is_answered(&mut self, headers: &HeaderMap) -> Duration {
        let now = self.started.elapsed();
        self.answered = Some(now);
        self.grpc_status = if self.is_grpc { grpc::status(headers) } else { None };
        now.saturating_sub(self.sent.unwrap_or_default())
    }

    /// The endpoint did this.
    pub(crate) fn judge(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.is_judged, true) {
            return;
        }
        let (Some(cluster), Some(chosen)) = (&self.cluster, &self.chosen) else { return };
        if cluster.policy.balance.outlier.is_none() {
            return;
        }
        let engine = &self.talk.engine;
        engine.current(cluster).balancer.borrow_mut().report(&chosen.name, outcome, engine.now());
    }

    /// The endpoint has answered, with this status. That of a call of gRPC may come at its end.
    pub(crate) fn judge_answer(&mut self, status: u16) {
        match (self.is_grpc && status == 200, self.grpc_status) {
            (true, None) => {}
            (true, Some(grpc)) => self.judge(Outcome::Status(grpc::http_status(grpc))),
            (false, _) => self.judge(Outcome::Status(status)),
        }
    }

    /// Bytes of the answer go to the client.
    pub(crate) fn moved(&mut self, data: &[u8]) {
        self.written = self.written.saturating_add(crate::meter::wide(data.len()));
        if self.is_grpc {
            self.answers.read(data);
        }
    }

    /// The end of the answer goes to the client.
    pub(crate) fn trailed(&mut self, trailers: &HeaderMap) {
        if self.is_grpc
            && let Some(status) = grpc::status(trailers)
        {
            self.grpc_status = Some(status);
            self.judge(Outcome::Status(grpc::http_status(status)));
        }
    }

    /// The client is told this status of gRPC.
    pub(crate) fn told(&mut self, status: u8) {
        self.grpc_status = Some(status.into());
    }

    /// A connection that is not HTTP has got to its endpoint.
    pub(crate) fn opens(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        self.talk.engine.around.opened(&mut span, &self.record());
        self.span = Some(span);
    }

    fn record(&self) -> Record<'_> {
        let (received, requests) = self.source.as_ref().map_or((self.received, 0), |source| source.counts());
        let upstream = self.sent.zip(self.answered).map(|(sent, answered)| answered.saturating_sub(sent));
        Record {
            arrival: &self.talk.arrival,
            protocol: self.protocol,
            upstream_protocol: self.upstream_protocol,
            method: &self.method,
            target: self.target.path_and_query().map_or("", |target| target.as_str()),
            authority: self.authority.to_str().unwrap_or(""),
            status: self.status,
            flags: self.flags,
            details: &self.details,
            failure: self.failure.as_deref(),
            times: Times { total: self.started.elapsed(), sent: self.sent, answered: self.answered, upstream },
            received,
            sent: self.written,
            attempts: self.attempts,
            endpoint: self.upstream.as_ref().map(|upstream| &upstream.endpoint),
            service: self
                .cluster
                .as_ref()
                .and_then(|cluster| cluster.key.as_ref())
                .map(|key| (&key.host, key.port, key.subset.as_deref())),
            route: self.route.as_deref(),
            call: self.is_grpc.then(|| Call { status: self.grpc_status, requests, responses: self.answers.count() }),
        }
    }

    /// All of the answer was given to the client's connection.
    pub(crate) fn completes(&mut self) {
        self.is_complete = true;
    }

    /// It ended in the middle of the answer, and why.
    pub(crate) fn breaks(&mut self, flag: Flag, details: &'static str) {
        self.flag(flag);
        self.details = Cow::Borrowed(details);
        self.judge(Outcome::Failed);
        self.is_complete = true;
    }
}

impl<A: Around> Drop for Log<A> {
    fn drop(&mut self) {
        self.talk.meter.end();
        if let Some(cluster) = &self.cluster {
            cluster.freed.notify_one();
        }
        if !self.is_complete {
            let (flag, details) = match self.talk.meter.ending() {
                Some(Ending::Silent | Ending::Overdue) => (Flag::StreamIdleTimeout, "stream_idle_timeout"),
                Some(Ending::Draining) | None => {
                    (Flag::DownstreamConnectionTermination, "downstream_remote_disconnect")
                }
            };
            self.flags = self.flags.with(flag);
            self.details = Cow::Borrowed(details);
        }
        if let Some(source) = &self.source {
            source.abandon();
        }
        if let Some(span) = self.span.take() {
            self.talk.engine.around.end(span, &self.record());
        }
    }
}
