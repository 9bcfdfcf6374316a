//! VirtualServices, to routes.
//!
//! In: the objects, the services there are, and the subsets that DestinationRules know. Out: for each service its routes, and what is to be told to
//! their authors. What is wrong with one rule leaves the others in force.
//!
//! **Whom one is for.** One in the namespace of the service, or of the waypoint that this is bound to, is for every client: these are those that
//! Istio's waypoint looks at, and it must be exported (`exportTo`) to the namespace of the waypoint, or of the service if that has none elsewhere. One
//! in any other namespace is for the clients of that namespace alone, as if each of them had a sidecar, and must be exported to these. `gateways` that do not name `mesh` make it one of gateways, which no
//! waypoint asks.
//!
//! **Which one counts.** For a service, of those that are for the same clients, the ones with the most specific host: one that is written out before a
//! wildcard, a long one before a short one. Several of these are asked one after the other, the oldest first. On a port that no rule of
//! theirs is for, requests go to the service itself.
//!
//! **Delegates.** A rule that delegates stands for the rules of another object that has no hosts, for those requests that both ask for; what those
//! do not say of rewriting, timeouts, retries, faults, copies, CORS and headers, the rule itself does. One level is followed. A rule whose
//! delegate is missing or bad, or which asks for what the other excludes, has no effect.

mod beaten;
mod delegate;
mod hosts;
mod http;
mod narrowed;
mod target;
mod tcp;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use weir_manifest::{ConfigKind, ConfigObject, ConfigSpec, VirtualServiceSpec};
use weir_model::{Hostname, Namespace, Port, Service};
use weir_route::{Audience, MESH, ObjectKind, RouteObject};
use weir_serving::Destinations;

use self::{delegate::Expanded, hosts::Place, target::Targets, told::Told};
pub(super) use beaten::beaten;

use super::{Configs, FindingReason, Ground, HostRoutes, Routes, gateway_route::age};

/// Most matches that one object comes to over all services it is for.
const MAX_OF_OBJECT: usize = 200_000;
/// Most matches of all objects for one service: one legal object fits, and no namespace of clients takes the room of another service's own.
const MAX_OF_SERVICE: usize = 65_536;

/// What VirtualServices say of each host.
pub(super) fn compile(
    ground: &Ground<'_>,
    configs: &Configs,
    destinations: &BTreeMap<Hostname, Arc<Destinations>>,
) -> Routes {
    let mut told = Told::default();
    let all = declared(configs);
    let roots = roots(&all, &mut told);
    let places = hosts::places(ground, &roots, &mut told);
    let targets = Targets { ground, destinations, told };
    let mut making = Making {
        roots: &roots,
        targets,
        of_objects: BTreeMap::new(),
        of_service: 0,
        used: BTreeSet::new(),
        tls: BTreeSet::new(),
    };
    let mut hosts = BTreeMap::new();
    for (host, places) in &places {
        if let Some(service) = ground.service(host) {
            hosts.insert(host.clone(), making.host(service, places));
        }
    }
    making.tell_what_is_not_used(&places);
    Routes { hosts, findings: making.targets.told.into_findings() }
}

/// A VirtualService.
#[derive(Clone, Copy)]
struct Declared<'c> {
    object: &'c ConfigObject,
    spec: &'c VirtualServiceSpec,
}

impl Declared<'_> {
    fn is_of_mesh(&self) -> bool {
        self.spec.gateways.is_empty() || self.spec.gateways.iter().any(|gateway| &**gateway == MESH)
    }

    /// The file it came from.
    fn file(&self) -> Option<Arc<str>> {
        let origin = &self.object.origin;
        (origin.line > 0).then(|| origin.file.as_str().into())
    }
}

/// All of them, in the order they are asked in: the oldest first.
fn declared<'c>(configs: &'c Configs) -> Vec<Declared<'c>> {
    let mut all = Vec::new();
    for object in configs.of(ConfigKind::VirtualService) {
        if let ConfigSpec::VirtualService(spec) = &object.spec {
            all.push(Declared { object, spec });
        }
    }
    all.sort_by(|one: &Declared<'_>, other| {
        let rank = |one: &Declared<'c>| (&one.object.created, &one.object.namespace, &one.object.name);
        rank(one).cmp(&rank(other))
    });
    all
}

/// A VirtualService that has hosts, and whose rules count within the mesh.
struct Root<'c> {
    declared: Declared<'c>,
    created: Option<SystemTime>,
    /// Its rules for requests, those of its delegates in place of what delegates.
    http: Vec<Expanded<'c>>,
    /// The index of the rule that takes every request, if one does.
    takes_all: Option<usize>,
}

