//! The authority of a request, and the patterns that hosts are named with.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// The longest authority, in bytes: a name of 253, a dot at its end, a port.
const MAX_AUTHORITY: usize = 260;

/// Why a text is no authority, or no pattern of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No host in it.
    #[error("no host in {0:?}")]
    Empty(String),
    /// Too long to name a host.
    #[error("an authority of {len} bytes, at most {MAX_AUTHORITY} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not the name of a host. `user@` before one is none either (RFC 9110 §4.2.4).
    #[error("{0:?} names no host: expected letters, digits, '-', '_' and '.', or an IP address")]
    Name(String),
    /// Behind the colon stands no port.
    #[error("{0:?} has no port from 1 to 65535 behind its ':'")]
    Port(String),
}

/// A host, by name or by address.
#[derive(Debug, Clone, Copy)]
pub enum Host<'r> {
    /// A name, without the dot that may end it.
    Name(&'r str),
    /// An address.
    Ip(IpAddr),
}

impl PartialEq for Host<'_> {
    /// Names are equal whatever the case of their letters.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            (Self::Ip(one), Self::Ip(other)) => one == other,
            (Self::Name(_), Self::Ip(_)) | (Self::Ip(_), Self::Name(_)) => false,
        }
    }
}

impl Eq for Host<'_> {}

impl fmt::Display for Host<'_> {
    /// As it stands in an authority.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// The authority of a request: `:authority`, or the `Host` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'r> {
    text: &'r str,
    host: Host<'r>,
    port: Option<u16>,
}

impl<'r> Authority<'r> {
    /// Reads an authority.
    ///
    /// # Errors
    /// When it names no host, or has something else than a port behind it.
    pub fn read(text: &'r str) -> Result<Self, HostError> {
        if text.len() > MAX_AUTHORITY {
            return Err(HostError::TooLong { len: text.len() });
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => (v6(address, text)?, rest),
            None => {
                let (name, port) = text.find(':').map_or((text, ""), |colon| text.split_at(colon));
                (name_or_v4(name, text)?, port)
            }
        };
        Ok(Self { text, host, port: port_behind(port, text)? })
    }

    /// As it was sent.
    pub fn as_str(self) -> &'r str {
        self.text
    }

    /// The host.
    pub fn host(self) -> Host<'r> {
        self.host
    }

    /// The port, if it names one.
    pub fn port(self) -> Option<u16> {
        self.port
    }
}

fn v6<'r>(address: &str, text: &str) -> Result<Host<'r>, HostError> {
    address.parse::<Ipv6Addr>().map(|ip| Host::Ip(ip.into())).map_err(|_| HostError::Name(text.to_owned()))
}

fn name_or_v4<'r>(name: &'r str, text: &str) -> Result<Host<'r>, HostError> {
    if let Ok(ip) = name.parse() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match name {
        "" => Err(HostError::Empty(text.to_owned())),
        _ if name.bytes().all(is_of_a_name) && name.split('.').all(|label| !label.is_empty()) => Ok(Host::Name(name)),
        _ => Err(HostError::Name(text.to_owned())),
    }
}

/// `:80`, or nothing; a colon alone is a port left out (RFC 3986 §3.2.3).
fn port_behind(rest: &str, text: &str) -> Result<Option<u16>, HostError> {
    let bad = || HostError::Port(text.to_owned());
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(None),
        None => Err(bad()),
        Some("") => Ok(None),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => Err(bad()),
            Ok(port) => Ok(Some(port)),
        },
        Some(_) => Err(bad()),
    }
}

/// Which hosts: one, all below a name (`*.x`), or all (`*`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern(Pattern);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pattern {
    Any,
    Below(Box<str>),
    Name(Box<str>),
    Ip(IpAddr),
}

impl HostPattern {
    /// Whether it means this host, whatever the case of its letters. `*.x` means any host below `x`, however far, and not `x`.
    pub fn matches(&self, host: Host<'_>) -> bool {
        match (&self.0, host) {
            (Pattern::Any, _) => true,
            (Pattern::Name(name), Host::Name(host)) => name.eq_ignore_ascii_case(host),
            (Pattern::Ip(ip), Host::Ip(host)) => *ip == host,
            // A name does not begin with a dot, so what ends so has a label before it.
            (Pattern::Below(suffix), Host::Name(host)) => host
                .len()
                .checked_sub(suffix.len())
                .and_then(|at| host.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
            (Pattern::Name(_) | Pattern::Below(_), Host::Ip(_)) | (Pattern::Ip(_), Host::Name(_)) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self(Pattern::Any));
        }
        let below = text.strip_prefix("*.");
        let authority = Authority::read(below.unwrap_or(text))?;
        match (below, authority.host, authority.port) {
            (_, _, Some(_)) | (Some(_), Host::Ip(_), None) => Err(HostError::Name(text.to_owned())),
            (Some(_), Host::Name(name), None) => Ok(Self(Pattern::Below(format!(".{name}").into()))),
            (None, Host::Name(name), None) => Ok(Self(Pattern::Name(name.into()))),
            (None, Host::Ip(ip), None) => Ok(Self(Pattern::Ip(ip))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read() {
        for (text, want) in [
            ("shop", Some((Host::Name("shop"), None))),
            ("Shop.Example.com:8080", Some((Host::Name("shop.example.com"), Some(8080)))),
            ("shop.example.com.", Some((Host::Name("shop.example.com"), None))),
            ("shop.example.com.:80", Some((Host::Name("shop.example.com"), Some(80)))),
            ("my_shop:", Some((Host::Name("my_shop"), None))),
            ("10.0.0.1:80", Some((Host::Ip([10, 0, 0, 1].into()), Some(80)))),
            ("[::1]:80", Some((Host::Ip(Ipv6Addr::LOCALHOST.into()), Some(80)))),
            ("[0:0::1]", Some((Host::Ip(Ipv6Addr::LOCALHOST.into()), None))),
            ("", None),
            (".", None),
            (":80", None),
            ("a..b", None),
            ("shop:0", None),
            ("shop:65536", None),
            ("shop:+80", None),
            ("shop:80:80", None),
            ("user@shop", None),
            ("shop/path", None),
            ("shop\r\n", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]80", None),
            ("[shop]", None),
            ("%73hop", None),
        ] {
            let read = Authority::read(text).ok().map(|read| (read.host(), read.port()));
            assert_eq!(read, want, "{text:?}");
        }
        assert_eq!(Authority::read(&"a".repeat(300)), Err(HostError::TooLong { len: 300 }));
    }

    #[test]
    fn patterns_mean_hosts() {
        for (pattern, host, want) in [
            ("*", "anything", true),
            ("*", "[::1]", true),
            ("shop.example.com", "SHOP.example.com:80", true),
            ("Shop.example.com", "shop.example.com.", true),
            ("shop.example.com", "a.shop.example.com", false),
            ("*.example.com", "shop.Example.com", true),
            ("*.example.com", "a.shop.example.com:1", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "myexample.com", false),
            ("10.0.0.1", "10.0.0.1:80", true),
            ("10.0.0.1", "shop", false),
            ("[::1]", "[0::1]:80", true),
            ("*.0.0.1.x", "10.0.0.1", false),
        ] {
            let parsed: HostPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(Authority::read(host).unwrap().host()), want, "{pattern} {host}");
        }
        for bad in ["", "*.", "*x", "a.*.b", "shop:80", "*.10.0.0.1", "**"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
