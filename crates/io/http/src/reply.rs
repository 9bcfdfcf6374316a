//! Answers of our own, in the words that Envoy's users know.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION},
};

use crate::{
    answer::Answer,
    around::{Around, Refusal},
    grpc,
    log::Log,
    record::Flags,
};

/// An answer of our own.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    pub(crate) flags: Flags,
    /// Envoy `RESPONSE_CODE_DETAILS`.
    pub(crate) details: Cow<'static, str>,
    /// The status of gRPC, if it is not the one that stands for the status.
    pub(crate) grpc: Option<u8>,
}

impl Reply {
    pub(crate) fn new(
        status: u16,
        body: impl Into<Bytes>,
        flags: impl Into<Flags>,
        details: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, body: body.into(), flags: flags.into(), details: details.into(), grpc: None }
    }

    /// A request that has no one meaning.
    pub(crate) fn bad_request(details: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "Bad Request", Flags::NONE, details)
    }

    /// Gives it. A call of gRPC is told in its own words.
    pub(crate) fn give<A: Around>(self, mut log: Box<Log<A>>) -> Response<Answer<A>> {
        let Self { status, body, flags, details, grpc: told } = self;
        log.flags = log.flags.and(flags);
        log.details = details;
        if log.is_grpc {
            return give_grpc(log, told.unwrap_or_else(|| grpc::status_of(status)), &body);
        }
        log.status = status;
        let is_text = !body.is_empty();
        let mut response = Response::new(Answer::here(body, log));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if is_text {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        response
    }
}

/// The answer of authorization.
pub(crate) fn refuse<A: Around>(refusal: Refusal, log: Box<Log<A>>) -> Response<Answer<A>> {
    let Refusal { status, body, headers, flags, details } = refusal;
    let mut response = Reply::new(status, String::from(body).into_bytes(), flags, String::from(details)).give(log);
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    response
}

/// Sends the client elsewhere.
pub(crate) fn redirect<A: Around>(status: u16, location: HeaderValue, log: Box<Log<A>>) -> Response<Answer<A>> {
    let mut response = Reply::new(status, Bytes::new(), Flags::NONE, "direct_response").give(log);
    response.headers_mut().insert(LOCATION, location);
    response
}

fn give_grpc<A: Around>(mut log: Box<Log<A>>, status: u8, body: &[u8]) -> Response<Answer<A>> {
    log.status = 200;
    log.told(status);
    let mut response = Response::new(Answer::here(Bytes::new(), log));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(grpc::STATUS, HeaderValue::from(u16::from(status)));
    let message = grpc::message(&String::from_utf8_lossy(body));
    if let Ok(message) = HeaderValue::from_str(&message)
        && !message.is_empty()
    {
        headers.insert("grpc-message", message);
    }
    response
}
