//! Whom to believe that they are the host of a URL.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::error::RootsError;

/// Most a file of roots may have, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The authorities that certificates of issuers must lead to: those of the system, in the places where OpenSSL looks (`SSL_CERT_FILE` and
/// `SSL_CERT_DIR` say otherwise), and those of a file, for issuers inside of a cluster or company. They are read once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// A file with more of them, PEM.
    pub file: Option<PathBuf>,
}

impl Roots {
    /// Issuers are the world's, not the mesh's: TLS 1.2 is spoken, too.
    pub(crate) fn config(&self) -> Result<ClientConfig, RootsError> {
        let mut store = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "some of the system's roots cannot be read");
        }
        let (added, _) = store.add_parsable_certificates(system.certs);
        if let Some(path) = &self.file {
            for certificate in read(path)? {
                store.add(certificate).map_err(|_| RootsError::Pem { path: path.clone() })?;
            }
        } else if added == 0 {
            tracing::warn!("the system has no roots: keys are fetched over http only");
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let failed = |source| RootsError::File { path: path.to_owned(), source };
    let mut pem = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut pem)).map_err(failed)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(RootsError::Pem { path: path.to_owned() }),
    }
}
