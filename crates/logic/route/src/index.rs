//! What paths begin with, sorted: one search finds every text that a path begins with, however many there are.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::path::Case;

/// Texts in order, each with the longest other that it begins with. Of all texts that a path begins with the longest is the last text not after the
/// path, or one that this begins with; the rest are those that it begins with in turn.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    nodes: Vec<Node>,
    case: Case,
}

#[derive(Debug, Clone)]
struct Node {
    /// In lower case if case is ignored.
    text: Box<str>,
    parent: Option<usize>,
    entries: Vec<usize>,
}

impl Index {
    /// The index of entries by what their paths begin with. The entries of one text keep their order.
    pub(crate) fn new<'t>(case: Case, entries: impl Iterator<Item = (&'t str, usize)>) -> Self {
        let mut by_text: BTreeMap<Box<str>, Vec<usize>> = BTreeMap::new();
        for (text, entry) in entries {
            let text = match case {
                Case::Counts => text.to_owned(),
                Case::Ignored => text.to_ascii_lowercase(),
            };
            by_text.entry(text.into()).or_default().push(entry);
        }
        let mut nodes: Vec<Node> = Vec::with_capacity(by_text.len());
        let mut above: Vec<usize> = Vec::new();
        for (text, entries) in by_text {
            let begins = |at: &usize| nodes.get(*at).is_some_and(|node| text.starts_with(&*node.text));
            while above.pop_if(|at| !begins(at)).is_some() {}
            let parent = above.last().copied();
            above.push(nodes.len());
            nodes.push(Node { text, parent, entries });
        }
        Self { nodes, case }
    }

    /// The entries of each text that a path begins with, the longest text first.
    pub(crate) fn along<'i>(&'i self, path: &str) -> impl Iterator<Item = &'i [usize]> {
        let after = self.nodes.partition_point(|node| self.compare(&node.text, path) != Ordering::Greater);
        let mut longest = after.checked_sub(1).and_then(|at| self.nodes.get(at));
        while let Some(node) = longest
            && !self.begins(path, &node.text)
        {
            longest = self.parent(node);
        }
        std::iter::successors(longest, |node| self.parent(node)).map(|node| node.entries.as_slice())
    }

    fn parent(&self, node: &Node) -> Option<&Node> {
        self.nodes.get(node.parent?)
    }

    fn compare(&self, text: &str, path: &str) -> Ordering {
        match self.case {
            Case::Counts => text.cmp(path),
            Case::Ignored => text.bytes().cmp(path.bytes().map(|byte| byte.to_ascii_lowercase())),
        }
    }

    fn begins(&self, path: &str, text: &str) -> bool {
        match self.case {
            Case::Counts => path.starts_with(text),
            Case::Ignored => path.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_that_a_path_begins_with_is_found_and_no_other(
            texts in prop::collection::vec("[aAb/]{0,6}", 0..40),
            path in "[aAb/]{0,9}",
            ignored in any::<bool>(),
        ) {
            let case = if ignored { Case::Ignored } else { Case::Counts };
            let index = Index::new(case, texts.iter().map(String::as_str).zip(0..));
            let fold = |text: &str| if ignored { text.to_ascii_lowercase() } else { text.to_owned() };
            let mut found: Vec<usize> = index.along(&path).flatten().copied().collect();
            let lengths: Vec<usize> = index.along(&path).map(|entries| texts[entries[0]].len()).collect();
            prop_assert!(lengths.windows(2).all(|pair| pair[0] > pair[1]));
            found.sort_unstable();
            let want: Vec<usize> = (0..texts.len()).filter(|&i| fold(&path).starts_with(&fold(&texts[i]))).collect();
            prop_assert_eq!(found, want);
        }
    }
}
