//! What an operator may set.

use std::{str::FromStr, time::Duration};

use weir_model::{Namespace, ServiceAccount};

/// The service accounts of node agents. Istio `CA_TRUSTED_NODE_ACCOUNTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAgents(Vec<(Namespace, ServiceAccount)>);

impl NodeAgents {
    /// Whether it is one of them.
    pub fn include(&self, namespace: &Namespace, service_account: &ServiceAccount) -> bool {
        self.0.iter().any(|(a, b)| a == namespace && b == service_account)
    }
}

impl Default for NodeAgents {
    /// Istio's agent and ours, where each is installed by default.
    fn default() -> Self {
        "istio-system/ztunnel,weir-system/weir-agent".parse().expect("both are names")
    }
}

/// Why a list of service accounts is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no service account of the form namespace/name")]
pub struct NodeAgentsError(String);

impl FromStr for NodeAgents {
    type Err = NodeAgentsError;

    /// `namespace/name`, with commas between. Nothing means nobody.
    fn from_str(text: &str) -> Result<Self, NodeAgentsError> {
        let one = |account: &str| {
            let (namespace, name) = account.split_once('/')?;
            Some((namespace.parse().ok()?, name.parse().ok()?))
        };
        let accounts = text.split(',').map(str::trim).filter(|account| !account.is_empty());
        accounts
            .map(|account| one(account).ok_or_else(|| NodeAgentsError(account.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// How certificates are given out.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may ask for the pods of its node.
    pub node_agents: NodeAgents,
    /// How long a certificate is valid if the caller does not say. The longest is the CA's.
    pub lifetime: Duration,
    /// How many calls a caller on a node may make in a second, on average.
    pub per_second: u32,
    /// How many at once.
    pub burst: u32,
    /// How many calls of all callers are read at once.
    pub at_once: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let lifetime = Duration::from_secs(24 * 3600);
        Self { node_agents: NodeAgents::default(), lifetime, per_second: 20, burst: 256, at_once: 512 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_service_accounts_is_read_or_refused_by_its_first_bad_one() {
        let agents: NodeAgents = " mesh/agent, mesh/other ,".parse().unwrap();
        for (account, want) in [
            ("mesh/agent", true),
            ("mesh/other", true),
            ("mesh/agen", false),
            ("mash/agent", false),
            ("agent/mesh", false),
        ] {
            let (namespace, name) = account.split_once('/').unwrap();
            assert_eq!(agents.include(&namespace.parse().unwrap(), &name.parse().unwrap()), want, "{account}");
        }
        assert_eq!("".parse(), Ok(NodeAgents(Vec::new())));
        for (text, bad) in
            [("mesh", "mesh"), ("a/b,c", "c"), ("a/b/c", "a/b/c"), ("/a", "/a"), ("a/", "a/"), ("A_/b", "A_/b")]
        {
            assert_eq!(text.parse::<NodeAgents>(), Err(NodeAgentsError(bad.to_owned())));
        }
    }
}
