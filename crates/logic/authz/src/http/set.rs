//! All policies over one service, at a waypoint.

use std::sync::Arc;

use weir_model::PolicyAction;
use weir_request::Normalization;

use super::{
    decision::{HttpDecision, HttpForeseen, HttpGround},
    facts::{HttpFacts, Seen, Spellings},
    policy::HttpPolicy,
    rule::{Rule, Stance},
};
use crate::{
    Ruling,
    facts::Room,
    peer::{Destination, Peer},
};

/// All policies over one service, at a waypoint. One that is rejected, as CUSTOM is whose provider cannot be asked, denies like DENY.
#[derive(Debug, Clone)]
pub struct HttpPolicies {
    deny: List,
    allow: List,
    audit: List,
    dry_deny: List,
    dry_allow: List,
    dry_audit: List,
    pub(super) level: Normalization,
    spellings: Spellings,
}

/// Policies of one action, sorted by name, and their rules in the order they are asked.
#[derive(Debug, Clone)]
pub(super) struct List {
    pub(super) policies: Box<[Arc<HttpPolicy>]>,
    pub(super) stance: Stance,
    entries: Box<[Entry]>,
}

#[derive(Debug, Clone)]
struct Entry {
    policy: usize,
    asks: Asks,
}

#[derive(Debug, Clone)]
enum Asks {
    /// Nothing: its policy cannot be enforced as it was written.
    Nothing,
    /// What the rule of this index does.
    Rule(usize, Rule),
}

impl HttpPolicies {
    /// Whether there is none at all: everything passes, and nothing is noted.
    pub fn is_empty(&self) -> bool {
        let Self { deny, allow, audit, dry_deny, dry_allow, dry_audit, level: _, spellings: _ } = self;
        [deny, allow, audit, dry_deny, dry_allow, dry_audit].into_iter().all(|list| list.policies.is_empty())
    }

    /// The policies over a service whose requests are read at this level, in any order.
    pub fn new(policies: impl IntoIterator<Item = Arc<HttpPolicy>>, level: Normalization) -> Self {
        let mut lists = [const { Vec::new() }; 6];
        for one in policies {
            let action = if one.rejected.is_some() { PolicyAction::Deny } else { one.action };
            let list = match action {
                PolicyAction::Deny => 0,
                PolicyAction::Allow => 1,
                PolicyAction::Audit => 2,
            };
            lists[if one.dry_run { list + 3 } else { list }].push(one);
        }
        let [deny, allow, audit, dry_deny, dry_allow, dry_audit] = lists;
        let made = Self {
            deny: List::new(deny, Stance::Wide, level),
            allow: List::new(allow, Stance::Strict, level),
            audit: List::new(audit, Stance::Watching, level),
            dry_deny: List::new(dry_deny, Stance::Wide, level),
            dry_allow: List::new(dry_allow, Stance::Strict, level),
            dry_audit: List::new(dry_audit, Stance::Watching, level),
            level,
            spellings: Spellings::Unneeded,
        };
        let needed = made.lists().into_iter().any(List::asks_for_the_path);
        Self { spellings: if needed { Spellings::Needed } else { Spellings::Unneeded }, ..made }
    }

