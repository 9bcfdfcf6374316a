//! The query of a request: its parameters as an application reads them.

use std::borrow::Cow;

use crate::path::escaped;

/// What stands behind the `?`, without it. It is sent on as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Query<'r>(pub(crate) &'r str);

impl<'r> Query<'r> {
    /// The text.
    pub fn as_str(self) -> &'r str {
        self.0
    }

    /// The value of the first parameter of this name; empty if it has no `=`. Of a parameter that is given twice the first counts, as Gateway
    /// API v1 recommends (`HTTPQueryParamMatch.name`).
    pub fn first(self, name: &str) -> Option<Value<'r>> {
        self.pairs().find(|(key, _)| key.decoded().as_ref() == name.as_bytes()).map(|(_, value)| value)
    }

    /// All parameters in their order, each with its name.
    pub fn pairs(self) -> impl Iterator<Item = (Value<'r>, Value<'r>)> {
        self.0.split('&').map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (Value(key), Value(value))
        })
    }

    /// The query without the parameters of some names, the others as they came; none if none is left.
    pub fn without(self, is_gone: impl Fn(&[u8]) -> bool) -> Option<String> {
        let kept = self.0.split('&').zip(self.pairs()).filter(|(_, (key, _))| !is_gone(&key.decoded()));
        let kept: Vec<&str> = kept.map(|(pair, _)| pair).collect();
        (!kept.is_empty()).then(|| kept.join("&"))
    }
}

/// The value of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value<'r>(&'r str);

impl<'r> Value<'r> {
    /// The value with its escapes resolved and `+` read as a space, as forms are written (`application/x-www-form-urlencoded`). A `%` that begins
    /// no escape is itself. Allocates only when there is something to resolve.
    pub fn decoded(self) -> Cow<'r, [u8]> {
        let bytes = self.0.as_bytes();
        if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
            return Cow::Borrowed(bytes);
        }
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let (meant, length) = match (byte, escaped(bytes, at)) {
                (b'%', Some(meant)) => (meant, 3),
                (b'+', _) => (b' ', 1),
                (other, _) => (other, 1),
            };
            out.push(meant);
            at += length;
        }
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_can_be_left_out() {
        for (query, gone, want) in [
            ("a=1&b=2&%61=3&c", "a", Some("b=2&c")),
            ("a=1", "a", None),
            ("a=1", "b", Some("a=1")),
            ("&a=%zz&&b", "a", Some("&&b")),
            ("a+b=1&c", "a b", Some("c")),
        ] {
            assert_eq!(Query(query).without(|key| key == gone.as_bytes()).as_deref(), want, "{query:?} {gone:?}");
        }
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        for (query, name, want) in [
            ("", "a", None),
            ("a=1", "a", Some("1")),
            ("a=1", "A", None),
            ("b=2&a=1&a=3", "a", Some("1")),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("ab=1", "a", None),
            ("a=b=c", "a", Some("b=c")),
            ("&&a=1", "a", Some("1")),
            ("%61=%62+c", "a", Some("b c")),
            ("a=%zz%", "a", Some("%zz%")),
            ("a+b=1", "a b", Some("1")),
        ] {
            let found = Query(query).first(name).map(|value| String::from_utf8(value.decoded().into_owned()).unwrap());
            assert_eq!(found.as_deref(), want, "{query:?} {name:?}");
        }
    }
}
