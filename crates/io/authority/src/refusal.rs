//! Why somebody gets no certificate.

use weir_model::{NodeName, SpiffeId, TrustDomain};

use crate::MAX_REQUEST_BYTES;

/// Why a certificate is refused, for the log and for who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is too long to be looked at.
    #[error("the signing request has {0} bytes, at most {MAX_REQUEST_BYTES} are read")]
    TooLong(usize),
    /// It is not one PEM block of the right kind.
    #[error("the signing request is not one PEM block CERTIFICATE REQUEST: {0}")]
    NotPem(&'static str),
    /// What is in the PEM block cannot be read.
    #[error("the signing request is no PKCS#10 (RFC 2986): {0}")]
    NotPkcs10(&'static str),
    /// Whoever asks does not hold the key.
    #[error("the signing request is not signed by the key it is for")]
    Signature,
    /// A key of a kind or size that is not signed.
    #[error("a key {0} is not signed: ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits are")]
    Key(String),
    /// It asks for names.
    #[error("the signing request asks for {found}, and may only ask for {asked}")]
    Names {
        /// What it asks for.
        found: String,
        /// What it may.
        asked: SpiffeId,
    },
    /// It asks to be a CA.
    #[error("the signing request asks for a CA certificate")]
    WantsCa,
    /// It asks for a use of the key that a workload has no need of.
    #[error("the signing request asks for the key usage {0}")]
    KeyUsage(&'static str),
    /// It asks for something unknown.
    #[error("the signing request asks for the extension {0}, which is not known here")]
    Extension(String),
    /// The identity is of another mesh.
    #[error("{asked} is not of the trust domain {own}")]
    TrustDomain {
        /// The identity.
        asked: SpiffeId,
        /// Ours.
        own: TrustDomain,
    },
    /// A workload asks for the identity of another.
    #[error("{requester} may not have the identity {asked}, only its own")]
    NotItsOwn {
        /// Who asks.
        requester: SpiffeId,
        /// The identity.
        asked: SpiffeId,
    },
    /// A node's agent asks for an identity that no pod on its node has.
    #[error(
        "{requester} on node {node} may not have the identity {asked}: no live pod of that service account runs there"
    )]
    NotOnNode {
        /// Who asks.
        requester: SpiffeId,
        /// Its node.
        node: NodeName,
        /// The identity.
        asked: SpiffeId,
    },
    /// The CA's own certificate ends too soon.
    #[error("the CA's own certificate is not valid now")]
    CaExpired,
    /// The certificate could not be made.
    #[error("signing failed: {0}")]
    Signing(String),
}
