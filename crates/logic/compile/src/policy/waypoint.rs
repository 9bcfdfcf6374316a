//! `weir.dev/waypoint: required`: nobody may enter a pod but the waypoints it is bound to.

use std::{collections::BTreeSet, sync::Arc};

use weir_manifest::{ServiceObject, WaypointLabels, WaypointUse};
use weir_model::{
    Clause, Match, Namespace, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource,
    RulePlace, Sides, TextMatch,
};

use crate::{Settings, trimmed::Key};

/// The label of a waypoint's own pods. Gateway API, GEP-1762.
pub(crate) const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// What is said of the waypoints of a pod.
pub(crate) struct Bonds<'s> {
    pub(crate) pod: &'s Key,
    /// The Gateway whose own pod it is.
    pub(crate) gateway: Option<&'s Arc<str>>,
    /// What the pod says.
    pub(crate) own: &'s WaypointLabels,
    /// The services of its namespace that it stands behind, ready or not. Those of others have no say in who enters it.
    pub(crate) services: Vec<&'s ServiceObject>,
    /// What its namespace says.
    pub(crate) namespace: &'s WaypointLabels,
}

/// A waypoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Waypoint {
    namespace: Namespace,
    name: Arc<str>,
}

impl Bonds<'_> {
    /// What denies the pod to everybody else, if anything says that it must be.
    pub(crate) fn required(&self, settings: &Settings) -> Option<Policy> {
        let wholly = self.own.required || self.namespace.required;
        let asking = |service: &&&ServiceObject| wholly || service.waypoint.required;
        let services: Vec<&ServiceObject> = self.services.iter().filter(asking).copied().collect();
        if !wholly && services.is_empty() {
            return None;
        }
        let mut waypoints = self.waypoints(&services);
        let own = self.gateway.map(|name| Waypoint { namespace: self.pod.namespace.clone(), name: name.clone() });
        let is_one = own.is_some_and(|own| waypoints.remove(&own));
        match (waypoints.is_empty(), is_one) {
            // It is the waypoint that it is bound to.
            (true, true) => None,
            (true, false) => Some(self.unbound()),
            (false, _) => Some(self.policy(settings, &waypoints)),
        }
    }

    /// Those that it is bound to: by its own word, or else by that of its services, each of which has it from the namespace
    /// unless it says otherwise.
    fn waypoints(&self, services: &[&ServiceObject]) -> BTreeSet<Waypoint> {
        let said: Vec<&WaypointUse> = match (&self.own.uses, services) {
            (Some(own), _) => vec![own],
            (None, []) => self.namespace.uses.iter().collect(),
            (None, services) => {
                let either = |service: &&ServiceObject| service.waypoint.uses.is_some();
                let named = services.iter().filter_map(|service| service.waypoint.uses.as_ref());
                let inherited = (!services.iter().all(either)).then_some(self.namespace.uses.as_ref()).flatten();
                named.chain(inherited).collect()
            }
        };
        let waypoint = |one: &WaypointUse| match one {
            WaypointUse::None => None,
            WaypointUse::Gateway { namespace, name } => {
                let namespace = namespace.as_ref().unwrap_or(&self.pod.namespace).clone();
                Some(Waypoint { namespace, name: name.clone() })
            }
        };
        said.into_iter().filter_map(waypoint).collect()
    }

    fn policy(&self, settings: &Settings, waypoints: &BTreeSet<Waypoint>) -> Policy {
        let identity = |one: &Waypoint| {
            TextMatch::Exact(format!("{}/ns/{}/sa/{}", settings.trust_domain, one.namespace, one.name).into())
        };
        let others = Match { principals: Sides::none(waypoints.iter().map(identity)), ..Match::default() };
        let rules = vec![PolicyRule { place: RulePlace::default(), clauses: vec![Clause(vec![others])] }];
        let texts: Vec<String> = waypoints.iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect();
        // Pods with the same waypoint share a policy; one with several has its own. No name has a `_` or `~` (RFC 1123).
        let name = match (waypoints.first(), waypoints.len()) {
            (Some(one), 1) => format!("required_waypoint_{}_{}", one.namespace, one.name),
            (Some(_) | None, _) => format!("required_waypoint~{}", self.pod.name),
        };
        self.named(&name, &texts.join(", "), rules, None)
    }

    /// It is required, and nobody knows which.
    fn unbound(&self) -> Policy {
        let why = "required, but no istio.io/use-waypoint says which";
        self.named("required_waypoint_unbound", "required", Vec::new(), Some(why))
    }

    fn named(&self, name: &str, source: &str, rules: Vec<PolicyRule>, rejected: Option<&str>) -> Policy {
        Policy {
            name: PolicyName::new(self.pod.namespace.clone(), name)
                .expect("a pod's name, or a namespace and the value of a label, are visible ASCII and short"),
            scope: PolicyScope::Workloads,
            action: PolicyAction::Deny,
            dry_run: false,
            rules,
            rejected: rejected.map(Into::into),
            source: PolicySource { kind: PolicyKind::RequiredWaypoint, name: source.into(), file: None },
        }
    }
}

#[cfg(test)]
#[path = "waypoint/tests.rs"]
mod tests;
