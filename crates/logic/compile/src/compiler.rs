//! Objects as they come and go, to what changed of the mesh.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    mem,
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;
use weir_manifest::{
    ConfigKind, ConfigSpec, EndpointSliceObject, Labels, NamespaceObject, NodeObject, Object, ObjectKey, PodObject,
    PolicyObject, ServiceObject,
};
use weir_model::{Namespace, PolicyName, ServiceName, WorkloadUid};
use weir_world::{Delta, Mesh, World};

use crate::{
    Compiled, Configs, Settings,
    gateway::{BindingStatus, GatewayFacts},
    policy::{self, Declared},
    routes, service, service_entry,
    trimmed::{Endpoint, Key, Pod, Sharing, Slice},
    workload,
};

mod attached;
mod derive;
mod entries;
mod index;
#[cfg(test)]
mod plain;
mod policies;
mod required;
mod serving;
mod statuses;
mod waypoints;

use entries::Spot;
use index::Index;
use required::Required;

/// Workloads that are kept at once beside those that are known, while a change is taken over.
const PORTION: usize = 1_000;

/// Objects, and the mesh they make. A change marks what depends on it, and nothing else is looked at again.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    sharing: Sharing,
    index: Index,
    marked: Marked,
    /// Pods and services whose present form cannot be read, and why.
    refused: HashMap<ObjectKey, Arc<str>, RandomState>,
    /// What was taken last.
    taken: World,
    /// The policies of pods that must be entered through a waypoint, as they were last taken.
    required: Required,
    /// What was last said of each policy object, by its name: a hash of it.
    said: HashMap<PolicyName, u64, RandomState>,
    /// What was last said of each service that names a waypoint.
    bound: HashMap<Key, BindingStatus, RandomState>,
    /// What shapes requests: agents are told nothing of it.
    configs: Configs,
}

/// What may not be any more what it was when it was last taken.
#[derive(Debug, Default)]
struct Marked {
    pods: HashSet<Key, RandomState>,
    /// Endpoints that are or were no pods: by slice and first address.
    endpoints: HashSet<(Key, IpAddr), RandomState>,
    services: HashSet<Key, RandomState>,
    /// Names that ServiceEntries give.
    hosts: BTreeSet<ServiceName>,
    /// Endpoints that are or were written in them.
    spots: BTreeSet<Spot>,
    policies: BTreeSet<PolicyName>,
    /// Services of which something else may have to be said about their waypoints.
    bindings: BTreeSet<Key>,
    /// Objects that are policies, by their names, whose status may not be any more what it was.
    statuses: BTreeSet<PolicyName>,
}

