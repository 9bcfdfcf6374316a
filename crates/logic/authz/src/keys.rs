//! By what a rule is found: facts of which a connection must have one for the rule to match.

use std::{hash::BuildHasher, net::IpAddr};

use foldhash::fast::FixedState;
use ipnet::IpNet;
use weir_model::{Clause, Match, PolicyRule, TextMatch};

use crate::{facts::Facts, ranges::canonical_net};

/// A rule that would be filed under more keys than these is asked each time: it answers fast by itself.
const MOST: usize = 64;

/// A fact of a connection by which rules are found, or a piece of one: a prefix is found by the head of a text that is as long as it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Probe {
    Principal,
    PrincipalHead(u16),
    PrincipalTail(u16),
    Account,
    Namespace,
    NamespaceHead(u16),
    NamespaceTail(u16),
    Port,
    Source4(u8),
    Source6(u8),
}

/// What a probe must find, as its hash: the rule is asked anyway. Who writes policies may choose them to collide; then they cost as much
/// as a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) probe: Probe,
    pub(crate) hash: u64,
}

impl Key {
    fn of_text(probe: Probe, text: &str) -> Self {
        Self { probe, hash: hash((probe, text)) }
    }

    fn of_source(range: IpNet) -> Self {
        match canonical_net(range) {
            IpNet::V4(v4) => Self::of_bits(Probe::Source4(v4.prefix_len()), v4.network().to_bits().into()),
            IpNet::V6(v6) => Self::of_bits(Probe::Source6(v6.prefix_len()), v6.network().to_bits()),
        }
    }

    fn of_bits(probe: Probe, bits: u128) -> Self {
        Self { probe, hash: hash((probe, bits)) }
    }
}

fn hash(value: impl std::hash::Hash) -> u64 {
    FixedState::default().hash_one(value)
}

impl Probe {
    /// The hash of what it finds of a connection.
    pub(crate) fn find(self, facts: &Facts<'_>) -> Option<u64> {
        let namespace = || facts.identity.map(|identity| identity.namespace().as_str());
        let text = |text: Option<&str>| Some(Key::of_text(self, text?).hash);
        match self {
            Self::Principal => text(facts.principal),
            Self::PrincipalHead(len) => text(facts.principal.and_then(|all| head(all, len))),
            Self::PrincipalTail(len) => text(facts.principal.and_then(|all| tail(all, len))),
            Self::Account => {
                let identity = facts.identity?;
                Some(hash((self, identity.namespace().as_str(), identity.service_account().as_str())))
            }
            Self::Namespace => text(namespace()),
            Self::NamespaceHead(len) => text(namespace().and_then(|all| head(all, len))),
            Self::NamespaceTail(len) => text(namespace().and_then(|all| tail(all, len))),
            Self::Port => Some(hash((self, facts.port))),
            Self::Source4(len) => match facts.source {
                IpAddr::V4(v4) => {
                    let kept = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                    Some(Key::of_bits(self, (v4.to_bits() & kept).into()).hash)
                }
                IpAddr::V6(_) => None,
            },
            Self::Source6(len) => match facts.source {
                IpAddr::V4(_) => None,
                IpAddr::V6(v6) => {
                    let kept = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                    Some(Key::of_bits(self, v6.to_bits() & kept).hash)
                }
            },
        }
    }
}

pub(crate) fn head(text: &str, len: u16) -> Option<&str> {
    text.get(..len.into())
}

pub(crate) fn tail(text: &str, len: u16) -> Option<&str> {
    text.get(text.len().checked_sub(len.into())?..)
}

/// How much a field tells connections apart, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Principals,
    Accounts,
    Sources,
    Namespaces,
    Ports,
}

/// The keys of the clause that tells connections apart best. Without such a clause, none.
pub(crate) fn keys(rule: &PolicyRule) -> Option<Box<[Key]>> {
    let best = rule.clauses.iter().filter_map(of_clause).min_by_key(|(rank, keys)| (*rank, keys.len()))?;
    Some(best.1.into())
}

/// Each alternative must have keys. One that asks nothing matches nothing, and a clause without others has no key at all.
fn of_clause(Clause(alternatives): &Clause) -> Option<(Option<Rank>, Vec<Key>)> {
    let (mut worst, mut all) = (None, Vec::new());
    for one in alternatives.iter().filter(|one| !one.is_empty()) {
        let (rank, keys) = of_match(one)?;
        worst = worst.max(Some(rank));
        all.extend(keys);
    }
    (all.len() <= MOST).then_some((worst, all))
}

fn of_match(one: &Match) -> Option<(Rank, Vec<Key>)> {
    let principal = Probes { whole: Probe::Principal, head: Probe::PrincipalHead, tail: Probe::PrincipalTail };
    let namespace = Probes { whole: Probe::Namespace, head: Probe::NamespaceHead, tail: Probe::NamespaceTail };
    [
        (Rank::Principals, of_field(&one.principals.any, |pattern| principal.of_pattern(pattern))),
        (
            Rank::Accounts,
            of_field(&one.service_accounts.any, |(namespace, account)| {
                let probe = Probe::Account;
                Some(Key { probe, hash: hash((probe, namespace.as_str(), account.as_str())) })
            }),
        ),
        (Rank::Sources, of_field(&one.source_ips.any, |range| Some(Key::of_source(*range)))),
        (Rank::Namespaces, of_field(&one.namespaces.any, |pattern| namespace.of_pattern(pattern))),
        (
            Rank::Ports,
            of_field(&one.destination_ports.any, |port| {
                Some(Key { probe: Probe::Port, hash: hash((Probe::Port, *port)) })
            }),
        ),
    ]
    .into_iter()
    .find_map(|(rank, keys)| Some((rank, keys?)))
}

/// Every value must have a key.
fn of_field<T>(any: &[T], key: impl Fn(&T) -> Option<Key>) -> Option<Vec<Key>> {
    if any.is_empty() || any.len() > MOST { None } else { any.iter().map(key).collect() }
}

/// The probes of a text.
struct Probes {
    whole: Probe,
    head: fn(u16) -> Probe,
    tail: fn(u16) -> Probe,
}

impl Probes {
    fn of_pattern(&self, pattern: &TextMatch) -> Option<Key> {
        let (probe, text) = match pattern {
            TextMatch::Exact(text) => (self.whole, text),
            TextMatch::Prefix(text) => ((self.head)(u16::try_from(text.len()).ok()?), text),
            TextMatch::Suffix(text) => ((self.tail)(u16::try_from(text.len()).ok()?), text),
            TextMatch::Present => return None,
        };
        Some(Key::of_text(probe, text))
    }
}
