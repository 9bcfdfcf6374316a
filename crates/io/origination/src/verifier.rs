//! Whom a client believes that it is the server.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder};

use crate::Error;

/// Whom to believe.
#[derive(Debug)]
pub(crate) enum Belief {
    /// Whoever has the key of the certificate that it shows.
    Anybody,
    /// Whose certificate leads to a root, is not revoked, and is for one of the names.
    Proven {
        roots: Arc<[TrustAnchor<'static>]>,
        /// None: revocations are not looked at.
        revoked: Vec<CertRevocationList<'static>>,
        /// Of none, it is for the name that was asked for.
        names: Vec<Arc<str>>,
    },
}

/// Holds a server against what is believed.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) belief: Belief,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn prove(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Belief::Proven { roots, revoked, names } = &self.belief else { return Ok(()) };
        let leaf = EndEntityCert::try_from(leaf).map_err(Error::Chain)?;
        let lists: Vec<&CertRevocationList<'_>> = revoked.iter().collect();
        // Without a list there is nothing to look at. With one, an authority of which nothing is known is refused.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(RevocationOptionsBuilder::build);
        leaf.verify_for_usage(
            self.algorithms.all,
            roots,
            intermediates,
            now,
            KeyUsage::server_auth(),
            revocation,
            None,
        )
        .map_err(Error::Chain)?;
        let is_for = match names.as_slice() {
            [] => leaf.verify_is_valid_for_subject_name(asked).is_ok(),
            names => names.iter().any(|name| is_for(&leaf, name)),
        };
        if is_for {
            return Ok(());
        }
        let expected = match names.as_slice() {
            [] => vec![asked.to_str().into_owned()],
            names => names.iter().map(ToString::to_string).collect(),
        };
        let presented = leaf.valid_dns_names().chain(leaf.valid_uri_names()).map(ToOwned::to_owned).collect();
        Err(Error::Stranger { presented, expected })
    }
}

/// Whether the certificate is for a name: a host, an address, or a URI, to the letter.
fn is_for(leaf: &EndEntityCert<'_>, name: &str) -> bool {
    let as_host = || {
        let name = ServerName::try_from(name).ok()?;
        Some(leaf.verify_is_valid_for_subject_name(&name).is_ok())
    };
    leaf.valid_uri_names().any(|uri| uri == name) || as_host().unwrap_or(false)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.prove(leaf, intermediates, asked, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(why) => Err(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