    /// Whether a request may pass: not if DENY matches or what covers the service cannot be enforced, else if ALLOW matches or there is none.
    pub fn decide(&self, facts: &HttpFacts<'_>) -> HttpDecision<'_> {
        let mut room = Room::default();
        self.decide_on(&self.seen(facts, &mut room))
    }

    /// Whether a connection may pass that is no HTTP. A rule of ALLOW or AUDIT that asks for facts of requests does not match, and
    /// one of DENY matches all that matches the rest of it. Istio, "AuthorizationPolicy", on TCP.
    pub fn decide_connection(&self, peer: &Peer<'_>, destination: &Destination, sni: Option<&str>) -> HttpDecision<'_> {
        let mut room = Room::default();
        self.decide_on(&Seen::of_connection(peer, destination, sni, &mut room))
    }

    pub(super) fn seen<'f>(&self, facts: &HttpFacts<'f>, room: &'f mut Room) -> Seen<'f> {
        Seen::of_request(facts, self.spellings, room)
    }

    pub(super) fn decide_on(&self, seen: &Seen<'_>) -> HttpDecision<'_> {
        let (ruling, ground) = self.rule(seen);
        let audit = self.audit.first(seen);
        let dry_run = self.foresee(seen, ruling, ground);
        HttpDecision { ruling, ground, audit, dry_run }
    }

    fn rule(&self, seen: &Seen<'_>) -> (Ruling, HttpGround<'_>) {
        if let Some(ground) = self.deny.first(seen) {
            return (Ruling::Deny, ground);
        }
        if self.allow.policies.is_empty() {
            return (Ruling::Allow, HttpGround::NothingAsked);
        }
        match self.allow.first(seen) {
            Some(ground) => (Ruling::Allow, ground),
            None => (Ruling::Deny, HttpGround::NotAllowed { policies: &self.allow.policies }),
        }
    }

    fn foresee<'s>(&'s self, seen: &Seen<'_>, ruling: Ruling, ground: HttpGround<'s>) -> Option<HttpForeseen<'s>> {
        if [&self.dry_deny, &self.dry_allow, &self.dry_audit].into_iter().all(|list| list.policies.is_empty()) {
            return None;
        }
        let so = |ruling, ground| Some(HttpForeseen { ruling, ground });
        let denies = ruling == Ruling::Deny && ground.policy().is_some();
        if let Some(ground) = self.dry_deny.first(seen).filter(|_| !denies) {
            return so(Ruling::Deny, ground);
        }
        if ground.policy().is_some() {
            return so(ruling, ground);
        }
        let dry = &self.dry_allow;
        match dry.first(seen) {
            Some(ground) => so(Ruling::Allow, ground),
            None if ruling == Ruling::Allow && !dry.policies.is_empty() => {
                so(Ruling::Deny, HttpGround::NotAllowed { policies: &dry.policies })
            }
            None => so(ruling, ground),
        }
    }

    /// In the order they are asked: DENY, ALLOW, AUDIT, and those that decide nothing.
    pub(super) fn lists(&self) -> [&List; 6] {
        [&self.deny, &self.allow, &self.audit, &self.dry_deny, &self.dry_allow, &self.dry_audit]
    }
}

impl List {
    fn new(mut policies: Vec<Arc<HttpPolicy>>, stance: Stance, level: Normalization) -> Self {
        policies.sort_by(|one, other| one.name.cmp(&other.name));
        policies.dedup_by(|one, other| one.name == other.name);
        let mut entries = Vec::new();
        for (policy, one) in policies.iter().enumerate() {
            match one.rejected {
                Some(_) => entries.push(Entry { policy, asks: Asks::Nothing }),
                None => entries.extend(one.rules.iter().enumerate().map(|(index, rule)| {
                    let asks = Asks::Rule(index, Rule::new(rule, level));
                    Entry { policy, asks }
                })),
            }
        }
        Self { policies: policies.into(), stance, entries: entries.into() }
    }

    fn asks_for_the_path(&self) -> bool {
        self.entries.iter().any(|entry| match &entry.asks {
            Asks::Nothing => false,
            Asks::Rule(_, rule) => rule.asks_for_the_path,
        })
    }

    /// The first rule of the first of the policies that matches.
    fn first(&self, seen: &Seen<'_>) -> Option<HttpGround<'_>> {
        let found = self.entries.iter().find(|entry| match &entry.asks {
            Asks::Nothing => true,
            Asks::Rule(_, rule) => rule.matches(seen, self.stance),
        })?;
        let policy = self.policies.get(found.policy)?;
        Some(match &found.asks {
            Asks::Nothing => HttpGround::Rejected { policy, why: policy.rejected.as_deref().unwrap_or_default() },
            Asks::Rule(index, _) => HttpGround::Rule { policy, rule: policy.rules.get(*index)? },
        })
    }
}
