//! What of a request its endpoint is to depend on. `DestinationRule.loadBalancer.consistentHash`.
//!
//! In: a header's name, a cookie, a query parameter or nothing, and a request. Out: its key, and the cookie that the client is to be given when it has none.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use rand::Rng;

use crate::{HashKey, PolicyError};

/// The longest name of a header, cookie or parameter, path or attribute, in bytes. Ours.
const LONGEST: usize = 1024;

/// The most attributes of a cookie. Ours.
const MOST_ATTRIBUTES: usize = 16;

/// What keys are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashSource {
    /// `httpHeaderName`: the values of a header. Lower case.
    Header(Arc<str>),
    /// `httpCookie`: a cookie's value.
    Cookie(Cookie),
    /// `useSourceIp`: the client's address.
    SourceIp,
    /// `httpQueryParameterName`: the first value of a parameter, as it is written in the path.
    Query(Arc<str>),
}

/// What is asked of a request.
pub trait Asked {
    /// The values of a header whose name is given in lower case.
    fn header<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]>;
    /// What follows the question mark.
    fn query(&self) -> Option<&str>;
    /// The client's address.
    fn source(&self) -> IpAddr;
}

/// What a request is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity<'c> {
    /// Its key. None: the request has nothing of the kind, any endpoint will do.
    pub key: Option<HashKey>,
    /// The cookie by which the next request has the same key.
    pub set: Option<SetCookie<'c>>,
}

impl HashSource {
    /// By the values of a header.
    ///
    /// # Errors
    /// When it is no header's name.
    pub fn header(name: &str) -> Result<Self, PolicyError> {
        Ok(Self::Header(token("header", &name.to_ascii_lowercase())?))
    }

    /// By the value of a query parameter.
    ///
    /// # Errors
    /// When its name is empty, or cannot stand in a query.
    pub fn query(name: &str) -> Result<Self, PolicyError> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'&' | b'=' | b'#');
        Ok(Self::Query(text("query parameter", name, "visible ASCII without '&', '=' and '#'", allowed)?))
    }

    /// What a request is bound to. The random number is the value of a cookie, if one is made.
    pub fn affinity(&self, request: &impl Asked, rng: &mut impl Rng) -> Affinity<'_> {
        let key = match self {
            Self::Header(name) => HashKey::of_all(request.header(name)),
            Self::SourceIp => Some(HashKey::of_address(request.source())),
            Self::Query(name) => {
                parameter(request.query().unwrap_or_default(), name).map(|value| HashKey::of(value.as_bytes()))
            }
            Self::Cookie(cookie) => {
                let sent = request.header("cookie").find_map(|line| crumb(line, cookie.name.as_bytes()));
                return match (sent, cookie.ttl) {
                    (Some(value), _) => Affinity { key: Some(HashKey::of(value)), set: None },
                    (None, None) => Affinity { key: None, set: None },
                    (None, Some(_)) => {
                        let set = SetCookie { cookie, value: format!("{:016x}", rng.random::<u64>()) };
                        Affinity { key: Some(HashKey::of(set.value.as_bytes())), set: Some(set) }
                    }
                };
            }
        };
        Affinity { key, set: None }
    }
}

/// A cookie that binds a client to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    name: Arc<str>,
    path: Option<Arc<str>>,
    ttl: Option<Duration>,
    attributes: Vec<(Arc<str>, Option<Arc<str>>)>,
}