impl Compiler {
    /// No objects yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            sharing: Sharing::default(),
            index: Index::default(),
            marked: Marked::default(),
            refused: HashMap::default(),
            taken: World::default(),
            required: Required::default(),
            said: HashMap::default(),
            bound: HashMap::default(),
            configs: Configs::default(),
        }
    }

    /// The object is there, or is so now.
    pub fn set(&mut self, object: Object) {
        self.allow(&object.key());
        match object {
            Object::Namespace(one) => self.set_namespace(&one.name, Some(&one)),
            Object::Node(one) => self.set_node(&one),
            Object::Pod(one) => self.set_pod(one),
            Object::Service(one) => self.set_service(one),
            Object::EndpointSlice(one) => self.set_slice(one),
            Object::Policy(one) => self.set_policy(one),
            Object::Config(one) => {
                self.mark_attached(of_its_own(one.kind.name(), &one.namespace));
                if let ConfigSpec::Gateway(spec) = &one.spec {
                    self.set_gateway(&one.namespace, &one.name, Some(GatewayFacts::from(&**spec)));
                }
                self.set_config(one);
            }
        }
    }

    /// The object is gone. One that never was is gone already.
    pub fn remove(&mut self, object: &ObjectKey) {
        self.allow(object);
        let key = object.namespace.clone().map(|namespace| Key { namespace, name: object.name.clone() });
        match (&*object.kind, key) {
            ("Namespace", _) => {
                if let Ok(name) = object.name.parse() {
                    self.set_namespace(&name, None);
                }
            }
            ("Node", _) => {
                if let Ok(name) = object.name.parse() {
                    let pods = self.index.replace_node(&name, None);
                    self.marked.pods.extend(pods);
                }
            }
            ("Pod", Some(key)) => self.replace_pod(&key, None),
            ("Service", Some(key)) => self.replace_service(&key, None),
            ("EndpointSlice", Some(key)) => self.replace_slice(&key, None),
            (kind, Some(key)) if self.configs.remove(object) => {
                self.mark_attached(of_its_own(kind, &key.namespace));
                if kind == ConfigKind::Gateway.name() {
                    self.set_gateway(&key.namespace, &key.name, None);
                }
                self.renew_entry(object);
            }
            (kind, Some(key)) => {
                if let Ok(name) = policy::name(kind, &key.namespace, &key.name) {
                    self.replace_policy(&name, None);
                }
            }
            (_, None) => {}
        }
    }

    /// The object is there, and cannot be read. A pod or service stays as it was, but is neither reached nor entered until it can.
    pub fn refuse(&mut self, object: &ObjectKey, why: &str) {
        self.refused.insert(object.clone(), why.into());
        self.mark(object);
    }

    /// The object can be read again, or is gone.
    fn allow(&mut self, object: &ObjectKey) {
        if !self.refused.is_empty() && self.refused.remove(object).is_some() {
            self.mark(object);
        }
    }

    fn mark(&mut self, object: &ObjectKey) {
        let Some(namespace) = object.namespace.clone() else { return };
        let key = Key { namespace, name: object.name.clone() };
        match &*object.kind {
            "Pod" => drop(self.marked.pods.insert(key)),
            "Service" => drop(self.marked.services.insert(key)),
            _ => {}
        }
    }

    /// Why the object is refused, if it is.
    fn refusal(&self, kind: &str, key: &Key) -> Option<Arc<str>> {
        if self.refused.is_empty() {
            return None;
        }
        let object = ObjectKey { kind: kind.into(), namespace: Some(key.namespace.clone()), name: key.name.clone() };
        self.refused.get(&object).cloned()
    }

    /// What changed since it was last taken, each thing once, sorted, and nothing that is what it was.
    pub fn take(&mut self) -> Delta {
        let (statuses, bindings) = (mem::take(&mut self.marked.statuses), mem::take(&mut self.marked.bindings));
        let mut marked = mem::replace(&mut self.marked, Marked { statuses, bindings, ..Marked::default() });
        let mut delta = Delta::default();
        let mut services = self.take_entries(&mut marked);
        for key in marked.pods {
            let uid = workload::uid(&self.settings, &key);
            let made = self.index.pod_workload(&self.settings, &key);
            let (mut now, required) = made.map_or((None, None), |(workload, required)| (Some(workload), required));
            self.required.set(&key, required, &mut marked.policies);
            if let (Some(now), Some(why)) = (&mut now, self.refusal("Pod", &key)) {
                now.unsupported = Some(why);
            }
            delta.workloads.push((uid, now));
        }
        for (slice, ip) in marked.endpoints {
            let uid = workload::endpoint_uid(&self.settings, &slice, ip);
            delta.workloads.push((uid, self.index.endpoint_workload(&self.settings, &slice, ip)));
        }
        for spot in &marked.spots {
            let (entry, ip, before) = spot;
            let uid = service_entry::endpoint_uid(&self.settings, entry, *ip, *before);
            delta.workloads.push((uid, self.index.entry_workload(&self.settings, spot)));
        }
        for key in marked.services {
            let name = self.service_name(&key);
            let mut now = self.index.service(&self.settings, &key);
            self.marked.bindings.insert(key.clone());
            if let (Some(now), Some(why)) = (&mut now, self.refusal("Service", &key)) {
                now.unsupported = Some(why);
            }
            match now {
                Some(now) => services.insert(name, Some(now)),
                // A ServiceEntry may have the name.
                None => services.insert(name.clone(), self.index.entry_service(&self.settings, &name)),
            };
        }
        delta.services.extend(services);
        for name in marked.policies {
            let now = self.index.policy(&name).or_else(|| self.required.policy(&name).cloned());
            delta.policies.push((name, now));
        }
        delta.workloads.retain(|(uid, now)| !self.taken.knows(uid, now.as_ref()));
        delta.services.retain(|(name, now)| self.taken.service(name).map(|before| &**before) != now.as_ref());
        delta.policies.retain(|(name, now)| self.taken.policy(name) != now.as_ref());
        delta.workloads.sort_by(|(one, _), (other, _)| one.cmp(other));
        delta.services.sort_by(|(one, _), (other, _)| one.cmp(other));
        delta.policies.sort_by(|(one, _), (other, _)| one.cmp(other));
        for portion in delta.workloads.chunks(PORTION) {
            self.taken = self.taken.apply(Delta { workloads: portion.to_vec(), ..Delta::default() });
        }
        let (services, policies) = (delta.services.clone(), delta.policies.clone());
        self.taken = self.taken.apply(Delta { services, policies, ..Delta::default() });
        delta
    }

    /// The objects that shape requests, as they are now.
    pub fn configs(&self) -> &Configs {
        &self.configs
    }

    /// The labels of each pod and of each endpoint of a ServiceEntry, in no order: no workload has them, and subsets and `sourceLabels` ask for
    /// them.
    pub fn labels(&self) -> impl Iterator<Item = (WorkloadUid, Labels)> {
        let pods = self.index.pods().map(|(key, pod)| (workload::uid(&self.settings, &key), pod.traits.labels.owned()));
        pods.chain(self.index.entry_labels(&self.settings))
    }

    /// Routes and destinations in the mesh as it was last taken, whoever serves them: nothing stands before their requests.
    pub fn routes(&self) -> Compiled {
        routes(&self.settings, &self.taken, &self.configs)
    }

    /// The mesh as it was last taken, without local pods.
    pub fn world(&self) -> &World {
        &self.taken
    }

    /// The whole mesh as the objects are now, taken or not: everything sorted by its name.
    pub fn mesh(&self) -> Mesh {
        self.index.mesh(&self.settings)
    }
}

