//! Policies with targetRefs among the objects: which of them cover what a waypoint serves, and who enforces them.

use std::{collections::BTreeSet, sync::Arc};

use weir_authz::http::HttpPolicy;
use weir_manifest::{Backing, ConfigKind, ConfigSpec, Labels, TargetRef, WaypointLabels};
use weir_model::{Namespace, PolicyName};

use super::{Compiler, index::Index};
use crate::{
    Configs,
    gateway::{Around, BindingOutcome, Bond, GatewayRole},
    policy::{
        Declared,
        attached::{AtWaypoint, Home, Served, TargetKind, TokenPolicy, WaypointName, is_of_waypoints},
        status::{ConditionReason, Enforcer},
    },
    trimmed::Key,
};

impl Compiler {
    /// The policies that a waypoint enforces over what it serves, sorted by name. One that is not legal, AuthorizationPolicy or
    /// RequestAuthentication, is among them and denies. Policies with a selector are the agents', never a waypoint's, as Istio has it.
    pub fn covering(&self, served: &Served, gateway: &WaypointName) -> Vec<Arc<HttpPolicy>> {
        let policy = |says: &AtWaypoint| match says {
            AtWaypoint::Policy(policy) => Some(policy.clone()),
            AtWaypoint::Tokens(_) => None,
        };
        self.over(served, gateway).filter_map(policy).collect()
    }

    /// The RequestAuthentications that a waypoint enforces over what it serves, sorted by name.
    pub fn tokens_covering(&self, served: &Served, gateway: &WaypointName) -> Vec<Arc<TokenPolicy>> {
        let tokens = |says: &AtWaypoint| match says {
            AtWaypoint::Policy(_) => None,
            AtWaypoint::Tokens(tokens) => Some(tokens.clone()),
        };
        self.over(served, gateway).filter_map(tokens).collect()
    }

    /// What policies are attached to by name.
    pub(super) fn targets(&self) -> BTreeSet<Served> {
        let declared = self.index.attached.iter().filter_map(|name| Some((name, self.index.policies.get(name)?)));
        let of = |(name, declared): (&PolicyName, &Declared)| -> Vec<Served> {
            let namespace = || name.namespace.clone();
            let targets = declared.attached.iter().flat_map(|attached| &attached.to);
            targets
                .filter_map(|target| match TargetKind::of(target)? {
                    TargetKind::Service => Some(Served::Service { namespace: namespace(), name: target.name.clone() }),
                    TargetKind::ServiceEntry => {
                        Some(Served::ServiceEntry { namespace: namespace(), name: target.name.clone() })
                    }
                    TargetKind::Gateway | TargetKind::GatewayClass => None,
                })
                .collect()
        };
        declared.flat_map(of).collect()
    }

    fn over(&self, served: &Served, gateway: &WaypointName) -> impl Iterator<Item = &AtWaypoint> {
        let class = class_of(&self.configs, &gateway.namespace, &gateway.name);
        self.index.attached.iter().filter_map(move |name| {
            let declared = self.index.policies.get(name)?;
            let attached = declared.attached.as_ref()?;
            let covers = attached.covers(&name.namespace, home(declared), served, gateway, class);
            covers.then_some(&attached.says)
        })
    }

    /// Marks the policies whose targets may be served by somebody else now: those of a namespace, or all.
    pub(super) fn mark_attached(&mut self, namespace: Option<&Namespace>) {
        let own = |name: &&PolicyName| namespace.is_none_or(|namespace| *namespace == name.namespace);
        let names: Vec<PolicyName> = self.index.attached.iter().filter(own).cloned().collect();
        self.marked.statuses.extend(names);
    }
}

fn home(declared: &Declared) -> Home {
    if declared.over.is_none() { Home::Root } else { Home::Other }
}

/// Who enforces a policy over one of its targets.
pub(super) enum Reached {
    By(Enforcer),
    /// Nobody.
    Nowhere {
        reason: ConditionReason,
        why: String,
    },
}

impl Index {
    /// Who enforces a policy of that name, target by target.
    pub(super) fn reached(&self, declared: &Declared, name: &PolicyName, configs: &Configs) -> Vec<Reached> {
        let targets = declared.attached.iter().flat_map(|attached| &attached.to);
        targets.map(|target| self.target(target, &name.namespace, home(declared), configs)).collect()
    }

