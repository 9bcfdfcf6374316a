//! What the mesh says of one thing, from what the objects say.

use std::{collections::BTreeSet, net::IpAddr};

use weir_manifest::{Backing, ServiceObject};
use weir_model::{Health, HealthPolicy, Membership, Policy, PolicyName, Service, Workload};
use weir_world::Mesh;

use super::index::{Index, Place};
use crate::{
    Settings, service,
    trimmed::{Endpoint, Key, Pod, Slice},
    workload::{self, Surroundings},
};

/// Who an endpoint is.
enum Who<'i> {
    /// A pod.
    Pod(&'i Key),
    /// Nobody the mesh knows by another name.
    Itself,
    /// It names a pod which is gone, or has another address by now: whoever has its address is someone else.
    Gone,
}

impl Index {
    /// Everything, sorted.
    pub(super) fn mesh(&self, settings: &Settings) -> Mesh {
        let mut mesh = Mesh::default();
        for (namespace, space) in &self.spaces {
            let key = |name: &std::sync::Arc<str>| Key { namespace: namespace.clone(), name: name.clone() };
            for name in space.pods.keys() {
                mesh.workloads.extend(self.pod_workload(settings, &key(name)));
            }
            for name in space.services.keys() {
                mesh.services.extend(self.service(settings, &key(name)));
            }
            for (name, slice) in &space.slices {
                let own = slice.endpoints.iter().filter(|endpoint| endpoint.pod.is_none());
                let ips: BTreeSet<IpAddr> = own.filter_map(|endpoint| endpoint.addresses.first().copied()).collect();
                let made = |ip| self.endpoint_workload(settings, &key(name), ip);
                mesh.workloads.extend(ips.into_iter().filter_map(made));
            }
        }
        let node = settings.node.as_ref().and_then(|node| self.nodes.get(node));
        for key in node.into_iter().flat_map(|node| &node.pods) {
            if let Some(pod) = self.pod(key).filter(|pod| pod.exists()) {
                let mode = self.space(&key.namespace).and_then(|space| space.mode);
                mesh.local_pods.push(workload::local_pod(settings, key, pod, mode));
            }
        }
        mesh.policies = self.policies.keys().filter_map(|name| self.policy(name)).collect();
        mesh.workloads.sort_by(|one, other| one.uid.cmp(&other.uid));
        mesh.services.sort_by(|one, other| one.name.cmp(&other.name));
        mesh.local_pods.sort_by(|one, other| one.uid.cmp(&other.uid));
        mesh
    }

    /// The workload a pod is, if the mesh knows it.
    pub(super) fn pod_workload(&self, settings: &Settings, key: &Key) -> Option<Workload> {
        let space = self.space(&key.namespace)?;
        let pod = space.pods.get(&key.name).filter(|pod| pod.exists())?;
        let node = pod.node.as_ref().and_then(|node| self.nodes.get(node));
        let around = Surroundings {
            mode: space.mode,
            locality: node.and_then(|node| node.locality.clone()).unwrap_or_default(),
            services: self.memberships(settings, key, pod),
            policies: self.policies_over(key, pod),
        };
        Some(workload::workload(settings, key, pod, around))
    }

    /// The services a pod stands behind: those that select it and have no slices, and those whose slices list it.
    fn memberships(&self, settings: &Settings, key: &Key, pod: &Pod) -> Vec<Membership> {
        let mut services = Vec::new();
        let Some(space) = self.space(&key.namespace) else { return services };
        for name in space.selecting.candidates(&pod.traits.labels) {
            let Some(object) = space.services.get(name).filter(|object| object.backing == Backing::Endpoints) else {
                continue;
            };
            if pod.traits.labels.matches(&object.selector) && !space.slices_of.contains_key(name) {
                let ports = service::selected_ports(object, &pod.traits);
                service::join(&mut services, service::name(settings, &object.namespace, &object.name), &ports);
            }
        }
        let named = space.named.get(&key.name).into_iter().flatten();
        let at = pod.owned(settings).iter().filter_map(|ip| self.at(*ip)).flat_map(|at| &at.endpoints);
        // By the name of the slice: where two say something else of one port, the first counts.
        let places: BTreeSet<&Place> = named.chain(at).collect();
        for (slice_key, i) in places {
            let Some(slice) = self.slice(slice_key) else { continue };
            let Some(endpoint) = slice.endpoints.get(*i) else { continue };
            let Who::Pod(who) = self.who(endpoint) else { continue };
            if let Some(object) = self.sliced_service(slice_key, slice)
                && who == key
                && takes(object, endpoint.health)
            {
                let ports = service::slice_ports(object, slice);
                service::join(&mut services, service::name(settings, &object.namespace, &object.name), &ports);
            }
        }
        services
    }

