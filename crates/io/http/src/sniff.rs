//! What a client speaks, by its first bytes.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::timeout,
};

use weir_wire::client_hello::{Asked, asked};

use crate::meter::Meter;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// HTTP/1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
    /// Something else, or it waits for the server to speak first.
    Other,
    /// It went away.
    Nothing,
}

/// What an HTTP/2 client begins with. RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest first line of a request that is waited for to know it as one.
const LONGEST: usize = 8 << 10;
/// The longest method. The same as that of a request that is served.
const METHOD: usize = weir_request::MAX_METHOD;

/// Which version of HTTP bytes are of, if that can be told yet.
fn version_of(bytes: &[u8]) -> Option<Speech> {
    match (bytes.len() >= PREFACE.len(), bytes.starts_with(PREFACE), PREFACE.starts_with(bytes)) {
        (true, true, _) => Some(Speech::Http2),
        (false, _, true) => None,
        _ => Some(Speech::Http1),
    }
}

/// What bytes are of, if that can be told yet: HTTP/1 is a line with a method, a target and a version.
fn speech_of(bytes: &[u8]) -> Option<Speech> {
    match version_of(bytes) {
        None => None,
        Some(Speech::Http1) => {
            let is_of_a_method = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-' || *byte == b'_';
            let method = bytes.iter().take_while(|byte| is_of_a_method(byte)).count();
            let behind = bytes.get(method);
            if method > METHOD || (method == 0 && behind.is_some()) || behind.is_some_and(|byte| *byte != b' ') {
                return Some(Speech::Other);
            }
            // However the bytes are cut: what is behind the longest line is not looked at.
            let Some(end) = bytes.iter().take(LONGEST).position(|byte| *byte == b'\n') else {
                return (bytes.len() >= LONGEST).then_some(Speech::Other);
            };
            let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
            let is_http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
            Some(if is_http { Speech::Http1 } else { Speech::Other })
        }
        Some(other) => Some(other),
    }
}

/// Waits for what a client of HTTP begins with.
pub(crate) async fn version<Io: AsyncRead + Unpin>(
    io: &mut Io,
    meter: &Rc<Meter>,
    patience: Duration,
) -> (Speech, Bytes) {
    let mut read = Vec::new();
    let reading = poll_fn(|cx| {
        if meter.poll_ending(cx).is_some() {
            return Poll::Ready(Speech::Nothing);
        }
        poll_speech(io, cx, &mut read, version_of)
    });
    let speech = timeout(patience, reading).await.unwrap_or(Speech::Nothing);
    // Half a preface is for a parser to refuse.
    let speech = if speech == Speech::Other { Speech::Http1 } else { speech };
    (speech, read.into())
}

/// Waits a short time for a client to say what it speaks. One that says nothing expects the server to speak first.
pub(crate) async fn sniff<Io: AsyncRead + Unpin>(io: &mut Io, patience: Duration) -> (Speech, Bytes) {
    let mut read = Vec::new();
    let reading = poll_fn(|cx| poll_speech(io, cx, &mut read, speech_of));
    let speech = timeout(patience, reading).await.unwrap_or(Speech::Other);
    (speech, read.into())
}

/// Waits for a client of TLS to say which host it asks for. One that says nothing for that long, or goes away, asks for none.
pub(crate) async fn name<Io: AsyncRead + Unpin>(
    io: &mut Io,
    meter: &Rc<Meter>,
    patience: Duration,
) -> (Option<Box<str>>, Bytes) {
    let mut read = Vec::new();
    let reading = poll_fn(|cx| {
        if meter.poll_ending(cx).is_some() {
            return Poll::Ready(None);
        }
        poll_first(io, cx, &mut read, asked)
    });
    let host = match timeout(patience, reading).await {
        Ok(Some(Asked::Host(host))) => Some(host),
        Ok(Some(Asked::Nothing) | None) | Err(_) => None,
    };
    (host, read.into())
}

fn poll_speech<Io: AsyncRead + Unpin>(
    io: &mut Io,
    cx: &mut Context<'_>,
    read: &mut Vec<u8>,
    judge: impl Fn(&[u8]) -> Option<Speech>,
) -> Poll<Speech> {
    // What it has said when it says no more is all.
    let ended = |read: &[u8]| if read.is_empty() { Speech::Nothing } else { Speech::Other };
    poll_first(io, cx, read, judge).map(|told| told.unwrap_or_else(|| ended(read)))
}

/// Reads until something can be told; nothing if the client goes away, or says no more.
fn poll_first<Io: AsyncRead + Unpin, T>(
    io: &mut Io,
    cx: &mut Context<'_>,
    read: &mut Vec<u8>,
    judge: impl Fn(&[u8]) -> Option<T>,
) -> Poll<Option<T>> {
    loop {
        let mut space = [0; 2_048];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut *io).poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => {
                read.clear();
                return Poll::Ready(None);
            }
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(None),
            Poll::Ready(Ok(())) => read.extend_from_slice(buf.filled()),
        }
        if let Some(told) = judge(read) {
            return Poll::Ready(Some(told));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_known_once_does_not_change(
            start in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM", "P", "GET ", "EHLO"]),
            rest in prop::collection::vec(prop::sample::select(b"GETPRI */.012\r\nSM\0x".to_vec()), 0..60),
            cut in 0_usize..80,
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            let before = &bytes[..cut.min(bytes.len())];
            for judge in [version_of, speech_of] {
                if let Some(known) = judge(before) {
                    prop_assert_eq!(judge(&bytes), Some(known));
                }
            }
        }
    }

    #[test]
    fn what_is_spoken_is_known_by_its_first_bytes() {
        let long = [b"GET /".as_slice(), &[b'a'; LONGEST]].concat();
        for (bytes, version, speech) in [
            (b"".as_slice(), None, None),
            (b"P", None, None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Speech::Http2), Some(Speech::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", Some(Speech::Http2), Some(Speech::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Some(Speech::Http1), Some(Speech::Other)),
            (b"G", Some(Speech::Http1), None),
            (b"GET / HT", Some(Speech::Http1), None),
            (b"GET / HTTP/1.1\r\n", Some(Speech::Http1), Some(Speech::Http1)),
            (b"M-SEARCH * HTTP/1.1\r\n", Some(Speech::Http1), Some(Speech::Http1)),
            (b"GET / HTTP/1.0\n", Some(Speech::Http1), Some(Speech::Http1)),
            (b"EHLO me\r\n", Some(Speech::Http1), Some(Speech::Other)),
            (b"\x16\x03\x01", Some(Speech::Http1), Some(Speech::Other)),
            (b"get / HTTP/1.1\r\n", Some(Speech::Http1), Some(Speech::Other)),
            (&long, Some(Speech::Http1), Some(Speech::Other)),
        ] {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            assert_eq!(version_of(bytes), version, "{text:?}");
            assert_eq!(speech_of(bytes), speech, "{text:?}");
        }
    }
}
