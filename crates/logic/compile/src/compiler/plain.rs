//! The mesh made the plain way: every rule a loop over all objects. What the compiler makes must be the same.

use std::collections::BTreeMap;

use weir_manifest::{
    Backing, ConfigObject, Labels, NamespaceObject, Object, PeerAuthenticationSpec, PodObject, PolicySpec,
    PolicyTarget, ServiceEntrySpec, ServiceObject, SliceEndpoint, WaypointLabels,
};
use weir_model::{
    Enrolment, Health, HealthPolicy, NetworkMode, Policy, Service, ServiceName, WaypointAddress, Workload, WorkloadUid,
};

use super::*;
use crate::{
    gateway::{Around, Gateways},
    policy::{
        mtls,
        waypoint::{self, Bonds},
    },
    service,
    workload::{Surroundings, of_endpoint},
};

/// The objects, by what they are.
pub(super) fn mesh(objects: &BTreeMap<ObjectKey, Object>, gateways: &Gateways, settings: &Settings) -> Mesh {
    let mut mesh = Mesh::default();
    let nothing = (WaypointLabels::default(), Labels::new());
    let mut sharing = Sharing::default();
    let pods: Vec<&PodObject> = all(objects, |one| if let Object::Pod(pod) = one { Some(pod) } else { None });
    let mut workloads = BTreeMap::new();
    for pod in pods.iter().filter(|pod| exists(pod)) {
        let key = Key { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let namespace = namespace_of(objects, pod);
        let mode = namespace.and_then(|namespace| namespace.mode);
        let locality = all(objects, |one| {
            let Object::Node(node) = one else { return None };
            (Some(&node.name) == pod.node.as_ref()).then(|| workload::locality(&node.labels))
        });
        let trimmed = sharing.pod(PodObject::clone(pod));
        let mut policies = policies_over(objects, settings, pod);
        let gateway = gateways.of_pod(&pod.namespace, &trimmed.traits);
        if workload::enrolment(&trimmed.traits, mode, gateway) == Enrolment::Enrolled {
            let levels = levels(objects, settings, pod).map(|one| one.and_then(|one| modes(settings, one)));
            let [own, namespace, everywhere] = &levels;
            policies.extend(mtls::named(own.as_ref(), [namespace.as_ref(), everywhere.as_ref()]));
            let required = required(objects, settings, &pods, pod);
            policies.extend(required.iter().map(|policy| policy.name.clone()));
            mesh.policies.extend(required);
        }
        policies.sort();
        let locality = locality.into_iter().next().unwrap_or_default();
        let bond = gateways.of_workload(&key, &trimmed.traits, around(namespace, &nothing));
        let waypoint = bond.and_then(|bond| bond.address(settings));
        let around = Surroundings { mode, locality, services: Vec::new(), policies, gateway, waypoint };
        if pod.node == settings.node && pod.node.is_some() {
            mesh.local_pods.push(workload::local_pod(settings, &key, &trimmed, mode, gateway));
        }
        workloads.insert(workload::uid(settings, &key), workload::workload(settings, &key, &trimmed, around));
    }
    for object in objects.values() {
        if let Object::Service(service) = object {
            let bond = gateways.of_service(service, around(space_of(objects, &service.namespace), &nothing));
            mesh.services.push(service::service(settings, service, bond.and_then(|bond| bond.address(settings))));
            place(objects, settings, &pods, service, &mut workloads);
        }
        if let Object::Policy(policy) = object {
            mesh.policies.extend(Declared::new(settings, policy.clone(), None).policies());
        }
    }
    place_entries(objects, gateways, settings, &pods, &mut mesh.services, &mut workloads);
    mesh.workloads = workloads.into_values().collect();
    mesh.services.sort_by(|one, other| one.name.cmp(&other.name));
    mesh.policies.sort_by(|one, other| one.name.cmp(&other.name));
    mesh.policies.dedup();
    mesh.local_pods.sort_by(|one, other| one.uid.cmp(&other.uid));
    mesh
}

fn all<'o, T>(objects: &'o BTreeMap<ObjectKey, Object>, which: impl Fn(&'o Object) -> Option<T>) -> Vec<T> {
    objects.values().filter_map(which).collect()
}

fn exists(pod: &PodObject) -> bool {
    !pod.is_over() && (pod.node.is_some() || !pod.addresses.is_empty())
}

fn selects(selector: &Labels, pod: &PodObject) -> bool {
    selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

fn selector(policy: &PolicyObject) -> Option<&Labels> {
    match &policy.target {
        PolicyTarget::Selector(labels) => Some(labels).filter(|labels| !labels.is_empty()),
        PolicyTarget::All | PolicyTarget::Refs(_) | PolicyTarget::Unknown => None,
    }
}

fn namespace_of<'o>(objects: &'o BTreeMap<ObjectKey, Object>, pod: &PodObject) -> Option<&'o NamespaceObject> {
    space_of(objects, &pod.namespace)
}

