//! What the client knows, as far as it must be said to a control plane again: names and versions.

use std::{collections::BTreeMap, mem};

use foldhash::{HashMap, HashSet};
use prost::Message;
use weir_model::{Policy, PolicyName, Service, ServiceName, Workload, WorkloadUid};
use weir_world::Delta;

use crate::{
    convert::{Address, ConvertError, policy_from},
    kind::{Kind, Sum, Version},
    proto::{DeltaDiscoveryResponse, Resource, VersionEntry},
};

/// Refusals that are reported of one response. More are counted.
const MAX_REJECTED: usize = 100;

/// Names of resources, each with its version if it has one of ours. The texts are shared with the world.
#[derive(Debug, Default)]
pub(super) struct Held {
    workloads: HashMap<WorkloadUid, Option<Version>>,
    services: HashMap<ServiceName, Option<Version>>,
    policies: HashMap<PolicyName, Option<Version>>,
    /// For each kind what did not find room in the list: it is gone unless it is sent again.
    unlisted: [HashSet<Name>; 2],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Workload(WorkloadUid),
    Service(ServiceName),
    Policy(PolicyName),
}

impl Name {
    fn text(&self) -> String {
        match self {
            Self::Workload(uid) => uid.to_string(),
            Self::Service(name) => name.to_string(),
            Self::Policy(name) => name.to_string(),
        }
    }
}

/// What a response brought.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) delta: Delta,
    pub(super) rejected: Vec<(String, String)>,
    pub(super) absent: Vec<String>,
}

/// A delta in the making: each thing once, as it was said last.
#[derive(Default)]
struct Changes {
    workloads: BTreeMap<WorkloadUid, Option<Workload>>,
    services: BTreeMap<ServiceName, Option<Service>>,
    policies: BTreeMap<PolicyName, Option<Policy>>,
}

impl Changes {
    fn gone(&mut self, name: Name) {
        match name {
            Name::Workload(uid) => drop(self.workloads.insert(uid, None)),
            Name::Service(name) => drop(self.services.insert(name, None)),
            Name::Policy(name) => drop(self.policies.insert(name, None)),
        }
    }
}

impl Held {
    /// What is held of the kind, within `room` bytes of which it takes its share.
    pub(super) fn list(&mut self, kind: Kind, room: &mut usize) -> Vec<VersionEntry> {
        let mut list = Vec::new();
        let mut unlisted = HashSet::default();
        for (name, version) in self.all(kind) {
            let entry = VersionEntry {
                name: name.text(),
                version: version.as_ref().map(ToString::to_string).unwrap_or_default(),
            };
            match room.checked_sub(entry.encoded_len() + 4) {
                Some(left) => {
                    *room = left;
                    list.push(entry);
                }
                None => {
                    unlisted.insert(name);
                }
            }
        }
        self.unlisted[kind.index()] = unlisted;
        list
    }

    /// The sum of what is held of the kind, if all of it has versions.
    pub(super) fn sum(&self, kind: Kind) -> Option<String> {
        let mut sum = Sum::default();
        for (name, version) in self.all(kind) {
            sum.add(&name.text(), version?);
        }
        Some(sum.to_string())
    }

    fn all(&self, kind: Kind) -> Vec<(Name, Option<Version>)> {
        match kind {
            Kind::Address => {
                let workloads = self.workloads.iter().map(|(uid, version)| (Name::Workload(uid.clone()), *version));
                let services = self.services.iter().map(|(name, version)| (Name::Service(name.clone()), *version));
                workloads.chain(services).collect()
            }
            Kind::Authorization => {
                self.policies.iter().map(|(name, version)| (Name::Policy(name.clone()), *version)).collect()
            }
        }
    }

