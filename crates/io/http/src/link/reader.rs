//! An answer of HTTP/1.1, read from bytes as they come, however they are cut. RFC 9112.
//!
//! It is strict where laxness would let two readers see two answers: a body is framed in one way or not at all, a length is digits, a line of chunks ends
//! with CR LF, and nothing is folded. What it holds of a peer's bytes is bounded.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::chunks::Chunks;
use crate::headers;

/// The most fields of a head, or of trailers. As hyper has it.
pub(super) const MAX_FIELDS: usize = 100;
/// The most interim answers before the one that counts.
const MAX_INTERIM: u32 = 32;

/// Bytes that are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The head is no head of HTTP/1.
    #[error("the head of the answer is none of HTTP/1: {0}")]
    Head(httparse::Error),
    /// A name or a value is none.
    #[error("a field of the answer is none")]
    Field,
    /// The head is too long.
    #[error("the head of the answer is longer than {0} bytes")]
    TooLong(usize),
    /// Interim answers, and no end of them.
    #[error("more than {MAX_INTERIM} interim answers")]
    Interim,
    /// The length of the body can be read in more than one way. RFC 9112 §6.3.
    #[error("the answer says twice, or in no known way, how long it is")]
    Framing,
    /// The chunks are none. RFC 9112 §7.1.
    #[error("the chunks of the answer are none")]
    Chunk,
    /// What follows the last chunk is no trailers, or too much.
    #[error("the trailers of the answer are none, or too long")]
    Trailers,
}

/// How a body ends. RFC 9112 §6.3.
#[derive(Debug)]
enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// With the last chunk.
    Chunked(Chunks),
    /// With the connection.
    Close,
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// More bytes are needed.
    More,
    /// Some of it.
    Data(Bytes),
    /// What came after the last of it.
    Trailers(HeaderMap),
    /// That was all.
    End,
}

/// Reads the answers of one connection, one after the other.
#[derive(Debug)]
pub struct Reader {
    head_bytes: usize,
    /// The begin of a head that has not come to its end.
    partial: BytesMut,
    interim: u32,
    /// The request was HEAD: whatever the answer says, it has no body.
    is_head: bool,
    framing: Framing,
    keeps_alive: bool,
}

impl Reader {
    /// For a new connection, with heads of at most so many bytes.
    pub fn new(head_bytes: usize) -> Self {
        let framing = Framing::Length(0);
        Self { head_bytes, partial: BytesMut::new(), interim: 0, is_head: false, framing, keeps_alive: true }
    }

    /// The answer to another request comes next.
    pub fn begin(&mut self, is_head: bool) {
        (self.is_head, self.interim) = (is_head, 0);
        self.partial.clear();
    }

