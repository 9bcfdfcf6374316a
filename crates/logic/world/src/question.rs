//! A connection somebody asks about: who, and where to, in words a person types.

use std::{fmt, net::IpAddr, str::FromStr};

use weir_model::{Namespace, Port, ServiceAccount, SpiffeId, TrustDomain, canonical_ip};

/// What stands for a peer without an identity.
const PLAINTEXT: &str = "plaintext";

/// Why a text is no question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Not the form of a source.
    #[error(
        "{text:?} is no source: {why}; expected NAMESPACE/SERVICE-ACCOUNT, a spiffe:// identity or \"plaintext\", and @ADDRESS \
         behind it where the address matters"
    )]
    Client {
        /// As given.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// Not the form of a destination.
    #[error("{text:?} is no destination: {why}; expected NAMESPACE/POD:PORT, the pod's own port")]
    Target {
        /// As given.
        text: String,
        /// What is wrong.
        why: String,
    },
}

/// Who connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Who it proves to be; nobody in plaintext.
    pub who: Option<Who>,
    /// Its address, canonical. Without one, that of a workload which runs as it.
    pub address: Option<IpAddr>,
}

/// A service account, of the destination's trust domain unless it says another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The trust domain, where it was said.
    pub trust_domain: Option<TrustDomain>,
    /// The namespace.
    pub namespace: Namespace,
    /// The service account there.
    pub service_account: ServiceAccount,
}

impl Who {
    /// The identity, in `domain` unless it has its own.
    pub fn identity(&self, domain: &TrustDomain) -> SpiffeId {
        let domain = self.trust_domain.as_ref().unwrap_or(domain);
        SpiffeId::new(domain.clone(), self.namespace.clone(), self.service_account.clone())
    }
}

/// Where it connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod.
    pub pod: String,
    /// Its own port.
    pub port: Port,
}

impl FromStr for Client {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, QuestionError> {
        let wrong = |why: String| QuestionError::Client { text: text.to_owned(), why };
        let (who, address) = match text.split_once('@') {
            Some((who, address)) => {
                let address: IpAddr = address.parse().map_err(|_| wrong(format!("{address:?} is no IP address")))?;
                (who, Some(canonical_ip(address)))
            }
            None => (text, None),
        };
        if who == PLAINTEXT {
            return Ok(Self { who: None, address });
        }
        let who = if who.starts_with("spiffe://") {
            let identity: SpiffeId = who.parse().map_err(|error| wrong(format!("{error}")))?;
            Who {
                trust_domain: Some(identity.trust_domain().clone()),
                namespace: identity.namespace().clone(),
                service_account: identity.service_account().clone(),
            }
        } else {
            let (namespace, account) = who.split_once('/').ok_or_else(|| wrong("there is no '/'".to_owned()))?;
            Who {
                trust_domain: None,
                namespace: namespace.parse().map_err(|error| wrong(format!("{error}")))?,
                service_account: account.parse().map_err(|error| wrong(format!("{error}")))?,
            }
        };
        Ok(Self { who: Some(who), address })
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            None => f.write_str(PLAINTEXT)?,
            Some(Who { trust_domain: None, namespace, service_account }) => write!(f, "{namespace}/{service_account}")?,
            Some(who @ Who { trust_domain: Some(domain), .. }) => write!(f, "{}", who.identity(domain))?,
        }
        self.address.map_or(Ok(()), |address| write!(f, "@{address}"))
    }
}

impl FromStr for Target {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, QuestionError> {
        let wrong = |why: String| QuestionError::Target { text: text.to_owned(), why };
        let (pod, port) = text.rsplit_once(':').ok_or_else(|| wrong("there is no port".to_owned()))?;
        let port = port.parse().map_err(|error| wrong(format!("{error}")))?;
        let (namespace, pod) = pod.split_once('/').ok_or_else(|| wrong("there is no '/'".to_owned()))?;
        if pod.is_empty() {
            return Err(wrong("there is no pod".to_owned()));
        }
        let namespace = namespace.parse().map_err(|error| wrong(format!("{error}")))?;
        Ok(Self { namespace, pod: pod.to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.pod, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_and_a_destination_come_out_as_they_went_in() {
        for text in [
            "a/b",
            "a/b@10.0.0.1",
            "a/b@fd00::1",
            "plaintext",
            "plaintext@10.0.0.1",
            "spiffe://other.example/ns/a/sa/b",
            "spiffe://other.example/ns/a/sa/b@fd00::1",
        ] {
            assert_eq!(text.parse::<Client>().unwrap().to_string(), text);
        }
        assert_eq!("a/b@::ffff:10.0.0.1".parse::<Client>().unwrap().to_string(), "a/b@10.0.0.1");
        for text in ["a/web-0:8080", "kube-system/x.y:1"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_none_is_told_what_it_should_be() {
        for (text, why) in [
            ("", "there is no '/'"),
            ("a", "there is no '/'"),
            ("a/b@", "\"\" is no IP address"),
            ("a/b@10.0.0", "\"10.0.0\" is no IP address"),
            ("spiffe://a/b", "is not of the form"),
            ("A/b", "namespace"),
            ("a/", "service account"),
        ] {
            let error = text.parse::<Client>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        for (text, why) in [
            ("a/b", "there is no port"),
            ("b:80", "there is no '/'"),
            ("a/b:0", "is not a port"),
            ("a/:80", "there is no pod"),
            ("a/b:http", "is not a port"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
