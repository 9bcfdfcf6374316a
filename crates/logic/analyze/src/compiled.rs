//! What the compiler has to tell, in codes.

use std::collections::BTreeMap;

use weir_compile::{
    BindingOutcome, BindingStatus, Compiled as Routes, Compiler, ConditionReason, Finding as Told, FindingReason,
    GatewayStatus, PolicyCondition, PolicyStatus, RouteConditionKind, RouteReason, RouteStatus, Settings,
};
use weir_manifest::{ObjectRef, Objects, WaypointUse};
use weir_model::{Hostname, Service};
use weir_world::World;

use crate::{
    Code, Finding,
    ground::{Ground, namespace},
    meant::Hosts,
};

/// What became of all objects.
pub(crate) struct Compiled {
    routes: Routes,
    policies: Vec<PolicyStatus>,
    bindings: Vec<BindingStatus>,
    pub(crate) world: World,
}

impl Compiled {
    pub(crate) fn new(objects: &Objects, settings: &Settings) -> Self {
        let mut compiler = Compiler::new(settings.clone());
        for object in objects.clone().into_objects() {
            compiler.set(object);
        }
        compiler.take();
        let bindings = compiler.take_bindings().into_iter().filter_map(|(_, now)| now).collect();
        let world = compiler.world().clone();
        Self { routes: compiler.routes(), policies: compiler.statuses(), bindings, world }
    }

    /// The services there are, by host.
    pub(crate) fn services(&self) -> BTreeMap<&Hostname, &Service> {
        self.world.services().map(|service| (&service.name.hostname, &**service)).collect()
    }

    pub(crate) fn findings(&self, ground: &Ground<'_>) -> Vec<Finding> {
        let services = self.services();
        let hosts = Hosts::new(services.keys().copied());
        let mut all: Vec<Finding> = self.routes.findings.iter().map(|told| of_config(told, ground, &hosts)).collect();
        all.extend(self.policies.iter().flat_map(|status| of_policy(status, ground)));
        all.extend(self.routes.statuses.iter().flat_map(|status| of_route(status, ground)));
        all.extend(self.routes.gateways.iter().flat_map(|status| of_gateway(status, ground)));
        all.extend(self.bindings.iter().filter_map(|status| of_binding(status, ground)));
        all
    }
}

fn object(kind: &str, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef { kind: kind.into(), namespace: Some(namespace.into()), name: name.into() }
}

/// What is told of an object that shapes requests.
fn of_config(told: &Told, ground: &Ground<'_>, hosts: &Hosts<'_>) -> Finding {
    let object = object(&told.kind, &told.namespace, &told.name);
    let is = |kind: &str| told.kind == kind;
    let code = match told.reason {
        FindingReason::Invalid => Code::SchemaValidationError,
        FindingReason::UnknownHost if is("DestinationRule") && told.field == "spec.host" => {
            Code::UnknownDestinationRuleHost
        }
        FindingReason::UnknownHost if told.field.ends_with("destination") => Code::ReferencedResourceNotFound,
        FindingReason::UnknownHost => Code::UnknownHost,
        FindingReason::UnknownSubset => Code::ReferencedResourceNotFound,
        FindingReason::BadDelegate => Code::BadDelegate,
        FindingReason::Conflicted if is("VirtualService") && told.field == "spec.hosts" => {
            Code::ConflictingMeshGatewayVirtualServiceHosts
        }
        FindingReason::Conflicted => Code::Conflicted,
        FindingReason::NotPermitted => Code::NotPermitted,
        FindingReason::Unsupported => Code::Unsupported,
        FindingReason::NoEffect if is("VirtualService") && is_rule(&told.field) => Code::VirtualServiceUnreachableRule,
        FindingReason::NoEffect => Code::NoEffect,
    };
    let place = ground.place(&object, &told.field);
    let own = place.as_ref().is_none_or(|place| place.line == told.origin.line);
    let is_finer = !own && told.origin.line > 0 && told.kind == "VirtualService" && told.field.contains('[');
    let origin = if is_finer { Some(told.origin.clone()) } else { place };
    // The compiler names the host as it looked for it.
    let host = told.message.strip_prefix("no service has the host ").and_then(|rest| rest.split([',', ':']).next());
    let meant = host.and_then(|host| hosts.meant(host));
    Finding::new(object, &told.field, code, &told.message, origin).meaning(meant)
}

/// Whether a field is a whole rule of a VirtualService.
fn is_rule(field: &str) -> bool {
    ["spec.http[", "spec.tcp["].iter().any(|list| field.starts_with(list)) && field.ends_with(']')
}

