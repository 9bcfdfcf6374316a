//! Random policies and peers out of small vocabularies, so that they often meet.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample::select};
use weir_authz::Destination;
use weir_model::{Clause, Match, Policy, PolicyAction, PolicyRule, Port, RulePlace, Sides, SpiffeId, TextMatch};

use crate::scene::{Connection, exact, policy, rejected};

const DOMAINS: [&str; 2] = ["cluster.local", "cluster.lo"];
const NAMESPACES: [&str; 3] = ["a", "ab", "ba"];
const ACCOUNTS: [&str; 3] = ["x", "xy", "yx"];
const ADDRESSES: [&str; 8] =
    ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "192.168.0.1", "fd00::1", "fd00::1:0:0:0:1", "2001:db8::1"];
const PORTS: [u16; 3] = [80, 81, 443];

fn words(words: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    select(words).prop_map(str::to_owned)
}

fn principal() -> impl Strategy<Value = String> {
    (words(&DOMAINS), words(&NAMESPACES), words(&ACCOUNTS))
        .prop_map(|(domain, namespace, account)| format!("{domain}/ns/{namespace}/sa/{account}"))
}

/// A pattern made of a text: it, its head, its tail, anything.
fn pattern(text: impl Strategy<Value = String>) -> impl Strategy<Value = TextMatch> {
    (text, 0..6_u8, any::<prop::sample::Index>()).prop_map(|(text, kind, cut)| {
        let cut = cut.index(text.len() + 1);
        match kind {
            0 => TextMatch::Prefix(text[..cut].into()),
            1 => TextMatch::Suffix(text[cut..].into()),
            2 => TextMatch::Present,
            _ => exact(&text),
        }
    })
}

/// A list that is mostly short, and sometimes so long that it is kept in another form, or not indexed.
fn list<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T> + Clone + 'static,
    filler: fn(usize) -> T,
) -> impl Strategy<Value = Vec<T>> {
    let long = (0..100_usize, vec(value.clone(), 0..3))
        .prop_map(move |(n, some)| (0..n).map(filler).chain(some).collect::<Vec<T>>());
    prop_oneof![6 => vec(value, 1..4), 1 => long]
}

fn either<T: std::fmt::Debug + Clone>(
    values: impl Strategy<Value = Vec<T>> + Clone,
) -> impl Strategy<Value = Sides<T>> {
    let side = prop_oneof![9 => Just(None), 1 => values.clone().prop_map(Some)];
    let many = prop_oneof![4 => Just(None), 1 => values.prop_map(Some)];
    (many, side).prop_map(|(any, none)| Sides { any: any.unwrap_or_default(), none: none.unwrap_or_default() })
}

fn texts(text: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = Sides<TextMatch>> {
    let filler = |n: usize| match n % 3 {
        0 => TextMatch::Prefix(format!("filler-{n}").into()),
        1 => TextMatch::Suffix(format!("{n}-filler").into()),
        _ => exact(&format!("filler-{n}")),
    };
    either(list(pattern(text).boxed(), filler).boxed())
}

fn accounts() -> impl Strategy<Value = Sides<(weir_model::Namespace, weir_model::ServiceAccount)>> {
    let value = (words(&NAMESPACES), words(&ACCOUNTS))
        .prop_map(|(namespace, account)| (namespace.parse().unwrap(), account.parse().unwrap()));
    either(list(value.boxed(), |n| ("a".parse().unwrap(), format!("filler-{n}").parse().unwrap())).boxed())
}

pub(crate) fn address() -> impl Strategy<Value = IpAddr> {
    (select(&ADDRESSES[..]), any::<bool>()).prop_map(|(text, disguise)| match text.parse().unwrap() {
        IpAddr::V4(v4) if disguise => v4.to_ipv6_mapped().into(),
        address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
    })
}

/// Ranges around an address, with the bits beyond their length left in.
pub(crate) fn range() -> impl Strategy<Value = IpNet> {
    const LENGTHS: [u8; 6] = [0, 8, 15, 16, 24, 32];
    (address(), select(&LENGTHS[..])).prop_map(|(address, len)| {
        let extra = match address {
            IpAddr::V4(_) => 0,
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() || len == 32 => 96,
            IpAddr::V6(_) => 0,
        };
        IpNet::new(address, len + extra).unwrap()
    })
}

fn ranges() -> impl Strategy<Value = Sides<IpNet>> {
    let filler = |n: usize| format!("172.16.{}.{}/32", n % 7, n).parse().unwrap();
    either(list(range().boxed(), filler).boxed())
}

fn ports() -> impl Strategy<Value = Sides<Port>> {
    either(list(port().boxed(), |n| Port::new(1000 + u16::try_from(n).unwrap()).unwrap()).boxed())
}

fn port() -> impl Strategy<Value = Port> {
    select(&PORTS[..]).prop_map(|port| Port::new(port).unwrap())
}

/// A match, which may be empty.
pub(crate) fn a_match() -> impl Strategy<Value = Match> {
    (texts(words(&NAMESPACES)), texts(principal()), accounts(), texts(words(&DOMAINS)), ranges(), ranges(), ports())
        .prop_map(
            |(
                namespaces,
                principals,
                service_accounts,
                trust_domains,
                source_ips,
                destination_ips,
                destination_ports,
            )| {
                Match {
                    namespaces,
                    principals,
                    service_accounts,
                    trust_domains,
                    source_ips,
                    destination_ips,
                    destination_ports,
                }
            },
        )
}

pub(crate) fn a_rule() -> impl Strategy<Value = PolicyRule> {
    let clause = prop_oneof![1 => Just(Vec::new()), 30 => vec(a_match(), 1..3)].prop_map(Clause);
    prop_oneof![1 => Just(Vec::new()), 20 => vec(clause, 1..3)]
        .prop_map(|clauses| PolicyRule { place: RulePlace::default(), clauses })
}

/// Policies of different names, in no order.
pub(crate) fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let actions = [PolicyAction::Allow, PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Audit];
    let one = (select(actions.to_vec()), vec(a_rule(), 0..5), 0..30_u8);
    vec(one, 0..8).prop_map(|all| {
        let name = |n: usize| format!("p{}", n * 5 % 8);
        let all = all.into_iter().enumerate().map(|(n, (action, rules, flags))| {
            let made = Policy { dry_run: flags % 5 == 1, ..policy(&name(n), action, rules) };
            if flags == 0 { rejected(made) } else { made }
        });
        all.collect()
    })
}

pub(crate) fn connection() -> impl Strategy<Value = Connection> {
    let identity = principal().prop_map(|text| format!("spiffe://{text}").parse::<SpiffeId>().unwrap());
    (option::weighted(0.8, identity), address(), address(), port()).prop_map(|(identity, address, to, port)| {
        Connection { identity, address, destination: Destination { address: to, port } }
    })
}
