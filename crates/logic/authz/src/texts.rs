//! Patterns of texts, few or many.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;
use weir_model::TextMatch;

/// Up to so many are looked at one by one.
const FEW: usize = 8;
/// Bytes of a short pattern: those of most principals, and so many that a test fills a line of a cache.
const SHORT: usize = 45;

/// Patterns of texts.
#[derive(Debug, Clone)]
pub(crate) enum Texts {
    One(Pattern),
    Few(Box<[Pattern]>),
    Many(Box<Many>),
}

/// A pattern. One that is short is in place: no further memory is touched.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    Short { kind: Kind, len: u8, bytes: [u8; SHORT] },
    Other(TextMatch),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Exact,
    Prefix,
    Suffix,
}

impl Pattern {
    fn new(pattern: &TextMatch) -> Self {
        let (kind, text) = match pattern {
            TextMatch::Exact(text) => (Kind::Exact, text),
            TextMatch::Prefix(text) => (Kind::Prefix, text),
            TextMatch::Suffix(text) => (Kind::Suffix, text),
            TextMatch::Present => return Self::Other(TextMatch::Present),
        };
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short { kind, len, bytes }
            }
            (None, _) | (_, Err(_)) => Self::Other(pattern.clone()),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Short { kind, len, bytes } => {
                let (own, text) = (&bytes[..usize::from(*len)], text.as_bytes());
                match kind {
                    Kind::Exact => text == own,
                    Kind::Prefix => text.starts_with(own),
                    Kind::Suffix => text.ends_with(own),
                }
            }
            Self::Other(pattern) => pattern.matches(text),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Many {
    exact: Set,
    prefixes: Set,
    /// The lengths of prefixes, in bytes: a text has one of them if its head of one of the lengths is one.
    heads: BTreeSet<usize>,
    suffixes: Set,
    /// The same of suffixes.
    tails: BTreeSet<usize>,
    /// Any text will do that is not empty.
    present: bool,
}

/// Who writes policies may choose them to collide: then they cost as much as a list.
type Set = HashSet<Arc<str>, FixedState>;

impl Texts {
    pub(crate) fn new(all: &[TextMatch]) -> Self {
        if let [one] = all {
            return Self::One(Pattern::new(one));
        }
        if all.len() <= FEW {
            return Self::Few(all.iter().map(Pattern::new).collect());
        }
        let mut many = Many::default();
        for one in all {
            match one {
                TextMatch::Exact(text) => {
                    many.exact.insert(text.clone());
                }
                TextMatch::Prefix(text) => {
                    many.heads.insert(text.len());
                    many.prefixes.insert(text.clone());
                }
                TextMatch::Suffix(text) => {
                    many.tails.insert(text.len());
                    many.suffixes.insert(text.clone());
                }
                TextMatch::Present => many.present = true,
            }
        }
        Self::Many(Box::new(many))
    }

    /// Whether one of them matches the text.
    pub(crate) fn match_text(&self, text: &str) -> bool {
        match self {
            Self::One(one) => one.matches(text),
            Self::Few(all) => all.iter().any(|one| one.matches(text)),
            Self::Many(many) => {
                let head = |len: &usize| text.get(..*len).is_some_and(|head| many.prefixes.contains(head));
                let tail = |len: &usize| {
                    let tail = text.len().checked_sub(*len).and_then(|from| text.get(from..));
                    tail.is_some_and(|tail| many.suffixes.contains(tail))
                };
                (many.present && !text.is_empty())
                    || many.exact.contains(text)
                    || many.heads.range(..=text.len()).any(head)
                    || many.tails.range(..=text.len()).any(tail)
            }
        }
    }
}
