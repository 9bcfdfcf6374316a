//! Tokens whose signature was checked, so that it is not checked again for each request of a client.
//!
//! Kept is that a key of a certain set made the signature of a certain text. Whether the token is good now, here and for whom is asked each
//! time. Only good tokens are kept: nobody can push them out who was not given some.

use std::{collections::HashMap, mem, sync::Arc};

use crate::{keys::KeySet, token::Token};

/// Proven tokens, in bounded memory. Each worker has its own.
#[derive(Debug)]
pub struct Proven {
    /// Used since the last turn.
    young: HashMap<Box<[u8]>, Kept>,
    /// Not used since.
    old: HashMap<Box<[u8]>, Kept>,
    /// Bytes of the tokens among the young ones.
    bytes: usize,
    most: usize,
}

#[derive(Debug)]
struct Kept {
    keys: Arc<KeySet>,
    token: Arc<Token>,
}

impl Proven {
    /// None yet; at most so many bytes of tokens are kept twice over, with a few times as much for what they say.
    pub fn new(bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), bytes: 0, most: bytes }
    }

    /// The token of this text, and the keys that proved it.
    pub(crate) fn find(&mut self, text: &[u8]) -> Option<(Arc<Token>, Arc<KeySet>)> {
        if let Some(kept) = self.young.get(text) {
            return Some((kept.token.clone(), kept.keys.clone()));
        }
        let Kept { keys, token } = self.old.remove(text)?;
        self.keep(text, token.clone(), keys.clone());
        Some((token, keys))
    }

    /// Keeps a proven token; when there are too many, those that nobody asked for lately go.
    pub(crate) fn keep(&mut self, text: &[u8], token: Arc<Token>, keys: Arc<KeySet>) {
        if text.len() > self.most {
            return;
        }
        if self.bytes + text.len() > self.most {
            self.old = mem::take(&mut self.young);
            self.bytes = 0;
        }
        if self.young.insert(text.into(), Kept { keys, token }).is_none() {
            self.bytes += text.len();
        }
    }
}