impl Cookie {
    /// A cookie. With a time to live, clients that have none are given one; of zero, for as long as their session lasts.
    ///
    /// # Errors
    /// When a part has a character that would end it in the header (RFC 6265 §4.1.1), or there are too many.
    pub fn new(
        name: &str,
        path: Option<&str>,
        ttl: Option<Duration>,
        attributes: &[(&str, Option<&str>)],
    ) -> Result<Self, PolicyError> {
        if attributes.len() > MOST_ATTRIBUTES {
            return Err(PolicyError::TooMany {
                what: "cookie attributes",
                count: attributes.len(),
                max: MOST_ATTRIBUTES,
            });
        }
        let value = |what: &'static str, given: &str| {
            text(what, given, "printable ASCII without ';'", |byte| (b' '..=b'~').contains(&byte) && byte != b';')
        };
        let attributes = attributes.iter().map(|(name, given)| {
            let given = given.map(|given| value("cookie attribute", given)).transpose()?;
            Ok((token("cookie attribute", name)?, given))
        });
        Ok(Self {
            name: token("cookie", name)?,
            path: path.map(|path| value("cookie path", path)).transpose()?,
            ttl,
            attributes: attributes.collect::<Result<_, PolicyError>>()?,
        })
    }
}

/// A `Set-Cookie` header's value, as `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCookie<'c> {
    cookie: &'c Cookie,
    value: String,
}

impl fmt::Display for SetCookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=\"{}\"", self.cookie.name, self.value)?;
        if let Some(ttl) = self.cookie.ttl.filter(|ttl| !ttl.is_zero()) {
            // Less than a second is not none, which would delete it.
            write!(f, "; Max-Age={}", ttl.as_secs().max(1))?;
        }
        if let Some(path) = &self.cookie.path {
            write!(f, "; Path={path}")?;
        }
        for (name, value) in &self.cookie.attributes {
            write!(f, "; {name}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
        }
        f.write_str("; HttpOnly")
    }
}

