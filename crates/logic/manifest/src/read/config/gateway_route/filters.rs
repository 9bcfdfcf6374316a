//! `filters` of a rule, or of one of its backends.

use std::time::Duration;

use weir_model::Hostname;
use weir_request::Normalization;
use weir_route::{
    Cors, Credentials, HeaderChanges, HeaderName, HeaderValue, OriginMatch, PathRewrite, Percent, Redirect,
    RedirectPort, Rewrite, Scheme, Unmatched,
};

use super::matches::{Matches, header_name, is_new};
use crate::{
    error::Cause,
    object::{BackendRef, RequestMirror, RouteFilters},
    read::config::references::{BACKEND, backend, bounded, local, number, optional, take, word},
    reader::{At, Fields, Reader},
};

const MAX_FILTERS: usize = 16;
const MAX_HEADERS: usize = 16;
const MAX_CORS: usize = 64;
const MAX_PATH: usize = 1_024;
const MAX_VALUE: usize = 4_096;
/// How long the answer to a preflight holds when nothing is said.
const CORS_AGE: u32 = 5;

/// The largest number of the API's `int32`.
const MAX_INT: u32 = i32::MAX.unsigned_abs();

/// What the requests of a route speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http,
    Grpc,
}

/// A type of filter: its name, and the field that says what it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    Request,
    Response,
    Mirror,
    Extension,
    Redirect,
    Rewrite,
    Cors,
    Auth,
}

/// Those of gRPC first.
const TYPES: [(&str, (Type, &str)); 8] = [
    ("RequestHeaderModifier", (Type::Request, "requestHeaderModifier")),
    ("ResponseHeaderModifier", (Type::Response, "responseHeaderModifier")),
    ("RequestMirror", (Type::Mirror, "requestMirror")),
    ("ExtensionRef", (Type::Extension, "extensionRef")),
    ("RequestRedirect", (Type::Redirect, "requestRedirect")),
    ("URLRewrite", (Type::Rewrite, "urlRewrite")),
    ("CORS", (Type::Cors, "cors")),
    ("ExternalAuth", (Type::Auth, "externalAuth")),
];
const HTTP_TYPE: &str = "\"RequestHeaderModifier\", \"ResponseHeaderModifier\", \"RequestMirror\", \"RequestRedirect\", \"URLRewrite\", \"CORS\", \"ExternalAuth\" or \"ExtensionRef\"";
const GRPC_TYPE: &str = "\"RequestHeaderModifier\", \"ResponseHeaderModifier\", \"RequestMirror\" or \"ExtensionRef\"";

/// All of them. `matches` are those of the rule.
pub(super) fn filters(reader: &mut Reader, at: Option<At<'_>>, speaks: Speaks, matches: &Matches) -> RouteFilters {
    let mut filters = RouteFilters::default();
    let mut seen: Vec<(Type, String)> = Vec::new();
    for at in reader.few(at, "filters", MAX_FILTERS) {
        let Some((kind, said)) = typed(reader, &at, speaks) else { continue };
        let may_repeat = matches!(kind, Type::Mirror | Type::Extension);
        match seen.iter().find(|(known, _)| *known == kind) {
            Some((_, first)) if !may_repeat => {
                reader.fail(&at, Cause::Repeated { what: "type", first: first.clone() });
            }
            Some(_) | None => seen.push((kind, at.path.clone())),
        }
        filter(reader, &said, kind, matches, &mut filters);
        if let (Type::Redirect | Type::Rewrite, Some(_), Some(_)) = (kind, &filters.redirect, &filters.rewrite) {
            reader.fail(&at, Cause::NotWith { other: "a filter of type RequestRedirect or URLRewrite" });
        }
    }
    filters
}

