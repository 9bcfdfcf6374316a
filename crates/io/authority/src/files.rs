//! The files of a CA, and what may be wrong with them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use time::OffsetDateTime;
use weir_model::TrustDomain;
use zeroize::{Zeroize, Zeroizing};

/// How long a root of our own making is valid.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far a certificate begins in the past, for peers whose clock is behind.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(120);

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
    /// A new self-signed root, ECDSA P-256, that signs workloads itself. Its URI name is the trust domain's (SPIFFE X.509-SVID §4.1), its
    /// common name unlike any other's, so that two roots of one mesh can be told apart.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn make(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let serial = serial();
        let short: String = serial.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
        params.distinguished_name.push(DnType::CommonName, format!("Weir root {short}"));
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").as_str().try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial);
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

/// 126 random bits, positive and never shorter. RFC 5280 §4.1.2.2 asks for at most 20 octets.
pub(crate) fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
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
    #[error(
        "{file}: {subject}: expected a certificate that is valid now, this one is from {not_before} to {not_after}"
    )]
    NotValidNow {
        /// Where it stands.
        file: &'static str,
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
