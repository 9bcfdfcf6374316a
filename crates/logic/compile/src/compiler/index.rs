//! Objects, found by everything others say of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;
use weir_manifest::{DataplaneMode, Labels, NamespaceObject, ServiceObject, WaypointLabels};
use weir_model::{Locality, Namespace, NodeName, PolicyName};

use super::{entries::Entries, policies::Level};
use crate::{
    Settings,
    gateway::{Around, Gateways},
    labels::{Labelled, Selectors},
    policy::{Declared, Rank},
    service,
    trimmed::{Endpoint, Key, Pod, Slice},
};

pub(super) type Map<K, V> = HashMap<K, V, RandomState>;

/// An endpoint: its slice, and its place in it.
pub(super) type Place = (Key, usize);

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) spaces: Map<Namespace, Space>,
    pub(super) nodes: Map<NodeName, Node>,
    pub(super) gateways: Gateways,
    pub(super) at: Map<IpAddr, At>,
    /// Policies, by the names of their objects.
    pub(super) policies: BTreeMap<PolicyName, Declared>,
    /// Those with targetRefs.
    pub(super) attached: BTreeSet<PolicyName>,
    /// Those with a selector, by the namespace whose pods they select, or none for all.
    pub(super) covering: Map<Option<Namespace>, Selectors<PolicyName>>,
    /// Those that say who must prove who they are, the first that which counts.
    pub(super) levels: Map<Level, BTreeSet<Rank>>,
    pub(super) entries: Entries,
    /// The addresses of Kubernetes services, each with how often it is one.
    pub(super) vips: Map<IpAddr, usize>,
}

/// A namespace.
#[derive(Debug, Default)]
pub(super) struct Space {
    pub(super) mode: Option<DataplaneMode>,
    pub(super) waypoint: WaypointLabels,
    pub(super) labels: Labels,
    pub(super) pods: Map<Arc<str>, Pod>,
    pub(super) labelled: Labelled,
    pub(super) services: Map<Arc<str>, Arc<ServiceObject>>,
    pub(super) selecting: Selectors<Arc<str>>,
    pub(super) slices: Map<Arc<str>, Arc<Slice>>,
    /// Slices by their service.
    pub(super) slices_of: Map<Arc<str>, BTreeSet<Arc<str>>>,
    /// Endpoints by the pod of this namespace that they name.
    pub(super) named: Map<Arc<str>, Vec<Place>>,
}

/// A node, declared or only named.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) locality: Option<Locality>,
    pub(super) pods: BTreeSet<Key>,
}

/// An address of the default network.
#[derive(Debug, Default)]
pub(super) struct At {
    /// The pods that have it to themselves: one, and it counts. Of several that say so the first counts.
    pub(super) pods: BTreeSet<Key>,
    /// The endpoints that name no pod and have it as their first address.
    pub(super) endpoints: Vec<Place>,
}

impl Space {
    /// What it says about what is in it.
    pub(super) fn around(&self) -> Around<'_> {
        Around { waypoint: &self.waypoint, labels: &self.labels }
    }

    fn is_empty(&self) -> bool {
        let Self { mode, waypoint, labels, pods, labelled: _, services, selecting: _, slices, slices_of: _, named } =
            self;
        let silent = mode.is_none() && *waypoint == WaypointLabels::default() && labels.is_empty();
        silent && pods.is_empty() && services.is_empty() && slices.is_empty() && named.is_empty()
    }
}

impl Index {
    /// All pods, in no order.
    pub(super) fn pods(&self) -> impl Iterator<Item = (Key, &Pod)> {
        self.spaces.iter().flat_map(|(namespace, space)| {
            let key = |name: &Arc<str>| Key { namespace: namespace.clone(), name: name.clone() };
            space.pods.iter().map(move |(name, pod)| (key(name), pod))
        })
    }

    /// Whether nothing is held of objects that are gone.
    #[cfg(test)]
    pub(super) fn is_tidy(&self) -> bool {
        let selecting = |service: &&Arc<ServiceObject>| !service.selector.is_empty();
        let tidy = |space: &Space| {
            let places = space.slices.values().flat_map(|slice| &slice.service);
            space.labelled.len() == space.pods.values().map(|pod| pod.traits.labels.len()).sum::<usize>()
                && space.selecting.len() == space.services.values().filter(selecting).count()
                && space.slices_of.values().map(BTreeSet::len).sum::<usize>() == places.count()
        };
        let endpoints = self.spaces.values().flat_map(|space| space.slices.values()).flat_map(|one| &one.endpoints);
        let named = self.spaces.values().flat_map(|space| space.named.values()).map(Vec::len).sum::<usize>();
        let covering = self.policies.values().filter(|declared| declared.selector.is_some());
        let modes = self.policies.values().filter(|declared| declared.modes().is_some());
        self.spaces.values().all(|space| !space.is_empty() && tidy(space))
            && named + self.at.values().map(|at| at.endpoints.len()).sum::<usize>() == endpoints.count()
            && self.nodes.values().all(|node| node.locality.is_some() || !node.pods.is_empty())
            && self.attached.len() == self.policies.values().filter(|declared| declared.attached.is_some()).count()
            && self.covering.values().map(Selectors::len).sum::<usize>() == covering.count()
            && self.levels.values().map(BTreeSet::len).sum::<usize>() == modes.count()
    }