impl Compiler {
    fn set_namespace(&mut self, name: &Namespace, now: Option<&NamespaceObject>) {
        let (pods, services) = self.index.replace_namespace(name, now);
        self.marked.pods.extend(pods);
        self.marked.services.extend(services);
        self.mark_attached(Some(name));
        let entries = self.index.entries_of(name);
        self.mark_entries(&entries);
    }

    fn set_node(&mut self, node: &NodeObject) {
        let pods = self.index.replace_node(&node.name, Some(workload::locality(&node.labels)));
        self.marked.pods.extend(pods);
    }

    fn set_pod(&mut self, pod: PodObject) {
        let key = self.key(&pod.namespace, &pod.name);
        let mut pod = self.sharing.pod(pod);
        pod.node = pod.node.map(|node| self.index.known_node(node));
        self.replace_pod(&key, Some(pod));
    }

    fn set_service(&mut self, service: ServiceObject) {
        let key = self.key(&service.namespace, &service.name);
        self.replace_service(&key, Some(Arc::new(service)));
    }

    fn set_slice(&mut self, slice: EndpointSliceObject) {
        let key = self.key(&slice.namespace, &slice.name);
        let slice = self.sharing.slice(slice);
        self.replace_slice(&key, Some(Arc::new(slice)));
    }

    fn set_policy(&mut self, object: PolicyObject) {
        let name = policy::name(&object.kind.to_string(), &object.namespace, &object.name)
            .expect("kind and name of an object are visible ASCII and short");
        let declared = Declared::new(&self.settings, object, self.index.policies.get(&name));
        self.replace_policy(&name, Some(declared));
    }

    /// A name whose texts are shared.
    fn key(&mut self, namespace: &Namespace, name: &Arc<str>) -> Key {
        Key { namespace: self.index.known_namespace(namespace), name: self.sharing.texts.share(name) }
    }

    fn replace_pod(&mut self, key: &Key, now: Option<Pod>) {
        let before = self.index.pod(key).cloned();
        if before == now {
            return;
        }
        self.marked.pods.insert(key.clone());
        let owned = |pod: &Option<Pod>| pod.as_ref().map_or(Vec::new(), |pod| pod.owned(&self.settings).to_vec());
        let (left, come) = (owned(&before), owned(&now));
        self.index.replace_pod(&self.settings, key, now);
        if left != come {
            // Whose the addresses are may be another question now.
            for ip in left.into_iter().chain(come) {
                self.mark_address(ip);
            }
        }
    }

    fn mark_address(&mut self, ip: IpAddr) {
        self.marked.spots.extend(self.index.spots_at(ip));
        let entries = self.index.entries_addressed(ip);
        self.mark_entries(&entries);
        if let Some(at) = self.index.at(ip) {
            self.marked.pods.extend(at.pods.iter().cloned());
            self.marked.endpoints.extend(at.endpoints.iter().map(|(slice, _)| (slice.clone(), ip)));
        }
    }

