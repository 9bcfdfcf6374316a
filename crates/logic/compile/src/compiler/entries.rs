//! ServiceEntries, found by what others say of them, and what the mesh says of their hosts and endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use weir_manifest::{ConfigKind, ConfigObject, Labels, ObjectKey, ServiceEntrySpec, WaypointLabels};
use weir_model::{Hostname, Membership, Namespace, Service, ServiceName, WaypointAddress, Workload, WorkloadUid};

use super::{
    Compiler, Marked,
    index::{Index, Map, Space},
};
use crate::{
    Settings,
    gateway::Around,
    labels::Selectors,
    service,
    service_entry::{self, Allotted},
    trimmed::{Key, Pod},
};

/// An endpoint of an entry: its address, and how many before it have the same.
pub(super) type Spot = (Key, IpAddr, usize);

/// Who declares a host. Of those of a namespace the first counts: the oldest, and one whose age is not known before all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    namespace: Namespace,
    created: Option<Arc<str>>,
    name: Arc<str>,
}

/// All ServiceEntries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    all: BTreeMap<Key, Arc<ConfigObject>>,
    hosts: BTreeMap<Hostname, BTreeSet<Claim>>,
    /// Those with a selector, by their namespace.
    selecting: Map<Namespace, Selectors<Arc<str>>>,
    at: Map<IpAddr, BTreeSet<(Key, usize)>>,
    /// Those whose hosts have an address, or were given it by a control plane.
    addressed: Map<IpAddr, BTreeSet<Key>>,
    /// What hosts without addresses were given when it was last asked.
    given: Allotted,
}

impl Entries {
    /// Whether nothing is held at all.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Self { all, hosts, selecting, at, addressed, given } = self;
        let found = hosts.is_empty() && selecting.is_empty() && at.is_empty() && addressed.is_empty();
        all.is_empty() && found && given.is_empty()
    }

    fn get(&self, key: &Key) -> Option<(&Arc<ConfigObject>, &ServiceEntrySpec)> {
        let object = self.all.get(key)?;
        Some((object, service_entry::spec(object)?))
    }

    fn specs(&self) -> impl Iterator<Item = (&Key, &Arc<ConfigObject>, &ServiceEntrySpec)> {
        self.all.iter().filter_map(|(key, object)| Some((key, object, service_entry::spec(object)?)))
    }

    fn replace(&mut self, key: &Key, now: Option<Arc<ConfigObject>>) {
        if let Some(before) = self.all.remove(key) {
            self.unlink(key, &before);
        }
        let Some(object) = now else { return };
        if let Some(spec) = service_entry::spec(&object) {
            for host in &spec.hosts {
                self.hosts.entry(host.clone()).or_default().insert(claim(key, &object));
            }
            if let Some(selector) = &spec.selector {
                self.selecting.entry(key.namespace.clone()).or_default().insert(selector, &key.name);
            }
            for (ip, before) in service_entry::spots(spec) {
                self.at.entry(ip).or_default().insert((key.clone(), before));
            }
            for ip in service_entry::named_addresses(spec) {
                self.addressed.entry(ip).or_default().insert(key.clone());
            }
        }
        self.all.insert(key.clone(), object);
    }

    fn unlink(&mut self, key: &Key, object: &ConfigObject) {
        let Some(spec) = service_entry::spec(object) else { return };
        for host in &spec.hosts {
            if let Some(claims) = self.hosts.get_mut(host) {
                claims.remove(&claim(key, object));
                if claims.is_empty() {
                    self.hosts.remove(host);
                }
            }
        }
        if let Some(selector) = &spec.selector
            && let Some(selectors) = self.selecting.get_mut(&key.namespace)
        {
            selectors.remove(selector, &key.name);
            if selectors.is_empty() {
                self.selecting.remove(&key.namespace);
            }
        }
        for (ip, before) in service_entry::spots(spec) {
            if let Some(spots) = self.at.get_mut(&ip) {
                spots.remove(&(key.clone(), before));
                if spots.is_empty() {
                    self.at.remove(&ip);
                }
            }
        }
        for ip in service_entry::named_addresses(spec) {
            if let Some(entries) = self.addressed.get_mut(&ip) {
                entries.remove(key);
                if entries.is_empty() {
                    self.addressed.remove(&ip);
                }
            }
        }
    }

    /// The entry that counts of those that declare a host in a namespace.
    fn counting(&self, name: &ServiceName) -> Option<Key> {
        let claim = self.hosts.get(&name.hostname)?.iter().find(|claim| claim.namespace == name.namespace)?;
        Some(Key { namespace: claim.namespace.clone(), name: claim.name.clone() })
    }

    /// The entries that declare one of the hosts.
    fn declaring<'e>(&'e self, hosts: impl IntoIterator<Item = &'e Hostname>) -> BTreeSet<Key> {
        let claims = hosts.into_iter().filter_map(|host| self.hosts.get(host)).flatten();
        claims.map(|claim| Key { namespace: claim.namespace.clone(), name: claim.name.clone() }).collect()
    }
}

