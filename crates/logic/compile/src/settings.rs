//! What the compiler must be told, since no manifest says it.

use std::{fmt, str::FromStr, sync::Arc};

use weir_model::{ClusterId, Hostname, NameError, Namespace, Network, NodeName, TrustDomain};

/// The longest suffix that leaves room for `<service>.<namespace>.svc.` in a host name of 253.
const MAX_DOMAIN: usize = 253 - (63 + 1 + 63 + 5);

/// What stands around the manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The trust domain of every workload.
    pub trust_domain: TrustDomain,
    /// The cluster the manifests describe.
    pub cluster: ClusterId,
    /// The network of pods that do not name theirs, and of every service address.
    pub network: Network,
    /// The node whose pods are local; none makes no pod local.
    pub node: Option<NodeName>,
    /// The suffix of service names.
    pub cluster_domain: ClusterDomain,
    /// The namespace whose policies reach the whole mesh. Istio's `rootNamespace`, `istio-system` unless said otherwise.
    pub root_namespace: Namespace,
}

/// The root namespace of a mesh that says nothing else.
pub fn default_root_namespace() -> Namespace {
    "istio-system".parse().expect("a label")
}

/// The suffix of service names: `cluster.local` unless the cluster was set up otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterDomain(Arc<str>);

impl Default for ClusterDomain {
    fn default() -> Self {
        Self("cluster.local".into())
    }
}

impl fmt::Display for ClusterDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.starts_with("*.") {
            let (what, form) = ("cluster domain", "a.b, without a wildcard");
            return Err(NameError::Form { what, text: text.to_owned(), form });
        }
        text.parse::<Hostname>()?;
        if text.len() > MAX_DOMAIN {
            return Err(NameError::TooLong { what: "cluster domain", len: text.len(), max: MAX_DOMAIN });
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_domain_leaves_room_for_any_service() {
        let longest = ["a".repeat(60), "b".repeat(60)].join(".");
        let longest: ClusterDomain = longest.parse().unwrap();
        let label = "x".repeat(63);
        assert!(format!("{label}.{label}.svc.{longest}").parse::<Hostname>().is_ok());
        for bad in ["", "*.local", "a..b", "Local", &"a.".repeat(61)] {
            assert!(bad.parse::<ClusterDomain>().is_err(), "{bad:?} was taken");
        }
    }
}
