//! Cross-origin requests: what a browser is told. Fetch standard, "CORS protocol".

use std::time::Duration;

use weir_request::Request;

use crate::{
    header::{Fields, HeaderList, HeaderName},
    text::StringMatch,
};

/// Whether a browser may send cookies and show the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Credentials {
    /// It may not.
    #[default]
    Refused,
    /// It may.
    Allowed,
}

/// What becomes of a preflight from an origin that is not allowed. Istio `CorsPolicy.unmatchedPreflights`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// It is sent on: the application may know better. Istio's default.
    #[default]
    Forwarded,
    /// It is answered without a word of permission. Gateway API v1 knows only this.
    Answered,
}

/// Not a pattern of origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the origin {text:?}, expected \"*\" or scheme://host[:port] with a host that may begin with '*'")]
pub struct OriginError {
    text: String,
}

/// Which origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginMatch(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Any,
    Text(StringMatch),
    /// Of hosts that end so.
    Wild {
        scheme: Box<str>,
        suffix: Box<str>,
        port: u16,
    },
    One {
        scheme: Box<str>,
        host: Box<str>,
        port: u16,
    },
}

impl OriginMatch {
    /// An origin whose text is so. Istio `CorsPolicy.allowOrigins`; `exact: "*"` means any.
    pub fn text(wanted: StringMatch) -> Self {
        match wanted {
            StringMatch::Exact(text) if &*text == "*" => Self(Kind::Any),
            wanted
            @ (StringMatch::Exact(_) | StringMatch::Prefix(_) | StringMatch::Regex(_) | StringMatch::Present) => {
                Self(Kind::Text(wanted))
            }
        }
    }

    /// An origin with this scheme, host and port. Gateway API v1 `CORSOrigin`: `*` is any, and `*` in front of a host any text.
    ///
    /// # Errors
    /// When it has not that form.
    pub fn pattern(text: &str) -> Result<Self, OriginError> {
        if text == "*" {
            return Ok(Self(Kind::Any));
        }
        let bad = || OriginError { text: text.chars().take(256).collect() };
        let Origin { scheme, host, port } = Origin::read(text).ok_or_else(bad)?;
        match (scheme, host.strip_prefix('*')) {
            ("http" | "https", Some(suffix)) if !suffix.contains('*') => {
                Ok(Self(Kind::Wild { scheme: scheme.into(), suffix: suffix.into(), port }))
            }
            ("http" | "https", None) if !host.contains('*') => {
                Ok(Self(Kind::One { scheme: scheme.into(), host: host.into(), port }))
            }
            _ => Err(bad()),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        let read = || Origin::read(origin);
        match &self.0 {
            Kind::Any => true,
            Kind::Text(wanted) => wanted.matches(Some(origin.as_bytes())),
            Kind::Wild { scheme, suffix, port } => read().is_some_and(|origin| {
                origin.scheme == &**scheme
                    && origin.port == *port
                    && origin.host.len() > suffix.len()
                    && origin.host.ends_with(&**suffix)
            }),
            Kind::One { scheme, host, port } => read()
                .is_some_and(|origin| origin.scheme == &**scheme && origin.port == *port && origin.host == &**host),
        }
    }
}

/// An origin as browsers write it: in lower case. RFC 6454 §6.2.
struct Origin<'o> {
    scheme: &'o str,
    host: &'o str,
    port: u16,
}

impl<'o> Origin<'o> {
    fn read(text: &'o str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, digits)) if !digits.ends_with(']') => (host, digits.parse().ok().filter(|port| *port != 0)?),
            Some(_) | None => (rest, if scheme == "https" { 443 } else { 80 }),
        };
        let is_of_a_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*[]:".contains(&byte);
        (!host.is_empty() && host.bytes().all(is_of_a_host)).then_some(Self { scheme, host, port })
    }
}

