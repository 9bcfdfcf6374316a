//! How the path of a request is compared.

use std::{cmp::Reverse, fmt};

use weir_request::{Normalization, PathError, spelt};

use crate::{pattern::Pattern, text::StringMatch};

/// Whether the case of letters counts. Istio `ignoreUriCase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// It does.
    Counts,
    /// It does not.
    Ignored,
}

/// How a path is compared. What is written into a rule is spelt as the paths of requests are, so `level` is the one that requests are read with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathMatch(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Exact(Box<str>, Case),
    Prefix(Box<str>, Case),
    /// Without the slash at its end.
    Segments(Box<str>),
    Regex(Pattern),
    /// `/service/method`.
    Grpc {
        service: Option<StringMatch>,
        method: Option<StringMatch>,
        /// What all its paths begin with.
        start: Box<str>,
    },
}

/// The place of a way to compare paths among all: the least is asked first. Gateway API v1 `HTTPRouteRule.matches`; regular expressions come last, which
/// it leaves open, as in Istio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathRank {
    Exact,
    Prefix(Reverse<usize>),
    Pattern(Reverse<usize>),
    Any,
}

impl PathMatch {
    /// The path is this.
    ///
    /// # Errors
    /// When no path can be this.
    pub fn exact(text: &str, case: Case, level: Normalization) -> Result<Self, PathError> {
        Ok(Self(Kind::Exact(spelt(text, level)?.into(), case)))
    }

    /// The path begins with this, wherever that ends. Istio `uri.prefix`.
    ///
    /// # Errors
    /// When no path can begin with this.
    pub fn prefix(text: &str, case: Case, level: Normalization) -> Result<Self, PathError> {
        Ok(Self(Kind::Prefix(spelt(text, level)?.into(), case)))
    }

    /// The path begins with all segments of this; a slash at its end does not matter. Gateway API v1 `PathPrefix`.
    ///
    /// # Errors
    /// When no path can begin with this.
    pub fn segments(text: &str, level: Normalization) -> Result<Self, PathError> {
        let text = spelt(text, level)?;
        Ok(Self(Kind::Segments(text.strip_suffix('/').unwrap_or(&text).into())))
    }

    /// All of the path matches this.
    pub fn regex(pattern: Pattern) -> Self {
        Self(Kind::Regex(pattern))
    }

    /// The path is that of a method of gRPC, `/service/method`. Gateway API v1 `GRPCMethodMatch`.
    pub fn grpc(service: Option<StringMatch>, method: Option<StringMatch>) -> Self {
        let start = match (&service, &method) {
            (Some(StringMatch::Exact(service)), Some(StringMatch::Exact(method))) => format!("/{service}/{method}"),
            (Some(StringMatch::Exact(service)), _) => format!("/{service}/"),
            (Some(StringMatch::Prefix(_) | StringMatch::Regex(_) | StringMatch::Present) | None, _) => "/".to_owned(),
        };
        Self(Kind::Grpc { service, method, start: start.into() })
    }

