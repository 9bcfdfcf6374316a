//! The mesh made the plain way: every rule a loop over all objects. What the compiler makes must be the same.

use std::collections::BTreeMap;

use weir_manifest::{Backing, Labels, Object, PodObject, PolicyTarget, ServiceObject, SliceEndpoint};
use weir_model::{
    Health, HealthPolicy, NetworkMode, Policy, PolicyAction, PolicyScope, PolicySource, Workload, WorkloadUid,
};

use weir_manifest::PolicySpec;

use super::*;
use crate::{
    service,
    workload::{Surroundings, of_endpoint},
};

/// The objects, by what they are.
pub(super) fn mesh(objects: &BTreeMap<ObjectKey, Object>, settings: &Settings) -> Mesh {
    let mut mesh = Mesh::default();
    let mut sharing = Sharing::default();
    let pods: Vec<&PodObject> = all(objects, |one| if let Object::Pod(pod) = one { Some(pod) } else { None });
    let mut workloads = BTreeMap::new();
    for pod in pods.iter().filter(|pod| exists(pod)) {
        let key = Key { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let mode = all(objects, |one| {
            let Object::Namespace(namespace) = one else { return None };
            namespace.mode.filter(|_| namespace.name == pod.namespace)
        });
        let locality = all(objects, |one| {
            let Object::Node(node) = one else { return None };
            (Some(&node.name) == pod.node.as_ref()).then(|| workload::locality(&node.labels))
        });
        let trimmed = sharing.pod(PodObject::clone(pod));
        let around = Surroundings {
            mode: mode.first().copied(),
            locality: locality.into_iter().next().unwrap_or_default(),
            services: Vec::new(),
            policies: policies_over(objects, settings, pod),
        };
        if pod.node == settings.node && pod.node.is_some() {
            mesh.local_pods.push(workload::local_pod(settings, &key, &trimmed, around.mode));
        }
        workloads.insert(workload::uid(settings, &key), workload::workload(settings, &key, &trimmed, around));
    }
    for object in objects.values() {
        if let Object::Service(service) = object {
            mesh.services.push(service::service(settings, service));
            place(objects, settings, &pods, service, &mut workloads);
        }
        if let Object::Policy(policy) = object {
            let name = policy::name(&policy.kind.to_string(), &policy.namespace, &policy.name).unwrap();
            let scope = match selector(policy).is_none() {
                false => PolicyScope::Workloads,
                true if policy.namespace == settings.root_namespace => PolicyScope::Mesh,
                true => PolicyScope::Namespace,
            };
            let rejected = match &policy.spec {
                PolicySpec::Rejected(why) => Some(why.clone()),
                PolicySpec::Authorization(_)
                | PolicySpec::PeerAuthentication(_)
                | PolicySpec::RequestAuthentication => None,
            };
            let source = PolicySource { kind: policy.kind, name: policy.name.clone(), file: None };
            let (action, dry_run, rules) = (PolicyAction::Deny, false, Vec::new());
            mesh.policies.push(Policy { name, scope, action, dry_run, rules, rejected, source });
        }
    }
    mesh.workloads = workloads.into_values().collect();
    mesh.services.sort_by(|one, other| one.name.cmp(&other.name));
    mesh.policies.sort_by(|one, other| one.name.cmp(&other.name));
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

fn policies_over(objects: &BTreeMap<ObjectKey, Object>, settings: &Settings, pod: &PodObject) -> Vec<PolicyName> {
    let mut names = all(objects, |one| {
        let Object::Policy(policy) = one else { return None };
        let selector = selector(policy)?;
        let there = policy.namespace == pod.namespace || policy.namespace == settings.root_namespace;
        (there && selects(selector, pod))
            .then(|| policy::name(&policy.kind.to_string(), &policy.namespace, &policy.name).unwrap())
    });
    names.sort();
    names
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
