//! One request and its answer.

use std::{rc::Rc, sync::Arc};

use http::{
    HeaderValue, Method, Request, Response, Uri, Version,
    header::{HOST, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING},
    request::Parts,
    uri::{PathAndQuery, Scheme},
};
use hyper::{
    body::{Body, Incoming},
    ext::Protocol as Protocol2,
    upgrade::OnUpgrade,
};
use rand::Rng;
use tokio::time::sleep;
use weir_model::Port;
use weir_request::{Header, MAX_HEADERS, Parts as Read, Request as Asked};
use weir_route::{Abort, Action, CorsAnswer};
use weir_serving::Host;

use crate::{
    answer::Answer,
    around::{Admission, Around, Edits, Later, QueryEdit, Refusal, Snapshot, Target},
    attempt::Head,
    cluster::{Client, Cluster, KeyOf},
    forward::forward,
    grpc, headers,
    journey::{Journey, nowhere},
    log::Log,
    mirror,
    record::{Flag, Flags, Protocol},
    reply::{self, Reply},
    serve::Talk,
    upload::Source,
};

/// What stands in the way of a request.
enum Stop {
    Reply(Reply),
    Refuse(Refusal),
    /// It is refused so unless something changes by the end of this.
    Wait(Later, Refusal),
    /// Its head is to be changed before it is routed.
    Change(Edits),
}

/// Answers a request.
pub(crate) async fn exchange<A: Around>(
    talk: Rc<Talk<A>>,
    request: Request<Incoming>,
    client: Client,
) -> Response<Answer<A>> {
    let (mut parts, body) = request.into_parts();
    let objection = objection(&talk, &parts, client);
    let upgrade = headers::clean_request(&mut parts.headers, parts.version);
    let tunnel = tunnel(&mut parts, &talk);
    let (upgrade, tunnel) = tunnel.map_or((upgrade, None), |(protocol, tunnel)| (Some(protocol), Some(tunnel)));
    let authority = headers::authority(&parts.uri, &parts.headers);
    let span = talk.engine.around.begin(&talk.arrival, &mut parts.headers);
    let protocol = match parts.version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_10 => Protocol::Http10,
        _ => Protocol::Http11,
    };
    let named = authority.clone().unwrap_or_else(|_| HeaderValue::from_static(""));
    let noted = (protocol, parts.method.clone(), parts.uri.clone());
    let mut log = Log::new(Rc::clone(&talk), span, noted, named);
    log.is_grpc = grpc::is_grpc(&parts.headers);
    if let Some(reply) = objection {
        let response = reply.give(log);
        return if client == Client::Http1 { close(response) } else { response };
    }
    let authority = match authority {
        Ok(authority) => authority,
        Err(why) => return Reply::bad_request(why).give(log),
    };
    if parts.headers.len() > MAX_HEADERS {
        return Reply::new(431, "", Flags::NONE, "too_many_headers").give(log);
    }
    let snapshot = talk.engine.around.snapshot();
    let host = talk.host(&snapshot);
    let mut has_waited = false;
    let journey = loop {
        match plan(&talk, host.as_ref(), &parts, &log) {
            Ok(journey) => break journey,
            Err(Stop::Reply(reply)) => return reply.give(log),
            Err(Stop::Refuse(refusal)) => return reply::refuse(refusal, log),
            Err(Stop::Wait(_, refusal)) if has_waited => return reply::refuse(refusal, log),
            Err(Stop::Wait(until, _)) => {
                until.await;
                has_waited = true;
            }
            Err(Stop::Change(edits)) => {
                if let Err(why) = change(&mut parts, edits) {
                    return Reply::bad_request(why).give(log);
                }
                log.is_admitted = true;
            }
        }
    };
    log.route = journey.name();
    let source = (!body.is_end_stream()).then(|| Source::new(body, talk.engine.settings.retry_bytes, log.is_grpc));
    log.source = source.clone();
    let target = journey.target.clone();
    let head = Box::new(Head {
        target: only_path(parts.uri, target),
        method: parts.method,
        headers: parts.headers,
        authority,
        upgrade,
        client,
        tunnel,
        source,
        body: None,
    });
    let mut response = go(&talk, &snapshot, &journey, head, log).await;
    journey.dress(response.headers_mut());
    response
}

