//! Gateways: the waypoints among them, what routes attach to, and what became of each.

use std::{collections::BTreeMap, sync::Arc};

use weir_manifest::{ConfigKind, ConfigObject, ConfigSpec, GatewaySpec, Listener, ParentRef, RouteNamespaces};
use weir_model::{Hostname, Namespace, Port, Service, WaypointAddress, WaypointDestination};

use super::{
    facts::selected,
    hosts::meet,
    status::{GatewayCondition, GatewayConditionKind, GatewayReason, GatewayStatus, ListenerStatus, RouteReason},
};
use crate::{
    gateway::GatewayRole,
    routes::{Configs, Ground},
};

/// The port at which waypoints take HBONE.
const HBONE_PORT: u16 = 15_008;

/// The kinds of routes that attach to a waypoint.
const KINDS: [&str; 3] = ["HTTPRoute", "GRPCRoute", "TCPRoute"];

/// All Gateways there are.
#[derive(Debug)]
pub(super) struct Gateways<'c> {
    all: BTreeMap<(&'c Namespace, &'c str), Gateway<'c>>,
    /// What is bound to the waypoint whose Service has that host name.
    bound: BTreeMap<&'c Hostname, Vec<&'c Arc<Service>>>,
}

#[derive(Debug)]
struct Gateway<'c> {
    object: &'c ConfigObject,
    spec: &'c GatewaySpec,
    /// How many routes are attached to each of its listeners.
    attached: Vec<usize>,
}

/// What a reference to a Gateway comes to.
pub(super) enum Found<'c> {
    /// There is none.
    Nothing,
    /// It is no waypoint: somebody else's.
    Foreign,
    /// It does not take the route, and why.
    Refused(RouteReason, String),
    /// It takes the route at these listeners.
    Waypoint {
        key: (&'c Namespace, &'c str),
        listeners: Vec<usize>,
        /// Host names of these listeners, unless one takes any.
        hosts: Vec<&'c Hostname>,
    },
}

impl<'c> Gateways<'c> {
    pub(super) fn new(ground: &'c Ground<'_>, configs: &'c Configs) -> Self {
        let mut all = BTreeMap::new();
        for object in configs.of(ConfigKind::Gateway) {
            if let ConfigSpec::Gateway(spec) = &object.spec {
                let attached = vec![0; spec.listeners.len()];
                all.insert((&object.namespace, &*object.name), Gateway { object, spec, attached });
            }
        }
        let mut bound: BTreeMap<&Hostname, Vec<&Arc<Service>>> = BTreeMap::new();
        for service in ground.services() {
            if let Some(WaypointAddress { destination: WaypointDestination::Service(waypoint), .. }) = &service.waypoint
            {
                bound.entry(&waypoint.hostname).or_default().push(service);
            }
        }
        Self { all, bound }
    }

    /// The Gateway that a route refers to.
    pub(super) fn find(&self, route: &'c ConfigObject, hostnames: &[Hostname], to: &'c ParentRef) -> Found<'c> {
        let namespace = to.namespace.as_ref().unwrap_or(&route.namespace);
        let Some((key, gateway)) = self.all.get_key_value(&(namespace, &*to.name)) else { return Found::Nothing };
        if GatewayRole::of_class(&gateway.spec.class) == GatewayRole::Other {
            return Found::Foreign;
        }
        let name = format!("Gateway {namespace}/{}", to.name);
        let listeners: Vec<(usize, &'c Listener)> = gateway.spec.listeners.iter().enumerate().collect();
        let named = narrow(&listeners, |one| {
            to.section.as_ref().is_none_or(|name| *name == one.name) && to.port.is_none_or(|port| port == one.port)
        });
        if named.is_empty() {
            let why = format!("{name} has no such listener");
            return Found::Refused(RouteReason::NoMatchingParent, why);
        }
        let allowed = narrow(&named, |one| allows(one, gateway.object, route));
        if allowed.is_empty() {
            let why = format!("no listener of {name} takes a {} of namespace {}", route.kind, route.namespace);
            return Found::Refused(RouteReason::NotAllowedByListeners, why);
        }
        let met = narrow(&allowed, |one| meet(one.hostname.as_ref(), hostnames));
        if met.is_empty() {
            let why = format!("no listener of {name} has one of the route's host names");
            return Found::Refused(RouteReason::NoMatchingListenerHostname, why);
        }
        let takes_any = met.iter().any(|(_, one)| one.hostname.is_none());
        let hosts = met.iter().filter_map(|(_, one)| one.hostname.as_ref()).filter(|_| !takes_any).collect();
        Found::Waypoint { key: *key, listeners: met.iter().map(|(index, _)| *index).collect(), hosts }
    }

