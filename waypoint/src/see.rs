//! What is told of each request: metrics, the access log, and the headers that tie them to those of others.

use std::{cell::RefCell, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use rand::Rng;
use weir_http::{Arrival, Protocol, Record};
use weir_model::{Flag, Flags, MetricSettings, Service, Workload};
use weir_telemetry::{
    AccessLog, GrpcRecord, HttpMeter, HttpParty, HttpProtocol, HttpRecord, HttpSecurity, Metrics, TcpSubject,
    UpstreamRecord,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is kept of a request from its begin to its end.
pub(crate) struct Seen {
    at: SystemTime,
    request_id: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
}

/// Tells of requests, for one worker.
pub(crate) struct Seer {
    meter: RefCell<HttpMeter>,
    access: Option<AccessLog>,
    settings: Arc<MetricSettings>,
}

impl Seer {
    pub(crate) fn new(metrics: &Metrics, access: Option<AccessLog>) -> Self {
        Self { meter: RefCell::new(metrics.meter()), access, settings: Arc::default() }
    }

    /// The mesh is another: what was known of the old one is let go.
    pub(crate) fn forget(&self) {
        self.meter.borrow_mut().forget();
    }

    /// A request begins: it has an id from here on.
    pub(crate) fn begin(&self, _: &Arrival, headers: &mut HeaderMap, rng: &mut impl Rng, at: SystemTime) -> Seen {
        if !headers.contains_key(&REQUEST_ID) {
            headers.insert(REQUEST_ID, id(rng));
        }
        Seen {
            at,
            request_id: headers.get(&REQUEST_ID).cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            forwarded_for: headers.get(&FORWARDED_FOR).cloned(),
        }
    }

    /// A request has ended, or a connection that was not HTTP.
    pub(crate) fn end(
        &self,
        seen: Seen,
        record: &Record<'_>,
        service: Option<&Arc<Service>>,
        workload: Option<&Arc<Workload>>,
    ) {
        let source =
            HttpParty { workload: record.arrival.workload.as_ref(), identity: record.arrival.identity.as_ref() };
        let destination = HttpParty { workload, identity: None };
        let security = match record.arrival.identity {
            Some(_) => HttpSecurity::MutualTls,
            None => HttpSecurity::None,
        };
        let flags = flags(record.flags);
        let protocol = match record.protocol {
            Protocol::Http10 => HttpProtocol::Http10,
            Protocol::Http11 => HttpProtocol::Http11,
            Protocol::Http2 => HttpProtocol::Http2,
            Protocol::Tcp => {
                let subject = TcpSubject { source, destination, service, flags, security };
                let counts = self.meter.borrow_mut().connection(&subject, &self.settings);
                counts.opened();
                counts.sent(record.sent);
                counts.received(record.received);
                return counts.closed();
            }
        };
        let cluster = record.service.map(|(host, port, subset)| {
            format!("inbound-vip|{port}|{}|{host}", subset.map_or("http".to_owned(), |subset| format!("http/{subset}")))
        });
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
            flags,
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
            request_headers: None,
            response_headers: None,
            source,
            destination,
            service,
            security,
        };
        self.meter.borrow_mut().count(&line, &self.settings);
        if let Some(access) = &self.access {
            access.log_request(&line);
        }
    }
}

/// A random UUID, version 4. RFC 9562 §5.4.
fn id(rng: &mut impl Rng) -> HeaderValue {
    let bits = rng.random::<u128>();
    let bits = bits & !(0xf000_u128 << 64) & !(0xc000_u128 << 48) | 0x4000_u128 << 64 | 0x8000_u128 << 48;
    let hex = format!("{bits:032x}");
    let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// The same flags in the mesh's words.
fn flags(of: weir_http::Flags) -> Flags {
    use weir_http::Flag as Theirs;
    let mut flags = Flags::NONE;
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
