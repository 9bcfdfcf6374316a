//! A workload's certificate as it came from an issuer, and who a certificate says it belongs to.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use weir_model::SpiffeId;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};
use zeroize::Zeroize;

use crate::{Error, tls::prove};

/// A certificate with its key and the roots to check others by. The key is wiped when this is dropped.
pub struct WorkloadCertificate {
    pub(crate) identity: SpiffeId,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivatePkcs8KeyDer<'static>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) serial: String,
}

impl WorkloadCertificate {
    /// Takes an issuer's answer: `chain` with the leaf first, its key, and every root the mesh trusts.
    ///
    /// # Errors
    /// The leaf cannot be read or does not name exactly one identity.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Error> {
        let leaf = chain.first().ok_or(Error::NoCertificate)?;
        let parsed = parse(leaf)?;
        let identity = identity_of(&parsed)?;
        let not_before = system_time(parsed.validity().not_before.timestamp());
        let not_after = system_time(parsed.validity().not_after.timestamp());
        let serial = parsed.raw_serial_as_string();
        Ok(Self { identity, chain, roots, key, not_before, not_after, serial })
    }

    /// Takes the answer of an issuer elsewhere, of which nothing is taken on trust but which roots there are.
    ///
    /// # Errors
    /// As [`Self::new`]; or it is for somebody else than `asked`, has further names, its key is another, it does not lead to the roots, or
    /// peers would not believe it at `now`.
    pub fn proven(
        chain: Vec<CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
        asked: &SpiffeId,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let certificate = Self::new(chain, key, roots)?;
        if certificate.identity() != asked {
            return Err(Error::WrongIdentity { asked: asked.clone(), found: certificate.identity().clone() });
        }
        let leaf = parse(certificate.chain.first().ok_or(Error::NoCertificate)?)?;
        let names = leaf.subject_alternative_name().map_err(|e| Error::Malformed { detail: e.to_string() })?;
        match names.map_or(0, |names| names.value.general_names.len()) {
            1 => prove(&certificate, now).map(|()| certificate),
            count => Err(Error::MoreNames { identity: asked.clone(), count }),
        }
    }

    /// Whom the certificate is for.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// When it begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When it ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

impl Drop for WorkloadCertificate {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Who the first certificate says it belongs to. A proof only after the handshake it came from has succeeded.
///
/// # Errors
/// There is no certificate, it cannot be read, or it does not have exactly one URI SAN that is an identity.
pub fn peer_identity(certificates: &[CertificateDer<'_>]) -> Result<SpiffeId, Error> {
    identity_of(&parse(certificates.first().ok_or(Error::NoCertificate)?)?)
}

pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let malformed = |detail: String| Error::Malformed { detail };
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| malformed(e.to_string()))?;
    if rest.is_empty() { Ok(parsed) } else { Err(malformed(format!("{} bytes after its end", rest.len()))) }
}

/// Every URI name. A name that cannot be read refuses the certificate: what is skipped could be the second identity.
pub(crate) fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, Error> {
    let malformed = |detail: String| Error::Malformed { detail };
    let Some(names) = certificate.subject_alternative_name().map_err(|e| malformed(e.to_string()))? else {
        return Ok(Vec::new());
    };
    let mut uris = Vec::new();
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::Invalid(tag, _) => return Err(malformed(format!("unreadable SAN of tag {tag}"))),
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::DNSName(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    Ok(uris)
}

pub(crate) fn identity_of(certificate: &X509Certificate<'_>) -> Result<SpiffeId, Error> {
    match uri_names(certificate)?.as_slice() {
        [] => Err(Error::NoIdentity),
        [one] => one.parse().map_err(|source| Error::BadIdentity { source }),
        several => Err(Error::SeveralIdentities { count: several.len() }),
    }
}

/// Unix seconds as a time; what lies before 1970 is 1970.
fn system_time(unix: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or(0))
}

/// A time as Unix seconds, for messages and metrics; what lies before 1970 is 0.
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
