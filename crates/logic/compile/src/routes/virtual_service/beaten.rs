//! VirtualServices that are not asked, since a route of the Gateway API is for the same service and the same clients.

use std::collections::BTreeMap;

use weir_manifest::{ConfigKind, ConfigObject};
use weir_model::{Hostname, Namespace};
use weir_route::{Audience, RouteObject, TcpObject};

use super::told::Told;
use crate::routes::{Configs, Finding, FindingReason, Routes};

/// What is to be told of them.
pub(in crate::routes) fn beaten(configs: &Configs, own: &Routes, gateway: &Routes) -> Vec<Finding> {
    let objects = configs.of(ConfigKind::VirtualService);
    let objects: BTreeMap<_, _> = objects.map(|one| ((&one.namespace, &*one.name), &**one)).collect();
    let mut told = Told::default();
    for (host, routes) in &own.hosts {
        let Some(other) = gateway.hosts.get(host) else { continue };
        for route in &routes.http {
            let clients =
                |one: &&RouteObject| client(one.audience, &one.namespace) == client(route.audience, &route.namespace);
            if let Some(first) = other.http.iter().find(clients) {
                let object = objects.get(&(&route.namespace, &*route.name));
                tell(
                    &mut told,
                    object,
                    host,
                    "spec.http",
                    format!("{} {}/{}", first.kind, first.namespace, first.name),
                );
            }
        }
        for route in &routes.tcp {
            let clients =
                |one: &&TcpObject| client(one.audience, &one.namespace) == client(route.audience, &route.namespace);
            if let Some(first) = other.tcp.iter().find(clients) {
                let object = objects.get(&(&route.namespace, &*route.name));
                tell(&mut told, object, host, "spec.tcp", format!("{} {}/{}", first.kind, first.namespace, first.name));
            }
        }
    }
    told.into_findings()
}

/// The clients that a route is for: all, or those of a namespace.
fn client(audience: Audience, namespace: &Namespace) -> Option<&Namespace> {
    match audience {
        Audience::Everyone => None,
        Audience::OwnNamespace => Some(namespace),
    }
}

fn tell(told: &mut Told, object: Option<&&ConfigObject>, host: &Hostname, field: &str, first: String) {
    if let Some(object) = object {
        let message = format!(
            "{first} is for {host} as well: where there are routes of the Gateway API, VirtualServices are not asked"
        );
        told.tell(object, 0, field, FindingReason::Conflicted, message);
    }
}
