//! Routes of the Gateway API: HTTPRoute, GRPCRoute and TCPRoute.
//!
//! A route of a service's own namespace is for everybody who asks for the service, one of another namespace for clients of that namespace only (GEP-1426). Its
//! `hostnames` mean nothing at a service: what is for a service is known by where it was sent, as GEP-1426 and Istio have it. A route that is attached to
//! a waypoint's Gateway is for the services that are bound to the waypoint, and that its `hostnames` name if it has any.
//!
//! HTTPRoutes and GRPCRoutes of one service make one table, in which the more specific match counts. To refer to a Service of another namespace takes a
//! ReferenceGrant, unless that is what the route is attached to: a waypoint connects with its own identity, and could be made to reach what the route's author
//! could not.

pub(super) mod age;
mod backends;
mod facts;
mod gateways;
mod grants;
mod hosts;
mod rules;
mod status;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use weir_manifest::{
    ConfigKind, ConfigObject, ConfigSpec, GatewayRouteSpec, GatewayScope, ParentRef, ServiceEntrySpec,
};
use weir_model::{Hostname, Namespace, Port, Service};
use weir_route::{Audience, ObjectKind, RouteObject, Rule, TcpKind, TcpObject, TcpRule};

use super::{Configs, Finding, FindingReason, Ground, Routes};
use backends::{Resolver, service_name};
use gateways::{Found, Gateways, port_of};
use grants::Grants;
use rules::{Faults, rule, tcp_rule};

pub use status::{
    GatewayCondition, GatewayConditionKind, GatewayReason, GatewayStatus, ListenerStatus, ParentStatus, RouteCondition,
    RouteConditionKind, RouteReason, RouteStatus,
};

/// Most faults that a condition tells of.
const MAX_TOLD: usize = 8;

/// What the objects of the Gateway API come to.
#[derive(Debug, Default)]
pub(super) struct OfGateway {
    pub(super) routes: Routes,
    pub(super) statuses: Vec<RouteStatus>,
    pub(super) gateways: Vec<GatewayStatus>,
}

/// What routes of the Gateway API say of each host, and what became of each of them and of each waypoint.
pub(super) fn compile(ground: &Ground<'_>, configs: &Configs) -> OfGateway {
    let grants = Grants::new(configs);
    let gateways = Gateways::new(ground, configs);
    let entries = configs.of(ConfigKind::ServiceEntry).filter_map(|object| match &object.spec {
        ConfigSpec::ServiceEntry(spec) => Some(((&object.namespace, &*object.name), &**spec)),
        ConfigSpec::VirtualService(_)
        | ConfigSpec::DestinationRule(_)
        | ConfigSpec::Telemetry(_)
        | ConfigSpec::Gateway(_)
        | ConfigSpec::Route(_)
        | ConfigSpec::ReferenceGrant(_)
        | ConfigSpec::Rejected(_) => None,
    });
    let entries = entries.collect();
    let mut compiling =
        Compiling { ground, entries, grants: &grants, gateways, routes: Routes::default(), taken: BTreeMap::new() };
    let kinds = [ConfigKind::HttpRoute, ConfigKind::GrpcRoute, ConfigKind::TcpRoute];
    let all = kinds.into_iter().flat_map(|kind| configs.of(kind));
    let mut all: Vec<Route<'_>> = all.filter_map(|object| Route::of(object)).collect();
    all.sort_by_key(|route| (route.created, route.object.namespace.as_str(), &*route.object.name));
    let mut statuses: Vec<RouteStatus> = all.iter().map(|route| compiling.route(route)).collect();
    statuses.sort_by(|one, other| {
        let key = |status: &RouteStatus| (status.kind.clone(), status.namespace.clone(), status.name.clone());
        key(one).cmp(&key(other))
    });
    let gateways = compiling.gateways.statuses(ground);
    OfGateway { routes: compiling.routes, statuses, gateways }
}

/// A route, and when it was made.
struct Route<'c> {
    object: &'c ConfigObject,
    spec: &'c GatewayRouteSpec,
    created: Option<SystemTime>,
}

impl<'c> Route<'c> {
    fn of(object: &'c ConfigObject) -> Option<Self> {
        let ConfigSpec::Route(spec) = &object.spec else { return None };
        Some(Self { object, spec, created: object.created.as_deref().and_then(age::time) })
    }

    fn file(&self) -> Option<Arc<str>> {
        let origin = &self.object.origin;
        (origin.line > 0).then(|| origin.file.as_str().into())
    }
}

/// What a route is attached to.
struct Attachment<'g> {
    service: &'g Arc<Service>,
    port: Option<Port>,
    audience: Audience,
}

