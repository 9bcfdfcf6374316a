//! The answer: hops, and what was looked at on each. The same for people and for programs.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use weir_authz::Considered;

/// Where it goes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// What comes of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// Who connects.
    pub from: Asking,
    /// Where to.
    pub to: Asked,
    /// What is asked there, `GET host/path`; none for the connection alone.
    pub request: Option<String>,
    /// What whoever asked should know beside this.
    pub notes: Vec<String>,
    /// The hops, in the order they are passed.
    pub hops: Vec<Hop>,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// It gets there, or is answered as its author says.
    Allow,
    /// It is refused.
    Deny,
    /// One or the other, by the lot that is drawn: of several destinations some cannot be reached.
    Partly,
    /// Whoever was asked does not know enough.
    Unknown,
}

/// Who connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asking {
    /// Its identity as policies write it. None in plaintext.
    pub identity: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// The workload, `namespace/name`, where it is known.
    pub workload: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The service's host name, or `namespace/name` of a workload; none of an address that nobody has.
    pub name: Option<String>,
    /// The address that the client connects to.
    pub address: SocketAddr,
}

/// One that looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Who looks.
    pub at: At,
    /// The workloads it stands for, `namespace/name`; of a waypoint its Gateway.
    pub of: Vec<String>,
    /// What comes of it there.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// What is looked at and done, in this order.
    pub steps: Vec<Step>,
    /// Every policy that was considered, in the order they are asked.
    pub policies: Vec<Considered>,
    /// Where a waypoint sends it: each with its share.
    pub destinations: Vec<Routed>,
}

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum At {
    /// The agent on the client's node; nobody for one that is outside the mesh.
    Client,
    /// A waypoint.
    Waypoint,
    /// The agent on the destination's node.
    Destination,
}

/// One thing that is looked at or done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What kind of thing.
    pub about: About,
    /// What comes of it.
    pub says: String,
    /// The object that says so, where one does.
    pub object: Option<Declared>,
}

/// What kind of thing a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum About {
    /// What was asked for.
    Asked,
    /// Which waypoint it is bound to, and by what.
    Bound,
    /// Where it goes next.
    Next,
    /// Who the peer proves to be.
    Identity,
    /// Tokens.
    Token,
    /// Who may.
    Policy,
    /// The rule that is for it.
    Route,
    /// What is changed of the request.
    Change,
    /// Faults on purpose.
    Fault,
    /// How long it may take, and how often it is tried.
    Limits,
    /// Copies of it.
    Copies,
    /// It is answered here.
    Answer,
    /// Anything else one should know.
    Note,
}

/// Where an object says something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Declared {
    /// The kind of object.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// The rule, by its index in the object; none for the whole object.
    pub rule: Option<usize>,
    /// The name of the rule, if its author gave it one.
    pub rule_name: Option<String>,
    /// The match, by its index in the rule; none if the rule is for everything.
    pub matched: Option<usize>,
    /// Where it stands.
    pub place: Option<Place>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line, from 1, where it is known.
    pub line: Option<u32>,
}

/// A place that a waypoint sends requests or connections to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routed {
    /// Its weight.
    pub weight: u32,
    /// The sum of all weights.
    pub total: u64,
    /// The service, port and subset, as `host:port subset name`; of what leads nowhere what was written.
    pub to: String,
    /// Whether it gets there.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// The DestinationRule, `namespace/name`, and where it stands as `file:line`.
    pub rule: Option<(String, Option<String>)>,
    /// How an endpoint is chosen, and what else its policy says.
    pub policy: Vec<String>,
    /// What is changed of requests that go there.
    pub changes: Vec<String>,
    /// How many endpoints are ready.
    pub ready: usize,
    /// All endpoints, or the first of them.
    pub endpoints: Vec<ReachedBy>,
    /// How many more there are.
    pub more: usize,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReachedBy {
    /// The workload, `namespace/name`.
    pub workload: String,
    /// Its address, and its own port.
    pub address: SocketAddr,
    /// Whether it takes new connections.
    pub ready: bool,
    /// How it is reached.
    pub way: String,
}

impl Verdict {
    /// What comes of it when any of these may be drawn; of nothing that could be, nothing comes.
    pub(crate) fn of_any(all: impl IntoIterator<Item = Self>) -> Self {
        let mut all = all.into_iter();
        let Some(first) = all.next() else { return Self::Deny };
        all.fold(first, |one, other| match (one, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (one, other) if one == other => one,
            (_, _) => Self::Partly,
        })
    }
}

impl Hop {
    /// One at which nothing was looked at yet.
    pub(crate) fn new(at: At, of: String) -> Self {
        Self {
            at,
            of: vec![of],
            verdict: Verdict::Allow,
            reason: String::new(),
            steps: Vec::new(),
            policies: Vec::new(),
            destinations: Vec::new(),
        }
    }

    /// Notes what was looked at.
    pub(crate) fn step(&mut self, about: About, says: impl Into<String>) {
        self.steps.push(Step { about, says: says.into(), object: None });
    }

    /// What comes of it.
    pub(crate) fn ends(&mut self, verdict: Verdict, reason: impl Into<String>) {
        (self.verdict, self.reason) = (verdict, reason.into());
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn verdict() -> impl Strategy<Value = Verdict> {
        select(vec![Verdict::Allow, Verdict::Deny, Verdict::Partly, Verdict::Unknown])
    }

    proptest! {
        #[test]
        fn what_may_be_drawn_has_no_order(mut all in vec(verdict(), 0..6)) {
            let before = Verdict::of_any(all.clone());
            all.reverse();
            prop_assert_eq!(Verdict::of_any(all.clone()), before);
            let all_allow = !all.is_empty() && all.iter().all(|one| *one == Verdict::Allow);
            prop_assert_eq!(before == Verdict::Allow, all_allow);
            prop_assert_eq!(before == Verdict::Unknown, all.contains(&Verdict::Unknown));
        }
    }
}
