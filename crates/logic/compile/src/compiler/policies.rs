//! Policies among the objects: which pods they cover, which of them counts, and what became of them.

use std::sync::Arc;

use weir_model::{Namespace, Policy, PolicyName};

use super::index::Index;
use crate::{
    policy::{Declared, Rank, mtls},
    trimmed::{Key, Pod},
};

/// Which objects say who must prove who they are: those of a namespace, or none for all of the mesh; of everything there, or of
/// what they select.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Level {
    pub(super) over: Option<Namespace>,
    pub(super) width: Width,
}

/// How much of what it reaches a policy covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Width {
    /// Everything.
    Whole,
    /// What it selects.
    Selected,
}

impl Level {
    pub(super) fn of(declared: &Declared) -> Option<Self> {
        declared.modes()?;
        let width = if declared.selector.is_some() { Width::Selected } else { Width::Whole };
        Some(Self { over: declared.over.clone(), width })
    }
}

impl Index {
    /// A policy as it is now, or gone.
    pub(super) fn replace_policy(&mut self, name: &PolicyName, now: Option<Declared>) {
        self.attached.remove(name);
        if let Some(before) = self.policies.remove(name) {
            if let Some(selector) = &before.selector
                && let Some(selectors) = self.covering.get_mut(&before.over)
            {
                selectors.remove(selector, name);
                if selectors.is_empty() {
                    self.covering.remove(&before.over);
                }
            }
            if let Some(level) = Level::of(&before)
                && let Some(ranks) = self.levels.get_mut(&level)
            {
                ranks.remove(&before.rank(name));
                if ranks.is_empty() {
                    self.levels.remove(&level);
                }
            }
        }
        if let Some(declared) = now {
            if let Some(selector) = &declared.selector {
                self.covering.entry(declared.over.clone()).or_default().insert(selector, name);
            }
            if let Some(level) = Level::of(&declared) {
                self.levels.entry(level).or_default().insert(declared.rank(name));
            }
            if declared.attached.is_some() {
                self.attached.insert(name.clone());
            }
            self.policies.insert(name.clone(), declared);
        }
    }

    /// The pods that may name something else when the policy changes. `policy` is the name of the object.
    pub(super) fn covered(&self, policy: &PolicyName) -> Vec<Key> {
        let Some(declared) = self.policies.get(policy) else { return Vec::new() };
        if declared.selector.is_none() && declared.modes().is_none() {
            return Vec::new();
        }
        let spaces: Vec<_> = match &declared.over {
            None => self.spaces.iter().collect(),
            Some(namespace) => self.spaces.get_key_value(namespace).into_iter().collect(),
        };
        let mut keys = Vec::new();
        for (namespace, space) in spaces {
            let key = |name: &Arc<str>| Key { namespace: namespace.clone(), name: name.clone() };
            match &declared.selector {
                None => keys.extend(space.pods.keys().map(key)),
                Some(selector) => {
                    let selects = |pod: &Pod| pod.traits.labels.matches(selector);
                    let names = space.labelled.candidates(selector);
                    keys.extend(names.filter(|name| space.pods.get(*name).is_some_and(selects)).map(key));
                }
            }
        }
        keys
    }

    /// The policies a pod names because they select it, and the one by which its peers must prove who they are, if it is in the mesh.
    pub(super) fn policies_over(&self, key: &Key, pod: &Pod, meshed: bool) -> Vec<PolicyName> {
        let mut policies = Vec::new();
        let mut own: Option<(Rank, &Declared)> = None;
        for over in [None, Some(key.namespace.clone())] {
            let Some(selectors) = self.covering.get(&over) else { continue };
            for name in selectors.candidates(&pod.traits.labels) {
                let Some(declared) = self.policies.get(name) else { continue };
                if !declared.selector.as_ref().is_some_and(|selector| pod.traits.labels.matches(selector)) {
                    continue;
                }
                policies.extend(declared.selecting().cloned());
                if declared.modes().is_some() && own.as_ref().is_none_or(|(rank, _)| declared.rank(name) < *rank) {
                    own = Some((declared.rank(name), declared));
                }
            }
        }
        if meshed {
            let wider = [Some(key.namespace.clone()), None].map(|over| self.first(over).and_then(Declared::modes));
            policies.extend(mtls::named(own.and_then(|(_, declared)| declared.modes()), wider));
        }
        policies.sort();
        policies
    }

    /// The one that counts of those that say of everything there who must prove who they are.
    fn first(&self, over: Option<Namespace>) -> Option<&Declared> {
        let rank = self.levels.get(&Level { over, width: Width::Whole })?.first()?;
        self.policies.get(&rank.name)
    }

    /// The policy of that name, as agents are told, if an object makes it.
    pub(super) fn policy(&self, name: &PolicyName) -> Option<Policy> {
        let object = mtls::object_of(name);
        let declared = self.policies.get(object.as_ref().unwrap_or(name))?;
        declared.policies().into_iter().find(|policy| policy.name == *name)
    }

    /// The names of the policies that an object makes.
    pub(super) fn made(&self, object: &PolicyName) -> Vec<PolicyName> {
        self.policies.get(object).map(Declared::names).unwrap_or_default()
    }

    /// The objects whose status may change with that of this one: those that may decide in its place, or it in theirs.
    pub(super) fn rivals(&self, object: &PolicyName) -> Vec<Rank> {
        let Some(level) = self.policies.get(object).and_then(Level::of) else { return Vec::new() };
        let near = |other: &Level| match (level.width, other.width) {
            (Width::Whole, Width::Whole) => level.over == other.over,
            (Width::Selected, Width::Selected) => {
                level.over == other.over || level.over.is_none() || other.over.is_none()
            }
            (Width::Whole, Width::Selected) | (Width::Selected, Width::Whole) => false,
        };
        self.levels.iter().filter(|(other, _)| near(other)).flat_map(|(_, ranks)| ranks).cloned().collect()
    }
}
