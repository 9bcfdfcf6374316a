//! What a policy with targetRefs is attached to, and what it comes to there: a waypoint's matter.

use std::sync::Arc;

use weir_authz::http::HttpPolicy;
use weir_manifest::{RequestAuthenticationSpec, TargetRef};
use weir_model::{Namespace, PolicyName, PolicySource};

use crate::gateway::GatewayRole;

/// A policy with targetRefs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) to: Vec<TargetRef>,
    pub(crate) says: AtWaypoint,
}

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AtWaypoint {
    /// Who may ask for what; also of what is not legal, which denies.
    Policy(Arc<HttpPolicy>),
    /// Whose tokens are good.
    Tokens(Arc<TokenPolicy>),
}

/// A RequestAuthentication over what a waypoint serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// Its name in the mesh.
    pub name: PolicyName,
    /// What it says.
    pub spec: RequestAuthenticationSpec,
    /// The object that it was made of.
    pub source: PolicySource,
}

/// A waypoint, by its Gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaypointName {
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`.
    pub name: Arc<str>,
}

/// What a waypoint serves, as policies are attached to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Served {
    /// A Service.
    Service {
        /// `metadata.namespace`.
        namespace: Namespace,
        /// `metadata.name`.
        name: Arc<str>,
    },
    /// A ServiceEntry of networking.istio.io.
    ServiceEntry {
        /// `metadata.namespace`.
        namespace: Namespace,
        /// `metadata.name`.
        name: Arc<str>,
    },
    /// Pods by their own addresses: only what is attached to the Gateway or its class covers them.
    Pods,
}

/// The kinds of object that a policy may be attached to. Istio `PolicyTargetReference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetKind {
    Service,
    ServiceEntry,
    Gateway,
    GatewayClass,
}

impl TargetKind {
    /// None of what the parser refuses.
    pub(crate) fn of(target: &TargetRef) -> Option<Self> {
        match (&*target.group, &*target.kind) {
            ("", "Service") => Some(Self::Service),
            ("networking.istio.io", "ServiceEntry") => Some(Self::ServiceEntry),
            ("gateway.networking.k8s.io", "Gateway") => Some(Self::Gateway),
            ("gateway.networking.k8s.io", "GatewayClass") => Some(Self::GatewayClass),
            _ => None,
        }
    }
}

/// Where a policy is from: it is attached to objects of its own namespace, and from the root namespace to classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Root,
    Other,
}

impl Attached {
    /// Whether it covers what a waypoint serves. `own` is the policy's namespace; of a Gateway whose class nobody knows, any class of waypoints
    /// is its own, so that nothing is passed over.
    pub(crate) fn covers(
        &self,
        own: &Namespace,
        home: Home,
        served: &Served,
        gateway: &WaypointName,
        class: Option<&str>,
    ) -> bool {
        self.to.iter().any(|target| match (TargetKind::of(target), served) {
            (Some(TargetKind::Service), Served::Service { namespace, name })
            | (Some(TargetKind::ServiceEntry), Served::ServiceEntry { namespace, name }) => {
                own == namespace && target.name == *name
            }
            (Some(TargetKind::Gateway), _) => *own == gateway.namespace && target.name == gateway.name,
            (Some(TargetKind::GatewayClass), _) => {
                home == Home::Root && class.is_none_or(|class| class == &*target.name) && is_of_waypoints(&target.name)
            }
            (Some(TargetKind::Service | TargetKind::ServiceEntry) | None, _) => false,
        })
    }
}

/// Whether Gateways of the class are waypoints.
pub fn is_of_waypoints(class: &str) -> bool {
    GatewayRole::of_class(class) == GatewayRole::Waypoint
}