fn claim(key: &Key, object: &ConfigObject) -> Claim {
    Claim { namespace: key.namespace.clone(), created: object.created.clone(), name: key.name.clone() }
}

fn name(key: &Key, host: &Hostname) -> ServiceName {
    ServiceName { namespace: key.namespace.clone(), hostname: host.clone() }
}

impl Index {
    /// Whether a host of an entry is a service of the mesh: no Kubernetes service has the name, and no other entry counts.
    fn is_service(&self, settings: &Settings, key: &Key, spec: &ServiceEntrySpec, host: &Hostname) -> bool {
        let shadowed = service_entry::kubernetes(settings, host).is_some_and(|key| self.service_object(&key).is_some());
        let counts = self.entries.counting(&name(key, host)).as_ref() == Some(key);
        counts && !shadowed && service_entry::is_service(spec, self.entry_waypoint(settings, key, spec).as_ref())
    }

    /// The waypoint that the hosts of an entry are reached through.
    fn entry_waypoint(&self, settings: &Settings, key: &Key, spec: &ServiceEntrySpec) -> Option<WaypointAddress> {
        let (waypoint, labels) = (WaypointLabels::default(), Labels::new());
        let silent = Around { waypoint: &waypoint, labels: &labels };
        let space = self.space(&key.namespace).map_or(silent, Space::around);
        self.gateways.of_entry(&spec.waypoint, space, &key.namespace)?.address(settings)
    }

    /// What hosts without addresses are given: the older entry chooses first.
    pub(super) fn allot(&self, settings: &Settings) -> Allotted {
        let mut hosts = Vec::new();
        for (key, object, spec) in self.entries.specs() {
            for host in &spec.hosts {
                if service_entry::is_without(object, spec, host) && self.is_service(settings, key, spec, host) {
                    hosts.push((&object.created, name(key, host)));
                }
            }
        }
        hosts.sort();
        let hosts: Vec<ServiceName> = hosts.into_iter().map(|(_, name)| name).collect();
        service_entry::allot(&hosts, self.entries.specs().map(|(_, _, spec)| spec))
    }

    /// The service that a ServiceEntry makes of a name.
    pub(super) fn entry_service(&self, settings: &Settings, name: &ServiceName) -> Option<Service> {
        self.entry_service_with(settings, name, &self.entries.given)
    }

    fn entry_service_with(&self, settings: &Settings, name: &ServiceName, given: &Allotted) -> Option<Service> {
        let key = self.entries.counting(name)?;
        let (_, spec) = self.entries.get(&key)?;
        let is = self.is_service(settings, &key, spec, &name.hostname);
        let mut service =
            service_entry::service(settings, spec, name, given, self.entry_waypoint(settings, &key, spec));
        service.vips.retain(|(_, vip)| !service_entry::is_exact(vip) || !self.is_owned(vip.addr()));
        is.then_some(service)
    }

    /// Whether an address is a Kubernetes service's or a pod's, which no entry takes from it.
    fn is_owned(&self, ip: IpAddr) -> bool {
        self.vips.contains_key(&ip) || self.at(ip).is_some_and(|at| !at.pods.is_empty())
    }

    /// The services of an entry, with the ports that lead to one of its endpoints.
    fn entry_memberships(&self, settings: &Settings, key: &Key, spot: Option<(IpAddr, usize)>) -> Vec<Membership> {
        let mut services = Vec::new();
        let Some((_, spec)) = self.entries.get(key) else { return services };
        let endpoint = spot.and_then(|(ip, before)| service_entry::endpoint(spec, ip, before));
        let ports = service_entry::ports(spec, endpoint);
        for host in &spec.hosts {
            if self.is_service(settings, key, spec, host) {
                service::join(&mut services, name(key, host), &ports);
            }
        }
        services
    }

