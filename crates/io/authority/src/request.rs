//! What a stranger wants signed. RFC 2986.

use std::fmt;

use rcgen::{PublicKeyData, SubjectPublicKeyInfo};
use rustls_pki_types::pem::{PemObject, SectionKind};
use weir_model::SpiffeId;
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_SIG_ED25519},
    prelude::{FromDer, X509Extension},
    public_key::PublicKey,
};

use crate::Refusal;

/// The longest signing request that is read: one for an RSA key of 4096 bits has 1.8 kB.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;

/// RFC 7468 §7.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";
const END: &[u8] = b"-----END CERTIFICATE REQUEST-----";
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key whose owner proved to hold the other half. Nothing else of a request outlives its parsing.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningRequest {
    key: SubjectPublicKeyInfo,
}

impl SigningRequest {
    /// Reads a request for a certificate of the identity `asked`.
    ///
    /// # Errors
    /// It is not exactly one request, its key is not signed by us, not proven, or it asks for anything but this identity.
    pub fn parse(pem: &[u8], asked: &SpiffeId) -> Result<Self, Refusal> {
        read(pem, |request| {
            let info = &request.certification_request_info;
            check_key(&info.subject_pki)?;
            // Each of them: a second list of extensions must not hide behind the first.
            extensions(request).try_for_each(|extension| check_extension(extension, asked))?;
            request.verify_signature().map_err(|_| Refusal::Signature)?;
            let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|e| Refusal::Key(e.to_string()))?;
            Ok(Self { key })
        })
    }

    /// The only URI name that a request asks for, if it asks for one and for no other. It proves nothing, and the rest of the request is
    /// not looked at: [`Self::parse`] does that.
    ///
    /// # Errors
    /// It is not exactly one request.
    pub fn name(pem: &[u8]) -> Result<Option<String>, Refusal> {
        read(pem, |request| {
            let mut uris = Vec::new();
            for extension in extensions(request) {
                let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
                for name in &names.general_names {
                    let GeneralName::URI(uri) = name else { continue };
                    uris.push((*uri).to_owned());
                }
            }
            Ok(uris.pop().filter(|_| uris.is_empty()))
        })
    }

    pub(crate) fn key(&self) -> &impl PublicKeyData {
        &self.key
    }
}

impl fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningRequest").finish_non_exhaustive()
    }
}

/// The extensions a request asks for, of every list of them.
fn extensions<'a>(request: &'a X509CertificationRequest<'a>) -> impl Iterator<Item = &'a X509Extension<'a>> {
    request
        .certification_request_info
        .iter_attributes()
        .filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(wanted) => Some(&wanted.extensions),
            ParsedCriAttribute::ChallengePassword(_) | ParsedCriAttribute::UnsupportedAttribute => None,
        })
        .flatten()
}

fn only_block(pem: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem);
    let first = match blocks.next() {
        Some(Ok((SectionKind::Csr, der))) => der,
        Some(Ok(_)) => return Err(Refusal::NotPem("it is of another kind")),
        Some(Err(_)) => return Err(Refusal::NotPem("it is damaged")),
        None => return Err(Refusal::NotPem("there is none")),
    };
    if blocks.next().is_some() {
        return Err(Refusal::NotPem("there is more than one"));
    }
    // The parser skips what is no block.
    let bare = pem.trim_ascii();
    match bare.starts_with(BEGIN) && bare.ends_with(END) {
        true => Ok(first),
        false => Err(Refusal::NotPem("there is text around it")),
    }
}

/// The DER of the only block, and what it says. Nothing is checked yet.
fn read<T>(pem: &[u8], look: impl FnOnce(&X509CertificationRequest<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
    if pem.len() > MAX_REQUEST_BYTES {
        return Err(Refusal::TooLong(pem.len()));
    }
    let der = only_block(pem)?;
    match X509CertificationRequest::from_der(&der) {
        Ok(([], request)) => look(&request),
        Ok(_) => Err(Refusal::NotPkcs10("bytes follow it")),
        Err(_) => Err(Refusal::NotPkcs10("it cannot be parsed")),
    }
}

fn check_key(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<(), Refusal> {
    if key.algorithm.algorithm == OID_SIG_ED25519 {
        return Ok(());
    }
    let refused = |what: String| Err(Refusal::Key(what));
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => match rsa.key_size() {
            bits if RSA_BITS.contains(&bits) => Ok(()),
            bits => refused(format!("of RSA with {bits} bits")),
        },
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            match curve {
                Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => Ok(()),
                Some(curve) => refused(format!("on the curve {curve}")),
                None => refused("on a curve without a name".to_owned()),
            }
        }
        Ok(_) => refused(format!("of the algorithm {}", key.algorithm.algorithm)),
        Err(_) => refused("that cannot be parsed".to_owned()),
    }
}

fn check_extension(extension: &X509Extension<'_>, asked: &SpiffeId) -> Result<(), Refusal> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what is not known to be harmless is refused, also what comes to be known"
    )]
    match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => match names.general_names.as_slice() {
            [GeneralName::URI(uri)] if *uri == asked.to_string() => Ok(()),
            names => {
                let found = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let found = if found.is_empty() { "no name at all".to_owned() } else { found };
                Err(Refusal::Names { found, asked: asked.clone() })
            }
        },
        ParsedExtension::BasicConstraints(constraints) if constraints.ca => Err(Refusal::WantsCa),
        ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() => Err(Refusal::KeyUsage("keyCertSign")),
        ParsedExtension::KeyUsage(usage) if usage.crl_sign() => Err(Refusal::KeyUsage("cRLSign")),
        ParsedExtension::BasicConstraints(_)
        | ParsedExtension::KeyUsage(_)
        | ParsedExtension::ExtendedKeyUsage(_)
        | ParsedExtension::SubjectKeyIdentifier(_) => Ok(()),
        _ => Err(Refusal::Extension(extension.oid.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let asked = "spiffe://cluster.local/ns/a/sa/b".parse().unwrap();
            prop_assert!(SigningRequest::parse(&noise, &asked).is_err());
        }
    }
}
