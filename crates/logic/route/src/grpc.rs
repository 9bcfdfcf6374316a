//! The statuses of gRPC.

use std::{fmt, str::FromStr};

/// A status of gRPC. gRPC `doc/statuscodes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcStatus(u8);

/// In the order of their numbers.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Not a status of gRPC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gRPC status {text:?}, expected a name as UNAVAILABLE, or a number from 0 to 16")]
pub struct GrpcStatusError {
    text: String,
}

impl GrpcStatus {
    /// The caller went away.
    pub const CANCELLED: Self = Self(1);
    /// Too late.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// Too much.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// A bug.
    pub const INTERNAL: Self = Self(13);
    /// Not now.
    pub const UNAVAILABLE: Self = Self(14);

    /// The number, `grpc-status`.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for GrpcStatus {
    type Err = GrpcStatusError;

    fn from_str(text: &str) -> Result<Self, GrpcStatusError> {
        (0_u8..)
            .zip(NAMES)
            .find(|(number, name)| text == *name || text == number.to_string())
            .map(|(number, _)| Self(number))
            .ok_or_else(|| GrpcStatusError { text: text.chars().take(64).collect() })
    }
}

impl fmt::Display for GrpcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.get(usize::from(self.0)).copied().unwrap_or("UNKNOWN"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_a_name_and_a_number() {
        for (text, want) in [
            ("UNAVAILABLE", Some(GrpcStatus::UNAVAILABLE)),
            ("14", Some(GrpcStatus::UNAVAILABLE)),
            ("CANCELLED", Some(GrpcStatus::CANCELLED)),
            ("4", Some(GrpcStatus::DEADLINE_EXCEEDED)),
            ("RESOURCE_EXHAUSTED", Some(GrpcStatus::RESOURCE_EXHAUSTED)),
            ("13", Some(GrpcStatus::INTERNAL)),
            ("17", None),
            ("unavailable", None),
            ("014", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), want, "{text}");
        }
        for (number, name) in (0_u8..).zip(NAMES) {
            let status: GrpcStatus = number.to_string().parse().unwrap();
            assert_eq!((status.number(), status.to_string().as_str()), (number, name));
        }
    }
}
