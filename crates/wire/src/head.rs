//! The head of an HBONE stream: the CONNECT request and its answer. RFC 9113 §8.5 and Istio's headers.

use std::{fmt, net::SocketAddr, str::FromStr};

use weir_model::{Hostname, Port, canonical_socket};

use crate::{
    hpack::{self, Decoder, HpackError, index},
    trace::Traceparent,
};

/// Where a tunnel is to end: `<ip>:<port>`, IPv6 in brackets, or `<host>:<port>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// An address of a workload or a virtual address of a service; canonical.
    Address(SocketAddr),
    /// A service by name, through an east-west gateway.
    Host {
        /// The fully qualified name.
        host: Hostname,
        /// The service's port.
        port: Port,
    },
}

/// Not `<ip>:<port>` or `<host>:<port>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("authority {0:?} is not of the form ip:port or host:port")]
pub struct AuthorityError(pub String);

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        let bad = || AuthorityError(text.chars().take(128).collect());
        if let Ok(address) = text.parse::<SocketAddr>() {
            let scoped = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
            return if address.port() == 0 || scoped {
                Err(bad())
            } else {
                Ok(Self::Address(canonical_socket(address)))
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let numeric = host.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        if numeric || port.starts_with('+') {
            return Err(bad());
        }
        Ok(Self::Host { host: host.parse().map_err(|_| bad())?, port: port.parse().map_err(|_| bad())? })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// What an outbound side asks for.
#[derive(Debug, Clone)]
pub struct Connect<'a> {
    /// Where the tunnel is to end.
    pub authority: &'a Authority,
    /// What the source says of itself: [`crate::baggage::describe`].
    pub baggage: &'a str,
    /// The application's own address.
    pub source: SocketAddr,
    /// The service the application asked for, if it asked for one.
    pub host: Option<&'a Hostname>,
    /// The trace of this connection.
    pub trace: Traceparent,
}

impl Connect<'_> {
    /// Appends the header block.
    pub fn encode(&self, out: &mut Vec<u8>) {
        hpack::write_named(out, index::METHOD, b"CONNECT");
        hpack::write_named(out, index::AUTHORITY, self.authority.to_string().as_bytes());
        if !self.baggage.is_empty() {
            hpack::write_literal(out, b"baggage", self.baggage.as_bytes());
        }
        let forwarded = match self.host {
            Some(host) => format!("for=\"{}\";host={host}", self.source),
            None => format!("for=\"{}\"", self.source),
        };
        hpack::write_literal(out, b"forwarded", forwarded.as_bytes());
        hpack::write_literal(out, b"traceparent", self.trace.to_string().as_bytes());
    }
}

/// What an inbound side was asked, as far as it was legal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where the tunnel is to end.
    pub authority: Authority,
    /// The peer's words about itself. Never decide on it.
    pub baggage: Option<Vec<u8>>,
    /// The service the peer says its client asked for. Never decide on it.
    pub host: Option<Hostname>,
    /// The trace the peer is in.
    pub trace: Option<Traceparent>,
}

