//! Another path and authority for what is sent on.

use std::fmt;

use regex::bytes::Regex;
use weir_request::{Authority, HostError, MAX_TARGET, NormalPath, Normalization, PathError, spelt};

use crate::pattern::{PatternError, compile};

/// Why a request cannot be sent on as its rule asks: it is refused with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// What came out is no path.
    #[error("the path is rewritten to none")]
    NoPath(#[source] PathError),
    /// What came out means another place than it says. `/foo..` with `/foo` replaced by `/bar/` would leave `/bar`.
    #[error("the path is rewritten to {path:?}, which leads elsewhere")]
    Leads {
        /// What came out.
        path: String,
    },
}

/// Why a substitution cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SubstitutionError {
    /// Its expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Behind a backslash stands something else than a digit or a backslash.
    #[error("the substitution {text:?} has a '\\' without a digit or another '\\' behind it")]
    Escape {
        /// The substitution.
        text: String,
    },
    /// The expression has no such group.
    #[error("the substitution {text:?} names group {group}, the expression has {groups}")]
    Group {
        /// The substitution.
        text: String,
        /// The group named.
        group: usize,
        /// How many there are.
        groups: usize,
    },
    /// Too long.
    #[error("a substitution of {len} bytes, at most {MAX_TARGET} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
    },
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRewrite(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Whole(Box<str>),
    Prefix(Box<str>),
    /// Without the slash at its end.
    Segments(Box<str>),
    Regex(RegexRewrite),
}

impl PathRewrite {
    /// This instead of all of the path. Gateway API v1 `ReplaceFullPath`.
    ///
    /// # Errors
    /// When it is no path.
    pub fn whole(text: &str, level: Normalization) -> Result<Self, PathError> {
        Ok(Self(Kind::Whole(spelt(text, level)?.into())))
    }

    /// This instead of the prefix that was asked for, or of all of the path if none was. Istio `HTTPRewrite.uri`. A slash that ends it and one that begins
    /// the rest are one.
    ///
    /// # Errors
    /// When it is no path.
    pub fn prefix(text: &str, level: Normalization) -> Result<Self, PathError> {
        Ok(Self(Kind::Prefix(spelt(text, level)?.into())))
    }

    /// These segments instead of those that were asked for; empty for none. Gateway API v1 `ReplacePrefixMatch`.
    ///
    /// # Errors
    /// When it is no path.
    pub fn segments(text: &str, level: Normalization) -> Result<Self, PathError> {
        let text = if text.is_empty() { String::new() } else { spelt(text, level)? };
        Ok(Self(Kind::Segments(text.strip_suffix('/').unwrap_or(&text).into())))
    }

    /// What an expression makes of the path. Istio `HTTPRewrite.uriRegexRewrite`.
    pub fn regex(rewrite: RegexRewrite) -> Self {
        Self(Kind::Regex(rewrite))
    }

    /// The path that comes of `path`, whose first `prefix` bytes were asked for.
    ///
    /// # Errors
    /// When that is no path, or one that leads elsewhere than it says.
    pub fn apply(&self, path: &str, prefix: Option<usize>) -> Result<String, RewriteError> {
        let rest = prefix.and_then(|prefix| path.get(prefix..)).unwrap_or_default();
        let made = match &self.0 {
            Kind::Whole(text) => text.to_string(),
            Kind::Prefix(text) if text.ends_with('/') => format!("{text}{}", rest.strip_prefix('/').unwrap_or(rest)),
            Kind::Prefix(text) => format!("{text}{rest}"),
            Kind::Segments(text) if text.is_empty() && rest.is_empty() => "/".to_owned(),
            Kind::Segments(text) => format!("{text}{rest}"),
            Kind::Regex(rewrite) => rewrite.apply(path)?,
        };
        let leads_to = NormalPath::read(&made, Normalization::Base).map_err(RewriteError::NoPath)?;
        if leads_to.as_str() == made { Ok(made) } else { Err(RewriteError::Leads { path: made }) }
    }
}

