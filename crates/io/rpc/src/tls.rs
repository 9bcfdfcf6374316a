//! TLS of a control plane: the server shows a certificate for its names, clients may show one of the mesh.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use weir_identity::peer_identity;
use weir_model::{SpiffeId, TrustDomain};

/// The only protocol spoken among programs of the mesh. RFC 9113 §3.2.
const H2: &[u8] = b"h2";
/// And what who only asks something speaks. RFC 7301 §6.
const HTTP1: &[u8] = b"http/1.1";

/// What a server shows and believes, as PEM.
#[derive(Clone, Copy)]
pub struct TlsFiles<'a> {
    /// Its certificate, and how that leads to a root.
    pub chain: &'a [u8],
    /// Its key.
    pub key: &'a [u8],
    /// The roots of the mesh, which certificates of clients must lead to.
    pub roots: &'a [u8],
}

impl fmt::Debug for TlsFiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").finish_non_exhaustive()
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Something is not PEM, or not what it should be.
    #[error("{what}: expected {expected}")]
    Pem {
        /// What it should have been.
        what: &'static str,
        /// And how.
        expected: &'static str,
    },
    /// A root cannot be used.
    #[error("a root cannot be used")]
    Root(#[source] rustls::Error),
    /// Certificate and key do not make a server.
    #[error("certificate and key do not fit")]
    Config(#[from] rustls::Error),
    /// Clients cannot be checked.
    #[error("certificates of clients cannot be checked")]
    Clients(#[from] VerifierBuilderError),
}

/// A server's side of TLS.
#[derive(Debug)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// For who proves nothing.
    pub(crate) https: Arc<ServerConfig>,
    trust_domain: TrustDomain,
}

impl ServerTls {
    /// From PEM.
    ///
    /// # Errors
    /// Something is missing, damaged, or does not fit.
    pub fn new(files: TlsFiles<'_>, trust_domain: &TrustDomain) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(store(files.roots)?);
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).allow_unauthenticated().build()?;
        let key = PrivateKeyDer::from_pem_slice(files.key)
            .map_err(|_| TlsError::Pem { what: "key", expected: "a private key in PEM" })?;
        let chain = certificates("chain", files.chain)?;
        let mut https = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())?;
        https.alpn_protocols = vec![HTTP1.to_vec()];
        https.send_tls13_tickets = 0;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![H2.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), https: Arc::new(https), trust_domain: trust_domain.clone() })
    }

    /// Who the client is, by a certificate the handshake has checked. One of another trust domain, or of no identity, is nobody.
    ///
    /// # Errors
    /// With the reason, when the certificate is not of this mesh.
    pub(crate) fn client(&self, certificates: Option<&[CertificateDer<'_>]>) -> Result<Option<SpiffeId>, String> {
        let Some(certificates) = certificates else { return Ok(None) };
        let identity = peer_identity(certificates).map_err(|error| error.to_string())?;
        match identity.trust_domain() == &self.trust_domain {
            true => Ok(Some(identity)),
            false => Err(format!("{identity} is not of the trust domain {}", self.trust_domain)),
        }
    }

    /// The trust domain of callers.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// A client's side: any server that proves the name it is called by.
pub(crate) fn client(roots: &[u8]) -> Result<ClientConfig, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(store(roots)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(TlsError::Pem { what, expected: "at least one certificate in PEM, none damaged" }),
    }
}

fn store(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("roots", pem)? {
        store.add(certificate).map_err(TlsError::Root)?;
    }
    Ok(store)
}
