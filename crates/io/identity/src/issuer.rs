//! Who signs: the seam between holding certificates and the CA they come from.

use std::{fmt, pin::Pin};

use weir_model::SpiffeId;

use crate::{Error, WorkloadCertificate};

/// A certificate on its way. Boxed, so that an [`Issuer`] can be chosen at run time.
pub type Issuing<'a> = Pin<Box<dyn Future<Output = Result<WorkloadCertificate, Error>> + Send + 'a>>;

/// Something that gives out workload certificates.
///
/// A call may take as long as it likes: the holder gives it a deadline, never asks twice at once for one identity, and backs
/// off after a failure.
pub trait Issuer: fmt::Debug + Send + Sync {
    /// A new key and a certificate for it.
    fn certify<'a>(&'a self, identity: &'a SpiffeId) -> Issuing<'a>;
}
