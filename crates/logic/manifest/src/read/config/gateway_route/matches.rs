//! `matches` of a rule.

use weir_request::Normalization;
use weir_route::{Case, HeaderName, Match, PathMatch, Pattern, Speech, StringMatch};

use super::filters::Speaks;
use crate::{
    error::Cause,
    read::config::references::{bounded, optional, take, word},
    reader::{At, Fields, Reader},
};

const MAX_MATCHES: usize = 64;
const MAX_FIELDS: usize = 16;
const MAX_PATH: usize = 1_024;
const MAX_HEADER: usize = 4_096;
const MAX_PARAMETER: usize = 1_024;
const MAX_GRPC: usize = 1_024;

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

const PATH: &str =
    "a path: '/' first, and no \"//\", \"/./\", \"/../\", \"%2f\", '#', '?' or character that RFC 3986 does not allow";

/// Which requests a rule is for.
#[derive(Default)]
pub(super) struct Matches {
    pub(super) all: Vec<Match>,
    /// Whether there is one match, whose path is a prefix: what `ReplacePrefixMatch` asks for.
    pub(super) replaceable: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    Exact,
    Prefix,
    Regex,
}

#[derive(Clone, Copy)]
enum Text {
    Exact,
    Regex,
}

const TEXTS: &[(&str, Text)] = &[("Exact", Text::Exact), ("RegularExpression", Text::Regex)];
const TEXT: &str = "\"Exact\" or \"RegularExpression\"";

/// The match of a rule that asks for nothing.
pub(super) fn everything(speaks: Speaks) -> Vec<Match> {
    let path = PathMatch::segments("/", Normalization::Base).ok();
    vec![match speaks {
        Speaks::Http => Match { path, ..Match::default() },
        Speaks::Grpc => call(path),
    }]
}

/// A call of gRPC. It is a POST, and to say so puts a GRPCRoute before an HTTPRoute that asks for the same path: it is the more special kind. GEP-1426.
fn call(path: Option<PathMatch>) -> Match {
    let method = Some(StringMatch::Exact("POST".into()));
    Match { speech: Speech::Grpc, path, method, ..Match::default() }
}

/// `matches`; a rule without any is for everything.
pub(super) fn matches(reader: &mut Reader, rule: &Fields<'_>, speaks: Speaks) -> Matches {
    let told = reader.told;
    let items = reader.few(rule.field("matches"), "matches", MAX_MATCHES);
    if items.is_empty() && reader.told == told {
        return Matches { all: everything(speaks), replaceable: speaks == Speaks::Http };
    }
    let read: Vec<(Match, Path)> = items
        .iter()
        .filter_map(|at| match speaks {
            Speaks::Http => http(reader, at),
            Speaks::Grpc => grpc(reader, at).map(|matched| (matched, Path::Exact)),
        })
        .collect();
    let replaceable = matches!(read.as_slice(), [(_, Path::Prefix)]);
    Matches { all: read.into_iter().map(|(matched, _)| matched).collect(), replaceable }
}

fn http(reader: &mut Reader, at: &At<'_>) -> Option<(Match, Path)> {
    let fields = reader.fields(at, &["headers", "method", "path", "queryParams"])?;
    let (kind, path) = path(reader, &fields)?;
    let method = match fields.field("method") {
        Some(at) => {
            let known: Vec<(&str, &str)> = METHODS.iter().map(|method| (*method, *method)).collect();
            let method = word(reader, &at, &known, "a method such as \"GET\"")?;
            Some(StringMatch::Exact(method.into()))
        }
        None => None,
    };
    let headers = headers(reader, &fields);
    let query = query(reader, &fields);
    Some((Match { path: Some(path), method, headers, query, ..Match::default() }, kind))
}

fn path(reader: &mut Reader, of: &Fields<'_>) -> Option<(Path, PathMatch)> {
    const KINDS: &[(&str, Path)] =
        &[("Exact", Path::Exact), ("PathPrefix", Path::Prefix), ("RegularExpression", Path::Regex)];
    const KIND: &str = "\"Exact\", \"PathPrefix\" or \"RegularExpression\"";
    let root = || PathMatch::segments("/", Normalization::Base).ok();
    let Some(at) = of.field("path") else { return Some((Path::Prefix, root()?)) };
    let fields = reader.fields(&at, &["type", "value"])?;
    let kind = optional(reader, &fields, "type", |reader, at| word(reader, at, KINDS, KIND))?.unwrap_or(Path::Prefix);
    let (text, at) = match fields.field("value") {
        Some(at) => (reader.text(&at)?, at),
        None => ("/", at),
    };
    if text.len() > MAX_PATH {
        return reader.expected(&at, "a path of at most 1024 characters");
    }
    let made = match kind {
        Path::Regex => take(reader, &at, Pattern::new(text)).map(PathMatch::regex)?,
        Path::Exact | Path::Prefix if !is_path(text) => return reader.expected(&at, PATH),
        Path::Exact => take(reader, &at, PathMatch::exact(text, Case::Counts, Normalization::Base))?,
        Path::Prefix => take(reader, &at, PathMatch::segments(text, Normalization::Base))?,
    };
    Some((kind, made))
}

