//! All policies over one workload.

use std::sync::Arc;

use weir_model::{PolicyAction, PolicyName};

use crate::{
    compiled::Compiled,
    ground::{Decision, Ground},
    peer::{Destination, Peer},
};

/// All policies over one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySet {
    deny: Vec<Arc<Compiled>>,
    allow: Vec<Arc<Compiled>>,
    audit: Vec<Arc<Compiled>>,
    /// Those that decide nothing.
    dry: Vec<Arc<Compiled>>,
    /// Named by the workload, and known to nobody.
    unknown: Option<PolicyName>,
}

impl PolicySet {
    /// The policies over a workload, and the first that it names and nobody knows. Sorted by name, so that the answer is the
    /// same whatever order they came in.
    pub fn new(policies: impl IntoIterator<Item = Arc<Compiled>>, unknown: Option<PolicyName>) -> Self {
        let mut set = Self { unknown, ..Self::default() };
        for one in policies {
            let policy = one.policy();
            let list = match (policy.dry_run, policy.rejected.is_some(), policy.action) {
                (true, _, _) => &mut set.dry,
                (false, true, _) | (false, false, PolicyAction::Deny) => &mut set.deny,
                (false, false, PolicyAction::Allow) => &mut set.allow,
                (false, false, PolicyAction::Audit) => &mut set.audit,
            };
            list.push(one);
        }
        for list in [&mut set.deny, &mut set.allow, &mut set.audit, &mut set.dry] {
            list.sort_by(|one, other| one.policy().name.cmp(&other.policy().name));
            list.dedup_by(|one, other| one.policy().name == other.policy().name);
        }
        set
    }

    /// Whether a connection may enter.
    pub fn decide(&self, peer: &Peer<'_>, destination: &Destination) -> Decision<'_> {
        if let Some(name) = &self.unknown {
            return Decision::Deny(Ground::Unknown(name));
        }
        if let Some(ground) = self.deny.iter().find_map(|one| denial(one, peer, destination)) {
            return Decision::Deny(ground);
        }
        if self.allow.is_empty() {
            return Decision::Allow(Ground::NothingAsked);
        }
        match self.allow.iter().find_map(|one| matched(one, peer, destination)) {
            Some(ground) => Decision::Allow(ground),
            None => Decision::Deny(Ground::NotAllowed { policies: &self.allow }),
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
        let of = |action| self.dry.iter().filter(move |one| one.policy().action == action);
        if let Decision::Deny(ground @ (Ground::Unknown(_) | Ground::Rule { .. } | Ground::Rejected { .. })) =
            self.decide(peer, destination)
        {
            return Some(Decision::Deny(ground));
        }
        if let Some(ground) = of(PolicyAction::Deny).find_map(|one| denial(one, peer, destination)) {
            return Some(Decision::Deny(ground));
        }
        let allowed = self.allow.iter().chain(of(PolicyAction::Allow)).find_map(|one| matched(one, peer, destination));
        let asked = !self.allow.is_empty() || of(PolicyAction::Allow).next().is_some();
        Some(match (allowed, asked) {
            (Some(ground), _) => Decision::Allow(ground),
            (None, false) => Decision::Allow(Ground::NothingAsked),
            (None, true) if self.allow.is_empty() => Decision::Deny(Ground::NotAllowed { policies: &self.dry }),
            (None, true) => Decision::Deny(Ground::NotAllowed { policies: &self.allow }),
        })
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
