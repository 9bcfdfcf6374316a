//! The CA's own certificates and key, and signing by them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::OffsetDateTime;
use weir_model::{SpiffeId, TrustDomain};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::{Zeroize, Zeroizing};

use crate::{Refusal, SigningRequest};

/// How long a root of our own making is valid.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far a certificate begins in the past, for peers whose clock is behind.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(120);
/// The longest way from the signing certificate to its root.
const MAX_CHAIN: usize = 8;

/// A CA as files, in the layout of Istio's Secret `cacerts`.
#[derive(Clone)]
pub struct CaFiles {
    /// `ca-cert.pem`: the certificate that signs.
    pub certificate: Vec<u8>,
    /// `ca-key.pem`: its key, PKCS#8, PKCS#1 or SEC1.
    pub key: Zeroizing<Vec<u8>>,
    /// `root-cert.pem`: the roots to be believed.
    pub roots: Vec<u8>,
    /// `cert-chain.pem`: what lies between, in any order; may be empty, and may repeat the others.
    pub chain: Vec<u8>,
}

impl CaFiles {
    /// A new self-signed root, ECDSA P-256, that signs workloads itself.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn make(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        params.not_after = OffsetDateTime::from(now + ROOT_LIFETIME);
        let certificate = params.self_signed(&key)?.pem().into_bytes();
        let pem = Zeroizing::new(key.serialize_pem().into_bytes());
        key.zeroize();
        Ok(Self { roots: certificate.clone(), certificate, key: pem, chain: Vec::new() })
    }
}

impl fmt::Debug for CaFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaFiles").finish_non_exhaustive()
    }
}

/// Why the files are no CA. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is not what it should be.
    #[error("{file}: expected {expected}")]
    File {
        /// The file.
        file: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// The key is another's.
    #[error("ca-key.pem: expected the key of ca-cert.pem, it belongs to another certificate")]
    KeyMismatch,
    /// The certificate may not sign.
    #[error("ca-cert.pem: expected a CA certificate (basicConstraints CA, keyUsage keyCertSign)")]
    NoCa,
    /// The certificate, or one it depends on, is not valid now.
    #[error("{subject}: expected a certificate that is valid now, this one is from {not_before} to {not_after}")]
    NotValidNow {
        /// Whose.
        subject: String,
        /// Since when.
        not_before: String,
        /// Until when.
        not_after: String,
    },
    /// The chain leads nowhere.
    #[error(
        "cert-chain.pem: expected certificates that lead from ca-cert.pem to one of root-cert.pem, none signed {0}"
    )]
    NoRoot(String),
    /// The library failed.
    #[error("the certificate could not be made: {0}")]
    Generate(#[from] rcgen::Error),
}

