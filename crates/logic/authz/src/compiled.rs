//! One policy, ready to be asked.

use std::fmt;

use weir_model::Policy;

use crate::{
    facts::{Facts, Room},
    peer::{Destination, Peer},
    rule::Rule,
};

/// A policy, ready to be asked.
#[derive(Clone)]
pub struct Compiled {
    policy: Policy,
    /// As those of the policy.
    rules: Box<[Rule]>,
}

impl Compiled {
    /// Makes a policy ready.
    pub fn new(policy: Policy) -> Self {
        Self { rules: policy.rules.iter().map(Rule::new).collect(), policy }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The first of its rules that matches.
    pub fn matching(&self, peer: &Peer<'_>, destination: &Destination) -> Option<usize> {
        let mut room = Room::default();
        let facts = Facts::new(peer, destination, &mut room);
        self.rules.iter().position(|rule| rule.tests.hold(&facts))
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// It is what its policy is; the rest follows from that.
impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        self.policy == other.policy
    }
}

impl Eq for Compiled {}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)
    }
}
