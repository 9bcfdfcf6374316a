//! A CA in a folder, for laptops, demos and tests: one self-signed root, workload certificates signed in the process.

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use weir_authority::{Authority, Bundle, CaFiles};
use weir_model::{SpiffeId, TrustDomain};
use zeroize::Zeroize;

use crate::{
    Error, Issuer, Issuing, WorkloadCertificate,
    certificate::{parse, unix_seconds, uri_names},
    root_files::{RootFiles, RootPem},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a workload's certificate is valid. Istio `SECRET_TTL`.
const WORKLOAD_LIFETIME: Duration = DAY;

/// A CA in a folder.
pub struct DevelopmentCa {
    trust_domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    authority: Authority,
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
        let root = signer(&files, &roots, key)?;
        check_root(&files, root, trust_domain, now)?;
        let certificate = Bundle::from(root.clone()).pem().into_bytes();
        let own = CaFiles { roots: certificate.clone(), certificate, key: pem.key, chain: Vec::new() };
        let authority = Authority::open(&own, trust_domain, WORKLOAD_LIFETIME, now)
            .map_err(|source| Error::RootUnusable { path: files.certificate.clone(), source: Box::new(source) })?;
        Ok(Self { trust_domain: trust_domain.clone(), roots, authority })
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
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|source| Error::Generate { what: "a key", source })?;
        let signed = self.authority.leaf(&key, identity, WORKLOAD_LIFETIME, now);
        let der = PrivatePkcs8KeyDer::from(key.serialized_der().to_vec());
        key.zeroize();
        let certificate =
            signed.map_err(|source| Error::Signing { identity: identity.clone(), source: Box::new(source) })?;
        WorkloadCertificate::new(vec![certificate], der, self.roots.clone())
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

fn make_root(trust_domain: &TrustDomain, now: SystemTime) -> Result<RootPem, Error> {
    let made = CaFiles::make(trust_domain, now).map_err(|source| Error::MakeRoot { source: Box::new(source) })?;
    Ok(RootPem { certificates: made.certificate, key: made.key })
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
    mut key: KeyPair,
) -> Result<&'a CertificateDer<'static>, Error> {
    let own = key.subject_public_key_info();
    key.zeroize();
    for root in roots {
        if parse(root)?.public_key().raw == own.as_slice() {
            return Ok(root);
        }
    }
    Err(Error::RootKeyMismatch { certificate: files.certificate.clone(), key: files.key.clone() })
}

/// Whether the root may sign for this trust domain now.
fn check_root(
    files: &RootFiles,
    root: &CertificateDer<'_>,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<(), Error> {
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
    Ok(())
}

#[cfg(test)]
mod tests;