/// Makes of a client's wish for a tunnel in HTTP/2 what it is in HTTP/1.1. RFC 8441 §5.
fn tunnel<A: Around>(parts: &mut Parts, talk: &Talk<A>) -> Option<(HeaderValue, OnUpgrade)> {
    let protocol = parts.extensions.remove::<Protocol2>()?;
    let tunnel = parts.extensions.remove::<OnUpgrade>()?;
    parts.method = Method::GET;
    if !parts.headers.contains_key(SEC_WEBSOCKET_KEY) {
        let bytes = std::iter::repeat_with(|| talk.engine.rng().random_range(0..KEY_LETTERS.len()));
        let letters: String = bytes.take(21).filter_map(|at| KEY_LETTERS.chars().nth(at)).collect();
        // 16 bytes in base64, whatever they are: the last letter holds two bits.
        parts.headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&format!("{letters}A==")).ok()?);
    }
    Some((HeaderValue::from_str(protocol.as_str()).ok()?, tunnel))
}

const KEY_LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Why a request is not even looked at: its head, as it came, has no one meaning, or none that is served here.
fn objection<A: Around>(talk: &Talk<A>, parts: &Parts, client: Client) -> Option<Reply> {
    if client == Client::Http1 && parts.headers.contains_key(TRANSFER_ENCODING) {
        if talk.meter.is_framed_twice() {
            return Some(Reply::bad_request("http1.content_length_and_chunked_not_allowed"));
        }
        // RFC 9112 §6.1: what is not understood is not implemented. Nor may it be taken off, for it would be sent on without its name.
        if !headers::is_only_chunked(&parts.headers) {
            return Some(Reply::new(501, "Not Implemented", Flags::NONE, "http1.invalid_transfer_encoding"));
        }
    }
    if client == Client::Http1 && parts.uri.scheme().is_some_and(|of| *of != Scheme::HTTP && *of != Scheme::HTTPS) {
        return Some(Reply::bad_request("http1.invalid_scheme"));
    }
    if is_misspelt(&parts.method) {
        return Some(Reply::bad_request("invalid_method"));
    }
    let protocol = parts.extensions.get::<Protocol2>();
    if parts.method == Method::CONNECT && protocol.is_none_or(|protocol| headers::is_http(protocol.as_str())) {
        return Some(Reply::bad_request("connect_is_not_served"));
    }
    None
}

/// Whether a method is one that everybody knows, but for the case of its letters: no rule that names the one would be about the other, and some servers take it for the same.
fn is_misspelt(method: &Method) -> bool {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
        Method::CONNECT,
        Method::TRACE,
    ];
    let text = method.as_str();
    text.bytes().any(|byte| byte.is_ascii_lowercase())
        && KNOWN.iter().any(|known| known.as_str().eq_ignore_ascii_case(text))
}

/// What is to become of a request, or what stands in its way.
fn plan<'t, A: Around>(
    talk: &Talk<A>,
    host: Option<&'t Arc<Host>>,
    parts: &Parts,
    log: &Log<A>,
) -> Result<Journey<'t>, Stop> {
    let bad = |error: weir_request::RequestError| Stop::Reply(Reply::bad_request(error.to_string()));
    // The host is no header of a request, to rules: it is its authority.
    let fields = parts.headers.iter().filter(|(name, _)| **name != HOST);
    let fields: Vec<Header<'_>> =
        fields.map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes() }).collect();
    let read = Read {
        method: parts.method.as_str(),
        scheme: "http",
        authority: log.authority.to_str().unwrap_or_default(),
        target: parts.uri.path_and_query().map_or("", PathAndQuery::as_str),
        headers: &fields,
    };
    let request = Asked::read(read, talk.engine.settings.normalization).map_err(bad)?;
    if !log.is_admitted {
        match talk.engine.around.admit(&talk.arrival, host.map(|host| &**host), &request) {
            Admission::Pass(edits) if edits.are_none() => {}
            Admission::Pass(edits) => return Err(Stop::Change(edits)),
            Admission::Answer(refusal) => return Err(Stop::Refuse(*refusal)),
            Admission::Later(until, refusal) => return Err(Stop::Wait(until, *refusal)),
        }
    }
    if let Some(why) = host.and_then(|host| host.refused.as_ref()) {
        return Err(Stop::Reply(Reply::new(503, why.to_string(), Flag::NoRoute, "configuration_refused")));
    }
    let table = host.map(|host| &*host.http);
    let port = port_of(talk);
    Journey::plan(table, &request, (&talk.arrival, port), &mut *talk.engine.rng()).map_err(Stop::Reply)
}