    fn policies_over(&self, key: &Key, pod: &Pod) -> Vec<PolicyName> {
        let mut policies = Vec::new();
        for over in [None, Some(key.namespace.clone())] {
            let Some(selectors) = self.covering.get(&over) else { continue };
            for name in selectors.candidates(&pod.traits.labels) {
                let selector = self.policies.get(name).and_then(|covering| covering.selector.as_ref());
                if selector.is_some_and(|selector| pod.traits.labels.matches(selector)) {
                    policies.push(name.clone());
                }
            }
        }
        policies.sort();
        policies
    }

    /// The workload that the endpoints of a slice are which name no pod, have that first address, and are none.
    pub(super) fn endpoint_workload(&self, settings: &Settings, key: &Key, ip: IpAddr) -> Option<Workload> {
        let slice = self.slice(key)?;
        let object = self.sliced_service(key, slice)?;
        let own = self.at(ip)?.endpoints.iter().filter(|(slice, _)| slice == key);
        let own = own.filter_map(|(_, i)| slice.endpoints.get(*i)).filter(|one| matches!(self.who(one), Who::Itself));
        let endpoints: Vec<&Endpoint> = own.collect();
        let ready = endpoints.iter().any(|endpoint| endpoint.health == Health::Healthy);
        let health = if ready { Health::Healthy } else { Health::Unhealthy };
        let mut services = Vec::new();
        if takes(object, health) {
            let name = service::name(settings, &object.namespace, &object.name);
            service::join(&mut services, name, &service::slice_ports(object, slice));
        }
        workload::of_endpoint(settings, key, object, &endpoints.first()?.addresses, health, services)
    }

    /// The service whose slice it is, if there is one that has endpoints.
    fn sliced_service(&self, key: &Key, slice: &Slice) -> Option<&ServiceObject> {
        let service = self.space(&key.namespace)?.services.get(slice.service.as_ref()?)?;
        (service.backing == Backing::Endpoints).then_some(service)
    }

    fn who<'i>(&'i self, endpoint: &'i Endpoint) -> Who<'i> {
        let has_all = |pod: &Pod| pod.exists() && endpoint.addresses.iter().all(|ip| pod.addresses.contains(ip));
        let is = |key: &&Key| self.pod(key).is_some_and(has_all);
        match &endpoint.pod {
            Some(key) => Some(key).filter(is).map_or(Who::Gone, Who::Pod),
            None => {
                let at = endpoint.addresses.first().and_then(|ip| self.at(*ip));
                at.and_then(|at| at.pods.first()).filter(is).map_or(Who::Itself, Who::Pod)
            }
        }
    }

    pub(super) fn service(&self, settings: &Settings, key: &Key) -> Option<Service> {
        self.service_object(key).map(|object| service::service(settings, object))
    }

    pub(super) fn policy(&self, name: &PolicyName) -> Option<Policy> {
        let covering = self.policies.get(name)?;
        Some(covering.policy(name))
    }
}

/// Whether a service takes an endpoint of that health.
fn takes(service: &ServiceObject, health: Health) -> bool {
    match (health, service.health_policy) {
        (Health::Healthy, _) | (Health::Unhealthy, HealthPolicy::All) => true,
        (Health::Unhealthy, HealthPolicy::OnlyReady) => false,
    }
}