fn around<'o>(space: Option<&'o NamespaceObject>, nothing: &'o (WaypointLabels, Labels)) -> Around<'o> {
    let (waypoint, labels) = space.map_or((&nothing.0, &nothing.1), |one| (&one.waypoint, &one.labels));
    Around { waypoint, labels }
}

fn space_of<'o>(objects: &'o BTreeMap<ObjectKey, Object>, name: &Namespace) -> Option<&'o NamespaceObject> {
    let named = all(objects, |one| {
        let Object::Namespace(namespace) = one else { return None };
        (namespace.name == *name).then_some(namespace)
    });
    named.first().copied()
}

fn covers(settings: &Settings, policy: &PolicyObject, pod: &PodObject) -> bool {
    let there = policy.namespace == pod.namespace || policy.namespace == settings.root_namespace;
    there && selector(policy).is_none_or(|selector| selects(selector, pod))
}

fn policies_over(objects: &BTreeMap<ObjectKey, Object>, settings: &Settings, pod: &PodObject) -> Vec<PolicyName> {
    all(objects, |one| {
        let Object::Policy(policy) = one else { return None };
        selector(policy).filter(|_| covers(settings, policy, pod) && modes(settings, policy).is_none())?;
        Some(policy::name(&policy.kind.to_string(), &policy.namespace, &policy.name).unwrap())
    })
}

fn peer_authentication(policy: &PolicyObject) -> Option<&PeerAuthenticationSpec> {
    match &policy.spec {
        PolicySpec::PeerAuthentication(_) if policy.target == PolicyTarget::Unknown => None,
        PolicySpec::PeerAuthentication(spec) if selector(policy).is_some() || spec.ports.is_empty() => Some(spec),
        PolicySpec::PeerAuthentication(_)
        | PolicySpec::Authorization(_)
        | PolicySpec::RequestAuthentication(_)
        | PolicySpec::Rejected(_) => None,
    }
}

fn modes(settings: &Settings, policy: &PolicyObject) -> Option<mtls::Modes> {
    Declared::new(settings, policy.clone(), None).modes().cloned()
}

/// What says who must prove who they are: to the pod, in its namespace, and everywhere.
pub(super) fn levels<'o>(
    objects: &'o BTreeMap<ObjectKey, Object>,
    settings: &Settings,
    pod: &PodObject,
) -> [Option<&'o PolicyObject>; 3] {
    let root = |policy: &PolicyObject| policy.namespace == settings.root_namespace;
    let oldest = |level: &dyn Fn(&PolicyObject) -> bool| {
        let mut policies = all(objects, |one| {
            let Object::Policy(policy) = one else { return None };
            peer_authentication(policy)?;
            (covers(settings, policy, pod) && level(policy)).then_some(policy)
        });
        policies.sort_by_key(|one| (one.created.clone(), one.name.clone(), one.namespace.clone()));
        policies.first().copied()
    };
    [
        oldest(&|one| selector(one).is_some()),
        oldest(&|one| selector(one).is_none() && !root(one)),
        oldest(&|one| selector(one).is_none() && root(one)),
    ]
}

/// What keeps all but its waypoints out of a pod.
fn required(
    objects: &BTreeMap<ObjectKey, Object>,
    settings: &Settings,
    pods: &[&PodObject],
    pod: &PodObject,
) -> Option<Policy> {
    let lists = |service: &ServiceObject| {
        let listing = all(objects, |one| {
            let Object::EndpointSlice(slice) = one else { return None };
            let ours = slice.namespace == service.namespace && slice.service.as_ref() == Some(&service.name);
            let mut endpoints = slice.endpoints.iter().filter(|endpoint| !endpoint.addresses.is_empty());
            let is = |endpoint: &SliceEndpoint| pod_of(settings, pods, endpoint).is_ok_and(|one| one == Some(pod));
            (ours && endpoints.any(is)).then_some(())
        });
        !listing.is_empty()
    };
    let services = all(objects, |one| {
        let Object::Service(service) = one else { return None };
        let near = service.namespace == pod.namespace && service.backing == Backing::Endpoints;
        let selected = !service.selector.is_empty() && selects(&service.selector, pod);
        (near && (selected || lists(service))).then_some(service)
    });
    let namespace = namespace_of(objects, pod).map(|one| one.waypoint.clone()).unwrap_or_default();
    let key = Key { namespace: pod.namespace.clone(), name: pod.name.clone() };
    let gateway = pod.labels.get(waypoint::GATEWAY);
    Bonds { pod: &key, gateway, own: &pod.waypoint, services, namespace: &namespace }.required(settings)
}

