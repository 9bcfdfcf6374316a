//! How a signing certificate leads to a root.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use crate::{AuthorityError, bundle::parse};

/// The longest way from the signing certificate to its root.
const MAX_CHAIN: usize = 8;
/// Most signatures that are checked: CAs that sign each other in circles would else be followed for very long.
const MAX_CHECKS: usize = 512;

/// A certificate and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Link<'a> {
    pub(crate) file: &'static str,
    pub(crate) der: &'a CertificateDer<'static>,
}

/// From `own` to a root that it hangs on, both included. CAs may have signed each other: a way that leads nowhere is gone back.
///
/// # Errors
/// No way leads to a root.
pub(crate) fn path<'a>(
    own: &'a CertificateDer<'static>,
    between: &'a [CertificateDer<'static>],
    roots: &'a [CertificateDer<'static>],
) -> Result<Vec<Link<'a>>, AuthorityError> {
    let in_file = |file, certificates: &'a [CertificateDer<'static>]| {
        certificates.iter().map(move |der| Ok((Link { file, der }, parse(file, der)?)))
    };
    // Roots before others: they end it.
    let known: Vec<_> = in_file("ca-cert.pem", std::slice::from_ref(own))
        .chain(in_file("root-cert.pem", roots))
        .chain(in_file("cert-chain.pem", between))
        .collect::<Result<_, AuthorityError>>()?;
    let mut search = Search { known: &known, roots, path: vec![0], checks: 0, furthest: (0, String::new()) };
    match search.reaches() {
        true => Ok(search.path.into_iter().map(|at| known[at].0).collect()),
        false => Err(AuthorityError::NoRoot(search.furthest.1)),
    }
}

struct Search<'a, 'p> {
    /// All certificates; the first is where it begins.
    known: &'p [(Link<'a>, X509Certificate<'a>)],
    roots: &'a [CertificateDer<'static>],
    /// The way so far, by their places in `known`.
    path: Vec<usize>,
    checks: usize,
    /// How long the longest way was, and who stands at its end.
    furthest: (usize, String),
}

impl Search<'_, '_> {
    /// Whether the way can go on to a root from its last certificate.
    fn reaches(&mut self) -> bool {
        let length = self.path.len();
        let (link, last) = &self.known[self.path[length - 1]];
        if self.roots.contains(link.der) {
            return true;
        }
        if length > self.furthest.0 {
            self.furthest = (length, last.subject().to_string());
        }
        if length >= MAX_CHAIN {
            return false;
        }
        for (at, (_, issuer)) in self.known.iter().enumerate() {
            let fits = issuer.subject() == last.issuer() && may_sign(issuer, length) && !self.passed(issuer);
            if !fits || self.checks >= MAX_CHECKS {
                continue;
            }
            self.checks += 1;
            if last.verify_signature(Some(issuer.public_key())).is_err() {
                continue;
            }
            self.path.push(at);
            if self.reaches() {
                return true;
            }
            self.path.truncate(length);
        }
        false
    }

    /// Whether this CA is on the way already, by this certificate or another: that would lead in a circle.
    fn passed(&self, issuer: &X509Certificate<'_>) -> bool {
        self.path.iter().any(|&at| {
            let (_, passed) = &self.known[at];
            passed.subject() == issuer.subject() && passed.public_key().raw == issuer.public_key().raw
        })
    }
}

/// Whether it is a CA that may sign certificates above `below` other CAs. RFC 5280 §4.2.1.3, §4.2.1.9. What cannot be read may not.
pub(crate) fn may_sign(certificate: &X509Certificate<'_>, below: usize) -> bool {
    let usage = certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
    let constraints = certificate.basic_constraints().ok().flatten().map(|found| found.value);
    let deep = |most: u32| usize::try_from(most).is_ok_and(|most| below <= most);
    usage && constraints.is_some_and(|found| found.ca && found.path_len_constraint.is_none_or(deep))
}
