//! What the mesh says of one thing, from what the objects say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use weir_manifest::{Backing, ServiceObject};
use weir_model::{Enrolment, Health, HealthPolicy, Membership, Policy, Service, Workload};
use weir_world::Mesh;

use super::index::{Index, Place};
use crate::{
    Settings,
    policy::{
        Declared,
        waypoint::{self, Bonds},
    },
    service,
    trimmed::{Endpoint, Key, Pod, Slice},
    workload::{self, Surroundings},
};

/// What a pod stands behind.
#[derive(Default)]
struct Behind<'i> {
    /// The services that lead to it: those that select it and have no slices, and those whose slices list it.
    memberships: Vec<Membership>,
    /// All of its namespace that select it or list it, whether they lead to it now or not.
    services: Vec<&'i ServiceObject>,
}

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
        let (mut mesh, mut required) = (Mesh::default(), BTreeMap::new());
        for (namespace, space) in &self.spaces {
            let key = |name: &std::sync::Arc<str>| Key { namespace: namespace.clone(), name: name.clone() };
            for name in space.pods.keys() {
                if let Some((workload, policy)) = self.pod_workload(settings, &key(name)) {
                    mesh.workloads.push(workload);
                    required.extend(policy.map(|policy| (policy.name.clone(), policy)));
                }
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
        let (services, workloads) = self.of_entries(settings);
        mesh.services.extend(services);
        mesh.workloads.extend(workloads);
        let node = settings.node.as_ref().and_then(|node| self.nodes.get(node));
        for key in node.into_iter().flat_map(|node| &node.pods) {
            if let Some(pod) = self.pod(key).filter(|pod| pod.exists()) {
                let mode = self.space(&key.namespace).and_then(|space| space.mode);
                let gateway = self.gateways.of_pod(&key.namespace, &pod.traits);
                mesh.local_pods.push(workload::local_pod(settings, key, pod, mode, gateway));
            }
        }
        mesh.policies = self.policies.values().flat_map(Declared::policies).chain(required.into_values()).collect();
        mesh.policies.sort_by(|one, other| one.name.cmp(&other.name));
        mesh.workloads.sort_by(|one, other| one.uid.cmp(&other.uid));
        mesh.services.sort_by(|one, other| one.name.cmp(&other.name));
        mesh.local_pods.sort_by(|one, other| one.uid.cmp(&other.uid));
        mesh
    }

    /// The workload a pod is, if the mesh knows it, and the policy that keeps all but its waypoints out, if there must be one.
    pub(super) fn pod_workload(&self, settings: &Settings, key: &Key) -> Option<(Workload, Option<Policy>)> {
        let space = self.space(&key.namespace)?;
        let pod = space.pods.get(&key.name).filter(|pod| pod.exists())?;
        let node = pod.node.as_ref().and_then(|node| self.nodes.get(node));
        let gateway = self.gateways.of_pod(&key.namespace, &pod.traits);
        let meshed = workload::enrolment(&pod.traits, space.mode, gateway) == Enrolment::Enrolled;
        let Behind { memberships, services } = self.behind(settings, key, pod);
        let bonds = Bonds {
            pod: key,
            gateway: pod.traits.labels.value(waypoint::GATEWAY),
            own: &pod.traits.waypoint,
            services,
            namespace: &space.waypoint,
        };
        let required = bonds.required(settings).filter(|_| meshed);
        let mut policies = self.policies_over(key, pod, meshed);
        if let Some(required) = &required
            && let Err(at) = policies.binary_search(&required.name)
        {
            policies.insert(at, required.name.clone());
        }
        let locality = node.and_then(|node| node.locality.clone()).unwrap_or_default();
        let bond = self.gateways.of_workload(key, &pod.traits, space.around());
        let waypoint = bond.and_then(|bond| bond.address(settings));
        let around = Surroundings { mode: space.mode, locality, services: memberships, policies, gateway, waypoint };
        Some((workload::workload(settings, key, pod, around), required))
    }

    /// What a pod stands behind.
    fn behind(&self, settings: &Settings, key: &Key, pod: &Pod) -> Behind<'_> {
        let (mut services, mut objects) = (Vec::new(), Vec::new());
        let Some(space) = self.space(&key.namespace) else { return Behind::default() };
        for name in space.selecting.candidates(&pod.traits.labels) {
            let Some(object) = space.services.get(name).filter(|object| object.backing == Backing::Endpoints) else {
                continue;
            };
            if !pod.traits.labels.matches(&object.selector) {
                continue;
            }
            objects.push(&**object);
            if !space.slices_of.contains_key(name) {
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
            let Some(object) = self.sliced_service(slice_key, slice).filter(|_| who == key) else { continue };
            if slice_key.namespace == key.namespace {
                objects.push(object);
            }
            if takes(object, endpoint.health) {
                let ports = service::slice_ports(object, slice);
                service::join(&mut services, service::name(settings, &object.namespace, &object.name), &ports);
            }
        }
        self.join_entries(settings, key, pod, &mut services);
        Behind { memberships: services, services: objects }
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
        let space = self.space(&key.namespace)?;
        let object = space.services.get(&key.name)?;
        let bond = self.gateways.of_service(object, space.around());
        Some(service::service(settings, object, bond.and_then(|bond| bond.address(settings))))
    }
}

/// Whether a service takes an endpoint of that health.
fn takes(service: &ServiceObject, health: Health) -> bool {
    match (health, service.health_policy) {
        (Health::Healthy, _) | (Health::Unhealthy, HealthPolicy::All) => true,
        (Health::Unhealthy, HealthPolicy::OnlyReady) => false,
    }
}
