//! Why a rule does not match, in the words its author wrote.

use std::fmt::Display;

use weir_model::{Clause, Match, PolicyRule, Sides};

use crate::{
    facts::Facts,
    rule::{Asked, Field, Miss, Side},
};

/// Most values, and most alternatives, that are named.
const NAMED: usize = 5;

/// Why a rule does not match.
pub(super) fn why(rule: &PolicyRule, miss: &Miss, facts: &Facts<'_>) -> String {
    let alternatives = rule.clauses.get(miss.clause).map_or(&[][..], |Clause(all)| all);
    let words = |(one, asked): (&Match, &Option<Asked>)| match asked {
        Some(asked) => unmet(one, *asked, facts),
        None => "an alternative that asks nothing matches nothing".to_owned(),
    };
    let all: Vec<String> = alternatives.iter().zip(&miss.asked).map(words).collect();
    if all.is_empty() { "a clause without alternatives matches nothing".to_owned() } else { listed(&all, "; ", "; ") }
}

/// What is asked, and what is there instead.
fn unmet(one: &Match, asked: Asked, facts: &Facts<'_>) -> String {
    let wanted = wanted(one, asked);
    let found = found(asked.field, facts);
    match asked.side {
        Side::Any => format!("{}: want {}, {found}", name(asked), listed(&wanted, ", ", " or ")),
        Side::None => format!("{}: want none of {}, {found}", name(asked), listed(&wanted, ", ", " or ")),
    }
}

/// The name of a field in Istio's `Source`, `Operation` and `Condition`.
fn name(asked: Asked) -> &'static str {
    match (asked.field, asked.side) {
        (Field::Namespaces, Side::Any) => "namespaces",
        (Field::Namespaces, Side::None) => "notNamespaces",
        (Field::Principals, Side::Any) => "principals",
        (Field::Principals, Side::None) => "notPrincipals",
        (Field::ServiceAccounts, Side::Any) => "serviceAccounts",
        (Field::ServiceAccounts, Side::None) => "notServiceAccounts",
        (Field::TrustDomains, Side::Any) => "trustDomains",
        (Field::TrustDomains, Side::None) => "notTrustDomains",
        (Field::SourceIps, Side::Any) => "ipBlocks",
        (Field::SourceIps, Side::None) => "notIpBlocks",
        (Field::DestinationIps, Side::Any) => "destination.ip",
        (Field::DestinationIps, Side::None) => "destination.ip, notValues",
        (Field::DestinationPorts, Side::Any) => "ports",
        (Field::DestinationPorts, Side::None) => "notPorts",
    }
}

fn wanted(one: &Match, asked: Asked) -> Vec<String> {
    match asked.field {
        Field::Namespaces => texts(&one.namespaces, asked.side),
        Field::Principals => texts(&one.principals, asked.side),
        Field::ServiceAccounts => {
            let all = side(&one.service_accounts, asked.side).iter();
            all.take(NAMED + 1).map(|(namespace, account)| format!("{namespace}/{account}")).collect()
        }
        Field::TrustDomains => texts(&one.trust_domains, asked.side),
        Field::SourceIps => texts(&one.source_ips, asked.side),
        Field::DestinationIps => texts(&one.destination_ips, asked.side),
        Field::DestinationPorts => texts(&one.destination_ports, asked.side),
    }
}

fn side<T>(sides: &Sides<T>, side: Side) -> &[T] {
    match side {
        Side::Any => &sides.any,
        Side::None => &sides.none,
    }
}

/// No more than are named, and one that says that there are more: a list may have a million.
fn texts<T: Display>(sides: &Sides<T>, asked: Side) -> Vec<String> {
    side(sides, asked).iter().take(NAMED + 1).map(T::to_string).collect()
}

fn found(field: Field, facts: &Facts<'_>) -> String {
    let Some(identity) = facts.identity else {
        return match field {
            Field::SourceIps | Field::DestinationIps | Field::DestinationPorts => place(field, facts),
            Field::Namespaces | Field::Principals | Field::ServiceAccounts | Field::TrustDomains => {
                "peer has no identity (plaintext)".to_owned()
            }
        };
    };
    match field {
        Field::Namespaces => format!("peer is of {}", identity.namespace()),
        Field::Principals => format!("peer is {}", facts.principal.unwrap_or_default()),
        Field::ServiceAccounts => format!("peer is {}/{}", identity.namespace(), identity.service_account()),
        Field::TrustDomains => format!("peer is of {}", identity.trust_domain()),
        Field::SourceIps | Field::DestinationIps | Field::DestinationPorts => place(field, facts),
    }
}

fn place(field: Field, facts: &Facts<'_>) -> String {
    match field {
        Field::DestinationIps => format!("it goes to {}", facts.destination),
        Field::DestinationPorts => format!("it goes to {}", facts.port),
        Field::Namespaces | Field::Principals | Field::ServiceAccounts | Field::TrustDomains | Field::SourceIps => {
            format!("peer is at {}", facts.source)
        }
    }
}

/// The first of them, and whether there are more.
pub(crate) fn listed(all: &[String], between: &str, last: &str) -> String {
    match all {
        [head @ .., end] if (1..NAMED).contains(&head.len()) => format!("{}{last}{end}", head.join(between)),
        _ if all.len() > NAMED => format!("{}{between}…", all[..NAMED].join(between)),
        _ => all.join(between),
    }
}
