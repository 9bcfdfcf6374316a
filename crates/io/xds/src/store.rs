//! The mesh as it is served: deltas in, resources out that every subscriber shares.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Instant,
};

use bytes::Bytes;
use ipnet::IpNet;
use prost::Message;
use tokio::sync::watch;
use weir_model::{Namespace, Policy, Service, Workload, canonical_ip};
use weir_world::Delta;

use crate::{
    convert::{Authorization, alias, service_to, workload_to},
    kind::{KINDS, Kind, Version},
    proto,
    table::{Encoded, Facts, Table},
};

/// Changes that are put in under one lock.
const BATCH: usize = 1024;
/// Batches whose time is remembered: beyond, a push is as late as the oldest of them.
const MAX_MARKS: usize = 1024;

/// All resources, encoded. One writes, everybody reads; nobody waits for the encoding of another.
#[derive(Debug)]
pub struct Store {
    tables: [RwLock<Timed>; KINDS],
    changed: watch::Sender<u64>,
}

/// A table, and when it got its last changes.
#[derive(Debug, Default)]
pub(crate) struct Timed {
    pub(crate) table: Table,
    marks: VecDeque<(u64, Instant)>,
}

impl Timed {
    /// When the first change after that of the number was put in, as far back as is known.
    pub(crate) fn since(&self, change: u64) -> Option<Instant> {
        let at = self.marks.partition_point(|(last, _)| *last <= change);
        self.marks.get(at).map(|(_, when)| *when)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// A mesh of nothing.
    pub fn new() -> Self {
        Self { tables: Default::default(), changed: watch::Sender::new(0) }
    }

    /// Takes over what changed. What is said again as it was is no change, and is sent to nobody.
    pub fn apply(&self, delta: &Delta) {
        for batch in delta.workloads.chunks(BATCH) {
            let change = |(uid, now): &(_, Option<Workload>)| match now {
                Some(workload) => Change::Is(encode_workload(workload)),
                None => Change::Gone(ToString::to_string(uid)),
            };
            self.put(Kind::Address, batch.iter().map(change).collect());
        }
        for batch in delta.services.chunks(BATCH) {
            let change = |(name, now): &(_, Option<Service>)| match now {
                Some(service) => Change::Is(encode_service(service)),
                None => Change::Gone(ToString::to_string(name)),
            };
            self.put(Kind::Address, batch.iter().map(change).collect());
        }
        for batch in delta.policies.chunks(BATCH) {
            let change = |(name, now): &(_, Option<Policy>)| match now {
                Some(policy) => Change::Is(encode_policy(policy)),
                None => Change::Gone(ToString::to_string(name)),
            };
            self.put(Kind::Authorization, batch.iter().map(change).collect());
        }
    }

    /// Takes over what changed of the objects that shape requests.
    pub fn apply_objects(&self, changes: &[(String, Option<Object>)]) {
        for batch in changes.chunks(BATCH) {
            let change = |(name, now): &(String, Option<Object>)| match now {
                Some(object) => Change::Is(encode_object(name, object)),
                None => Change::Gone(name.clone()),
            };
            self.put(Kind::Object, batch.iter().map(change).collect());
        }
    }

    /// How many resources of the kind there are.
    pub fn len(&self, kind: Kind) -> usize {
        self.read(kind).table.len()
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.len(kind) == 0)
    }

    /// The table of a kind, as it is now.
    pub(crate) fn read(&self, kind: Kind) -> RwLockReadGuard<'_, Timed> {
        // A writer that panicked left a table whose every resource is whole.
        self.tables[kind.index()].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says when there is something new.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts changes of a kind into its table, under one lock.
    pub(crate) fn put(&self, kind: Kind, changes: Vec<Change>) {
        let mut timed = self.tables[kind.index()].write().unwrap_or_else(PoisonError::into_inner);
        let before = timed.table.now();
        for change in changes {
            match change {
                Change::Is(resource) => timed.table.set(resource),
                Change::Gone(name) => timed.table.remove(&name),
            };
        }
        let now = timed.table.now();
        if now == before {
            return;
        }
        if timed.marks.len() == MAX_MARKS {
            timed.marks.pop_front();
        }
        timed.marks.push_back((now, Instant::now()));
        drop(timed);
        self.changed.send_modify(|changes| *changes += 1);
    }
}

/// A resource as it is now, or the name of one that is gone.
pub(crate) enum Change {
    Is(Encoded),
    Gone(String),
}

/// As every subscriber gets it.
pub(crate) fn encode_workload(workload: &Workload) -> Encoded {
    let message = proto::AddressType::Workload(Box::new(workload_to(workload)));
    let network = &workload.network;
    let addresses = workload.addresses.iter().map(|ip| (network.clone(), IpNet::from(canonical_ip(*ip))));
    let services = workload.services.iter().map(|place| place.service.to_string().into());
    let facts = Facts { addresses: addresses.collect(), services: services.collect(), node: workload.node.clone() };
    encode(workload.uid.as_str(), Kind::Address, proto::Address { r#type: Some(message) }.encode_to_vec(), facts)
}

/// As every subscriber gets it.
pub(crate) fn encode_service(service: &Service) -> Encoded {
    let message = proto::AddressType::Service(Box::new(service_to(service)));
    let facts = Facts { addresses: service.vips.clone().into(), ..Facts::default() };
    let name = service.name.to_string();
    encode(&name, Kind::Address, proto::Address { r#type: Some(message) }.encode_to_vec(), facts)
}

/// As every subscriber gets it.
pub(crate) fn encode_policy(policy: &Policy) -> Encoded {
    encode(&policy.name.to_string(), Kind::Authorization, Authorization::encode(policy), Facts::default())
}

/// An object that shapes requests, as it is told to waypoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The whole of it, JSON.
    pub json: Arc<str>,
    /// The namespaces whose requests it may shape: whoever asks for `namespace/*` of one of them is told.
    pub concerns: Vec<Namespace>,
}

/// What is asked for to be told of all objects that concern a namespace.
pub fn group(namespace: &Namespace) -> String {
    format!("{namespace}/*")
}

/// The namespace whose objects are asked for by that name.
pub(crate) fn grouped(name: &str) -> Option<Namespace> {
    name.strip_suffix("/*")?.parse().ok()
}

/// As every subscriber gets it.
fn encode_object(name: &str, object: &Object) -> Encoded {
    let services = object.concerns.iter().map(|namespace| group(namespace).into()).collect();
    let facts = Facts { services, ..Facts::default() };
    encode(name, Kind::Object, object.json.as_bytes().to_vec(), facts)
}

/// A resource of these bytes.
pub(crate) fn encode(name: &str, kind: Kind, value: Vec<u8>, facts: Facts) -> Encoded {
    let version = Version::of(&value);
    let message = proto::Resource {
        version: version.to_string(),
        resource: Some(prost_types::Any { type_url: kind.type_url().to_owned(), value }),
        name: name.to_owned(),
        aliases: facts.addresses.iter().map(|(network, range)| alias(network, range.addr())).collect(),
    };
    Encoded { name: name.into(), bytes: Bytes::from(message.encode_to_vec()), version, facts }
}
