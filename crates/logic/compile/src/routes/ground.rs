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
        let suffix = |namespace: &Namespace| format!(".{namespace}.svc.{}", settings.cluster_domain);
        let rank = |service: &Service| {
            let namespace = &service.name.namespace;
            (!service.name.hostname.as_str().ends_with(&suffix(namespace)), namespace.as_str().to_owned())
        };
        let mut services: BTreeMap<Hostname, Arc<Service>> = BTreeMap::new();
        for service in world.services() {
            let known = services.entry(service.name.hostname.clone()).or_insert_with(|| service.clone());
            if rank(service) < rank(known) {
                *known = service.clone();
            }
        }
        Self { settings, services }
    }

    /// The service of that host name. Of one that is declared in several namespaces that counts whose namespace the name says, or else the first by
    /// namespace: no ServiceEntry takes the place of another namespace's Service.
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

#[cfg(test)]
mod tests {
    use weir_model::{HealthPolicy, ServiceName};
    use weir_world::Mesh;

    use super::*;

    #[test]
    fn nobody_takes_the_place_of_another_namespaces_service() {
        let settings = Settings {
            trust_domain: "td".parse().unwrap(),
            cluster: "Kubernetes".parse().unwrap(),
            network: "net1".parse().unwrap(),
            node: None,
            cluster_domain: Default::default(),
            root_namespace: crate::default_root_namespace(),
        };
        let service = |namespace: &str, host: &str| Service {
            name: ServiceName { namespace: namespace.parse().unwrap(), hostname: host.parse().unwrap() },
            short_name: "web".into(),
            vips: vec![],
            ports: vec![],
            health_policy: HealthPolicy::OnlyReady,
            waypoint: None,
            seen: Default::default(),
            unsupported: None,
        };
        for (host, namespaces, want) in [
            ("web.shop.svc.cluster.local", ["a", "shop", "z"], "shop"),
            ("web.shop.svc.cluster.local", ["z", "shop", "a"], "shop"),
            ("a.example.com", ["z", "b", "c"], "b"),
            ("a.example.com", ["b", "z", "c"], "b"),
        ] {
            let services = namespaces.map(|namespace| service(namespace, host)).to_vec();
            let world = World::new(Mesh { services, ..Mesh::default() });
            let ground = Ground::new(&settings, &world);
            let found = ground.service(&host.parse().unwrap()).unwrap();
            assert_eq!(found.name.namespace.as_str(), want, "{host} {namespaces:?}");
        }
    }
}
