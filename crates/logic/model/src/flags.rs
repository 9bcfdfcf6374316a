//! What went wrong with a request, in Envoy's words: any number of them at once.

use std::fmt;

macro_rules! flags {
    ($($(#[doc = $doc:literal])* $name:ident = ($bit:literal, $short:literal),)*) => {
        /// One thing that may be said of a request. Envoy's `CoreResponseFlag`, in its order; `%RESPONSE_FLAGS%`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Flag {
            $($(#[doc = $doc])* $name,)*
        }

        impl Flag {
            /// Every flag, in the order they are written.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The short word for it, as in logs and metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $short,)*
                }
            }

            const fn bit(self) -> u32 {
                match self {
                    $(Self::$name => 1 << $bit,)*
                }
            }
        }
    };
}

flags! {
    /// The proxy's own health check failed.
    FailedLocalHealthCheck = (0, "LH"),
    /// No endpoint is ready.
    NoHealthyUpstream = (1, "UH"),
    /// The endpoint did not answer in time.
    UpstreamRequestTimeout = (2, "UT"),
    /// The stream was reset by the proxy.
    LocalReset = (3, "LR"),
    /// The endpoint reset the stream.
    UpstreamRemoteReset = (4, "UR"),
    /// The endpoint could not be connected to.
    UpstreamConnectionFailure = (5, "UF"),
    /// The connection to the endpoint was closed.
    UpstreamConnectionTermination = (6, "UC"),
    /// A circuit breaker was open.
    UpstreamOverflow = (7, "UO"),
    /// No route matches.
    NoRouteFound = (8, "NR"),
    /// A fault delayed it.
    DelayInjected = (9, "DI"),
    /// A fault ended it.
    FaultInjected = (10, "FI"),
    /// A rate limit refused it.
    RateLimited = (11, "RL"),
    /// An external authorizer refused it.
    UnauthorizedExternalService = (12, "UAEX"),
    /// The rate limit service failed.
    RateLimitServiceError = (13, "RLSE"),
    /// The client closed its connection.
    DownstreamConnectionTermination = (14, "DC"),
    /// All retries failed, or all attempts to connect.
    UpstreamRetryLimitExceeded = (15, "URX"),
    /// Nothing moved for too long.
    StreamIdleTimeout = (16, "SI"),
    /// An `x-envoy-*` header of the client is not legal.
    InvalidEnvoyRequestHeaders = (17, "IH"),
    /// The client broke the protocol.
    DownstreamProtocolError = (18, "DPE"),
    /// The stream to the endpoint lasted too long.
    UpstreamMaxStreamDurationReached = (19, "UMSDR"),
    /// Answered from a cache.
    ResponseFromCacheFilter = (20, "RFCF"),
    /// The configuration of a filter did not come in time.
    NoFilterConfigFound = (21, "NFCF"),
    /// The request or its connection lasted too long.
    DurationTimeout = (22, "DT"),
    /// The endpoint broke the protocol.
    UpstreamProtocolError = (23, "UPE"),
    /// The route leads to nothing that is known.
    NoClusterFound = (24, "NC"),
    /// The proxy is overloaded.
    OverloadManager = (25, "OM"),
    /// A name could not be resolved.
    DnsResolutionFailed = (26, "DF"),
    /// Dropped, as the endpoints are overloaded.
    DropOverload = (27, "DO"),
    /// The client reset the stream.
    DownstreamRemoteReset = (28, "DR"),
    /// Everything is dropped, as the endpoints are overloaded.
    UnconditionalDropOverload = (29, "UDO"),
}

/// A set of flags. Written with commas and in Envoy's order, `-` when it is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Nothing went wrong.
    pub const NONE: Self = Self(0);

    /// The set with that flag in it, too.
    #[must_use]
    pub const fn with(self, flag: Flag) -> Self {
        Self(self.0 | flag.bit())
    }

    /// Adds a flag.
    pub const fn set(&mut self, flag: Flag) {
        self.0 |= flag.bit();
    }

    /// Whether the flag is in it.
    pub const fn has(self, flag: Flag) -> bool {
        self.0 & flag.bit() != 0
    }

    /// Whether none is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags in it, in Envoy's order.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.iter().copied().filter(move |flag| self.has(*flag))
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        Self::NONE.with(flag)
    }
}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        flags.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        self.iter().enumerate().try_for_each(|(i, flag)| {
            f.write_str(if i == 0 { "" } else { "," })?;
            f.write_str(flag.as_str())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_in_envoys_order_whatever_order_they_came_in() {
        for (flags, want) in [
            (vec![], "-"),
            (vec![Flag::NoHealthyUpstream], "UH"),
            (vec![Flag::UpstreamRetryLimitExceeded, Flag::UpstreamConnectionFailure], "UF,URX"),
            (vec![Flag::NoClusterFound, Flag::NoRouteFound, Flag::NoRouteFound], "NR,NC"),
            (vec![Flag::FaultInjected, Flag::DelayInjected], "DI,FI"),
        ] {
            assert_eq!(flags.iter().copied().collect::<Flags>().to_string(), want, "{flags:?}");
        }
    }

    #[test]
    fn every_flag_is_itself_and_no_other() {
        for flag in Flag::ALL {
            assert_eq!(Flags::from(*flag).iter().collect::<Vec<_>>(), [*flag]);
            assert_eq!(Flag::ALL.iter().filter(|other| other.as_str() == flag.as_str()).count(), 1, "{flag:?}");
        }
        assert_eq!(Flag::ALL.iter().copied().collect::<Flags>().to_string().split(',').count(), Flag::ALL.len());
    }
}
