//! Why there is no certificate, or why a peer's was refused.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use weir_model::{SpiffeId, SpiffeIdError, TrustDomain};

/// Why there is no certificate, or why a peer's was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the development CA cannot be read, made or locked.
    #[error("cannot {act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// Another process holds the folder of the development CA.
    #[error("{} was held by another process for {waited:?}: end it, or use another folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The CA key can be read by others than its owner.
    #[error("{} can be read by others (mode {mode:04o}): run `chmod 600 {}`, and make a new root if others may have read it", path.display(), path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// One of the two files of the root is missing.
    #[error("{} is missing beside {}: restore it, or remove both to make a new root", missing.display(), present.display())]
    HalfRoot {
        /// The file that is not there.
        missing: PathBuf,
        /// The file that is.
        present: PathBuf,
    },
    /// A file of the CA is no PEM of the kind it should be.
    #[error("{} holds no {expected} in PEM: restore it, or remove the root's two files to make a new root", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What the parser says.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The CA key is of a kind we cannot sign with.
    #[error("{} is no ECDSA P-256 key in PKCS #8", path.display())]
    RootKey {
        /// The key file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: rcgen::Error,
    },
    /// No certificate in the root file belongs to the key beside it.
    #[error("no certificate in {} belongs to the key in {}: restore the pair, or remove both to make a new root", certificate.display(), key.display())]
    RootKeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The root certificate may not sign certificates.
    #[error("the certificate in {} is no CA (basic constraints or key usage)", path.display())]
    RootNoCa {
        /// The certificate file.
        path: PathBuf,
    },
    /// The root is not valid now.
    #[error("the root in {} is valid from {not_before} to {not_after} (Unix seconds), it is now {now}: set the clock, or remove the root's two files to make a new root", path.display())]
    RootNotValid {
        /// The certificate file.
        path: PathBuf,
        /// Unix seconds.
        not_before: i64,
        /// Unix seconds.
        not_after: i64,
        /// Unix seconds.
        now: i64,
    },
    /// The root belongs to another trust domain.
    #[error("the root in {} is of {found:?}, not of trust domain {expected}: set --trust-domain, or use another --ca-dir", path.display())]
    RootTrustDomain {
        /// The certificate file.
        path: PathBuf,
        /// The URI names in the root.
        found: Vec<String>,
        /// The trust domain asked for.
        expected: TrustDomain,
    },
    /// The root cannot sign, for another reason.
    #[error("the root in {} cannot sign", path.display())]
    RootUnusable {
        /// The certificate file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<weir_authority::AuthorityError>,
    },
    /// No root could be made.
    #[error("cannot make a root")]
    MakeRoot {
        /// Why.
        #[source]
        source: Box<weir_authority::AuthorityError>,
    },
    /// The CA was asked to sign for another trust domain.
    #[error("this CA signs for trust domain {own}, not for {identity}")]
    ForeignIdentity {
        /// Who was asked for.
        identity: SpiffeId,
        /// The CA's trust domain.
        own: TrustDomain,
    },
    /// Making a key or certificate did not work.
    #[error("cannot make {what}")]
    Generate {
        /// What was to be made.
        what: &'static str,
        /// Why it did not work.
        #[source]
        source: rcgen::Error,
    },
    /// The CA signed nothing.
    #[error("the CA signs nothing for {identity}")]
    Signing {
        /// Who was asked for.
        identity: SpiffeId,
        /// Why.
        #[source]
        source: Box<weir_authority::Refusal>,
    },
    /// An issuer elsewhere gave nothing.
    #[error("no certificate for {identity} from the CA")]
    Remote {
        /// Who was asked for.
        identity: SpiffeId,
        /// Why, in the words of whoever asked it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A root that is to be believed cannot be.
    #[error("a root cannot be believed: {reason}")]
    Root {
        /// What path validation says.
        reason: Box<webpki::Error>,
    },
    /// The issuer's certificate has names beside the identity.
    #[error("the certificate for {identity} has {count} names, only the identity is allowed")]
    MoreNames {
        /// Who was asked for.
        identity: SpiffeId,
        /// How many there are.
        count: usize,
    },
    /// The issuer did not answer in time.
    #[error("no certificate for {identity} within {waited:?}")]
    IssuerTimeout {
        /// Who it was for.
        identity: SpiffeId,
        /// The deadline.
        waited: Duration,
    },
    /// Asking again so soon would not help: the last attempt failed and a retry is due later.
    #[error("no certificate for {identity}, next attempt in {retry_in:?}")]
    Unavailable {
        /// Who it was for.
        identity: SpiffeId,
        /// When the next attempt is due.
        retry_in: Duration,
        /// Why the last one failed.
        #[source]
        source: Arc<Error>,
    },
    /// The issuer's answer is for somebody else.
    #[error("the issuer answered with a certificate for {found} instead of {asked}")]
    WrongIdentity {
        /// Who was asked for.
        asked: SpiffeId,
        /// Whose it is.
        found: SpiffeId,
    },
    /// The issuer's certificate is not valid now.
    #[error(
        "the issuer's certificate for {identity} is valid from {not_before} to {not_after} (Unix seconds), it is now {now}: check the clocks"
    )]
    NotValidNow {
        /// Whose it is.
        identity: SpiffeId,
        /// Unix seconds.
        not_before: i64,
        /// Unix seconds.
        not_after: i64,
        /// Unix seconds.
        now: i64,
    },
    /// The chain is empty.
    #[error("no certificate was presented")]
    NoCertificate,
    /// Bytes that are no X.509 certificate, or one that contradicts itself.
    #[error("malformed certificate: {detail}")]
    Malformed {
        /// What the parser says.
        detail: String,
    },
    /// A certificate without any URI name.
    #[error("the certificate names no identity: it has no URI SAN")]
    NoIdentity,
    /// A certificate with several URI names. SPIFFE X.509-SVID §2 allows one.
    #[error("the certificate has {count} URI SANs, exactly one is allowed")]
    SeveralIdentities {
        /// How many there are.
        count: usize,
    },
    /// The only URI name is no identity of a mesh.
    #[error("the certificate's URI SAN is no identity")]
    BadIdentity {
        /// What is wrong with it.
        #[source]
        source: SpiffeIdError,
    },
    /// A peer's certificate does not chain to the mesh's roots, is not valid now, or is not for this use.
    #[error("certificate of {presented} refused: {}", in_words(reason))]
    Chain {
        /// Who the certificate says it is; not proven.
        presented: SpiffeId,
        /// What path validation says.
        reason: Box<webpki::Error>,
    },
    /// A peer's certificate says of no purpose that it is for it.
    #[error("certificate of {presented} refused: it names no purpose (extended key usage)")]
    NoPurpose {
        /// Who the certificate says it is.
        presented: SpiffeId,
    },
    /// A server that proved to be somebody else.
    #[error("the server is {presented}, expected {}", any_of(expected))]
    UnexpectedServer {
        /// Who it is.
        presented: SpiffeId,
        /// Who it could have been.
        expected: Vec<SpiffeId>,
    },
    /// A client of another trust domain.
    #[error("the client {presented} is not of trust domain {own}")]
    ForeignClient {
        /// Who it is.
        presented: SpiffeId,
        /// Our trust domain.
        own: TrustDomain,
    },
    /// The handshake ended without `h2`.
    #[error("the peer did not agree to ALPN h2 (got {})", found.as_deref().unwrap_or("none"))]
    Alpn {
        /// What was agreed on, if anything.
        found: Option<String>,
    },
    /// rustls does not take a certificate, key or root.
    #[error("TLS does not accept the {what} of {identity}")]
    Tls {
        /// Which part.
        what: &'static str,
        /// Whose it is.
        identity: SpiffeId,
        /// Why.
        #[source]
        source: Box<rustls::Error>,
    },
}

