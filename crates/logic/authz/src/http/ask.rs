//! One field of a rule, one side of it, in a shape that answers fast.

use std::{borrow::Cow, sync::Arc};

use weir_model::{Namespace, ServiceAccount, Sides, TextMatch, canonical_ip};
use weir_request::{Authority, Host, Normalization};

use super::{
    facts::{Asked, Reading, Seen},
    path::Paths,
    policy::HttpField,
};
use crate::{
    ranges::Ranges,
    rule::{Ports, Side, sorted},
    texts::Texts,
};

/// A side of a field.
#[derive(Debug, Clone)]
pub(super) struct Test {
    pub(super) side: Side,
    values: Values,
}

/// A fact, and its values.
#[derive(Debug, Clone)]
enum Values {
    Principals(Texts),
    Namespaces(Texts),
    /// Sorted.
    Accounts(Box<[(Namespace, ServiceAccount)]>),
    TrustDomains(Texts),
    Sources(Ranges),
    Remotes(Ranges),
    Destinations(Ranges),
    Ports(Ports),
    Sni(Texts),
    OfRequest(OfRequest),
}

/// What only a request has.
#[derive(Debug, Clone)]
enum OfRequest {
    Principals(Texts),
    Hosts(Hosts),
    Methods(Texts),
    Paths(Paths),
    Header(Header),
    Audiences(Texts),
    Presenter(Texts),
    Claim { path: Box<[Arc<str>]>, texts: Texts },
}

/// Patterns of hosts, in lower case.
#[derive(Debug, Clone)]
struct Hosts {
    /// Those without a port: the host, at any.
    plain: Option<Texts>,
    /// Those with one.
    ported: Option<Texts>,
}

#[derive(Debug, Clone)]
struct Header {
    name: Named,
    texts: Texts,
    /// It suffices that it is there, empty or not. Envoy `HeaderMatcher.present_match`.
    present: bool,
}

/// The header of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Authority,
    Method,
    Path,
    Scheme,
    /// In lower case.
    Other(Box<str>),
}

impl Test {
    /// The tests of a field: one for each side that asks for something.
    pub(super) fn all(field: &HttpField, level: Normalization) -> Vec<Self> {
        use OfRequest::{Audiences, Claim, Methods, Presenter, Principals};
        let of = Values::OfRequest;
        match field {
            HttpField::Principals(sides) => both(sides, |all| Values::Principals(Texts::new(all))),
            HttpField::Namespaces(sides) => both(sides, |all| Values::Namespaces(Texts::new(all))),
            HttpField::ServiceAccounts(sides) => both(sides, |all| Values::Accounts(sorted(all))),
            HttpField::TrustDomains(sides) => both(sides, |all| Values::TrustDomains(Texts::new(all))),
            HttpField::SourceIps(sides) => both(sides, |all| Values::Sources(Ranges::new(all))),
            HttpField::RemoteIps(sides) => both(sides, |all| Values::Remotes(Ranges::new(all))),
            HttpField::DestinationIps(sides) => both(sides, |all| Values::Destinations(Ranges::new(all))),
            HttpField::DestinationPorts(sides) => both(sides, |all| Values::Ports(Ports::new(all))),
            HttpField::RequestPrincipals(sides) => both(sides, |all| of(Principals(Texts::new(all)))),
            HttpField::Hosts(sides) => both(sides, |all| of(OfRequest::Hosts(Hosts::new(all)))),
            HttpField::Methods(sides) => both(sides, |all| of(Methods(Texts::new(all)))),
            HttpField::Paths(sides) => both(sides, |all| of(OfRequest::Paths(Paths::new(all, level)))),
            HttpField::Header { name, values } => both(values, |all| of(OfRequest::Header(Header::new(name, all)))),
            HttpField::Audiences(sides) => both(sides, |all| of(Audiences(Texts::new(all)))),
            HttpField::Presenter(sides) => both(sides, |all| of(Presenter(Texts::new(all)))),
            HttpField::Claim { path, values } => {
                both(values, |all| of(Claim { path: path.clone().into(), texts: Texts::new(all) }))
            }
            HttpField::Sni(sides) => {
                both(sides, |all| Values::Sni(Texts::new(&all.iter().map(lower).collect::<Vec<_>>())))
            }
        }
    }

    /// Whether a connection that is no HTTP cannot tell.
    pub(super) fn is_of_request(&self) -> bool {
        matches!(self.values, Values::OfRequest(_))
    }

    /// Whether the path matters.
    pub(super) fn asks_for_the_path(&self) -> bool {
        matches!(self.values, Values::OfRequest(OfRequest::Paths(_)))
    }

    /// Whether it is as asked. What is asked of requests holds of what is no HTTP: who must not let such pass, does not ask.
    pub(super) fn holds(&self, seen: &Seen<'_>, reading: Reading<'_>) -> bool {
        match (self.side, self.is_one(seen, reading)) {
            (Side::Any, Some(is)) => is,
            (Side::None, Some(is)) => !is,
            (Side::Any | Side::None, None) => true,
        }
    }

    /// Whether the fact is one of the values; none if there can be no such fact. What is absent is none of any.
    fn is_one(&self, seen: &Seen<'_>, reading: Reading<'_>) -> Option<bool> {
        let facts = &seen.connection;
        Some(match &self.values {
            Values::Principals(texts) => has(texts, facts.principal),
            Values::Namespaces(texts) => has(texts, facts.identity.map(|one| one.namespace().as_str())),
            Values::TrustDomains(texts) => has(texts, facts.identity.map(|one| one.trust_domain().as_str())),
            Values::Accounts(all) => facts.identity.is_some_and(|identity| {
                let own = (identity.namespace(), identity.service_account());
                all.binary_search_by(|(namespace, account)| (namespace, account).cmp(&own)).is_ok()
            }),
            Values::Sources(ranges) => ranges.hold(facts.source),
            Values::Remotes(ranges) => ranges.hold(seen.remote),
            Values::Destinations(ranges) => ranges.hold(facts.destination),
            Values::Ports(ports) => ports.hold(facts.port),
            Values::Sni(texts) => has(texts, seen.sni.as_deref()),
            Values::OfRequest(values) => values.hold(seen.request.as_ref()?, reading, self.side),
        })
    }
}

