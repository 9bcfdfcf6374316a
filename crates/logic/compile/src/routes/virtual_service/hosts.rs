//! Which services each VirtualService is for.

use std::collections::BTreeMap;

use weir_manifest::VirtualHost;
use weir_model::{Hostname, Namespace, Service};
use weir_route::Audience;

use super::{Declared, Root, told::Told};
use crate::routes::{FindingReason, Ground, destination_rule::viewer};

/// That a VirtualService is for a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Its index among all.
    pub(super) root: usize,
    pub(super) reach: Reach,
    pub(super) audience: Audience,
}

/// How specific the host is by which it is for a service: the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// A wildcard with so much behind its star.
    Below(usize),
    /// The very host, or an address of it.
    Exact,
}

/// The VirtualServices for each service, in their order.
pub(super) fn places(ground: &Ground<'_>, roots: &[Root<'_>], told: &mut Told) -> BTreeMap<Hostname, Vec<Place>> {
    let mut places: BTreeMap<Hostname, Vec<Place>> = BTreeMap::new();
    for (at, root) in roots.iter().enumerate() {
        for (host, (reach, audience)) in named(ground, root.declared, told) {
            places.entry(host).or_default().push(Place { root: at, reach, audience });
        }
    }
    places
}

/// The services that one VirtualService is for.
fn named(ground: &Ground<'_>, one: Declared<'_>, told: &mut Told) -> BTreeMap<Hostname, (Reach, Audience)> {
    let mut named = BTreeMap::new();
    let (mut is_unknown_told, mut is_any_known) = (false, false);
    for (index, host) in one.spec.hosts.iter().enumerate() {
        let (reach, services) = meant(ground, host, &one.object.namespace);
        let field = format!("spec.hosts[{index}]");
        if services.is_empty()
            && let Some(name) = of_mesh(ground, host, &one.object.namespace)
        {
            let message = format!("no service has the host {name}, a service of the mesh is expected");
            told.tell(one.object, 0, field.clone(), FindingReason::UnknownHost, message);
            is_unknown_told = true;
        }
        for service in services {
            is_any_known = true;
            let host = &service.name.hostname;
            let Some(audience) = audience(one, service) else {
                let message = format!("exportTo keeps it from all that look at {host}; it has no effect there");
                told.tell(one.object, 0, "spec.exportTo", FindingReason::NotPermitted, message);
                continue;
            };
            let known = named.entry(host.clone()).or_insert((reach, audience));
            known.0 = known.0.max(reach);
        }
    }
    if !is_any_known && !is_unknown_told {
        let message = "none of its hosts is a service of the mesh; it has no effect";
        told.tell(one.object, 0, "spec.hosts", FindingReason::NoEffect, message);
    }
    named
}

/// The services that are meant by a host, and how specific that is.
fn meant<'g>(ground: &'g Ground<'_>, host: &VirtualHost, own: &Namespace) -> (Reach, Vec<&'g Service>) {
    let all = || ground.services().map(|service| &**service);
    match host {
        VirtualHost::Any => (Reach::Below(0), all().collect()),
        VirtualHost::Below(suffix) => {
            let is_below = |service: &&Service| service.name.hostname.as_str().ends_with(&**suffix);
            (Reach::Below(suffix.len()), all().filter(is_below).collect())
        }
        VirtualHost::Name(name) => {
            let service = ground.host(name, own).and_then(|host| ground.service(&host));
            (Reach::Exact, service.map(|service| &**service).into_iter().collect())
        }
        VirtualHost::Address(ip) => {
            let has = |service: &&Service| service.vips.iter().any(|(_, vip)| vip.contains(ip));
            (Reach::Exact, all().filter(has).collect())
        }
    }
}

/// The host, if it can only be a service of the mesh: others may well be known to gateways alone.
fn of_mesh(ground: &Ground<'_>, host: &VirtualHost, own: &Namespace) -> Option<String> {
    let domain = format!(".svc.{}", ground.settings.cluster_domain);
    match host {
        VirtualHost::Name(name) => {
            let host = ground.host(name, own)?;
            host.as_str().ends_with(&domain).then(|| host.to_string())
        }
        VirtualHost::Below(suffix) => suffix.ends_with(&domain).then(|| format!("*{suffix}")),
        VirtualHost::Any | VirtualHost::Address(_) => None,
    }
}

/// Whose requests to a service it shapes; nobody's if it is not exported to where it is looked at.
fn audience(one: Declared<'_>, service: &Service) -> Option<Audience> {
    let (own, viewer) = (&one.object.namespace, viewer(service));
    let is_seen = |there: &Namespace| one.spec.export_to.reaches(own, there);
    if *own == service.name.namespace || own == viewer {
        is_seen(viewer).then_some(Audience::Everyone)
    } else {
        is_seen(own).then_some(Audience::OwnNamespace)
    }
}
