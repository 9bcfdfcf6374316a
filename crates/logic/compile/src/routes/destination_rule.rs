//! DestinationRules, by the host they are about.
//!
//! In: the rules, and the services there are. Out: for each service the rule that holds, merged of all that do, and what is wrong with the others.
//! Rules are looked for in Istio's order: in the namespace of the waypoint that the service is bound to, in that of the service, in the root
//! namespace; in the namespace of a client nowhere. They must be exported to that of the waypoint, which is the service's own if it is bound
//! to none. In each an exact host goes before a wildcard, and a long wildcard before a short one (Istio `MostSpecificHostMatch`). Rules with
//! `workloadSelector` are for sidecars.

mod merged;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weir_manifest::{ConfigKind, ConfigObject, ConfigSpec, DestinationRuleSpec, Remark, RemarkKind};
use weir_model::{Hostname, Namespace, Port, Service, WaypointDestination};
use weir_serving::Destinations;

use self::merged::merge;
use super::{Configs, Finding, FindingReason, Ground};

/// Which DestinationRule holds for each host, and what is wrong with those there are.
pub(super) fn compile(ground: &Ground<'_>, configs: &Configs) -> (BTreeMap<Hostname, Arc<Destinations>>, Vec<Finding>) {
    let ports: BTreeSet<Port> = ground.services().flat_map(|service| &service.ports).map(|port| port.port).collect();
    let (rules, mut findings) = Rules::new(ground, configs);
    let (mut hosts, mut used) = (BTreeMap::new(), BTreeSet::new());
    let mut made: BTreeMap<&[usize], Arc<Destinations>> = BTreeMap::new();
    let mut lists = Vec::new();
    for service in ground.services() {
        let list = rules.holding(ground, service);
        if !list.is_empty() {
            used.extend(list.iter().copied());
            lists.push((service, list));
        }
    }
    for (service, list) in &lists {
        let destinations = made.entry(list).or_insert_with(|| {
            let rules: Vec<&Rule<'_>> = list.iter().filter_map(|at| rules.all.get(*at)).collect();
            Arc::new(merge(&rules, &ports, &mut findings))
        });
        hosts.insert(service.name.hostname.clone(), destinations.clone());
    }
    for (at, rule) in rules.all.iter().enumerate() {
        findings.extend(rule.spec.remarks.iter().map(|remark| of_remark(rule.object, remark)));
        findings.extend(rule.unknown_ports(ground));
        if !used.contains(&at) {
            findings.push(rule.idle(ground));
        }
    }
    (hosts, findings)
}

/// What is to be told of a field that does not do what it says.
pub(super) fn of_remark(object: &ConfigObject, remark: &Remark) -> Finding {
    let reason = match remark.kind {
        RemarkKind::Unsupported => FindingReason::Unsupported,
        RemarkKind::NoEffect => FindingReason::NoEffect,
    };
    Finding::new(object, remark.field.clone(), reason, remark.text)
}

/// The namespace from which a service is looked at: that of its waypoint.
pub(super) fn viewer(service: &Service) -> &Namespace {
    match service.waypoint.as_ref().map(|waypoint| &waypoint.destination) {
        Some(WaypointDestination::Service(name)) => &name.namespace,
        Some(WaypointDestination::Address(..)) | None => &service.name.namespace,
    }
}

/// The namespaces whose rules are looked at for a service, one after the other.
fn order<'s>(ground: &Ground<'s>, service: &'s Service) -> [&'s Namespace; 3] {
    [viewer(service), &service.name.namespace, &ground.settings.root_namespace]
}

/// A rule that counts at waypoints.
struct Rule<'c> {
    object: &'c ConfigObject,
    spec: &'c DestinationRuleSpec,
    host: Pattern,
}

/// `host`.
enum Pattern {
    /// One.
    Exact(Hostname),
    /// `*` and what follows it.
    Suffix(Box<str>),
}

impl Pattern {
    fn of(ground: &Ground<'_>, object: &ConfigObject, spec: &DestinationRuleSpec) -> Option<Self> {
        match spec.host.strip_prefix('*') {
            Some(suffix) => Some(Self::Suffix(suffix.into())),
            None => ground.host(&spec.host, &object.namespace).map(Self::Exact),
        }
    }

    fn matches(&self, host: &Hostname) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Suffix(suffix) => host.as_str().ends_with(&**suffix),
        }
    }
}

