//! What can go wrong with an API server.

use std::{path::PathBuf, time::Duration};

use kube::client::UpgradeConnectionError;

/// Why something did not come from, or did not get to, an API server. `what` names the request: a verb and an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where the server is, and how to prove who asks, is not known.
    #[error("{}", path.as_ref().map_or("neither a service account nor a kubeconfig".to_owned(), |path| path.display().to_string()))]
    Config {
        /// The kubeconfig that was named.
        path: Option<PathBuf>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server cannot be asked.
    #[error("{what}")]
    Unreachable {
        /// The request.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer, or no more of it, in time.
    #[error("{what}: no answer within {} s", within.as_secs_f32())]
    Slow {
        /// The request.
        what: String,
        /// How long an answer may take.
        within: Duration,
    },
    /// The server says no.
    #[error("{what}: the API server answers {code}: {message}")]
    Status {
        /// The request.
        what: String,
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// An answer larger than is read.
    #[error("{what}: the answer has more than {max} bytes")]
    TooLarge {
        /// The request.
        what: String,
        /// Bytes it may have.
        max: usize,
    },
    /// More objects than are read.
    #[error("{what}: there are more than {max}")]
    TooMany {
        /// The request.
        what: String,
        /// Objects there may be.
        max: usize,
    },
    /// An answer that is no JSON, or not of its form.
    #[error("{what}: the answer cannot be read")]
    Malformed {
        /// The request.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An answer without something every server says.
    #[error("{what}: the answer has no {field}")]
    Incomplete {
        /// The request.
        what: String,
        /// Path of the field.
        field: &'static str,
    },
}

impl Error {
    /// From what the client library says.
    pub(crate) fn of(what: impl Into<String>, source: kube::Error) -> Self {
        let what = what.into();
        if let kube::Error::Api(status) = source {
            return Self::Status { what, code: status.code, message: status.message };
        }
        // Of an answer instead of a WebSocket the library keeps no more than its status.
        if let kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) = source {
            let message = status.canonical_reason().unwrap_or_default().to_owned();
            return Self::Status { what, code: status.as_u16(), message };
        }
        Self::Unreachable { what, source: Box::new(source) }
    }

    /// The HTTP status, if the server gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::Config { .. }
            | Self::Unreachable { .. }
            | Self::Slow { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Malformed { .. }
            | Self::Incomplete { .. } => None,
        }
    }
}

/// The answer to a request, unless it takes too long.
pub(crate) async fn within<T>(
    limit: Duration,
    what: impl Fn() -> String,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::of(what(), error)),
        Err(_) => Err(Error::Slow { what: what(), within: limit }),
    }
}
