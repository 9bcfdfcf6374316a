//! What was decided, and why.

use std::{fmt, sync::Arc};

use weir_model::{Policy, PolicyKind, PolicyName, PolicyRule};

use crate::compiled::Compiled;

/// Whether a connection may enter, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'s> {
    /// It may.
    Allow(Ground<'s>),
    /// It may not.
    Deny(Ground<'s>),
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground<'s> {
    /// No ALLOW policy covers the workload, and nothing denies.
    NothingAsked,
    /// A rule matches.
    Rule {
        /// The policy.
        policy: &'s Policy,
        /// Its rule.
        rule: &'s PolicyRule,
    },
    /// ALLOW policies cover the workload, and no rule of theirs matches.
    NotAllowed {
        /// All of them.
        policies: &'s [Arc<Compiled>],
    },
    /// A policy that cannot be enforced as it was written covers the workload.
    Rejected {
        /// The policy.
        policy: &'s Policy,
        /// Why it cannot be enforced.
        why: &'s str,
    },
    /// The workload names a policy that nobody has said anything of.
    Unknown(&'s PolicyName),
}

/// Most policies that a reason names.
const NAMED: usize = 3;

impl fmt::Display for Ground<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingAsked => f.write_str("no ALLOW policy covers it and no policy denies it"),
            Self::Rule { policy, rule } => rule_text(f, policy, rule),
            Self::NotAllowed { policies } => {
                let names: Vec<String> = policies.iter().take(NAMED).map(|one| author(one.policy())).collect();
                let more = policies.len().saturating_sub(NAMED);
                write!(f, "no rule of {} matches", names.join(", "))?;
                if more > 0 { write!(f, ", nor of {more} more ALLOW policies") } else { Ok(()) }
            }
            Self::Rejected { policy, why } => write!(f, "{} cannot be enforced: {why}", author(policy)),
            Self::Unknown(name) => write!(f, "the policy {name} covers it, and what it says is not known"),
        }
    }
}

/// The object a policy was made of.
fn author(policy: &Policy) -> String {
    format!("{} {}/{}", policy.source.kind, policy.name.namespace, policy.source.name)
}

fn rule_text(f: &mut fmt::Formatter<'_>, policy: &Policy, rule: &PolicyRule) -> fmt::Result {
    f.write_str(&author(policy))?;
    if let Some(index) = rule.place.index {
        write!(f, ", spec.rules[{index}]")?;
    }
    match (&policy.source.file, rule.place.line) {
        (Some(file), Some(line)) => write!(f, " ({file}:{line})")?,
        (Some(file), None) => write!(f, " ({file})")?,
        (None, _) => {}
    }
    match policy.source.kind {
        PolicyKind::Authorization | PolicyKind::RequestAuthentication => Ok(()),
        PolicyKind::PeerAuthentication => f.write_str(": mutual TLS is required (STRICT)"),
        PolicyKind::RequiredWaypoint => f.write_str(": only its waypoint may enter"),
    }
}
