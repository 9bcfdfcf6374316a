//! Why a server or a log could not be set up.

use std::{io, net::SocketAddr};

use weir_model::hint;

/// Why a server or a log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The admin server shows and changes too much to be reachable from elsewhere.
    #[error("the admin server listens on {address}, which other hosts can reach: use localhost")]
    AdminExposed {
        /// The address.
        address: SocketAddr,
    },
    /// An admin server anywhere but on localhost.
    #[error("{text:?} is no place for an admin server: expected localhost:PORT; it is never open to others")]
    AdminPort {
        /// What was given.
        text: String,
    },
    /// Not a log format.
    #[error("{text:?} is no log format: expected text or json")]
    Format {
        /// What was given.
        text: String,
    },
    /// A log filter that cannot be read.
    #[error("{filter:?} is no log filter: expected a level, or target=level separated by commas")]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A word in a log filter that would say nothing: no level, and nothing of ours.
    #[error(
        "{word:?} is no level: expected off, error, warn, info, debug or trace, or target=level such as weir_hbone=debug{}",
        hint(.meant.as_deref())
    )]
    NoLevel {
        /// The word.
        word: String,
        /// The level that may have been meant.
        meant: Option<String>,
    },
    /// Something else in the process logs already.
    #[error("logging was set up before")]
    LoggingTwice {
        /// What the library says.
        #[source]
        source: tracing_subscriber::util::TryInitError,
    },
    /// The subscriber is gone or poisoned.
    #[error("the log filter cannot be changed")]
    Reload {
        /// What the library says.
        #[source]
        source: tracing_subscriber::reload::Error,
    },
    /// The access log's thread did not start.
    #[error("cannot start the access log's thread")]
    Thread {
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