/// What a browser is told about requests from other origins. Istio `CorsPolicy`, Gateway API v1 `HTTPCORSFilter`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins that are allowed.
    pub origins: Vec<OriginMatch>,
    /// Methods that are allowed; `*` is any.
    pub methods: Vec<Box<str>>,
    /// Headers that a request may have; `*` is any.
    pub request_headers: Vec<Box<str>>,
    /// Headers of the answer that may be read.
    pub exposed_headers: Vec<HeaderName>,
    /// How long the answer to a preflight holds.
    pub max_age: Option<Duration>,
    /// Whether cookies may be sent.
    pub credentials: Credentials,
    /// What becomes of a preflight from elsewhere.
    pub unmatched: Unmatched,
}

/// What a request is in terms of CORS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsAnswer {
    /// Nothing to say about it: it is sent on, and its answer is not touched.
    Silent,
    /// It is answered at once, with 200 and these headers.
    Preflight(Fields),
    /// It is sent on, and its answer is told these headers: see [`apply`](Self::apply).
    Actual(Fields),
}

impl CorsAnswer {
    /// Puts what is told into the headers of an answer, instead of what that says itself of CORS. What it varies by is only added to.
    pub fn apply(&self, headers: &mut impl HeaderList) {
        let (Self::Preflight(fields) | Self::Actual(fields)) = self else { return };
        for (name, value) in &fields.0 {
            if name != VARY {
                headers.remove(name);
            }
            headers.append(name, value);
        }
    }
}

const VARY: &str = "vary";

impl Cors {
    /// What a request is told.
    pub fn answer(&self, request: &Request<'_>) -> CorsAnswer {
        let value = |name| request.header(name).and_then(|value| String::from_utf8(value.into_owned()).ok());
        let Some(origin) = value("origin").filter(|origin| !origin.is_empty()) else { return CorsAnswer::Silent };
        let asked = value("access-control-request-method").filter(|method| !method.is_empty());
        let asked = asked.filter(|_| request.method() == "OPTIONS");
        let is_allowed = self.origins.iter().any(|allowed| allowed.matches(&origin));
        let mut fields = Fields::default();
        match (is_allowed, asked) {
            (false, Some(_)) if self.unmatched == Unmatched::Answered => CorsAnswer::Preflight(fields),
            (false, _) => CorsAnswer::Silent,
            (true, None) => {
                self.allow_origin(&origin, &mut fields);
                let exposed: Vec<&str> = self.exposed_headers.iter().map(HeaderName::as_str).collect();
                append(&mut fields, "access-control-expose-headers", &exposed.join(","));
                CorsAnswer::Actual(fields)
            }
            (true, Some(method)) => {
                self.allow_origin(&origin, &mut fields);
                let headers = value("access-control-request-headers");
                append(&mut fields, "access-control-allow-methods", &self.list(&self.methods, Some(&method)));
                append(
                    &mut fields,
                    "access-control-allow-headers",
                    &self.list(&self.request_headers, headers.as_deref()),
                );
                if let Some(age) = self.max_age {
                    append(&mut fields, "access-control-max-age", &age.as_secs().to_string());
                }
                CorsAnswer::Preflight(fields)
            }
        }
    }

    fn allow_origin(&self, origin: &str, fields: &mut Fields) {
        append(fields, "access-control-allow-origin", origin);
        if self.credentials == Credentials::Allowed {
            append(fields, "access-control-allow-credentials", "true");
        }
        // The answer is for this origin alone: a cache must not give it to another.
        append(fields, VARY, "origin");
    }

    /// A list as it is told. Where cookies are allowed `*` would be read as a name, so what was asked for is named instead.
    fn list(&self, allowed: &[Box<str>], asked: Option<&str>) -> String {
        match (allowed.iter().any(|one| &**one == "*"), self.credentials) {
            (true, Credentials::Refused) => "*".to_owned(),
            (true, Credentials::Allowed) => asked.unwrap_or_default().to_owned(),
            (false, Credentials::Refused | Credentials::Allowed) => allowed.join(","),
        }
    }
}

/// An empty list is not told.
fn append(fields: &mut Fields, name: &str, value: &str) {
    if !value.is_empty() {
        fields.append(name, value);
    }
}

#[cfg(test)]
mod tests;
