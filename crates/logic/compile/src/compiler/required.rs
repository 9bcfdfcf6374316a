//! The policies of pods that must be entered through a waypoint: one for all that ask for the same, for as long as one does.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;
use weir_model::{Policy, PolicyName};

use crate::trimmed::Key;

/// Which pod has which.
#[derive(Debug, Default)]
pub(super) struct Required {
    of: HashMap<Key, PolicyName, RandomState>,
    held: BTreeMap<PolicyName, Held>,
}

#[derive(Debug)]
struct Held {
    policy: Policy,
    pods: usize,
}

impl Required {
    /// What a pod asks for now. Names of policies that may not be what they were are added to `changed`.
    pub(super) fn set(&mut self, pod: &Key, now: Option<Policy>, changed: &mut BTreeSet<PolicyName>) {
        if let Some(before) = self.of.remove(pod)
            && let Some(held) = self.held.get_mut(&before)
        {
            held.pods -= 1;
            if held.pods == 0 {
                self.held.remove(&before);
                changed.insert(before);
            }
        }
        if let Some(policy) = now {
            let name = policy.name.clone();
            self.of.insert(pod.clone(), name.clone());
            let held = self.held.entry(name.clone()).or_insert_with(|| {
                changed.insert(name);
                Held { policy, pods: 0 }
            });
            held.pods += 1;
        }
    }

    /// The policy of that name, if a pod asks for it.
    pub(super) fn policy(&self, name: &PolicyName) -> Option<&Policy> {
        self.held.get(name).map(|held| &held.policy)
    }

    /// Whether nothing is held.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.held.is_empty()
    }
}