fn place(
    objects: &BTreeMap<ObjectKey, Object>,
    settings: &Settings,
    pods: &[&PodObject],
    service: &ServiceObject,
    workloads: &mut BTreeMap<WorkloadUid, Workload>,
) {
    if service.backing == Backing::ExternalName {
        return;
    }
    let name = service::name(settings, &service.namespace, &service.name);
    let uid =
        |pod: &PodObject| workload::uid(settings, &Key { namespace: pod.namespace.clone(), name: pod.name.clone() });
    let slices = all(objects, |one| {
        let Object::EndpointSlice(slice) = one else { return None };
        let ours = slice.namespace == service.namespace && slice.service.as_ref() == Some(&service.name);
        ours.then_some(slice)
    });
    if slices.is_empty() {
        for pod in pods.iter().filter(|pod| pod.namespace == service.namespace && exists(pod)) {
            if !service.selector.is_empty() && selects(&service.selector, pod) {
                let ports = service::selected_ports(service, &Sharing::default().pod(PodObject::clone(pod)).traits);
                service::join(&mut workloads.get_mut(&uid(pod)).unwrap().services, name.clone(), &ports);
            }
        }
    }
    for slice in slices {
        let trimmed = Sharing::default().slice(slice.clone());
        let ports = service::slice_ports(service, &trimmed);
        let key = Key { namespace: slice.namespace.clone(), name: slice.name.clone() };
        for endpoint in slice.endpoints.iter().filter(|endpoint| !endpoint.addresses.is_empty()) {
            let taken = endpoint.health == Health::Healthy || service.health_policy == HealthPolicy::All;
            let workload = match pod_of(settings, pods, endpoint) {
                Err(()) => continue,
                Ok(Some(pod)) => workloads.get_mut(&uid(pod)).unwrap(),
                Ok(None) => {
                    let (ips, health) = (&endpoint.addresses, endpoint.health);
                    let made = of_endpoint(settings, &key, service, ips, health, Vec::new()).unwrap();
                    let known = workloads.entry(made.uid.clone()).or_insert(made.clone());
                    if endpoint.health == Health::Healthy {
                        known.health = made.health;
                    }
                    known
                }
            };
            if taken {
                service::join(&mut workload.services, name.clone(), &ports);
            }
        }
    }
}

/// Everything that ServiceEntries say.
fn place_entries(
    objects: &BTreeMap<ObjectKey, Object>,
    gateways: &Gateways,
    settings: &Settings,
    pods: &[&PodObject],
    services: &mut Vec<Service>,
    workloads: &mut BTreeMap<WorkloadUid, Workload>,
) {
    let mut entries = all(objects, |one| {
        let Object::Config(object) = one else { return None };
        Some((object, service_entry::spec(object)?))
    });
    entries.sort_by_key(|(object, _)| (object.created.clone(), object.name.clone()));
    let kubernetes: Vec<_> = services.iter().map(|service| service.name.hostname.clone()).collect();
    let taken: Vec<_> = services.iter().flat_map(|service| service.vips.iter().map(|(_, vip)| *vip)).collect();
    let mut named = Vec::new();
    for (object, spec) in &entries {
        if !service_entry::is_service(spec, waypoint_of(objects, gateways, settings, object, spec).as_ref()) {
            // It has the name all the same.
            let taken = spec.hosts.iter().map(|host| (object.namespace.clone(), host.clone()));
            named.extend(taken.map(|(namespace, hostname)| (ServiceName { namespace, hostname }, None)));
            continue;
        }
        for hostname in &spec.hosts {
            let name = ServiceName { namespace: object.namespace.clone(), hostname: hostname.clone() };
            named.push((name, Some((*object, *spec))));
        }
    }
    let mut counting: Vec<(ServiceName, &ConfigObject, &ServiceEntrySpec)> = Vec::new();
    for (i, (name, entry)) in named.iter().enumerate() {
        let first = named[..i].iter().all(|(other, _)| other != name);
        if let Some((object, spec)) = entry
            && first
            && !kubernetes.contains(&name.hostname)
        {
            counting.push((name.clone(), object, spec));
        }
    }
    let mut without = counting.clone();
    without.retain(|(name, object, spec)| service_entry::is_without(object, spec, &name.hostname));
    without.sort_by_key(|(name, object, _)| (object.created.clone(), name.clone()));
    let without: Vec<_> = without.into_iter().map(|(name, ..)| name).collect();
    let given = service_entry::allot(&without, entries.iter().map(|(_, spec)| *spec));
    for (name, object, spec) in counting {
        let waypoint = waypoint_of(objects, gateways, settings, object, spec);
        let mut service = service_entry::service(settings, spec, &name, &given, waypoint);
        service.vips.retain(|(_, vip)| {
            let owner = SliceEndpoint { addresses: vec![vip.addr()], health: Health::Healthy, pod: None };
            !service_entry::is_exact(vip)
                || !taken.contains(vip) && pod_of(settings, pods, &owner).is_ok_and(|pod| pod.is_none())
        });
        services.push(service);
        place_entry(settings, pods, &name, object, spec, workloads);
    }
}

