//! The roots to be believed, as one text that is the same whoever writes it.

use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::AuthorityError;

/// The longest file of certificates that is read: a ConfigMap has at most 1 MiB, and holds other keys too.
pub const MAX_FILE_BYTES: usize = 256 << 10;
/// Most certificates in one file.
pub const MAX_CERTIFICATES: usize = 64;

/// The roots of a mesh: at least one, each once, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// The certificates of a PEM text; `file` is how an error calls it.
    ///
    /// # Errors
    /// The text is too long, damaged, or holds no certificate, too many, or something that only looks like one.
    pub fn parse(file: &'static str, pem: &[u8]) -> Result<Self, AuthorityError> {
        let roots = certificates(file, pem)?;
        roots.iter().try_for_each(|root| parse(file, root).map(drop))?;
        match roots.is_empty() {
            true => Err(AuthorityError::File { file, expected: "at least one certificate" }),
            false => Ok(Self::of(roots)),
        }
    }

    /// `roots` in order, without repetition.
    pub(crate) fn of(mut roots: Vec<CertificateDer<'static>>) -> Self {
        roots.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        roots.dedup();
        Self(roots)
    }

    /// Those of both.
    ///
    /// # Errors
    /// That would be more than are read again.
    pub fn and(&self, other: &Self) -> Result<Self, AuthorityError> {
        let both = Self::of([self.0.as_slice(), other.0.as_slice()].concat());
        match both.0.len() > MAX_CERTIFICATES {
            true => Err(AuthorityError::File { file: "root-cert.pem", expected: TOO_MANY }),
            false => Ok(both),
        }
    }

    /// Whether all of `other` are among these.
    pub fn has_all_of(&self, other: &Self) -> bool {
        other.0.iter().all(|root| self.0.contains(root))
    }

    /// The roots, in order.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// One PEM block after the other: for `root-cert.pem` and the ConfigMap `istio-ca-root-cert`.
    pub fn pem(&self) -> String {
        self.0.iter().map(|root| encode(root)).collect()
    }
}

impl From<CertificateDer<'static>> for Bundle {
    /// Of one root.
    fn from(root: CertificateDer<'static>) -> Self {
        Self(vec![root])
    }
}

/// One PEM block.
pub(crate) fn encode(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

const TOO_MANY: &str = "at most 64 certificates";

/// The certificates of a file, not yet looked at.
pub(crate) fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    if pem.len() > MAX_FILE_BYTES {
        return Err(AuthorityError::File { file, expected: "at most 256 KiB" });
    }
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let expected = "certificates in PEM, and one block is damaged";
        found.push(certificate.map_err(|_| AuthorityError::File { file, expected })?);
        if found.len() > MAX_CERTIFICATES {
            return Err(AuthorityError::File { file, expected: TOO_MANY });
        }
    }
    Ok(found)
}

pub(crate) fn parse<'a>(
    file: &'static str,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, AuthorityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(AuthorityError::File { file, expected: "X.509 certificates" }),
    }
}

/// From when to when it is valid; what lies before 1970 is 1970.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let time = |at: OffsetDateTime| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at.unix_timestamp()).unwrap_or(0))
    };
    let validity = certificate.validity();
    (time(validity.not_before.to_datetime()), time(validity.not_after.to_datetime()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_model::TrustDomain;

    use super::*;
    use crate::CaFiles;

    fn root() -> Vec<u8> {
        let mesh: TrustDomain = "cluster.local".parse().unwrap();
        CaFiles::make(&mesh, SystemTime::now()).unwrap().certificate
    }

    #[test]
    fn the_text_of_a_bundle_does_not_depend_on_how_it_was_written() {
        let (one, two) = (root(), root());
        let want = Bundle::parse("x", &[one.as_slice(), &two].concat()).unwrap();
        for other in [
            [two.as_slice(), &one].concat(),
            [b"# the old one\n".as_slice(), &one, b"\n\n", &two, &one].concat(),
            String::from_utf8([one.as_slice(), &two].concat()).unwrap().replace('\n', "\r\n").into_bytes(),
            want.pem().into_bytes(),
        ] {
            assert_eq!(Bundle::parse("x", &other).unwrap().pem(), want.pem());
        }
        let (one, two) = (Bundle::parse("x", &one).unwrap(), Bundle::parse("x", &two).unwrap());
        assert_eq!(one.and(&two).unwrap(), want);
        assert_eq!(want.and(&two).unwrap(), want);
        assert!(want.has_all_of(&one) && !one.has_all_of(&two));
    }

    #[test]
    fn what_is_no_bundle_is_refused_by_the_files_name() {
        let one = root();
        let many: Vec<u8> = (0..=MAX_CERTIFICATES).flat_map(|_| one.clone()).collect();
        let junk = encode(b"junk");
        for (what, text, want) in [
            ("nothing", Vec::new(), "root-cert.pem: expected at least one certificate"),
            ("junk", junk.into_bytes(), "root-cert.pem: expected X.509 certificates"),
            (
                "half",
                one[..one.len() / 2].to_vec(),
                "root-cert.pem: expected certificates in PEM, and one block is damaged",
            ),
            ("too many", many, "root-cert.pem: expected at most 64 certificates"),
            ("too long", vec![b'\n'; MAX_FILE_BYTES + 1], "root-cert.pem: expected at most 256 KiB"),
        ] {
            assert_eq!(Bundle::parse("root-cert.pem", &text).unwrap_err().to_string(), want, "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(Bundle::parse("x", &noise).is_err());
        }
    }
}