    fn replace_service(&mut self, key: &Key, now: Option<Arc<ServiceObject>>) {
        self.marked.services.insert(key.clone());
        let before = self.index.service_object(key).cloned();
        if before.is_some() != now.is_some() {
            let shadowed = self.index.shadowed(&self.service_name(key));
            self.mark_entries(&shadowed);
        }
        let addresses: Vec<IpAddr> = before.iter().chain(&now).flat_map(|one| service::addresses(one)).collect();
        for ip in addresses {
            let entries = self.index.entries_addressed(ip);
            self.mark_entries(&entries);
        }
        let same = match (&before, &now) {
            (Some(one), Some(other)) => {
                one.selector == other.selector
                    && one.waypoint == other.waypoint
                    && one.ports == other.ports
                    && one.health_policy == other.health_policy
                    && one.backing == other.backing
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            self.mark_selected(key);
            self.mark_attached(Some(&key.namespace));
        }
        self.index.replace_service(key, now);
        if !same {
            self.mark_selected(key);
            for slice in self.index.slices_of(key) {
                for endpoint in &slice.1.endpoints {
                    mark_endpoint(&mut self.marked, &self.index, &slice.0, endpoint);
                }
            }
        }
    }

    /// The pods that the service's selector selects.
    fn mark_selected(&mut self, service: &Key) {
        let pods = self.index.selected(service);
        self.marked.pods.extend(pods);
    }

    fn replace_slice(&mut self, key: &Key, now: Option<Arc<Slice>>) {
        let before = self.index.slice(key).cloned();
        if before == now {
            return;
        }
        let of = |slice: &Option<Arc<Slice>>| slice.as_ref().and_then(|slice| slice.service.clone());
        let services = [of(&before), of(&now)].into_iter().flatten();
        let services: Vec<Key> = services.map(|name| Key { namespace: key.namespace.clone(), name }).collect();
        let sliced = |index: &Index| services.iter().map(|service| index.is_sliced(service)).collect::<Vec<_>>();
        let had = sliced(&self.index);
        self.index.replace_slice(key, now.clone());
        let has = sliced(&self.index);
        for ((service, had), has) in services.iter().zip(had).zip(has) {
            if had != has {
                self.mark_selected(service);
            }
        }
        let endpoints = |slice: &Option<Arc<Slice>>| match slice {
            Some(slice) => slice.endpoints.iter().cloned().collect(),
            None => HashSet::<Endpoint>::new(),
        };
        let (left, come) = (endpoints(&before), endpoints(&now));
        let alike = match (&before, &now) {
            (Some(one), Some(other)) => one.service == other.service && one.ports == other.ports,
            (None, _) | (_, None) => false,
        };
        for endpoint in left.union(&come) {
            if !alike || left.contains(endpoint) != come.contains(endpoint) {
                mark_endpoint(&mut self.marked, &self.index, key, endpoint);
            }
        }
    }

    fn replace_policy(&mut self, name: &PolicyName, now: Option<Declared>) {
        self.mark_policy(name);
        self.index.replace_policy(name, now);
        self.mark_policy(name);
    }

    /// The policies an object makes, the pods it covers, and itself.
    fn mark_policy(&mut self, object: &PolicyName) {
        self.marked.policies.extend(self.index.made(object));
        self.marked.pods.extend(self.index.covered(object));
        self.marked.statuses.insert(object.clone());
        self.marked.statuses.extend(self.index.rivals(object).into_iter().map(|rank| rank.name));
    }

    fn service_name(&self, key: &Key) -> ServiceName {
        service::name(&self.settings, &key.namespace, &key.name)
    }
}

/// The namespace whose policies a configuration object can matter to; none for all: a Gateway is named from everywhere.
fn of_its_own<'n>(kind: &str, namespace: &'n Namespace) -> Option<&'n Namespace> {
    (kind != "Gateway").then_some(namespace)
}

/// Whoever the endpoint is, or was.
fn mark_endpoint(marked: &mut Marked, index: &Index, slice: &Key, endpoint: &Endpoint) {
    match (&endpoint.pod, endpoint.addresses.first()) {
        (Some(pod), _) => {
            marked.pods.insert(pod.clone());
        }
        (None, Some(ip)) => {
            marked.endpoints.insert((slice.clone(), *ip));
            marked.pods.extend(index.at(*ip).into_iter().flat_map(|at| at.pods.iter().cloned()));
        }
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
#[path = "compiler/entry_tests.rs"]
mod entry_tests;

#[cfg(test)]
#[path = "compiler/policy_tests.rs"]
mod policy_tests;
