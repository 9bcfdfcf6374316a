//! What routes stand on: the settings, and the services there are.

use std::{collections::BTreeMap, sync::Arc};

use weir_model::{Hostname, Namespace, Service};
use weir_world::World;

use crate::Settings;

/// The settings, and the services there are.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The settings.
    pub settings: &'a Settings,
    services: BTreeMap<Hostname, Arc<Service>>,
}

impl<'a> Ground<'a> {
    /// The services of a world.
    pub fn new(settings: &'a Settings, world: &World) -> Self {
        let services = world.services().map(|service| (service.name.hostname.clone(), service.clone())).collect();
        Self { settings, services }
    }

    /// The service of that host name. One that is declared in several namespaces counts once.
    pub fn service(&self, host: &Hostname) -> Option<&Arc<Service>> {
        self.services.get(host)
    }

    /// All services, by host name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The host that an object of a namespace means by a name: one without a dot is a service of that very namespace. Istio
    /// `VirtualService.spec.hosts`.
    pub fn host(&self, name: &str, namespace: &Namespace) -> Option<Hostname> {
        if name.contains('.') || name == "*" {
            return name.parse().ok();
        }
        format!("{name}.{namespace}.svc.{}", self.settings.cluster_domain).parse().ok()
    }
}
