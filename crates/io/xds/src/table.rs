//! All resources of a kind, and the order they changed in. Plain data: no lock, no clock.
//!
//! Each name stands once in the log, at its last change, so that the log is as long as the mesh and no longer. What was
//! removed stays in it as a tombstone until [`MAX_TOMBSTONES`] more were; who has not read it by then has to begin again.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use ipnet::IpNet;
use weir_model::{Network, NodeName};

use crate::kind::{Sum, Version};

/// Removals that are remembered.
pub(crate) const MAX_TOMBSTONES: usize = 1 << 16;

/// A resource as it is sent to every subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// How it is called.
    pub(crate) name: Arc<str>,
    /// A whole `Resource` message.
    pub(crate) bytes: Bytes,
    /// What it says, as a number.
    pub(crate) version: Version,
    /// By what else it is found.
    pub(crate) facts: Facts,
}

/// By what else than its name a resource is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its addresses, or ranges of them.
    pub(crate) addresses: Box<[(Network, IpNet)]>,
    /// The names of the services it stands behind.
    pub(crate) services: Box<[Arc<str>]>,
    /// The node it runs on.
    pub(crate) node: Option<NodeName>,
}

/// A place in the table: a resource, or where one was.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: Arc<str>,
    pub(crate) resource: Option<Encoded>,
    changed: u64,
}

/// What is asked for, as it is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    /// A name as it was sent.
    pub(crate) name: Arc<str>,
    /// The address, if it can be read as `network/ip`.
    pub(crate) address: Option<(Network, IpAddr)>,
}

impl Asked {
    /// Reads a name as it was sent.
    pub(crate) fn new(name: &str) -> Self {
        let address = name.rsplit_once('/').and_then(|(network, ip)| {
            let ip: IpAddr = ip.parse().ok()?;
            Some((network.parse().ok()?, ip.to_canonical()))
        });
        Self { name: name.into(), address }
    }
}

/// The resources of one kind.
#[derive(Debug)]
pub(crate) struct Table {
    /// Removals that are remembered.
    remembered: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, u32>,
    log: BTreeMap<u64, u32>,
    /// Removals in their order; one whose slot changed since is none any more.
    tombstones: VecDeque<(u64, u32)>,
    /// The last change.
    now: u64,
    /// The last removal that is forgotten.
    forgotten: u64,
    live: usize,
    sum: Sum,
    /// The networks there ever were: few, and told apart by their texts.
    networks: HashSet<Network>,
    /// Addresses that are one address.
    by_address: HashMap<(Network, IpAddr), Slots>,
    /// Those that are ranges.
    ranges: HashMap<u32, Box<[(Network, IpNet)]>>,
    members: HashMap<Arc<str>, Slots>,
    by_node: HashMap<NodeName, Slots>,
}

/// Slots that share something, in order: mostly one.
#[derive(Debug)]
enum Slots {
    One(u32),
    Many(Vec<u32>),
}

impl Slots {
    fn insert(&mut self, slot: u32) {
        match self {
            Self::One(one) if *one == slot => {}
            Self::One(one) => *self = Self::Many(vec![slot.min(*one), slot.max(*one)]),
            Self::Many(many) => {
                if let Err(at) = many.binary_search(&slot) {
                    many.insert(at, slot);
                }
            }
        }
    }

    /// Whether none is left.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::One(one) => *one == slot,
            Self::Many(many) => {
                if let Ok(at) = many.binary_search(&slot) {
                    many.remove(at);
                }
                many.is_empty()
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
        .iter()
        .copied()
    }
}

/// Files a slot under a key, which from then on is the one that all who share it have.
fn enter<K: std::hash::Hash + Eq + Clone>(map: &mut HashMap<K, Slots>, key: &mut K, slot: u32) {
    if let Some((shared, _)) = map.get_key_value(key) {
        *key = shared.clone();
    }
    map.entry(key.clone()).and_modify(|slots| slots.insert(slot)).or_insert(Slots::One(slot));
}

fn leave<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Slots>, key: &K, slot: u32) {
    if map.get_mut(key).is_some_and(|slots| slots.remove(slot)) {
        map.remove(key);
    }
}

fn place(slot: u32) -> usize {
    usize::try_from(slot).expect("a slot is an index of a vector")
}

fn whole(range: &IpNet) -> bool {
    range.prefix_len() == range.max_prefix_len()
}

impl Default for Table {
    fn default() -> Self {
        Self::remembering(MAX_TOMBSTONES)
    }
}

