//! Signing by the CA's own certificate and key.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::OffsetDateTime;
use weir_model::{SpiffeId, TrustDomain};
use x509_parser::{certificate::X509Certificate, public_key::PublicKey};
use zeroize::Zeroize;

use crate::{
    AuthorityError, Bundle, CaFiles, Refusal, SigningRequest,
    bundle::{MAX_FILE_BYTES, certificates, encode, parse, validity},
    chain::{may_sign, path},
    files::{CLOCK_SKEW, serial},
};

/// A CA that signs. Its key is wiped when this is dropped: the encoded copy by us, the other by the crypto library.
pub struct Authority {
    trust_domain: TrustDomain,
    issuer: rcgen::Issuer<'static, CaKey>,
    /// From the signing certificate to below its root, as PEM. Nothing if a root signs.
    intermediates: Vec<String>,
    roots: Bundle,
    /// The same as PEM.
    bundle: String,
    root_not_after: SystemTime,
    not_after: SystemTime,
    longest: Duration,
    slow: bool,
}

impl Authority {
    /// A CA from its files, whose certificates are valid for at most `longest`.
    ///
    /// # Errors
    /// Something does not fit; the error says which file and what was expected.
    pub fn open(
        files: &CaFiles,
        trust_domain: &TrustDomain,
        longest: Duration,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let own = only("ca-cert.pem", &files.certificate)?;
        let roots = Bundle::parse("root-cert.pem", &files.roots)?;
        let between = certificates("cert-chain.pem", &files.chain)?;
        let key = CaKey(read_key(&files.key)?);
        let parsed = parse("ca-cert.pem", &own)?;
        if parsed.public_key().raw != key.subject_public_key_info().as_slice() {
            return Err(AuthorityError::KeyMismatch);
        }
        if !may_sign(&parsed, 0) {
            return Err(AuthorityError::NoCa);
        }
        let path = path(&own, &between, roots.roots())?;
        let mut ends = Vec::with_capacity(path.len());
        for link in &path {
            ends.push(valid_until(link.file, &parse(link.file, link.der)?, now)?);
        }
        let (Some(&root_not_after), Some(&not_after)) = (ends.last(), ends.iter().min()) else {
            return Err(AuthorityError::NoCa);
        };
        let slow = matches!(parsed.public_key().parsed(), Ok(PublicKey::RSA(_)));
        let issuer = rcgen::Issuer::from_ca_cert_der(&own, key)?;
        let below_root = &path[..path.len() - 1];
        let intermediates = below_root.iter().map(|link| encode(link.der)).collect();
        let (trust_domain, bundle) = (trust_domain.clone(), roots.pem());
        Ok(Self { trust_domain, issuer, intermediates, roots, bundle, root_not_after, not_after, longest, slow })
    }

    /// A certificate for the key of `request` and the identity, and how it leads to the root, each PEM: the leaf first, then intermediates
    /// one by one, and last the text of all roots to be believed.
    ///
    /// It is valid for `lifetime`, at most as long as this CA signs for, and never longer than the CA itself.
    ///
    /// # Errors
    /// The identity is of another trust domain, the CA is not valid now, or signing failed.
    pub fn sign(
        &self,
        request: &SigningRequest,
        identity: &SpiffeId,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Vec<String>, Refusal> {
        let leaf = self.leaf(request.key(), identity, lifetime, now)?;
        let mut chain = vec![encode(&leaf)];
        chain.extend_from_slice(&self.intermediates);
        chain.push(self.bundle.clone());
        Ok(chain)
    }

    /// A certificate for a key of our own. Who asks for another's brings a [`SigningRequest`].
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn leaf(
        &self,
        key: &impl PublicKeyData,
        identity: &SpiffeId,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, Refusal> {
        if identity.trust_domain() != &self.trust_domain {
            return Err(Refusal::TrustDomain { asked: identity.clone(), own: self.trust_domain.clone() });
        }
        let failed = |error: rcgen::Error| Refusal::Signing(error.to_string());
        let name = identity.to_string();
        let mut params = self.profile(lifetime, now)?.0;
        // The identity is the name. An empty subject makes the SAN critical (RFC 5280 §4.1.2.6).
        params.subject_alt_names = vec![SanType::URI(name.as_str().try_into().map_err(failed)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).map(Into::into).map_err(failed)
    }

    /// What all leaves have in common; and until when they are valid.
    pub(crate) fn profile(
        &self,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(CertificateParams, SystemTime), Refusal> {
        if now >= self.not_after {
            return Err(Refusal::CaExpired);
        }
        let not_after = (now + lifetime.min(self.longest)).min(self.not_after);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        params.not_after = OffsetDateTime::from(not_after);
        Ok((params, not_after))
    }

    /// The mesh whose identities it signs.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots to be believed; its own is one of them.
    pub fn roots(&self) -> &Bundle {
        &self.roots
    }

    /// Until when the root is valid that its certificates lead to.
    pub fn root_not_after(&self) -> SystemTime {
        self.root_not_after
    }

    /// Whether a signature takes milliseconds, as by RSA, and not a tenth of one.
    pub fn is_slow(&self) -> bool {
        self.slow
    }

    pub(crate) fn issuer(&self) -> &rcgen::Issuer<'static, CaKey> {
        &self.issuer
    }

    /// From the signing certificate to below its root, each PEM.
    pub(crate) fn intermediates(&self) -> &[String] {
        &self.intermediates
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

/// The CA's key: rcgen keeps an encoded copy beside the library's own, and wipes it only when told.
pub(crate) struct CaKey(KeyPair);

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl rcgen::SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl Drop for CaKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The one certificate of a file.
pub(crate) fn only(file: &'static str, pem: &[u8]) -> Result<CertificateDer<'static>, AuthorityError> {
    let mut found = certificates(file, pem)?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_) | None, _) => Err(AuthorityError::File { file, expected: "exactly one certificate" }),
    }
}

fn read_key(pem: &[u8]) -> Result<KeyPair, AuthorityError> {
    let refused =
        || AuthorityError::File { file: "ca-key.pem", expected: "a private key in PEM, of a kind that signs" };
    if pem.len() > MAX_FILE_BYTES {
        return Err(refused());
    }
    let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| refused())?;
    let key = KeyPair::try_from(&der);
    der.zeroize();
    key.map_err(|_| refused())
}

fn valid_until(
    file: &'static str,
    certificate: &X509Certificate<'_>,
    now: SystemTime,
) -> Result<SystemTime, AuthorityError> {
    let (from, until) = validity(certificate);
    if now >= from && now < until {
        return Ok(until);
    }
    let validity = certificate.validity();
    Err(AuthorityError::NotValidNow {
        file,
        subject: certificate.subject().to_string(),
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
    })
}
