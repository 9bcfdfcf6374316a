//! Names: text in, newtypes out. The doors are `FromStr` and, for a text that is shared already, `TryFrom<Arc<str>>`; both refuse what
//! Kubernetes would refuse.

use std::{fmt, str::FromStr, sync::Arc};

/// Why a text is not the name it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("empty {what}")]
    Empty {
        /// The kind of name, as a person calls it.
        what: &'static str,
    },
    /// Longer than the kind of name allows.
    #[error("{what} of {len} bytes, at most {max} are allowed")]
    TooLong {
        /// The kind of name.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most it may have.
        max: usize,
    },
    /// A character the kind of name does not have.
    #[error("{what} {text:?} has the character {found:?}, allowed are {allowed}")]
    Character {
        /// The kind of name.
        what: &'static str,
        /// The text as given.
        text: String,
        /// The first character that does not belong.
        found: char,
        /// What may stand there, in words.
        allowed: &'static str,
    },
    /// A name of two parts with one missing.
    #[error("{what} {text:?} is not of the form {form}")]
    Form {
        /// The kind of name.
        what: &'static str,
        /// The text as given.
        text: String,
        /// The form expected.
        form: &'static str,
    },
}

const LABEL: &str = "lower-case letters, digits and '-' inside";
const SUBDOMAIN: &str = "lower-case letters, digits, '-' and '.' inside";
const VISIBLE: &str = "visible ASCII without '\"' and '\\'";

fn bounded(what: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > max {
        return Err(NameError::TooLong { what, len: text.len(), max });
    }
    Ok(())
}

/// RFC 1123 label or, with `dots`, subdomain.
fn rfc1123(what: &'static str, text: &str, max: usize, dots: bool) -> Result<(), NameError> {
    bounded(what, text, max)?;
    let allowed = if dots { SUBDOMAIN } else { LABEL };
    let bad = |found| NameError::Character { what, text: text.to_owned(), found, allowed };
    for part in text.split('.') {
        let edge = |c: Option<char>| match c {
            Some(c) if c.is_ascii_lowercase() || c.is_ascii_digit() => Ok(()),
            Some(c) => Err(bad(c)),
            None => Err(bad('.')),
        };
        edge(part.chars().next())?;
        edge(part.chars().last())?;
    }
    match text.chars().find(|&c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.'))) {
        Some(found) => Err(bad(found)),
        None => Ok(()),
    }
}

pub(crate) fn visible(what: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    bounded(what, text, max)?;
    match text.chars().find(|&c| !c.is_ascii_graphic() || c == '"' || c == '\\') {
        Some(found) => Err(NameError::Character { what, text: text.to_owned(), found, allowed: VISIBLE }),
        None => Ok(()),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($check:expr);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            fn check(text: &str) -> Result<(), NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(text)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<Arc<str>> for $name {
            type Error = NameError;

            fn try_from(text: Arc<str>) -> Result<Self, NameError> {
                Self::check(&text)?;
                Ok(Self(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

names! {
    /// A Kubernetes namespace: an RFC 1123 label.
    Namespace(|t| rfc1123("namespace", t, 63, false));
    /// A Kubernetes service account: an RFC 1123 subdomain.
    ServiceAccount(|t| rfc1123("service account", t, 253, true));
    /// A node: an RFC 1123 subdomain.
    NodeName(|t| rfc1123("node name", t, 253, true));
    /// A fully qualified host name of a service.
    Hostname(|t| rfc1123("host name", t.strip_prefix("*.").unwrap_or(t), 253, true));
    /// The cluster a workload runs in (`CLUSTER_ID`), for example `Kubernetes`.
    ClusterId(|t| visible("cluster id", t, 253));
    /// What uniquely names a workload in the mesh: `cluster//v1/Pod/namespace/name`.
    WorkloadUid(|t| visible("workload uid", t, 1024));
}

impl WorkloadUid {
    /// The name of a pod in the mesh.
    ///
    /// # Errors
    /// If `name` cannot be a pod's.
    pub fn of_pod(cluster: &ClusterId, namespace: &Namespace, name: &str) -> Result<Self, NameError> {
        rfc1123("pod name", name, 253, true)?;
        format!("{cluster}//v1/Pod/{namespace}/{name}").parse()
    }
}

/// A network (`topology.istio.io/network`): workloads of one network reach each other by address. Empty is the default network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(Arc<str>);

impl Network {
    /// The network as text; empty for the default one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Network {
    fn default() -> Self {
        Self("".into())
    }
}

impl FromStr for Network {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(Arc::from(text))
    }
}

impl TryFrom<Arc<str>> for Network {
    type Error = NameError;

    fn try_from(text: Arc<str>) -> Result<Self, NameError> {
        if !text.is_empty() {
            visible("network", &text, 253)?;
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service of the mesh: its namespace and host name, written `namespace/hostname`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The namespace the service was declared in.
    pub namespace: Namespace,
    /// Its fully qualified host name.
    pub hostname: Hostname,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, hostname) = text.split_once('/').ok_or_else(|| NameError::Form {
            what: "service name",
            text: text.to_owned(),
            form: "namespace/hostname",
        })?;
        Ok(Self { namespace: namespace.parse()?, hostname: hostname.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_dns_label() {
        for good in ["default", "a", "team-1", "0x"] {
            assert_eq!(good.parse::<Namespace>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_text_that_is_shared_stays_shared_and_is_checked_as_any() {
        let text: Arc<str> = "default".into();
        let [one, other] = [(); 2].map(|()| Namespace::try_from(text.clone()).unwrap());
        assert_eq!(one.as_str().as_ptr(), other.as_str().as_ptr());
        assert_eq!("a b".parse::<Namespace>().err(), Namespace::try_from(Arc::from("a b")).err());
        assert_eq!("a b".parse::<Network>().err(), Network::try_from(Arc::from("a b")).err());
    }

    #[test]
    fn a_service_account_may_have_dots_but_no_empty_label() {
        assert!("build.bot".parse::<ServiceAccount>().is_ok());
        for bad in ["a..b", ".a", "a.", "a/b"] {
            assert!(bad.parse::<ServiceAccount>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_service_name_prints_as_it_was_read() {
        let text = "default/todo.default.svc.cluster.local";
        assert_eq!(text.parse::<ServiceName>().unwrap().to_string(), text);
        assert!("todo".parse::<ServiceName>().is_err());
    }
}