    /// What is bound to a waypoint.
    pub(super) fn bound(&self, ground: &Ground<'_>, key: (&Namespace, &str)) -> &[&'c Arc<Service>] {
        let host = host(ground, key);
        host.and_then(|host| self.bound.get(&host)).map_or(&[], Vec::as_slice)
    }

    /// A route is attached to these listeners of a waypoint.
    pub(super) fn attach(&mut self, key: (&'c Namespace, &'c str), listeners: &[usize]) {
        if let Some(gateway) = self.all.get_mut(&key) {
            for (index, count) in gateway.attached.iter_mut().enumerate() {
                *count += usize::from(listeners.contains(&index));
            }
        }
    }

    /// What became of those that are waypoints, by namespace and name.
    pub(super) fn statuses(&self, ground: &Ground<'_>) -> Vec<GatewayStatus> {
        let waypoints =
            self.all.iter().filter(|(_, one)| GatewayRole::of_class(&one.spec.class) == GatewayRole::Waypoint);
        waypoints.map(|(key, gateway)| gateway.status(ground, *key)).collect()
    }
}

/// The host name of a waypoint's Service, which has its name.
fn host(ground: &Ground<'_>, (namespace, name): (&Namespace, &str)) -> Option<Hostname> {
    format!("{name}.{namespace}.svc.{}", ground.settings.cluster_domain).parse().ok()
}

fn narrow<'c>(listeners: &[(usize, &'c Listener)], keep: impl Fn(&Listener) -> bool) -> Vec<(usize, &'c Listener)> {
    listeners.iter().filter(|(_, one)| keep(one)).copied().collect()
}

/// Whether routes of that kind and namespace may attach to a listener.
fn allows(listener: &Listener, gateway: &ConfigObject, route: &ConfigObject) -> bool {
    let namespace = match &listener.namespaces {
        RouteNamespaces::All => true,
        RouteNamespaces::Same => route.namespace == gateway.namespace,
        RouteNamespaces::Selector(selector) => selected(selector).contains(&route.namespace),
    };
    namespace && fault(listener).is_none() && supported(listener).contains(&route.kind.name())
}

/// The kinds of routes that a listener takes.
fn supported(listener: &Listener) -> Vec<&'static str> {
    let named = |kind: &&str| {
        let is_it = |(group, own): &(Arc<str>, Arc<str>)| **group == *ConfigKind::HttpRoute.group() && **own == **kind;
        listener.kinds.is_empty() || listener.kinds.iter().any(is_it)
    };
    if fault(listener).is_some() { Vec::new() } else { KINDS.into_iter().filter(named).collect() }
}

/// Why a waypoint cannot have such a listener.
fn fault(listener: &Listener) -> Option<(GatewayReason, String)> {
    match &*listener.protocol {
        "HBONE" if listener.port.number() == HBONE_PORT => None,
        "HBONE" => {
            let why = format!("HBONE is spoken on port {HBONE_PORT}, nobody connects to {}", listener.port);
            Some((GatewayReason::PortUnavailable, why))
        }
        "istio.io/PROXY" => None,
        other => {
            let why = format!("protocol {other}: a listener of a waypoint speaks HBONE or istio.io/PROXY");
            Some((GatewayReason::UnsupportedProtocol, why))
        }
    }
}

