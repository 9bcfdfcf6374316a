//! In which version what is known. Of a name there is only a hash: who asks has the name.

use std::hash::BuildHasher;

use foldhash::{HashMap, HashSet, fast::RandomState};

use crate::kind::{Sum, Version};

/// Most a version may have that is not ours, in bytes. Of a longer one there is nothing: its resource is sent again.
const MAX_VERSION: usize = 256;

/// Versions of resources by their names. Two names of one hash would be one resource: of a million resources that happens to one in
/// thirty million meshes, and ends with the next connection.
#[derive(Debug, Default)]
pub(super) struct Versions {
    hasher: RandomState,
    ours: HashMap<u64, Version>,
    /// What other control planes call a version: mostly nothing.
    foreign: HashMap<u64, Box<str>>,
    /// What did not find room in the list: it is gone unless it is sent again.
    unlisted: HashSet<u64>,
    /// Of all that have a version of ours.
    sum: Sum,
}

impl Versions {
    /// Whether it is known.
    pub(super) fn has(&self, name: &str) -> bool {
        let hash = self.hash(name);
        self.ours.contains_key(&hash) || self.foreign.contains_key(&hash)
    }

    /// Its version as it was said, if it is known.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let hash = self.hash(name);
        let foreign = || self.foreign.get(&hash).map(|version| version.to_string());
        self.ours.get(&hash).map(ToString::to_string).or_else(foreign)
    }

    /// It is known, in that version.
    pub(super) fn set(&mut self, name: &str, version: &str) {
        self.remove(name);
        let hash = self.hash(name);
        if let Ok(version) = version.parse() {
            self.sum.add(name, version);
            self.ours.insert(hash, version);
        } else {
            let version = if version.len() <= MAX_VERSION { version } else { "" };
            self.foreign.insert(hash, version.into());
        }
    }

    /// It is not known any more.
    pub(super) fn remove(&mut self, name: &str) {
        let hash = self.hash(name);
        if let Some(version) = self.ours.remove(&hash) {
            self.sum.take(name, version);
        }
        self.foreign.remove(&hash);
        self.unlisted.remove(&hash);
    }

    /// The sum of them, if all have versions of ours.
    pub(super) fn sum(&self) -> Option<Sum> {
        self.foreign.is_empty().then_some(self.sum)
    }

    /// It found no room in the list.
    pub(super) fn leave_out(&mut self, name: &str) {
        self.unlisted.insert(self.hash(name));
    }

    /// Whether it found no room, and did not come since.
    pub(super) fn is_left_out(&self, name: &str) -> bool {
        self.unlisted.contains(&self.hash(name))
    }

    /// Whether all found room, or came since.
    pub(super) fn is_complete(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Nothing is left out so far: a new list begins, or is done with.
    pub(super) fn begin(&mut self) {
        self.unlisted = HashSet::default();
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_said_is_said_again_to_the_letter() {
        let long = "x".repeat(MAX_VERSION + 1);
        for (said, again) in [
            ("0123456789abcdef", "0123456789abcdef"),
            ("", ""),
            ("1", "1"),
            ("0123456789ABCDEF", "0123456789ABCDEF"),
            ("2026-11-21T00:00:00Z/7", "2026-11-21T00:00:00Z/7"),
            (&long[1..], &long[1..]),
            (&long, ""),
        ] {
            let mut versions = Versions::default();
            versions.set("name", said);
            assert_eq!((versions.get("name").as_deref(), versions.get("another")), (Some(again), None));
            assert_eq!(versions.sum().is_some(), said == "0123456789abcdef", "{said:?}");
        }
    }

    proptest! {
        #[test]
        fn the_last_word_counts_and_the_sum_is_that_of_what_is_known(
            steps in prop::collection::vec((0_u8..4, prop::option::of(any::<u64>())), 0..30),
        ) {
            let (mut versions, mut want) = (Versions::default(), std::collections::BTreeMap::new());
            for (name, version) in steps {
                let name = name.to_string();
                match version.map(|number| format!("{number:016x}")) {
                    Some(version) => {
                        versions.set(&name, &version);
                        want.insert(name, version);
                    }
                    None => {
                        versions.remove(&name);
                        want.remove(&name);
                    }
                }
            }
            let mut sum = Sum::default();
            for (name, version) in &want {
                sum.add(name, version.parse().unwrap());
            }
            prop_assert_eq!(versions.sum(), Some(sum));
            for name in ["0", "1", "2", "3"] {
                prop_assert_eq!(versions.get(name), want.get(name).cloned());
                prop_assert_eq!(versions.has(name), want.contains_key(name));
            }
        }
    }
}
