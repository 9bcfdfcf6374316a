//! Which policies cover a workload. This version enforces none, so what is covered is not entered.

use std::collections::BTreeMap;

use weir_model::{Namespace, Policy, PolicyName, PolicyScope};

/// All policies, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies(BTreeMap<PolicyName, PolicyScope>);

impl Policies {
    /// A policy as it is now, or gone.
    pub(crate) fn set(&mut self, name: PolicyName, policy: Option<Policy>) {
        match policy {
            Some(policy) => self.0.insert(name, policy.scope),
            None => self.0.remove(&name),
        };
    }

    /// The one of that name.
    pub(crate) fn get(&self, name: &PolicyName) -> Option<Policy> {
        self.0.get(name).map(|scope| Policy { name: name.clone(), scope: *scope })
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = Policy> {
        self.0.iter().map(|(name, scope)| Policy { name: name.clone(), scope: *scope })
    }

    /// The first that covers a workload of that namespace which names these. One that it names and nobody knows covers it too:
    /// what it says is not known to be nothing.
    pub(crate) fn over(&self, namespace: &Namespace, named: &[PolicyName]) -> Option<PolicyName> {
        let covers = |(name, scope): &(&PolicyName, &PolicyScope)| match scope {
            PolicyScope::Mesh => true,
            PolicyScope::Namespace => name.namespace == *namespace,
            PolicyScope::Workloads => false,
        };
        named.first().or_else(|| self.0.iter().find(covers).map(|(name, _)| name)).cloned()
    }
}