/// A token. RFC 9110 §5.6.2.
fn token(what: &'static str, given: &str) -> Result<Arc<str>, PolicyError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    text(what, given, "letters, digits and !#$%&'*+-.^_`|~", allowed)
}

fn text(
    what: &'static str,
    given: &str,
    allowed: &'static str,
    is: impl Fn(u8) -> bool,
) -> Result<Arc<str>, PolicyError> {
    if given.is_empty() || given.len() > LONGEST || !given.bytes().all(is) {
        let text = given.chars().take(LONGEST).collect();
        return Err(PolicyError::Text { what, text, max: LONGEST, allowed });
    }
    Ok(given.into())
}

/// The value of a cookie in one `Cookie` header, without the quotes it may have.
fn crumb<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    line.split(|byte| *byte == b';').find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (before, value) = (pair.get(..at)?.trim_ascii(), pair.get(at + 1..)?.trim_ascii());
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (before == name).then_some(bare)
    })
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(before, _)| *before == name).map(|(_, value)| value).next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    struct Request {
        headers: Vec<(&'static str, &'static str)>,
        query: Option<&'static str>,
    }

    impl Asked for Request {
        fn header<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
            let name = name.to_owned();
            self.headers.iter().filter(move |(header, _)| *header == name).map(|(_, value)| value.as_bytes())
        }

        fn query(&self) -> Option<&str> {
            self.query
        }

        fn source(&self) -> IpAddr {
            "2001:db8::7".parse().unwrap()
        }
    }

    fn keyed(
        source: &HashSource,
        headers: &[(&'static str, &'static str)],
        query: Option<&'static str>,
    ) -> Option<HashKey> {
        let request = Request { headers: headers.to_vec(), query };
        let affinity = source.affinity(&request, &mut SmallRng::seed_from_u64(1));
        assert_eq!(affinity.set, None);
        affinity.key
    }

    #[test]
    fn keys_are_made_of_what_the_policy_names() {
        let cookie = HashSource::Cookie(Cookie::new("user", None, None, &[]).unwrap());
        let header = HashSource::header("X-User").unwrap();
        let query = HashSource::query("user").unwrap();
        let of = |text: &str| Some(HashKey::of(text.as_bytes()));
        for (source, headers, asked, want) in [
            (&header, vec![("x-user", "ann")], None, of("ann")),
            (&header, vec![("x-other", "ann")], None, None),
            (&cookie, vec![("cookie", "a=b; user=ann")], None, of("ann")),
            (&cookie, vec![("cookie", "a=b"), ("cookie", "user=\"ann\";c=d")], None, of("ann")),
            (&cookie, vec![("cookie", "user2=x; xuser=y; user")], None, None),
            (&cookie, vec![("cookie", "user=")], None, of("")),
            (&cookie, vec![("cookie", "user=\"")], None, of("\"")),
            (&query, vec![], Some("a=b&user=ann&user=bob"), of("ann")),
            (&query, vec![], Some("user"), of("")),
            (&query, vec![], Some("users=ann"), None),
            (&query, vec![], None, None),
            (&HashSource::SourceIp, vec![], None, of("2001:db8::7")),
        ] {
            assert_eq!(keyed(source, &headers, asked), want, "{source:?} {headers:?} {asked:?}");
        }
    }

    #[test]
    fn a_client_without_the_cookie_is_given_one_by_which_it_comes_back() {
        for (path, ttl, attributes, want) in [
            (None, Some(0), vec![], "id=\"VALUE\"; HttpOnly"),
            (Some("/a b"), Some(90), vec![], "id=\"VALUE\"; Max-Age=90; Path=/a b; HttpOnly"),
            (
                None,
                Some(5),
                vec![("SameSite", Some("Strict")), ("Secure", None)],
                "id=\"VALUE\"; Max-Age=5; SameSite=Strict; Secure; HttpOnly",
            ),
        ] {
            let cookie = Cookie::new("id", path, ttl.map(Duration::from_secs), &attributes).unwrap();
            let source = HashSource::Cookie(cookie);
            let request = Request { headers: vec![], query: None };
            let mut rng = SmallRng::seed_from_u64(1);
            let given = source.affinity(&request, &mut rng);
            let set = given.set.clone().unwrap();
            assert_eq!(set.to_string(), want.replace("VALUE", &set.value));
            assert_eq!(crumb(set.to_string().as_bytes(), b"id").map(HashKey::of), given.key);
            assert_ne!(source.affinity(&request, &mut rng).key, given.key, "the next client has another");
        }
        let short = Cookie::new("id", None, Some(Duration::from_millis(5)), &[]).unwrap();
        assert!(SetCookie { cookie: &short, value: String::new() }.to_string().contains("Max-Age=1;"));
    }

    #[test]
    fn what_would_break_the_header_is_refused() {
        for (name, path, attribute) in [
            ("", None, None),
            ("a b", None, None),
            ("a=b", None, None),
            ("a;b", None, None),
            ("a", Some("/;x"), None),
            ("a", Some("/\r\nX: y"), None),
            ("a", None, Some(("x\n", None))),
            ("a", None, Some(("x", Some("y;z")))),
        ] {
            let attributes: Vec<_> = attribute.into_iter().collect();
            assert!(Cookie::new(name, path, None, &attributes).is_err(), "{name:?} {path:?} {attribute:?}");
        }
        assert!(Cookie::new("a", None, None, &[("x", None); 17]).is_err());
        assert!(HashSource::header("x\r\ny").is_err());
        assert!(HashSource::query("a&b").is_err());
        assert!(HashSource::header(&"x".repeat(1025)).is_err());
    }

    proptest! {
        #[test]
        fn a_cookie_is_found_among_whatever_else_is_sent(
            before in "[ -~&&[^;]]{0,20}", value in "[!-~&&[^;\"=]]{0,20}", after in any::<Vec<u8>>(),
        ) {
            prop_assume!(before.split('=').next().is_none_or(|name| name.trim() != "user"));
            let mut line = format!("{before}; user={value};").into_bytes();
            line.extend(after);
            prop_assert_eq!(crumb(&line, b"user"), Some(value.as_bytes()));
        }

        #[test]
        fn any_bytes_are_looked_through(line in any::<Vec<u8>>(), query in any::<String>()) {
            prop_assert!(crumb(&line, b"user").is_none_or(|value| value.len() + 5 <= line.len()));
            prop_assert!(parameter(&query, "a").is_none_or(|value| value.len() < query.len()));
        }
    }
}
