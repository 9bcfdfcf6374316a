//! A client that sends bytes, and reads answers of HTTP/1.1 as they come.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::observed::{Observed, shown};

/// How long anything may take that is under way.
const PATIENCE: Duration = Duration::from_secs(10);
/// Headers of answers that say nothing of what was understood.
const IDLE: [&str; 3] = ["date", "server", "x-envoy-upstream-service-time"];
/// By this the backend's answers are known.
pub(crate) const FROM: &str = "x-from";

/// Why reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// What was waited for came.
    Come,
    /// The connection ended.
    Closed,
    /// Nothing more comes.
    Silent,
}

/// A connection to a proxy.
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) fn open(at: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends; a proxy that has heard enough need not read it.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _unread = self.stream.write_all(bytes);
    }

    /// Reads until there is something in what was read.
    pub(crate) fn until<T>(
        &mut self,
        quiet: Duration,
        mut found: impl FnMut(&mut Vec<u8>, End) -> Option<T>,
    ) -> anyhow::Result<Result<T, End>> {
        let begun = Instant::now();
        self.stream.set_read_timeout(Some(quiet))?;
        let mut space = vec![0; 65_536];
        loop {
            if let Some(found) = found(&mut self.read, End::Come) {
                return Ok(Ok(found));
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "it does not end: {}", shown(&self.read));
            let end = match self.stream.read(&mut space) {
                Ok(0) => End::Closed,
                Ok(count) => {
                    self.read.extend_from_slice(&space[..count]);
                    continue;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => End::Silent,
                Err(_) => End::Closed,
            };
            return Ok(found(&mut self.read, end).ok_or(end));
        }
    }

    /// The next answer.
    pub(crate) fn answer(&mut self, is_head: bool, quiet: Duration) -> anyhow::Result<Result<Answer, End>> {
        self.until(quiet, |read, end| {
            let (answer, length) = Answer::read(read, is_head, end == End::Closed)?;
            read.drain(..length);
            Some(answer)
        })
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Its body was in chunks, or whatever came until the end.
    framing: &'static str,
}

impl Answer {
    /// The first answer in bytes, and its length.
    fn read(bytes: &[u8], is_head: bool, is_end: bool) -> Option<(Self, usize)> {
        let (lines, head) = head(bytes)?;
        let status: u16 = std::str::from_utf8(lines.first()?.get(9..12)?).ok()?.parse().ok()?;
        let headers: Vec<_> = lines.iter().skip(1).map(|line| field(line)).collect();
        let value = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice());
        let rest = bytes.get(head..)?;
        let is_bare = is_head || status < 200 || matches!(status, 204 | 304);
        let (body, length, framing) = if is_bare {
            (Vec::new(), 0, "no body")
        } else if value("transfer-encoding").is_some() {
            let (body, length) = chunks(rest)?;
            (body, length, "chunks")
        } else if let Some(length) = value("content-length") {
            match std::str::from_utf8(length).ok().and_then(|length| length.parse().ok()) {
                Some(length) => (rest.get(..length)?.to_vec(), length, "body"),
                None => (Vec::new(), rest.len(), "a length that is none"),
            }
        } else if is_end {
            (rest.to_vec(), rest.len(), "body until the end")
        } else {
            return None;
        };
        Some((Self { status, headers, body, framing }, head + length))
    }

    /// What is to be compared: of the proxy's own answers the status, of the backend's everything.
    pub(crate) fn note(&self, observed: &mut Observed) {
        let is_backends = self.headers.iter().any(|(name, _)| name == FROM);
        observed.note(format!("{}{}", self.status, if is_backends { " of the backend" } else { "" }));
        let mut headers = self.headers.clone();
        headers.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, value) in headers {
            let is_told = if is_backends {
                name != FROM && !IDLE.contains(&name.as_str())
            } else {
                matches!(name.as_str(), "connection" | "location" | "upgrade" | "allow")
            };
            if is_told {
                observed.note([b"< ", name.as_bytes(), b": ", &value].concat());
            }
        }
        if is_backends {
            observed.note([b"< ", self.framing.as_bytes(), b" ", &self.body].concat().trim_ascii_end());
        }
    }
}

/// The lines of a head, and its length.
pub(crate) fn head(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let lines = bytes.get(..end)?.split(|byte| *byte == b'\n');
    Some((lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect(), end + 4))
}

/// Name, in lower case, and value.
pub(crate) fn field(line: &[u8]) -> (String, Vec<u8>) {
    let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let name = line[..at].escape_ascii().to_string().to_ascii_lowercase();
    (name, line.get(at + 1..).unwrap_or_default().trim_ascii().to_vec())
}

/// A body in chunks with its trailers, which are shown behind it, and its length.
pub(crate) fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    let line = |at: usize| {
        let length = bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        Some((bytes.get(at..at + length)?, at + length + 2))
    };
    loop {
        let (size, begin) = line(at)?;
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), 16).ok()?;
        if size == 0 {
            at = begin;
            break;
        }
        body.extend_from_slice(bytes.get(begin..begin + size)?);
        at = begin + size + 2;
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        if trailer.is_empty() {
            return Some((body, at));
        }
        body.extend_from_slice(&[b" trailer ", trailer].concat());
    }
}

#[test]
fn answers_are_read_to_their_end_and_no_further() {
    for (bytes, is_head, is_end, want) in [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP".as_slice(), false, false, Some((200, "ok", 40))),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", true, false, Some((200, "", 38))),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", false, true, None),
        (b"HTTP/1.1 204 No\r\n\r\n", false, false, Some((204, "", 19))),
        (b"HTTP/1.1 200 OK\r\n\r\nall", false, false, None),
        (b"HTTP/1.1 200 OK\r\n\r\nall", false, true, Some((200, "all", 22))),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\na: b\r\n\r\n",
            false,
            false,
            Some((200, "ok trailer a: b", 65)),
        ),
    ] {
        let read = Answer::read(bytes, is_head, is_end);
        let got = read.map(|(answer, length)| (answer.status, String::from_utf8(answer.body).unwrap(), length));
        assert_eq!(got, want.map(|(status, body, length)| (status, body.to_owned(), length)), "{}", shown(bytes));
    }
}
