//! Patterns of paths, spelt as the paths are that they are compared with.

use std::{fmt, sync::Arc};

use weir_model::TextMatch;
use weir_request::{NormalPath, Normalization, PathError, spelt};

use crate::texts::Texts;

/// One segment of a path.
const ONE: &str = "{*}";
/// Any number of them.
const MANY: &str = "{**}";

/// A pattern of paths. Istio `Operation.paths`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(Written);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    Text(TextMatch),
    Template(Arc<str>),
}

impl PathPattern {
    /// A text, or the start or the end of one.
    ///
    /// # Errors
    /// When no path of a request can be, begin or end so.
    pub fn text(pattern: TextMatch) -> Result<Self, PathError> {
        spelt_text(&pattern, Normalization::Base)?;
        Ok(Self(Written::Text(pattern)))
    }

    /// A path with `{*}` for one segment and `{**}` for any number of them, as a whole segment each, and none after a `{**}`.
    ///
    /// # Errors
    /// When no path of a request can be so.
    pub fn template(text: Arc<str>) -> Result<Self, PathError> {
        Template::new(&text, Normalization::Base)?;
        Ok(Self(Written::Template(text)))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Written::Text(text) => text.fmt(f),
            Written::Template(text) => f.write_str(text),
        }
    }
}

/// Patterns of paths, ready to be compared.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    /// None if all are templates.
    texts: Option<Texts>,
    templates: Box<[Template]>,
}

impl Paths {
    pub(super) fn new(all: &[PathPattern], level: Normalization) -> Self {
        const LEGAL: &str = "a pattern that has a spelling at one level has one at each";
        let (mut texts, mut templates) = (Vec::new(), Vec::new());
        for PathPattern(written) in all {
            match written {
                Written::Text(pattern) => texts.push(spelt_text(pattern, level).expect(LEGAL)),
                Written::Template(text) => templates.push(Template::new(text, level).expect(LEGAL)),
            }
        }
        Self { texts: (!texts.is_empty()).then(|| Texts::new(&texts)), templates: templates.into() }
    }

    pub(super) fn hold(&self, path: &str) -> bool {
        self.texts.as_ref().is_some_and(|texts| texts.match_text(path))
            || self.templates.iter().any(|one| one.matches(path))
    }
}

fn spelt_text(pattern: &TextMatch, level: Normalization) -> Result<TextMatch, PathError> {
    Ok(match pattern {
        TextMatch::Exact(text) => TextMatch::Exact(respelt(text, level)?.into()),
        TextMatch::Prefix(text) => TextMatch::Prefix(respelt(text, level)?.into()),
        TextMatch::Suffix(text) => TextMatch::Suffix(respelt_end(text, level)?.into()),
        TextMatch::Present => TextMatch::Present,
    })
}

/// What begins at the root.
fn respelt(text: &str, level: Normalization) -> Result<String, PathError> {
    Ok(merged(spelt(text, level)?, level))
}

/// What need not begin with a slash.
fn respelt_end(text: &str, level: Normalization) -> Result<String, PathError> {
    let mut rooted = spelt(&format!("/{text}"), level)?;
    rooted.remove(0);
    Ok(merged(rooted, level))
}

/// Where several slashes are one in paths, they are in patterns.
fn merged(text: String, level: Normalization) -> String {
    match level {
        Normalization::Base => text,
        Normalization::MergeSlashes | Normalization::DecodeAndMergeSlashes => merge(&text),
    }
}

fn merge(text: &str) -> String {
    let mut before = ' ';
    let keep = |found: &char| {
        let keep = *found != '/' || before != '/';
        before = *found;
        keep
    };
    text.chars().filter(keep).collect()
}

/// The path as an application reads it that takes escaped slashes for slashes and several for one, and drops parameters then; none if
/// there are no such slashes.
pub(super) fn folded(path: &str) -> Option<String> {
    let is_escaped = path.contains("%2F") || path.contains("%5C");
    if !is_escaped && !path.contains("//") {
        return None;
    }
    let folded = merge(&path.replace("%2F", "/").replace("%5C", "/"));
    let served = NormalPath::read(&folded, Normalization::MergeSlashes).map(|path| merge(&path.as_served()));
    Some(served.unwrap_or(folded))
}

/// A path with segments left open. Between two pieces stands one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Template {
    pieces: Box<[Box<str>]>,
    /// What the path ends with behind any number of segments; none if it ends with the last piece.
    tail: Option<Box<str>>,
}

impl Template {
    fn new(text: &str, level: Normalization) -> Result<Self, PathError> {
        let (head, tail) = match text.split_once(MANY) {
            Some((head, tail)) => (head, Some(respelt_end(tail, level)?.into())),
            None => (text, None),
        };
        let mut pieces: Vec<Box<str>> = Vec::new();
        for piece in head.split(ONE) {
            let spelt = if pieces.is_empty() { respelt(piece, level)? } else { respelt_end(piece, level)? };
            pieces.push(spelt.into());
        }
        Ok(Self { pieces: pieces.into(), tail })
    }

