//! A request somebody asks about, in words a person types.

use weir_request::{Header, Normalization, Parts, Request, RequestError};

/// The longest text of a request and its headers, in bytes: the head of a message that the waypoint reads. Envoy `max_request_headers_kb`.
const LONGEST: usize = 60 << 10;

/// A request: `GET /path`, and headers as `name: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestText {
    method: String,
    target: String,
    /// Header `host`.
    authority: Option<String>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

/// Why a text is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestTextError {
    /// Not a method and a path.
    #[error("{0:?} is no request, expected METHOD /PATH, as 'GET /'")]
    Line(String),
    /// Not a header.
    #[error("{0:?} is no header, expected NAME: VALUE")]
    Header(String),
    /// A second host.
    #[error("a request has one host, and there is another: {0:?}")]
    Host(String),
    /// More than a waypoint reads.
    #[error("a request of {0} bytes, at most {LONGEST} are read")]
    TooLong(usize),
}

impl RequestText {
    /// Reads a request.
    ///
    /// # Errors
    /// When it or a header has not the form of one. Whether it is one that is served, is part of the answer.
    pub fn read<'h>(line: &str, headers: impl IntoIterator<Item = &'h str>) -> Result<Self, RequestTextError> {
        let bad = || RequestTextError::Line(line.chars().take(200).collect());
        let (method, target) = line.trim().split_once(' ').ok_or_else(bad)?;
        let target = target.trim();
        if method.is_empty() || target.is_empty() || target.contains(char::is_whitespace) {
            return Err(bad());
        }
        let mut read =
            Self { method: method.to_owned(), target: target.to_owned(), authority: None, headers: Vec::new() };
        let mut bytes = line.len();
        for header in headers {
            bytes = bytes.saturating_add(header.len());
            if bytes > LONGEST {
                return Err(RequestTextError::TooLong(bytes));
            }
            read.add(header)?;
        }
        Ok(read)
    }

    fn add(&mut self, header: &str) -> Result<(), RequestTextError> {
        let bad = || RequestTextError::Header(header.chars().take(200).collect());
        let (name, value) = header.split_once(':').ok_or_else(bad)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name.is_empty() || value.contains(char::is_control) {
            return Err(bad());
        }
        match (&*name, &self.authority) {
            ("host", Some(_)) => return Err(RequestTextError::Host(value.to_owned())),
            ("host", None) => self.authority = Some(value.to_owned()),
            _ => self.headers.push((name, value.to_owned())),
        }
        Ok(())
    }

    /// The request as the waypoint reads it, of `authority` unless it says another.
    pub(crate) fn request<'r>(
        &'r self,
        authority: &'r str,
        fields: &'r [Header<'r>],
    ) -> Result<Request<'r>, RequestError> {
        let authority = self.authority.as_deref().unwrap_or(authority);
        let Self { method, target, .. } = self;
        Request::read(Parts { method, scheme: "http", authority, target, headers: fields }, Normalization::default())
    }

    /// Its headers.
    pub(crate) fn fields(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect()
    }

    /// `GET host/path`.
    pub(crate) fn words(&self, authority: &str) -> String {
        format!("{} {}{}", self.method, self.authority.as_deref().unwrap_or(authority), self.target)
    }

    /// `METHOD /PATH`, as it was typed.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_line_and_headers() {
        let read = RequestText::read("GET /a?b=c", ["Host: shop", "X-A:1", "x-a: two words"]).unwrap();
        assert_eq!((read.line().as_str(), read.words("other").as_str()), ("GET /a?b=c", "GET shop/a?b=c"));
        let fields = read.fields();
        let request = read.request("other", &fields).unwrap();
        assert_eq!((request.method(), request.authority().as_str()), ("GET", "shop"));
        assert_eq!(request.header("x-a").as_deref(), Some(&b"1,two words"[..]));
        assert_eq!(RequestText::read(" GET  / ", []).unwrap().words("other"), "GET other/");
    }

    #[test]
    fn what_is_none_says_what_is_expected() {
        for (line, headers, why) in [
            ("", &[][..], "expected METHOD /PATH"),
            ("GET", &[], "expected METHOD /PATH"),
            ("GET / HTTP/1.1", &[], "expected METHOD /PATH"),
            ("GET /", &["x"], "expected NAME: VALUE"),
            ("GET /", &[": x"], "expected NAME: VALUE"),
            ("GET /", &["a: b\r\nc: d"], "expected NAME: VALUE"),
            ("GET /", &["host: a", "Host: b"], "one host"),
            ("GET /", &[&"x".repeat(LONGEST)], "at most"),
        ] {
            let error = RequestText::read(line, headers.iter().copied()).unwrap_err().to_string();
            assert!(error.contains(why), "{line} {error}");
        }
    }
}
