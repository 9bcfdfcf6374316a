//! AuthorizationPolicy: as much of it as can be decided of a connection.
//!
//! What asks for facts of a request is never dropped from a rule that admits, for the rule would admit more: such a rule is left
//! out. From a rule that denies it is dropped, for the rule then denies more.

use std::sync::Arc;

use ipnet::IpNet;
use weir_manifest::{AuthorizationAction, AuthorizationRule, Condition, Operation, Source};
use weir_model::{Clause, Match, PolicyAction, PolicyRule, RulePlace, Sides};

/// Most names of fields that a status repeats of one rule.
const NAMED: usize = 8;

/// A rule that asks for facts of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfRequests {
    /// Its index.
    pub(crate) rule: u32,
    /// The fields that do, as their author wrote them.
    pub(crate) fields: Arc<str>,
}

/// What a rule that asks for facts of requests is at an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remainder {
    /// Nothing: the rule is left out.
    Nothing,
    /// What it asks of the connection.
    Connection,
}

/// What an agent does with a rule that asks for facts of requests. Waypoints enforce what is attached to what they serve, and never a policy
/// with a selector, as Istio has it: so none is ever left to one, whatever the waypoint governs.
pub(crate) fn remainder(action: PolicyAction) -> Remainder {
    match action {
        PolicyAction::Allow | PolicyAction::Audit => Remainder::Nothing,
        PolicyAction::Deny => Remainder::Connection,
    }
}

/// What becomes of what matches; none for an action that no agent takes.
pub(super) fn action(written: &AuthorizationAction) -> Option<PolicyAction> {
    match written {
        AuthorizationAction::Allow => Some(PolicyAction::Allow),
        AuthorizationAction::Deny => Some(PolicyAction::Deny),
        AuthorizationAction::Audit => Some(PolicyAction::Audit),
        AuthorizationAction::Custom { provider: _ } => None,
    }
}

/// The rules as agents enforce them, and those of them that ask for more than agents know.
pub(super) fn rules(action: PolicyAction, written: Vec<AuthorizationRule>) -> (Vec<PolicyRule>, Vec<OfRequests>) {
    let (mut rules, mut of_requests) = (Vec::new(), Vec::new());
    for (index, rule) in (0_u32..).zip(written) {
        let line = u32::try_from(rule.line).ok().filter(|line| *line > 0);
        let place = RulePlace { index: Some(index), line };
        let (clauses, fields) = parts(rule);
        if fields.is_empty() {
            rules.push(PolicyRule { place, clauses });
            continue;
        }
        of_requests.push(OfRequests { rule: index, fields: listed(fields) });
        match remainder(action) {
            Remainder::Connection => rules.push(PolicyRule { place, clauses }),
            Remainder::Nothing => {}
        }
    }
    (rules, of_requests)
}

/// What a rule asks of a connection, and the fields by which it asks for more.
fn parts(rule: AuthorizationRule) -> (Vec<Clause>, Vec<String>) {
    let AuthorizationRule { line: _, from, to, when } = rule;
    let (mut clauses, mut fields) = (Vec::new(), Vec::new());
    clauses.extend(alternatives(from.into_iter().map(|one| source(one, &mut fields)).collect()));
    clauses.extend(alternatives(to.into_iter().map(|one| operation(one, &mut fields)).collect()));
    for one in when {
        clauses.extend(alternatives(vec![condition(one, &mut fields)]));
    }
    (clauses, fields)
}

/// One of these; none if one of them asks for nothing, and so matches everything.
fn alternatives(matches: Vec<Match>) -> Option<Clause> {
    (!matches.is_empty() && !matches.iter().any(Match::is_empty)).then_some(Clause(matches))
}

fn source(source: Source, fields: &mut Vec<String>) -> Match {
    let Source {
        principals,
        request_principals,
        namespaces,
        service_accounts,
        trust_domains,
        ip_blocks,
        remote_ip_blocks,
    } = source;
    asks(&request_principals, "requestPrincipals", fields);
    asks(&remote_ip_blocks, "remoteIpBlocks", fields);
    Match { namespaces, principals, service_accounts, trust_domains, source_ips: ip_blocks, ..Match::default() }
}

fn operation(operation: Operation, fields: &mut Vec<String>) -> Match {
    let Operation { hosts, ports, methods, paths } = operation;
    asks(&hosts, "hosts", fields);
    asks(&methods, "methods", fields);
    asks(&paths, "paths", fields);
    Match { destination_ports: ports, ..Match::default() }
}

fn condition(condition: Condition, fields: &mut Vec<String>) -> Match {
    let nothing = Match::default();
    match condition {
        Condition::SourceIp(source_ips) => Match { source_ips, ..nothing },
        Condition::SourceNamespace(namespaces) => Match { namespaces, ..nothing },
        Condition::SourcePrincipal(principals) => Match { principals, ..nothing },
        Condition::SourceServiceAccount(service_accounts) => Match { service_accounts, ..nothing },
        Condition::SourceTrustDomain(trust_domains) => Match { trust_domains, ..nothing },
        Condition::DestinationIp(destination_ips) => Match { destination_ips, ..nothing },
        Condition::DestinationPort(destination_ports) => Match { destination_ports, ..nothing },
        Condition::RemoteIp(Sides::<IpNet> { .. }) => {
            fields.push("remote.ip".to_owned());
            nothing
        }
        Condition::Request { key, values: _ } => {
            fields.push(key.to_string());
            nothing
        }
    }
}

/// Notes the field if it asks for something: `paths`, or `notPaths` for what it must not be.
fn asks<T>(sides: &Sides<T>, name: &str, fields: &mut Vec<String>) {
    if !sides.any.is_empty() {
        fields.push(name.to_owned());
    }
    if !sides.none.is_empty() {
        let (first, rest) = name.split_at(1);
        fields.push(format!("not{}{rest}", first.to_ascii_uppercase()));
    }
}

fn listed(mut fields: Vec<String>) -> Arc<str> {
    fields.sort();
    fields.dedup();
    let more = fields.len().saturating_sub(NAMED);
    fields.truncate(NAMED);
    match more {
        0 => fields.join(", ").into(),
        more => format!("{} and {more} more", fields.join(", ")).into(),
    }
}

#[cfg(test)]
#[path = "authorization/tests.rs"]
mod tests;