    fn matches(&self, path: &str) -> bool {
        let mut rest = path;
        for (n, piece) in self.pieces.iter().enumerate() {
            if n > 0 {
                let end = rest.find('/').unwrap_or(rest.len());
                if end == 0 {
                    return false;
                }
                rest = rest.get(end..).unwrap_or_default();
            }
            match rest.strip_prefix(&**piece) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        match &self.tail {
            Some(tail) => rest.ends_with(&**tail),
            None => rest.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str, level: Normalization) -> Paths {
        let pattern = match text.contains('{') {
            true => PathPattern::template(text.into()).unwrap(),
            false => PathPattern::text(text.parse().unwrap()).unwrap(),
        };
        assert_eq!(pattern.to_string(), text);
        Paths::new(&[pattern], level)
    }

    #[test]
    fn a_path_is_as_the_pattern_says() {
        use Normalization::{Base, DecodeAndMergeSlashes as Decode, MergeSlashes as Merge};
        for (pattern, level, path, want) in [
            ("/a", Base, "/a", true),
            ("/a", Base, "/a/", false),
            ("/a", Base, "/A", false),
            ("/a*", Base, "/ab/c", true),
            ("/a*", Base, "/b/a", false),
            ("*.jpg", Base, "/a/b.jpg", true),
            ("*/b", Base, "/a/b", true),
            ("*/b", Base, "/ab", false),
            ("*", Base, "/", true),
            // As requests are spelt.
            ("/%61%2fb", Base, "/a%2Fb", true),
            ("/é*", Base, "/%C3%A9t%C3%A9", true),
            ("*%2fb", Base, "/a%2Fb", true),
            ("*%2fb", Decode, "/a/b", true),
            ("/a\\b", Base, "/a/b", true),
            ("/a//b", Base, "/a//b", true),
            ("/a//b", Merge, "/a/b", true),
            ("/a%2F/b*", Decode, "/a/b", true),
            ("*//b", Merge, "/a/b", true),
            // Templates.
            ("/a/{*}", Base, "/a/b", true),
            ("/a/{*}", Base, "/a/", false),
            ("/a/{*}", Base, "/a/b/c", false),
            ("/a/{*}", Base, "/a/b/", false),
            ("/a/{*}/", Base, "/a/b/", true),
            ("/{*}/b", Base, "/a/b", true),
            ("/{*}/b", Base, "//b", false),
            ("/{*}/{*}", Base, "/a/b", true),
            ("/{*}/{*}", Base, "/a", false),
            ("/a/{**}", Base, "/a/", true),
            ("/a/{**}", Base, "/a/b/c", true),
            ("/a/{**}", Base, "/a", false),
            ("/a/{**}", Base, "/ab/c", false),
            ("/{**}", Base, "/", true),
            ("/a/{**}/", Base, "/a/b/", true),
            ("/a/{**}/", Base, "/a//", true),
            ("/a/{**}/", Base, "/a/b", false),
            ("/a/{*}/b/{**}", Base, "/a/x/b/", true),
            ("/a/{*}/b/{**}", Base, "/a/x/b/y/z", true),
            ("/a/{*}/b/{**}", Base, "/a/x/y/b/z", false),
            ("/a/{**}/z.jpg", Base, "/a/b/c/z.jpg", true),
            ("/a/{**}/z.jpg", Base, "/a/z.jpg", false),
            ("/%61/{*}/%2f", Base, "/a/x/%2F", true),
        ] {
            assert_eq!(paths(pattern, level).hold(path), want, "{pattern} {level:?} {path}");
        }
    }

    #[test]
    fn what_no_path_can_be_is_refused() {
        for text in ["a", "a*", "/a b", "*?", "/#", "/a%2", "/a%2*", "*%zz", "/%00"] {
            assert!(PathPattern::text(text.parse().unwrap()).is_err(), "{text}");
        }
        for text in ["a/{*}", "/{*}/%0", "/{**}/%"] {
            assert!(PathPattern::template(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn slashes_are_folded() {
        for (path, want) in [
            ("/a/b", None),
            ("//a", Some("/a")),
            ("/a%2Fb%5Cc", Some("/a/b/c")),
            ("/a/%2F/b", Some("/a/b")),
            ("/a;x%2Fb;y/c", Some("/a/b/c")),
            ("/a/;x//b", Some("/a/b")),
            ("/%252F", None),
        ] {
            assert_eq!(folded(path).as_deref(), want, "{path}");
        }
    }
}
