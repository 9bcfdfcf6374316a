//! What became of each policy object, said again when it is something else.

use std::{collections::BTreeSet, hash::BuildHasher, mem};

use weir_manifest::{Labels, ObjectKey};
use weir_model::{PolicyAction, PolicyName};

use super::{
    Compiler,
    attached::Reached,
    index::Index,
    policies::{Level, Width},
};
use crate::{
    Configs,
    policy::{
        self, Declared, Says,
        authorization::{OfRequests, Remainder, remainder},
        status::{
            ConditionKind, ConditionReason, Enforcer, Placement, PolicyCondition, PolicyStatus, enforced, shortened,
        },
    },
};

impl Compiler {
    /// The policy objects of which something else is to be said than was said last, or nothing any more because they are gone. Sorted
    /// by namespace and name.
    pub fn take_statuses(&mut self) -> Vec<(ObjectKey, Option<PolicyStatus>)> {
        let mut changed = Vec::new();
        for name in mem::take(&mut self.marked.statuses) {
            let now = self.index.status(&name, &self.configs);
            let hash = now.as_ref().map(|now| self.said.hasher().hash_one(now));
            let before = match hash {
                Some(hash) => self.said.insert(name.clone(), hash),
                None => self.said.remove(&name),
            };
            if before != hash {
                changed.push((policy::object(&name), now));
            }
        }
        changed
    }

    /// What became of all policy objects, sorted by namespace and name.
    pub fn statuses(&self) -> Vec<PolicyStatus> {
        self.index.policies.keys().filter_map(|name| self.index.status(name, &self.configs)).collect()
    }
}

/// What is said of an object, but for what is the same for all.
struct Account {
    kind: ConditionKind,
    holds: bool,
    reason: ConditionReason,
    message: String,
    placements: Vec<Placement>,
}

impl Index {
    fn status(&self, name: &PolicyName, configs: &Configs) -> Option<PolicyStatus> {
        let declared = self.policies.get(name)?;
        let account = match &declared.stale {
            Some(why) => stale(declared, why, self.reached(declared, name, configs)),
            None => self.account(declared, name, configs),
        };
        let Account { kind, holds, reason, message, placements } = account;
        let accepted = PolicyCondition { kind, holds, reason, message: shortened(&message) };
        Some(PolicyStatus {
            kind: declared.kind.to_string(),
            namespace: name.namespace.to_string(),
            name: declared.own.to_string(),
            generation: declared.generation,
            conditions: vec![accepted, enforced(&placements)],
            placements,
        })
    }

    fn account(&self, declared: &Declared, name: &PolicyName, configs: &Configs) -> Account {
        match &declared.says {
            Says::Rules { policy, written, of_requests } => rules(policy.action, *written, of_requests),
            Says::Waypoints => match declared.unsupported_at_waypoint() {
                Some(policy) => {
                    let why = policy.rejected.as_deref().unwrap_or_default();
                    let denied = denied(ConditionReason::UnsupportedValue, why, policy.dry_run);
                    Account { kind: ConditionKind::WaypointAccepted, ..denied }
                }
                None => at_waypoints(self.reached(declared, name, configs)),
            },
            Says::Unsupported(policy) => {
                let why = policy.rejected.as_deref().unwrap_or_default();
                denied(ConditionReason::UnsupportedValue, why, policy.dry_run)
            }
            Says::Illegal { why, policy: Some(policy) } => denied(ConditionReason::Invalid, why, policy.dry_run),
            Says::Illegal { why, policy: None } => {
                Account { kind: ConditionKind::WaypointAccepted, ..denied(ConditionReason::Invalid, why, false) }
            }
            Says::Modes(modes) => match self.decided_by(declared, name) {
                Some((older, Share::All)) => {
                    let why = format!("the older {older} decides");
                    let placements = whole(Enforcer::Nowhere, Some(why.clone()));
                    account(false, ConditionReason::Conflicted, why, placements)
                }
                Some((older, Share::Some)) => {
                    let why = format!("where both select a pod the older {older} decides");
                    let placements = whole(Enforcer::Agent, Some(why.clone()));
                    account(true, ConditionReason::Conflicted, why, placements)
                }
                None if modes.disables() => {
                    let why = "DISABLE is PERMISSIVE here: an agent never refuses a peer because it proves who it is";
                    let placements = whole(Enforcer::Agent, Some(why.to_owned()));
                    account(true, ConditionReason::UnsupportedValue, why.to_owned(), placements)
                }
                None => accepted(whole(Enforcer::Agent, None)),
            },
        }
    }

