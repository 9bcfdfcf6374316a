//! How a connection failed, in one word.

/// Label `response_flags` of metrics, in the words of ztunnel, and where it has none in those of Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResponseFlag {
    /// It did not: `-`.
    None,
    /// Refused: what the mesh knows does not allow it.
    Deny,
    /// The service has no endpoint that is ready. Envoy's `NoHealthyUpstream`.
    NoHealthyUpstream,
    /// The service has no such port. Envoy's `NoRouteFound`.
    NoRoute,
    /// The mesh does not know the workload. Envoy's `NoClusterFound`.
    NoCluster,
    /// The addresses of the request do not fit together. Envoy's `DownstreamProtocolError`.
    Protocol,
    /// The destination could not be connected to.
    Connect,
    /// The TLS handshake failed.
    TlsFailure,
    /// The HTTP/2 handshake failed.
    H2HandshakeFailure,
    /// Something between, a NetworkPolicy perhaps, lets nothing through.
    NetworkPolicy,
    /// There is no certificate for the workload.
    IdentityError,
}

impl ResponseFlag {
    /// Every flag.
    pub const ALL: &[Self] = &[
        Self::None,
        Self::Deny,
        Self::NoHealthyUpstream,
        Self::NoRoute,
        Self::NoCluster,
        Self::Protocol,
        Self::Connect,
        Self::TlsFailure,
        Self::H2HandshakeFailure,
        Self::NetworkPolicy,
        Self::IdentityError,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::NoHealthyUpstream => "UH",
            Self::NoRoute => "NR",
            Self::NoCluster => "NC",
            Self::Protocol => "DPE",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::IdentityError => "IDENTITY_ERROR",
        }
    }
}
