//! The head of a request, as decisions see it.

use std::borrow::Cow;

use crate::{
    host::{Authority, HostError},
    path::{MAX_TARGET, NormalPath, Normalization, PathError},
    query::Query,
};

/// Most headers of a request. Envoy `max_headers_count`.
pub const MAX_HEADERS: usize = 100;

/// The longest method, in bytes. The longest that is registered, `UPDATEREDIRECTREF`, has 17.
pub const MAX_METHOD: usize = 32;

/// One header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'r> {
    /// Its name, in lower case.
    pub name: &'r str,
    /// Its value, as sent.
    pub value: &'r [u8],
}

/// The head of a request as an HTTP library found it.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'r> {
    /// `GET`.
    pub method: &'r str,
    /// `http` or `https`.
    pub scheme: &'r str,
    /// `:authority`, or the `Host` header.
    pub authority: &'r str,
    /// The path as sent, with its query.
    pub target: &'r str,
    /// The headers, those of HTTP/2 that begin with a colon left out. One given twice stands twice.
    pub headers: &'r [Header<'r>],
}

/// Why a request is refused, with 400, before anything is decided about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Its path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Its query.
    #[error("the character {found:?} at byte {at} of the query, which must be escaped there")]
    Query {
        /// Where, in bytes from the `?`.
        at: usize,
        /// What it is.
        found: char,
    },
    /// Its authority.
    #[error(transparent)]
    Authority(#[from] HostError),
    /// Its method.
    #[error("{method:?} is no method of at most {MAX_METHOD} letters, digits or signs")]
    Method {
        /// The method, cut to that length.
        method: String,
    },
    /// Its scheme.
    #[error("the scheme {scheme:?}, expected http or https")]
    Scheme {
        /// The scheme, cut short.
        scheme: String,
    },
    /// Its headers.
    #[error("{count} headers, at most {MAX_HEADERS} are allowed")]
    Headers {
        /// How many it has.
        count: usize,
    },
    /// The name of a header.
    #[error("{name:?} is no name of a header in lower case")]
    HeaderName {
        /// The name, cut short.
        name: String,
    },
}

/// A request: what routes and policies decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'r> {
    method: &'r str,
    scheme: &'r str,
    authority: Authority<'r>,
    path: NormalPath<'r>,
    query: Option<Query<'r>>,
    sent: &'r str,
    headers: &'r [Header<'r>],
}

impl<'r> Request<'r> {
    /// Reads the head of a request.
    ///
    /// # Errors
    /// When something in it has no one meaning: the request is to be refused.
    pub fn read(parts: Parts<'r>, level: Normalization) -> Result<Self, RequestError> {
        let Parts { method, scheme, authority, target, headers } = parts;
        if target.len() > MAX_TARGET {
            return Err(PathError::TooLong { len: target.len() }.into());
        }
        let short = |text: &str| text.chars().take(MAX_METHOD).collect::<String>();
        if method.len() > MAX_METHOD || !is_token(method) {
            return Err(RequestError::Method { method: short(method) });
        }
        if !matches!(scheme, "http" | "https") {
            return Err(RequestError::Scheme { scheme: short(scheme) });
        }
        if headers.len() > MAX_HEADERS {
            return Err(RequestError::Headers { count: headers.len() });
        }
        let is_lower = |name: &str| is_token(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase());
        if let Some(bad) = headers.iter().find(|header| !is_lower(header.name)) {
            return Err(RequestError::HeaderName { name: short(bad.name) });
        }
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Ok(Self {
            method,
            scheme,
            authority: Authority::read(authority)?,
            path: NormalPath::read(path, level)?,
            query: query.map(read_query).transpose()?,
            sent: target,
            headers,
        })
    }

    /// The method, in the case it was sent in.
    pub fn method(&self) -> &'r str {
        self.method
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'r str {
        self.scheme
    }

    /// The authority.
    pub fn authority(&self) -> Authority<'r> {
        self.authority
    }

    /// The path, in its one spelling.
    pub fn path(&self) -> &NormalPath<'r> {
        &self.path
    }

    /// What stands behind the `?`.
    pub fn query(&self) -> Option<Query<'r>> {
        self.query
    }

    /// Path and query as they came: for the access log only.
    pub fn sent(&self) -> &'r str {
        self.sent
    }

    /// Path and query as they are to be sent on.
    pub fn target(&self) -> Cow<'r, str> {
        if self.path.is_as_sent() { Cow::Borrowed(self.sent) } else { Cow::Owned(self.target_with(self.path.as_str())) }
    }

    /// Another path, with this request's query.
    pub fn target_with(&self, path: &str) -> String {
        match self.query {
            Some(query) => format!("{path}?{}", query.as_str()),
            None => path.to_owned(),
        }
    }

    /// The headers.
    pub fn headers(&self) -> &'r [Header<'r>] {
        self.headers
    }

    /// The value of a header, whose name is in lower case. The values of one that is given twice are joined by commas, as RFC 9110 §5.3 has it:
    /// a second value can hide neither itself nor the first. Allocates only then.
    pub fn header(&self, name: &str) -> Option<Cow<'r, [u8]>> {
        let mut values = self.headers.iter().filter(|header| header.name == name).map(|header| header.value);
        let mut found = Cow::Borrowed(values.next()?);
        for value in values {
            let joined = found.to_mut();
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        Some(found)
    }

    /// Whether it is a call of gRPC, by its content type.
    pub fn is_grpc(&self) -> bool {
        let rest = self.headers.iter().find(|header| header.name == "content-type").and_then(|header| {
            let (start, rest) = header.value.split_at_checked(b"application/grpc".len())?;
            start.eq_ignore_ascii_case(b"application/grpc").then_some(rest)
        });
        matches!(rest, Some([] | [b'+' | b';' | b' ', ..]))
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let is_of_a_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_a_token)
}