    /// Which other object of its level decides in its place, and for how many of its pods.
    fn decided_by(&self, declared: &Declared, name: &PolicyName) -> Option<(String, Share)> {
        let rank = declared.rank(name);
        let rivals = self.rivals(name).into_iter().filter(|rival| *rival < rank);
        let shares = rivals.filter_map(|rival| {
            let other = self.policies.get(&rival.name)?;
            Some((share(declared, other)?, rival, other))
        });
        // The oldest of those that decide for all, or else of those that decide for some.
        let (share, rival, other) = shares.min_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)))?;
        Some((format!("{} {}/{}", other.kind, rival.name.namespace, other.own), share))
    }
}

/// How many, most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    All,
    Some,
}

/// How many of the pods that one covers another of its level covers, as far as selectors tell.
fn share(one: &Declared, other: &Declared) -> Option<Share> {
    if Level::of(one).is_some_and(|level| level.width == Width::Whole) {
        return Some(Share::All);
    }
    let none = Labels::new();
    let (own, others) = (one.selector.as_ref().unwrap_or(&none), other.selector.as_ref().unwrap_or(&none));
    if others.iter().any(|(key, value)| own.get(key).is_some_and(|own| own != value)) {
        return None;
    }
    let everywhere = other.over.is_none() || other.over == one.over;
    let all = everywhere && others.iter().all(|(key, value)| own.get(key) == Some(value));
    Some(if all { Share::All } else { Share::Some })
}

/// One for each rule; without rules one for the whole.
fn indices(written: u32) -> Vec<Option<u32>> {
    if written == 0 { vec![None] } else { (0..written).map(Some).collect() }
}

fn whole(enforcer: Enforcer, why: Option<String>) -> Vec<Placement> {
    vec![Placement { rule: None, enforcer, why }]
}

fn account(holds: bool, reason: ConditionReason, message: String, placements: Vec<Placement>) -> Account {
    Account { kind: ConditionKind::ZtunnelAccepted, holds, reason, message, placements }
}

/// The message is Istio's.
fn accepted(placements: Vec<Placement>) -> Account {
    account(true, ConditionReason::Accepted, "attached to ztunnel".to_owned(), placements)
}

fn rules(action: PolicyAction, written: u32, of_requests: &[OfRequests]) -> Account {
    let place = |rule: Option<u32>| {
        let found = of_requests.iter().find(|one| Some(one.rule) == rule);
        match (found, remainder(action)) {
            (None, _) => Placement { rule, enforcer: Enforcer::Agent, why: None },
            (Some(found), Remainder::Nothing) => {
                let why = format!("left out: {} of requests, which agents do not see", are(&found.fields));
                Placement { rule, enforcer: Enforcer::Nowhere, why: Some(why) }
            }
            (Some(found), Remainder::Connection) => {
                let what = are(&found.fields);
                let why = format!("stricter than written: {what} of requests, so all that matches the rest is denied");
                Placement { rule, enforcer: Enforcer::Agent, why: Some(why) }
            }
        }
    };
    let placements: Vec<Placement> = indices(written).into_iter().map(place).collect();
    if of_requests.is_empty() {
        return accepted(placements);
    }
    let effect = match action {
        PolicyAction::Allow => "rules of ALLOW that ask for them admit nothing",
        PolicyAction::Audit => "rules of AUDIT that ask for them audit nothing",
        PolicyAction::Deny => "rules of DENY that ask for them deny every connection that matches the rest of them",
    };
    let mut fields: Vec<&str> = of_requests.iter().flat_map(|one| one.fields.split(", ")).collect();
    fields.sort_unstable();
    fields.dedup();
    let message = format!("agents see connections and not requests (found: {}): {effect}", fields.join(", "));
    account(true, ConditionReason::UnsupportedValue, message, placements)
}

