//! Which namespaces an object has to do with: so a waypoint is told of what may matter to it, and of no more.

use std::collections::BTreeSet;

use weir_manifest::{
    BackendRef, ConfigObject, ConfigSpec, GatewayRouteSpec, Object, PolicyObject, PolicySpec, PolicyTarget, VirtualAct,
    VirtualHost, VirtualServiceSpec,
};
use weir_model::Namespace;

/// The namespaces whose requests the object may shape: its own, and those of the services it is about. None of one that is no matter of
/// waypoints.
pub fn concerns(object: &Object) -> BTreeSet<Namespace> {
    match object {
        Object::Namespace(_) | Object::Node(_) | Object::Service(_) | Object::EndpointSlice(_) => BTreeSet::new(),
        // For its labels, which subsets select by.
        Object::Pod(pod) => BTreeSet::from([pod.namespace.clone()]),
        Object::Policy(policy) if is_for_waypoints(policy) => BTreeSet::from([policy.namespace.clone()]),
        Object::Policy(_) => BTreeSet::new(),
        Object::Config(config) => {
            let mut all = BTreeSet::from([config.namespace.clone()]);
            match &config.spec {
                ConfigSpec::VirtualService(spec) => all.extend(spec.hosts.iter().filter_map(|host| match host {
                    VirtualHost::Name(name) => namespace_of(name),
                    VirtualHost::Below(name) => namespace_of(name),
                    VirtualHost::Any | VirtualHost::Address(_) => None,
                })),
                ConfigSpec::DestinationRule(spec) => all.extend(namespace_of(&spec.host)),
                ConfigSpec::Route(spec) => {
                    all.extend(spec.parents.iter().filter_map(|parent| parent.namespace.clone()));
                }
                ConfigSpec::ReferenceGrant(spec) => all.extend(spec.from.iter().map(|from| from.namespace.clone())),
                ConfigSpec::ServiceEntry(_)
                | ConfigSpec::Telemetry(_)
                | ConfigSpec::Gateway(_)
                | ConfigSpec::Rejected(_) => {}
            }
            all
        }
    }
}

/// The namespaces whose objects must be known for this one to mean all it says: those of services it sends to, and of what it delegates to.
pub fn refers(object: &ConfigObject) -> BTreeSet<Namespace> {
    match &object.spec {
        ConfigSpec::VirtualService(spec) => of_virtual_service(spec),
        ConfigSpec::Route(spec) => of_route(spec),
        ConfigSpec::DestinationRule(_)
        | ConfigSpec::ServiceEntry(_)
        | ConfigSpec::Telemetry(_)
        | ConfigSpec::Gateway(_)
        | ConfigSpec::ReferenceGrant(_)
        | ConfigSpec::Rejected(_) => BTreeSet::new(),
    }
}

/// Whether a waypoint may have to enforce it; what cannot be read it must know of, too.
fn is_for_waypoints(policy: &PolicyObject) -> bool {
    match (&policy.target, &policy.spec) {
        (_, PolicySpec::PeerAuthentication(_)) => false,
        (PolicyTarget::Refs(_) | PolicyTarget::Unknown, _) => true,
        (PolicyTarget::All | PolicyTarget::Selector(_), _) => false,
    }
}

fn of_virtual_service(spec: &VirtualServiceSpec) -> BTreeSet<Namespace> {
    let mut all = BTreeSet::new();
    for rule in &spec.http {
        match &rule.act {
            VirtualAct::Route(routes) => {
                all.extend(routes.iter().filter_map(|route| namespace_of(&route.destination.host)));
            }
            VirtualAct::Delegate(delegate) => all.extend(delegate.namespace.clone()),
            VirtualAct::Redirect(_) | VirtualAct::Respond(_) => {}
        }
        let mirrors = rule.mirrors.iter().flatten();
        all.extend(mirrors.filter_map(|mirror| namespace_of(&mirror.destination.host)));
    }
    for rule in &spec.tcp {
        all.extend(rule.routes.iter().filter_map(|route| namespace_of(&route.destination.host)));
    }
    all
}

fn of_route(spec: &GatewayRouteSpec) -> BTreeSet<Namespace> {
    let of = |backend: &BackendRef| backend.namespace.clone();
    let mut all = BTreeSet::new();
    for rule in &spec.rules {
        all.extend(rule.backends.iter().filter_map(|backend| of(&backend.to)));
        let filters = rule.backends.iter().map(|backend| &backend.filters).chain([&rule.filters]);
        all.extend(filters.flat_map(|filters| &filters.mirrors).filter_map(|mirror| of(&mirror.to)));
    }
    all
}

/// The namespace that a host name of the cluster says: the label behind the first. Of a short one it is that of the object, which is known.
fn namespace_of(host: &str) -> Option<Namespace> {
    let (_, rest) = host.trim_start_matches("*.").split_once('.')?;
    rest.split('.').next()?.parse().ok()
}