    fn target(&self, target: &TargetRef, own: &Namespace, home: Home, configs: &Configs) -> Reached {
        let key = Key { namespace: own.clone(), name: target.name.clone() };
        let what = format!("{} {own}/{}", target.kind, target.name);
        let missing =
            || Reached::Nowhere { reason: ConditionReason::TargetNotFound, why: format!("there is no {what}") };
        let nothing = (WaypointLabels::default(), Labels::new());
        let unsaid = Around { waypoint: &nothing.0, labels: &nothing.1 };
        let space = self.space(own).map_or(unsaid, |space| space.around());
        match TargetKind::of(target) {
            Some(TargetKind::Service) => match self.service_object(&key) {
                Some(service) if service.backing == Backing::Endpoints => {
                    bound(&what, self.gateways.of_service(service, space))
                }
                Some(_) => unbound(format!("{what} has no endpoints of its own, so no waypoint serves it")),
                None => missing(),
            },
            Some(TargetKind::ServiceEntry) => match labels_of(configs, &key) {
                Some(labels) => bound(&what, self.gateways.of_entry(labels, space, &key.namespace)),
                None => missing(),
            },
            Some(TargetKind::Gateway) => match self.role(&key, configs) {
                Some(GatewayRole::Waypoint) => Reached::By(waypoint(key)),
                Some(GatewayRole::Other) => unbound(format!("{what} is of no waypoint's class")),
                None => missing(),
            },
            Some(TargetKind::GatewayClass) => match (home, is_of_waypoints(&target.name)) {
                (Home::Other, _) => Reached::Nowhere {
                    reason: ConditionReason::Invalid,
                    why: "a GatewayClass is a target of policies of the root namespace only".to_owned(),
                },
                (Home::Root, true) => Reached::By(Enforcer::Waypoints { class: target.name.to_string() }),
                (Home::Root, false) => Reached::Nowhere {
                    reason: ConditionReason::TargetNotFound,
                    why: format!("{} is no class of waypoints", target.name),
                },
            },
            None => missing(),
        }
    }

    /// What a Gateway is, if there is one.
    fn role(&self, key: &Key, configs: &Configs) -> Option<GatewayRole> {
        let declared = || class_of(configs, &key.namespace, &key.name).map(GatewayRole::of_class);
        self.gateways.role(key).or_else(declared)
    }
}

/// The class of a Gateway, if there is one.
pub(super) fn class_of<'c>(configs: &'c Configs, namespace: &Namespace, name: &str) -> Option<&'c str> {
    configs.of(ConfigKind::Gateway).find_map(|object| match &object.spec {
        ConfigSpec::Gateway(spec) if object.namespace == *namespace && *object.name == *name => Some(&*spec.class),
        ConfigSpec::Gateway(_)
        | ConfigSpec::VirtualService(_)
        | ConfigSpec::DestinationRule(_)
        | ConfigSpec::ServiceEntry(_)
        | ConfigSpec::Telemetry(_)
        | ConfigSpec::Route(_)
        | ConfigSpec::ReferenceGrant(_)
        | ConfigSpec::Rejected(_) => None,
    })
}

/// What a ServiceEntry says of its waypoint, if there is such a one.
fn labels_of<'c>(configs: &'c Configs, key: &Key) -> Option<&'c WaypointLabels> {
    let mut entries = configs.of(ConfigKind::ServiceEntry);
    let entry = entries.find(|one| one.namespace == key.namespace && one.name == key.name)?;
    match &entry.spec {
        ConfigSpec::ServiceEntry(spec) => Some(&spec.waypoint),
        ConfigSpec::Gateway(_)
        | ConfigSpec::VirtualService(_)
        | ConfigSpec::DestinationRule(_)
        | ConfigSpec::Telemetry(_)
        | ConfigSpec::Route(_)
        | ConfigSpec::ReferenceGrant(_)
        | ConfigSpec::Rejected(_) => None,
    }
}

fn waypoint(Key { namespace, name }: Key) -> Enforcer {
    Enforcer::Waypoint { namespace: namespace.to_string(), name: name.to_string() }
}

fn unbound(why: String) -> Reached {
    Reached::Nowhere { reason: ConditionReason::AncestorNotBound, why }
}

fn bound(what: &str, bond: Option<Bond>) -> Reached {
    match bond {
        None => unbound(format!("{what} has no waypoint")),
        Some(Bond { gateway, outcome: BindingOutcome::Bound }) => Reached::By(waypoint(gateway)),
        Some(Bond { gateway: Key { namespace, name }, outcome }) => {
            unbound(format!("{what} is bound to {namespace}/{name}, but {outcome}"))
        }
    }
}

#[cfg(test)]
#[path = "attached/tests.rs"]
mod tests;
