//! What can go wrong with a tunnel, told so that the caller knows whether another try may help.

use std::{io, rc::Rc, time::Duration};

use weir_wire::{frame::Code, head::RequestError, parser::ParseError};

/// Why a tunnel or the connection under it failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// TCP to the next hop.
    #[error("connection to the peer")]
    Connect(#[source] Rc<io::Error>),
    /// The TLS handshake.
    #[error("TLS handshake")]
    Tls(#[source] Rc<rustls::Error>),
    /// What came is no TLS: plain HTTP, or noise.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The peer did not agree on HTTP/2. RFC 9113 §3.2.
    #[error("the peer did not choose ALPN h2")]
    Alpn,
    /// Something took too long.
    #[error("no {what} within {}s", after.as_secs())]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The peer closed while the handshake went on.
    #[error("the peer closed during the handshake")]
    Closed,
    /// The connection under the tunnel ended.
    #[error("tunnel connection lost")]
    Lost(#[source] Lost),
    /// The peer answered, and not with 200.
    #[error("the peer answered {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The peer reset the stream before it answered.
    #[error("the peer reset the tunnel: {0}")]
    Reset(Code),
    /// The answer made no sense.
    #[error("answer of the peer")]
    Answer(#[source] RequestError),
}

impl Error {
    /// Whether the peer cannot have acted on what was asked, so that asking again elsewhere is safe.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Reset(Code::Refused) => true,
            Self::Connect(_)
            | Self::Tls(_)
            | Self::NotTls
            | Self::Alpn
            | Self::Deadline { .. }
            | Self::Closed
            | Self::Refused { .. }
            | Self::Reset(_)
            | Self::Answer(_) => false,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// The socket failed.
    #[error("socket")]
    Io(#[source] Rc<io::Error>),
    /// The peer closed without a word.
    #[error("closed by the peer")]
    Eof,
    /// The peer said GOAWAY.
    #[error("the peer said GOAWAY {0}")]
    GoAway(Code),
    /// The peer broke the protocol.
    #[error("protocol broken by the peer")]
    Protocol(#[source] ParseError),
    /// A record that is not authentic, or not legal.
    #[error("illegal TLS record: {0}")]
    Record(&'static str),
    /// The peer sent a TLS alert.
    #[error("TLS alert {0}")]
    Alert(u8),
    /// No answer to PING.
    #[error("no answer to PING within {}s", .0.as_secs())]
    Keepalive(Duration),
    /// Closed by us.
    #[error("closed: {0}")]
    Here(&'static str),
}