/// What became of a reference to a parent.
enum Parent<'g> {
    /// It is not the mesh's.
    Foreign,
    /// It does not take the route.
    Refused(RouteReason, String),
    /// It does.
    Taken {
        name: String,
        to: Vec<Attachment<'g>>,
        /// What it is, if it is one service.
        parent: Option<&'g Service>,
    },
}

/// A TCPRoute that takes all connections, of one port or of all.
struct Taken {
    port: Option<Port>,
    by: String,
}

struct Compiling<'a> {
    ground: &'a Ground<'a>,
    entries: BTreeMap<(&'a Namespace, &'a str), &'a ServiceEntrySpec>,
    grants: &'a Grants<'a>,
    gateways: Gateways<'a>,
    routes: Routes,
    /// TCPRoutes that take all connections, by whose they are: to a service, of the clients of one namespace or of all.
    taken: BTreeMap<(Hostname, Option<Namespace>), Vec<Taken>>,
}

impl<'a> Compiling<'a> {
    fn route(&mut self, route: &Route<'a>) -> RouteStatus {
        let mut parents = Vec::new();
        for (index, to) in route.spec.parents.iter().enumerate() {
            let conditions = match self.parent(route, index, to) {
                Parent::Foreign => continue,
                Parent::Refused(reason, why) => {
                    let mut faults = Faults::default();
                    drop(self.rules(route, None, None, &mut faults));
                    conditions(Err((reason, why)), &faults, 0)
                }
                Parent::Taken { name, to, parent } => self.attach(route, &name, &to, parent),
            };
            parents.push(ParentStatus { parent: index, conditions });
        }
        self.remarks(route);
        RouteStatus {
            kind: route.object.kind.name().to_owned(),
            namespace: route.object.namespace.to_string(),
            name: route.object.name.to_string(),
            generation: route.object.generation,
            parents,
        }
    }

