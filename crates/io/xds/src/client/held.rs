//! What the client knows, as far as it must be said to a control plane again: versions here, names in the world.

use std::{borrow::Cow, collections::BTreeMap};

use foldhash::HashSet;
use prost::Message;
use weir_model::{Namespace, Policy, PolicyName, Service, ServiceName, Workload, WorkloadUid};
use weir_world::{Delta, World};

use super::{ObjectChange, versions::Versions};
use crate::{
    convert::{Address, Authorization, ConvertError},
    kind::Kind,
    proto::{DeltaDiscoveryResponse, Resource, VersionEntry},
    store::grouped,
    texts::Texts,
};

/// Refusals that are reported of one response. More are counted.
const MAX_REJECTED: usize = 100;

/// What a resource of the list takes beside its texts, at most, in bytes: three tags and lengths.
const ENTRY: usize = 12;

/// Most an object may have, in bytes: what etcd takes at most.
pub const MAX_OBJECT_BYTES: usize = 1_572_864;

/// What is known, and in which version.
#[derive(Debug, Default)]
pub(super) struct Held {
    workloads: Versions,
    services: Versions,
    policies: Versions,
    /// What policies are called.
    policy_names: HashSet<PolicyName>,
    objects: Versions,
    /// What objects are called.
    object_names: HashSet<String>,
    texts: Texts,
}

#[derive(Debug, Clone)]
enum Name {
    Workload(WorkloadUid),
    Service(ServiceName),
    Policy(PolicyName),
    Object(String),
}

impl Name {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Workload(uid) => Cow::Borrowed(uid.as_str()),
            Self::Service(name) => Cow::Owned(name.to_string()),
            Self::Policy(name) => Cow::Owned(name.to_string()),
            Self::Object(name) => Cow::Borrowed(name),
        }
    }
}

/// What a response brought.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) delta: Delta,
    pub(super) objects: Vec<ObjectChange>,
    pub(super) rejected: Vec<(String, String)>,
    pub(super) absent: Vec<String>,
    /// Namespaces whose objects were demanded: nothing of them is held back but what follows in the same answer.
    pub(super) answered: Vec<Namespace>,
}

/// A delta in the making: each thing once, as it was said last.
#[derive(Default)]
struct Changes {
    workloads: BTreeMap<WorkloadUid, Option<Workload>>,
    services: BTreeMap<ServiceName, Option<Service>>,
    policies: BTreeMap<PolicyName, Option<Policy>>,
    objects: BTreeMap<String, Option<String>>,
}

impl Changes {
    fn gone(&mut self, name: Name) {
        match name {
            Name::Workload(uid) => drop(self.workloads.insert(uid, None)),
            Name::Service(name) => drop(self.services.insert(name, None)),
            Name::Policy(name) => drop(self.policies.insert(name, None)),
            Name::Object(name) => drop(self.objects.insert(name, None)),
        }
    }
}

impl Held {
    /// What is held of the kind, within `room` bytes of which it takes its share. `known` is the world of all that was taken.
    pub(super) fn list(&mut self, kind: Kind, known: &World, room: &mut usize) -> Vec<VersionEntry> {
        self.begin(kind);
        let mut list = Vec::new();
        for name in self.names(kind, known) {
            let (text, versions) = (name.text(), self.versions(&name));
            let Some(version) = versions.get(&text) else { continue };
            match room.checked_sub(text.len() + version.len() + ENTRY) {
                Some(left) => {
                    *room = left;
                    list.push(VersionEntry { name: text.into_owned(), version });
                }
                None => versions.leave_out(&text),
            }
        }
        list
    }

    /// The sum of what is held of the kind, if all of it has versions of ours.
    pub(super) fn sum(&self, kind: Kind) -> Option<String> {
        let sum = match kind {
            Kind::Address => self.workloads.sum()?.and(self.services.sum()?),
            Kind::Authorization => self.policies.sum()?,
            Kind::Object => self.objects.sum()?,
        };
        Some(sum.to_string())
    }