    /// Whether nothing is held at all.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Self { spaces, nodes, gateways, at, policies, attached, covering, levels, entries, vips } = self;
        let objects = spaces.is_empty() && nodes.is_empty() && gateways.is_empty() && at.is_empty();
        let policies = policies.is_empty() && attached.is_empty() && covering.is_empty() && levels.is_empty();
        objects && policies && entries.is_empty() && vips.is_empty()
    }

    pub(super) fn space(&self, name: &Namespace) -> Option<&Space> {
        self.spaces.get(name)
    }

    fn space_mut(&mut self, name: &Namespace) -> &mut Space {
        self.spaces.entry(name.clone()).or_default()
    }

    fn forget_empty_space(&mut self, name: &Namespace) {
        if self.space(name).is_some_and(Space::is_empty) {
            self.spaces.remove(name);
        }
    }

    /// The name as it is held, so that its text is.
    pub(super) fn known_namespace(&self, name: &Namespace) -> Namespace {
        self.spaces.get_key_value(name).map_or(name, |(known, _)| known).clone()
    }

    /// The name as it is held, so that its text is.
    pub(super) fn known_node(&self, name: NodeName) -> NodeName {
        self.nodes.get_key_value(&name).map(|(known, _)| known.clone()).unwrap_or(name)
    }

    pub(super) fn pod(&self, key: &Key) -> Option<&Pod> {
        self.space(&key.namespace)?.pods.get(&key.name)
    }

    pub(super) fn service_object(&self, key: &Key) -> Option<&Arc<ServiceObject>> {
        self.space(&key.namespace)?.services.get(&key.name)
    }

    pub(super) fn slice(&self, key: &Key) -> Option<&Arc<Slice>> {
        self.space(&key.namespace)?.slices.get(&key.name)
    }

    pub(super) fn at(&self, ip: IpAddr) -> Option<&At> {
        self.at.get(&ip)
    }

    pub(super) fn is_sliced(&self, service: &Key) -> bool {
        self.space(&service.namespace).is_some_and(|space| space.slices_of.contains_key(&service.name))
    }

    /// The slices of a service, with their names.
    pub(super) fn slices_of(&self, service: &Key) -> Vec<(Key, Arc<Slice>)> {
        let Some(space) = self.space(&service.namespace) else { return Vec::new() };
        let names = space.slices_of.get(&service.name).into_iter().flatten();
        let slice = |name: &Arc<str>| {
            Some((Key { namespace: service.namespace.clone(), name: name.clone() }, space.slices.get(name)?.clone()))
        };
        names.filter_map(slice).collect()
    }

    /// The pods that a service's selector selects.
    pub(super) fn selected(&self, service: &Key) -> Vec<Key> {
        let Some(space) = self.space(&service.namespace) else { return Vec::new() };
        let Some(object) = space.services.get(&service.name) else { return Vec::new() };
        let selects =
            |name: &&Arc<str>| space.pods.get(*name).is_some_and(|pod| pod.traits.labels.matches(&object.selector));
        let key = |name: &Arc<str>| Key { namespace: service.namespace.clone(), name: name.clone() };
        space.labelled.candidates(&object.selector).filter(selects).map(key).collect()
    }

    /// Sets or forgets what a namespace says of what is in it; its pods and its services, as far as that is something else for them now.
    pub(super) fn replace_namespace(
        &mut self,
        name: &Namespace,
        now: Option<&NamespaceObject>,
    ) -> (Vec<Key>, Vec<Key>) {
        let (mode, waypoint) = now.map(|now| (now.mode, now.waypoint.clone())).unwrap_or_default();
        let labels = now.map(|now| now.labels.clone()).unwrap_or_default();
        let space = self.space_mut(name);
        let bound = space.waypoint != waypoint || space.labels != labels;
        let changed = space.mode != mode || bound;
        (space.mode, space.waypoint, space.labels) = (mode, waypoint, labels);
        let key = |object: &Arc<str>| Key { namespace: name.clone(), name: object.clone() };
        let pods = if changed { space.pods.keys().map(key).collect() } else { Vec::new() };
        let services = if bound { space.services.keys().map(key).collect() } else { Vec::new() };
        self.forget_empty_space(name);
        (pods, services)
    }

    /// Sets or forgets where a node is, and names its pods if that is somewhere else now.
    pub(super) fn replace_node(&mut self, name: &NodeName, locality: Option<Locality>) -> Vec<Key> {
        let node = self.nodes.entry(name.clone()).or_default();
        let changed = node.locality != locality;
        node.locality = locality;
        let pods = if changed { node.pods.iter().cloned().collect() } else { Vec::new() };
        self.forget_empty_node(name);
        pods
    }

    fn forget_empty_node(&mut self, name: &NodeName) {
        if self.nodes.get(name).is_some_and(|node| node.locality.is_none() && node.pods.is_empty()) {
            self.nodes.remove(name);
        }
    }

    pub(super) fn replace_pod(&mut self, settings: &Settings, key: &Key, now: Option<Pod>) {
        if let Some(before) = self.space_mut(&key.namespace).pods.remove(&key.name) {
            self.space_mut(&key.namespace).labelled.remove(&before.traits.labels, &key.name);
            for ip in before.owned(settings) {
                self.change_at(*ip, |at| {
                    at.pods.remove(key);
                });
            }
            if let Some(name) = &before.node
                && let Some(node) = self.nodes.get_mut(name)
            {
                node.pods.remove(key);
                self.forget_empty_node(name);
            }
        }
        if let Some(pod) = now {
            for ip in pod.owned(settings) {
                self.change_at(*ip, |at| {
                    at.pods.insert(key.clone());
                });
            }
            if let Some(node) = &pod.node {
                self.nodes.entry(node.clone()).or_default().pods.insert(key.clone());
            }
            let space = self.space_mut(&key.namespace);
            space.labelled.insert(&pod.traits.labels, &key.name);
            space.pods.insert(key.name.clone(), pod);
        }
        self.forget_empty_space(&key.namespace);
    }

    fn change_at(&mut self, ip: IpAddr, change: impl FnOnce(&mut At)) {
        let at = self.at.entry(ip).or_default();
        change(at);
        if at.pods.is_empty() && at.endpoints.is_empty() {
            self.at.remove(&ip);
        }
    }

    pub(super) fn replace_service(&mut self, key: &Key, now: Option<Arc<ServiceObject>>) {
        let space = self.space_mut(&key.namespace);
        if let Some(before) = space.services.remove(&key.name) {
            space.selecting.remove(&before.selector, &key.name);
            for ip in service::addresses(&before) {
                if let Some(times) = self.vips.get_mut(&ip) {
                    *times -= 1;
                    if *times == 0 {
                        self.vips.remove(&ip);
                    }
                }
            }
        }
        if let Some(service) = now {
            for ip in service::addresses(&service) {
                *self.vips.entry(ip).or_default() += 1;
            }
            let space = self.space_mut(&key.namespace);
            space.selecting.insert(&service.selector, &key.name);
            space.services.insert(key.name.clone(), service);
        }
        self.forget_empty_space(&key.namespace);
    }

    pub(super) fn replace_slice(&mut self, key: &Key, now: Option<Arc<Slice>>) {
        let space = self.space_mut(&key.namespace);
        if let Some(before) = space.slices.remove(&key.name) {
            if let Some(service) = &before.service
                && let Some(slices) = space.slices_of.get_mut(service)
            {
                slices.remove(&key.name);
                if slices.is_empty() {
                    space.slices_of.remove(service);
                }
            }
            for endpoint in &before.endpoints {
                self.change_places(endpoint, |places| places.retain(|(slice, _)| slice != key));
            }
        }
        if let Some(slice) = now {
            for (i, endpoint) in slice.endpoints.iter().enumerate() {
                self.change_places(endpoint, |places| {
                    places.reserve_exact(1);
                    places.push((key.clone(), i));
                });
            }
            let space = self.space_mut(&key.namespace);
            if let Some(service) = &slice.service {
                space.slices_of.entry(service.clone()).or_default().insert(key.name.clone());
            }
            space.slices.insert(key.name.clone(), slice);
        }
        self.forget_empty_space(&key.namespace);
    }

    /// Changes the places of endpoints that name the same pod, or none and have the same address.
    fn change_places(&mut self, endpoint: &Endpoint, change: impl FnOnce(&mut Vec<Place>)) {
        match (&endpoint.pod, endpoint.addresses.first()) {
            (Some(pod), _) => {
                let space = self.space_mut(&pod.namespace);
                let places = space.named.entry(pod.name.clone()).or_default();
                change(places);
                if places.is_empty() {
                    space.named.remove(&pod.name);
                }
                self.forget_empty_space(&pod.namespace);
            }
            (None, Some(ip)) => self.change_at(*ip, |at| change(&mut at.endpoints)),
            (None, None) => {}
        }
    }
}
