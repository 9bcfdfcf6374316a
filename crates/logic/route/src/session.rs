//! Which backend and endpoint a client goes on with, as its own requests say. Gateway API v1 `SessionPersistence`, GEP-1619.
//!
//! In: a request. Out: what it holds on to; and for an answer, the header by which the next request holds on to the same. What a client sends chooses among
//! what its rule leads to anyway, and says nothing else: names are hashed, so that no address is told.

use std::{fmt, time::Duration};

use weir_request::Request;

/// The longest name. Gateway API v1, `sessionName`.
const LONGEST: usize = 128;

/// Why nothing carries a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No name of a header or cookie.
    #[error("{0:?} is no name of a header or cookie, expected at most 128 letters, digits and !#$%&'*+-.^_`|~")]
    Name(String),
    /// A header that is not the application's.
    #[error("the header {0:?} frames messages or connections, expected another")]
    Header(String),
}

/// How a rule's clients hold on to where they went first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    name: Box<str>,
    carrier: Carrier,
    longest: Option<Duration>,
}

/// What carries it. Gateway API v1 `type`, `cookieConfig.lifetimeType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A cookie that lives as long as the client runs.
    SessionCookie,
    /// A cookie that lives as long as the session may last.
    PermanentCookie,
    /// A header of answers, which the client sends back.
    Header,
}

/// What a client holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its backend, as [`Held::hash`] of what that is called.
    pub backend: u64,
    /// Its endpoint, likewise.
    pub endpoint: u64,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

impl Held {
    /// What stands for a name. It is the same in any process. FNV-1a, 64 bits.
    pub fn hash(name: &str) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }

    fn read(text: &str) -> Option<Self> {
        let hex = |text: &str, most: usize| {
            let is_hex = !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        let mut parts = text.split('-');
        let (backend, endpoint, since) = (parts.next()?, parts.next()?, parts.next()?);
        let held = Self { backend: hex(backend, 16)?, endpoint: hex(endpoint, 16)?, since: hex(since, 16)? };
        parts.next().is_none().then_some(held)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}-{:x}", self.backend, self.endpoint, self.since)
    }
}

