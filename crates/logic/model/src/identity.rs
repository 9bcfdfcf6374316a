//! SPIFFE identities as Istio writes them: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{NameError, Namespace, ServiceAccount};

/// The domain whose root signed an identity: lower-case letters, digits, `.`, `-`, `_`. SPIFFE-ID §2.1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The trust domain when nothing else was said. Istio `meshConfig.trustDomain`.
    pub const DEFAULT: &'static str = "cluster.local";

    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::try_from(Arc::from(text))
    }
}

impl TryFrom<Arc<str>> for TrustDomain {
    type Error = SpiffeIdError;

    fn try_from(text: Arc<str>) -> Result<Self, SpiffeIdError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if text.is_empty() || text.len() > 255 || !text.chars().all(legal) {
            return Err(SpiffeIdError::TrustDomain((*text).to_owned()));
        }
        Ok(Self(text))
    }
}

/// Why a text is no identity of this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// The trust domain is missing, too long, or has a character SPIFFE does not allow.
    #[error("{0:?} is not a trust domain: expected 1 to 255 of a-z, 0-9, '.', '-', '_'")]
    TrustDomain(String),
    /// Not of the form Istio gives its identities.
    #[error("{0:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Form(String),
    /// The namespace or the service account is not a legal name.
    #[error("identity {text:?}")]
    Name {
        /// The text as given.
        text: String,
        /// What is wrong with the part.
        #[source]
        source: NameError,
    },
}

/// Who a workload is: proven by its certificate's only URI SAN.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: Namespace,
    service_account: ServiceAccount,
}

impl SpiffeId {
    /// The identity of a service account.
    pub fn new(trust_domain: TrustDomain, namespace: Namespace, service_account: ServiceAccount) -> Self {
        Self { trust_domain, namespace, service_account }
    }

    /// The domain whose root signed it.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace of the service account.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The service account.
    pub fn service_account(&self) -> &ServiceAccount {
        &self.service_account
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let form = || SpiffeIdError::Form(text.to_owned());
        let name = |source| SpiffeIdError::Name { text: text.to_owned(), source };
        let mut parts = text.strip_prefix("spiffe://").ok_or_else(form)?.split('/');
        let (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form());
        };
        Ok(Self {
            trust_domain: domain.parse()?,
            namespace: namespace.parse().map_err(name)?,
            service_account: account.parse().map_err(name)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_prints_as_it_was_read() {
        let text = "spiffe://cluster.local/ns/todo/sa/ui";
        assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
    }

    #[test]
    fn what_is_not_exactly_the_form_is_no_identity() {
        for bad in [
            "",
            "cluster.local/ns/a/sa/b",
            "spiffe://cluster.local",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns//sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b/",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://Cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/sa/b/ns/a",
            "SPIFFE://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local:80/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b?x",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad:?} was taken");
        }
    }
}
