//! Waypoints as their Gateways declare them, and what is bound to which.
//!
//! A label binds whether its Gateway is there or not: what names a waypoint is never reached past it. A Gateway that is there says
//! which kinds of destination it serves, and for what it does not serve the label says nothing, as Istio has it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use weir_manifest::{
    GatewaySpec, InboundBinding, Labels, RouteNamespaces, ServiceObject, WaypointFor, WaypointLabels, WaypointUse,
};
use weir_model::{Hostname, Namespace, Port, ServiceName, Termination, WaypointAddress, WaypointDestination};

use crate::{
    Settings,
    policy::waypoint::GATEWAY,
    trimmed::{Key, Traits},
};

/// Where waypoints take HBONE unless they say otherwise. Istio `GatewayAddress.hbone_mtls_port`.
const HBONE: u16 = 15008;
/// The label that every namespace has. Kubernetes `LabelMetadataName`.
const NAME: &str = "kubernetes.io/metadata.name";

/// What of a Gateway decides where connections go. `gateway.networking.k8s.io/v1` Gateway, as Istio reads it for waypoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayFacts {
    /// What it is. `spec.gatewayClassName`.
    pub(crate) role: GatewayRole,
    /// Which destinations it serves. Label `istio.io/waypoint-for`; services when nothing is said.
    pub(crate) waypoint_for: WaypointFor,
    /// The port on which its pods are handed what came over HBONE, if they do not end HBONE themselves. Annotation
    /// `ambient.istio.io/waypoint-inbound-binding: PROXY`.
    pub(crate) proxy: Option<Port>,
    /// From where it may be named besides its own namespace. `spec.listeners[].allowedRoutes.namespaces` of its HBONE listener.
    pub(crate) namespaces: RouteNamespaces,
}

/// What a Gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatewayRole {
    /// Of a class that makes waypoints.
    Waypoint,
    /// Anything else: a way into the cluster, or somebody else's.
    Other,
}

impl GatewayRole {
    /// By the name of its class: Istio's `istio-waypoint` and `istio-agentgateway-waypoint`, and our own `weir-waypoint`.
    pub(crate) fn of_class(class: &str) -> Self {
        match class {
            "istio-waypoint" | "istio-agentgateway-waypoint" | "weir-waypoint" => Self::Waypoint,
            _ => Self::Other,
        }
    }
}

/// What became of the label of a service that names a waypoint. Istio's conditions `istio.io/WaypointBound` and `istio.io/WaypointMissing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingStatus {
    /// The service's namespace.
    pub namespace: Namespace,
    /// The service's name.
    pub name: Arc<str>,
    /// The namespace of the Gateway that is named.
    pub gateway_namespace: Namespace,
    /// Its name.
    pub gateway: Arc<str>,
    /// What came of it.
    pub outcome: BindingOutcome,
}

/// What came of a label that names a waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindingOutcome {
    /// Connections go through it.
    #[error("bound")]
    Bound,
    /// There is no such Gateway, so nothing is reached.
    #[error("there is no such Gateway: connections are refused")]
    Missing,
    /// It is no waypoint, so nothing is reached.
    #[error("the Gateway is of no waypoint's class: connections are refused")]
    NoWaypoint,
    /// It does not let itself be named from there, so nothing is reached.
    #[error("the Gateway's allowedRoutes do not name this namespace: connections are refused")]
    NotAllowed,
    /// It serves no destinations of this kind, so they are reached without it.
    #[error("the Gateway's istio.io/waypoint-for leaves this out: connections go past it")]
    NotServed,
}

/// What a namespace says about what is in it.
#[derive(Clone, Copy)]
pub(crate) struct Around<'i> {
    pub(crate) waypoint: &'i WaypointLabels,
    pub(crate) labels: &'i Labels,
}

impl BindingOutcome {
    /// Whether connections go where the label says.
    pub fn is_bound(self) -> bool {
        self == Self::Bound
    }

    /// The reason in a condition `istio.io/WaypointBound`: one word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Bound => "WaypointAccepted",
            Self::Missing => "WaypointMissing",
            Self::NoWaypoint => "NotAWaypoint",
            Self::NotAllowed => "AttachmentDenied",
            Self::NotServed => "NotServed",
        }
    }
}

