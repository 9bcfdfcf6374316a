//! Hash tables that are copied piece by piece: a change copies the one shard it falls in, and shares the others.

use std::sync::Arc;

use hashbrown::HashTable;

/// A table in shards. Cloning it copies a list of pointers.
#[derive(Debug, Clone)]
pub(crate) struct Table<T> {
    shards: Vec<Arc<HashTable<T>>>,
    len: usize,
}

impl<T: Clone> Table<T> {
    /// An empty table of `2^bits` shards.
    pub(crate) fn new(bits: u32) -> Self {
        Self { shards: vec![Arc::default(); 1 << bits], len: 0 }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entry of that hash which `same` knows.
    pub(crate) fn find(&self, hash: u64, same: impl FnMut(&T) -> bool) -> Option<&T> {
        self.shards[self.shard(hash)].find(hash, same)
    }

    /// Every entry that may be of that hash.
    pub(crate) fn like(&self, hash: u64) -> impl Iterator<Item = &T> {
        self.shards[self.shard(hash)].iter_hash(hash)
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Puts in one more entry. `rehash` is the hash of any entry.
    pub(crate) fn insert(&mut self, hash: u64, value: T, rehash: impl Fn(&T) -> u64) {
        let at = self.shard(hash);
        Arc::make_mut(&mut self.shards[at]).insert_unique(hash, value, rehash);
        self.len += 1;
    }

    /// Takes out the entry of that hash which `same` knows.
    pub(crate) fn remove(&mut self, hash: u64, mut same: impl FnMut(&T) -> bool) -> Option<T> {
        let at = self.shard(hash);
        self.shards[at].find(hash, &mut same)?;
        let (value, _) = Arc::make_mut(&mut self.shards[at]).find_entry(hash, same).ok()?.remove();
        self.len -= 1;
        Some(value)
    }

    /// The upper bits: a shard's table uses the others.
    fn shard(&self, hash: u64) -> usize {
        let upper = usize::try_from(hash >> 40).unwrap_or(usize::MAX);
        upper & (self.shards.len() - 1)
    }
}