    /// Whether a path is as asked.
    pub fn matches(&self, path: &str) -> bool {
        match &self.0 {
            Kind::Exact(text, Case::Counts) => path == &**text,
            Kind::Exact(text, Case::Ignored) => path.eq_ignore_ascii_case(text),
            Kind::Prefix(text, Case::Counts) => path.starts_with(&**text),
            Kind::Prefix(text, Case::Ignored) => {
                path.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
            }
            Kind::Segments(text) => {
                path.strip_prefix(&**text).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Kind::Regex(pattern) => pattern.matches(path.as_bytes()),
            Kind::Grpc { service, method, start } => {
                let is = |wanted: &Option<StringMatch>, name: &str| {
                    !name.is_empty() && wanted.as_ref().is_none_or(|wanted| wanted.matches(Some(name.as_bytes())))
                };
                path.starts_with(&**start)
                    && path
                        .strip_prefix('/')
                        .and_then(|path| path.split_once('/'))
                        .is_some_and(|(one, other)| !other.contains('/') && is(service, one) && is(method, other))
            }
        }
    }

    /// How much of the path, in bytes, is the prefix that was asked for. None if it was not asked for one.
    pub(crate) fn prefix_len(&self) -> Option<usize> {
        match &self.0 {
            Kind::Prefix(text, _) | Kind::Segments(text) => Some(text.len()),
            Kind::Exact(..) | Kind::Regex(_) | Kind::Grpc { .. } => None,
        }
    }

    /// What every path that matches begins with. None if that can be anything: then it must be asked.
    pub(crate) fn start(&self) -> Option<(&str, Case)> {
        match &self.0 {
            Kind::Exact(text, case) | Kind::Prefix(text, case) => Some((text, *case)),
            Kind::Segments(text) => Some((text, Case::Counts)),
            Kind::Grpc { start, .. } if &**start != "/" => Some((start, Case::Counts)),
            Kind::Regex(_) | Kind::Grpc { .. } => None,
        }
    }

    pub(crate) fn rank(&self) -> PathRank {
        match &self.0 {
            Kind::Exact(..) => PathRank::Exact,
            // A slash at the end of `/a/` makes it no longer than `/a`, and `/` is a character.
            Kind::Prefix(text, _) | Kind::Segments(text) => PathRank::Prefix(Reverse(text.len().max(1))),
            Kind::Regex(pattern) => PathRank::Pattern(Reverse(pattern.as_str().len())),
            Kind::Grpc { service: Some(StringMatch::Exact(_)), method: Some(StringMatch::Exact(_)), .. } => {
                PathRank::Exact
            }
            Kind::Grpc { service: Some(StringMatch::Exact(service)), .. } => {
                PathRank::Prefix(Reverse(service.len() + 1))
            }
            Kind::Grpc { service: None, method: Some(StringMatch::Exact(method)), .. } => {
                PathRank::Pattern(Reverse(method.len()))
            }
            Kind::Grpc { .. } => PathRank::Pattern(Reverse(0)),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exact(text, _) => f.write_str(text),
            Kind::Prefix(text, _) => write!(f, "{text}*"),
            Kind::Segments(text) => write!(f, "{text}/*"),
            Kind::Regex(pattern) => write!(f, "~{}", pattern.as_str()),
            Kind::Grpc { service, method, .. } => {
                for part in [service, method] {
                    match part {
                        Some(part) => write!(f, "/{part}")?,
                        None => f.write_str("/*")?,
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Normalization = Normalization::Base;

    fn exact(text: &str, case: Case) -> PathMatch {
        PathMatch::exact(text, case, BASE).unwrap()
    }

    fn prefix(text: &str, case: Case) -> PathMatch {
        PathMatch::prefix(text, case, BASE).unwrap()
    }

    fn segments(text: &str) -> PathMatch {
        PathMatch::segments(text, BASE).unwrap()
    }

    fn regex(text: &str) -> PathMatch {
        PathMatch::regex(Pattern::new(text).unwrap())
    }

    fn is(text: &str) -> Option<StringMatch> {
        Some(StringMatch::Exact(text.into()))
    }

    fn like(text: &str) -> Option<StringMatch> {
        Some(StringMatch::Regex(Pattern::new(text).unwrap()))
    }

    #[test]
    fn paths_are_compared_as_asked() {
        use Case::{Counts, Ignored};
        for (wanted, yes, no) in [
            (exact("/a", Counts), vec!["/a"], vec!["/a/", "/A", "/", "/ab"]),
            (exact("/a", Ignored), vec!["/a", "/A"], vec!["/a/"]),
            (exact("/%61%c3%a9", Counts), vec!["/a%C3%A9"], vec!["/%61"]),
            (prefix("/a", Counts), vec!["/a", "/ab", "/a/b"], vec!["/A", "/"]),
            (prefix("/a", Ignored), vec!["/Ab", "/a/b"], vec!["/", "/b"]),
            (prefix("/", Counts), vec!["/", "/x"], vec![]),
            (segments("/a"), vec!["/a", "/a/", "/a/b"], vec!["/ab", "/A", "/"]),
            (segments("/a/"), vec!["/a", "/a/", "/a/b"], vec!["/ab"]),
            (segments("/"), vec!["/", "/x", "//"], vec![]),
            (regex("/a[0-9]"), vec!["/a1"], vec!["/a1/b", "/b/a1"]),
            (PathMatch::grpc(is("s.S"), is("M")), vec!["/s.S/M"], vec!["/s.S/m", "/s.S/M/x", "/s.S"]),
            (PathMatch::grpc(is("s.S"), None), vec!["/s.S/M", "/s.S/N"], vec!["/s.S/", "/s.S", "/s.S/a/b", "/t/M"]),
            (PathMatch::grpc(None, is("M")), vec!["/s/M", "/t/M"], vec!["/M", "//M", "/s/N"]),
            (PathMatch::grpc(like("s.*"), like("Get.+")), vec!["/s1/GetX"], vec!["/s1/Get", "/t/GetX"]),
            (PathMatch::grpc(is("s"), like("Get.+")), vec!["/s/GetX"], vec!["/s/Get", "/t/GetX"]),
            (PathMatch::grpc(None, None), vec!["/s/M"], vec!["/s", "/", "/s/M/x"]),
        ] {
            for path in yes {
                assert!(wanted.matches(path), "{wanted} {path}");
                assert!(wanted.start().is_none_or(|(start, case)| match case {
                    Counts => path.starts_with(start),
                    Ignored => path.to_lowercase().starts_with(&start.to_lowercase()),
                }));
            }
            for path in no {
                assert!(!wanted.matches(path), "{wanted} {path}");
            }
        }
    }

    #[test]
    fn the_order_is_exact_then_the_longest_prefix_then_patterns() {
        let ordered = [
            exact("/a", Case::Counts),
            segments("/abc"),
            prefix("/ab", Case::Counts),
            PathMatch::grpc(is("s"), None),
            segments("/"),
            regex("/longer"),
            regex("/a"),
            PathMatch::grpc(None, is("M")),
            PathMatch::grpc(None, None),
        ];
        for pair in ordered.windows(2) {
            assert!(pair[0].rank() < pair[1].rank(), "{} before {}", pair[0], pair[1]);
        }
        assert_eq!(segments("/a/").rank(), segments("/a").rank());
        assert_eq!(PathMatch::grpc(is("s"), is("M")).rank(), PathRank::Exact);
    }
}
