//! Gateways as they come and go, and what that means for what names them.

use std::sync::Arc;

use weir_manifest::ServiceObject;
use weir_model::Namespace;

use super::{
    Compiler,
    index::{Index, Space},
};
use crate::{
    gateway::{BindingStatus, GatewayFacts},
    trimmed::Key,
};

impl Compiler {
    /// The Gateway is there, or says so now; or it is gone.
    pub(crate) fn set_gateway(&mut self, namespace: &Namespace, name: &str, facts: Option<GatewayFacts>) {
        let key = Key { namespace: namespace.clone(), name: name.into() };
        if self.index.gateways.replace(&key, facts) {
            let (pods, services) = self.index.concerned(&key);
            self.marked.pods.extend(pods);
            self.marked.services.extend(services);
            self.mark_attached(None);
            let entries = self.index.entries_naming(&key);
            self.mark_entries(&entries);
        }
    }

    /// What became of the labels of services that name a waypoint, sorted by namespace and name.
    pub fn bindings(&self) -> Vec<BindingStatus> {
        let spaces = self.index.spaces.values().flat_map(|space| space.services.values().map(move |one| (space, one)));
        let mut all: Vec<BindingStatus> = spaces.filter_map(|(space, one)| self.index.binding(space, one)).collect();
        all.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        all
    }
}

impl Index {
    fn binding(&self, space: &Space, service: &Arc<ServiceObject>) -> Option<BindingStatus> {
        let bond = self.gateways.of_service(service, space.around())?;
        Some(BindingStatus {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            gateway_namespace: bond.gateway.namespace,
            gateway: bond.gateway.name,
            outcome: bond.outcome,
        })
    }

    /// The pods and services that name the Gateway, and its own.
    fn concerned(&self, gateway: &Key) -> (Vec<Key>, Vec<Key>) {
        let (mut pods, mut services) = (Vec::new(), Vec::new());
        for (namespace, space) in &self.spaces {
            let key = |name: &Arc<str>| Key { namespace: namespace.clone(), name: name.clone() };
            let concerns = |pod: &Key, own| gateway.names(&space.waypoint, own, pod);
            for (name, pod) in &space.pods {
                let pod_key = key(name);
                if concerns(&pod_key, &pod.traits.waypoint) || gateway.has_pod(namespace, &pod.traits) {
                    pods.push(pod_key);
                }
            }
            for (name, service) in &space.services {
                let service_key = key(name);
                if concerns(&service_key, &service.waypoint) || service_key == *gateway {
                    services.push(service_key);
                }
            }
        }
        (pods, services)
    }
}