    /// How all that is held of the kind is called.
    fn names<'w>(&self, kind: Kind, known: &'w World) -> Box<dyn Iterator<Item = Name> + 'w> {
        match kind {
            Kind::Address => {
                let services = known.services().map(|service| Name::Service(service.name.clone()));
                Box::new(known.uids().map(Name::Workload).chain(services))
            }
            Kind::Authorization => {
                let all: Vec<Name> = self.policy_names.iter().cloned().map(Name::Policy).collect();
                Box::new(all.into_iter())
            }
            Kind::Object => {
                let all: Vec<Name> = self.object_names.iter().cloned().map(Name::Object).collect();
                Box::new(all.into_iter())
            }
        }
    }

    fn versions(&mut self, name: &Name) -> &mut Versions {
        match name {
            Name::Workload(_) => &mut self.workloads,
            Name::Service(_) => &mut self.services,
            Name::Policy(_) => &mut self.policies,
            Name::Object(_) => &mut self.objects,
        }
    }

    /// Nothing of the kind is left out of a list.
    fn begin(&mut self, kind: Kind) {
        match kind {
            Kind::Address => {
                self.workloads.begin();
                self.services.begin();
            }
            Kind::Authorization => self.policies.begin(),
            Kind::Object => self.objects.begin(),
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
                None if !asked.contains(&(kind, removed.clone())) => {}
                None => match kind {
                    Kind::Address => news.absent.push(removed),
                    // No object has the name of a group, so that it is always said to be gone: in what answers the demand.
                    Kind::Object => news.answered.extend(grouped(&removed)),
                    Kind::Authorization => {}
                },
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
        let change = |(name, json)| ObjectChange { name, json };
        news.objects = changes.objects.into_iter().map(change).collect();
        news.delta = Delta {
            workloads: changes.workloads.into_iter().collect(),
            services: changes.services.into_iter().collect(),
            policies: changes.policies.into_iter().collect(),
        };
        news
    }

    /// The first answer is complete: what was not listed and not sent again is gone. `known` is the world before this response.
    pub(super) fn sweep(&mut self, kind: Kind, known: &World, news: &mut News) {
        let complete = match kind {
            Kind::Address => self.workloads.is_complete() && self.services.is_complete(),
            Kind::Authorization => self.policies.is_complete(),
            Kind::Object => self.objects.is_complete(),
        };
        if complete {
            return;
        }
        for name in self.names(kind, known) {
            if !self.versions(&name).is_left_out(&name.text()) {
                continue;
            }
            self.forget(&name);
            match name {
                Name::Workload(uid) => news.delta.workloads.push((uid, None)),
                Name::Service(name) => news.delta.services.push((name, None)),
                Name::Policy(name) => news.delta.policies.push((name, None)),
                Name::Object(name) => news.objects.push(ObjectChange { name, json: None }),
            }
        }
        self.begin(kind);
    }

    /// What is held by that name.
    fn find(&self, kind: Kind, name: &str) -> Option<Name> {
        match kind {
            Kind::Address if self.workloads.has(name) => name.parse().ok().map(Name::Workload),
            Kind::Address if self.services.has(name) => name.parse().ok().map(Name::Service),
            Kind::Authorization if self.policies.has(name) => name.parse().ok().map(Name::Policy),
            Kind::Object if self.objects.has(name) => Some(Name::Object(name.to_owned())),
            Kind::Address | Kind::Authorization | Kind::Object => None,
        }
    }

    fn forget(&mut self, name: &Name) {
        self.versions(name).remove(&name.text());
        match name {
            Name::Policy(name) => drop(self.policy_names.remove(name)),
            Name::Object(name) => drop(self.object_names.remove(name)),
            Name::Workload(_) | Name::Service(_) => {}
        }
    }

    /// Takes one resource, or says what is wrong with it.
    fn put(&mut self, kind: Kind, resource: Resource, changes: &mut Changes) -> Result<(), String> {
        let name = resource.name;
        let any = resource.resource.ok_or_else(|| format!("{name:?} has no content"))?;
        if any.type_url != kind.type_url() {
            return Err(format!("{name:?} is a {:?}, expected {:?}", any.type_url, kind.type_url()));
        }
        let version = resource.version;
        let words = |error: ConvertError| error.to_string();
        match kind {
            Kind::Address => match Address::decode_sharing(&name, &any.value, &mut self.texts).map_err(words)? {
                Address::Workload(workload) => {
                    self.workloads.set(&name, &version);
                    changes.workloads.insert(workload.uid.clone(), Some(*workload));
                }
                Address::Service(service) => {
                    self.services.set(&name, &version);
                    changes.services.insert(service.name.clone(), Some(*service));
                }
            },
            Kind::Authorization => return self.put_policy(&name, any.value, &version, changes),
            Kind::Object => return self.put_object(name, any.value, &version, changes),
        }
        Ok(())
    }

    /// Takes an object. What it says is for others to read.
    fn put_object(&mut self, name: String, bytes: Vec<u8>, version: &str, changes: &mut Changes) -> Result<(), String> {
        if bytes.len() > MAX_OBJECT_BYTES {
            return Err(format!("{name:?} has {} bytes, at most {MAX_OBJECT_BYTES} are read", bytes.len()));
        }
        let json = String::from_utf8(bytes).map_err(|error| format!("{name:?} is no text: {error}"))?;
        self.objects.set(&name, version);
        self.object_names.insert(name.clone());
        changes.objects.insert(name, Some(json));
        Ok(())
    }

    /// Takes a policy. One that cannot be read is taken too, as one that denies, and what is wrong with it said. If not even its scope can be
    /// read the last one that could stays in force, and if there is none everything is denied.
    fn put_policy(&mut self, name: &str, bytes: Vec<u8>, version: &str, changes: &mut Changes) -> Result<(), String> {
        let (own, policy, version, unread) = match Authorization::decode(name, bytes) {
            Ok(read) => (read.policy.name.clone(), Some(read.policy), version, read.unread),
            Err(error) => {
                let own: PolicyName = name.parse().map_err(|_| error.to_string())?;
                let first = !self.policy_names.contains(&own);
                let policy = first.then(|| Authorization::unreadable(own.clone(), &error));
                // Without a version it is sent again on the next connection.
                (own, policy, "", Some(error.to_string()))
            }
        };
        self.policies.set(name, version);
        self.policy_names.insert(own.clone());
        if let Some(policy) = policy {
            changes.policies.insert(own, Some(policy));
        }
        unread.map_or(Ok(()), Err)
    }
}

