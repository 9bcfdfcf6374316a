//! A persistent set of entries found by their hash: a change copies the way to one leaf, and shares all the rest.
//!
//! In: entries, each with 32 bits of hash. Out: those of a hash, and all of them. It never hashes: who asks knows of what.

use std::{mem, slice, sync::Arc};

/// Bits of the hash that one step down takes, and the children a branch has.
const BITS: u32 = 3;
const WIDTH: usize = 1 << BITS;

/// Entries a leaf may have before it becomes a branch.
const FULL: usize = 24;

/// Steps down at most. A leaf at the bottom takes what comes.
const DEPTH: u32 = 10;
const PATH: usize = 10;

/// The entries. A clone costs one reference.
#[derive(Debug, Clone)]
pub(crate) struct Trie<E> {
    root: Arc<Node<E>>,
    len: usize,
}

type Children<E> = [Option<Arc<Node<E>>>; WIDTH];

#[derive(Debug, Clone)]
enum Node<E> {
    Leaf(Vec<(u32, E)>),
    Branch(Box<Children<E>>),
}

impl<E> Default for Trie<E> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<E> Trie<E> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entries of that hash.
    pub(crate) fn all(&self, hash: u32) -> impl Iterator<Item = &E> {
        leaf(&self.root, hash).iter().filter(move |(own, _)| *own == hash).map(|(_, entry)| entry)
    }

    /// The first entry of that hash that is the one.
    pub(crate) fn find(&self, hash: u32, is: impl Fn(&E) -> bool) -> Option<&E> {
        self.all(hash).find(|entry| is(entry))
    }

    /// All entries, in no order that means something.
    pub(crate) fn iter(&self) -> Iter<'_, E> {
        let mut iter = Iter { path: [&[]; PATH], depth: 0, leaf: [].iter() };
        iter.enter(&self.root);
        iter
    }
}

impl<E: Clone> Trie<E> {
    /// One entry more.
    pub(crate) fn insert(&mut self, hash: u32, entry: E) {
        self.len += 1;
        insert(&mut self.root, hash, entry, 0);
    }

    /// The entry that is the one, taken out.
    pub(crate) fn remove(&mut self, hash: u32, is: impl Fn(&E) -> bool) -> Option<E> {
        // Nothing is copied for what is not there.
        self.find(hash, &is)?;
        self.len -= 1;
        remove(&mut self.root, hash, &is, 0)
    }

    /// The entry that is the one, to be changed without changing its hash.
    pub(crate) fn find_mut(&mut self, hash: u32, is: impl Fn(&E) -> bool) -> Option<&mut E> {
        self.find(hash, &is)?;
        let mut node = Arc::make_mut(&mut self.root);
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let found = entries.iter_mut().find(|(own, entry)| *own == hash && is(entry));
                    return found.map(|(_, entry)| entry);
                }
                Node::Branch(children) => {
                    node = Arc::make_mut(children[slot(hash, depth)].as_mut()?);
                    depth += 1;
                }
            }
        }
    }
}

fn slot(hash: u32, depth: u32) -> usize {
    let [low, ..] = (hash >> (BITS * depth)).to_le_bytes();
    usize::from(low) % WIDTH
}

fn leaf<E>(mut node: &Node<E>, hash: u32) -> &[(u32, E)] {
    let mut depth = 0;
    loop {
        match node {
            Node::Leaf(entries) => return entries,
            Node::Branch(children) => match &children[slot(hash, depth)] {
                Some(child) => (node, depth) = (child, depth + 1),
                None => return &[],
            },
        }
    }
}

fn insert<E: Clone>(node: &mut Arc<Node<E>>, hash: u32, entry: E, depth: u32) {
    match Arc::make_mut(node) {
        Node::Branch(children) => put(children, hash, entry, depth),
        Node::Leaf(entries) if entries.len() < FULL || depth == DEPTH => {
            // Most leaves are never touched again: no room is held for what may come.
            entries.reserve_exact(1);
            entries.push((hash, entry));
        }
        full @ Node::Leaf(_) => {
            let old = mem::replace(full, Node::Branch(Box::default()));
            if let (Node::Leaf(entries), Node::Branch(children)) = (old, full) {
                for (hash, entry) in entries {
                    put(children, hash, entry, depth);
                }
                put(children, hash, entry, depth);
            }
        }
    }
}