fn waypoint_of(
    objects: &BTreeMap<ObjectKey, Object>,
    gateways: &Gateways,
    settings: &Settings,
    object: &ConfigObject,
    spec: &ServiceEntrySpec,
) -> Option<WaypointAddress> {
    let nothing = (WaypointLabels::default(), Labels::new());
    let space = around(space_of(objects, &object.namespace), &nothing);
    gateways.of_entry(&spec.waypoint, space, &object.namespace)?.address(settings)
}

fn place_entry(
    settings: &Settings,
    pods: &[&PodObject],
    name: &ServiceName,
    object: &ConfigObject,
    spec: &ServiceEntrySpec,
    workloads: &mut BTreeMap<WorkloadUid, Workload>,
) {
    let key = |one: &PodObject| Key { namespace: one.namespace.clone(), name: one.name.clone() };
    if let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) {
        for pod in pods.iter().filter(|pod| pod.namespace == object.namespace && exists(pod) && selects(selector, pod))
        {
            let workload = workloads.get_mut(&workload::uid(settings, &key(pod))).unwrap();
            service::join(&mut workload.services, name.clone(), &service_entry::ports(spec, None));
        }
    }
    for (ip, before) in service_entry::spots(spec) {
        let endpoint = service_entry::endpoint(spec, ip, before);
        let here = service_entry::is_here(settings, endpoint.unwrap());
        let owner = SliceEndpoint { addresses: vec![ip], health: Health::Healthy, pod: None };
        let owner = pod_of(settings, pods, &owner).unwrap().filter(|_| here);
        let entry = Key { namespace: object.namespace.clone(), name: object.name.clone() };
        let made = service_entry::of_endpoint(settings, &entry, spec, (ip, before), Vec::new()).unwrap();
        let workload = match owner {
            Some(pod) => workloads.get_mut(&workload::uid(settings, &key(pod))).unwrap(),
            None => workloads.entry(made.uid.clone()).or_insert(made),
        };
        service::join(&mut workload.services, name.clone(), &service_entry::ports(spec, endpoint));
    }
}

fn pod_of<'p>(
    settings: &Settings,
    pods: &[&'p PodObject],
    endpoint: &SliceEndpoint,
) -> Result<Option<&'p PodObject>, ()> {
    let has_all = |pod: &PodObject| exists(pod) && endpoint.addresses.iter().all(|ip| pod.addresses.contains(ip));
    match &endpoint.pod {
        Some((namespace, name)) => {
            let mut pods = pods.iter().filter(|pod| pod.namespace == *namespace && pod.name == *name);
            pods.next().copied().filter(|pod| has_all(pod)).map(Some).ok_or(())
        }
        None => {
            let owns = |pod: &&&PodObject| {
                let here = pod.network.as_ref().is_none_or(|network| *network == settings.network);
                let own = here && exists(pod) && pod.network_mode == NetworkMode::Standard;
                own && pod.addresses.contains(&endpoint.addresses[0])
            };
            Ok(pods.iter().find(owns).copied().filter(|pod| has_all(pod)))
        }
    }
}
