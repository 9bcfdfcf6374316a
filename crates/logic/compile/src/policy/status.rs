//! What became of a policy: for people, and for its status in Kubernetes.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

/// Most of a message, in characters.
const LONGEST: usize = 1024;

/// What became of a policy object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Its kind, such as `AuthorizationPolicy`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The generation of it that this is said of, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The same for programs.
    pub conditions: Vec<PolicyCondition>,
    /// Where each of its rules is enforced. One without an index stands for the whole object.
    pub placements: Vec<Placement>,
}

/// A condition, as Istio and Kubernetes write them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCondition {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// `status`.
    pub holds: bool,
    /// `reason`.
    pub reason: ConditionReason,
    /// `message`.
    pub message: String,
}

/// The type of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ConditionKind {
    /// Agents take it. Istio's.
    ZtunnelAccepted,
    /// A waypoint takes it. Istio's.
    WaypointAccepted,
    /// Everything in it is enforced exactly as it was written. The message says where, and what is not.
    #[serde(rename = "weir.dev/Enforced")]
    Enforced,
}

impl ConditionKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ZtunnelAccepted, Self::WaypointAccepted, Self::Enforced];

    /// The text of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ZtunnelAccepted => "ZtunnelAccepted",
            Self::WaypointAccepted => "WaypointAccepted",
            Self::Enforced => "weir.dev/Enforced",
        }
    }
}

/// The reason of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ConditionReason {
    /// It is taken as it is. Istio's.
    Accepted,
    /// It is legal, and asks for something that is not done. Istio's.
    UnsupportedValue,
    /// It is not legal. Istio's.
    Invalid,
    /// Another decides in its place.
    Conflicted,
    /// There is nothing that it names. Istio's.
    TargetNotFound,
    /// No waypoint serves what it names. Istio's.
    AncestorNotBound,
    /// Of what it names some is not there or has no waypoint. Istio's.
    PartiallyInvalid,
    /// It is enforced as it was written.
    AsWritten,
    /// It is not enforced as it was written.
    NotAsWritten,
}

impl ConditionReason {
    /// The text of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::Invalid => "Invalid",
            Self::Conflicted => "Conflicted",
            Self::TargetNotFound => "TargetNotFound",
            Self::AncestorNotBound => "AncestorNotBound",
            Self::PartiallyInvalid => "PartiallyInvalid",
            Self::AsWritten => "AsWritten",
            Self::NotAsWritten => "NotAsWritten",
        }
    }
}

/// Where a rule is enforced.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Its index in `spec.rules`, from 0. None for the whole object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// Who enforces it.
    pub enforcer: Enforcer,
    /// Where that is not exactly what was written: what is, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Who enforces a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Enforcer {
    /// The agents of the pods that the policy covers.
    Agent,
    /// A waypoint, for what it covers of that waypoint's.
    Waypoint {
        /// The namespace of its Gateway.
        namespace: String,
        /// Its Gateway.
        name: String,
    },
    /// All waypoints of a class.
    Waypoints {
        /// The GatewayClass.
        class: String,
    },
    /// Nobody.
    Nowhere,
}

impl fmt::Display for Enforcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::Waypoint { namespace, name } => write!(f, "waypoint {namespace}/{name}"),
            Self::Waypoints { class } => write!(f, "waypoints of class {class}"),
            Self::Nowhere => f.write_str("nowhere"),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = self.rule {
            write!(f, "spec.rules[{rule}]: ")?;
        }
        write!(f, "{}", self.enforcer)?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

impl fmt::Display for PolicyStatus {
    /// One line for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}: {}", self.kind, self.namespace, self.name, enforced(&self.placements).message)
    }
}

impl PolicyStatus {
    /// Whether everything is enforced exactly as it was written.
    pub fn is_as_written(&self) -> bool {
        self.placements.iter().all(Placement::is_as_written)
    }
}

impl Placement {
    fn is_as_written(&self) -> bool {
        self.enforcer != Enforcer::Nowhere && self.why.is_none()
    }
}

/// The condition that says what the placements say: those that are as written are counted, the others are listed.
pub(crate) fn enforced(placements: &[Placement]) -> PolicyCondition {
    let (like, unlike): (Vec<&Placement>, Vec<&Placement>) = placements.iter().partition(|one| one.is_as_written());
    let by: BTreeSet<&Enforcer> = like.iter().map(|one| &one.enforcer).collect();
    let by = by.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let unlike = unlike.into_iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let (reason, text) = match (unlike.is_empty(), like.len()) {
        (true, _) => (ConditionReason::AsWritten, format!("{by}: as written")),
        (false, 0) => (ConditionReason::NotAsWritten, unlike),
        (false, _) if like.iter().all(|one| one.rule.is_none()) => {
            (ConditionReason::NotAsWritten, format!("{by}: as written; {unlike}"))
        }
        (false, rest) => {
            let rules = if rest == 1 { "rule" } else { "rules" };
            (ConditionReason::NotAsWritten, format!("{rest} other {rules}: {by}; {unlike}"))
        }
    };
    let holds = reason == ConditionReason::AsWritten;
    PolicyCondition { kind: ConditionKind::Enforced, holds, reason, message: shortened(&text) }
}

/// A text that is not longer than a message may be.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
