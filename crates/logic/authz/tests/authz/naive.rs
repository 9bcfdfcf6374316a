//! The meaning of policies, written down as plainly as it can be: what the compiled form is compared with.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use weir_model::{Clause, Match, Policy, PolicyAction, PolicyRule, Sides};

use crate::scene::Connection;

/// What is decided, as [`crate::scene::short`] says it.
pub(crate) fn decide(policies: &[Policy], connection: &Connection) -> String {
    let mut all: Vec<&Policy> = policies.iter().filter(|one| !one.dry_run).collect();
    all.sort_by_key(|one| &one.name);
    for one in all.iter().filter(|one| one.action == PolicyAction::Deny || one.rejected.is_some()) {
        if one.rejected.is_some() {
            return format!("deny by {}, rejected", one.name.name());
        }
        if let Some(index) = matching(one, connection) {
            return format!("deny by {}[{index}]", one.name.name());
        }
    }
    let mut asked = false;
    for one in all.iter().filter(|one| one.action == PolicyAction::Allow) {
        asked = true;
        if let Some(index) = matching(one, connection) {
            return format!("allow by {}[{index}]", one.name.name());
        }
    }
    if asked { "deny".to_owned() } else { "allow".to_owned() }
}

/// The first rule that matches.
pub(crate) fn matching(policy: &Policy, connection: &Connection) -> Option<usize> {
    policy.rules.iter().position(|rule| rule_matches(rule, connection))
}

fn rule_matches(rule: &PolicyRule, connection: &Connection) -> bool {
    rule.clauses.iter().all(|Clause(alternatives)| alternatives.iter().any(|one| match_holds(one, connection)))
}

fn match_holds(one: &Match, connection: &Connection) -> bool {
    let id = connection.identity.as_ref();
    let principal = id.map(|id| id.to_string().trim_start_matches("spiffe://").to_owned());
    !one.is_empty()
        && within(&one.namespaces, |text| id.is_some_and(|id| text.matches(id.namespace().as_str())))
        && within(&one.principals, |text| principal.as_ref().is_some_and(|principal| text.matches(principal)))
        && within(&one.trust_domains, |text| id.is_some_and(|id| text.matches(id.trust_domain().as_str())))
        && within(&one.service_accounts, |(namespace, name)| {
            id.is_some_and(|id| id.namespace() == namespace && id.service_account() == name)
        })
        && within(&one.source_ips, |range| has(range, connection.address))
        && within(&one.destination_ips, |range| has(range, connection.destination.address))
        && within(&one.destination_ports, |port| *port == connection.destination.port)
}

fn within<T>(sides: &Sides<T>, is: impl Fn(&T) -> bool) -> bool {
    (sides.any.is_empty() || sides.any.iter().any(&is)) && !sides.none.iter().any(&is)
}

/// An IPv4 address mapped into IPv6 is the IPv4 address, and so are ranges of them.
pub(crate) fn has(range: &IpNet, address: IpAddr) -> bool {
    let address = address.to_canonical();
    match range {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            let v4 = v6.addr().to_ipv4_mapped().unwrap();
            IpNet::V4(Ipv4Net::new(v4, v6.prefix_len() - 96).unwrap()).contains(&address)
        }
        IpNet::V4(_) | IpNet::V6(_) => range.contains(&address),
    }
}