impl fmt::Display for PathRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Whole(text) => write!(f, "the path to {text}"),
            Kind::Prefix(text) => write!(f, "what was matched of the path to {text}"),
            Kind::Segments(text) => write!(f, "the segments matched of the path to {text}/"),
            Kind::Regex(rewrite) => write!(f, "the path where it matches ~{}", rewrite.regex.as_str()),
        }
    }
}

/// An expression, and what comes instead of each place where it matches.
#[derive(Debug, Clone)]
pub struct RegexRewrite {
    regex: Regex,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl PartialEq for RegexRewrite {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.parts == other.parts
    }
}

impl Eq for RegexRewrite {}

impl RegexRewrite {
    /// An expression and its substitution, in which `\1` is its first group, `\0` all that matched, and `\\` a backslash.
    ///
    /// # Errors
    /// When the expression cannot be used, or the substitution names a group that it has not.
    pub fn new(pattern: &str, substitution: &str) -> Result<Self, SubstitutionError> {
        if substitution.len() > MAX_TARGET {
            return Err(SubstitutionError::TooLong { len: substitution.len() });
        }
        let regex = compile(pattern)?;
        let groups = regex.captures_len() - 1;
        let text = || substitution.to_owned();
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = substitution.chars();
        while let Some(found) = chars.next() {
            if found != '\\' {
                plain.push(found);
                continue;
            }
            match chars.next() {
                Some('\\') => plain.push('\\'),
                Some(digit) => {
                    let group = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
                    let group = group.ok_or_else(|| SubstitutionError::Escape { text: text() })?;
                    if group > groups {
                        return Err(SubstitutionError::Group { text: text(), group, groups });
                    }
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Group(group));
                }
                None => return Err(SubstitutionError::Escape { text: text() }),
            }
        }
        parts.push(Part::Text(plain));
        Ok(Self { regex, parts })
    }

    fn apply(&self, path: &str) -> Result<String, RewriteError> {
        let mut made = Vec::with_capacity(path.len());
        let mut done = 0;
        for found in self.regex.captures_iter(path.as_bytes()) {
            let Some(all) = found.get(0) else { continue };
            made.extend_from_slice(path.as_bytes().get(done..all.start()).unwrap_or_default());
            for part in &self.parts {
                match part {
                    Part::Text(text) => made.extend_from_slice(text.as_bytes()),
                    Part::Group(group) => {
                        made.extend_from_slice(found.get(*group).map_or(&[], |group| group.as_bytes()))
                    }
                }
            }
            done = all.end();
            // An expression that matches everywhere makes much of little.
            if made.len() > MAX_TARGET {
                return Err(RewriteError::NoPath(PathError::TooLong { len: made.len() }));
            }
        }
        made.extend_from_slice(path.as_bytes().get(done..).unwrap_or_default());
        spelt(&String::from_utf8_lossy(&made), Normalization::Base).map_err(RewriteError::NoPath)
    }
}

/// What becomes of path and authority. Istio `HTTPRewrite`, Gateway API v1 `HTTPURLRewriteFilter`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Another path.
    pub path: Option<PathRewrite>,
    authority: Option<Box<str>>,
}

impl Rewrite {
    /// Another path, another authority, or both.
    ///
    /// # Errors
    /// When the authority is none.
    pub fn new(path: Option<PathRewrite>, authority: Option<&str>) -> Result<Self, HostError> {
        let authority = authority.map(|text| Authority::read(text).map(|_| text.into())).transpose()?;
        Ok(Self { path, authority })
    }

    /// The other authority.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Normalization = Normalization::Base;

