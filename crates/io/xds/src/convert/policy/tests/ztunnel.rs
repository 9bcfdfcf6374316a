//! What a ztunnel makes of policies: istio/ztunnel, `src/rbac.rs` and `src/state.rs`.

use std::net::IpAddr;

use prost::Message;

use super::vocabulary::Connection;
use crate::proto::{Action, AddressRange, Authorization, Clause, Match, Rule, StringMatch, StringMatchType};

/// What it does with a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DryRuns {
    /// Such a policy decides nothing.
    DecideNothing,
    /// It is one like any other.
    AreEnforced,
}

/// Whether it lets the connection in.
pub(super) fn admits(policies: &[Authorization], connection: &Connection, dry_runs: DryRuns) -> bool {
    let enforced = |policy: &&Authorization| dry_runs == DryRuns::AreEnforced || !policy.dry_run;
    let of = |action: Action| policies.iter().filter(enforced).filter(move |one| one.action == i32::from(action));
    let matches = |policy: &Authorization| matches(policy, connection);
    !of(Action::Deny).any(matches) && (of(Action::Allow).next().is_none() || of(Action::Allow).any(matches))
}

fn matches(policy: &Authorization, connection: &Connection) -> bool {
    policy.rules.iter().any(|rule| {
        let rule = Rule::decode(rule.clone()).unwrap();
        rule.clauses.iter().all(|clause| {
            let clause = Clause::decode(clause.clone()).unwrap();
            let mut matches = clause.matches.iter().map(|one| Match::decode(one.clone()).unwrap());
            clause.matches.is_empty() || matches.any(|one| one_matches(&one, connection))
        })
    })
}

fn one_matches(one: &Match, connection: &Connection) -> bool {
    let identity = connection.identity.as_ref();
    let namespace = identity.map_or("", |identity| identity.namespace().as_str());
    let principal = identity.map(ToString::to_string).unwrap_or_default();
    let principal = principal.strip_prefix("spiffe://");
    let is_namespace = |text: &StringMatch| is(text, namespace);
    let is_principal = |text: &StringMatch| principal.is_some_and(|principal| is(text, principal));
    let is_account = |account: &crate::proto::ServiceAccountMatch| {
        identity.is_some_and(|identity| {
            let (namespace, name) = (identity.namespace().as_str(), identity.service_account().as_str());
            namespace == account.namespace && name == account.service_account
        })
    };
    let is_port = |port: &u32| *port == u32::from(connection.port.number());
    *one != Match::default()
        && within(&one.destination_ips, &one.not_destination_ips, |range| contains(range, connection.destination))
        && within(&one.source_ips, &one.not_source_ips, |range| contains(range, connection.source))
        && within(&one.destination_ports, &one.not_destination_ports, is_port)
        && within(&one.service_accounts, &one.not_service_accounts, is_account)
        && within(&one.principals, &one.not_principals, is_principal)
        && within(&one.namespaces, &one.not_namespaces, is_namespace)
}

fn within<T>(any: &[T], none: &[T], is: impl Fn(&T) -> bool) -> bool {
    (any.is_empty() || any.iter().any(&is)) && !none.iter().any(&is)
}

fn is(text: &StringMatch, value: &str) -> bool {
    match text.match_type.as_ref().unwrap() {
        StringMatchType::Exact(exact) => value == exact,
        StringMatchType::Prefix(prefix) => value.starts_with(prefix),
        StringMatchType::Suffix(suffix) => value.ends_with(suffix),
        StringMatchType::Presence(()) => !value.is_empty(),
    }
}

fn contains(range: &AddressRange, ip: IpAddr) -> bool {
    let four = <[u8; 4]>::try_from(range.address.as_slice()).map(IpAddr::from);
    let start = four.unwrap_or_else(|_| <[u8; 16]>::try_from(range.address.as_slice()).unwrap().into());
    ipnet::IpNet::new(start, u8::try_from(range.length).unwrap()).unwrap().contains(&ip)
}
