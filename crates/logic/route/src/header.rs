//! Changes of headers.

use std::{fmt, str::FromStr};

/// The longest name of a header, in bytes. Gateway API v1 `HeaderName`.
const MAX_NAME: usize = 256;
/// The longest value of a header, in bytes. Gateway API v1 `HTTPHeader.value`.
const MAX_VALUE: usize = 4_096;

/// Headers that say where a message ends or what a connection is. Who changes one of these changes which bytes are the next request.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a header cannot be named, given or changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a name.
    #[error("{0:?} is no name of a header: expected 1 to {MAX_NAME} letters, digits or signs of RFC 9110 §5.6.2")]
    Name(String),
    /// Not a value.
    #[error("the value of {name} is longer than {MAX_VALUE} bytes or has a control character")]
    Value {
        /// The header.
        name: HeaderName,
    },
    /// It belongs to the proxy.
    #[error("{0} cannot be changed: it frames the message")]
    Framing(HeaderName),
    /// A request has one host.
    #[error("host can be set, not added or removed")]
    Host,
}

/// The name of a header, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(Box<str>);

impl HeaderName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(is_of_a_name) {
            return Err(HeaderError::Name(text.chars().take(MAX_NAME).collect()));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A header with a value: no control characters in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValue {
    name: HeaderName,
    value: Box<str>,
}

impl HeaderValue {
    /// A header with a value.
    ///
    /// # Errors
    /// When the value is too long or would end the line.
    pub fn new(name: HeaderName, value: &str) -> Result<Self, HeaderError> {
        let is_bad = |c: char| c != '\t' && c.is_control();
        if value.len() > MAX_VALUE || value.contains(is_bad) {
            return Err(HeaderError::Value { name });
        }
        Ok(Self { name, value: value.into() })
    }

    /// The name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// The headers of a message, as a proxy keeps them. Names are in lower case.
pub trait HeaderList {
    /// Takes out every header of this name.
    fn remove(&mut self, name: &str);
    /// Adds one, behind those of its name.
    fn append(&mut self, name: &str, value: &str);
}

/// Headers in a list, in the order they were added in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl HeaderList for Fields {
    fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    fn append(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }
}

/// What is done to the headers of a message. Istio `Headers.HeaderOperations`, Gateway API v1 `HTTPHeaderFilter`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    set: Vec<HeaderValue>,
    add: Vec<HeaderValue>,
    remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// Changes of headers: some are taken out, some get one value instead of all they have, some get one more.
    ///
    /// # Errors
    /// When a header would be changed that frames the message, or the host added or removed.
    pub fn new(set: Vec<HeaderValue>, add: Vec<HeaderValue>, remove: Vec<HeaderName>) -> Result<Self, HeaderError> {
        let names = set.iter().chain(&add).map(HeaderValue::name).chain(&remove);
        if let Some(name) = names.clone().find(|name| FRAMING.contains(&name.as_str())) {
            return Err(HeaderError::Framing(name.clone()));
        }
        if add.iter().map(HeaderValue::name).chain(&remove).any(|name| name.as_str() == "host") {
            return Err(HeaderError::Host);
        }
        Ok(Self { set, add, remove })
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Does it: takes out, sets, adds. The host is not among the headers of a request: see [`host`](Self::host).
    pub fn apply(&self, headers: &mut impl HeaderList) {
        for name in &self.remove {
            headers.remove(name.as_str());
        }
        for header in self.set.iter().filter(|header| header.name().as_str() != "host") {
            headers.remove(header.name().as_str());
            headers.append(header.name().as_str(), header.value());
        }
        for header in &self.add {
            headers.append(header.name().as_str(), header.value());
        }
    }

    /// The authority that `host` is set to.
    pub fn host(&self) -> Option<&str> {
        self.set.iter().find(|header| header.name().as_str() == "host").map(HeaderValue::value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header((name, value): &(&str, &str)) -> HeaderValue {
        HeaderValue::new(name.parse().unwrap(), value).unwrap()
    }

    fn changes(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> Result<HeaderChanges, HeaderError> {
        HeaderChanges::new(
            set.iter().map(header).collect(),
            add.iter().map(header).collect(),
            remove.iter().map(|name| name.parse().unwrap()).collect(),
        )
    }

    #[test]
    fn headers_are_taken_out_set_and_added() {
        let before = [("my-header", "foo"), ("x", "1"), ("x", "2")];
        for (set, add, remove, want) in [
            (&[][..], &[][..], &[][..], vec![("my-header", "foo"), ("x", "1"), ("x", "2")]),
            (&[("My-Header", "bar")], &[], &[], vec![("x", "1"), ("x", "2"), ("my-header", "bar")]),
            (
                &[],
                &[("my-header", "bar,baz")],
                &[],
                vec![("my-header", "foo"), ("x", "1"), ("x", "2"), ("my-header", "bar,baz")],
            ),
            (&[], &[], &["X", "absent"], vec![("my-header", "foo")]),
            (&[("x", "3")], &[("x", "4")], &["x"], vec![("my-header", "foo"), ("x", "3"), ("x", "4")]),
            (&[("host", "other")], &[], &[], vec![("my-header", "foo"), ("x", "1"), ("x", "2")]),
        ] {
            let mut fields = Fields(before.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
            let changes = changes(set, add, remove).unwrap();
            changes.apply(&mut fields);
            let after: Vec<(&str, &str)> = fields.0.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(after, want, "{changes:?}");
        }
        assert_eq!(changes(&[("Host", "other:80")], &[], &[]).unwrap().host(), Some("other:80"));
    }

    #[test]
    fn what_frames_a_message_is_not_changed() {
        for (set, add, remove) in [
            (&[("Content-Length", "0")][..], &[][..], &[][..]),
            (&[], &[("transfer-encoding", "chunked")], &[]),
            (&[], &[], &["connection"]),
            (&[], &[], &["te"]),
            (&[], &[("host", "x")], &[]),
            (&[], &[], &["Host"]),
        ] {
            assert!(changes(set, add, remove).is_err(), "{set:?} {add:?} {remove:?}");
        }
    }

    #[test]
    fn names_and_values_are_legal() {
        for (name, value, want) in [
            ("x-a", "b", true),
            ("x-a", "b\tc é", true),
            ("x-a", "", true),
            ("", "b", false),
            (":path", "b", false),
            ("x a", "b", false),
            ("x\r\n", "b", false),
            ("x", "b\r\nevil: 1", false),
            ("x", "b\0", false),
        ] {
            let made = name.parse().and_then(|name| HeaderValue::new(name, value));
            assert_eq!(made.is_ok(), want, "{name:?} {value:?}");
        }
        assert!("x".repeat(257).parse::<HeaderName>().is_err());
        assert!(HeaderValue::new("x".parse().unwrap(), &"v".repeat(4_097)).is_err());
    }
}
