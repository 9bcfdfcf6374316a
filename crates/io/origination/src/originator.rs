//! Connections with TLS on them, and the configurations it takes, kept as long as their files are the same.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;
use weir_model::{ClientTls, Hostname, KeyFiles, ServerTrust};

use crate::{
    Error,
    files::{self, Stamp},
    verifier::{Belief, Verifier},
};

/// How often files are looked at while connections are made.
const LOOK: Duration = Duration::from_secs(5);
/// Configurations that are kept; beyond that all are made anew.
const KEPT: usize = 1_024;

/// What is going to be spoken, as TLS calls it. RFC 7301.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Nothing is said of it.
    Unsaid,
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
}

/// Who is expected at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'p> {
    /// The host that the connection is for: it is asked for, unless something else is said.
    pub host: Option<&'p Hostname>,
    /// Whose certificate it may have, if nothing else is said. Istio `ServiceEntry.subjectAltNames`.
    pub names: &'p Arc<[Arc<str>]>,
    /// What is going to be spoken.
    pub alpn: Alpn,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    tls: Arc<ClientTls>,
    names: Arc<[Arc<str>]>,
    alpn: Alpn,
}

struct Kept {
    config: Arc<ClientConfig>,
    /// The files as they were when it was made.
    stamps: Vec<Option<Stamp>>,
    /// When they were looked at.
    looked: Option<Instant>,
}

/// Opens TLS. One for all workers.
#[derive(Default)]
pub struct Originator {
    kept: Mutex<HashMap<Key, Kept>>,
    system: OnceLock<Arc<[TrustAnchor<'static>]>>,
}

impl Originator {
    /// Opens TLS on a connection. The caller brings the deadline.
    ///
    /// # Errors
    /// A file cannot be used, or the server is not who is expected.
    pub async fn connect<Io>(
        self: &Arc<Self>,
        io: Io,
        tls: &Arc<ClientTls>,
        peer: Peer<'_>,
    ) -> Result<TlsStream<Io>, Error>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let asked = tls.sni.as_ref().or(peer.host).map_or("", |host| host.as_str());
        let name = ServerName::try_from(asked.to_owned()).map_err(|_| Error::Name { name: asked.to_owned() })?;
        let key = Key { tls: tls.clone(), names: peer.names.clone(), alpn: peer.alpn };
        let config = match self.fresh(&key) {
            Some(config) => config,
            None => self.renewed(key).await?,
        };
        TlsConnector::from(config).connect(name, io).await.map_err(|error| Error::of_handshake(&error))
    }

    /// A configuration whose files were looked at just now.
    fn fresh(&self, key: &Key) -> Option<Arc<ClientConfig>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|kept| kept.looked.is_some_and(|at| at.elapsed() < LOOK)).map(|kept| kept.config.clone())
    }

    /// Files are looked at by the next connection, however short ago they were.
    #[cfg(test)]
    pub(crate) fn look_now(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values_mut().for_each(|kept| kept.looked = None);
    }

    /// Looks at the files, and makes a configuration of them if they are others.
    async fn renewed(self: &Arc<Self>, key: Key) -> Result<Arc<ClientConfig>, Error> {
        let this = self.clone();
        let made = tokio::task::spawn_blocking(move || this.look(key)).await;
        made.unwrap_or_else(|error| Err(Error::Handshake(error.to_string())))
    }

    fn look(&self, key: Key) -> Result<Arc<ClientConfig>, Error> {
        let stamps: Vec<Option<Stamp>> = paths(&key.tls).map(|path| Stamp::at(path)).collect();
        let mut last = None;
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(kept) = kept.get_mut(&key) {
                kept.looked = Some(Instant::now());
                if kept.stamps == stamps {
                    return Ok(kept.config.clone());
                }
                last = Some(kept.config.clone());
            }
        }
        let config = match (self.make(&key), last) {
            (Ok(config), _) => Arc::new(config),
            (Err(error), None) => return Err(error),
            (Err(error), Some(last)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "files of TLS changed, and the last good ones stay in force");
                return Ok(last);
            }
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, Kept { config: config.clone(), stamps, looked: Some(Instant::now()) });
        Ok(config)
    }

    fn make(&self, key: &Key) -> Result<ClientConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let belief = match &key.tls.server {
            ServerTrust::Anybody => Belief::Anybody,
            ServerTrust::Proven(proof) => {
                let names = if proof.names.is_empty() { key.names.to_vec() } else { proof.names.clone() };
                let revoked = proof.revoked.as_deref().map(files::revocations).transpose()?.unwrap_or_default();
                let roots = match &proof.roots {
                    Some(path) => roots_of(path)?,
                    None => self.system()?,
                };
                Belief::Proven { roots, revoked, names }
            }
        };
        let verifier = Verifier { belief, algorithms: provider.signature_verification_algorithms };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(Error::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &key.tls.own {
            Some(own) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified(own, &provider)?)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = match key.alpn {
            Alpn::Unsaid => Vec::new(),
            Alpn::Http1 => vec![b"http/1.1".to_vec()],
            Alpn::Http2 => vec![b"h2".to_vec()],
        };
        // A session that was resumed would be one whose certificate nobody looked at since.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// The roots of the system, in the places where OpenSSL looks. They are read once.
    fn system(&self) -> Result<Arc<[TrustAnchor<'static>]>, Error> {
        let roots = self.system.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "some of the system's roots cannot be read");
            }
            found.certs.iter().filter_map(|certificate| anchor(certificate).ok()).collect()
        });
        if roots.is_empty() { Err(Error::NoRoots) } else { Ok(roots.clone()) }
    }
}

/// The files that are needed.
fn paths(tls: &ClientTls) -> impl Iterator<Item = &PathBuf> {
    let proof = match &tls.server {
        ServerTrust::Proven(proof) => Some(proof),
        ServerTrust::Anybody => None,
    };
    let of_server = proof.into_iter().flat_map(|proof| [&proof.roots, &proof.revoked]).flatten();
    tls.own.iter().flat_map(|own| [&own.certificate, &own.key]).chain(of_server)
}

fn anchor(certificate: &CertificateDer<'_>) -> Result<TrustAnchor<'static>, webpki::Error> {
    webpki::anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned())
}

fn roots_of(path: &Path) -> Result<Arc<[TrustAnchor<'static>]>, Error> {
    let certificates = files::certificates(path)?;
    let anchors: Result<_, _> = certificates.iter().map(anchor).collect();
    anchors.map_err(|source| Error::Unusable { path: path.to_owned(), what: "certificate", source })
}

fn certified(own: &KeyFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let KeyFiles { certificate, key } = own;
    let refused = |source| Error::Key { key: key.clone(), certificate: certificate.clone(), source };
    let chain = files::certificates(certificate)?;
    let signer = provider.key_provider.load_private_key(files::key(key)?).map_err(refused)?;
    let own = CertifiedKey::new(chain, signer);
    own.keys_match().map_err(refused)?;
    Ok(own)
}
