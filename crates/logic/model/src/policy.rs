//! Policies: whom they cover, what they match, and what becomes of that.

use std::{fmt, str::FromStr, sync::Arc};

use ipnet::IpNet;

use crate::{NameError, Namespace, Port, ServiceAccount};

/// The longest name within a namespace: that of an object, 253, with its kind before it.
const MAX_NAME: usize = 320;

/// A policy of the mesh, written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// The namespace it was declared in.
    pub namespace: Namespace,
    /// Its name there: visible ASCII.
    name: Arc<str>,
}

impl PolicyName {
    /// The name of a policy.
    ///
    /// # Errors
    /// If `name` is empty, too long or not visible ASCII.
    pub fn new(namespace: Namespace, name: &str) -> Result<Self, NameError> {
        crate::name::visible("policy name", name, MAX_NAME)?;
        Ok(Self { namespace, name: name.into() })
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PolicyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| NameError::Form {
            what: "policy name",
            text: text.to_owned(),
            form: "namespace/name",
        })?;
        Self::new(namespace.parse()?, name)
    }
}

/// Which workloads a policy covers. Istio `security.Scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyScope {
    /// All of the mesh.
    Mesh,
    /// Those of its namespace.
    Namespace,
    /// Those that name it in [`Workload::policies`](crate::Workload::policies).
    Workloads,
}

/// What becomes of a connection that a policy matches. Istio `AuthorizationPolicy.spec.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyAction {
    /// It may enter, unless another policy denies. What no policy of this kind matches may not, if one covers the workload.
    Allow,
    /// It may not enter.
    Deny,
    /// It is logged and counted.
    Audit,
}

/// A policy as it is enforced on connections, without looking at requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Its name in the mesh.
    pub name: PolicyName,
    /// Whom it covers.
    pub scope: PolicyScope,
    /// What becomes of what it matches.
    pub action: PolicyAction,
    /// Evaluated, logged and counted, and decides nothing. Annotation `istio.io/dry-run`.
    pub dry_run: bool,
    /// It matches what any of them matches.
    pub rules: Vec<PolicyRule>,
    /// Why it cannot be enforced as it was written: then it denies all that it covers.
    pub rejected: Option<Arc<str>>,
    /// What its author wrote.
    pub source: PolicySource,
}

/// The kind of object that a policy was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// security.istio.io.
    Authorization,
    /// security.istio.io.
    PeerAuthentication,
    /// security.istio.io.
    RequestAuthentication,
    /// The label `weir.dev/waypoint: required` of a namespace, service or pod.
    RequiredWaypoint,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authorization => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::RequiredWaypoint => "weir.dev/waypoint",
        })
    }
}

/// The object that a policy was made of: for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicySource {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its own name, within the namespace of the policy.
    pub name: Arc<str>,
    /// The file it is declared in, if it was one.
    pub file: Option<Arc<str>>,
}

/// A rule: it matches what all of its clauses match, and without clauses everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PolicyRule {
    /// Where its author wrote it.
    pub place: RulePlace,
    /// All of them must match.
    pub clauses: Vec<Clause>,
}

/// Where a rule stands: for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePlace {
    /// Its index in `spec.rules`, from 0. None for what is no rule of the author's, such as a mode of PeerAuthentication.
    pub index: Option<u32>,
    /// Its line in the file, from 1. None where there is no file.
    pub line: Option<u32>,
}

/// Alternatives: it matches what any of them matches, and without any nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Clause(pub Vec<Match>);

/// Facts of a connection that must all hold; without any it matches nothing, as on Istio's wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Match {
    /// The peer's namespace.
    pub namespaces: Sides<TextMatch>,
    /// The peer's identity, written `<trust domain>/ns/<namespace>/sa/<service account>`.
    pub principals: Sides<TextMatch>,
    /// The peer's service account.
    pub service_accounts: Sides<(Namespace, ServiceAccount)>,
    /// The peer's trust domain.
    pub trust_domains: Sides<TextMatch>,
    /// The peer's address.
    pub source_ips: Sides<IpNet>,
    /// The workload's own address.
    pub destination_ips: Sides<IpNet>,
    /// The workload's own port.
    pub destination_ports: Sides<Port>,
}

impl Match {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a fact must be one of, and what it must not be. An empty side asks for nothing. A peer without an identity is none of any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sides<T> {
    /// One of these.
    pub any: Vec<T>,
    /// None of these.
    pub none: Vec<T>,
}

impl<T> Default for Sides<T> {
    fn default() -> Self {
        Self { any: Vec::new(), none: Vec::new() }
    }
}

impl<T> Sides<T> {
    /// One of these.
    pub fn any(values: impl IntoIterator<Item = T>) -> Self {
        Self { any: values.into_iter().collect(), none: Vec::new() }
    }

    /// None of these.
    pub fn none(values: impl IntoIterator<Item = T>) -> Self {
        Self { any: Vec::new(), none: values.into_iter().collect() }
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

/// How a text is compared. Istio `security.StringMatch`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextMatch {
    /// It is this.
    Exact(Arc<str>),
    /// It begins with this: `abc*`.
    Prefix(Arc<str>),
    /// It ends with this: `*abc`.
    Suffix(Arc<str>),
    /// It is there: `*`.
    Present,
}

impl TextMatch {
    /// Whether the text is as asked.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == &**exact,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Present => !text.is_empty(),
        }
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
            Self::Present => f.write_str("*"),
        }
    }
}

/// A text with a `*` that is neither at its start nor at its end, or with more than one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither exact, nor \"abc*\", \"*abc\" or \"*\": one '*' at most, at the start or at the end")]
pub struct TextMatchError(String);

impl FromStr for TextMatch {
    type Err = TextMatchError;

    fn from_str(text: &str) -> Result<Self, TextMatchError> {
        let plain = |rest: &str| !rest.is_empty() && !rest.contains('*');
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            _ if text == "*" => Ok(Self::Present),
            (Some(suffix), _) if plain(suffix) => Ok(Self::Suffix(suffix.into())),
            (None, Some(prefix)) if plain(prefix) => Ok(Self::Prefix(prefix.into())),
            (None, None) if plain(text) => Ok(Self::Exact(text.into())),
            _ => Err(TextMatchError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_at_one_end_or_alone() {
        let exact = |text: &str| TextMatch::Exact(text.into());
        for (text, expected) in [
            ("a", Some(exact("a"))),
            ("a*", Some(TextMatch::Prefix("a".into()))),
            ("*a", Some(TextMatch::Suffix("a".into()))),
            ("*", Some(TextMatch::Present)),
            ("", None),
            ("**", None),
            ("*a*", None),
            ("a*b", None),
            ("a**", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
            if let Some(expected) = expected {
                assert_eq!(expected.to_string(), text);
            }
        }
    }

    #[test]
    fn a_text_is_matched_as_asked_and_nothing_is_not_present() {
        for (pattern, text, is) in [
            ("ab", "ab", true),
            ("ab", "abc", false),
            ("ab*", "ab", true),
            ("ab*", "xab", false),
            ("*ab", "xab", true),
            ("*ab", "abx", false),
            ("*", "x", true),
            ("*", "", false),
        ] {
            assert_eq!(pattern.parse::<TextMatch>().unwrap().matches(text), is, "{pattern} on {text}");
        }
    }
}
