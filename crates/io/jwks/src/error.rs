//! Why there are no keys.

use std::{io, net::IpAddr, path::PathBuf};

use weir_token::KeySetError;

use crate::{get::MAX_RESPONSE, guard::Refused};

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It took longer than the rule lets it.
    #[error("no answer in time")]
    TimedOut,
    /// The name has no address.
    #[error("the host cannot be resolved")]
    Resolve(#[source] io::Error),
    /// Every address it has is one that is not to be asked.
    #[error("{address} is not to be asked: {why}")]
    Refused {
        /// The first of them.
        address: IpAddr,
        /// Why.
        why: Refused,
    },
    /// Nobody is there.
    #[error("cannot connect to {address}")]
    Connect {
        /// The last address that was tried.
        address: IpAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server did not prove its name.
    #[error("TLS")]
    Tls(#[source] io::Error),
    /// The host is no name a certificate could prove.
    #[error("no certificate can name the host")]
    Name,
    /// It is not HTTP, or ended too soon.
    #[error("HTTP")]
    Http(#[source] hyper::Error),
    /// No keys, but this status. Redirects are not followed: what they lead to, the rule does not say.
    #[error("status {status}, expected 200")]
    Status {
        /// The status.
        status: u16,
    },
    /// More than is read.
    #[error("more than {MAX_RESPONSE} bytes")]
    TooLarge,
    /// What came is no set of keys.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// What came does not say of that issuer where its keys are. OpenID Connect Discovery 1.0 §4.3.
    #[error("no configuration of that issuer with a \"jwks_uri\" as safe as itself")]
    Discovery,
}

/// Why no certificate can be checked.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file cannot be read.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has no certificates, or damaged ones.
    #[error("{path}: expected at least one certificate in PEM, none damaged")]
    Pem {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}