fn roots<'c>(all: &[Declared<'c>], told: &mut Told) -> Vec<Root<'c>> {
    let delegates = delegate::Delegates::new(all);
    let mut roots = Vec::new();
    for declared in all.iter().copied().filter(|one| !one.spec.hosts.is_empty()) {
        if declared.is_of_mesh() {
            let http = delegates.expanded(declared, told);
            let created = declared.object.created.as_deref().and_then(age::time);
            let takes_all = http.iter().find(|rule| rule.takes_all()).map(|rule| rule.index);
            roots.push(Root { declared, created, http, takes_all });
        } else {
            let message = "it is for gateways alone, since gateways does not name \"mesh\": no waypoint asks it";
            told.tell(declared.object, 0, "spec.gateways", FindingReason::NoEffect, message);
        }
    }
    delegates.tell_unused(told);
    for root in &roots {
        root.tell_what_is_never_asked(told);
    }
    roots
}

impl Root<'_> {
    /// Whether it says anything of connections that are not HTTP.
    fn has_tcp(&self) -> bool {
        !self.declared.spec.tcp.is_empty() || !self.declared.spec.tls.is_empty()
    }

    /// The rules behind one that takes everything.
    fn tell_what_is_never_asked(&self, told: &mut Told) {
        let Declared { object, spec } = self.declared;
        for (index, rule) in spec.http.iter().enumerate() {
            if let Some(all) = self.takes_all.filter(|all| *all < index) {
                let message = format!("spec.http[{all}] takes every request before it");
                told.tell(object, rule.line, format!("spec.http[{index}]"), FindingReason::NoEffect, message);
            }
        }
        let all = spec.tcp.iter().position(|rule| rule.matches.is_empty());
        for (index, rule) in spec.tcp.iter().enumerate() {
            if let Some(all) = all.filter(|all| *all < index) {
                let message = format!("spec.tcp[{all}] takes every connection before it");
                told.tell(object, rule.line, format!("spec.tcp[{index}]"), FindingReason::NoEffect, message);
            }
        }
    }
}

/// Routes, while they are made.
struct Making<'a, 'c> {
    roots: &'a [Root<'c>],
    targets: Targets<'a>,
    /// How many matches each root came to so far.
    of_objects: BTreeMap<usize, usize>,
    /// How many the service at hand came to so far.
    of_service: usize,
    /// The roots that count for any service.
    used: BTreeSet<usize>,
    /// The rules of `tls` that count for any service, by root and index.
    tls: BTreeSet<(usize, usize)>,
}

