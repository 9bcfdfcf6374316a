//! A decision with everything that was looked at: for people, and for programs.

mod text;
mod words;

pub use text::labelled;

pub(crate) use text::consider;
pub(crate) use words::listed;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use weir_model::{Policy, PolicyAction, PolicyRule};

use crate::{
    compiled::Compiled,
    facts::{Facts, Room},
    ground::{Decision, Ground},
    peer::{Destination, Peer},
    set::PolicySet,
};

/// A decision, and every policy that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What was decided.
    pub verdict: Ruling,
    /// Why.
    pub reason: String,
    /// The policy that decided, if one did.
    pub decided_by: Option<Decider>,
    /// Who connects.
    pub peer: Peered,
    /// Where it goes.
    pub destination: SocketAddr,
    /// What would be decided if the policies that decide nothing were in force too; none if there are no such.
    pub dry_run: Option<Foreseen>,
    /// A policy that the workload names and nobody has said anything of, written `namespace/name`.
    pub unknown: Option<String>,
    /// What whoever asked knows beside this.
    pub notes: Vec<String>,
    /// Every policy over the workload, in the order they are asked.
    pub policies: Vec<Considered>,
}

/// Whether a connection may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Ruling {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// What becomes of a connection that a policy matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// It may enter.
    Allow,
    /// It may not.
    Deny,
    /// It is logged and counted.
    Audit,
}

/// Who connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peered {
    /// Its identity as policies write it. None in plaintext.
    pub identity: Option<String>,
    /// Its address.
    pub address: IpAddr,
}

/// A policy that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decider {
    /// The kind of object.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// The file it is declared in.
    pub file: Option<String>,
    /// The index of its rule in `spec.rules`; none if no rule of its author's decided.
    pub index: Option<u32>,
    /// The line of the rule in the file, from 1.
    pub line: Option<u32>,
}

/// What would be decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Foreseen {
    /// What.
    pub verdict: Ruling,
    /// Why.
    pub reason: String,
}

/// A policy over the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    /// The kind of object.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// The file it is declared in.
    pub file: Option<String>,
    /// What becomes of what it matches.
    pub action: Action,
    /// It decides nothing.
    pub dry_run: bool,
    /// It is the one that decided.
    pub decides: bool,
    /// Whether it matches.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether a policy matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Outcome {
    /// A rule does: the first that does.
    Matches {
        /// Its index in `spec.rules`; none of what is no rule of the author's.
        index: Option<u32>,
        /// Its line in the file, from 1.
        line: Option<u32>,
    },
    /// No rule does.
    DoesNotMatch {
        /// Why not, of each of its rules.
        rules: Vec<Missed>,
    },
    /// It cannot be enforced as it was written: it denies everything, unless it decides nothing.
    Rejected {
        /// Why.
        why: String,
    },
}

/// A rule that does not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missed {
    /// Its index in `spec.rules`; none of what is no rule of the author's.
    pub index: Option<u32>,
    /// Its line in the file, from 1.
    pub line: Option<u32>,
    /// The first that does not hold.
    pub why: String,
}

impl PolicySet {
    /// The decision on a connection, and everything that was looked at.
    pub fn explain(&self, peer: &Peer<'_>, destination: &Destination) -> Explanation {
        let mut room = Room::default();
        let facts = Facts::new(peer, destination, &mut room);
        let decided = self.decide(peer, destination);
        let (verdict, ground) = ruling(&decided);
        let foreseen = self.dry_run(peer, destination).map(|decision| {
            let (verdict, ground) = ruling(&decision);
            Foreseen { verdict, reason: ground.to_string() }
        });
        Explanation {
            verdict,
            reason: ground.to_string(),
            decided_by: decider(ground),
            peer: Peered { identity: facts.principal.map(str::to_owned), address: facts.source },
            destination: SocketAddr::new(facts.destination, facts.port.number()),
            dry_run: foreseen,
            unknown: match ground {
                Ground::Unknown(name) => Some(name.to_string()),
                Ground::NothingAsked | Ground::Rule { .. } | Ground::NotAllowed { .. } | Ground::Rejected { .. } => {
                    None
                }
            },
            notes: Vec::new(),
            policies: self.all().map(|one| considered(one, &facts, ground)).collect(),
        }
    }
}

fn ruling<'d, 's>(decision: &'d Decision<'s>) -> (Ruling, &'d Ground<'s>) {
    match decision {
        Decision::Allow(ground) => (Ruling::Allow, ground),
        Decision::Deny(ground) => (Ruling::Deny, ground),
    }
}

fn decider(ground: &Ground<'_>) -> Option<Decider> {
    let of = |policy: &Policy, rule: Option<&PolicyRule>| Decider {
        kind: policy.source.kind.to_string(),
        namespace: policy.name.namespace.to_string(),
        name: policy.source.name.to_string(),
        file: policy.source.file.as_deref().map(str::to_owned),
        index: rule.and_then(|rule| rule.place.index),
        line: rule.and_then(|rule| rule.place.line),
    };
    match ground {
        Ground::Rule { policy, rule } => Some(of(policy, Some(rule))),
        Ground::Rejected { policy, .. } => Some(of(policy, None)),
        Ground::NothingAsked | Ground::NotAllowed { .. } | Ground::Unknown(_) => None,
    }
}

fn considered(one: &Compiled, facts: &Facts<'_>, ground: &Ground<'_>) -> Considered {
    let policy = one.policy();
    Considered {
        kind: policy.source.kind.to_string(),
        namespace: policy.name.namespace.to_string(),
        name: policy.source.name.to_string(),
        file: policy.source.file.as_deref().map(str::to_owned),
        action: match policy.action {
            PolicyAction::Allow => Action::Allow,
            PolicyAction::Deny => Action::Deny,
            PolicyAction::Audit => Action::Audit,
        },
        dry_run: policy.dry_run,
        decides: match ground {
            Ground::Rule { policy: decider, .. } | Ground::Rejected { policy: decider, .. } => {
                decider.name == policy.name
            }
            Ground::NothingAsked | Ground::NotAllowed { .. } | Ground::Unknown(_) => false,
        },
        outcome: outcome(one, facts),
    }
}

fn outcome(one: &Compiled, facts: &Facts<'_>) -> Outcome {
    let policy = one.policy();
    if let Some(why) = &policy.rejected {
        return Outcome::Rejected { why: why.to_string() };
    }
    let mut rules = Vec::new();
    for (rule, ready) in policy.rules.iter().zip(one.rules()) {
        let (index, line) = (rule.place.index, rule.place.line);
        match ready.tests.miss(facts) {
            None => return Outcome::Matches { index, line },
            Some(miss) => rules.push(Missed { index, line, why: words::why(rule, &miss, facts) }),
        }
    }
    Outcome::DoesNotMatch { rules }
}
