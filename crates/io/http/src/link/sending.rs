//! A request of HTTP/1.1 as it is written: its head, and its body as that comes. RFC 9112.

use std::{
    error::Error,
    io::{self, IoSlice, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONTENT_LENGTH, COOKIE, HOST, TRAILER, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::{attempt::Head, meter::wide, upload::Upload};

/// `x-envoy-attempt-count`, as Istio has Envoy send it.
pub(crate) const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// Fields of which no value may come behind a body: who reads them there has decided already. RFC 9110 §6.5.1.
const NOT_TRAILED: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    HOST,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
    header::TE,
    TRAILER,
    TRANSFER_ENCODING,
];

/// A buffer larger than this is not kept for the next request.
const KEPT: usize = 4_096;
/// What ends a chunk.
const CHUNK_END: &[u8] = b"\r\n";
/// What ends the last chunk, and the body.
const LAST_END: &[u8] = b"\r\n0\r\n\r\n";

/// How the end of a body is told.
#[derive(Debug)]
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks; these fields may come behind them.
    Chunked(Vec<HeaderName>),
}

/// Why a request was not sent to its end.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The connection.
    Io(io::Error),
    /// Its body broke off, or is not as long as was said.
    Body,
}

/// What is still to be written.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// A head, or the line of a chunk's size, of which `at` bytes were written.
    lines: Vec<u8>,
    at: usize,
    /// A piece of the body.
    piece: Bytes,
    /// What stands behind it.
    tail: &'static [u8],
    body: Option<(Upload, Framing)>,
    is_flushed: bool,
}

impl Sending {
    /// Another request is to be sent.
    pub(super) fn begin(&mut self, head: &Head, number: u32, upload: Upload) {
        let length = upload.size_hint().exact();
        self.lines.clear();
        (self.at, self.is_flushed) = (0, false);
        write_head(&mut self.lines, head, number, length);
        let framing = match length {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked(declared(&head.headers)),
        };
        self.body = if length == Some(0) { None } else { Some((upload, framing)) };
    }