/// Why a head is not a CONNECT we serve. All are answered 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The block itself is broken: the connection must end.
    #[error(transparent)]
    Block(#[from] HpackError),
    /// Another method.
    #[error("method {0:?} is not CONNECT")]
    Method(String),
    /// No `:authority`.
    #[error("CONNECT without an authority")]
    NoAuthority,
    /// An authority that is none.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Against RFC 9113 §8.2 or §8.3.
    #[error("malformed head: {0}")]
    Malformed(&'static str),
}

/// Reads a request head. `limit` bounds the header list, in bytes.
///
/// # Errors
/// If it is not a legal CONNECT. The decoder stays in step unless the error is [`RequestError::Block`].
pub fn request(decoder: &mut Decoder, block: &[u8], limit: usize) -> Result<Request, RequestError> {
    let mut raw = Raw::default();
    decoder.decode(block, limit, |name, value| raw.field(name, value))?;
    if let Some(reason) = raw.malformed {
        return Err(RequestError::Malformed(reason));
    }
    let method = raw.method.ok_or(RequestError::Malformed("no :method"))?;
    if method != b"CONNECT" {
        return Err(RequestError::Method(lossy(&method)));
    }
    if raw.not_connect {
        return Err(RequestError::Malformed("CONNECT with :scheme, :path or :protocol"));
    }
    let authority = raw.authority.ok_or(RequestError::NoAuthority)?;
    let authority = std::str::from_utf8(&authority).map_err(|_| AuthorityError(lossy(&authority)))?.parse()?;
    Ok(Request {
        authority,
        baggage: raw.baggage,
        host: raw.forwarded.as_deref().and_then(forwarded_host),
        trace: raw.trace,
    })
}

#[derive(Default)]
struct Raw {
    method: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    baggage: Option<Vec<u8>>,
    forwarded: Option<Vec<u8>>,
    trace: Option<Traceparent>,
    not_connect: bool,
    regular: bool,
    malformed: Option<&'static str>,
}

impl Raw {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if name.first() == Some(&b':') {
            if self.regular {
                self.malformed = Some("pseudo-header behind a header");
            }
            let slot = match name {
                b":method" => &mut self.method,
                b":authority" => &mut self.authority,
                b":scheme" | b":path" | b":protocol" => {
                    self.not_connect = true;
                    return;
                }
                _ => {
                    self.malformed = Some("unknown pseudo-header");
                    return;
                }
            };
            if slot.replace(value.to_vec()).is_some() {
                self.malformed = Some("pseudo-header twice");
            }
            return;
        }
        self.regular = true;
        if name.is_empty() || name.iter().any(|b| b.is_ascii_uppercase() || *b <= b' ' || *b >= 0x7f || *b == b':') {
            self.malformed = Some("illegal header name");
        }
        if value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) {
            self.malformed = Some("illegal header value");
        }
        match name {
            b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive" | b"proxy-connection" => {
                self.malformed = Some("header of another protocol version");
            }
            b"baggage" => self.baggage = Some(value.to_vec()),
            b"forwarded" => self.forwarded = Some(value.to_vec()),
            b"traceparent" => self.trace = Traceparent::parse(value),
            _ => {}
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned()
}

/// The `host` of the first element of `Forwarded` (RFC 7239 §4), if it is a name.
fn forwarded_host(value: &[u8]) -> Option<Hostname> {
    let first = std::str::from_utf8(value).ok()?.split(',').next()?;
    first.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim_matches('"').parse().ok())?
    })
}

/// Appends the block of an answer.
pub fn encode_response(out: &mut Vec<u8>, status: u16, baggage: Option<&str>) {
    match status {
        200 => hpack::write_indexed(out, index::STATUS_200),
        400 => hpack::write_indexed(out, index::STATUS_400),
        _ => hpack::write_named(out, index::STATUS, status.to_string().as_bytes()),
    }
    if let Some(baggage) = baggage {
        hpack::write_literal(out, b"baggage", baggage.as_bytes());
    }
}

/// What the other side answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status; 200 is a tunnel, anything else none.
    pub status: u16,
    /// The peer's words about the destination. Never decide on it.
    pub baggage: Option<Vec<u8>>,
}

/// Reads an answer. `limit` bounds the header list, in bytes.
///
/// # Errors
/// If the block is not legal, or has no status.
pub fn response(decoder: &mut Decoder, block: &[u8], limit: usize) -> Result<Response, RequestError> {
    let (mut status, mut baggage) = (None, None);
    decoder.decode(block, limit, |name, value| match name {
        b":status" => status = std::str::from_utf8(value).ok().filter(|v| v.len() == 3).and_then(|v| v.parse().ok()),
        b"baggage" => baggage = Some(value.to_vec()),
        _ => {}
    })?;
    let status = status.filter(|s| (100..600).contains(s)).ok_or(RequestError::Malformed("no :status"))?;
    Ok(Response { status, baggage })
}

#[cfg(test)]
mod tests;
