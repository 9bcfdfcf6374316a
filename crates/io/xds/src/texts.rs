//! Texts that many resources have: each is kept once. A deployment's name is its service account's, its service's and its label's too.

use std::sync::Arc;

use foldhash::HashSet;
use weir_model::{NameError, ServiceName};

/// How many there may be before those that nobody has any more are thrown out, to begin with.
const FIRST_SWEEP: usize = 1024;

/// All texts that were read and that somebody has.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    known: HashSet<Arc<str>>,
    /// How many more there may be before it is looked whether anybody has them.
    room: usize,
}

impl Texts {
    /// The text, as others have it.
    pub(crate) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.room == 0 {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.room = self.known.len().max(FIRST_SWEEP);
        }
        self.room -= 1;
        let text: Arc<str> = text.into();
        self.known.insert(text.clone());
        text
    }

    /// The name, whose text is as others have it.
    pub(crate) fn name<N: TryFrom<Arc<str>>>(&mut self, text: &str) -> Result<N, N::Error> {
        N::try_from(self.text(text))
    }

    /// The name of a service.
    pub(crate) fn service(&mut self, text: &str) -> Result<ServiceName, NameError> {
        match text.split_once('/') {
            Some((namespace, hostname)) => {
                Ok(ServiceName { namespace: self.name(namespace)?, hostname: self.name(hostname)? })
            }
            None => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{Namespace, ServiceAccount};

    use super::*;

    #[test]
    fn a_text_is_kept_once_whatever_it_names() {
        let mut texts = Texts::default();
        let (one, other): (Namespace, ServiceAccount) = (texts.name("a").unwrap(), texts.name("a").unwrap());
        assert_eq!(one.as_str().as_ptr(), other.as_str().as_ptr());
        assert_eq!(one.as_str().as_ptr(), texts.service("a/b").unwrap().namespace.as_str().as_ptr());
        for bad in ["a", "A/b", "a/B"] {
            assert_eq!(texts.service(bad), bad.parse(), "{bad}");
        }
    }

    #[test]
    fn texts_that_nobody_has_are_thrown_out_and_the_others_stay() {
        let mut texts = Texts::default();
        let kept: Vec<Arc<str>> = (0..5_000).map(|number| texts.text(&format!("kept {number}"))).collect();
        for number in 0..100_000 {
            texts.text(&format!("passing {number}"));
        }
        assert!(texts.known.len() <= 2 * kept.len() + FIRST_SWEEP, "{} texts", texts.known.len());
        assert!(
            kept.iter().enumerate().all(|(number, text)| Arc::ptr_eq(text, &texts.text(&format!("kept {number}"))))
        );
    }
}