impl Table {
    /// An empty table that remembers so many removals.
    pub(crate) fn remembering(remembered: usize) -> Self {
        Self {
            remembered,
            slots: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::default(),
            log: BTreeMap::new(),
            tombstones: VecDeque::new(),
            now: 0,
            forgotten: 0,
            live: 0,
            sum: Sum::default(),
            networks: HashSet::default(),
            by_address: HashMap::default(),
            ranges: HashMap::default(),
            members: HashMap::default(),
            by_node: HashMap::default(),
        }
    }

    /// Puts a resource in, or in the place of what it was. Whether anything changed.
    pub(crate) fn set(&mut self, mut resource: Encoded) -> bool {
        let slot = match self.by_name.get(&resource.name) {
            Some(slot) => *slot,
            None => self.vacancy(resource.name.clone()),
        };
        let old = self.slots[place(slot)].resource.take();
        if let Some(old) = old {
            if old.version == resource.version {
                self.slots[place(slot)].resource = Some(old);
                return false;
            }
            self.unlink(slot, &old);
        }
        resource.name = self.slots[place(slot)].name.clone();
        self.link(slot, &mut resource);
        self.slots[place(slot)].resource = Some(resource);
        self.touch(slot);
        true
    }

    /// Takes a resource out. Whether there was one.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let Some(&slot) = self.by_name.get(name) else { return false };
        let Some(old) = self.slots[place(slot)].resource.take() else { return false };
        self.unlink(slot, &old);
        self.touch(slot);
        self.tombstones.push_back((self.now, slot));
        while self.tombstones.len() > self.remembered {
            self.forget();
        }
        true
    }

    /// The number of the last change.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The number of the last removal that is not remembered.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many resources there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// All names and versions as one number.
    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    /// The resource of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Encoded> {
        self.by_name.get(name).and_then(|slot| self.slots[place(*slot)].resource.as_ref())
    }

    /// What changed after the change of that number, in order.
    pub(crate) fn since(&self, change: u64) -> impl Iterator<Item = (u64, &Slot)> {
        self.log.range(change.saturating_add(1)..).map(|(change, slot)| (*change, &self.slots[place(*slot)]))
    }

    /// The resources a name that was sent means: called so, or found at that address.
    pub(crate) fn named(&self, asked: &Asked) -> Vec<&Encoded> {
        let mut found: Vec<&Encoded> = self.get(&asked.name).into_iter().collect();
        let Some((network, ip)) = &asked.address else { return found };
        let at = self.by_address.get(&(network.clone(), *ip)).into_iter().flat_map(Slots::iter);
        let within = |(own, range): &(Network, IpNet)| own == network && range.contains(ip);
        let ranges = self.ranges.iter().filter(|(_, ranges)| ranges.iter().any(within)).map(|(slot, _)| *slot);
        for resource in at.chain(ranges).filter_map(|slot| self.slots[place(slot)].resource.as_ref()) {
            if !found.iter().any(|known| known.name == resource.name) {
                found.push(resource);
            }
        }
        found
    }

    /// The resources that stand behind a service, whether or not that is there.
    pub(crate) fn members(&self, service: &str) -> impl Iterator<Item = &Encoded> {
        self.of(self.members.get(service))
    }

    /// The resources of a node.
    pub(crate) fn of_node(&self, node: &NodeName) -> impl Iterator<Item = &Encoded> {
        self.of(self.by_node.get(node))
    }

    fn of<'t>(&'t self, slots: Option<&'t Slots>) -> impl Iterator<Item = &'t Encoded> {
        slots.into_iter().flat_map(Slots::iter).filter_map(|slot| self.slots[place(slot)].resource.as_ref())
    }

    /// A slot for a name that has none.
    fn vacancy(&mut self, name: Arc<str>) -> u32 {
        let new = Slot { name: name.clone(), resource: None, changed: 0 };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[place(slot)] = new;
                slot
            }
            None => {
                self.slots.push(new);
                u32::try_from(self.slots.len() - 1).expect("a mesh has fewer than 2^32 resources")
            }
        };
        self.by_name.insert(name, slot);
        slot
    }

    /// The slot changed now.
    fn touch(&mut self, slot: u32) {
        self.now += 1;
        let changed = &mut self.slots[place(slot)].changed;
        self.log.remove(changed);
        *changed = self.now;
        self.log.insert(self.now, slot);
    }

    /// Drops the oldest tombstone.
    fn forget(&mut self) {
        let Some((change, slot)) = self.tombstones.pop_front() else { return };
        let there = &self.slots[place(slot)];
        if there.changed == change && there.resource.is_none() {
            self.by_name.remove(&there.name);
            self.log.remove(&change);
            self.forgotten = change;
            self.free.push(slot);
        }
    }

    fn link(&mut self, slot: u32, resource: &mut Encoded) {
        self.live += 1;
        self.sum.add(&resource.name, resource.version);
        let facts = &mut resource.facts;
        for (network, range) in &mut facts.addresses {
            match self.networks.get(network) {
                Some(shared) => *network = shared.clone(),
                None => {
                    self.networks.insert(network.clone());
                }
            }
            if whole(range) {
                enter(&mut self.by_address, &mut (network.clone(), range.addr()), slot);
            }
        }
        if facts.addresses.iter().any(|(_, range)| !whole(range)) {
            let ranges = facts.addresses.iter().filter(|(_, range)| !whole(range)).cloned().collect();
            self.ranges.insert(slot, ranges);
        }
        for service in &mut facts.services {
            enter(&mut self.members, service, slot);
        }
        if let Some(node) = &mut facts.node {
            enter(&mut self.by_node, node, slot);
        }
    }

    fn unlink(&mut self, slot: u32, resource: &Encoded) {
        self.live -= 1;
        self.sum.take(&resource.name, resource.version);
        let facts = &resource.facts;
        for (network, range) in &facts.addresses {
            leave(&mut self.by_address, &(network.clone(), range.addr()), slot);
        }
        self.ranges.remove(&slot);
        for service in &facts.services {
            leave(&mut self.members, service, slot);
        }
        if let Some(node) = &facts.node {
            leave(&mut self.by_node, node, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::{encode_service, encode_workload},
        testing::{service, workload},
    };

    fn uid(name: &str) -> String {
        format!("Kubernetes//v1/Pod/default/{name}")
    }

    fn log(table: &Table, since: u64) -> Vec<(String, bool)> {
        let short = |slot: &Slot| slot.name.rsplit('/').next().unwrap().to_owned();
        table.since(since).map(|(_, slot)| (short(slot), slot.resource.is_some())).collect()
    }

    #[test]
    fn each_name_is_in_the_log_once_at_its_last_change() {
        let mut table = Table::default();
        for name in ["a", "b", "a", "c"] {
            table.set(encode_workload(&workload(name, &["10.0.0.1"], &[])));
        }
        assert_eq!((table.now(), table.len()), (3, 3), "what is said again as it was is no change");
        table.set(encode_workload(&workload("a", &["10.0.0.2"], &[])));
        assert!(table.remove(&uid("b")) && !table.remove(&uid("b")) && !table.remove("never"));
        let (a, b, c) = (("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), true));
        assert_eq!(log(&table, 0), [c, a.clone(), b.clone()]);
        assert_eq!(log(&table, 3), [a, b]);
        assert_eq!(log(&table, table.now()), []);
    }

    #[test]
    fn removals_are_forgotten_oldest_first_and_those_that_came_back_are_none() {
        let mut table = Table::remembering(2);
        for name in ["a", "b", "c", "d"] {
            table.set(encode_workload(&workload(name, &["10.0.0.1"], &[])));
        }
        for name in ["a", "b"] {
            table.remove(&uid(name));
        }
        table.set(encode_workload(&workload("a", &["10.0.0.1"], &[])));
        table.remove(&uid("c"));
        assert_eq!(table.forgotten(), 0, "the oldest removal is none any more");
        table.remove(&uid("d"));
        assert_eq!(table.forgotten(), 6, "b");
        assert_eq!(log(&table, 0), [("a".to_owned(), true), ("c".to_owned(), false), ("d".to_owned(), false)]);
        // The slot is another's now, and the tombstones of the first are not its own.
        table.set(encode_workload(&workload("e", &["10.0.0.5"], &[])));
        assert_eq!(table.len(), 2);
        assert!(table.get(&uid("b")).is_none() && table.get(&uid("e")).is_some());
    }

    #[test]
    fn an_address_finds_all_that_have_it_and_nothing_that_had() {
        let mut table = Table::default();
        for name in ["a", "b"] {
            // Pods of the host's network share its address.
            table.set(encode_workload(&workload(name, &["10.0.0.1"], &["shop"])));
        }
        table.set(encode_service(&service("wide", &["10.0.0.0/24"])));
        let found = |table: &Table| {
            let mut names: Vec<String> =
                table.named(&Asked::new("/10.0.0.1")).iter().map(|found| found.name.to_string()).collect();
            names.sort();
            names
        };
        let wide = "default/wide.default.svc.cluster.local".to_owned();
        assert_eq!(found(&table), [uid("a"), uid("b"), wide.clone()]);
        table.set(encode_workload(&workload("a", &["10.0.0.9"], &[])));
        assert_eq!(found(&table), [uid("b"), wide]);
        table.remove(&uid("b"));
        table.set(encode_service(&service("wide", &["10.1.0.0/24"])));
        assert_eq!(found(&table), [""; 0]);
        assert_eq!(table.members("default/shop.default.svc.cluster.local").count(), 0);
        assert!(table.by_address.len() == 1 && table.members.is_empty() && table.ranges.len() == 1);
    }
}
