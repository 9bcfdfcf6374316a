//! What is to be told to the authors of ServiceEntries. What they make is made with the mesh itself, for agents need it, too.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weir_manifest::{ConfigKind, ConfigObject, EntryResolution, ExportTo, ServiceEntrySpec};
use weir_model::{Hostname, Namespace, Service};
use weir_serving::External;

use super::{Configs, Finding, FindingReason, Ground, destination_rule::of_remark};
use crate::service_entry;

/// What is to be told of all of them.
pub(super) fn findings(ground: &Ground<'_>, configs: &Configs) -> Vec<Finding> {
    let objects = configs.of(ConfigKind::ServiceEntry);
    let mut entries: Vec<(&ConfigObject, &ServiceEntrySpec)> =
        objects.filter_map(|object| Some((&**object, service_entry::spec(object)?))).collect();
    entries.sort_by_key(|(object, _)| (&object.created, &object.name, &object.namespace));
    let mut declared: BTreeMap<(&Namespace, &Hostname), &ConfigObject> = BTreeMap::new();
    let mut findings = Vec::new();
    for (object, spec) in entries {
        findings.extend(spec.remarks.iter().map(|remark| of_remark(object, remark)));
        findings.extend(of_visibility(object, spec));
        findings.extend(of_resolution(ground, object, spec));
        findings.extend(of_addresses(ground, object, spec));
        for (i, host) in spec.hosts.iter().enumerate() {
            let first: &ConfigObject = declared.entry((&object.namespace, host)).or_insert(object);
            let other = if first.name == object.name { elsewhere(ground, object, host) } else { Some(older(first)) };
            if let Some(message) = other {
                let field = format!("spec.hosts[{i}]");
                findings.push(Finding::new(object, field, FindingReason::Conflicted, format!("{host}: {message}")));
            }
        }
    }
    findings
}

fn of_visibility(object: &ConfigObject, spec: &ServiceEntrySpec) -> Option<Finding> {
    match &spec.export_to {
        ExportTo::Only { own: false, others } if others.is_empty() => {
            let text = "it is exported to no namespace: nobody reaches its hosts";
            Some(Finding::new(object, "spec.exportTo", FindingReason::NoEffect, text))
        }
        ExportTo::Everywhere | ExportTo::Only { .. } => None,
    }
}

fn of_resolution(ground: &Ground<'_>, object: &ConfigObject, spec: &ServiceEntrySpec) -> Vec<Finding> {
    let own: Vec<_> = spec
        .hosts
        .iter()
        .filter_map(|host| ground.service(host))
        .filter(|one| is_own(one, &object.namespace))
        .collect();
    let finding = |field: &str, reason, message: String| Finding::new(object, field, reason, message);
    let waypoint = own.iter().find_map(|one| one.waypoint.as_ref());
    match spec.resolution {
        EntryResolution::None if own.is_empty() => {
            let text =
                "NONE leads to the very address that is asked for, which agents do for all that is not in the mesh";
            vec![finding("spec.resolution", FindingReason::NoEffect, text.to_owned())]
        }
        EntryResolution::None | EntryResolution::Static => Vec::new(),
        EntryResolution::Dns | EntryResolution::DnsRoundRobin | EntryResolution::DynamicDns => {
            let refused = service_entry::unsupported(spec, waypoint).map(|why| {
                let message = format!("{why}: connections to its addresses are refused");
                finding("spec.resolution", FindingReason::Unsupported, message)
            });
            let nameless = spec.endpoints.is_empty().then(|| spec.hosts.iter().enumerate()).into_iter().flatten();
            let nameless = nameless.filter(|(_, host)| refused.is_none() && host.as_str().starts_with('*'));
            let nameless = nameless.map(|(i, host)| {
                let message =
                    format!("{host} is no name that has addresses, and there are no endpoints: nobody is behind it");
                finding(&format!("spec.hosts[{i}]"), FindingReason::NoEffect, message)
            });
            nameless.chain(refused.clone()).collect()
        }
    }
}

/// Where the endpoints of hosts are that are not workloads of the mesh.
pub(super) fn external(ground: &Ground<'_>, configs: &Configs) -> BTreeMap<Hostname, External> {
    let objects = configs.of(ConfigKind::ServiceEntry);
    let mut entries: Vec<(&ConfigObject, &ServiceEntrySpec)> =
        objects.filter_map(|object| Some((&**object, service_entry::spec(object)?))).collect();
    // As with the services that they make, the oldest counts.
    entries.sort_by_key(|(object, _)| (&object.created, &object.name));
    let mut all = BTreeMap::new();
    for (object, spec) in entries {
        for host in &spec.hosts {
            if ground.service(host).is_some_and(|one| is_own(one, &object.namespace)) {
                all.entry(host.clone()).or_insert_with(|| service_entry::external(spec, host));
            }
        }
    }
    all.retain(|_, external| *external != External::default());
    all
}

/// Addresses that it names and its hosts do not have.
fn of_addresses(ground: &Ground<'_>, object: &ConfigObject, spec: &ServiceEntrySpec) -> Vec<Finding> {
    let services = spec.hosts.iter().filter_map(|host| ground.service(host));
    let mut own = services.filter(|one| is_own(one, &object.namespace));
    let Some(service) = own.next() else { return Vec::new() };
    let missing = |net: &&IpNet| !service.vips.iter().any(|(_, vip)| vip == *net);
    let finding = |net: &IpNet| {
        let message = format!("{} is an address of a pod or of a Service, and stays theirs", net.addr());
        Finding::new(object, "spec.addresses", FindingReason::Conflicted, message)
    };
    spec.addresses.iter().filter(missing).map(finding).collect()
}

/// Whether an entry of that namespace makes it: only a service of Kubernetes has a name that is shorter than its host.
fn is_own(service: &Service, namespace: &Namespace) -> bool {
    *service.short_name == *service.name.hostname.as_str() && service.name.namespace == *namespace
}

fn older(first: &ConfigObject) -> String {
    format!("ServiceEntry {}/{} declares it already, and counts", first.namespace, first.name)
}

/// Who else has the host: a Kubernetes service, or an entry of another namespace.
fn elsewhere(ground: &Ground<'_>, object: &ConfigObject, host: &Hostname) -> Option<String> {
    let service = ground.service(host)?;
    let namespace = &service.name.namespace;
    if *service.short_name != *host.as_str() {
        return Some(format!("Service {namespace}/{} has that name, and counts", service.short_name));
    }
    (*namespace != object.namespace).then(|| format!("it is declared in {namespace}, too, which counts at waypoints"))
}

#[cfg(test)]
mod tests;
