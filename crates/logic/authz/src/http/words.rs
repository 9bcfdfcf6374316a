//! Why a rule does not match, in the words its author wrote.

use std::fmt::Display;

use weir_model::Sides;
use weir_request::Normalization;

use super::{
    ask::{Named, Test},
    facts::{Asked, Reading, Seen},
    policy::{HttpClause, HttpField, HttpMatch, HttpRule, Part},
};
use crate::{explain::listed, rule::Side};

/// Most values that are named.
const NAMED: usize = 5;
/// Most of a value that a client sent, in characters.
const LONGEST: usize = 100;

/// Why a rule does not match in that reading: the first clause that does not hold, and of each of its alternatives what does not.
pub(super) fn why(rule: &HttpRule, level: Normalization, seen: &Seen<'_>, reading: Reading<'_>) -> String {
    let asking = Asking { level, seen, reading };
    rule.clauses.iter().find_map(|clause| asking.unmet(clause)).unwrap_or_default()
}

/// Why a rule is not asked at all.
pub(super) const NO_REQUEST: &str = "it asks for facts of requests, and the connection is no HTTP";

struct Asking<'a> {
    level: Normalization,
    seen: &'a Seen<'a>,
    reading: Reading<'a>,
}

impl Asking<'_> {
    /// None if it holds.
    fn unmet(&self, clause: &HttpClause) -> Option<String> {
        let words: Option<Vec<String>> = clause.alternatives.iter().map(|one| self.first(one, clause.part)).collect();
        let words = words?;
        match words.is_empty() {
            true => Some("a clause without alternatives matches nothing".to_owned()),
            false => Some(listed(&words, "; ", "; ")),
        }
    }

    /// What does not hold of an alternative; none if all does.
    fn first(&self, HttpMatch(fields): &HttpMatch, part: Part) -> Option<String> {
        let mut tests =
            fields.iter().flat_map(|field| Test::all(field, self.level).into_iter().map(move |one| (field, one)));
        if tests.clone().next().is_none() {
            return Some("an alternative that asks nothing matches nothing".to_owned());
        }
        let (field, test) = tests.find(|(_, test)| !test.holds(self.seen, self.reading))?;
        let wanted = listed(&wanted(field, test.side), ", ", " or ");
        let (name, found) = (name(field, part, test.side), self.found(field, test.side));
        Some(match test.side {
            Side::Any => format!("{name}: want {wanted}, {found}"),
            Side::None => format!("{name}: want none of {wanted}, {found}"),
        })
    }

    /// What is there instead.
    fn found(&self, field: &HttpField, side: Side) -> String {
        let facts = &self.seen.connection;
        let Some(identity) = facts.identity else { return self.found_beside(field, side) };
        match field {
            HttpField::Principals(_) => format!("peer is {}", facts.principal.unwrap_or_default()),
            HttpField::Namespaces(_) => format!("peer is of {}", identity.namespace()),
            HttpField::ServiceAccounts(_) => {
                format!("peer is {}/{}", identity.namespace(), identity.service_account())
            }
            HttpField::TrustDomains(_) => format!("peer is of {}", identity.trust_domain()),
            HttpField::SourceIps(_)
            | HttpField::RemoteIps(_)
            | HttpField::DestinationIps(_)
            | HttpField::DestinationPorts(_)
            | HttpField::RequestPrincipals(_)
            | HttpField::Hosts(_)
            | HttpField::Methods(_)
            | HttpField::Paths(_)
            | HttpField::Header { .. }
            | HttpField::Audiences(_)
            | HttpField::Presenter(_)
            | HttpField::Claim { .. }
            | HttpField::Sni(_) => self.found_beside(field, side),
        }
    }

    /// The same of what is not the peer's identity.
    fn found_beside(&self, field: &HttpField, side: Side) -> String {
        let (facts, request) = (&self.seen.connection, self.seen.request.as_ref());
        let of = |found: &dyn Fn(&Asked<'_>) -> String| request.map_or_else(|| "there is no request".to_owned(), found);
        match field {
            HttpField::Principals(_)
            | HttpField::Namespaces(_)
            | HttpField::ServiceAccounts(_)
            | HttpField::TrustDomains(_) => "peer has no identity (plaintext)".to_owned(),
            HttpField::SourceIps(_) => format!("peer is at {}", facts.source),
            HttpField::RemoteIps(_) => format!("client is at {}", self.seen.remote),
            HttpField::DestinationIps(_) => format!("it goes to {}", facts.destination),
            HttpField::DestinationPorts(_) => format!("it goes to {}", facts.port),
            HttpField::Sni(_) => match &self.seen.sni {
                Some(sni) => format!("TLS asks for {}", quoted(sni)),
                None => "TLS asks for no name".to_owned(),
            },
            HttpField::Hosts(_) => of(&|asked| format!("it is for {}", asked.authority())),
            HttpField::Methods(_) => of(&|asked| format!("it is {}", asked.request.method())),
            HttpField::Paths(_) => of(&|asked| self.path(asked, side)),
            HttpField::Header { name, .. } => of(&|asked| match Named::new(name).value(asked) {
                Some(value) => format!("it is {}", quoted(&value)),
                None => "there is no such header".to_owned(),
            }),
            HttpField::RequestPrincipals(_) => of(&|asked| said(asked, "principal", |token| token.principal())),
            HttpField::Presenter(_) => of(&|asked| said(asked, "presenter", |token| token.presenter())),
            HttpField::Audiences(_) => {
                of(&|asked| of_token(asked, "audiences", |token| token.audiences().into_iter().map(quoted).collect()))
            }
            HttpField::Claim { path, .. } => {
                of(&|asked| of_token(asked, "such claim", |token| token.claim(path).into_iter().map(quoted).collect()))
            }
        }
    }

    fn path(&self, asked: &Asked<'_>, side: Side) -> String {
        let path = asked.request.path().as_str();
        let read = match side {
            Side::Any => self.reading.any,
            Side::None => self.reading.none,
        };
        if read == path {
            format!("it is {}", cut(path))
        } else {
            format!("it is {}, read as {}", cut(path), cut(read))
        }
    }
}

