//! Objects that come and go to changes of the mesh.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use weir_manifest::{Object, ObjectKey, Objects};
use weir_model::{Namespace, Policy, PolicyName, Service, ServiceName, Workload, WorkloadUid};
use weir_world::Delta;

use crate::{Settings, compile, policy};

/// Follows objects, and says what changed of the mesh since it was asked last.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    objects: BTreeMap<ObjectKey, Object>,
    /// Objects whose present form cannot be read, and why.
    refused: BTreeMap<ObjectKey, Arc<str>>,
    dirty: bool,
    workloads: HashMap<WorkloadUid, Workload>,
    services: HashMap<ServiceName, Service>,
    policies: HashMap<PolicyName, Policy>,
}

impl Compiler {
    /// Of a mesh without anything.
    pub fn new(settings: Settings) -> Self {
        let (workloads, services, policies) = Default::default();
        Self {
            settings,
            objects: BTreeMap::new(),
            refused: BTreeMap::new(),
            dirty: false,
            workloads,
            services,
            policies,
        }
    }

    /// An object is new, or another than it was.
    pub fn set(&mut self, object: Object) {
        let key = object.key();
        self.refused.remove(&key);
        self.objects.insert(key, object);
        self.dirty = true;
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.refused.remove(key);
        self.dirty |= self.objects.remove(key).is_some();
    }

    /// An object is there that cannot be read. A pod or service stays as it was, but is not reached until it can.
    pub fn refuse(&mut self, key: &ObjectKey, why: &str) {
        self.refused.insert(key.clone(), why.into());
        self.dirty = true;
    }

    /// The keys of all objects.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    /// What changed since the last call.
    pub fn take(&mut self) -> Delta {
        if !std::mem::take(&mut self.dirty) {
            return Delta::default();
        }
        let mut objects = Objects::default();
        let mut policies = Vec::new();
        for object in self.objects.values() {
            match object {
                Object::Namespace(one) => objects.namespaces.push(one.clone()),
                Object::Node(one) => objects.nodes.push(one.clone()),
                Object::Pod(one) => objects.pods.push(one.clone()),
                Object::Service(one) => objects.services.push(one.clone()),
                Object::EndpointSlice(one) => objects.endpoint_slices.push(one.clone()),
                Object::Policy(one) => policies.push(one),
            }
        }
        let mut mesh = compile(&objects, &self.settings);
        mesh.policies = policies.iter().map(|one| policy::policy(&self.settings, one)).collect();
        for (key, why) in &self.refused {
            let refused = |kind: &str, namespace: &Namespace, name: &str| {
                &*key.kind == kind && key.namespace.as_ref() == Some(namespace) && &*key.name == name
            };
            let pods = mesh.workloads.iter_mut().filter(|one| refused("Pod", &one.namespace, &one.name));
            pods.for_each(|one| one.unsupported = Some(why.clone()));
            let services =
                mesh.services.iter_mut().filter(|one| refused("Service", &one.name.namespace, &one.short_name));
            services.for_each(|one| one.unsupported = Some(why.clone()));
        }
        policy::cover(&self.settings, &policies, &objects.pods, &mut mesh.workloads);
        Delta {
            workloads: changes(&mut self.workloads, mesh.workloads, |one| one.uid.clone()),
            services: changes(&mut self.services, mesh.services, |one| one.name.clone()),
            policies: changes(&mut self.policies, mesh.policies, |one| one.name.clone()),
        }
    }
}

/// What of `now` is not as `before`, which becomes it.
fn changes<K: Clone + Ord + std::hash::Hash, V: Clone + PartialEq>(
    before: &mut HashMap<K, V>,
    now: Vec<V>,
    key: impl Fn(&V) -> K,
) -> Vec<(K, Option<V>)> {
    let now: HashMap<K, V> = now.into_iter().map(|one| (key(&one), one)).collect();
    let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| (key.clone(), None));
    let set =
        now.iter().filter(|(key, one)| before.get(key) != Some(one)).map(|(key, one)| (key.clone(), Some(one.clone())));
    let mut changes: Vec<_> = gone.chain(set).collect();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    *before = now;
    changes
}