    /// Whether nothing is left to be written.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.is_written() && self.is_flushed
    }

    fn is_written(&self) -> bool {
        self.at == self.lines.len() && self.piece.is_empty() && self.tail.is_empty()
    }

    /// Writes what can be written.
    pub(super) fn poll<Io: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        loop {
            // What comes of the body at once goes along with the head.
            let takes = self.piece.is_empty() && self.tail.is_empty() && self.body.is_some();
            let waits = takes && self.poll_body(cx)?.is_pending();
            if self.is_written() {
                match &self.body {
                    Some(_) if waits => return Poll::Pending,
                    Some(_) => continue,
                    None => {}
                }
                if self.lines.capacity() > KEPT {
                    self.lines = Vec::new();
                    self.at = 0;
                }
                ready!(Pin::new(io).poll_flush(cx)).map_err(Unsent::Io)?;
                self.is_flushed = true;
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write(io, cx)).map_err(Unsent::Io)?;
        }
    }

    fn poll_write<Io: AsyncWrite + Unpin>(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lines = self.lines.get(self.at..).unwrap_or_default();
        let written = if self.piece.is_empty() && self.tail.is_empty() {
            ready!(Pin::new(io).poll_write(cx, lines))?
        } else {
            let parts = [IoSlice::new(lines), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
            let first = parts.iter().position(|part| !part.is_empty()).unwrap_or_default();
            ready!(Pin::new(io).poll_write_vectored(cx, parts.get(first..).unwrap_or_default()))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_lines = written.min(lines.len());
        let of_piece = (written - of_lines).min(self.piece.len());
        self.at += of_lines;
        self.piece.advance(of_piece);
        self.tail = self.tail.get(written - of_lines - of_piece..).unwrap_or_default();
        if self.at == self.lines.len() {
            self.lines.clear();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece of the body, if one is there.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let Some((upload, framing)) = &mut self.body else { return Poll::Ready(Ok(())) };
        let frame = ready!(Pin::new(&mut *upload).poll_frame(cx));
        match frame.transpose().map_err(|_: Box<dyn Error + Send + Sync>| Unsent::Body)?.map(Frame::into_data) {
            Some(Ok(data)) => {
                let is_last = upload.is_end_stream();
                match framing {
                    Framing::Length(left) => {
                        *left = left.checked_sub(wide(data.len())).ok_or(Unsent::Body)?;
                        if is_last && *left > 0 {
                            return Poll::Ready(Err(Unsent::Body));
                        }
                    }
                    Framing::Chunked(_) if data.is_empty() => {
                        self.lines.extend_from_slice(if is_last { b"0\r\n\r\n" } else { b"" });
                    }
                    Framing::Chunked(_) => {
                        // A vector takes all that is written to it.
                        write!(self.lines, "{:x}\r\n", data.len()).map_err(Unsent::Io)?;
                        self.tail = if is_last { LAST_END } else { CHUNK_END };
                    }
                }
                self.piece = data;
                if is_last {
                    self.body = None;
                }
            }
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                match framing {
                    // They cannot be sent: a length was said, and there are no chunks.
                    Framing::Length(0) => {}
                    Framing::Length(_) => return Poll::Ready(Err(Unsent::Body)),
                    Framing::Chunked(declared) => write_trailers(&mut self.lines, declared, &trailers),
                }
                self.body = None;
            }
            None => {
                match framing {
                    Framing::Length(0) => {}
                    Framing::Length(_) => return Poll::Ready(Err(Unsent::Body)),
                    Framing::Chunked(declared) => write_trailers(&mut self.lines, declared, &HeaderMap::new()),
                }
                self.body = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes the head of a request such as HTTP/1.1 has them. Its length is known, or it is sent in chunks.
fn write_head(lines: &mut Vec<u8>, head: &Head, number: u32, length: Option<u64>) {
    let path = head.target.path_and_query().map_or("/", PathAndQuery::as_str);
    for part in [head.method.as_str().as_bytes(), b" ", path.as_bytes(), b" HTTP/1.1\r\n"] {
        lines.extend_from_slice(part);
    }
    field(lines, &HOST, &head.authority);
    let (mut has_cookies, mut says_length) = (false, false);
    for (name, value) in &head.headers {
        // These are said here, as it is sent on.
        let is_own = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, COOKIE, ATTEMPT_COUNT].contains(name);
        has_cookies |= is_own && *name == COOKIE;
        says_length |= is_own && *name == CONTENT_LENGTH;
        if !is_own {
            field(lines, name, value);
        }
    }
    if has_cookies {
        write_cookies(lines, head.headers.get_all(COOKIE).iter());
    }
    field(lines, &ATTEMPT_COUNT, &crate::headers::number(number.into()));
    match length {
        Some(0) if !says_length => {}
        Some(length) => field(lines, &CONTENT_LENGTH, &crate::headers::number(length)),
        None => field(lines, &TRANSFER_ENCODING, &HeaderValue::from_static("chunked")),
    }
    if let Some(upgrade) = &head.upgrade {
        field(lines, &header::CONNECTION, &HeaderValue::from_static("upgrade"));
        field(lines, &header::UPGRADE, upgrade);
    }
    lines.extend_from_slice(b"\r\n");
}

/// Crumbs of HTTP/2 become one field. RFC 9113 §8.2.3.
fn write_cookies<'v>(lines: &mut Vec<u8>, crumbs: impl Iterator<Item = &'v HeaderValue>) {
    let mut before: &[u8] = b"cookie: ";
    for crumb in crumbs {
        lines.extend_from_slice(before);
        lines.extend_from_slice(crumb.as_bytes());
        before = b"; ";
    }
    lines.extend_from_slice(b"\r\n");
}

fn field(lines: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        lines.extend_from_slice(part);
    }
}

/// The fields that a head says will come behind its body.
fn declared(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    let names = names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    names.filter(|name| !NOT_TRAILED.contains(name)).collect()
}

fn write_trailers(lines: &mut Vec<u8>, declared: &[HeaderName], trailers: &HeaderMap) {
    lines.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(name, _)| declared.contains(name)) {
        field(lines, name, value);
    }
    lines.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::*;
    use crate::cluster::Client;

    fn head(method: Method, fields: &[(&'static str, &'static str)]) -> Head {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(line) {
            headers.append(name, value);
        }
        Head {
            method,
            target: Uri::from_static("/a?b"),
            headers,
            authority: HeaderValue::from_static("shop"),
            upgrade: None,
            client: Client::Http2,
            tunnel: None,
            source: None,
            body: None,
        }
    }

    #[test]
    fn a_head_says_once_how_long_its_body_is() {
        let common = "host: shop\r\n";
        for (fields, length, want) in [
            (vec![], Some(0), "x-envoy-attempt-count: 1\r\n\r\n"),
            (vec![("content-length", "0")], Some(0), "x-envoy-attempt-count: 1\r\ncontent-length: 0\r\n\r\n"),
            (vec![("content-length", "9")], Some(5), "x-envoy-attempt-count: 1\r\ncontent-length: 5\r\n\r\n"),
            (vec![], Some(12), "x-envoy-attempt-count: 1\r\ncontent-length: 12\r\n\r\n"),
            (
                vec![("content-length", "9"), ("transfer-encoding", "gzip"), ("host", "b")],
                None,
                "x-envoy-attempt-count: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            ),
            (
                vec![("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("x-envoy-attempt-count", "7")],
                Some(0),
                "x: y\r\ncookie: a=1; b=2\r\nx-envoy-attempt-count: 1\r\n\r\n",
            ),
        ] {
            let mut lines = Vec::new();
            write_head(&mut lines, &head(Method::POST, &fields), 1, length);
            let want = format!("POST /a?b HTTP/1.1\r\n{common}{want}");
            assert_eq!(String::from_utf8(lines).unwrap(), want, "{fields:?} {length:?}");
        }
    }

    #[test]
    fn only_what_was_declared_and_may_comes_behind_a_body() {
        let head = head(Method::POST, &[("trailer", "x-sum, Content-Length"), ("trailer", "x-more,authorization")]);
        let mut trailers = HeaderMap::new();
        for (name, value) in
            [("x-sum", "1"), ("x-more", "2"), ("x-other", "3"), ("content-length", "4"), ("authorization", "5")]
        {
            trailers.insert(name, HeaderValue::from_static(value));
        }
        let mut lines = Vec::new();
        write_trailers(&mut lines, &declared(&head.headers), &trailers);
        assert_eq!(String::from_utf8(lines).unwrap(), "0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n");
    }

    #[test]
    fn a_body_is_as_long_as_was_said() {
        let waker = &mut Context::from_waker(std::task::Waker::noop());
        for (said, want) in [(4, None), (3, Some("body")), (9, Some("body"))] {
            let mut sending = Sending {
                body: Some((Upload::Whole(Some(Bytes::from_static(b"body"))), Framing::Length(said))),
                ..Sending::default()
            };
            let mut written = Vec::new();
            let sent = sending.poll(&mut written, waker);
            let failed = matches!(sent, Poll::Ready(Err(Unsent::Body)));
            assert_eq!(failed, want.is_some(), "{said}: {sent:?}");
            assert_eq!(sending.is_done(), want.is_none(), "{said}");
        }
    }
}
