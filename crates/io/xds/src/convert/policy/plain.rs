//! Rules as Istio's form can say them.
//!
//! That form knows no trust domains, a reader of it takes a peer without an identity for one whose namespace is the empty text, and compares a
//! range of IPv4 addresses mapped into IPv6 with none of them. What it cannot say exactly is bent in the direction that refuses: a rule that
//! allows becomes narrower, one that denies wider.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weir_model::{Clause, Match, PolicyRule, Sides, TextMatch};

/// Most principals times trust domains of a match that are brought together. Beyond, the match is bent more than it had to be.
const MAX_MEETINGS: usize = 1 << 20;

/// What becomes of a rule that cannot be said exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bend {
    /// It matches less.
    Narrower,
    /// It matches more.
    Wider,
}

/// Whether the form says exactly what the rule says.
pub(super) fn fits(rule: &PolicyRule) -> bool {
    let matches = |clause: &Clause| !clause.0.is_empty() && clause.0.iter().all(match_fits);
    rule.clauses.iter().all(matches)
}

/// The clauses of a rule in which what the form cannot say is bent.
pub(super) fn bent(rule: &PolicyRule, bend: Bend) -> Vec<Clause> {
    let clause = |clause: &Clause| {
        let mut matches: Vec<Match> = clause.0.iter().filter_map(|one| bent_match(one, bend)).collect();
        if matches.is_empty() {
            // On the wire a clause without matches matches everything, and a match that says nothing nothing.
            matches.push(Match::default());
        }
        Clause(matches)
    };
    rule.clauses.iter().map(clause).collect()
}

/// The range, of IPv4 if it is one of IPv4 addresses mapped into IPv6.
pub(super) fn canonical(range: IpNet) -> IpNet {
    mapped(&range).map_or(range, IpNet::V4)
}

fn mapped(range: &IpNet) -> Option<Ipv4Net> {
    let (IpAddr::V6(address), Some(length)) = (range.addr(), range.prefix_len().checked_sub(96)) else { return None };
    Ipv4Net::new(address.to_ipv4_mapped()?, length).ok()
}

fn match_fits(one: &Match) -> bool {
    let text = |text: &TextMatch| match text {
        TextMatch::Exact(text) | TextMatch::Prefix(text) | TextMatch::Suffix(text) => !text.is_empty(),
        TextMatch::Present => true,
    };
    let texts = |sides: &Sides<TextMatch>| sides.any.iter().chain(&sides.none).all(text);
    let ranges = |sides: &Sides<IpNet>| sides.any.iter().chain(&sides.none).all(|range| mapped(range).is_none());
    one.trust_domains.is_empty()
        && texts(&one.namespaces)
        && texts(&one.principals)
        && ranges(&one.source_ips)
        && ranges(&one.destination_ips)
}

/// None if it can match nothing.
fn bent_match(one: &Match, bend: Bend) -> Option<Match> {
    if one.is_empty() {
        return None;
    }
    let mut plain = Match {
        namespaces: kept(&one.namespaces, namespace, namespace)?,
        principals: principals(one, bend)?,
        service_accounts: one.service_accounts.clone(),
        trust_domains: Sides::default(),
        source_ips: ranges(&one.source_ips, bend)?,
        destination_ips: ranges(&one.destination_ips, bend)?,
        destination_ports: one.destination_ports.clone(),
    };
    if plain.is_empty() {
        plain.source_ips = Sides::any([Ipv4Net::default().into(), Ipv6Net::default().into()]);
    }
    Some(plain)
}

/// The values of which something is left; nothing if there were some that are wanted and none is left.
fn kept<T>(sides: &Sides<T>, wanted: impl Fn(&T) -> Option<T>, unwanted: impl Fn(&T) -> Option<T>) -> Option<Sides<T>> {
    let any: Vec<T> = sides.any.iter().filter_map(wanted).collect();
    let none = sides.none.iter().filter_map(unwanted).collect();
    (sides.any.is_empty() || !any.is_empty()).then_some(Sides { any, none })
}

/// A namespace is never the empty text, and begins and ends with it.
fn namespace(text: &TextMatch) -> Option<TextMatch> {
    match text {
        TextMatch::Exact(exact) => (!exact.is_empty()).then(|| text.clone()),
        TextMatch::Prefix(part) | TextMatch::Suffix(part) if part.is_empty() => Some(TextMatch::Present),
        TextMatch::Prefix(_) | TextMatch::Suffix(_) | TextMatch::Present => Some(text.clone()),
    }
}