/// A CA that signs.
pub struct Authority {
    trust_domain: TrustDomain,
    issuer: rcgen::Issuer<'static, KeyPair>,
    /// From the signing certificate to its root, both included, as PEM.
    path: Vec<String>,
    not_after: SystemTime,
    longest: Duration,
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
        let own = certificates("ca-cert.pem", &files.certificate)?;
        let [own] = own.as_slice() else {
            return Err(AuthorityError::File { file: "ca-cert.pem", expected: "exactly one certificate" });
        };
        let roots = certificates("root-cert.pem", &files.roots)?;
        if roots.is_empty() {
            return Err(AuthorityError::File { file: "root-cert.pem", expected: "at least one certificate" });
        }
        let between = certificates("cert-chain.pem", &files.chain)?;
        let key = read_key(&files.key)?;
        let parsed = parse("ca-cert.pem", own)?;
        if parsed.public_key().raw != key.subject_public_key_info().as_slice() {
            return Err(AuthorityError::KeyMismatch);
        }
        if !may_sign(&parsed, 0) {
            return Err(AuthorityError::NoCa);
        }
        let path = path(own, &between, &roots)?;
        let mut not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::MAX >> 24);
        for certificate in &path {
            not_after = not_after.min(valid_until(&parse("cert-chain.pem", certificate)?, now)?);
        }
        let issuer = rcgen::Issuer::from_ca_cert_der(own, key)?;
        let path = path.iter().map(|der| pem("CERTIFICATE", der)).collect();
        Ok(Self { trust_domain: trust_domain.clone(), issuer, path, not_after, longest })
    }

    /// A certificate for the key of `request` and the identity, and how it leads to the root: the leaf first, the root last, each PEM.
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
        if identity.trust_domain() != &self.trust_domain {
            return Err(Refusal::TrustDomain { asked: identity.clone(), own: self.trust_domain.clone() });
        }
        let not_after = self.until(lifetime, now)?;
        let failed = |error: rcgen::Error| Refusal::Signing(error.to_string());
        let mut params = CertificateParams::default();
        // The identity is the name. An empty subject makes the SAN critical (RFC 5280 §4.1.2.6).
        params.distinguished_name = DistinguishedName::new();
        let name = identity.to_string();
        params.subject_alt_names = vec![SanType::URI(name.as_str().try_into().map_err(failed)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        params.not_after = OffsetDateTime::from(not_after);
        let leaf = params.signed_by(request.key(), &self.issuer).map_err(failed)?;
        let mut chain = vec![leaf.pem()];
        chain.extend_from_slice(&self.path);
        Ok(chain)
    }

    /// Until when a certificate of this lifetime is valid.
    pub(crate) fn until(&self, lifetime: Duration, now: SystemTime) -> Result<SystemTime, Refusal> {
        if now >= self.not_after {
            return Err(Refusal::CaExpired);
        }
        Ok((now + lifetime.min(self.longest)).min(self.not_after))
    }

    pub(crate) fn issuer(&self) -> &rcgen::Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// From the signing certificate to its root, each PEM.
    pub(crate) fn path(&self) -> &[String] {
        &self.path
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

/// 126 random bits, positive and never shorter. RFC 5280 §4.1.2.2 asks for at most 20 octets.
pub(crate) fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn pem(tag: &str, der: &[u8]) -> String {
    pem::encode_config(&pem::Pem::new(tag, der), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| AuthorityError::File { file, expected: "certificates in PEM, and one block is damaged" })
}

fn read_key(pem: &[u8]) -> Result<KeyPair, AuthorityError> {
    let expected = "a private key in PEM, of a kind that signs";
    let file = "ca-key.pem";
    let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| AuthorityError::File { file, expected })?;
    let key = KeyPair::try_from(&der);
    der.zeroize();
    key.map_err(|_| AuthorityError::File { file, expected })
}

fn parse<'a>(file: &'static str, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, AuthorityError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(_) => Err(AuthorityError::File { file, expected: "an X.509 certificate" }),
    }
}

/// Whether it is a CA that may sign certificates above `below` other CAs. RFC 5280 §4.2.1.3, §4.2.1.9. What cannot be read may not.
fn may_sign(certificate: &X509Certificate<'_>, below: usize) -> bool {
    let usage = certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
    let constraints = certificate.basic_constraints().ok().flatten().map(|found| found.value);
    let deep = |most: u32| usize::try_from(most).is_ok_and(|most| below <= most);
    usage && constraints.is_some_and(|found| found.ca && found.path_len_constraint.is_none_or(deep))
}

/// From `own` to the root that it hangs on.
fn path<'a>(
    own: &'a CertificateDer<'static>,
    between: &'a [CertificateDer<'static>],
    roots: &'a [CertificateDer<'static>],
) -> Result<Vec<&'a CertificateDer<'static>>, AuthorityError> {
    let mut path = vec![own];
    while let Some(last) = path.last().copied().filter(|last| !roots.contains(last)) {
        let certificate = parse("cert-chain.pem", last)?;
        let signed = |candidate: &CertificateDer<'static>| {
            X509Certificate::from_der(candidate).is_ok_and(|(_, issuer)| {
                issuer.subject() == certificate.issuer()
                    && may_sign(&issuer, path.len())
                    && certificate.verify_signature(Some(issuer.public_key())).is_ok()
            })
        };
        // A root ends it; a certificate that is already on the way would lead in a circle.
        let next = roots.iter().chain(between).find(|candidate| !path.contains(candidate) && signed(candidate));
        match next {
            Some(next) if path.len() < MAX_CHAIN => path.push(next),
            _ => return Err(AuthorityError::NoRoot(certificate.subject().to_string())),
        }
    }
    Ok(path)
}

fn valid_until(certificate: &X509Certificate<'_>, now: SystemTime) -> Result<SystemTime, AuthorityError> {
    let validity = certificate.validity();
    let at = OffsetDateTime::from(now);
    let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    if at < from || at >= until {
        return Err(AuthorityError::NotValidNow {
            subject: certificate.subject().to_string(),
            not_before: validity.not_before.to_string(),
            not_after: validity.not_after.to_string(),
        });
    }
    Ok(until.into())
}