impl Rule<'_> {
    /// Whether it is looked at for a service, wherever it is seen.
    fn is_near(&self, ground: &Ground<'_>, service: &Service) -> bool {
        order(ground, service).contains(&&self.object.namespace)
    }

    fn is_seen(&self, service: &Service) -> bool {
        self.spec.export_to.reaches(&self.object.namespace, viewer(service))
    }

    /// Why it holds for no service.
    fn idle(&self, ground: &Ground<'_>) -> Finding {
        let host = &self.spec.host;
        let matching: Vec<&Arc<Service>> = match &self.host {
            Pattern::Exact(host) => ground.service(host).into_iter().collect(),
            Pattern::Suffix(_) => ground.services().filter(|one| self.host.matches(&one.name.hostname)).collect(),
        };
        let near: Vec<_> = matching.iter().filter(|one| self.is_near(ground, one)).collect();
        let seen = near.iter().any(|one| self.is_seen(one));
        let (field, reason, message) = match (matching.first(), near.is_empty(), seen) {
            (None, _, _) => {
                let message = format!("no service has the host {host}, a service of the mesh is expected");
                ("spec.host", FindingReason::UnknownHost, message)
            }
            (Some(service), true, _) => {
                let (there, root) = (&service.name.namespace, &ground.settings.root_namespace);
                let message = format!(
                    "at a waypoint a rule counts in its own namespace, in that of the service, {there}, or in the root namespace, {root}; it has no effect"
                );
                ("metadata.namespace", FindingReason::NoEffect, message)
            }
            (Some(service), false, false) => {
                let message = format!("it is not seen in the namespace of the service's waypoint, {}", viewer(service));
                ("spec.exportTo", FindingReason::NotPermitted, message)
            }
            (Some(_), false, true) => {
                let message = "rules with a narrower host, or of a namespace that is nearer, count in its place";
                ("spec.host", FindingReason::Conflicted, message.to_owned())
            }
        };
        Finding::new(self.object, field, reason, message)
    }

    /// Ports with settings of their own that the service does not have.
    fn unknown_ports(&self, ground: &Ground<'_>) -> Vec<Finding> {
        let Pattern::Exact(host) = &self.host else { return Vec::new() };
        let Some(service) = ground.service(host) else { return Vec::new() };
        let own = self.spec.policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
        let of_subsets = self
            .spec
            .subsets
            .iter()
            .enumerate()
            .filter_map(|(i, subset)| Some((format!("spec.subsets[{i}].trafficPolicy"), subset.policy.as_ref()?)));
        let unknown = |port: &&Port| !service.ports.iter().any(|own| own.port == **port);
        let finding = |path: &str, port: &Port| {
            let message = format!("{host} has no port {port}, its settings have no effect");
            Finding::new(self.object, format!("{path}.portLevelSettings"), FindingReason::UnknownHost, message)
        };
        own.chain(of_subsets)
            .flat_map(|(path, policy)| {
                policy.ports.keys().filter(unknown).map(move |port| finding(&path, port)).collect::<Vec<_>>()
            })
            .collect()
    }
}

/// The rules of a namespace, by their hosts, the oldest first.
#[derive(Default)]
struct Space {
    exact: BTreeMap<Hostname, Vec<usize>>,
    /// The longest first.
    wild: BTreeMap<(Reverse<usize>, Box<str>), Vec<usize>>,
}

struct Rules<'c> {
    /// The oldest first.
    all: Vec<Rule<'c>>,
    spaces: BTreeMap<&'c Namespace, Space>,
}

impl<'c> Rules<'c> {
    fn new(ground: &Ground<'_>, configs: &'c Configs) -> (Self, Vec<Finding>) {
        let (mut all, mut findings) = (Vec::new(), Vec::new());
        for object in configs.of(ConfigKind::DestinationRule) {
            let ConfigSpec::DestinationRule(spec) = &object.spec else { continue };
            if spec.workload_selector.is_some() {
                let text = "rules with a selector are for sidecars, which are not there; it has no effect";
                let field = "spec.workloadSelector";
                findings.push(Finding::new(object, field, FindingReason::NoEffect, text));
            } else if let Some(host) = Pattern::of(ground, object, spec) {
                all.push(Rule { object, spec, host });
            } else {
                let text = format!("{} is no service of {}: the name is too long", spec.host, object.namespace);
                findings.push(Finding::new(object, "spec.host", FindingReason::UnknownHost, text));
            }
        }
        // Those whose age is not known go first, as with every kind.
        all.sort_by(|one: &Rule<'_>, other| {
            let rank = |rule: &Rule<'c>| (&rule.object.created, &rule.object.name, &rule.object.namespace);
            rank(one).cmp(&rank(other))
        });
        let mut spaces: BTreeMap<&Namespace, Space> = BTreeMap::new();
        for (at, rule) in all.iter().enumerate() {
            let space = spaces.entry(&rule.object.namespace).or_default();
            match &rule.host {
                Pattern::Exact(host) => space.exact.entry(host.clone()).or_default().push(at),
                Pattern::Suffix(suffix) => {
                    space.wild.entry((Reverse(suffix.len()), suffix.clone())).or_default().push(at);
                }
            }
        }
        (Self { all, spaces }, findings)
    }

    /// Those that hold for a service, which are all for one host and of one namespace, the oldest first.
    fn holding(&self, ground: &Ground<'_>, service: &Service) -> Vec<usize> {
        let host = &service.name.hostname;
        let seen = |list: &Vec<usize>| -> Vec<usize> {
            let is = |at: &&usize| self.all.get(**at).is_some_and(|rule| rule.is_seen(service));
            list.iter().filter(is).copied().collect()
        };
        for space in order(ground, service).into_iter().filter_map(|namespace| self.spaces.get(namespace)) {
            let wild = space.wild.iter().filter(|((_, suffix), _)| host.as_str().ends_with(&**suffix));
            let lists = space.exact.get(host).into_iter().chain(wild.map(|(_, list)| list));
            if let Some(found) = lists.map(seen).find(|list| !list.is_empty()) {
                return found;
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