/// The Gateways there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gateways(BTreeMap<Key, GatewayFacts>);

/// Who says which waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    ByItself,
    ByNamespace,
}

/// A waypoint that is named.
pub(crate) struct Bond {
    pub(crate) gateway: Key,
    pub(crate) outcome: BindingOutcome,
}

impl Gateways {
    /// Sets or forgets one; whether it is something else now.
    pub(crate) fn replace(&mut self, key: &Key, now: Option<GatewayFacts>) -> bool {
        if self.0.get(key) == now.as_ref() {
            return false;
        }
        match now {
            Some(now) => self.0.insert(key.clone(), now),
            None => self.0.remove(key),
        };
        true
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the waypoint says whose own pod it is.
    pub(crate) fn of_pod(&self, namespace: &Namespace, traits: &Traits) -> Option<&GatewayFacts> {
        if self.0.is_empty() {
            return None;
        }
        let key = Key { namespace: namespace.clone(), name: traits.labels.value(GATEWAY)?.clone() };
        self.0.get(&key).filter(|facts| facts.role == GatewayRole::Waypoint)
    }

    /// What a Gateway is, if it is known.
    pub(crate) fn role(&self, key: &Key) -> Option<GatewayRole> {
        self.0.get(key).map(|facts| facts.role)
    }

    /// What a service is bound to. A waypoint's own service is bound to none.
    pub(crate) fn of_service(&self, service: &ServiceObject, space: Around<'_>) -> Option<Bond> {
        let (gateway, _) = named(&service.waypoint, space.waypoint, &service.namespace)?;
        let own = Key { namespace: service.namespace.clone(), name: service.name.clone() };
        let is_one = self.0.get(&own).is_some_and(|facts| facts.role == GatewayRole::Waypoint);
        if is_one || own == gateway {
            return None;
        }
        let outcome =
            self.outcome(&gateway, (&service.namespace, space.labels), [WaypointFor::Service, WaypointFor::All]);
        Some(Bond { gateway, outcome })
    }

    /// What the hosts of a ServiceEntry are bound to.
    pub(crate) fn of_entry(&self, own: &WaypointLabels, space: Around<'_>, home: &Namespace) -> Option<Bond> {
        let (gateway, _) = named(own, space.waypoint, home)?;
        let outcome = self.outcome(&gateway, (home, space.labels), [WaypointFor::Service, WaypointFor::All]);
        Some(Bond { gateway, outcome })
    }

    /// What a pod is bound to. A waypoint's own pod is bound to none; and while nobody knows whether the waypoint serves pods, one that its
    /// namespace names serves services only.
    pub(crate) fn of_workload(&self, pod: &Key, traits: &Traits, space: Around<'_>) -> Option<Bond> {
        let (gateway, said) = named(&traits.waypoint, space.waypoint, &pod.namespace)?;
        let own = traits.labels.value(GATEWAY).map(|name| Key { namespace: pod.namespace.clone(), name: name.clone() });
        if own.as_ref() == Some(&gateway) || self.of_pod(&pod.namespace, traits).is_some() {
            return None;
        }
        let outcome = self.outcome(&gateway, (&pod.namespace, space.labels), [WaypointFor::Workload, WaypointFor::All]);
        let outcome = match (outcome, said) {
            (BindingOutcome::Missing | BindingOutcome::NoWaypoint, Said::ByNamespace) => BindingOutcome::NotServed,
            (outcome, Said::ByItself | Said::ByNamespace) => outcome,
        };
        Some(Bond { gateway, outcome })
    }

    fn outcome(&self, gateway: &Key, from: (&Namespace, &Labels), serving: [WaypointFor; 2]) -> BindingOutcome {
        let Some(facts) = self.0.get(gateway) else { return BindingOutcome::Missing };
        let (name, labels) = from;
        let allowed = *name == gateway.namespace
            || match &facts.namespaces {
                RouteNamespaces::Same => false,
                RouteNamespaces::All => true,
                RouteNamespaces::Selector(selector) => {
                    let mut labels = labels.clone();
                    labels.insert(NAME.into(), name.as_str().into());
                    selector.matches(&labels)
                }
            };
        match facts.role {
            GatewayRole::Other => BindingOutcome::NoWaypoint,
            GatewayRole::Waypoint if !allowed => BindingOutcome::NotAllowed,
            GatewayRole::Waypoint if serving.contains(&facts.waypoint_for) => BindingOutcome::Bound,
            GatewayRole::Waypoint => BindingOutcome::NotServed,
        }
    }
}

impl Bond {
    /// Where the waypoint is; none if connections do not go through it. One that may not be used is where nobody is.
    pub(crate) fn address(&self, settings: &Settings) -> Option<WaypointAddress> {
        let Key { namespace, name } = &self.gateway;
        let wanted = match self.outcome {
            BindingOutcome::Bound | BindingOutcome::Missing => {
                format!("{name}.{namespace}.svc.{}", settings.cluster_domain)
            }
            BindingOutcome::NoWaypoint => format!("{name}.is-no-waypoint.invalid"),
            BindingOutcome::NotAllowed => format!("{name}.does-not-allow-this-namespace.invalid"),
            BindingOutcome::NotServed => return None,
        };
        // No Service has a name as long as that.
        let fits = name.len() <= 63;
        let hostname = Some(wanted).filter(|_| fits).and_then(|text| text.parse::<Hostname>().ok());
        let hostname = hostname.unwrap_or_else(|| "too-long-a-name.invalid".parse().expect("a host name"));
        let destination = WaypointDestination::Service(ServiceName { namespace: namespace.clone(), hostname });
        Some(WaypointAddress { destination, port: Port::new(HBONE).expect("it is not zero") })
    }
}

impl fmt::Display for BindingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, gateway_namespace, gateway, outcome } = self;
        write!(f, "Service {namespace}/{name}: waypoint {gateway_namespace}/{gateway}: {outcome}")
    }
}

