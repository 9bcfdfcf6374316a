//! Values that many share, held once, and let go with their last user.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use foldhash::fast::RandomState;

use crate::trie::Trie;

/// Shared values.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    values: Trie<Pooled<T>>,
}

#[derive(Debug)]
struct Pooled<T> {
    value: Arc<T>,
    users: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { values: Trie::default() }
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone() }
    }
}

impl<T> Clone for Pooled<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), users: self.users }
    }
}

impl<T: Hash + Eq> Pool<T> {
    /// The value, for one more user.
    pub(crate) fn share(&mut self, hasher: &RandomState, value: T) -> Arc<T> {
        let hash = fold(hasher.hash_one(&value));
        if let Some(known) = self.values.find_mut(hash, |known| *known.value == value) {
            known.users += 1;
            return known.value.clone();
        }
        let value = Arc::new(value);
        self.values.insert(hash, Pooled { value: value.clone(), users: 1 });
        value
    }

    /// One user less.
    pub(crate) fn release(&mut self, hasher: &RandomState, value: &Arc<T>) {
        let hash = fold(hasher.hash_one(&**value));
        let is = |known: &Pooled<T>| Arc::ptr_eq(&known.value, value);
        if let Some(known) = self.values.find_mut(hash, is) {
            known.users -= 1;
            if known.users == 0 {
                self.values.remove(hash, is);
            }
        }
    }

    /// How many values there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

/// The bits of a hash that a trie takes.
pub(crate) fn fold(hash: u64) -> u32 {
    let [_, _, _, _, high @ ..] = hash.to_le_bytes();
    u32::from_le_bytes(high)
}
