//! What of a Gateway decides which connections go through it.

use std::{collections::BTreeSet, sync::Arc};

use weir_manifest::{
    ConfigObject, ConfigSpec, GatewaySpec, InboundBinding as Binding, LabelOperator, LabelSelector, RouteNamespaces,
    WaypointFor as For,
};
use weir_model::Namespace;

use crate::{AllowedNamespaces, GatewayFacts, GatewayRole, InboundBinding, WaypointFor};

/// The label that every namespace has: its name.
const NAME: &str = "kubernetes.io/metadata.name";

/// What of a Gateway decides which connections go through it; nothing of any other object, and of a Gateway that is not legal.
pub fn waypoint_facts(object: &ConfigObject) -> Option<GatewayFacts> {
    let ConfigSpec::Gateway(spec) = &object.spec else { return None };
    let waypoint_for = match spec.waypoint_for {
        Some(For::Service) | None => WaypointFor::Service,
        Some(For::Workload) => WaypointFor::Workload,
        Some(For::All) => WaypointFor::All,
        Some(For::None) => WaypointFor::None,
    };
    let role = GatewayRole::of_class(&spec.class);
    Some(GatewayFacts { role, waypoint_for, inbound: inbound(spec), namespaces: namespaces(spec) })
}

/// The annotation, or else a listener that speaks the PROXY protocol.
fn inbound(spec: &GatewaySpec) -> InboundBinding {
    let listener = spec.listeners.iter().find(|one| &*one.protocol == "istio.io/PROXY");
    match (spec.inbound_binding, listener) {
        (Some(Binding::Proxy(port)), _) => InboundBinding::Proxy(port),
        (None, Some(listener)) => InboundBinding::Proxy(listener.port),
        (Some(Binding::None), _) | (None, None) => InboundBinding::Hbone,
    }
}

/// From where its HBONE listener lets it be named.
fn namespaces(spec: &GatewaySpec) -> AllowedNamespaces {
    let is_one = |protocol: &str| matches!(protocol, "HBONE" | "istio.io/PROXY");
    match spec.listeners.iter().find(|one| is_one(&one.protocol)).map(|one| &one.namespaces) {
        Some(RouteNamespaces::All) => AllowedNamespaces::All,
        Some(RouteNamespaces::Selector(selector)) => AllowedNamespaces::These(selected(selector)),
        Some(RouteNamespaces::Same) | None => AllowedNamespaces::Same,
    }
}

/// The namespaces that a selector names by their names. The mesh knows no other label of theirs, so one that asks for another, or only says which it does
/// not mean, selects none: who is let in must be known.
pub(super) fn selected(selector: &LabelSelector) -> BTreeSet<Namespace> {
    let of_labels = selector.labels.iter().map(|(key, value)| (key, Some(vec![value.clone()])));
    let of_expressions = selector.expressions.iter().map(|one| match &one.operator {
        LabelOperator::In(values) => (&one.key, Some(values.clone())),
        LabelOperator::NotIn(_) | LabelOperator::Exists | LabelOperator::DoesNotExist => (&one.key, None),
    });
    let mut selected: Option<BTreeSet<Arc<str>>> = None;
    for (key, values) in of_labels.chain(of_expressions) {
        let Some(values) = values.filter(|_| &**key == NAME) else { return BTreeSet::new() };
        selected = Some(match selected {
            None => values.into_iter().collect(),
            Some(before) => values.into_iter().filter(|value| before.contains(value)).collect(),
        });
    }
    selected.into_iter().flatten().filter_map(|name| name.parse().ok()).collect()
}