/// What the API takes for a path that a request may have. Gateway API v1 `HTTPPathMatch`.
pub(super) fn is_path(text: &str) -> bool {
    let is_of_a_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte);
    let is_escape = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    text.starts_with('/')
        && text.bytes().all(is_of_a_path)
        && text.split('%').skip(1).all(is_escape)
        && !["//", "/./", "/../", "%2f", "%2F"].iter().any(|bad| text.contains(bad))
        && !text.ends_with("/..")
        && !text.ends_with("/.")
}

/// How a value is compared.
fn value(reader: &mut Reader, fields: &Fields<'_>, max: usize) -> Option<StringMatch> {
    let kind = optional(reader, fields, "type", |reader, at| word(reader, at, TEXTS, TEXT));
    let at = reader.required(fields, "value", "the value")?;
    let text = bounded(reader, &at, max, "a value that is not empty and not too long")?;
    match kind?.unwrap_or(Text::Exact) {
        Text::Exact => Some(StringMatch::Exact(text.into())),
        Text::Regex => take(reader, &at, Pattern::new(text)).map(StringMatch::Regex),
    }
}

/// `headers`: of several for one name the first counts, as the API says.
fn headers(reader: &mut Reader, of: &Fields<'_>) -> Vec<(HeaderName, StringMatch)> {
    let mut headers: Vec<(HeaderName, StringMatch)> = Vec::new();
    let mut names: Vec<(&str, String)> = Vec::new();
    for at in reader.few(of.field("headers"), "headers", MAX_FIELDS) {
        let Some((text, name, wanted)) = named(reader, &at, MAX_HEADER) else { continue };
        if is_new(reader, &at, &mut names, text) && !headers.iter().any(|(known, _)| *known == name) {
            headers.push((name, wanted));
        }
    }
    headers
}

/// `queryParams`.
fn query(reader: &mut Reader, of: &Fields<'_>) -> Vec<(Box<str>, StringMatch)> {
    let mut query = Vec::new();
    let mut names = Vec::new();
    for at in reader.few(of.field("queryParams"), "queryParams", MAX_FIELDS) {
        let Some((text, _, wanted)) = named(reader, &at, MAX_PARAMETER) else { continue };
        if is_new(reader, &at, &mut names, text) {
            query.push((text.into(), wanted));
        }
    }
    query
}

/// A name as written, the same as a header's name, and how its value is compared. Parameters of queries are named as headers are.
fn named<'n>(reader: &mut Reader, at: &At<'n>, max: usize) -> Option<(&'n str, HeaderName, StringMatch)> {
    let fields = reader.fields(at, &["name", "type", "value"])?;
    let wanted = value(reader, &fields, max);
    let (text, name) = header_name(reader, &fields)?;
    Some((text, name, wanted?))
}

/// `name` of a header, as written and as it is.
pub(super) fn header_name<'n>(reader: &mut Reader, of: &Fields<'n>) -> Option<(&'n str, HeaderName)> {
    let at = reader.required(of, "name", "the name of a header")?;
    let text = reader.text(&at)?;
    Some((text, take(reader, &at, text.parse())?))
}

/// Notes a name that was there already.
pub(super) fn is_new<'n>(reader: &mut Reader, at: &At<'n>, names: &mut Vec<(&'n str, String)>, name: &'n str) -> bool {
    if let Some((_, first)) = names.iter().find(|(known, _)| *known == name) {
        reader.fail(at, Cause::Repeated { what: "name", first: first.clone() });
        return false;
    }
    names.push((name, at.path.clone()));
    true
}

fn grpc(reader: &mut Reader, at: &At<'_>) -> Option<Match> {
    let fields = reader.fields(at, &["headers", "method"])?;
    let path = match fields.field("method") {
        Some(at) => grpc_path(reader, &at)?,
        None => PathMatch::segments("/", Normalization::Base).ok()?,
    };
    Some(Match { headers: headers(reader, &fields), ..call(Some(path)) })
}

/// `GRPCMethodMatch`.
fn grpc_path(reader: &mut Reader, at: &At<'_>) -> Option<PathMatch> {
    let fields = reader.fields(at, &["method", "service", "type"])?;
    let kind = optional(reader, &fields, "type", |reader, at| word(reader, at, TEXTS, TEXT))?.unwrap_or(Text::Exact);
    let mut part = |name: &str, is_legal: fn(&str) -> bool, expected: &'static str| match fields.field(name) {
        Some(at) => match (reader.text(&at)?, kind) {
            (text, _) if text.len() > MAX_GRPC => reader.expected(&at, "at most 1024 characters"),
            ("", Text::Regex) => Some(None),
            (text, Text::Regex) => take(reader, &at, Pattern::new(text)).map(|it| Some(StringMatch::Regex(it))),
            (text, Text::Exact) if is_legal(text) => Some(Some(StringMatch::Exact(text.into()))),
            (_, Text::Exact) => reader.expected(&at, expected),
        },
        None => Some(None),
    };
    let service = part("service", is_service, "a gRPC service such as \"package.Service\"");
    let method = part("method", is_word, "a gRPC method such as \"Method\"");
    match (service?, method?) {
        (None, None) => reader.expected(at, "service, method, or both"),
        (service, method) => Some(PathMatch::grpc(service, method)),
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_service(text: &str) -> bool {
    text.strip_prefix('.').unwrap_or(text).split('.').all(is_word)
}