    fn parent(&mut self, route: &Route<'a>, index: usize, to: &'a ParentRef) -> Parent<'a> {
        match (&*to.group, &*to.kind) {
            ("", "Service") => self.service(route, to),
            ("networking.istio.io", "ServiceEntry") => self.entry(route, to),
            ("gateway.networking.k8s.io", "Gateway") => self.gateway(route, index, to),
            (_, _) => Parent::Foreign,
        }
    }

    fn service(&mut self, route: &Route<'a>, to: &ParentRef) -> Parent<'a> {
        let home = &route.object.namespace;
        let namespace = to.namespace.as_ref().unwrap_or(home);
        let host = format!("{}.{namespace}.svc.{}", to.name, self.ground.settings.cluster_domain).parse().ok();
        let service = host.and_then(|host: Hostname| self.ground.service(&host));
        match service.filter(|service| service.name.namespace == *namespace) {
            Some(service) => self.attached_to(route, service_name(service), &[service], to),
            None => {
                let why = format!("there is no Service {namespace}/{}", to.name);
                Parent::Refused(RouteReason::NoMatchingParent, why)
            }
        }
    }

    /// All hosts of a ServiceEntry that is seen where the route is. Istio.
    fn entry(&mut self, route: &Route<'a>, to: &ParentRef) -> Parent<'a> {
        let home = &route.object.namespace;
        let namespace = to.namespace.as_ref().unwrap_or(home);
        let name = format!("ServiceEntry {namespace}/{}", to.name);
        let found = self.entries.get(&(namespace, &*to.name));
        let Some(spec) = found.filter(|spec| spec.export_to.reaches(namespace, home)) else {
            let why = format!("there is no {name}, or it is not exported to {home}");
            return Parent::Refused(RouteReason::NoMatchingParent, why);
        };
        let services = spec.hosts.iter().filter_map(|host| self.ground.service(host));
        let services: Vec<&Arc<Service>> = services.filter(|one| one.name.namespace == *namespace).collect();
        self.attached_to(route, name, &services, to)
    }

    /// Services as the parents of a route: producer or consumer, by whose namespace they are in.
    fn attached_to(
        &mut self,
        route: &Route<'a>,
        name: String,
        services: &[&'a Arc<Service>],
        to: &ParentRef,
    ) -> Parent<'a> {
        let mut taken = Vec::new();
        for &service in services {
            let Ok(port) = port_of(service, to) else { continue };
            let is_own = route.object.namespace == service.name.namespace;
            let audience = if is_own { Audience::Everyone } else { Audience::OwnNamespace };
            let to = Attachment { service, port, audience };
            if let Some(older) = self.claim(route, &to) {
                let why = format!("the older TCPRoute {older} takes every connection to {name}");
                return Parent::Refused(RouteReason::Conflicted, why);
            }
            taken.push(to);
        }
        let parent = match taken.as_slice() {
            [] => return Parent::Refused(RouteReason::NoMatchingParent, format!("{name} has no such port")),
            [only] => Some(&**only.service),
            _ => None,
        };
        Parent::Taken { name, to: taken, parent }
    }

    /// The older TCPRoute that takes all that this one is for; none leaves it to this one.
    fn claim(&mut self, route: &Route<'_>, to: &Attachment<'_>) -> Option<String> {
        if route.object.kind != ConfigKind::TcpRoute {
            return None;
        }
        let client = match to.audience {
            Audience::Everyone => None,
            Audience::OwnNamespace => Some(route.object.namespace.clone()),
        };
        let taken = self.taken.entry((to.service.name.hostname.clone(), client)).or_default();
        if let Some(older) = taken.iter().find(|one| one.port.is_none() || one.port == to.port) {
            return Some(older.by.clone());
        }
        taken.push(Taken { port: to.port, by: format!("{}/{}", route.object.namespace, route.object.name) });
        None
    }

    fn gateway(&mut self, route: &Route<'a>, index: usize, to: &'a ParentRef) -> Parent<'a> {
        let field = format!("spec.parentRefs[{index}]");
        match self.gateways.find(route.object, &route.spec.hostnames, to) {
            Found::Foreign => Parent::Foreign,
            Found::Nothing => {
                self.tell(route, &field, FindingReason::UnknownHost, format!("there is no {to}"));
                Parent::Foreign
            }
            Found::Refused(reason, why) => Parent::Refused(reason, why),
            Found::Waypoint { key, listeners, hosts } => {
                self.gateways.attach(key, &listeners);
                let bound = self.gateways.bound(self.ground, key).iter().copied();
                let named = bound.filter(|service| {
                    let host = &service.name.hostname;
                    hosts::admit(&route.spec.hostnames, host) && hosts::admit(hosts.iter().copied(), host)
                });
                let attach = |service| Attachment { service, port: None, audience: Audience::Everyone };
                let to: Vec<Attachment<'a>> = named.map(attach).collect();
                let name = format!("Gateway {}/{}", key.0, key.1);
                if to.is_empty() {
                    let why = format!("no service that is bound to {name} has a host name that the route is for");
                    self.tell(route, &field, FindingReason::NoEffect, why);
                }
                Parent::Taken { name, to, parent: None }
            }
        }
    }

    /// Puts a route into the tables of what it is attached to.
    fn attach(
        &mut self,
        route: &Route<'a>,
        name: &str,
        to: &[Attachment<'a>],
        parent: Option<&Service>,
    ) -> Vec<RouteCondition> {
        let mut faults = Faults::default();
        let rules = self.rules(route, parent, to.first().and_then(|one| one.port), &mut faults);
        for one in to {
            let hosts = self.routes.hosts.entry(one.service.name.hostname.clone()).or_default();
            match &rules {
                Rules::Http(kind, rules) if !rules.is_empty() => hosts.http.push(RouteObject {
                    kind: *kind,
                    namespace: route.object.namespace.clone(),
                    name: (&*route.object.name).into(),
                    file: route.file(),
                    created: route.created,
                    audience: one.audience,
                    rules: rules.clone(),
                }),
                Rules::Tcp(rules) => hosts.tcp.push(TcpObject {
                    kind: TcpKind::TcpRoute,
                    namespace: route.object.namespace.clone(),
                    name: (&*route.object.name).into(),
                    file: route.file(),
                    created: route.created,
                    audience: one.audience,
                    rules: rules.clone(),
                }),
                Rules::Http(..) => {}
            }
        }
        conditions(Ok(name), &faults, route.spec.rules.len())
    }

    fn rules(&self, route: &Route<'a>, parent: Option<&Service>, port: Option<Port>, faults: &mut Faults) -> Rules {
        let resolver = Resolver { ground: self.ground, grants: self.grants, route: route.object, parent };
        let said = route.spec.rules.iter().enumerate();
        let http = |faults: &mut Faults| {
            said.clone().map(|(index, said)| rule(&resolver, index, said, port, faults)).collect()
        };
        match route.object.kind {
            ConfigKind::HttpRoute => Rules::Http(ObjectKind::HttpRoute, http(faults)),
            ConfigKind::GrpcRoute => Rules::Http(ObjectKind::GrpcRoute, http(faults)),
            ConfigKind::TcpRoute
            | ConfigKind::VirtualService
            | ConfigKind::DestinationRule
            | ConfigKind::ServiceEntry
            | ConfigKind::Telemetry
            | ConfigKind::Gateway
            | ConfigKind::ReferenceGrant => {
                Rules::Tcp(said.map(|(index, said)| tcp_rule(&resolver, index, said, port, faults)).collect())
            }
        }
    }

    fn tell(&mut self, route: &Route<'_>, field: &str, reason: FindingReason, message: impl Into<String>) {
        self.routes.findings.push(Finding::new(route.object, field, reason, message));
    }

    /// What is legal, and does not do what its author may think.
    fn remarks(&mut self, route: &Route<'_>) {
        let spec = route.spec;
        let no_effect = FindingReason::NoEffect;
        let is_of_gateway = |to: &ParentRef| &*to.kind == "Gateway";
        if !spec.hostnames.is_empty() && !spec.parents.iter().any(is_of_gateway) {
            let why = "a service is known by its address: host names of its routes are not looked at";
            self.tell(route, "spec.hostnames", no_effect, why);
        }
        if spec.default_gateways == Some(GatewayScope::All) {
            self.tell(route, "spec.useDefaultGateways", no_effect, "no waypoint is a default Gateway");
        }
        if spec.parents.is_empty() {
            self.tell(route, "spec.parentRefs", no_effect, "attached to nothing");
        }
        if spec.rules.is_empty() {
            self.tell(route, "spec.rules", no_effect, "there are none");
        }
        let is_tcp = route.object.kind == ConfigKind::TcpRoute;
        let answer = if is_tcp { "its connections are closed" } else { "its requests are answered with 500" };
        for (index, rule) in spec.rules.iter().enumerate() {
            let field = format!("spec.rules[{index}].backendRefs");
            if is_tcp && index > 0 {
                self.tell(route, &format!("spec.rules[{index}]"), no_effect, "the first rule takes every connection");
            } else if rule.filters.redirect.is_some() {
                continue;
            } else if rule.backends.is_empty() {
                self.tell(route, &field, no_effect, format!("there are none: {answer}"));
            } else if rule.backends.iter().all(|one| one.weight == Some(0)) {
                self.tell(route, &field, no_effect, format!("their weights add up to 0: {answer}"));
            }
        }
    }
}

/// The rules of a route.
enum Rules {
    Http(ObjectKind, Vec<Rule>),
    Tcp(Vec<TcpRule>),
}

/// What holds of a route at a parent, which took it by its name or did not. A route all of whose rules are dropped is not accepted, and still refuses.
fn conditions(taken: Result<&str, (RouteReason, String)>, faults: &Faults, rules: usize) -> Vec<RouteCondition> {
    use RouteConditionKind::{Accepted, PartiallyInvalid, ResolvedRefs};
    let condition = |kind, holds, reason, message| RouteCondition { kind, holds, reason, message };
    let dropped = told(faults.dropped.iter().map(String::as_str));
    let accepted = match taken {
        Err((reason, why)) => condition(Accepted, false, reason, why),
        Ok(_) if rules > 0 && faults.dropped.len() == rules => {
            let why = format!("no rule can be served, and its requests are answered with 500: {dropped}");
            condition(Accepted, false, RouteReason::UnsupportedValue, why)
        }
        Ok(name) => condition(Accepted, true, RouteReason::Accepted, format!("attached to {name}")),
    };
    let resolved = match faults.references.first() {
        None => condition(ResolvedRefs, true, RouteReason::ResolvedRefs, "all references are resolved".to_owned()),
        Some((reason, _)) => {
            let why = told(faults.references.iter().map(|(_, why)| why.as_str()));
            condition(ResolvedRefs, false, *reason, why)
        }
    };
    let mut partly = Vec::new();
    if !faults.dropped.is_empty() {
        partly.push(format!("Dropped Rule: {dropped}"));
    }
    if !faults.less.is_empty() {
        partly.push(told(faults.less.iter().map(String::as_str)));
    }
    let is_partly = accepted.holds && !partly.is_empty();
    let mut conditions = vec![accepted, resolved];
    if is_partly {
        conditions.push(condition(PartiallyInvalid, true, RouteReason::UnsupportedValue, partly.join("; ")));
    }
    conditions
}

/// Some of them in words, and how many more there are.
fn told<'f>(faults: impl Iterator<Item = &'f str> + Clone) -> String {
    let more = faults.clone().count().saturating_sub(MAX_TOLD);
    let mut told = faults.take(MAX_TOLD).collect::<Vec<_>>().join("; ");
    if more > 0 {
        told.push_str(&format!("; and {more} more"));
    }
    told
}

#[cfg(test)]
mod tests;