fn put<E: Clone>(children: &mut Children<E>, hash: u32, entry: E, depth: u32) {
    match &mut children[slot(hash, depth)] {
        Some(child) => insert(child, hash, entry, depth + 1),
        empty => *empty = Some(Arc::new(Node::Leaf(vec![(hash, entry)]))),
    }
}

fn remove<E: Clone>(node: &mut Arc<Node<E>>, hash: u32, is: &impl Fn(&E) -> bool, depth: u32) -> Option<E> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let at = entries.iter().position(|(own, entry)| *own == hash && is(entry))?;
            let (_, gone) = entries.remove(at);
            entries.shrink_to_fit();
            Some(gone)
        }
        Node::Branch(children) => {
            let child = &mut children[slot(hash, depth)];
            let gone = remove(child.as_mut()?, hash, is, depth + 1);
            if child.as_ref().is_some_and(|child| child.is_empty()) {
                *child = None;
            }
            gone
        }
    }
}

impl<E> Node<E> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(entries) => entries.is_empty(),
            Self::Branch(children) => children.iter().all(Option::is_none),
        }
    }
}

/// All entries. It allocates nothing, for a decision walks it.
#[derive(Debug)]
pub(crate) struct Iter<'t, E> {
    /// What is left of the branches on the way.
    path: [&'t [Option<Arc<Node<E>>>]; PATH],
    depth: usize,
    leaf: slice::Iter<'t, (u32, E)>,
}

impl<E> Clone for Iter<'_, E> {
    fn clone(&self) -> Self {
        Self { path: self.path, depth: self.depth, leaf: self.leaf.clone() }
    }
}

impl<'t, E> Iter<'t, E> {
    fn enter(&mut self, node: &'t Node<E>) {
        match node {
            Node::Leaf(entries) => self.leaf = entries.iter(),
            Node::Branch(children) => {
                self.path[self.depth] = children.as_slice();
                self.depth += 1;
            }
        }
    }
}

impl<'t, E> Iterator for Iter<'t, E> {
    type Item = &'t E;

    fn next(&mut self) -> Option<&'t E> {
        loop {
            if let Some((_, entry)) = self.leaf.next() {
                return Some(entry);
            }
            let above = self.depth.checked_sub(1)?;
            match self.path[above].split_first() {
                None => self.depth = above,
                Some((child, rest)) => {
                    self.path[above] = rest;
                    if let Some(child) = child {
                        self.enter(child);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Many hashes, few that differ, or all one: a leaf at the bottom has to take them.
    fn hash(of: u16, mask: u32) -> u32 {
        u32::from(of).wrapping_mul(0x9e37_79b1) & mask
    }

    proptest! {
        #[test]
        fn a_trie_holds_what_a_set_would_and_an_older_one_is_not_changed(
            steps in prop::collection::vec((any::<bool>(), 0_u16..300), 0..600),
            mask in prop::sample::select(vec![u32::MAX, 0xff, 0]),
            cut in 0_usize..600,
        ) {
            let (mut trie, mut set) = (Trie::default(), BTreeSet::new());
            let mut before = None;
            for (i, (add, entry)) in steps.into_iter().enumerate() {
                if i == cut {
                    before = Some((trie.clone(), set.clone()));
                }
                let is = |own: &u16| *own == entry;
                if add && set.insert(entry) {
                    trie.insert(hash(entry, mask), entry);
                } else if !add {
                    prop_assert_eq!(trie.remove(hash(entry, mask), is).is_some(), set.remove(&entry));
                }
                prop_assert_eq!(trie.find(hash(entry, mask), is).is_some(), set.contains(&entry));
                prop_assert_eq!(trie.find_mut(hash(entry, mask), is).is_some(), set.contains(&entry));
            }
            for (trie, set) in [(trie, set)].into_iter().chain(before) {
                prop_assert_eq!(trie.len(), set.len());
                prop_assert_eq!(trie.iter().count(), set.len());
                prop_assert_eq!(trie.iter().copied().collect::<BTreeSet<_>>(), set);
            }
        }
    }
}
