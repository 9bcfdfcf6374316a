//! Routes of the Gateway API.

use serde::Serialize;

use super::{Configs, Ground, Routes};

/// What became of a route. Gateway API `RouteStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// Its kind: `HTTPRoute`, `GRPCRoute` or `TCPRoute`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The generation of it that this is said of, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// For each of its `parentRefs`, in their order.
    pub parents: Vec<ParentStatus>,
}

/// What became of a route at one of its parents. Gateway API `RouteParentStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The index of the parent in `spec.parentRefs`.
    pub parent: usize,
    /// What holds of it.
    pub conditions: Vec<RouteCondition>,
}

/// A condition of a route at a parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteCondition {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: RouteConditionKind,
    /// `status`.
    pub holds: bool,
    /// `reason`.
    pub reason: RouteReason,
    /// `message`.
    pub message: String,
}

/// The type of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RouteConditionKind {
    /// The parent takes the route.
    Accepted,
    /// All it refers to is there, and may be referred to.
    ResolvedRefs,
    /// Some of its rules are dropped.
    PartiallyInvalid,
}

/// The reason of a condition. Gateway API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RouteReason {
    /// It is taken.
    Accepted,
    /// Everything is there.
    ResolvedRefs,
    /// The parent is not there.
    NoMatchingParent,
    /// It asks for something that is not done.
    UnsupportedValue,
    /// It may not refer to that.
    RefNotPermitted,
    /// It refers to a kind that is none.
    InvalidKind,
    /// It refers to something that is not there.
    BackendNotFound,
}

/// What routes of the Gateway API say of each host, and what became of each of them.
pub(super) fn compile(_ground: &Ground<'_>, _configs: &Configs) -> (Routes, Vec<RouteStatus>) {
    (Routes::default(), Vec::new())
}