fn of_policy(status: &PolicyStatus, ground: &Ground<'_>) -> Vec<Finding> {
    let says_more = |one: &&PolicyCondition| {
        !one.holds || !matches!(one.reason, ConditionReason::Accepted | ConditionReason::AsWritten)
    };
    let Some(condition) = status.conditions.iter().find(says_more) else { return Vec::new() };
    let object = object(&status.kind, &status.namespace, &status.name);
    let finding = |field: &str, code, message: &str| {
        Finding::new(object.clone(), field, code, message, ground.place(&object, field))
    };
    let is_authorization = status.kind == "AuthorizationPolicy";
    let (field, code) = match (condition.reason, condition.holds) {
        (ConditionReason::Invalid | ConditionReason::UnsupportedValue, false) => ("", Code::PolicyRejected),
        (ConditionReason::UnsupportedValue, true) if is_authorization => {
            let unlike = status.placements.iter().filter_map(|one| Some((one.rule, one.why.as_ref()?)));
            let rules = unlike.map(|(rule, why)| match rule {
                Some(rule) => finding(&format!("spec.rules[{rule}]"), Code::NoWaypoint, why),
                None => finding("", Code::NoWaypoint, why),
            });
            return rules.collect();
        }
        (ConditionReason::UnsupportedValue, true) => ("spec.mtls.mode", Code::Unsupported),
        (ConditionReason::Conflicted, _) => ("spec.selector", Code::Conflicted),
        (ConditionReason::TargetNotFound, _) => ("spec.targetRefs", Code::ReferencedResourceNotFound),
        (ConditionReason::AncestorNotBound | ConditionReason::PartiallyInvalid, _) => {
            ("spec.targetRefs", Code::PolicyNotEnforced)
        }
        (
            ConditionReason::Invalid
            | ConditionReason::Accepted
            | ConditionReason::AsWritten
            | ConditionReason::NotAsWritten,
            _,
        ) => ("", Code::PolicyNotEnforced),
    };
    vec![finding(field, code, &condition.message)]
}

fn of_route(status: &RouteStatus, ground: &Ground<'_>) -> Vec<Finding> {
    let object = object(&status.kind, &status.namespace, &status.name);
    let mut all = Vec::new();
    for parent in &status.parents {
        for condition in &parent.conditions {
            let is_good = match condition.kind {
                RouteConditionKind::Accepted | RouteConditionKind::ResolvedRefs => condition.holds,
                RouteConditionKind::PartiallyInvalid => !condition.holds,
            };
            if is_good {
                continue;
            }
            let (field, code) = match condition.reason {
                RouteReason::Conflicted => (format!("spec.parentRefs[{}]", parent.parent), Code::Conflicted),
                RouteReason::UnsupportedValue => ("spec.rules".to_owned(), Code::Unsupported),
                RouteReason::RefNotPermitted => ("spec.rules".to_owned(), Code::NotPermitted),
                RouteReason::BackendNotFound | RouteReason::InvalidKind => {
                    ("spec.rules".to_owned(), Code::ReferencedResourceNotFound)
                }
                RouteReason::UnsupportedProtocol => ("spec.rules".to_owned(), Code::UnknownHost),
                RouteReason::Accepted
                | RouteReason::ResolvedRefs
                | RouteReason::NoMatchingParent
                | RouteReason::NotAllowedByListeners
                | RouteReason::NoMatchingListenerHostname => {
                    (format!("spec.parentRefs[{}]", parent.parent), Code::NotAccepted)
                }
            };
            let (field, message) = narrowed(&field, &condition.message);
            let origin = ground.place(&object, field);
            all.push(Finding::new(object.clone(), field, code, message, origin));
        }
    }
    all
}

/// The field a message begins with, and the rest of it; where it begins with none, the field that is known anyway.
fn narrowed<'t>(field: &'t str, message: &'t str) -> (&'t str, &'t str) {
    match message.split_once(": ") {
        Some((inner, rest)) if inner.starts_with("spec.") && !inner.contains(' ') => (inner, rest),
        Some(_) | None => (field, message),
    }
}

/// What keeps a waypoint from being one. That it has no address yet is not said: its Service is made after it.
fn of_gateway(status: &GatewayStatus, ground: &Ground<'_>) -> Vec<Finding> {
    use weir_compile::{GatewayConditionKind, GatewayReason};

    let object = object("Gateway", &status.namespace, &status.name);
    let own = status.conditions.iter().map(|condition| ("spec".to_owned(), condition));
    let listeners = status.listeners.iter().enumerate().flat_map(|(at, listener)| {
        listener.conditions.iter().map(move |condition| (format!("spec.listeners[{at}]"), condition))
    });
    let bad = own.chain(listeners).filter(|(_, condition)| {
        let matters = match condition.kind {
            GatewayConditionKind::Accepted | GatewayConditionKind::ResolvedRefs => true,
            GatewayConditionKind::Programmed => false,
        };
        matters && !condition.holds && condition.reason != GatewayReason::AddressNotAssigned
    });
    let said = bad.map(|(field, condition)| {
        let origin = ground.place(&object, &field);
        Finding::new(object.clone(), field, Code::NotAccepted, &condition.message, origin)
    });
    said.collect()
}

/// A waypoint that is there and is not gone through. Who named it is told: the service, or else its namespace. One that is not there is told of
/// by the label itself.
fn of_binding(status: &BindingStatus, ground: &Ground<'_>) -> Option<Finding> {
    let code = match status.outcome {
        BindingOutcome::Bound | BindingOutcome::Missing => return None,
        BindingOutcome::NoWaypoint | BindingOutcome::NotAllowed => Code::WaypointNotUsable,
        BindingOutcome::NotServed => Code::NoEffect,
    };
    let service = ground.services.get(&(&status.namespace, &*status.name))?;
    let by_itself = matches!(service.waypoint.uses, Some(WaypointUse::Gateway { .. }));
    let object = if by_itself { service.object() } else { namespace(&service.namespace) };
    let field = "metadata.labels[\"istio.io/use-waypoint\"]";
    let message = format!("waypoint {}/{}: {}", status.gateway_namespace, status.gateway, status.outcome);
    Some(Finding::new(object.clone(), field, code, message, ground.place(&object, field)))
}