fn any_of(expected: &[SpiffeId]) -> String {
    match expected {
        [] => "nobody (no identity is known for the destination)".to_owned(),
        [one] => one.to_string(),
        several => {
            let names: Vec<_> = several.iter().map(SpiffeId::to_string).collect();
            format!("one of {}", names.join(", "))
        }
    }
}

/// Path validation's reasons, as a person would put them. Those that only a broken CA produces keep webpki's name.
fn in_words(reason: &webpki::Error) -> String {
    if let webpki::Error::CertExpired { time, not_after } = reason {
        return format!("it expired {} s ago", time.as_secs().saturating_sub(not_after.as_secs()));
    }
    if let webpki::Error::CertNotValidYet { time, not_before } = reason {
        let ahead = not_before.as_secs().saturating_sub(time.as_secs());
        return format!("it is not valid for another {ahead} s: compare the clocks of both nodes");
    }
    // A root of the same name with another key shows as a bad signature.
    if matches!(reason, webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) {
        return "it was not signed by a root of this mesh".to_owned();
    }
    if matches!(reason, webpki::Error::RequiredEkuNotFoundContext(_)) {
        return "it was not made for this side of a connection (extended key usage)".to_owned();
    }
    reason.to_string()
}

/// An error with all its causes, for a line in a log.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Why a handshake failed, in words for a log line: our own reason if one of our verifiers refused, else what rustls or the
/// socket says.
pub fn handshake_failure(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return error.to_string();
    };
    let Some(refused) = refusal(tls) else {
        return tls.to_string();
    };
    match std::error::Error::source(refused) {
        Some(cause) => format!("{refused}: {cause}"),
        None => refused.to_string(),
    }
}

/// Our own reason inside a failed handshake, if it was one of our verifiers that refused.
pub fn refusal(error: &rustls::Error) -> Option<&Error> {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(inner)) = error else {
        return None;
    };
    inner.0.downcast_ref()
}

/// An error and all its causes in one line; of a handshake that one of our verifiers refused, its reason.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = match cause.downcast_ref::<rustls::Error>() {
            Some(tls) => refusal(tls).map_or_else(|| tls.to_string(), |refusal| causes(refusal)),
            None => cause.to_string(),
        };
        line.push_str(": ");
        line.push_str(&text);
        next = cause.source().filter(|_| cause.downcast_ref::<rustls::Error>().is_none());
    }
    line
}
