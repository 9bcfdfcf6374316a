//! Gateways as they come and go, and what that means for what names them.

use std::{mem, sync::Arc};

use weir_manifest::{ObjectKey, ServiceObject};
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

    /// The services about whose waypoints something else is to be said than was said last, or nothing any more. Sorted by namespace and
    /// name. What is taken here is what was taken of the mesh.
    pub fn take_bindings(&mut self) -> Vec<(ObjectKey, Option<BindingStatus>)> {
        let mut changed = Vec::new();
        for key in mem::take(&mut self.marked.bindings) {
            let space = self.index.space(&key.namespace);
            let now = space.and_then(|space| self.index.binding(space, space.services.get(&key.name)?));
            if self.bound.get(&key) == now.as_ref() {
                continue;
            }
            let (namespace, name) = (Some(key.namespace.clone()), key.name.clone());
            match &now {
                Some(now) => drop(self.bound.insert(key, now.clone())),
                None => drop(self.bound.remove(&key)),
            }
            changed.push((ObjectKey { kind: "Service".into(), namespace, name }, now));
        }
        changed
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