/// The type of a filter, and what it says: in the field of the type, and in no other.
fn typed<'n>(reader: &mut Reader, at: &At<'n>, speaks: Speaks) -> Option<(Type, At<'n>)> {
    let (known, expected) = match speaks {
        Speaks::Http => (&TYPES[..], HTTP_TYPE),
        Speaks::Grpc => (&TYPES[..4], GRPC_TYPE),
    };
    let names: Vec<&'static str> = known.iter().map(|(_, (_, field))| *field).chain(["type"]).collect();
    let fields = reader.fields(at, &names)?;
    let at = reader.required(&fields, "type", expected)?;
    let (kind, own) = word(reader, &at, known, expected)?;
    for (_, (_, field)) in known.iter().filter(|(_, (_, field))| *field != own) {
        if let Some(at) = fields.field(field) {
            reader.fail(&at, Cause::NotWith { other: "a type that is another" });
        }
    }
    Some((kind, reader.required(&fields, own, "what the filter does")?))
}

fn filter(reader: &mut Reader, at: &At<'_>, kind: Type, matches: &Matches, filters: &mut RouteFilters) {
    match kind {
        Type::Request => filters.request = changes(reader, at).unwrap_or_default(),
        Type::Response => filters.response = changes(reader, at).unwrap_or_default(),
        Type::Mirror => filters.mirrors.extend(mirror(reader, at)),
        Type::Extension => filters.extensions.extend(local(reader, at)),
        Type::Redirect => filters.redirect = redirect(reader, at, matches),
        Type::Rewrite => filters.rewrite = rewrite(reader, at, matches),
        Type::Cors => filters.cors = cors(reader, at),
        Type::Auth => filters.external_auth = external_auth(reader, at),
    }
}

/// `HTTPHeaderFilter`. Of several for one name the first counts, as the API says.
fn changes(reader: &mut Reader, at: &At<'_>) -> Option<HeaderChanges> {
    let fields = reader.fields(at, &["add", "remove", "set"])?;
    let mut values = |field: &str| {
        let mut values: Vec<HeaderValue> = Vec::new();
        let mut names = Vec::new();
        for at in reader.few(fields.field(field), "headers", MAX_HEADERS) {
            let Some((text, value)) = header(reader, &at) else { continue };
            if is_new(reader, &at, &mut names, text) && !values.iter().any(|known| known.name() == value.name()) {
                values.push(value);
            }
        }
        values
    };
    let (set, add) = (values("set"), values("add"));
    let mut remove: Vec<HeaderName> = Vec::new();
    for at in reader.few(fields.field("remove"), "headers", MAX_HEADERS) {
        let Some(text) = reader.text(&at) else { continue };
        remove.extend(take(reader, &at, text.parse()));
    }
    take(reader, at, HeaderChanges::new(set, add, remove))
}

fn header<'n>(reader: &mut Reader, at: &At<'n>) -> Option<(&'n str, HeaderValue)> {
    let fields = reader.fields(at, &["name", "value"])?;
    let value = reader.required(&fields, "value", "the header's value");
    let (text, name) = header_name(reader, &fields)?;
    let at = value?;
    let value = bounded(reader, &at, MAX_VALUE, "a value of 1 to 4096 characters")?;
    Some((text, take(reader, &at, HeaderValue::new(name, value))?))
}

/// `HTTPRequestMirrorFilter`.
fn mirror(reader: &mut Reader, at: &At<'_>) -> Option<RequestMirror> {
    let fields = reader.fields(at, &["backendRef", "fraction", "percent"])?;
    let to = reader.required(&fields, "backendRef", "where copies go").and_then(|at| only_backend(reader, &at));
    let percent = match (fields.field("percent"), fields.field("fraction")) {
        (Some(at), Some(_)) => {
            reader.fail(&at, Cause::NotWith { other: "fraction" });
            return None;
        }
        (Some(at), None) => {
            let percent = number(reader, &at, 0..=100, "a percentage, 0 to 100")?;
            take(reader, &at, Percent::fraction(percent, 100))?
        }
        (None, Some(at)) => fraction(reader, &at)?,
        (None, None) => Percent::EVERY,
    };
    Some(RequestMirror { to: to?, percent })
}

fn only_backend(reader: &mut Reader, at: &At<'_>) -> Option<BackendRef> {
    let fields = reader.fields(at, BACKEND)?;
    backend(reader, &fields)
}

