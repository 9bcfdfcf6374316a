//! A policy in a dump: what its author wrote, and what was understood of it.

use serde_json::{Value, json};
use weir_model::{Match, Policy, PolicyAction, PolicyRule, PolicyScope, Sides, Workload};

/// The policy.
pub fn policy(policy: &Policy) -> Value {
    json!({
        "name": policy.name.name(),
        "namespace": policy.name.namespace.as_str(),
        "kind": policy.source.kind.to_string(),
        "source": &*policy.source.name,
        "file": policy.source.file.as_deref(),
        "scope": format!("{:?}", policy.scope),
        "action": match policy.action {
            PolicyAction::Allow => "ALLOW",
            PolicyAction::Deny => "DENY",
            PolicyAction::Audit => "AUDIT",
        },
        "dryRun": policy.dry_run,
        "rejected": policy.rejected.as_deref(),
        "rules": policy.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

/// Whether it covers the workload.
pub fn covers(policy: &Policy, workload: &Workload) -> bool {
    match policy.scope {
        PolicyScope::Mesh => true,
        PolicyScope::Namespace => policy.name.namespace == workload.namespace,
        PolicyScope::Workloads => workload.policies.contains(&policy.name),
    }
}

fn rule(rule: &PolicyRule) -> Value {
    let alternatives = |clause: &weir_model::Clause| match clause.0.as_slice() {
        [] => "nothing".to_owned(),
        [one] => facts(one),
        many => format!("({})", many.iter().map(facts).collect::<Vec<_>>().join(" or ")),
    };
    let clauses: Vec<String> = rule.clauses.iter().map(alternatives).collect();
    let matches = if clauses.is_empty() { "everything".to_owned() } else { clauses.join(" and ") };
    json!({ "index": rule.place.index, "line": rule.place.line, "matches": matches })
}

fn facts(one: &Match) -> String {
    let account = |(namespace, name): &(_, _)| format!("{namespace}/{name}");
    let mut all = Vec::new();
    side(&mut all, "namespace", &one.namespaces, ToString::to_string);
    side(&mut all, "principal", &one.principals, ToString::to_string);
    side(&mut all, "service account", &one.service_accounts, account);
    side(&mut all, "trust domain", &one.trust_domains, ToString::to_string);
    side(&mut all, "source", &one.source_ips, ToString::to_string);
    side(&mut all, "destination", &one.destination_ips, ToString::to_string);
    side(&mut all, "port", &one.destination_ports, ToString::to_string);
    match all.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        many => format!("({})", many.join(" and ")),
    }
}

fn side<T>(all: &mut Vec<String>, what: &str, sides: &Sides<T>, text: impl Fn(&T) -> String) {
    let list = |values: &[T]| values.iter().map(&text).collect::<Vec<_>>().join(", ");
    if !sides.any.is_empty() {
        all.push(format!("{what} in [{}]", list(&sides.any)));
    }
    if !sides.none.is_empty() {
        all.push(format!("{what} not in [{}]", list(&sides.none)));
    }
}

#[cfg(test)]
pub(super) fn rule_text(one: &PolicyRule) -> String {
    rule(one)["matches"].as_str().unwrap_or_default().to_owned()
}
