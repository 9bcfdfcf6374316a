//! What is known of a request when it has ended: for metrics, access log and spans.

use std::{fmt, net::SocketAddr, time::Duration};

use http::Method;
use weir_model::{Hostname, Port};

use crate::around::{Arrival, Endpoint};

/// The version a message was in. Envoy `PROTOCOL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `HTTP/1.0`.
    Http10,
    /// `HTTP/1.1`.
    Http11,
    /// `HTTP/2`.
    Http2,
    /// No HTTP.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Tcp => "-",
        })
    }
}

/// What went wrong. Envoy `RESPONSE_FLAGS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// `UH`: no endpoint.
    NoHealthyUpstream,
    /// `UF`: no connection to the endpoint.
    UpstreamConnectionFailure,
    /// `UO`: a circuit breaker.
    UpstreamOverflow,
    /// `NR`: no route.
    NoRoute,
    /// `NC`: the route names what is not there.
    NoCluster,
    /// `UC`: the endpoint ended its connection.
    UpstreamConnectionTermination,
    /// `UR`: the endpoint reset the stream.
    UpstreamRemoteReset,
    /// `LR`: this side reset it.
    LocalReset,
    /// `UT`: no answer in time.
    UpstreamRequestTimeout,
    /// `URX`: all retries were made.
    UpstreamRetryLimitExceeded,
    /// `DC`: the client went away.
    DownstreamConnectionTermination,
    /// `DPE`: the client's bytes are no HTTP.
    DownstreamProtocolError,
    /// `UPE`: the endpoint's bytes are no HTTP.
    UpstreamProtocolError,
    /// `DI`: delayed on purpose.
    DelayInjected,
    /// `FI`: answered on purpose.
    FaultInjected,
    /// `UAEX`: refused by authorization.
    Unauthorized,
    /// `DT`: the time of a connection is over.
    DurationTimeout,
    /// `SI`: nothing moved for too long.
    StreamIdleTimeout,
}

const FLAGS: &[(Flag, &str)] = &[
    (Flag::NoHealthyUpstream, "UH"),
    (Flag::UpstreamConnectionFailure, "UF"),
    (Flag::UpstreamOverflow, "UO"),
    (Flag::NoRoute, "NR"),
    (Flag::NoCluster, "NC"),
    (Flag::UpstreamConnectionTermination, "UC"),
    (Flag::UpstreamRemoteReset, "UR"),
    (Flag::LocalReset, "LR"),
    (Flag::UpstreamRequestTimeout, "UT"),
    (Flag::UpstreamRetryLimitExceeded, "URX"),
    (Flag::DownstreamConnectionTermination, "DC"),
    (Flag::DownstreamProtocolError, "DPE"),
    (Flag::UpstreamProtocolError, "UPE"),
    (Flag::DelayInjected, "DI"),
    (Flag::FaultInjected, "FI"),
    (Flag::Unauthorized, "UAEX"),
    (Flag::DurationTimeout, "DT"),
    (Flag::StreamIdleTimeout, "SI"),
];

/// All that went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);

    fn bit(flag: Flag) -> u32 {
        FLAGS.iter().position(|(known, _)| *known == flag).and_then(|at| u32::try_from(at).ok()).map_or(0, |at| 1 << at)
    }

    /// One more.
    #[must_use]
    pub fn with(self, flag: Flag) -> Self {
        Self(self.0 | Self::bit(flag))
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is among them.
    pub fn has(self, flag: Flag) -> bool {
        self.0 & Self::bit(flag) != 0
    }

    /// Whether there are none.
    pub fn are_none(self) -> bool {
        self.0 == 0
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        Self::NONE.with(flag)
    }
}

impl fmt::Display for Flags {
    /// With commas between them, `-` if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.are_none() {
            return f.write_str("-");
        }
        let mut comma = "";
        for (_, name) in FLAGS.iter().filter(|(flag, _)| self.has(*flag)) {
            write!(f, "{comma}{name}")?;
            comma = ",";
        }
        Ok(())
    }
}

/// When what happened, from the begin of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// All of it. Envoy `DURATION`.
    pub total: Duration,
    /// Until the last attempt was sent.
    pub sent: Option<Duration>,
    /// Until the head of the endpoint's answer. Envoy `RESPONSE_DURATION`.
    pub answered: Option<Duration>,
    /// From sending until the head of the answer. Envoy `RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)`.
    pub upstream: Option<Duration>,
}

/// A call of gRPC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Call {
    /// `grpc-status`, once it came.
    pub status: Option<u32>,
    /// Messages of the client. Istio `istio_request_messages_total`.
    pub requests: u64,
    /// Messages of the server. Istio `istio_response_messages_total`.
    pub responses: u64,
}

/// What is known of a request, or of a connection that was not HTTP, when it has ended.
#[derive(Debug, Clone, Copy)]
pub struct Record<'r> {
    /// Whose it was.
    pub arrival: &'r Arrival,
    /// How the client spoke.
    pub protocol: Protocol,
    /// How the endpoint was spoken to, if it was.
    pub upstream_protocol: Option<Protocol>,
    /// The method.
    pub method: &'r Method,
    /// Path and query as they came. Envoy `REQ(X-ENVOY-ORIGINAL-PATH?:PATH)`.
    pub target: &'r str,
    /// The authority as it came.
    pub authority: &'r str,
    /// The status that was answered; 0 if nothing was.
    pub status: u16,
    /// What went wrong.
    pub flags: Flags,
    /// Where the answer came from. Envoy `RESPONSE_CODE_DETAILS`.
    pub details: &'r str,
    /// Why there was no connection to the endpoint. Envoy `UPSTREAM_TRANSPORT_FAILURE_REASON`.
    pub failure: Option<&'r str>,
    /// When what happened.
    pub times: Times,
    /// Bytes of the request's body. Envoy `BYTES_RECEIVED`.
    pub received: u64,
    /// Bytes of the answer's body. Envoy `BYTES_SENT`.
    pub sent: u64,
    /// How often it was sent. Envoy `UPSTREAM_REQUEST_ATTEMPT_COUNT`.
    pub attempts: u32,
    /// The endpoint it was sent to last. Envoy `UPSTREAM_HOST`.
    pub endpoint: Option<&'r Endpoint>,
    /// The service, its port and its part that it was sent to.
    pub service: Option<(&'r Hostname, Port, Option<&'r str>)>,
    /// The rule's name, or the place of a rule that has none. Envoy `ROUTE_NAME`.
    pub route: Option<&'r str>,
    /// If it was a call of gRPC.
    pub call: Option<Call>,
}

/// Where the other end is. Envoy `UPSTREAM_HOST`.
impl Record<'_> {
    /// The address of the endpoint.
    pub fn upstream_host(&self) -> Option<SocketAddr> {
        self.endpoint.map(|endpoint| endpoint.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_envoy_writes_them() {
        for (flags, want) in [
            (Flags::NONE, "-"),
            (Flag::NoHealthyUpstream.into(), "UH"),
            (Flags::from(Flag::UpstreamRetryLimitExceeded).with(Flag::UpstreamConnectionFailure), "UF,URX"),
            (Flags::from(Flag::StreamIdleTimeout).and(Flag::DelayInjected.into()), "DI,SI"),
        ] {
            assert_eq!(flags.to_string(), want);
        }
        for (flag, name) in FLAGS {
            assert_eq!(Flags::from(*flag).to_string(), *name);
        }
    }
}
