//! `connectionPool`, `outlierDetection`, `tunnel`, `proxyProtocol`, `retryBudget`: how many at once, who is left alone, and how an endpoint is
//! spoken to.

use std::num::NonZeroU32;

use weir_balance::{ErrorCodes, Origins, OutlierDetection, Percent, Period, RetryBudget};

use super::super::scalar::{Remarks, count, duration, legal, percent, period, whole};
use crate::{
    object::{ConnectionPool, HttpVersion, ProxyVersion, TcpKeepalive, TunnelProtocol, TunnelSettings},
    reader::{At, Fields, Reader},
};

const POOL: &[&str] = &["http", "tcp"];
const TCP: &[&str] = &["connectTimeout", "idleTimeout", "maxConnectionDuration", "maxConnections", "tcpKeepalive"];
const KEEPALIVE: &[&str] = &["interval", "probes", "time"];
const HTTP: &[&str] = &[
    "h2UpgradePolicy",
    "http1MaxPendingRequests",
    "http2KeepAlive",
    "http2MaxRequests",
    "idleTimeout",
    "maxConcurrentStreams",
    "maxRequestsPerConnection",
    "maxRetries",
    "useClientProtocol",
];
const OUTLIER: &[&str] = &[
    "baseEjectionTime",
    "consecutive5xxErrors",
    "consecutiveErrors",
    "consecutiveGatewayErrors",
    "consecutiveLocalOriginFailures",
    "interval",
    "maxEjectionPercent",
    "minHealthPercent",
    "outlierDetectionHttpErrorCodes",
    "splitExternalLocalOriginErrors",
];
const TUNNEL: &[&str] = &["protocol", "targetHost", "targetPort"];
const RETRY_BUDGET: &[&str] = &["budgetInterval", "minRetryConcurrency", "percent"];

/// Most statuses that can be errors: all there are.
const MAX_CODES: usize = 500;