impl Session {
    /// A session of that name, which lasts no longer than this; zero is no limit. A header's name has no upper case.
    ///
    /// # Errors
    /// When it is no name, or that of a header that carries something else.
    pub fn new(name: &str, carrier: Carrier, longest: Option<Duration>) -> Result<Self, SessionError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > LONGEST || !name.bytes().all(legal) {
            return Err(SessionError::Name(name.chars().take(LONGEST).collect()));
        }
        let name = match carrier {
            Carrier::Header => name.to_ascii_lowercase(),
            Carrier::SessionCookie | Carrier::PermanentCookie => name.to_owned(),
        };
        let is_taken = matches!(
            name.as_str(),
            "connection"
                | "content-length"
                | "cookie"
                | "expect"
                | "host"
                | "keep-alive"
                | "proxy-connection"
                | "set-cookie"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
        );
        if carrier == Carrier::Header && is_taken {
            return Err(SessionError::Header(name));
        }
        Ok(Self { name: name.into(), carrier, longest: longest.filter(|time| !time.is_zero()) })
    }

    /// What a request holds on to at that time, in seconds since 1970; nothing if it says nothing, or its session is over.
    pub fn held(&self, request: &Request<'_>, now: u64) -> Option<Held> {
        let of = |header: &str| request.header(header).map(|value| String::from_utf8_lossy(&value).into_owned());
        let held = match self.carrier {
            Carrier::Header => Held::read(&of(&self.name)?)?,
            // Several headers are one, with commas between them.
            Carrier::SessionCookie | Carrier::PermanentCookie => {
                let all = of("cookie")?;
                let pairs = all.split([';', ',']).filter_map(|pair| pair.trim().split_once('='));
                pairs.filter(|(name, _)| **name == *self.name).find_map(|(_, value)| Held::read(value))?
            }
        };
        let is_over = self.longest.is_some_and(|longest| now.saturating_sub(held.since) >= longest.as_secs().max(1));
        (!is_over && held.since <= now).then_some(held)
    }

    /// The header of an answer that has its client hold on to this: its name, and its value.
    pub fn told(&self, held: &Held) -> (&str, String) {
        match (self.carrier, self.longest) {
            (Carrier::Header, _) => (&self.name, held.to_string()),
            (Carrier::PermanentCookie, Some(longest)) => {
                let age = longest.as_secs().max(1);
                ("set-cookie", format!("{}={held}; Max-Age={age}; Path=/; HttpOnly", self.name))
            }
            (Carrier::PermanentCookie, None) | (Carrier::SessionCookie, _) => {
                ("set-cookie", format!("{}={held}; Path=/; HttpOnly", self.name))
            }
        }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.carrier {
            Carrier::Header => "header",
            Carrier::SessionCookie | Carrier::PermanentCookie => "cookie",
        };
        write!(f, "goes on with its endpoint by the {by} {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_request::{Header, Normalization, Parts};

    use super::*;

    const HELD: Held = Held { backend: 1, endpoint: 0xfeed, since: 1_000 };

    fn session(carrier: Carrier, longest: Option<u64>) -> Session {
        Session::new("S", carrier, longest.map(Duration::from_secs)).unwrap()
    }

    fn held(session: &Session, headers: &[(&str, &str)], now: u64) -> Option<Held> {
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        let parts = Parts { method: "GET", scheme: "http", authority: "a", target: "/", headers: &headers };
        session.held(&Request::read(parts, Normalization::Base).unwrap(), now)
    }

    #[test]
    fn a_client_that_sends_back_what_it_was_told_holds_on() {
        for (carrier, longest, header, told) in [
            (Carrier::Header, None, "s", "0000000000000001-000000000000feed-3e8"),
            (
                Carrier::SessionCookie,
                Some(60),
                "set-cookie",
                "S=0000000000000001-000000000000feed-3e8; Path=/; HttpOnly",
            ),
            (
                Carrier::PermanentCookie,
                Some(60),
                "set-cookie",
                "S=0000000000000001-000000000000feed-3e8; Max-Age=60; Path=/; HttpOnly",
            ),
        ] {
            let session = session(carrier, longest);
            assert_eq!(session.told(&HELD), (header, told.to_owned()));
            let sent = told.split(';').next().unwrap();
            let back = if carrier == Carrier::Header { ("s", sent) } else { ("cookie", sent) };
            assert_eq!(held(&session, &[back], 1_000), Some(HELD));
            assert_eq!(held(&session, &[back], 1_059), Some(HELD));
            assert_eq!(held(&session, &[back], 1_060), longest.is_none().then_some(HELD), "its time is over");
            assert_eq!(held(&session, &[back], 999), None, "nobody began in the future");
        }
    }

    #[test]
    fn what_is_no_session_holds_nothing() {
        let cookie = session(Carrier::SessionCookie, None);
        let ours = "S=1-feed-3e8";
        for (headers, want) in [
            (vec![], None),
            (vec![("cookie", ours)], Some(HELD)),
            (vec![("cookie", "a=b; S=1-feed-3e8 ; c")], Some(HELD)),
            (vec![("cookie", "a=b"), ("cookie", ours)], Some(HELD)),
            (vec![("cookie", "S=x; S=1-feed-3e8")], Some(HELD)),
            (vec![("cookie", "s=1-feed-3e8")], None),
            (vec![("cookie", "S=1-feed")], None),
            (vec![("cookie", "S=1-feed-3e8-0")], None),
            (vec![("cookie", "S=+1-feed-3e8")], None),
            (vec![("cookie", "S=--")], None),
            (vec![("cookie", "S=11111111111111111-feed-3e8")], None),
            (vec![("s", "1-feed-3e8")], None),
        ] {
            assert_eq!(held(&cookie, &headers, 1_000), want, "{headers:?}");
        }
        for (name, carrier, is_legal) in [
            ("a.b_c", Carrier::SessionCookie, true),
            ("", Carrier::SessionCookie, false),
            ("a b", Carrier::SessionCookie, false),
            ("a;b", Carrier::Header, false),
            ("Host", Carrier::Header, false),
            ("Cookie", Carrier::Header, false),
            ("Host", Carrier::SessionCookie, true),
        ] {
            assert_eq!(Session::new(name, carrier, None).is_ok(), is_legal, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(backend: u64, endpoint: u64, since: u64) {
            let held = Held { backend, endpoint, since };
            prop_assert_eq!(Held::read(&held.to_string()), Some(held));
        }

        #[test]
        fn any_text_is_read_or_is_none(text in "[0-9a-fx-]{0,60}") {
            if let Some(held) = Held::read(&text) {
                prop_assert_eq!(Held::read(&held.to_string()), Some(held));
            }
        }
    }
}
