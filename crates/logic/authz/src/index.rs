//! Where among many policies a connection's facts can match at all.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use foldhash::fast::FixedState;

use crate::{
    compiled::Compiled,
    facts::Facts,
    keys::{Key, Probe},
    rule::Tests,
};

/// Up to so many rules are asked one by one.
const FEW: usize = 4;

/// So many facts are made ready before the first is looked up, so that the look-ups wait for memory together.
const TOGETHER: usize = 8;

/// The place of a rule: its order is the order of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// Of its policy in the list.
    pub(crate) policy: usize,
    /// In its policy; none of a policy that cannot be enforced as it was written and thus matches everything.
    pub(crate) rule: Option<usize>,
}

/// The rules of a list of policies, by the facts without which they do not match.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// Those that are always asked, in order.
    rest: Vec<Entry>,
    /// What to look up of a connection; the first few in place.
    near: [Option<Probe>; TOGETHER],
    far: Box<[Probe]>,
    filed: HashMap<u64, Filed, FixedState>,
}

/// A rule. What it asks and whose it is are here too: on the way over its policy much would be touched that is in no cache.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) at: At,
    pub(crate) of: Arc<Compiled>,
    tests: Tests,
}

/// The rules of one key, in order; mostly one.
#[derive(Debug, Clone)]
enum Filed {
    One(Entry),
    Many(Vec<Entry>),
}

impl Filed {
    fn entries(&self) -> &[Entry] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }

    fn add(&mut self, entry: Entry) {
        match self {
            Self::One(one) => *self = Self::Many(vec![one.clone(), entry]),
            Self::Many(all) => all.push(entry),
        }
    }
}

impl Index {
    /// The index of policies in their order.
    pub(crate) fn new(policies: &[Arc<Compiled>]) -> Self {
        let few = policies.iter().map(|one| one.rules().len()).sum::<usize>() <= FEW;
        let mut index = Self::default();
        let mut probes = BTreeSet::new();
        for (policy, one) in policies.iter().enumerate() {
            if one.policy().rejected.is_some() {
                let at = At { policy, rule: None };
                index.rest.push(Entry { at, of: one.clone(), tests: Tests::default() });
                continue;
            }
            for (rule, ready) in one.rules().iter().enumerate() {
                let at = At { policy, rule: Some(rule) };
                let entry = Entry { at, of: one.clone(), tests: ready.tests.clone() };
                match &ready.keys {
                    Some(keys) if !few => {
                        probes.extend(keys.iter().map(|key| key.probe));
                        keys.iter().for_each(|key| index.file(*key, &entry));
                    }
                    Some(_) | None => index.rest.push(entry),
                }
            }
        }
        let mut probes = probes.into_iter();
        index.near = [(); TOGETHER].map(|()| probes.next());
        index.far = probes.collect();
        index
    }

    fn file(&mut self, key: Key, entry: &Entry) {
        let add = |filed: &mut Filed| filed.add(entry.clone());
        self.filed.entry(key.hash).and_modify(add).or_insert_with(|| Filed::One(entry.clone()));
    }

    /// The first rule of the first of the policies that matches.
    pub(crate) fn first(&self, facts: &Facts<'_>) -> Option<&Entry> {
        let best = first_of(&self.rest, None, facts);
        let best = self.look_up(&self.near, best, facts);
        self.far.chunks(TOGETHER).fold(best, |best, probes| {
            let mut some = [None; TOGETHER];
            some.iter_mut().zip(probes).for_each(|(place, probe)| *place = Some(*probe));
            self.look_up(&some, best, facts)
        })
    }

    fn look_up<'i>(
        &'i self,
        probes: &[Option<Probe>; TOGETHER],
        best: Option<&'i Entry>,
        facts: &Facts<'_>,
    ) -> Option<&'i Entry> {
        let hashes = probes.map(|probe| probe?.find(facts));
        let found = hashes.map(|hash| self.filed.get(&hash?));
        found.into_iter().flatten().fold(best, |best, filed| first_of(filed.entries(), best, facts).or(best))
    }
}

/// The first of the rules that matches and comes before that.
fn first_of<'i>(entries: &'i [Entry], before: Option<&Entry>, facts: &Facts<'_>) -> Option<&'i Entry> {
    let mut open = entries.iter().take_while(|entry| before.is_none_or(|before| entry.at < before.at));
    open.find(|entry| entry.tests.hold(facts))
}
