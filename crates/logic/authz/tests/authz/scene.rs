//! Policies and peers in few words.

use std::sync::Arc;

use weir_authz::{Compiled, Decision, Destination, Ground, Peer, PolicySet};
use weir_model::{
    Clause, Match, Namespace, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource,
    Port, RulePlace, ServiceAccount, Sides, SpiffeId, TextMatch,
};

pub(crate) fn policy(name: &str, action: PolicyAction, rules: Vec<PolicyRule>) -> Policy {
    Policy {
        name: PolicyName::new("shop".parse().unwrap(), name).unwrap(),
        scope: PolicyScope::Workloads,
        action,
        dry_run: false,
        rules,
        rejected: None,
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
    }
}

pub(crate) fn allow(name: &str, rules: Vec<PolicyRule>) -> Policy {
    policy(name, PolicyAction::Allow, rules)
}

pub(crate) fn deny(name: &str, rules: Vec<PolicyRule>) -> Policy {
    policy(name, PolicyAction::Deny, rules)
}

pub(crate) fn audit(name: &str, rules: Vec<PolicyRule>) -> Policy {
    policy(name, PolicyAction::Audit, rules)
}

pub(crate) fn dry(policy: Policy) -> Policy {
    Policy { dry_run: true, ..policy }
}

pub(crate) fn rejected(policy: Policy) -> Policy {
    Policy { rejected: Some("spec.rules[0].from[0]: unknown field \"principal\"".into()), ..policy }
}

/// In the file `shop.yaml`, with its rules on the lines 10, 20, 30, …
pub(crate) fn filed(mut policy: Policy) -> Policy {
    policy.source.file = Some("shop.yaml".into());
    for (rule, n) in policy.rules.iter_mut().zip(0..) {
        rule.place = RulePlace { index: Some(n), line: Some((n + 1) * 10) };
    }
    policy
}

/// A rule of clauses of alternatives.
pub(crate) fn rule(clauses: Vec<Vec<Match>>) -> PolicyRule {
    let place = RulePlace { index: Some(0), line: None };
    PolicyRule { place, clauses: clauses.into_iter().map(Clause).collect() }
}

/// A rule of one match.
pub(crate) fn one(one: Match) -> PolicyRule {
    rule(vec![vec![one]])
}

/// A rule of nothing, which matches everything.
pub(crate) fn anything() -> PolicyRule {
    rule(Vec::new())
}

pub(crate) fn all<T: std::str::FromStr>(texts: &[&str]) -> Vec<T>
where
    T::Err: std::fmt::Debug,
{
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Both sides, from words of which those that begin with `!` are not to be.
pub(crate) fn sides<T: std::str::FromStr>(words: &[&str]) -> Sides<T>
where
    T::Err: std::fmt::Debug,
{
    let (none, any): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with('!'));
    let none: Vec<&str> = none.iter().map(|word| word.trim_start_matches('!')).collect();
    Sides { any: all(&any), none: all(&none) }
}

pub(crate) fn principals(words: &[&str]) -> Match {
    Match { principals: sides(words), ..Match::default() }
}

pub(crate) fn namespaces(words: &[&str]) -> Match {
    Match { namespaces: sides(words), ..Match::default() }
}

pub(crate) fn trust_domains(words: &[&str]) -> Match {
    Match { trust_domains: sides(words), ..Match::default() }
}

pub(crate) fn accounts(any: &[(&str, &str)], none: &[(&str, &str)]) -> Match {
    let parse = |all: &[(&str, &str)]| -> Vec<(Namespace, ServiceAccount)> {
        all.iter().map(|(namespace, account)| (namespace.parse().unwrap(), account.parse().unwrap())).collect()
    };
    Match { service_accounts: Sides { any: parse(any), none: parse(none) }, ..Match::default() }
}

pub(crate) fn from(words: &[&str]) -> Match {
    Match { source_ips: sides(words), ..Match::default() }
}

pub(crate) fn to(words: &[&str]) -> Match {
    Match { destination_ips: sides(words), ..Match::default() }
}

pub(crate) fn ports(words: &[&str]) -> Match {
    Match { destination_ports: sides(words), ..Match::default() }
}

pub(crate) fn exact(text: &str) -> TextMatch {
    TextMatch::Exact(text.into())
}

/// Who connects, whereto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) address: std::net::IpAddr,
    pub(crate) destination: Destination,
}

impl Connection {
    pub(crate) fn peer(&self) -> Peer<'_> {
        Peer { identity: self.identity.as_ref(), address: self.address }
    }
}

/// From `cluster.local/ns/web/sa/front` or from `plain`, at an address.
pub(crate) fn connection(who: &str, address: &str, destination: &str) -> Connection {
    let destination: std::net::SocketAddr = destination.parse().unwrap();
    Connection {
        identity: (who != "plain").then(|| format!("spiffe://{who}").parse().unwrap()),
        address: address.parse().unwrap(),
        destination: Destination { address: destination.ip(), port: Port::new(destination.port()).unwrap() },
    }
}

pub(crate) fn set(policies: &[Policy]) -> PolicySet {
    PolicySet::new(policies.iter().cloned().map(|one| Arc::new(Compiled::new(one))), None)
}

/// What decided, in short: `allow`, `allow by NAME[RULE]`, `deny`, `deny by NAME[RULE]`, `deny by NAME, rejected`, `deny by NAME, unknown`.
pub(crate) fn short(decision: &Decision<'_>) -> String {
    let (verdict, ground) = match decision {
        Decision::Allow(ground) => ("allow", ground),
        Decision::Deny(ground) => ("deny", ground),
    };
    match ground {
        Ground::NothingAsked | Ground::NotAllowed { .. } => verdict.to_owned(),
        Ground::Rule { policy, rule } => {
            let index = policy.rules.iter().position(|one| std::ptr::eq(one, *rule)).unwrap();
            format!("{verdict} by {}[{index}]", policy.name.name())
        }
        Ground::Rejected { policy, .. } => format!("{verdict} by {}, rejected", policy.name.name()),
        Ground::Unknown(name) => format!("{verdict} by {}, unknown", name.name()),
    }
}