    /// Takes a response: what is good of it is held from now on.
    pub(super) fn take(&mut self, kind: Kind, response: DeltaDiscoveryResponse, asked: &Asked) -> News {
        let mut news = News::default();
        let mut changes = Changes::default();
        let mut refused = 0_usize;
        for removed in response.removed_resources {
            match self.find(kind, &removed) {
                Some(name) => {
                    self.forget(&name);
                    changes.gone(name);
                }
                None if asked.contains(&removed) => news.absent.push(removed),
                None => {}
            }
        }
        for bytes in response.resources {
            let read = Resource::decode(bytes)
                .map_err(|error| (String::new(), format!("a resource is none: {error}")))
                .and_then(|resource| {
                    let name = resource.name.clone();
                    self.put(kind, resource, &mut changes).map_err(|error| (name, error))
                });
            if let Err(rejected) = read {
                refused += 1;
                if refused <= MAX_REJECTED {
                    news.rejected.push(rejected);
                }
            }
        }
        if refused > MAX_REJECTED {
            let more = refused - MAX_REJECTED;
            news.rejected.push((String::new(), format!("{more} other resources of the response cannot be read")));
        }
        news.delta = Delta {
            workloads: changes.workloads.into_iter().collect(),
            services: changes.services.into_iter().collect(),
            policies: changes.policies.into_iter().collect(),
        };
        news
    }

    /// The first answer is complete: what was not listed and not sent again is gone.
    pub(super) fn sweep(&mut self, kind: Kind, delta: &mut Delta) {
        for name in mem::take(&mut self.unlisted[kind.index()]) {
            self.forget(&name);
            match name {
                Name::Workload(uid) => delta.workloads.push((uid, None)),
                Name::Service(name) => delta.services.push((name, None)),
                Name::Policy(name) => delta.policies.push((name, None)),
            }
        }
    }

    /// What is held by that name.
    fn find(&self, kind: Kind, name: &str) -> Option<Name> {
        match kind {
            Kind::Address => {
                let workload = name.parse().ok().filter(|uid| self.workloads.contains_key(uid)).map(Name::Workload);
                let service = || name.parse().ok().filter(|name| self.services.contains_key(name)).map(Name::Service);
                workload.or_else(service)
            }
            Kind::Authorization => name.parse().ok().filter(|name| self.policies.contains_key(name)).map(Name::Policy),
        }
    }

    fn forget(&mut self, name: &Name) {
        match name {
            Name::Workload(uid) => self.workloads.remove(uid),
            Name::Service(name) => self.services.remove(name),
            Name::Policy(name) => self.policies.remove(name),
        };
        for unlisted in &mut self.unlisted {
            unlisted.remove(name);
        }
    }

    /// Takes one resource, or says what is wrong with it.
    fn put(&mut self, kind: Kind, resource: Resource, changes: &mut Changes) -> Result<(), String> {
        let name = resource.name;
        let any = resource.resource.ok_or_else(|| format!("{name:?} has no content"))?;
        if any.type_url != kind.type_url() {
            return Err(format!("{name:?} is a {:?}, expected {:?}", any.type_url, kind.type_url()));
        }
        let version = resource.version.parse().ok();
        let words = |error: ConvertError| error.to_string();
        let name = match kind {
            Kind::Address => match Address::decode(&name, &any.value).map_err(words)? {
                Address::Workload(workload) => {
                    let uid = workload.uid.clone();
                    self.workloads.insert(uid.clone(), version);
                    changes.workloads.insert(uid.clone(), Some(*workload));
                    Name::Workload(uid)
                }
                Address::Service(service) => {
                    let name = service.name.clone();
                    self.services.insert(name.clone(), version);
                    changes.services.insert(name.clone(), Some(*service));
                    Name::Service(name)
                }
            },
            Kind::Authorization => {
                let (name, policy) = policy_from(&name, &any.value).map_err(words)?;
                self.policies.insert(name.clone(), version);
                changes.policies.insert(name.clone(), policy);
                Name::Policy(name)
            }
        };
        self.unlisted[kind.index()].remove(&name);
        Ok(())
    }
}

/// What was demanded by name.
type Asked = std::collections::BTreeSet<String>;
