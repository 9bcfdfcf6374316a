//! What became of routes and Gateways, in the words of the Gateway API. A controller adds the times and writes them.

use serde::Serialize;

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
    /// The generation of it that this is said of, where there is one: `observedGeneration` of each condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// For each of its `parentRefs` that is the mesh's, in their order. Of the others somebody else says something.
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

/// The type of a condition. Gateway API v1 `RouteConditionType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RouteConditionKind {
    /// The parent takes the route.
    Accepted,
    /// All it refers to is there, and may be referred to.
    ResolvedRefs,
    /// Some of its rules are dropped, or do less than they say. It is there only when it holds.
    PartiallyInvalid,
}

impl RouteConditionKind {
    /// `type`, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::PartiallyInvalid => "PartiallyInvalid",
        }
    }
}

/// The reason of a condition. Gateway API v1 `RouteConditionReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RouteReason {
    /// It is taken.
    Accepted,
    /// Everything is there.
    ResolvedRefs,
    /// The parent is not there, or has no such port or listener.
    NoMatchingParent,
    /// No listener of the parent takes routes of its kind from its namespace.
    NotAllowedByListeners,
    /// No listener of the parent has one of its host names.
    NoMatchingListenerHostname,
    /// An older one takes everything that it is for.
    Conflicted,
    /// It asks for something that is not done.
    UnsupportedValue,
    /// It may not refer to that.
    RefNotPermitted,
    /// It refers to a kind that is none.
    InvalidKind,
    /// It refers to something that is not there.
    BackendNotFound,
    /// It refers to a port that speaks something else.
    UnsupportedProtocol,
}

impl RouteReason {
    /// `reason`, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::NoMatchingParent => "NoMatchingParent",
            Self::NotAllowedByListeners => "NotAllowedByListeners",
            Self::NoMatchingListenerHostname => "NoMatchingListenerHostname",
            Self::Conflicted => "Conflicted",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::InvalidKind => "InvalidKind",
            Self::BackendNotFound => "BackendNotFound",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
        }
    }
}

/// What became of a Gateway of a waypoint's class. Gateway API v1 `GatewayStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The generation of it that this is said of, where there is one: `observedGeneration` of each condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// What holds of it.
    pub conditions: Vec<GatewayCondition>,
    /// For each of its listeners, in their order.
    pub listeners: Vec<ListenerStatus>,
}

/// What became of a listener. Gateway API v1 `ListenerStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Kinds of routes that may attach, all of the group `gateway.networking.k8s.io`.
    pub supported_kinds: Vec<&'static str>,
    /// How many routes are attached.
    pub attached_routes: usize,
    /// What holds of it.
    pub conditions: Vec<GatewayCondition>,
}

/// A condition of a Gateway or of one of its listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCondition {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: GatewayConditionKind,
    /// `status`.
    pub holds: bool,
    /// `reason`.
    pub reason: GatewayReason,
    /// `message`.
    pub message: String,
}

/// The type of a condition. Gateway API v1 `GatewayConditionType`, `ListenerConditionType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum GatewayConditionKind {
    /// It is legal, and what it asks for is done.
    Accepted,
    /// It can be reached.
    Programmed,
    /// Of a listener: all kinds it names are known.
    ResolvedRefs,
}

impl GatewayConditionKind {
    /// `type`, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Programmed => "Programmed",
            Self::ResolvedRefs => "ResolvedRefs",
        }
    }
}

/// The reason of a condition. Gateway API v1 `GatewayConditionReason`, `ListenerConditionReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum GatewayReason {
    /// It is taken.
    Accepted,
    /// A listener is not.
    ListenersNotValid,
    /// It asks for an address; a waypoint has that of its Service.
    UnsupportedAddress,
    /// It can be reached.
    Programmed,
    /// It has no Service, so no address.
    AddressNotAssigned,
    /// A listener of a waypoint that takes no HBONE.
    UnsupportedProtocol,
    /// A port that nobody connects to.
    PortUnavailable,
    /// It cannot be reached, because it is not accepted.
    Invalid,
    /// All kinds are known.
    ResolvedRefs,
    /// It names a kind that is no route of the mesh.
    InvalidRouteKinds,
}

impl GatewayReason {
    /// `reason`, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ListenersNotValid => "ListenersNotValid",
            Self::UnsupportedAddress => "UnsupportedAddress",
            Self::Programmed => "Programmed",
            Self::AddressNotAssigned => "AddressNotAssigned",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::PortUnavailable => "PortUnavailable",
            Self::Invalid => "Invalid",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::InvalidRouteKinds => "InvalidRouteKinds",
        }
    }
}