impl<'c> Making<'_, 'c> {
    /// What is said of one service.
    fn host(&mut self, service: &Service, places: &[Place]) -> HostRoutes {
        self.of_service = 0;
        let mut routes = HostRoutes::default();
        let mut layers: BTreeMap<Option<&Namespace>, Vec<&Place>> = BTreeMap::new();
        for place in places {
            let Some(root) = self.roots.get(place.root) else { continue };
            let clients = match place.audience {
                Audience::Everyone => None,
                Audience::OwnNamespace => Some(&root.declared.object.namespace),
            };
            layers.entry(clients).or_default().push(place);
        }
        let has_everyone = layers.contains_key(&None);
        // Those for everyone come first, and so have room.
        for (clients, places) in layers {
            // Where something is for everyone, that is asked behind what is for these clients.
            let is_last = clients.is_none() || !has_everyone;
            self.layer(service, &places, is_last, &mut routes);
        }
        routes
    }

    /// Those for the same clients, of which the most specific count.
    fn layer(&mut self, service: &Service, places: &[&Place], is_last: bool, routes: &mut HostRoutes) {
        let Some(best) = places.iter().map(|place| place.reach).max() else { return };
        let counting = places.iter().filter(|place| place.reach == best);
        let counting: Vec<(usize, &Place)> = counting.map(|place| (place.root, *place)).collect();
        self.used.extend(counting.iter().map(|(root, _)| *root));
        self.tell_conflicts(service, &counting);
        let (mut http, mut tcp) = (Vec::new(), Vec::new());
        let mut open: [BTreeSet<Port>; 2] = [(); 2].map(|()| service.ports.iter().map(|port| port.port).collect());
        for (at, place) in &counting {
            let Some(root) = self.roots.get(*at) else { continue };
            if !root.declared.spec.http.is_empty() {
                let object = self.http(*at, root, service, place.audience);
                open[0].retain(|port| !object.rules.iter().any(|rule| http::is_for(rule, *port)));
                http.push(object);
            }
            if root.has_tcp() {
                let objects = self.tcp(*at, root, service, place.audience);
                open[1].retain(|port| {
                    let mut rules = objects.iter().flat_map(|object| &object.rules);
                    !rules.any(|rule| tcp::is_for(rule, *port))
                });
                tcp.extend(objects);
            }
        }
        if is_last {
            let [of_http, of_tcp] = open;
            http.last_mut().into_iter().for_each(|object| http::open(object, service, &of_http));
            tcp.last_mut().into_iter().for_each(|object| tcp::open(object, service, &of_tcp));
        }
        routes.http.extend(http);
        routes.tcp.extend(tcp);
    }

    /// The rules for requests to one service.
    fn http(&mut self, at: usize, root: &Root<'c>, service: &Service, audience: Audience) -> RouteObject {
        let Declared { object, spec: _ } = root.declared;
        let count = root.http.iter().map(|rule| rule.matches.len().max(1)).sum();
        let rules = match self.has_room(at, count) {
            true => root.http.iter().map(|rule| self.targets.http_rule(rule, service)).collect(),
            false => {
                let why = self.tell_no_room(root, service, "spec.http", "requests to it are refused with 503");
                vec![http::refused(why)]
            }
        };
        RouteObject {
            kind: ObjectKind::VirtualService,
            namespace: object.namespace.clone(),
            name: (*object.name).into(),
            file: root.declared.file(),
            created: root.created,
            audience,
            rules,
        }
    }

    /// Whether a root may come to so many matches more, for the service at hand.
    fn has_room(&mut self, at: usize, count: usize) -> bool {
        let of_object = self.of_objects.entry(at).or_default();
        let (object, service) = (of_object.saturating_add(count), self.of_service.saturating_add(count));
        let fits = object <= MAX_OF_OBJECT && service <= MAX_OF_SERVICE;
        if fits {
            (*of_object, self.of_service) = (object, service);
        }
        fits
    }

    /// Tells that there is no room for the rules of a root, and why.
    fn tell_no_room(&mut self, root: &Root<'_>, service: &Service, field: &str, then: &str) -> String {
        let host = &service.name.hostname;
        let why = format!(
            "more than {MAX_OF_OBJECT} matches over all services it is for, or {MAX_OF_SERVICE} of all VirtualServices for {host}"
        );
        let message = format!("{why}: {then}");
        self.targets.told.tell(root.declared.object, 0, field, FindingReason::Unsupported, message);
        why
    }

    /// Of several that count for one service, those behind the first.
    fn tell_conflicts(&mut self, service: &Service, counting: &[(usize, &Place)]) {
        let roots: Vec<&Root<'c>> = counting.iter().filter_map(|(at, _)| self.roots.get(*at)).collect();
        for (at, root) in roots.iter().enumerate() {
            let mut before = roots.iter().take(at);
            let both = |other: &&&Root<'c>| {
                (!other.http.is_empty() && !root.http.is_empty()) || (other.has_tcp() && root.has_tcp())
            };
            let Some(first) = before.find(both) else { continue };
            let object = first.declared.object;
            let takes_all = !root.http.is_empty() && first.takes_all.is_some();
            let then = if takes_all { ", and take every request" } else { "" };
            let message = format!(
                "VirtualService {}/{} says something of {} as well: its rules are asked first{then}",
                object.namespace, object.name, service.name.hostname
            );
            let own = root.declared.object;
            self.targets.told.tell(own, 0, "spec.hosts", FindingReason::Conflicted, message);
        }
    }

    /// What counts nowhere.
    fn tell_what_is_not_used(&mut self, places: &BTreeMap<Hostname, Vec<Place>>) {
        let placed: BTreeSet<usize> = places.values().flatten().map(|place| place.root).collect();
        for (at, root) in self.roots.iter().enumerate() {
            let Declared { object, spec } = root.declared;
            if placed.contains(&at) && !self.used.contains(&at) {
                let message = "others with a more specific host count in its place, for every service it names";
                self.targets.told.tell(object, 0, "spec.hosts", FindingReason::Conflicted, message);
            }
            for (index, rule) in spec.tls.iter().enumerate() {
                if self.used.contains(&at) && !self.tls.contains(&(at, index)) {
                    let message = "it is for no port where a service that it is for speaks TLS (named tls or https): it has no effect";
                    let field = format!("spec.tls[{index}]");
                    self.targets.told.tell(object, rule.line, field, FindingReason::NoEffect, message);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
