//! What can go wrong, each with its code of the specification.

use std::{fmt, io, path::PathBuf, time::Duration};

/// Why the plugin fails.
#[derive(Debug)]
pub enum Error {
    /// A version of the specification that is not spoken; empty where none is given.
    Version(String),
    /// A variable of the environment is missing or cannot be what it says.
    Environment {
        /// Its name.
        name: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// Standard input could not be read.
    Input(io::Error),
    /// The configuration is longer than this many bytes.
    TooLong(u64),
    /// The configuration is not the JSON that it should be.
    Decode(serde_json::Error),
    /// A key of the configuration has a value that it cannot have.
    Config {
        /// The key.
        key: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// The agent cannot be spoken with.
    Away {
        /// Where it should be.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The agent, or whoever gives the configuration, did not end in time.
    Late {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The agent says that the pod cannot be caught, and why.
    Refused(String),
    /// The agent's answer is not one.
    Answer {
        /// Where it came from.
        socket: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
    /// Pods cannot be started now, and why.
    Unavailable(Box<Error>),
}

impl Error {
    /// The code. Section 2 of the specification, "Error"; from 100 on they are this plugin's own.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Environment { .. } => 4,
            Self::Input(_) => 5,
            Self::Decode(_) => 6,
            Self::TooLong(_) | Self::Config { .. } => 7,
            Self::Away { .. } | Self::Late { .. } => 11,
            Self::Unavailable(_) => 50,
            Self::Refused(_) => 100,
            Self::Answer { .. } => 101,
        }
    }

    pub(crate) fn to_json(&self, version: &str) -> String {
        serde_json::json!({ "cniVersion": version, "code": self.code(), "msg": "weir-cni", "details": self.to_string() })
            .to_string()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(found) => {
                write!(f, "cniVersion is {found:?}, expected one of {}", crate::VERSIONS.join(", "))
            }
            Self::Environment { name, expected } => write!(f, "the variable {name}: expected {expected}"),
            Self::Input(source) => write!(f, "the configuration on standard input: {source}"),
            Self::TooLong(bound) => write!(f, "the configuration on standard input is longer than {bound} bytes"),
            Self::Decode(source) => write!(f, "the configuration on standard input: {source}"),
            Self::Config { key, expected } => write!(f, "{key} of the configuration: expected {expected}"),
            Self::Away { socket, source } => {
                write!(f, "the agent at {} cannot be spoken with: {source}", socket.display())
            }
            Self::Late { what, after } => write!(f, "{what} did not come within {} s", after.as_secs()),
            Self::Refused(reason) => write!(f, "the agent cannot catch the pod: {reason}"),
            Self::Answer { socket, expected } => {
                write!(f, "the answer of the agent at {}: expected {expected}", socket.display())
            }
            Self::Unavailable(cause) => write!(f, "{cause}"),
        }
    }
}

impl std::error::Error for Error {}
