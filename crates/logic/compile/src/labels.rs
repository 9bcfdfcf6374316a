//! Labels and selectors, and who has or asks for which.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use foldhash::fast::RandomState;
use weir_manifest::Labels;

/// A label and its value.
pub(crate) type Pair = (Arc<str>, Arc<str>);

/// Texts that many objects repeat, held once.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    known: HashSet<Arc<str>, RandomState>,
    /// How many there were after the last sweep.
    swept: usize,
}

impl Texts {
    /// The text, as it is held.
    pub(crate) fn share(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        // What nobody uses any more goes before there is twice as much.
        if self.known.len() > 2 * self.swept + 1024 {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.swept = self.known.len();
        }
        self.known.insert(text.clone());
        text.clone()
    }
}

/// The labels of an object, sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct LabelSet(Box<[Pair]>);

impl LabelSet {
    pub(crate) fn new(labels: &Labels, texts: &mut Texts) -> Self {
        Self(labels.iter().map(|(key, value)| (texts.share(key), texts.share(value))).collect())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// All of them.
    pub(crate) fn owned(&self) -> Labels {
        self.0.iter().cloned().collect()
    }

    /// Whether the selector selects what has these labels. One that asks for nothing selects nothing.
    pub(crate) fn matches(&self, selector: &Labels) -> bool {
        !selector.is_empty() && selector.iter().all(|(key, value)| self.value(key) == Some(value))
    }
}

/// Names of objects by each of their labels.
#[derive(Debug, Default)]
pub(crate) struct Labelled(HashMap<Pair, BTreeSet<Arc<str>>, RandomState>);

impl Labelled {
    pub(crate) fn insert(&mut self, labels: &LabelSet, name: &Arc<str>) {
        for pair in &labels.0 {
            self.0.entry(pair.clone()).or_default().insert(name.clone());
        }
    }

    pub(crate) fn remove(&mut self, labels: &LabelSet, name: &Arc<str>) {
        for pair in &labels.0 {
            take_out(&mut self.0, pair, name);
        }
    }

    /// How many names there are, each for each of its labels.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Those that may have all the labels of the selector: those with its rarest one.
    pub(crate) fn candidates(&self, selector: &Labels) -> impl Iterator<Item = &Arc<str>> {
        let having = |(key, value): (&Arc<str>, &Arc<str>)| self.0.get(&(key.clone(), value.clone()));
        // One label that nobody has is enough for none.
        let sets: Option<Vec<_>> = selector.iter().map(having).collect();
        sets.into_iter().flatten().min_by_key(|set| set.len()).into_iter().flatten()
    }
}

/// Names of objects with a selector, each by one label of it.
#[derive(Debug)]
pub(crate) struct Selectors<T>(HashMap<Pair, BTreeSet<T>, RandomState>);

impl<T> Default for Selectors<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T: Ord + Clone> Selectors<T> {
    pub(crate) fn insert(&mut self, selector: &Labels, name: &T) {
        if let Some(pair) = telling(selector) {
            self.0.entry(pair).or_default().insert(name.clone());
        }
    }

    pub(crate) fn remove(&mut self, selector: &Labels, name: &T) {
        if let Some(pair) = telling(selector) {
            take_out(&mut self.0, &pair, name);
        }
    }

    /// Those whose selector may select what has these labels.
    pub(crate) fn candidates(&self, labels: &LabelSet) -> impl Iterator<Item = &T> {
        labels.0.iter().filter_map(|pair| self.0.get(pair)).flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many names there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }
}

/// The label of a selector that tells most, as far as it can be seen from the selector: `app: checkout` rather than `env: dev`.
fn telling(selector: &Labels) -> Option<Pair> {
    let (key, value) = selector.iter().max_by_key(|(_, value)| value.len())?;
    Some((key.clone(), value.clone()))
}

fn take_out<K: Hash + Eq, T: Ord>(sets: &mut HashMap<K, BTreeSet<T>, RandomState>, key: &K, one: &T) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(one);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