/// A port no rule is about.
const ANY: Port = match Port::new(u16::MAX) {
    Some(port) => port,
    None => panic!("it is not zero"),
};

/// The port that was asked for.
fn port_of<A: Around>(talk: &Talk<A>) -> Port {
    match &talk.arrival.target {
        Target::Service { port, .. } => *port,
        // No rule is about a pod's own port.
        Target::Pod { address } => Port::new(address.port()).unwrap_or(ANY),
    }
}

/// Does with a request what its rule says.
async fn go<A: Around>(
    talk: &Rc<Talk<A>>,
    snapshot: &Snapshot,
    journey: &Journey<'_>,
    head: Box<Head>,
    mut log: Box<Log<A>>,
) -> Response<Answer<A>> {
    if let CorsAnswer::Preflight(_) = journey.cors {
        return Reply::new(200, "", Flags::NONE, "cors_preflight").give(log);
    }
    if let Some(delay) = journey.delay() {
        log.flag(Flag::DelayInjected);
        sleep(delay).await;
    }
    match journey.injected.abort {
        Some(Abort::Http(status)) => {
            return Reply::new(status, "fault filter abort", Flag::FaultInjected, "fault_filter_abort").give(log);
        }
        Some(Abort::Grpc(status)) => {
            let mut reply = Reply::new(200, "fault filter abort", Flag::FaultInjected, "fault_filter_abort");
            reply.grpc = Some(status.number());
            log.is_grpc = true;
            return reply.give(log);
        }
        None => {}
    }
    if let Some(reply) = nowhere(&journey.action) {
        return reply.give(log);
    }
    match &journey.action {
        Action::Redirect(redirect) => {
            let location = journey.location.clone();
            let location = location.unwrap_or_else(|| HeaderValue::from_static("/"));
            return reply::redirect(redirect.code(), location, log);
        }
        Action::Respond(response) => {
            let body = response.body().to_vec();
            return Reply::new(response.status(), body, Flags::NONE, "direct_response").give(log);
        }
        Action::Service | Action::Forward(_) | Action::Invalid { .. } | Action::NotFound => {}
    }
    let cluster = match cluster(talk, snapshot, journey) {
        Ok(cluster) => cluster,
        Err(reply) => return reply.give(log),
    };
    if let Some(forward) = journey.forward() {
        mirror::send(talk, snapshot, (forward, port_of(talk)), &head);
    }
    forward(talk, journey, cluster, head, log).await
}

/// Where it goes.
fn cluster<A: Around>(talk: &Talk<A>, snapshot: &Snapshot, journey: &Journey<'_>) -> Result<Rc<Cluster<A>>, Reply> {
    let key = match (&talk.arrival.target, journey.destination()) {
        (Target::Service { port, .. }, Some(to)) => {
            KeyOf { host: &to.host, port: to.port.unwrap_or(*port), subset: to.subset.as_deref() }
        }
        (Target::Service { host, port, .. }, None) => KeyOf { host, port: *port, subset: None },
        (Target::Pod { .. }, _) => return Ok(talk.lone(snapshot.version, &Arc::default())),
    };
    talk.engine.cluster(snapshot, key).map_err(|error| {
        let details = format!("cluster_not_found{{{}}}", error.subset);
        Reply::new(503, error.to_string(), Flag::NoCluster, details)
    })
}

/// Path and query alone: as they came, if nothing changes them.
fn only_path(uri: Uri, changed: Option<PathAndQuery>) -> Uri {
    match (changed, uri.authority()) {
        (None, None) => uri,
        (Some(path), _) => Uri::from(path),
        (None, Some(_)) => uri.into_parts().path_and_query.map(Uri::from).unwrap_or_default(),
    }
}

fn change(parts: &mut Parts, edits: Edits) -> Result<(), &'static str> {
    for (name, value) in edits.headers {
        match value {
            Some(value) => drop(parts.headers.insert(name, value)),
            None => drop(parts.headers.remove(name)),
        }
    }
    let target = match edits.query {
        QueryEdit::None => return Ok(()),
        QueryEdit::To(query) => format!("{}?{query}", parts.uri.path()),
        QueryEdit::Gone => parts.uri.path().to_owned(),
    };
    // The authority was read before, and goes on by itself.
    parts.uri = target.parse().map_err(|_| "a query that is none without its token")?;
    Ok(())
}

/// An answer after which the connection ends.
pub(crate) fn close<A: Around>(mut response: Response<Answer<A>>) -> Response<Answer<A>> {
    response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response
}