    /// Puts a pod behind the entries that select it, or have an endpoint at one of its addresses.
    pub(super) fn join_entries(&self, settings: &Settings, key: &Key, pod: &Pod, services: &mut Vec<Membership>) {
        let mut joined = Vec::new();
        if let Some(selecting) = self.entries.selecting.get(&key.namespace) {
            let selecting: BTreeSet<&Arc<str>> = selecting.candidates(&pod.traits.labels).collect();
            for entry in selecting {
                let entry = Key { namespace: key.namespace.clone(), name: entry.clone() };
                let selector = self.entries.get(&entry).and_then(|(_, spec)| spec.selector.as_ref());
                if selector.is_some_and(|selector| pod.traits.labels.matches(selector)) {
                    joined.extend(self.entry_memberships(settings, &entry, None));
                }
            }
        }
        if !self.entries.at.is_empty() {
            let mut spots: Vec<Spot> = pod.owned(settings).iter().flat_map(|ip| self.spots_at(*ip)).collect();
            // Where two of an entry say something else of one port, the first that is written counts.
            let place = |(entry, ip, before): &Spot| service_entry::place(self.entries.get(entry)?.1, *ip, *before);
            spots.sort_by_cached_key(|spot| (spot.0.clone(), place(spot)));
            for (entry, ip, before) in spots {
                if self.pod_of(settings, &entry, (ip, before)).as_ref() == Some(key) {
                    joined.extend(self.entry_memberships(settings, &entry, Some((ip, before))));
                }
            }
        }
        for Membership { service, ports } in joined {
            service::join(services, service, &ports);
        }
    }

    /// The pod that an endpoint of an entry is, by its address.
    fn pod_of(&self, settings: &Settings, entry: &Key, (ip, before): (IpAddr, usize)) -> Option<Key> {
        let endpoint = service_entry::endpoint(self.entries.get(entry)?.1, ip, before)?;
        let pod = self.at(ip)?.pods.first()?;
        service_entry::is_here(settings, endpoint).then(|| pod.clone())
    }

    /// The workload that an endpoint of an entry is, unless it is a pod or stands behind nothing.
    pub(super) fn entry_workload(&self, settings: &Settings, spot: &Spot) -> Option<Workload> {
        let (key, ip, before) = spot;
        let (_, spec) = self.entries.get(key)?;
        let services = self.entry_memberships(settings, key, Some((*ip, *before)));
        if services.is_empty() || self.pod_of(settings, key, (*ip, *before)).is_some() {
            return None;
        }
        service_entry::of_endpoint(settings, key, spec, (*ip, *before), services)
    }

    /// All services and workloads that entries make.
    pub(super) fn of_entries(&self, settings: &Settings) -> (Vec<Service>, Vec<Workload>) {
        let given = self.allot(settings);
        let (mut services, mut workloads) = (Vec::new(), Vec::new());
        for (key, _, spec) in self.entries.specs() {
            for host in &spec.hosts {
                if self.is_service(settings, key, spec, host) {
                    services.extend(self.entry_service_with(settings, &name(key, host), &given));
                }
            }
            let spots = service_entry::spots(spec).into_iter();
            workloads
                .extend(spots.filter_map(|(ip, before)| self.entry_workload(settings, &(key.clone(), ip, before))));
        }
        (services, workloads)
    }

    /// The labels of the endpoints of entries, whether they are workloads of their own or not.
    pub(super) fn entry_labels(&self, settings: &Settings) -> impl Iterator<Item = (WorkloadUid, Labels)> {
        self.entries.specs().flat_map(|(key, _, spec)| {
            service_entry::spots(spec).into_iter().filter_map(|(ip, before)| {
                let labels = &service_entry::endpoint(spec, ip, before)?.labels;
                Some((service_entry::endpoint_uid(settings, key, ip, before), labels.clone()))
            })
        })
    }

    /// The endpoints of entries that have an address.
    pub(super) fn spots_at(&self, ip: IpAddr) -> impl Iterator<Item = Spot> {
        let spots = self.entries.at.get(&ip).into_iter().flatten();
        spots.map(move |(key, before)| (key.clone(), ip, *before))
    }

    /// The entries that may be something else when a Kubernetes service comes or goes.
    pub(super) fn shadowed(&self, service: &ServiceName) -> BTreeSet<Key> {
        self.entries.declaring([&service.hostname])
    }

    /// The entries whose hosts have an address.
    pub(super) fn entries_addressed(&self, ip: IpAddr) -> BTreeSet<Key> {
        self.entries.addressed.get(&ip).cloned().unwrap_or_default()
    }