/// What was demanded by name.
type Asked = std::collections::BTreeSet<(Kind, String)>;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_model::PolicyScope;

    use super::*;
    use crate::{
        proto,
        store::{encode_service, encode_workload},
        table::Encoded,
        testing::{policy, service, workload},
    };

    fn response(resources: Vec<Bytes>, removed: &[&str]) -> DeltaDiscoveryResponse {
        let removed_resources = removed.iter().map(ToString::to_string).collect();
        DeltaDiscoveryResponse { resources, removed_resources, ..DeltaDiscoveryResponse::default() }
    }

    fn pods() -> [Encoded; 3] {
        ["a", "b", "c"].map(|name| encode_workload(&workload(name, &["10.0.0.1"], &[])))
    }

    /// What is held, and the world of it.
    fn held() -> (Held, World) {
        let mut held = Held::default();
        let shop = encode_service(&service("shop", &["10.96.0.1"]));
        let all = pods().into_iter().chain([shop]).map(|resource| resource.bytes).collect();
        let news = held.take(Kind::Address, response(all, &[]), &Asked::new());
        assert_eq!((news.delta.workloads.len(), news.delta.services.len(), news.rejected), (3, 1, Vec::new()));
        (held, World::default().apply(news.delta))
    }

    fn gone(news: &Delta) -> usize {
        let services = news.services.iter().filter(|(_, now)| now.is_none()).count();
        news.workloads.iter().filter(|(_, now)| now.is_none()).count() + services
    }

    #[test]
    fn what_found_no_room_in_the_list_and_is_not_sent_again_is_gone() {
        for (room, listed) in [(usize::MAX, 4), (100, 1), (0, 0)] {
            let (mut held, known) = held();
            let mut left = room;
            let list = held.list(Kind::Address, &known, &mut left);
            assert_eq!(list.len(), listed, "{room}");
            let again = pods().into_iter().take(2).map(|pod| pod.bytes).collect();
            let mut news = held.take(Kind::Address, response(again, &[]), &Asked::new());
            held.sweep(Kind::Address, &known, &mut news);
            let delta = news.delta.clone();
            let sent_again = ["/a", "/b"];
            let lost = |entry: &&VersionEntry| !sent_again.iter().any(|name| entry.name.ends_with(name));
            assert_eq!(gone(&delta), 2 - list.iter().filter(lost).count(), "{room}");
            let known = known.apply(delta.clone());
            held.sweep(Kind::Address, &known, &mut news);
            assert_eq!(news.delta, delta, "what is gone is said once");
            assert_eq!(held.list(Kind::Address, &known, &mut usize::MAX.clone()).len(), 4 - gone(&delta));
        }
    }

    #[test]
    fn the_sum_is_that_of_whoever_has_the_same_and_none_without_versions() {
        let (mut held, _) = held();
        let mut table = crate::table::Table::default();
        for pod in pods() {
            table.set(pod);
        }
        assert_ne!(held.sum(Kind::Address), Some(table.sum().to_string()));
        table.set(encode_service(&service("shop", &["10.96.0.1"])));
        assert_eq!(held.sum(Kind::Address), Some(table.sum().to_string()));
        let mut resource = Resource::decode(pods()[0].bytes.clone()).unwrap();
        resource.version.clear();
        held.take(Kind::Address, response(vec![resource.encode_to_vec().into()], &[]), &Asked::new());
        assert_eq!(held.sum(Kind::Address), None, "istiod gives no versions");
    }

    #[test]
    fn what_is_removed_is_gone_once_and_what_was_only_asked_for_is_absent() {
        let (mut held, _) = held();
        let asked = Asked::from([(Kind::Address, "/10.0.0.9".to_owned())]);
        let removed = ["Kubernetes//v1/Pod/default/a", "default/shop.default.svc.cluster.local", "/10.0.0.9", "x/y"];
        let news = held.take(Kind::Address, response(Vec::new(), &removed), &asked);
        assert_eq!((gone(&news.delta), news.absent), (2, vec!["/10.0.0.9".to_owned()]));
        let news = held.take(Kind::Address, response(Vec::new(), &removed), &Asked::new());
        assert_eq!((gone(&news.delta), news.absent), (0, Vec::new()));
    }

    fn authorization(name: &str, version: &str, value: Vec<u8>) -> Bytes {
        let any = prost_types::Any { type_url: Kind::Authorization.type_url().to_owned(), value };
        let (name, version) = (name.to_owned(), version.to_owned());
        Resource { name, version, resource: Some(any), ..Resource::default() }.encode_to_vec().into()
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_refused_and_denies_and_an_unreadable_one_leaves_the_last_in_force() {
        let (name, good) = (policy("p").name, Authorization::encode(&policy("p")));
        let strange = proto::Authorization {
            name: "p".to_owned(),
            namespace: "default".to_owned(),
            scope: proto::Scope::Namespace.into(),
            action: 9,
            ..proto::Authorization::default()
        };
        let take = |held: &mut Held, value: Vec<u8>| {
            let resource = authorization("default/p", "0000000000000001", value);
            let news = held.take(Kind::Authorization, response(vec![resource], &[]), &Asked::new());
            let mut policies = news.delta.policies.into_iter().map(|(name, now)| (name, now.unwrap()));
            (policies.next().map(|(_, now)| (now.scope, now.rejected.is_some())), news.rejected.len())
        };
        let mut held = Held::default();
        assert_eq!(take(&mut held, b"\xff".to_vec()), (Some((PolicyScope::Mesh, true)), 1), "nothing is known of it");
        assert_eq!(held.sum(Kind::Authorization), None, "it is to be sent again");
        assert_eq!(take(&mut held, good), (Some((PolicyScope::Namespace, true)), 0));
        assert_eq!(take(&mut held, strange.encode_to_vec()), (Some((PolicyScope::Namespace, true)), 1));
        assert!(held.sum(Kind::Authorization).is_some());
        // With no room in the list, it is forgotten unless it is sent again; and it is, though nobody can read it.
        held.list(Kind::Authorization, &World::default(), &mut 0);
        assert_eq!(take(&mut held, b"\xff".to_vec()), (None, 1), "the last one stays");
        let mut news = News::default();
        held.sweep(Kind::Authorization, &World::default(), &mut news);
        assert_eq!(news.delta, Delta::default());
        let news = held.take(Kind::Authorization, response(Vec::new(), &["default/p"]), &Asked::new());
        assert_eq!(news.delta.policies, [(name, None)]);
        let bad = authorization("no policy", "1", Vec::new());
        let news = held.take(Kind::Authorization, response(vec![bad], &[]), &Asked::new());
        assert_eq!((news.delta, news.rejected.len()), (Delta::default(), 1));
    }

    #[test]
    fn a_policy_that_becomes_a_dry_run_is_one() {
        let mut held = Held::default();
        for dry_run in [false, true] {
            let sent = Policy { dry_run, ..policy("p") };
            let resource = authorization("default/p", "1", Authorization::encode(&sent));
            let news = held.take(Kind::Authorization, response(vec![resource], &[]), &Asked::new());
            assert_eq!(news.delta.policies, [(sent.name.clone(), Some(sent))]);
        }
    }

    #[test]
    fn many_bad_resources_are_counted_and_the_first_named() {
        let bad = Resource { name: "bad".to_owned(), ..Resource::default() }.encode_to_vec();
        let bytes = std::iter::repeat_n(Bytes::from(bad), 5000).chain([Bytes::from_static(b"\xff")]);
        let news = Held::default().take(Kind::Address, response(bytes.collect(), &[]), &Asked::new());
        assert_eq!(news.rejected.len(), MAX_REJECTED + 1);
        assert!(news.rejected[0].1.contains("bad") && news.rejected[MAX_REJECTED].1.contains("4901 other"));
    }
}
