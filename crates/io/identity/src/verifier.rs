//! Whom we believe: chain, validity, purpose, exactly one identity, and the right one.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use weir_model::{SpiffeId, TrustDomain};

use crate::{Error, peer_identity};

/// `id-kp-serverAuth`, 1.3.6.1.5.5.7.3.1, DER content. RFC 5280 §4.2.1.12.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// `id-kp-clientAuth`, 1.3.6.1.5.5.7.3.2, DER content. RFC 5280 §4.2.1.12.
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// What both sides check of each other.
#[derive(Debug)]
pub(crate) struct MeshRoots {
    anchors: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl MeshRoots {
    pub(crate) fn new(
        roots: &[CertificateDer<'static>],
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, webpki::Error> {
        let anchor = |root| webpki::anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned());
        Ok(Self { anchors: roots.iter().map(anchor).collect::<Result<_, _>>()?, algorithms })
    }

    /// Who the peer is, proven up to the roots.
    fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: &'static [u8],
    ) -> Result<SpiffeId, Error> {
        let presented = peer_identity(std::slice::from_ref(leaf))?;
        let refused = |reason| Error::Chain { presented: presented.clone(), reason: Box::new(reason) };
        EndEntityCert::try_from(leaf)
            .map_err(refused)?
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                now,
                // Required, not only respected when present: a certificate without purposes was not made for this.
                KeyUsage::required(purpose),
                None,
                None,
            )
            .map_err(refused)?;
        Ok(presented)
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