fn fraction(reader: &mut Reader, at: &At<'_>) -> Option<Percent> {
    const NUMBER: &str = "a whole number that is not negative";
    let fields = reader.fields(at, &["denominator", "numerator"])?;
    let numerator = reader.required(&fields, "numerator", NUMBER);
    let numerator = numerator.and_then(|at| number(reader, &at, 0..=MAX_INT, NUMBER));
    let denominator = optional(reader, &fields, "denominator", |reader, at| {
        number(reader, at, 1..=MAX_INT, "a whole number of at least 1")
    });
    let (numerator, denominator) = (numerator?, denominator?.unwrap_or(100));
    take(reader, at, Percent::fraction(numerator, denominator))
}

/// `HTTPRequestRedirectFilter`.
fn redirect(reader: &mut Reader, at: &At<'_>, matches: &Matches) -> Option<Redirect> {
    const SCHEMES: &[(&str, Scheme)] = &[("http", Scheme::Http), ("https", Scheme::Https)];
    const CODE: &str = "301, 302, 303, 307 or 308";
    let fields = reader.fields(at, &["hostname", "path", "port", "scheme", "statusCode"])?;
    let code = optional(reader, &fields, "statusCode", |reader, at| number(reader, at, 300..=399, CODE));
    let scheme = optional(reader, &fields, "scheme", |reader, at| word(reader, at, SCHEMES, "\"http\" or \"https\""));
    let port = optional(reader, &fields, "port", |reader, at| reader.port(at));
    let hostname = optional(reader, &fields, "hostname", hostname);
    let path = optional(reader, &fields, "path", |reader, at| path(reader, at, matches));
    let code = u16::try_from(code?.unwrap_or(302)).unwrap_or_default();
    let mut redirect = take(reader, at, Redirect::new(code))?;
    redirect = redirect.with_port(match port? {
        Some(port) => RedirectPort::Is(port),
        None => RedirectPort::OfSchemeOrRequest,
    });
    if let Some(scheme) = scheme? {
        redirect = redirect.with_scheme(scheme);
    }
    if let Some(path) = path? {
        redirect = redirect.with_path(path);
    }
    if let Some(hostname) = hostname? {
        redirect = take(reader, at, redirect.with_authority(hostname.as_str()))?;
    }
    Some(redirect)
}

/// `HTTPURLRewriteFilter`.
fn rewrite(reader: &mut Reader, at: &At<'_>, matches: &Matches) -> Option<Rewrite> {
    let fields = reader.fields(at, &["hostname", "path"])?;
    let hostname = optional(reader, &fields, "hostname", hostname);
    let path = optional(reader, &fields, "path", |reader, at| path(reader, at, matches));
    take(reader, at, Rewrite::new(path?, hostname?.as_ref().map(Hostname::as_str)))
}

/// `PreciseHostname`.
fn hostname(reader: &mut Reader, at: &At<'_>) -> Option<Hostname> {
    let name: Hostname = reader.name(at)?;
    if name.as_str().starts_with('*') { reader.expected(at, "a host name without '*'") } else { Some(name) }
}

/// `HTTPPathModifier`.
fn path(reader: &mut Reader, at: &At<'_>, matches: &Matches) -> Option<PathRewrite> {
    const KINDS: &[(&str, &str)] =
        &[("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")];
    const KIND: &str = "\"ReplaceFullPath\" or \"ReplacePrefixMatch\"";
    let fields = reader.fields(at, &["replaceFullPath", "replacePrefixMatch", "type"])?;
    let kind = reader.required(&fields, "type", KIND)?;
    let own = word(reader, &kind, KINDS, KIND)?;
    for (_, field) in KINDS.iter().filter(|(_, field)| *field != own) {
        if let Some(at) = fields.field(field) {
            reader.fail(&at, Cause::NotWith { other: "a type that is another" });
        }
    }
    let at = reader.required(&fields, own, "a path")?;
    let text = reader.text(&at)?;
    if text.len() > MAX_PATH {
        return reader.expected(&at, "a path of at most 1024 characters");
    }
    if own == "replaceFullPath" {
        // None at all is the root, as for prefixes.
        let text = if text.is_empty() { "/" } else { text };
        return take(reader, &at, PathRewrite::whole(text, Normalization::Base));
    }
    if !matches.replaceable {
        reader.fail(&at, Cause::OnlyWith { other: "exactly one match, whose path is of type PathPrefix" });
        return None;
    }
    take(reader, &at, PathRewrite::segments(text, Normalization::Base))
}