fn said(asked: &Asked<'_>, what: &str, text: fn(&dyn super::Token) -> Option<&str>) -> String {
    of_token(asked, what, |token| text(token).map(quoted).into_iter().collect())
}

fn of_token(asked: &Asked<'_>, what: &str, texts: impl Fn(&dyn super::Token) -> Vec<String>) -> String {
    match asked.token.map(texts) {
        None => "there is no token".to_owned(),
        Some(none) if none.is_empty() => format!("the token has no {what}"),
        Some(texts) => format!("the token says {}", listed(&texts, ", ", " and ")),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The name of a field in Istio's `Source`, `Operation` and `Condition`.
fn name(field: &HttpField, part: Part, side: Side) -> String {
    let (plain, key) = names(field);
    match (part, side) {
        (Part::When, Side::Any) => key,
        (Part::When, Side::None) => format!("{key}, notValues"),
        (Part::From | Part::To, Side::Any) => plain.to_owned(),
        (Part::From | Part::To, Side::None) => {
            let (first, rest) = plain.split_at(1);
            format!("not{}{rest}", first.to_ascii_uppercase())
        }
    }
}

/// The name as a field, and as a key of a condition; of what is only one of the two, that.
fn names(field: &HttpField) -> (&'static str, String) {
    let (plain, key) = match field {
        HttpField::Principals(_) => ("principals", "source.principal"),
        HttpField::Namespaces(_) => ("namespaces", "source.namespace"),
        HttpField::ServiceAccounts(_) => ("serviceAccounts", "source.serviceAccount"),
        HttpField::TrustDomains(_) => ("trustDomains", "source.trustDomain"),
        HttpField::SourceIps(_) => ("ipBlocks", "source.ip"),
        HttpField::RemoteIps(_) => ("remoteIpBlocks", "remote.ip"),
        HttpField::DestinationIps(_) => ("destination.ip", "destination.ip"),
        HttpField::DestinationPorts(_) => ("ports", "destination.port"),
        HttpField::RequestPrincipals(_) => ("requestPrincipals", "request.auth.principal"),
        HttpField::Hosts(_) => ("hosts", "hosts"),
        HttpField::Methods(_) => ("methods", "methods"),
        HttpField::Paths(_) => ("paths", "paths"),
        HttpField::Audiences(_) => ("request.auth.audiences", "request.auth.audiences"),
        HttpField::Presenter(_) => ("request.auth.presenter", "request.auth.presenter"),
        HttpField::Sni(_) => ("connection.sni", "connection.sni"),
        HttpField::Header { name, .. } => return ("request.headers", format!("request.headers[{name}]")),
        HttpField::Claim { path, .. } => {
            return ("request.auth.claims", format!("request.auth.claims[{}]", path.join("][")));
        }
    };
    (plain, key.to_owned())
}

/// No more than are named, and one that says that there are more: a list may have a million.
fn wanted(field: &HttpField, side: Side) -> Vec<String> {
    match field {
        HttpField::Principals(sides)
        | HttpField::Namespaces(sides)
        | HttpField::TrustDomains(sides)
        | HttpField::RequestPrincipals(sides)
        | HttpField::Hosts(sides)
        | HttpField::Methods(sides)
        | HttpField::Header { values: sides, .. }
        | HttpField::Audiences(sides)
        | HttpField::Presenter(sides)
        | HttpField::Claim { values: sides, .. }
        | HttpField::Sni(sides) => texts(sides, side),
        HttpField::SourceIps(sides) | HttpField::RemoteIps(sides) | HttpField::DestinationIps(sides) => {
            texts(sides, side)
        }
        HttpField::DestinationPorts(sides) => texts(sides, side),
        HttpField::Paths(sides) => texts(sides, side),
        HttpField::ServiceAccounts(sides) => {
            let all = of_side(sides, side).iter().take(NAMED + 1);
            all.map(|(namespace, account)| format!("{namespace}/{account}")).collect()
        }
    }
}

fn texts<T: Display>(sides: &Sides<T>, side: Side) -> Vec<String> {
    of_side(sides, side).iter().take(NAMED + 1).map(T::to_string).collect()
}

fn of_side<T>(sides: &Sides<T>, side: Side) -> &[T] {
    match side {
        Side::Any => &sides.any,
        Side::None => &sides.none,
    }
}
