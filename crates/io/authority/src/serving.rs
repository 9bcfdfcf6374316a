//! Certificates of the control plane's own servers, which are called by DNS names.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use zeroize::{Zeroize, Zeroizing};

use crate::{Authority, Refusal};

/// A server's certificate and key.
pub struct Serving {
    /// The certificate and how it leads to the root, PEM, the leaf first. The root itself is left out: whoever checks has it.
    pub chain: String,
    /// Its key, PKCS#8 in PEM.
    pub key: Zeroizing<String>,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new key and a certificate for a server of these DNS names. It has no identity of the mesh, and is good for no client.
    ///
    /// # Errors
    /// A name cannot stand in a certificate, the CA is not valid now, or signing failed.
    pub fn serve(&self, names: &[String], lifetime: Duration, now: SystemTime) -> Result<Serving, Refusal> {
        let failed = |error: rcgen::Error| Refusal::Signing(error.to_string());
        let (mut params, not_after) = self.profile(lifetime, now)?;
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let leaf = params.signed_by(&key, self.issuer()).map_err(failed)?;
        let chain = leaf.pem() + &self.intermediates().concat();
        let pem = Zeroizing::new(key.serialize_pem());
        key.zeroize();
        Ok(Serving { chain, key: pem, not_after })
    }
}