impl From<&GatewaySpec> for GatewayFacts {
    fn from(spec: &GatewaySpec) -> Self {
        let speaks = |protocol: &str| spec.listeners.iter().find(|listener| &*listener.protocol == protocol);
        let handed = speaks("istio.io/PROXY");
        let listener = speaks("HBONE").or(handed).or(spec.listeners.first());
        Self {
            role: GatewayRole::of_class(&spec.class),
            waypoint_for: spec.waypoint_for.unwrap_or(WaypointFor::Service),
            proxy: match spec.inbound_binding {
                Some(InboundBinding::Proxy(port)) => Some(port),
                // Nobody would know who the client is: what comes in the clear is not taken for what came over HBONE.
                Some(InboundBinding::None) => None,
                None => handed.map(|listener| listener.port),
            },
            namespaces: listener.map_or(RouteNamespaces::Same, |listener| listener.namespaces.clone()),
        }
    }
}

impl GatewayFacts {
    /// Who takes the tunnels that lead to its pods.
    pub(crate) fn termination(&self) -> Termination {
        self.proxy.map_or(Termination::Own, Termination::Proxy)
    }
}

impl Key {
    /// Whether an object of those labels in such a namespace names this Gateway.
    pub(crate) fn names(&self, space: &WaypointLabels, own: &WaypointLabels, object: &Self) -> bool {
        named(own, space, &object.namespace).is_some_and(|(gateway, _)| gateway == *self)
    }

    /// Whether that is a pod of this Gateway.
    pub(crate) fn has_pod(&self, namespace: &Namespace, traits: &Traits) -> bool {
        self.namespace == *namespace && traits.labels.value(GATEWAY) == Some(&self.name)
    }
}

/// The Gateway that is named: by the object itself, or else by its namespace.
fn named(own: &WaypointLabels, space: &WaypointLabels, home: &Namespace) -> Option<(Key, Said)> {
    let (uses, said) = match (&own.uses, &space.uses) {
        (Some(uses), _) => (uses, Said::ByItself),
        (None, Some(uses)) => (uses, Said::ByNamespace),
        (None, None) => return None,
    };
    match uses {
        WaypointUse::None => None,
        WaypointUse::Gateway { namespace, name } => {
            let namespace = namespace.as_ref().unwrap_or(home).clone();
            Some((Key { namespace, name: name.clone() }, said))
        }
    }
}

#[cfg(test)]
impl From<BTreeMap<Key, GatewayFacts>> for Gateways {
    fn from(all: BTreeMap<Key, GatewayFacts>) -> Self {
        Self(all)
    }
}

#[cfg(test)]
#[path = "gateway/tests.rs"]
mod tests;