/// `HTTPCORSFilter`.
fn cors(reader: &mut Reader, at: &At<'_>) -> Option<Cors> {
    const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];
    const FIELDS: &[&str] =
        &["allowCredentials", "allowHeaders", "allowMethods", "allowOrigins", "exposeHeaders", "maxAge"];
    let fields = reader.fields(at, FIELDS)?;
    let origins = texts(reader, &fields, "allowOrigins");
    let origins = origins.iter().filter_map(|(text, at)| take(reader, at, OriginMatch::pattern(text))).collect();
    let mut methods: Vec<Box<str>> = Vec::new();
    for (text, at) in texts(reader, &fields, "allowMethods") {
        if METHODS.contains(&text) {
            methods.push(text.into());
        } else {
            reader.expected::<()>(&at, "a method such as \"GET\", or \"*\"");
        }
    }
    let mut names = |field| {
        let texts = texts(reader, &fields, field);
        texts.iter().filter_map(|(text, at)| take(reader, at, text.parse())).collect::<Vec<HeaderName>>()
    };
    let request_headers = names("allowHeaders").iter().map(|name| name.as_str().into()).collect();
    let exposed_headers = names("exposeHeaders");
    let credentials = match reader.boolean(fields.field("allowCredentials")) {
        Some(true) => Credentials::Allowed,
        Some(false) | None => Credentials::Refused,
    };
    let age = optional(reader, &fields, "maxAge", |reader, at| {
        number(reader, at, 1..=MAX_INT, "a number of seconds, at least 1")
    });
    let max_age = Some(Duration::from_secs(age?.unwrap_or(CORS_AGE).into()));
    let unmatched = Unmatched::Answered;
    Some(Cors { origins, methods, request_headers, exposed_headers, max_age, credentials, unmatched })
}

/// Texts, among which `*` stands alone.
fn texts<'n>(reader: &mut Reader, of: &Fields<'n>, field: &'static str) -> Vec<(&'n str, At<'n>)> {
    let items = reader.few(of.field(field), field, MAX_CORS);
    let several = items.len() > 1 && field != "exposeHeaders";
    let mut texts = Vec::new();
    for at in items {
        match reader.text(&at) {
            Some("*") if several => drop(reader.expected::<()>(&at, "\"*\" alone, or names without \"*\"")),
            Some(text) => texts.push((text, at)),
            None => {}
        }
    }
    texts
}

/// `HTTPExternalAuthFilter`: whom it asks. The rest of it is not done, and only looked at for what is not known.
fn external_auth(reader: &mut Reader, at: &At<'_>) -> Option<BackendRef> {
    const PROTOCOL: &str = "\"HTTP\" with http, or \"GRPC\" with grpc";
    let fields = reader.fields(at, &["backendRef", "forwardBody", "grpc", "http", "protocol"])?;
    let protocol = reader.required(&fields, "protocol", PROTOCOL);
    if let Some(at) = protocol {
        let is_legal = match (reader.text(&at)?, fields.field("http"), fields.field("grpc")) {
            ("HTTP", Some(http), None) => {
                reader.fields(&http, &["allowedHeaders", "allowedResponseHeaders", "path"]).is_some()
            }
            ("GRPC", None, Some(grpc)) => reader.fields(&grpc, &["allowedHeaders"]).is_some(),
            _ => reader.expected::<()>(&at, PROTOCOL).is_some(),
        };
        if !is_legal {
            return None;
        }
    }
    if let Some(at) = fields.field("forwardBody") {
        drop(reader.fields(&at, &["maxSize"]));
    }
    reader.required(&fields, "backendRef", "whom to ask").and_then(|at| only_backend(reader, &at))
}
