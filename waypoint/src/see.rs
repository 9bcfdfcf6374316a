//! What is told of each request: metrics, the access log, and spans; and the headers that tie them to those of others.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use rand::Rng;
use weir_http::{Protocol, Record};
use weir_model::{AccessLogging, Flag, Flags, Service, TelemetrySettings, Workload};
use weir_telemetry::{
    AccessLog, GrpcRecord, HttpMeter, HttpParty, HttpProtocol, HttpRecord, HttpSecurity, Metrics, Proxy, Span, SpanLog,
    TcpCounts, TcpSubject, TraceContext, UpstreamRecord,
};

use crate::refusals::Refuser;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is kept of a request from its begin to its end.
pub(crate) struct Seen {
    at: SystemTime,
    settings: Arc<TelemetrySettings>,
    context: TraceContext,
    request_id: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    /// All of them, where a label or a span may ask for one.
    headers: Option<HeaderMap>,
    /// Where a connection that is no HTTP is counted since it got to its endpoint.
    counts: Option<TcpCounts>,
}

/// Where what is told goes.
#[derive(Clone)]
pub(crate) struct Tellers {
    /// The access log, and whether requests are logged of which nothing else is said.
    pub(crate) access: AccessLog,
    pub(crate) logged: bool,
    /// Where spans go; without, there are none, and headers of traces pass as they came.
    pub(crate) spans: Option<SpanLog>,
    /// What spans say of this proxy.
    pub(crate) proxy: Arc<Proxy>,
}

/// Tells of requests, for one worker.
pub(crate) struct Seer {
    meter: RefCell<HttpMeter>,
    tellers: Tellers,
    refuser: Rc<Refuser>,
}

impl Seer {
    pub(crate) fn new(metrics: &Metrics, tellers: Tellers, refuser: Rc<Refuser>) -> Self {
        Self { meter: RefCell::new(metrics.meter()), tellers, refuser }
    }

    /// The mesh is another: what was known of the old one is let go.
    pub(crate) fn forget(&self) {
        self.meter.borrow_mut().forget();
    }

    /// A request begins: it has an id from here on, and a place in a trace if there are traces.
    pub(crate) fn begin(
        &self,
        settings: &Arc<TelemetrySettings>,
        headers: &mut HeaderMap,
        rng: &mut impl Rng,
        at: SystemTime,
    ) -> Seen {
        let traces = self.tellers.spans.as_ref().map(|_| &settings.traces);
        let context = TraceContext::begin(headers, traces, || rng.random());
        context.apply(headers);
        let asked = !settings.metrics.changed.is_empty() || context.is_reported();
        Seen {
            at,
            settings: settings.clone(),
            request_id: headers.get(&REQUEST_ID).cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            forwarded_for: headers.get(&FORWARDED_FOR).cloned(),
            headers: asked.then(|| headers.clone()),
            counts: None,
            context,
        }
    }

    /// A connection that is no HTTP has got to its endpoint: it is counted as open, and its end with the same labels, as Istio's waypoints do.
    pub(crate) fn opened(
        &self,
        seen: &mut Seen,
        record: &Record<'_>,
        service: Option<&Arc<Service>>,
        workload: Option<&Arc<Workload>>,
    ) {
        let counts = self.connection(seen, record, service, workload);
        counts.opened();
        seen.counts = Some(counts);
    }

    fn connection(
        &self,
        seen: &Seen,
        record: &Record<'_>,
        service: Option<&Arc<Service>>,
        workload: Option<&Arc<Workload>>,
    ) -> TcpCounts {
        let subject = TcpSubject {
            source: source(record),
            destination: HttpParty { workload, identity: None },
            service,
            flags: flags(record.flags),
            security: security(record),
        };
        self.meter.borrow_mut().connection(&subject, &seen.settings.metrics)
    }