/// `connectionPool`.
pub(super) fn connection_pool(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<ConnectionPool> {
    let fields = reader.fields(at, POOL)?;
    let mut pool = ConnectionPool::default();
    if let Some(at) = fields.field("tcp") {
        tcp(reader, &at, &mut pool)?;
    }
    if let Some(at) = fields.field("http") {
        http(reader, remarks, &at, &mut pool)?;
    }
    Some(pool)
}

fn tcp(reader: &mut Reader, at: &At<'_>, pool: &mut ConnectionPool) -> Option<()> {
    let fields = reader.fields(at, TCP)?;
    pool.max_connections = count(reader, fields.field("maxConnections"));
    pool.connect_timeout = period(reader, fields.field("connectTimeout")).map(|(length, _)| length);
    pool.max_connection_duration = period(reader, fields.field("maxConnectionDuration")).map(|(length, _)| length);
    pool.tcp_idle_timeout = duration(reader, fields.field("idleTimeout"));
    if let Some(at) = fields.field("tcpKeepalive") {
        let fields = reader.fields(&at, KEEPALIVE)?;
        pool.keepalive = Some(TcpKeepalive {
            probes: whole(reader, fields.field("probes")).and_then(NonZeroU32::new),
            time: period(reader, fields.field("time")).map(|(length, _)| length),
            interval: period(reader, fields.field("interval")).map(|(length, _)| length),
        });
    }
    Some(())
}

fn http(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>, pool: &mut ConnectionPool) -> Option<()> {
    let fields = reader.fields(at, HTTP)?;
    pool.max_pending = count(reader, fields.field("http1MaxPendingRequests"));
    pool.max_requests = count(reader, fields.field("http2MaxRequests"));
    pool.requests_per_connection = count(reader, fields.field("maxRequestsPerConnection"));
    pool.max_retries = count(reader, fields.field("maxRetries"));
    pool.max_streams = count(reader, fields.field("maxConcurrentStreams"));
    pool.http_idle_timeout = period(reader, fields.field("idleTimeout")).map(|(length, _)| length);
    pool.version = match reader.some_text(fields.field("h2UpgradePolicy")) {
        None | Some(("DEFAULT" | "DO_NOT_UPGRADE", _)) => HttpVersion::OfPort,
        Some(("UPGRADE", _)) => HttpVersion::Http2,
        Some((_, at)) => reader.expected(&at, "\"DEFAULT\", \"DO_NOT_UPGRADE\" or \"UPGRADE\"")?,
    };
    if reader.boolean(fields.field("useClientProtocol")) == Some(true) {
        if pool.version == HttpVersion::Http2 {
            remarks.no_effect(fields.path("h2UpgradePolicy"), "useClientProtocol counts in its place");
        }
        pool.version = HttpVersion::OfClient;
    }
    if let Some(at) = fields.field("http2KeepAlive") {
        let keepalive = reader.fields(&at, &["interval", "timeout"])?;
        let parts = [keepalive.field("interval"), keepalive.field("timeout")];
        for part in parts {
            period(reader, part);
        }
        remarks.unsupported(at.path, "no PING is sent to endpoints; tcpKeepalive finds those that are gone");
    }
    Some(())
}

/// `outlierDetection`. A count of 0 is that kind of error disregarded, a percentage of 0 is not said.
pub(super) fn outlier(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<OutlierDetection> {
    let fields = reader.fields(at, OUTLIER)?;
    let mut outlier = OutlierDetection::default();
    if let Some(errors) = whole(reader, fields.field("consecutive5xxErrors")) {
        outlier.consecutive_5xx = NonZeroU32::new(errors);
    }
    outlier.consecutive_gateway = whole(reader, fields.field("consecutiveGatewayErrors")).and_then(NonZeroU32::new);
    if let Some(at) = fields.field("consecutiveErrors") {
        whole(reader, Some(at.clone()));
        remarks.no_effect(at.path, "it has been replaced by consecutive5xxErrors and consecutiveGatewayErrors");
    }
    let local = whole(reader, fields.field("consecutiveLocalOriginFailures")).and_then(NonZeroU32::new);
    let split = reader.boolean(fields.field("splitExternalLocalOriginErrors")) == Some(true);
    outlier.origins = match (split, local) {
        (true, Some(consecutive_local)) => Origins::Split { consecutive_local },
        (true, None) => Origins::SPLIT,
        (false, _) => Origins::Together,
    };
    if let (false, Some(_)) = (split, local) {
        remarks.no_effect(
            fields.path("consecutiveLocalOriginFailures"),
            "it counts only with splitExternalLocalOriginErrors: true",
        );
    }
    if let Some((length, at)) = period(reader, fields.field("interval")) {
        outlier.interval = legal(reader, &at, Period::new("interval", length))?;
    }
    if let Some((length, at)) = period(reader, fields.field("baseEjectionTime")) {
        outlier.base_ejection = legal(reader, &at, Period::new("base ejection time", length))?;
    }
    if let Some(percent) = percent(reader, fields.field("maxEjectionPercent"), "ejected endpoints")
        && percent != Percent::ZERO
    {
        outlier.max_ejected = percent;
    }
    outlier.min_health = percent(reader, fields.field("minHealthPercent"), "healthy endpoints").unwrap_or_default();
    outlier.codes = codes(reader, &fields)?;
    Some(outlier)
}

fn codes(reader: &mut Reader, fields: &Fields<'_>) -> Option<ErrorCodes> {
    let at = fields.field("outlierDetectionHttpErrorCodes");
    let items = reader.few(at.clone(), "statuses", MAX_CODES);
    let mut codes = Vec::new();
    for at in items {
        let Some(code) = whole(reader, Some(at.clone())) else { continue };
        match u16::try_from(code) {
            Ok(code @ 100..=599) => codes.push(code),
            Ok(_) | Err(_) => reader.expected(&at, "a status, 100 to 599")?,
        }
    }
    let Some(at) = at else { return Some(ErrorCodes::default()) };
    legal(reader, &at, ErrorCodes::new(codes))
}

/// `tunnel`.
pub(super) fn tunnel(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<TunnelSettings> {
    let fields = reader.fields(at, TUNNEL)?;
    let protocol = match reader.some_text(fields.field("protocol")) {
        None | Some(("CONNECT", _)) => TunnelProtocol::Connect,
        Some(("POST", _)) => TunnelProtocol::Post,
        Some((_, at)) => reader.expected(&at, "\"CONNECT\" or \"POST\"")?,
    };
    let host = reader.required(&fields, "targetHost", "the host that it leads to").and_then(|at| {
        let (text, max) = (reader.text(&at)?, 253);
        // It becomes part of a request's head.
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if text.is_empty() || text.len() > max || !text.bytes().all(legal) {
            return reader.expected(&at, "a host, at most 253 bytes");
        }
        Some(text.into())
    });
    let port = reader.required(&fields, "targetPort", "a port, 1 to 65535").and_then(|at| reader.port(&at));
    match protocol {
        TunnelProtocol::Connect => {}
        TunnelProtocol::Post => {
            remarks.unsupported(at.path.clone(), "no forward proxy is asked by POST: nothing is sent to the host");
        }
    }
    Some(TunnelSettings { protocol, host: host?, port: port? })
}

/// `proxyProtocol`.
pub(super) fn proxy_protocol(reader: &mut Reader, at: &At<'_>) -> Option<ProxyVersion> {
    let fields = reader.fields(at, &["version"])?;
    let version = match reader.some_text(fields.field("version")) {
        None | Some(("V1", _)) => ProxyVersion::V1,
        Some(("V2", _)) => ProxyVersion::V2,
        Some((_, at)) => reader.expected(&at, "\"V1\" or \"V2\"")?,
    };
    Some(version)
}

/// `retryBudget`.
pub(super) fn retry_budget(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<RetryBudget> {
    let fields = reader.fields(at, RETRY_BUDGET)?;
    let unsaid = RetryBudget::default();
    let share = percent(reader, fields.field("percent"), "retries");
    let at_least = whole(reader, fields.field("minRetryConcurrency"));
    if let Some(at) = fields.field("budgetInterval") {
        duration(reader, Some(at.clone()));
        remarks.unsupported(at.path, "the budget is that of the requests which are under way");
    }
    Some(RetryBudget { percent: share.unwrap_or(unsaid.percent), at_least: at_least.unwrap_or(unsaid.at_least) })
}
