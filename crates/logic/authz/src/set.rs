//! All policies over one workload.

use std::{fmt, sync::Arc};

use weir_model::{PolicyAction, PolicyName};

use crate::{
    compiled::Compiled,
    facts::{Facts, Room},
    ground::{Decision, Ground},
    index::Index,
    peer::{Destination, Peer},
};

/// All policies over one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySet {
    force: Force,
    audit: Vec<Arc<Compiled>>,
    dry: Dry,
    /// Named by the workload, and known to nobody.
    unknown: Option<PolicyName>,
}

/// Policies that decide nothing, by what they would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Dry {
    deny: Vec<Arc<Compiled>>,
    allow: Vec<Arc<Compiled>>,
    audit: Vec<Arc<Compiled>>,
}

impl Dry {
    fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty() && self.audit.is_empty()
    }
}

impl PolicySet {
    /// The policies over a workload, and the first that it names and nobody knows. Sorted by name, so that the answer is the
    /// same whatever order they came in.
    pub fn new(policies: impl IntoIterator<Item = Arc<Compiled>>, unknown: Option<PolicyName>) -> Self {
        let [mut deny, mut allow, mut audit] = [const { Vec::new() }; 3];
        let mut dry = Dry::default();
        for one in policies {
            let policy = one.policy();
            let action = if policy.rejected.is_some() { PolicyAction::Deny } else { policy.action };
            let list = match (policy.dry_run, action) {
                (false, PolicyAction::Deny) => &mut deny,
                (false, PolicyAction::Allow) => &mut allow,
                (false, PolicyAction::Audit) => &mut audit,
                (true, PolicyAction::Deny) => &mut dry.deny,
                (true, PolicyAction::Allow) => &mut dry.allow,
                (true, PolicyAction::Audit) => &mut dry.audit,
            };
            list.push(one);
        }
        for list in [&mut deny, &mut allow, &mut audit, &mut dry.deny, &mut dry.allow, &mut dry.audit] {
            list.sort_by(|one, other| one.policy().name.cmp(&other.policy().name));
            list.dedup_by(|one, other| one.policy().name == other.policy().name);
        }
        Self { force: Force::new(deny, allow), audit, dry, unknown }
    }

    /// Whether a connection may enter.
    pub fn decide(&self, peer: &Peer<'_>, destination: &Destination) -> Decision<'_> {
        if let Some(name) = &self.unknown {
            return Decision::Deny(Ground::Unknown(name));
        }
        let mut room = Room::default();
        let facts = Facts::new(peer, destination, &mut room);
        let (denies, allows) = self.force.halves();
        match self.force.index.first(&facts) {
            Some(found) => {
                let policy = found.of.policy();
                let ground = match (found.at.rule, &policy.rejected) {
                    (Some(rule), _) => Ground::Rule { policy, rule: &policy.rules[rule] },
                    (None, why) => Ground::Rejected { policy, why: why.as_deref().unwrap_or_default() },
                };
                if found.at.policy < denies.len() { Decision::Deny(ground) } else { Decision::Allow(ground) }
            }
            None if allows.is_empty() => Decision::Allow(Ground::NothingAsked),
            None => Decision::Deny(Ground::NotAllowed { policies: allows }),
        }
    }

    /// Whether there is anything to log or count beside the decision.
    pub fn has_shadows(&self) -> bool {
        !self.audit.is_empty() || !self.dry.is_empty()
    }

    /// The rules of AUDIT policies that match.
    pub fn audits<'s>(
        &'s self,
        peer: &'s Peer<'_>,
        destination: &'s Destination,
    ) -> impl Iterator<Item = Ground<'s>> + 's {
        self.audit.iter().filter_map(|one| matched(one, peer, destination))
    }

    /// What would be decided if the policies that decide nothing (dry run) were in force too; none if there are no such.
    pub fn dry_run(&self, peer: &Peer<'_>, destination: &Destination) -> Option<Decision<'_>> {
        if self.dry.is_empty() {
            return None;
        }
        let decided = self.decide(peer, destination);
        if let Decision::Deny(Ground::Unknown(_) | Ground::Rule { .. } | Ground::Rejected { .. }) = decided {
            return Some(decided);
        }
        if let Some(ground) = self.dry.deny.iter().find_map(|one| denial(one, peer, destination)) {
            return Some(Decision::Deny(ground));
        }
        if let Decision::Allow(Ground::Rule { .. }) = decided {
            return Some(decided);
        }
        let allow = &self.dry.allow;
        Some(match allow.iter().find_map(|one| matched(one, peer, destination)) {
            Some(ground) => Decision::Allow(ground),
            None if self.force.halves().1.is_empty() && !allow.is_empty() => {
                Decision::Deny(Ground::NotAllowed { policies: allow })
            }
            None => decided,
        })
    }

    /// All of them, in the order they are asked: DENY, ALLOW, AUDIT, and those that decide nothing.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        let dry = self.dry.deny.iter().chain(&self.dry.allow).chain(&self.dry.audit);
        self.force.policies.iter().chain(&self.audit).chain(dry)
    }
}

/// The policies that decide, in the order they are asked, and where to look for what matches.
#[derive(Clone, Default)]
struct Force {
    /// Those that deny, then those that allow: the first that matches decides.
    policies: Vec<Arc<Compiled>>,
    denies: usize,
    index: Index,
}

impl Force {
    fn new(deny: Vec<Arc<Compiled>>, allow: Vec<Arc<Compiled>>) -> Self {
        let denies = deny.len();
        let policies = [deny, allow].concat();
        Self { index: Index::new(&policies), policies, denies }
    }

    /// Those that deny, and those that allow.
    fn halves(&self) -> (&[Arc<Compiled>], &[Arc<Compiled>]) {
        self.policies.split_at(self.denies)
    }
}

/// The index follows from the policies, and who denies too.
impl PartialEq for Force {
    fn eq(&self, other: &Self) -> bool {
        self.policies == other.policies
    }
}

impl Eq for Force {}

impl fmt::Debug for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policies.fmt(f)
    }
}

fn denial<'s>(one: &'s Compiled, peer: &Peer<'_>, destination: &Destination) -> Option<Ground<'s>> {
    match &one.policy().rejected {
        Some(why) => Some(Ground::Rejected { policy: one.policy(), why }),
        None => matched(one, peer, destination),
    }
}

fn matched<'s>(one: &'s Compiled, peer: &Peer<'_>, destination: &Destination) -> Option<Ground<'s>> {
    let rule = one.policy().rules.get(one.matching(peer, destination)?)?;
    Some(Ground::Rule { policy: one.policy(), rule })
}
