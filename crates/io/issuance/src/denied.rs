//! Why a call gets no certificate.

use tonic::{Code, Status};
use weir_authority::Refusal;
use weir_model::SpiffeIdError;

use crate::{Reason, messages::IMPERSONATED};

/// The longest text that goes back with a status or into the log, in bytes: what a stranger wrote may be part of it.
const MAX_TEXT: usize = 600;

/// Why a call gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Nobody proved who calls.
    #[error("the caller proved nothing")]
    Unproven,
    /// tonic could not read the message.
    #[error("the message cannot be read: {0}")]
    Unreadable(String),
    /// The message was not there in time.
    #[error("the message did not come in time")]
    TooSlow,
    /// The caller asks too often.
    #[error("the caller asks too often")]
    Throttled,
    /// Too many are asking.
    #[error("too many calls at once")]
    Busy,
    /// The metadata names an identity, but not as text.
    #[error("the metadata's {IMPERSONATED} is no text")]
    NoText,
    /// The identity asked for is none.
    #[error("the identity asked for cannot be read: {0}")]
    BadIdentity(#[from] SpiffeIdError),
    /// The CA refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Denied {
    /// How metrics group it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unproven => Reason::Unproven,
            Self::Unreadable(_) | Self::TooSlow => Reason::Unreadable,
            Self::Throttled => Reason::Throttled,
            Self::Busy => Reason::Busy,
            Self::NoText | Self::BadIdentity(_) => Reason::BadIdentity,
            Self::Refused(refusal) => match refusal {
                Refusal::TooLong(_)
                | Refusal::NotPem(_)
                | Refusal::NotPkcs10(_)
                | Refusal::Signature
                | Refusal::Key(_)
                | Refusal::Names { .. }
                | Refusal::WantsCa
                | Refusal::KeyUsage(_)
                | Refusal::Extension(_) => Reason::BadRequest,
                Refusal::TrustDomain { .. } | Refusal::NotItsOwn { .. } | Refusal::NotOnNode { .. } => {
                    Reason::NotEntitled
                }
                Refusal::CaExpired | Refusal::Signing(_) => Reason::Signing,
            },
        }
    }

    /// The same as it goes back.
    pub(crate) fn status(&self) -> Status {
        let code = match (self, self.reason()) {
            (Self::TooSlow, _) => Code::DeadlineExceeded,
            (_, Reason::Unproven) => Code::Unauthenticated,
            (_, Reason::Throttled | Reason::Busy) => Code::ResourceExhausted,
            (_, Reason::Unreadable | Reason::BadIdentity | Reason::BadRequest) => Code::InvalidArgument,
            (_, Reason::NotEntitled) => Code::PermissionDenied,
            (_, Reason::Signing) => Code::Unavailable,
        };
        Status::new(code, self.text())
    }

    /// In words, of bounded length and in one line.
    pub(crate) fn text(&self) -> String {
        let mut text: String = self.to_string().escape_debug().collect();
        if text.len() > MAX_TEXT {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text.push_str("...");
        }
        text
    }
}
