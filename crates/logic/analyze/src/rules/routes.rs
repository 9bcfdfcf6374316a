//! What shapes requests where nobody reads requests, and subsets that select nothing.

use std::collections::BTreeMap;

use weir_compile::Settings;
use weir_manifest::{ConfigObject, ConfigSpec, DestinationRuleSpec, GatewayRouteSpec, VirtualHost, VirtualServiceSpec};
use weir_model::{Hostname, Namespace, Service};

use crate::{
    Code, Finding,
    compiled::Compiled,
    ground::{Ground, selects, written},
};

type Services<'s> = BTreeMap<&'s Hostname, &'s Service>;

pub(super) fn all(ground: &Ground<'_>, compiled: &Compiled, findings: &mut Vec<Finding>) {
    let services = compiled.services();
    for one in &ground.objects.configs {
        let (field, meant) = match &one.spec {
            ConfigSpec::VirtualService(spec) => {
                ("spec.hosts", of_virtual_service(ground.settings, one, spec, &services))
            }
            ConfigSpec::DestinationRule(spec) => {
                subsets(ground, one, spec, findings);
                ("spec.host", of_host(ground.settings, &spec.host, &one.namespace, &services))
            }
            ConfigSpec::Route(spec) => ("spec.parentRefs", of_route(ground.settings, one, spec, &services)),
            ConfigSpec::ServiceEntry(_)
            | ConfigSpec::Telemetry(_)
            | ConfigSpec::Gateway(_)
            | ConfigSpec::ReferenceGrant(_)
            | ConfigSpec::Rejected(_) => continue,
        };
        let Some(first) = meant.first() else { continue };
        if meant.iter().all(|service| service.waypoint.is_none()) {
            let message = format!(
                "{} is bound to no waypoint, so nobody reads its requests: it has no effect there",
                first.name.hostname
            );
            let origin = ground.place(&one.object(), field);
            findings.push(Finding::new(one.object(), field, Code::NoWaypoint, message, origin));
        }
    }
}

/// The services a host may mean: one, or all below a wildcard.
fn of_host<'s>(settings: &Settings, host: &str, own: &Namespace, services: &Services<'s>) -> Vec<&'s Service> {
    if let Some(suffix) = host.strip_prefix('*') {
        let below = services.iter().filter(|(name, _)| name.as_str().ends_with(suffix));
        return below.map(|(_, service)| *service).collect();
    }
    let full = match host.contains('.') {
        true => host.to_owned(),
        false => format!("{host}.{own}.svc.{}", settings.cluster_domain),
    };
    let name: Option<Hostname> = full.parse().ok();
    name.and_then(|name| services.get(&name).copied()).into_iter().collect()
}

fn of_virtual_service<'s>(
    settings: &Settings,
    one: &ConfigObject,
    spec: &VirtualServiceSpec,
    services: &Services<'s>,
) -> Vec<&'s Service> {
    let is_of_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| &**gateway == weir_route::MESH);
    if !is_of_mesh {
        return Vec::new();
    }
    let meant = |host: &VirtualHost| match host {
        VirtualHost::Any => of_host(settings, "*", &one.namespace, services),
        VirtualHost::Below(suffix) => of_host(settings, &format!("*{suffix}"), &one.namespace, services),
        VirtualHost::Name(name) => of_host(settings, name, &one.namespace, services),
        VirtualHost::Address(ip) => {
            let has = |service: &&&Service| service.vips.iter().any(|(_, vip)| vip.contains(ip));
            services.values().filter(has).copied().collect()
        }
    };
    spec.hosts.iter().flat_map(meant).collect()
}

/// The services among its parents.
fn of_route<'s>(
    settings: &Settings,
    one: &ConfigObject,
    spec: &GatewayRouteSpec,
    services: &Services<'s>,
) -> Vec<&'s Service> {
    let mut all = Vec::new();
    for parent in spec.parents.iter().filter(|parent| parent.group.is_empty() && &*parent.kind == "Service") {
        let there = parent.namespace.as_ref().unwrap_or(&one.namespace);
        all.extend(of_host(settings, &parent.name, there, services));
    }
    all
}

/// Subsets none of the service's pods is in.
fn subsets(ground: &Ground<'_>, one: &ConfigObject, spec: &DestinationRuleSpec, findings: &mut Vec<Finding>) {
    let suffix = format!(".svc.{}", ground.settings.cluster_domain);
    let (name, space) = match spec.host.strip_suffix(&suffix).and_then(|host| host.split_once('.')) {
        Some((name, space)) => (name, space.parse::<Namespace>().ok()),
        None => (&*spec.host, Some(one.namespace.clone())),
    };
    let Some(space) = space.filter(|space| ground.knows_pods(space)) else { return };
    let Some(service) = ground.services.get(&(&space, name)).filter(|service| !service.selector.is_empty()) else {
        return;
    };
    for (index, subset) in spec.subsets.iter().enumerate() {
        let mut pods = ground.selected(&space, &service.selector);
        // What nodes say of where they are is added to the labels of their pods.
        let is_of_place = subset.labels.keys().any(|key| key.starts_with("topology."));
        if is_of_place || pods.any(|pod| selects(&subset.labels, &pod.labels)) {
            continue;
        }
        let (object, field) = (one.object(), format!("spec.subsets[{index}].labels"));
        let message = format!(
            "no pod of {space}/{name} has the labels {}: requests to the subset {} are refused",
            written(&subset.labels),
            subset.name
        );
        let code = Code::DestinationRuleSubsetNotSelectPods;
        findings.push(Finding::new(object, field, code, message, Some(one.origin.clone())));
    }
}