    /// The head of the answer, if it has come to its end. Interim answers are passed over, for nobody asked for them; but for 101, which is final.
    ///
    /// # Errors
    /// When it is none.
    pub fn head(&mut self, input: &mut Bytes) -> Result<Option<Response<()>>, Malformed> {
        while !input.is_empty() {
            let Some(answer) = self.one(input)? else { return Ok(None) };
            if !answer.status().is_informational() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                self.frame(&answer)?;
                return Ok(Some(answer));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Malformed::Interim);
            }
        }
        Ok(None)
    }

    fn one(&mut self, input: &mut Bytes) -> Result<Option<Response<()>>, Malformed> {
        let all = if self.partial.is_empty() {
            std::mem::take(input)
        } else {
            let known = self.partial.len();
            self.partial.extend_from_slice(&std::mem::take(input));
            // Looking for the end is cheaper than to read it anew with every byte.
            if !has_end(&self.partial, known) && self.partial.len() <= self.head_bytes {
                return Ok(None);
            }
            self.partial.split().freeze()
        };
        match parse(&all)? {
            Some((_, length)) if length > self.head_bytes => Err(Malformed::TooLong(self.head_bytes)),
            Some((answer, length)) => {
                *input = all;
                input.advance(length);
                Ok(Some(answer))
            }
            None if all.len() > self.head_bytes => Err(Malformed::TooLong(self.head_bytes)),
            None => {
                self.partial = BytesMut::from(all);
                Ok(None)
            }
        }
    }

    fn frame(&mut self, answer: &Response<()>) -> Result<(), Malformed> {
        let (fields, is_old) = (answer.headers(), answer.version() == Version::HTTP_10);
        let is_chunked = fields.contains_key(TRANSFER_ENCODING);
        if !headers::is_framed_once(fields) || (is_old && is_chunked) {
            return Err(Malformed::Framing);
        }
        let length = length(fields)?;
        let has_none = self.is_head || matches!(answer.status().as_u16(), 100..=199 | 204 | 304);
        self.framing = match length {
            _ if has_none => Framing::Length(0),
            _ if is_chunked => Framing::Chunked(Chunks::default()),
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        };
        let says = |token| fields.contains_key(CONNECTION) && headers::is_named(fields, token);
        let may_stay = if is_old { says("keep-alive") } else { !says("close") };
        let is_other = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        self.keeps_alive = may_stay && !is_other && !matches!(self.framing, Framing::Close);
        Ok(())
    }

    /// The next part of the body.
    ///
    /// # Errors
    /// When it is none.
    pub fn body(&mut self, input: &mut Bytes) -> Result<Part, Malformed> {
        match &mut self.framing {
            Framing::Length(0) => Ok(Part::End),
            Framing::Chunked(chunks) => chunks.read(input),
            Framing::Length(_) | Framing::Close if input.is_empty() => Ok(Part::More),
            Framing::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                let data = input.split_to(here);
                *left = left.saturating_sub(crate::meter::wide(here));
                Ok(Part::Data(data))
            }
            Framing::Close => Ok(Part::Data(std::mem::take(input))),
        }
    }

    /// Whether all of the answer has come.
    pub fn is_whole(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.is_over(),
            Framing::Close => false,
        }
    }

    /// How many bytes of the body are still to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.framing {
            Framing::Length(left) => Some(*left),
            Framing::Chunked(chunks) => chunks.is_over().then_some(0),
            Framing::Close => None,
        }
    }

    /// Whether the end of the connection is the end of the answer.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.framing, Framing::Close)
    }

    /// Whether the connection may carry another request after this answer.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }
}

/// Whether a head may end behind `known`: an empty line, as the parser knows it.
fn has_end(bytes: &[u8], known: usize) -> bool {
    let new = bytes.get(known.saturating_sub(2)..).unwrap_or_default();
    new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// A head and its length in bytes; none if it has not come to its end.
fn parse(bytes: &Bytes) -> Result<Option<(Response<()>, usize)>, Malformed> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut read = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut read, bytes, &mut room);
    let Status::Complete(length) = parsed.map_err(Malformed::Head)? else { return Ok(None) };
    let mut answer = Response::new(());
    *answer.version_mut() = if read.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let status = read.code.and_then(|code| StatusCode::from_u16(code).ok());
    *answer.status_mut() = status.ok_or(Malformed::Head(httparse::Error::Status))?;
    // What is not said is what everybody says.
    if let Some(reason) = read.reason
        && !reason.is_empty()
        && answer.status().canonical_reason() != Some(reason)
    {
        let reason = ReasonPhrase::try_from(bytes.slice_ref(reason.as_bytes())).map_err(|_| Malformed::Field)?;
        answer.extensions_mut().insert(reason);
    }
    *answer.headers_mut() = map(bytes, read.headers)?;
    Ok(Some((answer, length)))
}

/// Fields as they stand in `bytes`, without copying their values.
pub(super) fn map(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    let mut map = HeaderMap::with_capacity(fields.len().saturating_add(SPARE));
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Field)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| Malformed::Field)?;
        map.append(name, value);
    }
    Ok(map)
}

/// Fields that are added on the way to a client.
const SPARE: usize = 2;

/// The length of the body, if one is said. Said twice alike it is said once.
fn length(fields: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut all = fields.get_all(CONTENT_LENGTH).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.any(|other| other != first) {
        return Err(Malformed::Framing);
    }
    let text = std::str::from_utf8(first.as_bytes()).map_err(|_| Malformed::Framing)?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = if is_number { text.parse().ok() } else { None };
    length.map(Some).ok_or(Malformed::Framing)
}

#[cfg(test)]
mod tests;
