//! What was decided of a request, and why.

use std::{fmt, sync::Arc};

use super::policy::{HttpPolicy, HttpRule};
use crate::Ruling;

/// Whether a request may pass, and what there is to tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDecision<'s> {
    /// Whether it may.
    pub ruling: Ruling,
    /// Why.
    pub ground: HttpGround<'s>,
    /// The first AUDIT rule that matches. It decides nothing.
    pub audit: Option<HttpGround<'s>>,
    /// What would be decided if the policies that decide nothing (dry run) were in force too; none if there are no such.
    pub dry_run: Option<HttpForeseen<'s>>,
}

/// What would be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpForeseen<'s> {
    /// Whether it might pass.
    pub ruling: Ruling,
    /// Why.
    pub ground: HttpGround<'s>,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpGround<'s> {
    /// No ALLOW policy covers the service, and nothing denies.
    NothingAsked,
    /// A rule matches.
    Rule {
        /// The policy.
        policy: &'s HttpPolicy,
        /// Its rule.
        rule: &'s HttpRule,
    },
    /// ALLOW policies cover the service, and no rule of theirs matches.
    NotAllowed {
        /// All of them.
        policies: &'s [Arc<HttpPolicy>],
    },
    /// A policy that cannot be enforced as it was written covers the service.
    Rejected {
        /// The policy.
        policy: &'s HttpPolicy,
        /// Why it cannot be enforced.
        why: &'s str,
    },
}

impl<'s> HttpGround<'s> {
    /// The one policy that decided, if one did.
    pub fn policy(&self) -> Option<&'s HttpPolicy> {
        match self {
            Self::Rule { policy, .. } | Self::Rejected { policy, .. } => Some(policy),
            Self::NothingAsked | Self::NotAllowed { .. } => None,
        }
    }

    /// The rule that decided, if one did.
    pub fn rule(&self) -> Option<&'s HttpRule> {
        match self {
            Self::Rule { rule, .. } => Some(rule),
            Self::NothingAsked | Self::NotAllowed { .. } | Self::Rejected { .. } => None,
        }
    }
}

/// Most policies that a reason names.
const NAMED: usize = 3;

impl fmt::Display for HttpGround<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingAsked => f.write_str("no ALLOW policy covers it and no policy denies it"),
            Self::Rule { policy, rule } => {
                f.write_str(&author(policy))?;
                if let Some(index) = rule.place.index {
                    write!(f, ", spec.rules[{index}]")?;
                }
                match (&policy.source.file, rule.place.line) {
                    (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
                    (Some(file), None) => write!(f, " ({file})"),
                    (None, _) => Ok(()),
                }
            }
            Self::NotAllowed { policies } => {
                let names: Vec<String> = policies.iter().take(NAMED).map(|one| author(one)).collect();
                let more = policies.len().saturating_sub(NAMED);
                write!(f, "no rule of {} matches", names.join(", "))?;
                if more > 0 { write!(f, ", nor of {more} more ALLOW policies") } else { Ok(()) }
            }
            Self::Rejected { policy, why } => write!(f, "{} cannot be enforced: {why}", author(policy)),
        }
    }
}

/// The object a policy was made of.
fn author(policy: &HttpPolicy) -> String {
    format!("{} {}/{}", policy.source.kind, policy.name.namespace, policy.source.name)
}