    /// A request has ended, or a connection that was not HTTP.
    pub(crate) fn end(
        &self,
        seen: &Seen,
        record: &Record<'_>,
        service: Option<&Arc<Service>>,
        workload: Option<&Arc<Workload>>,
    ) {
        self.refuser.look(record);
        let Some(protocol) = protocol(record.protocol) else {
            // One that never got anywhere opens and ends in one.
            let counts = seen.counts.clone().unwrap_or_else(|| {
                let counts = self.connection(seen, record, service, workload);
                counts.opened();
                counts
            });
            counts.sent(record.sent);
            counts.received(record.received);
            return counts.closed();
        };
        let logged = self.is_logged(seen);
        // Only lines and spans name it.
        let named = logged || (self.tellers.spans.is_some() && seen.context.is_reported());
        let cluster = if named { cluster(record) } else { None };
        let upstream = record.attempts > 0 || record.endpoint.is_some();
        let upstream = upstream.then(|| UpstreamRecord {
            host: record.upstream_host(),
            cluster: cluster.as_deref(),
            local: None,
            service_time: record.times.upstream,
            failure: record.failure,
        });
        let line = HttpRecord {
            at: seen.at,
            duration: record.times.total,
            method: record.method.as_str(),
            path: record.target,
            original_path: None,
            authority: Some(record.authority).filter(|authority| !authority.is_empty()),
            protocol,
            grpc: record.call.map(|call| GrpcRecord {
                status: call.status,
                request_messages: call.requests,
                response_messages: call.responses,
            }),
            code: Some(record.status).filter(|status| *status != 0),
            flags: flags(record.flags),
            code_details: Some(record.details).filter(|details| !details.is_empty()),
            termination_details: None,
            bytes_received: record.received,
            bytes_sent: record.sent,
            wire_received: record.received,
            wire_sent: record.sent,
            upstream,
            downstream_local: record.arrival.destination,
            downstream_remote: record.arrival.client,
            forwarded_for: seen.forwarded_for.as_ref().map(HeaderValue::as_bytes),
            user_agent: seen.user_agent.as_ref().map(HeaderValue::as_bytes),
            request_id: seen.request_id.as_ref().map(HeaderValue::as_bytes),
            server_name: None,
            route_name: record.route,
            request_headers: seen.headers.as_ref(),
            response_headers: None,
            source: source(record),
            destination: HttpParty { workload, identity: None },
            service,
            security: security(record),
        };
        self.tell(seen, &line, logged);
    }

    fn is_logged(&self, seen: &Seen) -> bool {
        match seen.settings.access_log {
            AccessLogging::AsStarted => self.tellers.logged,
            AccessLogging::On => true,
            AccessLogging::Off => false,
        }
    }

    fn tell(&self, seen: &Seen, line: &HttpRecord<'_>, logged: bool) {
        self.meter.borrow_mut().count(line, &seen.settings.metrics);
        if logged {
            self.tellers.access.log_request(line);
        }
        if let Some(spans) = &self.tellers.spans
            && let Some(span) = Span::of(line, &seen.context, &seen.settings.traces, &self.tellers.proxy)
        {
            spans.report(span);
        }
    }
}

/// Who asked.
fn source<'r>(record: &Record<'r>) -> HttpParty<'r> {
    HttpParty { workload: record.arrival.workload.as_ref(), identity: record.arrival.identity.as_ref() }
}

fn security(record: &Record<'_>) -> HttpSecurity {
    match record.arrival.identity {
        Some(_) => HttpSecurity::MutualTls,
        None => HttpSecurity::None,
    }
}

/// The version of HTTP; none of a connection that is no HTTP.
fn protocol(of: Protocol) -> Option<HttpProtocol> {
    match of {
        Protocol::Http10 => Some(HttpProtocol::Http10),
        Protocol::Http11 => Some(HttpProtocol::Http11),
        Protocol::Http2 => Some(HttpProtocol::Http2),
        Protocol::Tcp => None,
    }
}

/// As Istio's waypoints call what a request was sent to.
fn cluster(record: &Record<'_>) -> Option<String> {
    let (host, port, subset) = record.service?;
    Some(match subset {
        Some(subset) => format!("inbound-vip|{port}|http/{subset}|{host}"),
        None => format!("inbound-vip|{port}|http|{host}"),
    })
}

/// The same flags in the mesh's words.
fn flags(of: weir_http::Flags) -> Flags {
    use weir_http::Flag as Theirs;
    let mut flags = Flags::NONE;
    if of == weir_http::Flags::NONE {
        return flags;
    }
    for (theirs, own) in [
        (Theirs::NoHealthyUpstream, Flag::NoHealthyUpstream),
        (Theirs::UpstreamConnectionFailure, Flag::UpstreamConnectionFailure),
        (Theirs::UpstreamOverflow, Flag::UpstreamOverflow),
        (Theirs::NoRoute, Flag::NoRouteFound),
        (Theirs::NoCluster, Flag::NoClusterFound),
        (Theirs::UpstreamConnectionTermination, Flag::UpstreamConnectionTermination),
        (Theirs::UpstreamRemoteReset, Flag::UpstreamRemoteReset),
        (Theirs::LocalReset, Flag::LocalReset),
        (Theirs::UpstreamRequestTimeout, Flag::UpstreamRequestTimeout),
        (Theirs::UpstreamRetryLimitExceeded, Flag::UpstreamRetryLimitExceeded),
        (Theirs::DownstreamConnectionTermination, Flag::DownstreamConnectionTermination),
        (Theirs::DownstreamProtocolError, Flag::DownstreamProtocolError),
        (Theirs::UpstreamProtocolError, Flag::UpstreamProtocolError),
        (Theirs::DelayInjected, Flag::DelayInjected),
        (Theirs::FaultInjected, Flag::FaultInjected),
        (Theirs::Unauthorized, Flag::UnauthorizedExternalService),
        (Theirs::DurationTimeout, Flag::DurationTimeout),
        (Theirs::StreamIdleTimeout, Flag::StreamIdleTimeout),
    ] {
        if of.has(theirs) {
            flags.set(own);
        }
    }
    flags
}
