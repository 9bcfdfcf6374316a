//! Whom we believe: chain, validity, purpose, exactly one identity, and the right one.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use weir_model::{SpiffeId, TrustDomain};

use crate::{
    Error,
    certificate::{identity_of, parse},
};

/// `id-kp-serverAuth`, 1.3.6.1.5.5.7.3.1, DER content. RFC 5280 §4.2.1.12.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// `id-kp-clientAuth`, 1.3.6.1.5.5.7.3.2, DER content. RFC 5280 §4.2.1.12.
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// Who says that a root is to be believed. What one of them says stands until the same one says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The issuer, with a certificate.
    Issued,
    /// A file, or whatever else follows the mesh's bundle.
    Published,
}

/// What both sides check of each other. The roots may change while it is used, and count from the next handshake on.
#[derive(Debug)]
pub(crate) struct MeshRoots {
    anchors: ArcSwap<Vec<TrustAnchor<'static>>>,
    said: Mutex<Said>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What each source said last.
#[derive(Debug, Default)]
struct Said {
    issued: Vec<CertificateDer<'static>>,
    published: Vec<CertificateDer<'static>>,
}

impl MeshRoots {
    /// Believes nobody yet.
    pub(crate) fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { anchors: ArcSwap::default(), said: Mutex::default(), algorithms }
    }

    /// From now on `source` says `roots`. Believed is what any source says.
    ///
    /// # Errors
    /// One of them cannot be read; nothing changes.
    pub(crate) fn set(&self, source: Source, roots: &[CertificateDer<'static>]) -> Result<(), webpki::Error> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, other) = match source {
            Source::Issued => (&said.issued, &said.published),
            Source::Published => (&said.published, &said.issued),
        };
        if old.as_slice() == roots {
            return Ok(());
        }
        let anchor = |root| webpki::anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned());
        let more = other.iter().filter(|root| !roots.contains(root));
        let anchors = roots.iter().chain(more).map(anchor).collect::<Result<_, _>>()?;
        match source {
            Source::Issued => said.issued = roots.to_vec(),
            Source::Published => said.published = roots.to_vec(),
        }
        self.anchors.store(Arc::new(anchors));
        Ok(())
    }

    /// Whether the certificate is one that peers believe, on both sides of a connection.
    pub(crate) fn believe(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, Error> {
        self.identify(leaf, intermediates, now, SERVER_AUTH)?;
        self.identify(leaf, intermediates, now, CLIENT_AUTH)
    }

    /// Who the peer is, proven up to the roots.
    fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: &'static [u8],
    ) -> Result<SpiffeId, Error> {
        let parsed = parse(leaf)?;
        let presented = identity_of(&parsed)?;
        let refused = |reason| Error::Chain { presented: presented.clone(), reason: Box::new(reason) };
        EndEntityCert::try_from(leaf)
            .map_err(refused)?
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors.load(),
                intermediates,
                now,
                // Of CAs only respected when present, as RFC 5280 §4.2.1.12 has it: most intermediates name none.
                KeyUsage::required_if_present(purpose),
                None,
                None,
            )
            .map_err(refused)?;
        // Of the leaf required: a certificate without purposes was not made for this.
        match parsed.extended_key_usage() {
            Ok(Some(_)) => Ok(presented),
            Ok(None) | Err(_) => Err(Error::NoPurpose { presented }),
        }
    }
}

fn refuse(reason: Error) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// Believes servers that are one of the expected identities.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) roots: Arc<MeshRoots>,
    pub(crate) expected: Box<[SpiffeId]>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = self.roots.identify(leaf, intermediates, now, SERVER_AUTH).map_err(refuse)?;
        if self.expected.contains(&presented) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refuse(Error::UnexpectedServer { presented, expected: self.expected.to_vec() }))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.roots.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.algorithms.supported_schemes()
    }
}

/// Believes clients of our own trust domain, and serves nobody without a certificate.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) roots: Arc<MeshRoots>,
    pub(crate) trust_domain: TrustDomain,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A mesh client has one certificate and needs no hint to choose it.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let presented = self.roots.identify(leaf, intermediates, now, CLIENT_AUTH).map_err(refuse)?;
        if presented.trust_domain() == &self.trust_domain {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(refuse(Error::ForeignClient { presented, own: self.trust_domain.clone() }))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.roots.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.algorithms.supported_schemes()
    }
}