fn condition(
    kind: GatewayConditionKind,
    holds: bool,
    reason: GatewayReason,
    message: impl Into<String>,
) -> GatewayCondition {
    GatewayCondition { kind, holds, reason, message: message.into() }
}

impl Gateway<'_> {
    fn status(&self, ground: &Ground<'_>, key: (&Namespace, &str)) -> GatewayStatus {
        use GatewayConditionKind::{Accepted, Programmed};
        let service = host(ground, key).filter(|host| ground.service(host).is_some());
        let bad = self.spec.listeners.iter().find_map(|one| Some((one, fault(one)?.1)));
        let accepted = match (bad, self.spec.addresses.is_empty()) {
            (Some((listener, why)), _) => {
                let why = format!("listener {}: {why}", listener.name);
                condition(Accepted, false, GatewayReason::ListenersNotValid, why)
            }
            (None, false) => {
                let why = "spec.addresses: a waypoint has the addresses of its Service";
                condition(Accepted, false, GatewayReason::UnsupportedAddress, why)
            }
            (None, true) => condition(Accepted, true, GatewayReason::Accepted, "a waypoint"),
        };
        let programmed = match &service {
            Some(host) => condition(Programmed, true, GatewayReason::Programmed, format!("reached as {host}")),
            None => {
                let why = format!("there is no Service {}/{}, by which a waypoint is reached", key.0, key.1);
                condition(Programmed, false, GatewayReason::AddressNotAssigned, why)
            }
        };
        let listeners = self.spec.listeners.iter().zip(&self.attached);
        GatewayStatus {
            namespace: key.0.to_string(),
            name: key.1.to_owned(),
            generation: self.object.generation,
            conditions: vec![accepted, programmed],
            listeners: listeners.map(|(one, attached)| listener_status(one, *attached)).collect(),
        }
    }
}

fn listener_status(listener: &Listener, attached_routes: usize) -> ListenerStatus {
    use GatewayConditionKind::{Accepted, Programmed, ResolvedRefs};
    let [accepted, programmed] = match fault(listener) {
        None => [
            condition(Accepted, true, GatewayReason::Accepted, "taken"),
            condition(Programmed, true, GatewayReason::Programmed, "served"),
        ],
        Some((reason, why)) => [
            condition(Accepted, false, reason, why),
            condition(Programmed, false, GatewayReason::Invalid, "not accepted"),
        ],
    };
    let strange = listener
        .kinds
        .iter()
        .find(|(group, kind)| **group != *ConfigKind::HttpRoute.group() || !KINDS.contains(&&**kind));
    let resolved = match strange {
        None => condition(ResolvedRefs, true, GatewayReason::ResolvedRefs, "all kinds are known"),
        Some((group, kind)) => {
            let why = format!("allowedRoutes.kinds: {kind} of {group:?} is no route of the mesh");
            condition(ResolvedRefs, false, GatewayReason::InvalidRouteKinds, why)
        }
    };
    ListenerStatus {
        name: listener.name.to_string(),
        supported_kinds: supported(listener),
        attached_routes,
        conditions: vec![accepted, programmed, resolved],
    }
}

/// The port of a service that a reference means: by its name, by its number, or by both.
pub(super) fn port_of(service: &Service, to: &ParentRef) -> Result<Option<Port>, ()> {
    if to.section.is_none() && to.port.is_none() {
        return Ok(None);
    }
    let is_meant = |port: &&weir_model::ServicePort| {
        to.section.as_ref().is_none_or(|name| *name == port.name) && to.port.is_none_or(|own| own == port.port)
    };
    service.ports.iter().find(is_meant).map(|port| Some(port.port)).ok_or(())
}