    #[test]
    fn segments_are_replaced_as_the_table_of_gateway_api_has_it() {
        for (path, prefix, replacement, want) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
        ] {
            let rewrite = PathRewrite::segments(replacement, BASE).unwrap();
            let matched = prefix.trim_end_matches('/').len();
            assert_eq!(rewrite.apply(path, Some(matched)).as_deref(), Ok(want), "{path} {prefix} {replacement}");
        }
    }

    #[test]
    fn a_prefix_or_all_is_replaced() {
        for (path, prefix, replacement, want) in [
            ("/foo/bar", Some("/foo"), "/xyz", "/xyz/bar"),
            ("/foobar", Some("/foo"), "/xyz", "/xyzbar"),
            ("/foo/bar", Some("/foo/"), "/", "/bar"),
            ("/foo/bar", Some("/foo"), "/", "/bar"),
            ("/foo", Some("/foo"), "/", "/"),
            ("/foo/bar", None, "/xyz", "/xyz"),
        ] {
            let rewrite = PathRewrite::prefix(replacement, BASE).unwrap();
            assert_eq!(
                rewrite.apply(path, prefix.map(str::len)).as_deref(),
                Ok(want),
                "{path} {prefix:?} {replacement}"
            );
        }
        assert_eq!(PathRewrite::whole("/%7exyz", BASE).unwrap().apply("/a/b", Some(2)).as_deref(), Ok("/~xyz"));
        for bad in ["", "xyz", "/a?b", "/a b", "/%"] {
            assert!(PathRewrite::whole(bad, BASE).is_err(), "{bad}");
            assert!(PathRewrite::prefix(bad, BASE).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_expression_rewrites_every_place_it_matches() {
        for (pattern, substitution, path, want) in [
            ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", Ok("/v1/api/instance/foo")),
            ("one", "two", "/xxx/one/yyy/one/zzz", Ok("/xxx/two/yyy/two/zzz")),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", Ok("/aaa/yyy/bbb")),
            ("a", r"\0\0", "/a", Ok("/aa")),
            ("/a(b)?", r"/x\1", "/a", Ok("/x")),
            ("b", r"{", "/b", Ok("/%7B")),
            ("^/", "", "/a", Err("rewritten to none")),
            ("a", "..", "/a/b", Err("leads elsewhere")),
            ("a", "%", "/a", Err("rewritten to none")),
        ] {
            let rewrite = PathRewrite::regex(RegexRewrite::new(pattern, substitution).unwrap());
            let made = rewrite.apply(path, None).map_err(|error| error.to_string());
            match want {
                Ok(want) => assert_eq!(made.as_deref(), Ok(want), "{pattern} {path}"),
                Err(want) => assert!(made.clone().unwrap_err().contains(want), "{pattern} {path}: {made:?}"),
            }
        }
        let much = PathRewrite::regex(RegexRewrite::new("", &"x".repeat(1_000)).unwrap());
        assert!(much.apply(&format!("/{}", "a".repeat(1_000)), None).is_err());
        for (pattern, substitution) in [("(", ""), ("a", r"\1"), ("(a)", r"\2"), ("a", r"\x"), ("a", "\\")] {
            assert!(RegexRewrite::new(pattern, substitution).is_err(), "{pattern} {substitution}");
        }
    }

    #[test]
    fn a_rewrite_never_leads_out_of_what_it_names() {
        for (path, prefix, replacement) in
            [("/foo../etc", "/foo", "/bar/"), ("/foo..;x/etc", "/foo", "/bar/"), ("/foo.", "/foo", "/bar/")]
        {
            let made = PathRewrite::prefix(replacement, BASE).unwrap().apply(path, Some(prefix.len()));
            assert!(made.is_err(), "{path}: {made:?}");
        }
    }

    #[test]
    fn an_authority_names_a_host() {
        for (text, want) in [("shop:80", true), ("[::1]", true), ("a@b", false), ("a\r\nb", false), ("", false)] {
            assert_eq!(Rewrite::new(None, Some(text)).is_ok(), want, "{text:?}");
        }
    }
}