fn has(texts: &Texts, text: Option<&str>) -> bool {
    text.is_some_and(|text| texts.match_text(text))
}

/// An empty side asks for nothing.
fn both<T>(sides: &Sides<T>, values: impl Fn(&[T]) -> Values) -> Vec<Test> {
    let sides = [(Side::Any, &sides.any), (Side::None, &sides.none)];
    let asking = sides.into_iter().filter(|(_, all)| !all.is_empty());
    asking.map(|(side, all)| Test { side, values: values(all) }).collect()
}

impl OfRequest {
    fn hold(&self, asked: &Asked<'_>, reading: Reading<'_>, side: Side) -> bool {
        let of_token = |texts: &Texts, all: Vec<&str>| all.into_iter().any(|text| texts.match_text(text));
        match self {
            Self::Principals(texts) => has(texts, asked.token.and_then(|token| token.principal())),
            Self::Presenter(texts) => has(texts, asked.token.and_then(|token| token.presenter())),
            Self::Audiences(texts) => asked.token.is_some_and(|token| of_token(texts, token.audiences())),
            Self::Claim { path, texts } => asked.token.is_some_and(|token| of_token(texts, token.claim(path))),
            Self::Hosts(hosts) => hosts.hold(asked),
            Self::Methods(texts) => texts.match_text(asked.request.method()),
            Self::Paths(paths) => paths.hold(match side {
                Side::Any => reading.any,
                Side::None => reading.none,
            }),
            Self::Header(header) => header.holds(asked),
        }
    }
}

impl Hosts {
    fn new(all: &[TextMatch]) -> Self {
        let (ported, plain): (Vec<TextMatch>, Vec<TextMatch>) = all.iter().map(host).partition(names_a_port);
        let some = |all: Vec<TextMatch>| (!all.is_empty()).then(|| Texts::new(&all));
        Self { plain: some(plain), ported: some(ported) }
    }

    fn hold(&self, asked: &Asked<'_>) -> bool {
        self.plain.as_ref().is_some_and(|texts| texts.match_text(&asked.host))
            || self.ported.as_ref().is_some_and(|texts| texts.match_text(asked.authority()))
    }
}

/// A pattern of hosts, spelt as hosts are when they are compared: in lower case, without a dot at the end, an address in its one spelling.
fn host(pattern: &TextMatch) -> TextMatch {
    let undotted = |text: &str| text.strip_suffix('.').filter(|text| !text.is_empty()).unwrap_or(text).into();
    match lower(pattern) {
        TextMatch::Exact(text) => TextMatch::Exact(match Authority::read(&text) {
            Ok(authority) => {
                let host = match authority.host() {
                    Host::Name(name) => name.to_owned(),
                    Host::Ip(ip) => Host::Ip(canonical_ip(ip)).to_string(),
                };
                authority.port().map_or(host.clone(), |port| format!("{host}:{port}")).into()
            }
            // No host of a request is such.
            Err(_) => text,
        }),
        TextMatch::Suffix(text) => TextMatch::Suffix(undotted(&text)),
        other @ (TextMatch::Prefix(_) | TextMatch::Present) => other,
    }
}

/// Whether a pattern has a colon that is not of an IPv6 address.
fn names_a_port(pattern: &TextMatch) -> bool {
    match pattern {
        TextMatch::Exact(text) | TextMatch::Prefix(text) | TextMatch::Suffix(text) => {
            let behind = text.rsplit_once(']').map_or(&**text, |(_, behind)| behind);
            !behind.starts_with('[') && behind.contains(':')
        }
        TextMatch::Present => false,
    }
}

fn lower(pattern: &TextMatch) -> TextMatch {
    let lower = |text: &str| text.to_ascii_lowercase().into();
    match pattern {
        TextMatch::Exact(text) => TextMatch::Exact(lower(text)),
        TextMatch::Prefix(text) => TextMatch::Prefix(lower(text)),
        TextMatch::Suffix(text) => TextMatch::Suffix(lower(text)),
        TextMatch::Present => TextMatch::Present,
    }
}

impl Header {
    fn new(name: &str, all: &[TextMatch]) -> Self {
        Self { name: Named::new(name), texts: Texts::new(all), present: all.contains(&TextMatch::Present) }
    }

    fn holds(&self, asked: &Asked<'_>) -> bool {
        self.name.value(asked).is_some_and(|value| self.present || self.texts.match_text(&value))
    }
}

impl Named {
    pub(super) fn new(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            ":authority" | "host" => Self::Authority,
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":scheme" => Self::Scheme,
            other => Self::Other(other.into()),
        }
    }

    /// Its value. Bytes that are no text are shown as what they are not, which no pattern names.
    pub(super) fn value<'a>(&self, asked: &'a Asked<'_>) -> Option<Cow<'a, str>> {
        let request = asked.request;
        Some(match self {
            Self::Authority => request.authority().as_str().into(),
            Self::Method => request.method().into(),
            Self::Path => request.target(),
            Self::Scheme => request.scheme().into(),
            Self::Other(name) => match request.header(name)? {
                Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
                Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
            },
        })
    }
}
