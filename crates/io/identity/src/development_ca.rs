//! A CA in a folder, for laptops, demos and tests: one self-signed root, workload certificates signed in the process.

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use time::OffsetDateTime;
use weir_model::{SpiffeId, TrustDomain};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    Error, Issuer, Issuing, WorkloadCertificate,
    certificate::{parse, unix_seconds, uri_names},
    root_files::{RootFiles, RootPem},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a root is valid.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a workload's certificate is valid. Istio `SECRET_TTL`.
const WORKLOAD_LIFETIME: Duration = DAY;
/// How far a certificate begins in the past, for peers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// A CA in a folder.
pub struct DevelopmentCa {
    trust_domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    issuer: rcgen::Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

impl DevelopmentCa {
    /// Reads the root in `dir` (`root-cert.pem`, `root-key.pem`), or makes it if there is none.
    ///
    /// # Errors
    /// The root is unreadable, exposed, damaged, not valid now, or of another trust domain. The error names the file.
    pub fn open(dir: &Path, trust_domain: &TrustDomain) -> Result<Self, Error> {
        Self::open_at(dir, trust_domain, SystemTime::now())
    }

    pub(crate) fn open_at(dir: &Path, trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, Error> {
        let files = RootFiles::in_folder(dir);
        let pem = files.load_or_make(dir, || make_root(trust_domain, now))?;
        let key = read_key(&files, &pem)?;
        let roots = CertificateDer::pem_slice_iter(&pem.certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| Error::Pem { path: files.certificate.clone(), expected: "CERTIFICATE", source })?;
        let root = signer(&files, &roots, &key)?;
        let not_after = check_root(&files, root, trust_domain, now)?;
        let issuer = rcgen::Issuer::from_ca_cert_der(root, key)
            .map_err(|source| Error::Generate { what: "an issuer of the root", source })?;
        Ok(Self { trust_domain: trust_domain.clone(), roots, issuer, not_after })
    }

    /// The roots others are to be checked by.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// A new ECDSA P-256 key and a certificate for it, valid for 24 h from `now`.
    ///
    /// # Errors
    /// The identity is of another trust domain, or signing failed.
    pub fn issue(&self, identity: &SpiffeId, now: SystemTime) -> Result<WorkloadCertificate, Error> {
        if identity.trust_domain() != &self.trust_domain {
            return Err(Error::ForeignIdentity { identity: identity.clone(), own: self.trust_domain.clone() });
        }
        let generate = |what| move |source| Error::Generate { what, source };
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(generate("a key"))?;
        let mut params = CertificateParams::default();
        // The identity is the name. An empty subject makes the SAN critical (RFC 5280 §4.1.2.6).
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(&identity.to_string())?];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        params.not_after = OffsetDateTime::from((now + WORKLOAD_LIFETIME).min(self.not_after));
        let certificate = params.signed_by(&key, &self.issuer).map_err(generate("a workload certificate"))?;
        let der = PrivatePkcs8KeyDer::from(key.serialized_der().to_vec());
        key.zeroize();
        WorkloadCertificate::new(vec![certificate.into()], der, self.roots.clone())
    }
}

impl Issuer for DevelopmentCa {
    fn certify<'a>(&'a self, identity: &'a SpiffeId) -> Issuing<'a> {
        Box::pin(async move { self.issue(identity, SystemTime::now()) })
    }
}

impl fmt::Debug for DevelopmentCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentCa").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

/// 127 random bits, positive. RFC 5280 §4.1.2.2 asks for at most 20 octets; CA/B for 64 random bits.
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn uri(text: &str) -> Result<SanType, Error> {
    let name = text.try_into().map_err(|source| Error::Generate { what: "a URI SAN", source })?;
    Ok(SanType::URI(name))
}

fn make_root(trust_domain: &TrustDomain, now: SystemTime) -> Result<RootPem, Error> {
    let generate = |what| move |source| Error::Generate { what, source };
    let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(generate("a root key"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
    params.distinguished_name.push(DnType::CommonName, "Weir development root");
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
    params.not_after = OffsetDateTime::from(now + ROOT_LIFETIME);
    let certificate = params.self_signed(&key).map_err(generate("a root certificate"))?;
    let pem = Zeroizing::new(key.serialize_pem().into_bytes());
    key.zeroize();
    Ok(RootPem { certificates: certificate.pem().into_bytes(), key: pem })
}

fn read_key(files: &RootFiles, pem: &RootPem) -> Result<KeyPair, Error> {
    let mut der = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|source| Error::Pem {
        path: files.key.clone(),
        expected: "PRIVATE KEY",
        source,
    })?;
    let key = KeyPair::from_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
    der.zeroize();
    key.map_err(|source| Error::RootKey { path: files.key.clone(), source })
}

/// The certificate that belongs to the key. The others are only trusted: an old root, or the next one.
fn signer<'a>(
    files: &RootFiles,
    roots: &'a [CertificateDer<'static>],
    key: &KeyPair,
) -> Result<&'a CertificateDer<'static>, Error> {
    let own = key.subject_public_key_info();
    for root in roots {
        if parse(root)?.public_key().raw == own.as_slice() {
            return Ok(root);
        }
    }
    Err(Error::RootKeyMismatch { certificate: files.certificate.clone(), key: files.key.clone() })
}

/// Whether the root may sign for this trust domain now; until when.
fn check_root(
    files: &RootFiles,
    root: &CertificateDer<'_>,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<SystemTime, Error> {
    let path = || files.certificate.clone();
    let parsed = parse(root)?;
    let signs = parsed.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
    if !parsed.is_ca() || !signs {
        return Err(Error::RootNoCa { path: path() });
    }
    let (not_before, not_after) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let at = unix_seconds(now);
    if at < not_before || at >= not_after {
        return Err(Error::RootNotValid { path: path(), not_before, not_after, now: at });
    }
    let own = format!("spiffe://{trust_domain}");
    let found = uri_names(&parsed)?;
    if found != [own.as_str()] {
        let found = found.into_iter().map(str::to_owned).collect();
        return Err(Error::RootTrustDomain { path: path(), found, expected: trust_domain.clone() });
    }
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(not_after).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