    /// The entries that are bound to a Gateway, or would be.
    pub(super) fn entries_naming(&self, gateway: &Key) -> BTreeSet<Key> {
        let silent = WaypointLabels::default();
        let names = |(key, _, spec): &(&Key, &Arc<ConfigObject>, &ServiceEntrySpec)| {
            let space = self.space(&key.namespace).map_or(&silent, |space| &space.waypoint);
            gateway.names(space, &spec.waypoint, key)
        };
        self.entries.specs().filter(names).map(|(key, ..)| key.clone()).collect()
    }

    /// The entries of a namespace.
    pub(super) fn entries_of(&self, namespace: &Namespace) -> BTreeSet<Key> {
        let first = Key { namespace: namespace.clone(), name: "".into() };
        self.entries
            .all
            .range(first..)
            .map(|(key, _)| key)
            .take_while(|key| key.namespace == *namespace)
            .cloned()
            .collect()
    }
}

impl Compiler {
    /// An object that shapes requests is there, or is so now.
    pub(super) fn set_config(&mut self, object: ConfigObject) {
        let (kind, namespace, name) = (object.kind.name().into(), Some(object.namespace.clone()), object.name.clone());
        let key = ObjectKey { kind, namespace, name };
        self.configs.set(object);
        self.renew_entry(&key);
    }

    /// An object that shapes requests may be something else now, or gone: if it is a ServiceEntry, it is not for waypoints alone.
    pub(super) fn renew_entry(&mut self, object: &ObjectKey) {
        if let Some(namespace) = &object.namespace
            && *object.kind == *ConfigKind::ServiceEntry.name()
        {
            let now = self.configs.legal(object).cloned();
            let key = self.key(namespace, &object.name);
            self.replace_entry(&key, now);
        }
    }

    /// A ServiceEntry is there, is something else now, or is gone.
    pub(super) fn replace_entry(&mut self, key: &Key, now: Option<Arc<ConfigObject>>) {
        if self.index.entries.all.get(key) == now.as_ref() {
            return;
        }
        let rivals = |index: &Index| match index.entries.get(key) {
            Some((_, spec)) => index.entries.declaring(&spec.hosts),
            None => BTreeSet::new(),
        };
        let before = rivals(&self.index);
        self.mark_entries(&before);
        self.index.entries.replace(key, now);
        let after = rivals(&self.index);
        self.mark_entries(&after);
        self.mark_entries(&before);
    }

    /// Marks everything that entries have a say in: their hosts, their endpoints, the pods behind them.
    pub(super) fn mark_entries(&mut self, entries: &BTreeSet<Key>) {
        let Self { index, marked, .. } = self;
        for key in entries {
            let Some((_, spec)) = index.entries.get(key) else { continue };
            marked.hosts.extend(spec.hosts.iter().map(|host| name(key, host)));
            for (ip, before) in service_entry::spots(spec) {
                marked.spots.insert((key.clone(), ip, before));
                marked.pods.extend(index.at(ip).into_iter().flat_map(|at| at.pods.iter().cloned()));
            }
            if let Some(selector) = &spec.selector
                && let Some(space) = index.space(&key.namespace)
            {
                let pods = space.labelled.candidates(selector).cloned();
                marked.pods.extend(pods.map(|name| Key { namespace: key.namespace.clone(), name }));
            }
        }
    }

    /// Gives addresses anew, and takes out what is marked of ServiceEntries: names of services, each with what it is now, and endpoints. Names that
    /// Kubernetes services have are left to them.
    pub(super) fn take_entries(&mut self, marked: &mut Marked) -> BTreeMap<ServiceName, Option<Service>> {
        if marked.hosts.is_empty() {
            return BTreeMap::new();
        }
        let now = self.index.allot(&self.settings);
        let moved = now.iter().filter(|(name, ips)| self.index.entries.given.get(name) != Some(ips));
        marked.hosts.extend(moved.map(|(name, _)| name.clone()));
        self.index.entries.given = now;
        let mut services = BTreeMap::new();
        for name in std::mem::take(&mut marked.hosts) {
            let kubernetes = service_entry::kubernetes(&self.settings, &name.hostname)
                .filter(|key| key.namespace == name.namespace && self.index.service_object(key).is_some());
            match kubernetes {
                Some(key) => drop(marked.services.insert(key)),
                None => drop(services.insert(name.clone(), self.index.entry_service(&self.settings, &name))),
            }
        }
        services
    }
}