fn ranges(sides: &Sides<IpNet>, bend: Bend) -> Option<Sides<IpNet>> {
    let unless =
        |left_out: Bend| move |range: &IpNet| (mapped(range).is_none() || bend != left_out).then(|| canonical(*range));
    kept(sides, unless(Bend::Narrower), unless(Bend::Wider))
}

/// The principals, and the trust domains as the beginnings of some.
fn principals(one: &Match, bend: Bend) -> Option<Sides<TextMatch>> {
    let none = one.trust_domains.none.iter().filter_map(|text| unwanted(text, bend));
    let none = one.principals.none.iter().cloned().chain(none).collect();
    if one.trust_domains.any.is_empty() {
        return Some(Sides { any: one.principals.any.clone(), none });
    }
    let anybody = [TextMatch::Present];
    let wanted = if one.principals.any.is_empty() { &anybody[..] } else { &one.principals.any };
    let any = if wanted.len().saturating_mul(one.trust_domains.any.len()) <= MAX_MEETINGS {
        let domains: Vec<Domain<'_>> = one.trust_domains.any.iter().filter_map(Domain::of).collect();
        let met = wanted.iter().flat_map(|principal| domains.iter().filter_map(|domain| domain.meet(principal, bend)));
        met.collect::<BTreeSet<TextMatch>>().into_iter().collect()
    } else {
        match bend {
            Bend::Narrower => Vec::new(),
            Bend::Wider => wanted.to_vec(),
        }
    };
    (!any.is_empty()).then_some(Sides { any, none })
}

/// The principals of trust domains that are not wanted.
fn unwanted(text: &TextMatch, bend: Bend) -> Option<TextMatch> {
    match (Domain::of(text)?, bend) {
        (Domain::Is(domain), _) => Some(within(domain)),
        (Domain::Begins(start), _) => Some(TextMatch::Prefix(start.into())),
        (Domain::Any, _) | (Domain::Ends(_), Bend::Narrower) => Some(TextMatch::Present),
        (Domain::Ends(_), Bend::Wider) => None,
    }
}

fn within(domain: &str) -> TextMatch {
    TextMatch::Prefix(format!("{domain}/").into())
}

/// A trust domain as it is asked for, if one can be so: none is empty or has a slash.
enum Domain<'d> {
    Is(&'d str),
    Begins(&'d str),
    Ends(&'d str),
    Any,
}

impl<'d> Domain<'d> {
    fn of(text: &'d TextMatch) -> Option<Self> {
        match text {
            TextMatch::Present => Some(Self::Any),
            TextMatch::Exact(text) | TextMatch::Prefix(text) | TextMatch::Suffix(text) if text.contains('/') => None,
            TextMatch::Exact(text) => (!text.is_empty()).then_some(Self::Is(text)),
            TextMatch::Prefix(text) | TextMatch::Suffix(text) if text.is_empty() => Some(Self::Any),
            TextMatch::Prefix(text) => Some(Self::Begins(text)),
            TextMatch::Suffix(text) => Some(Self::Ends(text)),
        }
    }

    fn is(&self, domain: &str) -> bool {
        match self {
            Self::Is(is) => domain == *is,
            Self::Begins(start) => domain.starts_with(start),
            Self::Ends(end) => domain.ends_with(end),
            Self::Any => !domain.is_empty(),
        }
    }

    /// What is such a principal in such a domain.
    fn meet(&self, principal: &TextMatch, bend: Bend) -> Option<TextMatch> {
        let unsaid = || match bend {
            Bend::Narrower => None,
            Bend::Wider => Some(principal.clone()),
        };
        match (principal, self) {
            (TextMatch::Exact(text), _) => {
                let (domain, _) = text.split_once('/')?;
                self.is(domain).then(|| principal.clone())
            }
            (_, Self::Any) => Some(principal.clone()),
            (TextMatch::Prefix(text), _) if text.contains('/') => {
                let (domain, _) = text.split_once('/')?;
                self.is(domain).then(|| principal.clone())
            }
            (TextMatch::Prefix(text), Self::Is(domain)) => domain.starts_with(&**text).then(|| within(domain)),
            (TextMatch::Prefix(text), Self::Begins(start)) if text.starts_with(start) => Some(principal.clone()),
            (TextMatch::Prefix(text), Self::Begins(start)) => {
                start.starts_with(&**text).then(|| TextMatch::Prefix((*start).into()))
            }
            (TextMatch::Present, Self::Is(domain)) => Some(within(domain)),
            (TextMatch::Present, Self::Begins(start)) => Some(TextMatch::Prefix((*start).into())),
            (TextMatch::Prefix(_) | TextMatch::Present, Self::Ends(_))
            | (TextMatch::Suffix(_), Self::Is(_) | Self::Begins(_) | Self::Ends(_)) => unsaid(),
        }
    }
}
