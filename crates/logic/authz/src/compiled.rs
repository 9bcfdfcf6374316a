//! One policy, ready to be asked.

use std::{fmt::Write, sync::Arc};

use weir_model::{Clause, Match, Policy, Sides, SpiffeId};

use crate::peer::{Destination, Peer};

/// A policy, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    policy: Arc<Policy>,
}

impl Compiled {
    /// Makes a policy ready.
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy) }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The first of its rules that matches.
    pub fn matching(&self, peer: &Peer<'_>, destination: &Destination) -> Option<usize> {
        let principal = peer.identity.map(principal);
        let facts = Facts { peer, destination, principal: principal.as_deref() };
        self.policy.rules.iter().position(|rule| rule.clauses.iter().all(|clause| facts.meet(clause)))
    }
}

/// An identity as policies write it.
fn principal(identity: &SpiffeId) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _written = write!(text, "{identity}");
    text.split_off("spiffe://".len())
}

struct Facts<'f> {
    peer: &'f Peer<'f>,
    destination: &'f Destination,
    principal: Option<&'f str>,
}

impl Facts<'_> {
    fn meet(&self, clause: &Clause) -> bool {
        clause.0.iter().any(|one| self.are(one))
    }

    fn are(&self, one: &Match) -> bool {
        let identity = self.peer.identity;
        let namespace = identity.map(|identity| identity.namespace().as_str());
        let domain = identity.map(|identity| identity.trust_domain().as_str());
        let account = identity.map(|identity| (identity.namespace(), identity.service_account()));
        !one.is_empty()
            && within(&one.namespaces, |text| namespace.is_some_and(|namespace| text.matches(namespace)))
            && within(&one.principals, |text| self.principal.is_some_and(|principal| text.matches(principal)))
            && within(&one.trust_domains, |text| domain.is_some_and(|domain| text.matches(domain)))
            && within(&one.service_accounts, |(namespace, name)| account == Some((namespace, name)))
            && within(&one.source_ips, |range| range.contains(&self.peer.address))
            && within(&one.destination_ips, |range| range.contains(&self.destination.address))
            && within(&one.destination_ports, |port| *port == self.destination.port)
    }
}

fn within<T>(sides: &Sides<T>, is: impl Fn(&T) -> bool) -> bool {
    (sides.any.is_empty() || sides.any.iter().any(&is)) && !sides.none.iter().any(&is)
}
