//! Which policies there are, and whom they cover.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use foldhash::fast::RandomState;
use weir_model::{Namespace, Policy, PolicyName, PolicyScope};

use crate::{pool::fold, trie::Trie};

/// The policies of the mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    known: Trie<Arc<Policy>>,
    /// Those that cover all of a namespace, or of the mesh.
    wide: Trie<Wide>,
}

/// The policies that cover a namespace, or without one the mesh.
#[derive(Debug, Clone)]
struct Wide {
    namespace: Option<Namespace>,
    /// Sorted.
    policies: Vec<PolicyName>,
}

impl Policies {
    /// The policy as it is now, or gone.
    pub(crate) fn set(&mut self, hasher: &RandomState, name: &PolicyName, now: Option<Policy>) {
        let hash = hash(hasher, name);
        if let Some(before) = self.known.remove(hash, |policy| policy.name == *name) {
            self.widen(hasher, &before, |policies| policies.retain(|other| other != name));
        }
        if let Some(policy) = now {
            self.widen(hasher, &policy, |policies| {
                if let Err(at) = policies.binary_search(&policy.name) {
                    policies.insert(at, policy.name.clone());
                }
            });
            self.known.insert(hash, Arc::new(policy));
        }
    }

    fn widen(&mut self, hasher: &RandomState, policy: &Policy, change: impl FnOnce(&mut Vec<PolicyName>)) {
        let namespace = match policy.scope {
            PolicyScope::Mesh => None,
            PolicyScope::Namespace => Some(policy.name.namespace.clone()),
            PolicyScope::Workloads => return,
        };
        let hash = hash(hasher, &namespace);
        let is = |wide: &Wide| wide.namespace == namespace;
        match self.wide.find_mut(hash, is) {
            Some(wide) => {
                change(&mut wide.policies);
                if wide.policies.is_empty() {
                    self.wide.remove(hash, is);
                }
            }
            None => {
                let mut policies = Vec::new();
                change(&mut policies);
                self.wide.insert(hash, Wide { namespace, policies });
            }
        }
    }

    /// A policy that covers everything in the namespace, if there is one: the mesh's first.
    pub(crate) fn over(&self, hasher: &RandomState, namespace: &Namespace) -> Option<&PolicyName> {
        let of = |namespace: Option<&Namespace>| {
            let wide = self.wide.find(hash(hasher, namespace), |wide| wide.namespace.as_ref() == namespace);
            wide.and_then(|wide| wide.policies.first())
        };
        of(None).or_else(|| of(Some(namespace)))
    }

    /// The policy of that name.
    pub(crate) fn find(&self, hasher: &RandomState, name: &PolicyName) -> Option<&Arc<Policy>> {
        self.known.find(hash(hasher, name), |policy| policy.name == *name)
    }

    /// All of them, in no order that means something.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.known.iter()
    }
}

fn hash(hasher: &RandomState, of: impl Hash) -> u32 {
    fold(hasher.hash_one(of))
}