fn read_query(query: &str) -> Result<Query<'_>, RequestError> {
    match query.char_indices().find(|(_, found)| found.is_ascii_control() || matches!(found, ' ' | '#')) {
        Some((at, found)) => Err(RequestError::Query { at, found }),
        None => Ok(Query(query)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: Parts<'_> =
        Parts { method: "GET", scheme: "http", authority: "shop:80", target: "/a?b=c", headers: &[] };

    fn header<'r>(name: &'r str, value: &'r str) -> Header<'r> {
        Header { name, value: value.as_bytes() }
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        let upper = [header("Accept", "x")];
        let pseudo = [header(":path", "/x")];
        let many = vec![header("a", "b"); MAX_HEADERS + 1];
        let long = "X".repeat(MAX_METHOD + 1);
        let query = format!("/?{}", "a".repeat(MAX_TARGET));
        for (parts, want) in [
            (PARTS, None),
            (Parts { method: "", ..PARTS }, Some("\"\" is no method of at most 32 letters, digits or signs")),
            (Parts { method: "G T", ..PARTS }, Some("\"G T\" is no method of at most 32 letters, digits or signs")),
            (Parts { method: &long, ..PARTS }, Some("is no method")),
            (Parts { scheme: "ftp", ..PARTS }, Some("the scheme \"ftp\", expected http or https")),
            (Parts { authority: "", ..PARTS }, Some("no host in \"\"")),
            (Parts { authority: "a@b", ..PARTS }, Some("\"a@b\" names no host")),
            (Parts { target: "*", ..PARTS }, Some("the path does not begin with '/'")),
            (Parts { target: "/a%0", ..PARTS }, Some("the '%' at byte 2 of the path")),
            (Parts { target: "/a?b c", ..PARTS }, Some("the character ' ' at byte 1 of the query")),
            (Parts { target: "/a?\n", ..PARTS }, Some("the character '\\n' at byte 0 of the query")),
            (Parts { target: "/a?b#c", ..PARTS }, Some("the character '#' at byte 1 of the query")),
            (Parts { target: &query, ..PARTS }, Some("a path of 61442 bytes, at most 61440 are allowed")),
            (Parts { headers: &upper, ..PARTS }, Some("\"Accept\" is no name of a header in lower case")),
            (Parts { headers: &pseudo, ..PARTS }, Some("\":path\" is no name of a header in lower case")),
            (Parts { headers: &many, ..PARTS }, Some("101 headers, at most 100 are allowed")),
        ] {
            let error = Request::read(parts, Normalization::Base).err().map(|error| error.to_string());
            match (&error, want) {
                (None, None) => {}
                (Some(error), Some(want)) => assert!(error.contains(want), "{error}, not {want}"),
                (error, want) => panic!("{error:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn what_is_sent_on_is_what_was_matched() {
        for (target, want) in [
            ("/a?b=%2e", "/a?b=%2e"),
            ("/%61/../b?c=/../d", "/b?c=/../d"),
            ("/a/..", "/"),
            ("/a?", "/a?"),
            ("/./?", "/?"),
        ] {
            let request = Request::read(Parts { target, ..PARTS }, Normalization::Base).unwrap();
            assert_eq!(request.target(), want, "{target}");
            assert_eq!(request.sent(), target);
        }
    }

    #[test]
    fn a_repeated_header_is_joined() {
        let headers = [header("x", "1"), header("y", "2"), header("x", "3")];
        let request = Request::read(Parts { headers: &headers, ..PARTS }, Normalization::Base).unwrap();
        for (name, want) in [("x", Some("1,3")), ("y", Some("2")), ("z", None)] {
            assert_eq!(request.header(name).as_deref(), want.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (value, want) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/GRPC; x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = [header("content-type", value)];
            let request = Request::read(Parts { headers: &headers, ..PARTS }, Normalization::Base).unwrap();
            assert_eq!(request.is_grpc(), want, "{value}");
        }
        assert!(!Request::read(PARTS, Normalization::Base).unwrap().is_grpc());
    }

    #[test]
    fn an_ordinary_request_is_read_without_allocating() {
        let headers = [header("accept", "*/*"), header("user-agent", "curl")];
        let parts = Parts { target: "/api/v1/products/0?limit=10", headers: &headers, ..PARTS };
        let counts = allocation_counter::measure(|| {
            let request = Request::read(parts, Normalization::DecodeAndMergeSlashes).unwrap();
            assert_eq!(request.query().and_then(|query| query.first("limit")).unwrap().decoded().as_ref(), b"10");
            assert_eq!(request.header("accept").as_deref(), Some(b"*/*".as_slice()));
            assert_eq!(request.target(), "/api/v1/products/0?limit=10");
        });
        assert_eq!(counts.count_total, 0);
    }
}
