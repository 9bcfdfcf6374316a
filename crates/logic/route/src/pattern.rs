//! Regular expressions, as RE2 has them: linear in time, bounded in size, and always of the whole text.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// The longest expression, in bytes.
pub const MAX_PATTERN: usize = 4_096;
/// The most an expression may take compiled, in bytes: a table may hold thousands. An ordinary one takes a tenth of this.
const MAX_COMPILED: usize = 128 * 1024;
/// The most its matcher may remember between texts, in bytes, for each thread that uses it. With less it is slower, not wrong.
const MAX_CACHE: usize = 128 * 1024;

/// Why a text is no regular expression that can be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// Too long.
    #[error("a regular expression of {len} bytes, at most {MAX_PATTERN} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not one, too large compiled, or with something that would take more than linear time.
    #[error("the regular expression {pattern:?} cannot be used")]
    Syntax {
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: regex::Error,
    },
    /// It would mean something else here than in RE2.
    #[error("the regular expression {pattern:?} has, unescaped, '[', '&&', '--' or '~~' in a set")]
    Set {
        /// The expression.
        pattern: String,
    },
}

/// A regular expression that a text matches as a whole. It reads bytes: `.` is any but a line feed, `\d` and the like are ASCII, as in RE2.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    whole: Regex,
}

impl Pattern {
    /// Reads a regular expression.
    ///
    /// # Errors
    /// When it is none, is too large, or would mean something else than in RE2.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        // By itself first: joined to the anchors, "a)|(b" would be one.
        compile(text)?;
        let whole = build(text, &format!(r"\A(?:{text})\z"))?;
        Ok(Self { text: text.into(), whole })
    }

    /// Whether all of the text is as asked.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// An expression that is looked for anywhere.
pub(crate) fn compile(text: &str) -> Result<Regex, PatternError> {
    if text.len() > MAX_PATTERN {
        return Err(PatternError::TooLong { len: text.len() });
    }
    if has_foreign_set(text) {
        return Err(PatternError::Set { pattern: text.to_owned() });
    }
    build(text, text)
}

fn build(shown: &str, text: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_CACHE)
        .build()
        .map_err(|source| PatternError::Syntax { pattern: shown.to_owned(), source })
}

/// Whether a set is written in a way that RE2 reads as single characters and the library below as sets within sets.
fn has_foreign_set(pattern: &str) -> bool {
    let mut chars = pattern.chars().peekable();
    let mut in_set = false;
    while let Some(found) = chars.next() {
        match (in_set, found) {
            (_, '\\') => {
                chars.next();
            }
            (false, '[') => {
                in_set = true;
                chars.next_if_eq(&'^');
                chars.next_if_eq(&']');
            }
            (true, ']') => in_set = false,
            // [:alpha:]
            (true, '[') if chars.peek() == Some(&':') => {
                let _end = chars.find(|&c| c == ']');
            }
            (true, '[') => return true,
            (true, '&' | '-' | '~') if chars.peek() == Some(&found) => return true,
            (true | false, _) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_is_matched_as_re2_does() {
        for (pattern, text, want) in [
            ("/v[0-9]+/.*", "/v12/x", true),
            ("/v[0-9]+", "/v1/x", false),
            ("v1", "/v1", false),
            // The first alternative is not the only one.
            ("a|ab", "ab", true),
            ("^a$", "a", true),
            ("a$", "a\n", false),
            ("(?i)ABC", "abC", true),
            ("", "", true),
            ("", "a", false),
            (".*", "a\nb", false),
            ("(?s).*", "a\nb", true),
            // ASCII, as in RE2.
            (r"\d", "٣", false),
            (r"\w+", "é", false),
            (".{2}", "é", true),
            ("[[:alpha:]]+", "ab", true),
            ("[]a]+", "]a", true),
            (r"[\[a]+", "[a", true),
            ("[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?", "web-1", true),
            (r"\w{1,255}", "a_b", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(text.as_bytes()), want, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn what_is_none_or_means_another_thing_is_refused() {
        for (pattern, want) in [
            ("a)|(b", "cannot be used"),
            ("(", "cannot be used"),
            ("(?=a)b", "cannot be used"),
            (r"(a)\1", "cannot be used"),
            (r"\Qa\E", "cannot be used"),
            (r"\pL", "cannot be used"),
            ("a{100000}", "cannot be used"),
            ("((a{100}){100}){100}", "cannot be used"),
            ("[a[b]]", "in a set"),
            ("[a&&b]", "in a set"),
            ("[^a--b]", "in a set"),
            ("[a~~b]", "in a set"),
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(error.to_string().contains(want), "{pattern}: {error}");
        }
        assert_eq!(Pattern::new(&"a".repeat(MAX_PATTERN + 1)), Err(PatternError::TooLong { len: MAX_PATTERN + 1 }));
    }

    #[test]
    fn an_expression_that_explodes_elsewhere_is_linear_here() {
        let pattern = Pattern::new("(a|aa|a*)*b").unwrap();
        assert!(!pattern.matches("a".repeat(60_000).as_bytes()));
    }
}