fn are(fields: &str) -> String {
    format!("{fields} {}", if fields.contains(", ") { "are" } else { "is" })
}

fn denied(reason: ConditionReason, why: &str, dry_run: bool) -> Account {
    let effect = match dry_run {
        true => "a dry run, so nothing is denied for it",
        false => "all that it covers is denied",
    };
    let why = why.lines().collect::<Vec<_>>().join("; ");
    let placement = Some(shortened(&format!("{effect}: {why}")));
    account(false, reason, format!("{effect}: {why}"), whole(Enforcer::Nowhere, placement))
}

/// A policy with targetRefs that can be enforced as it was written, where its targets have a waypoint. The message is Istio's, if all do.
fn at_waypoints(reached: Vec<Reached>) -> Account {
    let (mut by, mut placements, mut missed) = (BTreeSet::new(), Vec::new(), Vec::new());
    for one in reached {
        match one {
            Reached::By(enforcer) => drop(by.insert(enforcer)),
            Reached::Nowhere { reason, why } => missed.push((reason, why)),
        }
    }
    let bound: Vec<String> = by.iter().map(bound_to).collect();
    placements.extend(by.into_iter().map(|enforcer| Placement { rule: None, enforcer, why: None }));
    if missed.is_empty() && placements.is_empty() {
        missed.push((ConditionReason::TargetNotFound, "it names no target".to_owned()));
    }
    let texts: Vec<&str> = missed.iter().map(|(_, why)| &**why).collect();
    let message = bound.iter().map(String::as_str).chain(texts).collect::<Vec<_>>().join("; ");
    let reason = match (missed.first(), bound.is_empty()) {
        (None, _) => ConditionReason::Accepted,
        (Some(_), false) => ConditionReason::PartiallyInvalid,
        (Some((reason, _)), true) => *reason,
    };
    placements.extend(missed.into_iter().flat_map(|(_, why)| whole(Enforcer::Nowhere, Some(shortened(&why)))));
    Account { kind: ConditionKind::WaypointAccepted, holds: !bound.is_empty(), reason, message, placements }
}

/// Who enforces it over some target; nobody, if there is no such.
fn enforcers(reached: Vec<Reached>) -> Vec<Enforcer> {
    let by = reached.into_iter().filter_map(|one| match one {
        Reached::By(enforcer) => Some(enforcer),
        Reached::Nowhere { .. } => None,
    });
    let by: BTreeSet<Enforcer> = by.collect();
    if by.is_empty() { vec![Enforcer::Nowhere] } else { by.into_iter().collect() }
}

fn bound_to(enforcer: &Enforcer) -> String {
    match enforcer {
        Enforcer::Waypoint { namespace, name } => format!("bound to {namespace}/{name}"),
        Enforcer::Agent | Enforcer::Waypoints { .. } | Enforcer::Nowhere => format!("bound to {enforcer}"),
    }
}

/// The object is not legal now, and what it was before still is in force.
fn stale(declared: &Declared, why: &str, reached: Vec<Reached>) -> Account {
    let why = why.lines().collect::<Vec<_>>().join("; ");
    let message = format!("what it said before stays in force: {why}");
    let (kind, by) = match declared.says {
        Says::Waypoints => (ConditionKind::WaypointAccepted, enforcers(reached)),
        Says::Rules { .. } | Says::Modes(_) | Says::Unsupported(_) | Says::Illegal { .. } => {
            (ConditionKind::ZtunnelAccepted, vec![Enforcer::Agent])
        }
    };
    let placements = by.into_iter().flat_map(|by| whole(by, Some(shortened(&message)))).collect();
    Account { kind, holds: false, reason: ConditionReason::Invalid, message, placements }
}
