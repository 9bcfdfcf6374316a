//! Answers: objects, and refusals as `Status`.

use std::io;

use bytes::Bytes;
use http::{Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{Either, Full, channel::Channel};
use serde_json::{Value, json};

/// The body of an answer: whole, or a watch.
pub(crate) type Body = Either<Full<Bytes>, Channel<Bytes, io::Error>>;

/// Why a request is refused, as a real server would say it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    reason: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    pub(crate) fn not_found(plural: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{plural} {name:?} not found"))
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn gone() -> Self {
        Self::new(410, "Expired", "too old resource version: the history before it has been compacted")
    }

    pub(crate) fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

/// An answer with a JSON body.
pub(crate) fn json(code: u16, value: &Value) -> Response<Body> {
    respond(code, "application/json", value.to_string().into())
}

/// The answer of a server that has no handler for a path: no `Status`.
pub(crate) fn page_not_found() -> Response<Body> {
    respond(404, "text/plain; charset=utf-8", Bytes::from_static(b"404 page not found\n"))
}

fn respond(code: u16, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    answer
}

/// The answer that is a watch.
pub(crate) fn stream(channel: Channel<Bytes, io::Error>) -> Response<Body> {
    let mut answer = Response::new(Either::Right(channel));
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}
