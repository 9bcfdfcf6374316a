//! Which policies cover a workload.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use weir_authz::{Compiled, PolicySet};
use weir_model::{Namespace, Policy, PolicyName, PolicyScope};

/// All policies, by name and by whom they cover.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    all: BTreeMap<PolicyName, Arc<Compiled>>,
    /// Those that cover the whole mesh.
    mesh: Vec<Arc<Compiled>>,
    /// Those that cover their namespace.
    spaces: HashMap<Namespace, Vec<Arc<Compiled>>>,
}

impl Policies {
    /// A policy as it is now, or gone.
    pub(crate) fn set(&mut self, name: PolicyName, policy: Option<Policy>) {
        if let Some(old) = self.all.remove(&name) {
            let other = |one: &Arc<Compiled>| !Arc::ptr_eq(one, &old);
            match old.policy().scope {
                PolicyScope::Mesh => self.mesh.retain(other),
                PolicyScope::Namespace => {
                    if let Some(space) = self.spaces.get_mut(&name.namespace) {
                        space.retain(other);
                        if space.is_empty() {
                            self.spaces.remove(&name.namespace);
                        }
                    }
                }
                PolicyScope::Workloads => {}
            }
        }
        if let Some(policy) = policy {
            let scope = policy.scope;
            let compiled = Arc::new(Compiled::new(policy));
            match scope {
                PolicyScope::Mesh => self.mesh.push(compiled.clone()),
                PolicyScope::Namespace => {
                    self.spaces.entry(name.namespace.clone()).or_default().push(compiled.clone());
                }
                PolicyScope::Workloads => {}
            }
            self.all.insert(name, compiled);
        }
    }

    /// The one of that name.
    pub(crate) fn get(&self, name: &PolicyName) -> Option<&Policy> {
        self.all.get(name).map(|one| one.policy())
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Policy> {
        self.all.values().map(|one| one.policy())
    }

    /// Those over a workload of that namespace which names these. One that it names and nobody knows covers it too: what it
    /// says is not known to be nothing.
    pub(crate) fn over(&self, namespace: &Namespace, named: &[PolicyName]) -> PolicySet {
        let space = self.spaces.get(namespace).into_iter().flatten();
        let own = named.iter().filter_map(|name| self.all.get(name));
        let unknown = named.iter().find(|name| !self.all.contains_key(name)).cloned();
        PolicySet::new(self.mesh.iter().chain(space).chain(own).cloned(), unknown)
    }
}
