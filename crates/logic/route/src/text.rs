//! How a text of a request is compared.

use std::fmt;

use crate::pattern::Pattern;

/// How a text is compared. Istio `StringMatch`; Gateway API v1 knows exact and regular expression. Case counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// It is this.
    Exact(Box<str>),
    /// It begins with this.
    Prefix(Box<str>),
    /// All of it matches this.
    Regex(Pattern),
    /// It is there, even if empty. Istio's empty `StringMatch`.
    Present,
}

impl StringMatch {
    /// Whether a text is as asked. One that is not there never is.
    pub fn matches(&self, text: Option<&[u8]>) -> bool {
        match (self, text) {
            (_, None) => false,
            (Self::Exact(exact), Some(text)) => text == exact.as_bytes(),
            (Self::Prefix(prefix), Some(text)) => text.starts_with(prefix.as_bytes()),
            (Self::Regex(pattern), Some(text)) => pattern.matches(text),
            (Self::Present, Some(_)) => true,
        }
    }
}

impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "{text}"),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Regex(pattern) => write!(f, "~{}", pattern.as_str()),
            Self::Present => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_as_asked() {
        for (wanted, text, want) in [
            (StringMatch::Exact("a".into()), Some("a"), true),
            (StringMatch::Exact("a".into()), Some("A"), false),
            (StringMatch::Exact("a".into()), Some("ab"), false),
            (StringMatch::Exact("".into()), None, false),
            (StringMatch::Prefix("a".into()), Some("ab"), true),
            (StringMatch::Prefix("a".into()), Some("ba"), false),
            (StringMatch::Regex(Pattern::new("a+").unwrap()), Some("aa"), true),
            (StringMatch::Regex(Pattern::new("a+").unwrap()), Some("aab"), false),
            (StringMatch::Regex(Pattern::new(".*").unwrap()), None, false),
            (StringMatch::Present, Some(""), true),
            (StringMatch::Present, None, false),
        ] {
            assert_eq!(wanted.matches(text.map(str::as_bytes)), want, "{wanted} {text:?}");
        }
    }
}
