//! Where tokens stand in requests, and a request without them.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use weir_manifest::{HeaderName, TokenRule};
use weir_request::Request;

use crate::{rejected::Reason, rules::RuleIndex};

/// Most tokens of one request that are checked.
const MAX_TOKENS: usize = 8;

/// Where a token is looked for if a rule does not say. Istio `JWTRule.fromHeaders`, RFC 6750 §2.1 and §2.3.
const BEARER: &str = "Bearer ";
const ACCESS_TOKEN: &str = "access_token";

/// Where the rules over a service look for tokens.
#[derive(Debug, Default)]
pub(crate) struct Places {
    headers: BTreeMap<Box<str>, Vec<Prefix>>,
    params: BTreeMap<Arc<str>, Vec<RuleIndex>>,
    cookies: BTreeMap<Arc<str>, Vec<RuleIndex>>,
}

/// What stands before a token in a header.
#[derive(Debug)]
struct Prefix {
    text: Arc<str>,
    case: Case,
    rule: RuleIndex,
}

/// Whether the case of letters counts. That of a scheme does not, RFC 9110 §11.1; of a prefix that a rule says, it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Counts,
    Ignored,
}

impl Prefix {
    fn strip<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        let (start, rest) = value.split_at_checked(self.text.len())?;
        let is_it = match self.case {
            Case::Counts => start == self.text.as_bytes(),
            Case::Ignored => start.eq_ignore_ascii_case(self.text.as_bytes()),
        };
        is_it.then(|| rest.trim_ascii())
    }
}

/// A text that stands where a token should.
#[derive(Debug)]
pub(crate) struct Found<'r> {
    pub(crate) text: Cow<'r, [u8]>,
    /// The rules that look there, in their order.
    pub(crate) rules: Vec<RuleIndex>,
    pub(crate) places: Vec<Place>,
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Header(HeaderName),
    Param(Arc<str>),
    Cookie(Arc<str>),
}

impl Places {
    /// Adds where a rule looks.
    pub(crate) fn add(&mut self, index: RuleIndex, rule: &TokenRule) {
        let says = !(rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty());
        if !says {
            self.header("authorization", Prefix { text: BEARER.into(), case: Case::Ignored, rule: index });
            self.params.entry(ACCESS_TOKEN.into()).or_default().push(index);
        }
        for header in &rule.from_headers {
            let text = header.prefix.clone();
            self.header(header.name.as_str(), Prefix { text, case: Case::Counts, rule: index });
        }
        for name in &rule.from_params {
            self.params.entry(name.clone()).or_default().push(index);
        }
        for name in &rule.from_cookies {
            self.cookies.entry(name.clone()).or_default().push(index);
        }
    }

    fn header(&mut self, name: &str, prefix: Prefix) {
        self.headers.entry(name.into()).or_default().push(prefix);
    }

    /// All that stands in a request where a token is looked for. Every occurrence counts: which of two an application would read, nobody knows.
    pub(crate) fn find<'r>(&self, request: &Request<'r>) -> Result<Vec<Found<'r>>, Reason> {
        let mut found = Vec::new();
        if !self.headers.is_empty() {
            for header in request.headers() {
                if let Some(prefixes) = self.headers.get(header.name) {
                    in_header(&mut found, header.name, header.value, prefixes)?;
                }
            }
        }
        if let (Some(query), false) = (request.query(), self.params.is_empty()) {
            for (key, value) in query.pairs() {
                let key = key.decoded();
                let Some((name, rules)) = str::from_utf8(&key).ok().and_then(|key| self.params.get_key_value(key))
                else {
                    continue;
                };
                note(&mut found, value.decoded(), rules, Place::Param(name.clone()))?;
            }
        }
        if !self.cookies.is_empty() {
            for (key, value) in cookies(request) {
                let Some((name, rules)) = str::from_utf8(key).ok().and_then(|key| self.cookies.get_key_value(key))
                else {
                    continue;
                };
                note(&mut found, Cow::Borrowed(value), rules, Place::Cookie(name.clone()))?;
            }
        }
        Ok(found)
    }
}

/// The longest prefix that fits says where the token begins.
fn in_header<'r>(found: &mut Vec<Found<'r>>, name: &str, value: &'r [u8], prefixes: &[Prefix]) -> Result<(), Reason> {
    let fits = || prefixes.iter().filter_map(|prefix| Some((prefix, prefix.strip(value)?)));
    let Some(longest) = fits().map(|(prefix, _)| prefix.text.len()).max() else { return Ok(()) };
    let Ok(name) = name.parse::<HeaderName>() else { return Ok(()) };
    for (prefix, token) in fits().filter(|(prefix, _)| prefix.text.len() == longest) {
        note(found, Cow::Borrowed(token), &[prefix.rule], Place::Header(name.clone()))?;
    }
    Ok(())
}

/// Notes a text that was found. The same text at several places is one token.
fn note<'r>(found: &mut Vec<Found<'r>>, text: Cow<'r, [u8]>, rules: &[RuleIndex], place: Place) -> Result<(), Reason> {
    if text.is_empty() {
        return Ok(());
    }
    let at = match found.iter().position(|other| other.text == text) {
        Some(at) => at,
        None if found.len() >= MAX_TOKENS => return Err(Reason::TooMany),
        None => {
            found.push(Found { text, rules: Vec::new(), places: Vec::new() });
            found.len() - 1
        }
    };
    let one = &mut found[at];
    one.rules.extend(rules.iter().copied().filter(|rule| !one.rules.contains(rule)).collect::<Vec<_>>());
    one.rules.sort_unstable();
    if !one.places.contains(&place) {
        one.places.push(place);
    }
    Ok(())
}

/// The cookies of a request. RFC 6265 §4.2.1; a value may stand in quotes.
fn cookies<'r>(request: &Request<'r>) -> impl Iterator<Item = (&'r [u8], &'r [u8])> {
    let values = request.headers().iter().filter(|header| header.name == "cookie").map(|header| header.value);
    values.flat_map(|value| value.split(|byte| *byte == b';')).filter_map(cookie)
}

fn cookie(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some((name, bare.unwrap_or(value)))
}

/// The `cookie` header of a request without some of its cookies.
pub(crate) fn without_cookies(request: &Request<'_>, names: &[Arc<str>]) -> Vec<u8> {
    let values = request.headers().iter().filter(|header| header.name == "cookie").map(|header| header.value);
    let pairs = values.flat_map(|value| value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let is_kept = |pair: &&[u8]| {
        let named = cookie(pair).is_some_and(|(name, _)| names.iter().any(|own| own.as_bytes() == name));
        !named && !pair.is_empty()
    };
    pairs.filter(is_kept).collect::<Vec<_>>().join(b"; ".as_slice())
}
