//! Why TLS is not opened.

use std::{io, path::PathBuf, sync::Arc};

/// Why TLS is not opened, or was not.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// A folder, a device, a pipe.
    #[error("{} is no file", path.display())]
    NoFile {
        /// What it is called.
        path: PathBuf,
    },
    /// A file that is too large to be what it is said to be.
    #[error("{} has more than {most} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most it may have.
        most: u64,
    },
    /// A file without what is expected of it.
    #[error("{} holds no {what} in PEM", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What is expected.
        what: &'static str,
    },
    /// A certificate or list that is none.
    #[error("{} holds a {what} that cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// Why.
        #[source]
        source: webpki::Error,
    },
    /// A key that is not that of the certificate, or of a kind that is not known.
    #[error("{} is not the key of {}", key.display(), certificate.display())]
    Key {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Those of the system are to be believed, and it has none.
    #[error(
        "the system has no roots to believe: name a file of them (caCertificates), or say where they are (SSL_CERT_FILE)"
    )]
    NoRoots,
    /// No name that could be asked for.
    #[error("{name:?} is no host name that could be asked for: say one (sni)")]
    Name {
        /// What was tried.
        name: String,
    },
    /// The server's certificate does not hold.
    #[error("the server's certificate is not believed")]
    Chain(#[source] webpki::Error),
    /// It holds, and is somebody else's.
    #[error("the server's certificate is for {}, expected {}", list(presented), list(expected))]
    Stranger {
        /// Whose it is.
        presented: Vec<String>,
        /// Whose was expected.
        expected: Vec<String>,
    },
    /// The handshake failed.
    #[error("TLS handshake: {0}")]
    Handshake(String),
    /// The protocols of TLS that are spoken here are not those of the crypto library.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names {
        [] => "nobody".to_owned(),
        names if names.len() > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
        names => names.join(", "),
    }
}

impl Error {
    /// What a failed handshake says: our own reason if it was our verifier that refused, else what the library or the socket says.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(inner))) => {
                match inner.0.downcast_ref::<Self>() {
                    Some(own) => own.clone(),
                    None => Self::Handshake(error.to_string()),
                }
            }
            Some(tls) => Self::Handshake(tls.to_string()),
            None => Self::Handshake(error.to_string()),
        }
    }
}
