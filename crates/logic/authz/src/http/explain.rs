//! A decision on a request with everything that was looked at: for people, and for programs.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};
use weir_model::PolicyAction;

use super::{
    decision::{HttpDecision, HttpGround},
    facts::{HttpFacts, Seen},
    policy::{HttpPolicy, HttpRule},
    rule::Rule,
    set::{HttpPolicies, List},
    words,
};
use crate::{
    Action, Considered, Decider, Foreseen, Missed, Outcome, Peered, Ruling,
    explain::{consider, labelled},
    facts::Room,
    peer::{Destination, Peer},
};

/// A decision, and every policy that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpExplanation {
    /// What was decided.
    pub verdict: Ruling,
    /// Why.
    pub reason: String,
    /// The policy that decided, if one did.
    pub decided_by: Option<Decider>,
    /// Who asks.
    pub peer: Peered,
    /// The address and the service's port that were asked for.
    pub destination: SocketAddr,
    /// What was asked; none of a connection that is no HTTP.
    pub request: Option<Requested>,
    /// The AUDIT rule that matches, if one does.
    pub audit: Option<String>,
    /// What would be decided if the policies that decide nothing were in force too; none if there are no such.
    pub dry_run: Option<Foreseen>,
    /// What whoever asked knows beside this.
    pub notes: Vec<String>,
    /// Every policy over the service, in the order they are asked.
    pub policies: Vec<Considered>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requested {
    /// `GET`.
    pub method: String,
    /// The host, and the port if it was named.
    pub authority: String,
    /// The path as routes and policies read it.
    pub path: String,
    /// As an application may read it that drops parameters and resolves escapes.
    pub served: String,
    /// Who the token is of, `iss/sub`. None without a token.
    pub principal: Option<String>,
}

impl HttpPolicies {
    /// The decision on a request, and everything that was looked at.
    pub fn explain(&self, facts: &HttpFacts<'_>) -> HttpExplanation {
        let mut room = Room::default();
        let requested = Requested {
            method: facts.request.method().to_owned(),
            authority: facts.request.authority().as_str().to_owned(),
            path: facts.request.path().as_str().to_owned(),
            served: facts.request.path().as_served().into_owned(),
            principal: facts.token.and_then(|token| token.principal()).map(str::to_owned),
        };
        self.explain_on(&self.seen(facts, &mut room), Some(requested))
    }

    /// The decision on a connection that is no HTTP, and everything that was looked at.
    pub fn explain_connection(&self, peer: &Peer<'_>, destination: &Destination, sni: Option<&str>) -> HttpExplanation {
        let mut room = Room::default();
        self.explain_on(&Seen::of_connection(peer, destination, sni, &mut room), None)
    }

    fn explain_on(&self, seen: &Seen<'_>, request: Option<Requested>) -> HttpExplanation {
        let HttpDecision { ruling, ground, audit, dry_run } = self.decide_on(seen);
        let facts = &seen.connection;
        let looked_at = |list: &&List| {
            let list = *list;
            list.policies.iter().map(|one| self.considered(one, list, seen, &ground)).collect::<Vec<_>>()
        };
        HttpExplanation {
            verdict: ruling,
            reason: ground.to_string(),
            decided_by: ground.policy().map(|policy| decider(policy, ground.rule())),
            peer: Peered { identity: facts.principal.map(str::to_owned), address: facts.source },
            destination: SocketAddr::new(facts.destination, facts.port.number()),
            request,
            audit: audit.map(|ground| ground.to_string()),
            dry_run: dry_run.map(|one| Foreseen { verdict: one.ruling, reason: one.ground.to_string() }),
            notes: Vec::new(),
            policies: self.lists().iter().flat_map(looked_at).collect(),
        }
    }

    fn considered(&self, policy: &HttpPolicy, list: &List, seen: &Seen<'_>, ground: &HttpGround<'_>) -> Considered {
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
            decides: ground.policy().is_some_and(|decider| decider.name == policy.name),
            outcome: self.outcome(policy, list, seen),
        }
    }

    fn outcome(&self, policy: &HttpPolicy, list: &List, seen: &Seen<'_>) -> Outcome {
        if let Some(why) = &policy.rejected {
            return Outcome::Rejected { why: why.to_string() };
        }
        let mut rules = Vec::new();
        for rule in &policy.rules {
            let (ready, index, line) = (Rule::new(rule, self.level), rule.place.index, rule.place.line);
            let why = match (ready.asks_what_is_not_there(seen, list.stance), ready.miss(seen, list.stance)) {
                (Some(_), _) => words::NO_REQUEST.to_owned(),
                (None, Some(reading)) => words::why(rule, self.level, seen, reading),
                (None, None) => return Outcome::Matches { index, line },
            };
            rules.push(Missed { index, line, why });
        }
        Outcome::DoesNotMatch { rules }
    }
}

fn decider(policy: &HttpPolicy, rule: Option<&HttpRule>) -> Decider {
    Decider {
        kind: policy.source.kind.to_string(),
        namespace: policy.name.namespace.to_string(),
        name: policy.source.name.to_string(),
        file: policy.source.file.as_deref().map(str::to_owned),
        index: rule.and_then(|rule| rule.place.index),
        line: rule.and_then(|rule| rule.place.line),
    }
}

impl fmt::Display for HttpExplanation {
    /// The verdict first, then what decided it, then everything that was looked at.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        labelled(f, &self.verdict.to_string(), &self.reason)?;
        let identity = self.peer.identity.as_deref().unwrap_or("no identity (plaintext)");
        labelled(f, "from", &format!("{identity}, at {}", self.peer.address))?;
        labelled(f, "to", &self.destination.to_string())?;
        match &self.request {
            Some(request) => labelled(f, "asks", &request.to_string())?,
            None => labelled(f, "asks", "no HTTP, so nothing of requests is known")?,
        }
        if let Some(rule) = &self.audit {
            labelled(f, "audit", rule)?;
        }
        if let Some(Foreseen { verdict, reason }) = &self.dry_run {
            labelled(f, "dry run", &format!("{verdict}: {reason}"))?;
        }
        for note in &self.notes {
            labelled(f, "note", note)?;
        }
        if self.policies.is_empty() {
            return f.write_str("\nno policy covers it\n");
        }
        f.write_str("\nconsidered, in this order ('>' decides):\n")?;
        self.policies.iter().try_for_each(|policy| consider(f, policy))
    }
}

impl fmt::Display for Requested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.authority, self.path)?;
        if self.served != self.path {
            write!(f, " (also read as {})", self.served)?;
        }
        match &self.principal {
            Some(principal) => write!(f, ", with a token of {principal}"),
            None => Ok(()),
        }
    }
}
