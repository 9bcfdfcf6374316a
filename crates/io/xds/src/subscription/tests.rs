//! Whatever changes and however it is asked, a subscriber ends up with what it asked for.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use weir_model::{Service, Workload};

use super::*;
use crate::{
    proto::{DeltaDiscoveryRequest, Resource, Status, VersionEntry},
    request::MAX_NAMES_PER_REQUEST,
    store::{encode_service, encode_workload},
    testing::{service, service_name, workload},
};

/// Room for everything.
const ALL_OF_IT: usize = 1 << 20;

/// A table, a subscriber's view of it, and what the subscriber has made of the responses.
struct Peer {
    table: Table,
    view: Subscription,
    has: BTreeMap<String, Bytes>,
    versions: BTreeMap<String, String>,
    nonce: String,
    most: usize,
}

impl Peer {
    fn new(table: Table) -> Self {
        let view = Subscription::new(Kind::Address, Some("node-1".parse().unwrap()));
        Self { table, view, has: BTreeMap::new(), versions: BTreeMap::new(), nonce: String::new(), most: ALL_OF_IT }
    }

    fn ask(&mut self, change: impl FnOnce(&mut DeltaDiscoveryRequest)) -> Settled {
        let mut wire = request();
        change(&mut wire);
        self.view.request(&self.table, Request::read(wire).unwrap()).unwrap()
    }

    fn on_demand(&mut self, names: &[&str]) {
        self.ask(|wire| {
            wire.resource_names_subscribe = ["*"].iter().chain(names).map(ToString::to_string).collect();
            wire.resource_names_unsubscribe = vec!["*".to_owned()];
        });
    }

    fn subscribe(&mut self, name: &str) {
        self.ask(|wire| wire.resource_names_subscribe = vec![name.to_owned()]);
    }

    fn unsubscribe(&mut self, name: &str) {
        self.ask(|wire| wire.resource_names_unsubscribe = vec![name.to_owned()]);
    }

    fn ack(&mut self) -> Settled {
        let nonce = self.nonce.clone();
        self.ask(|wire| wire.response_nonce = nonce)
    }

    /// Takes the next response: the short names of what is in it, and what it removes.
    fn pull(&mut self) -> Pulled {
        self.try_pull().expect("removals are remembered")
    }

    fn try_pull(&mut self) -> Result<Pulled, Behind> {
        // Sessions ask for no response where nothing is said to be pending.
        let pending = self.view.standing(&self.table).pending;
        let Some(response) = self.view.next(&self.table, self.most)? else { return Ok(None) };
        assert!(pending, "something is to be sent, and nothing was pending");
        self.nonce = response.nonce;
        for name in &response.removed {
            self.has.remove(name);
            self.versions.remove(name);
        }
        let mut names = Vec::new();
        for bytes in response.resources {
            let resource = Resource::decode(bytes.clone()).unwrap();
            names.push(resource.name.rsplit('/').next().unwrap().split('.').next().unwrap().to_owned());
            self.versions.insert(resource.name.clone(), resource.version);
            self.has.insert(resource.name, bytes);
        }
        names.sort();
        Ok(Some((names, response.removed)))
    }

    /// Takes all there is.
    fn drain(&mut self) -> Result<(), Behind> {
        self.ack();
        while self.try_pull()?.is_some() {
            self.ack();
        }
        Ok(())
    }

    fn set(&mut self, workload: &Workload) {
        self.table.set(encode_workload(workload));
    }

    fn set_service(&mut self, service: &Service) {
        self.table.set(encode_service(service));
    }

    fn remove(&mut self, name: &str) {
        self.table.remove(&uid(name));
    }
}

/// The short names of what came, and what was removed.
type Pulled = Option<(Vec<String>, Vec<String>)>;

fn request() -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: Kind::Address.type_url().to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn uid(name: &str) -> String {
    format!("Kubernetes//v1/Pod/default/{name}")
}

fn answer(names: &[&str], removed: &[&str]) -> Pulled {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    Some((texts(names), texts(removed)))
}

/// Two pods behind a service, and one that is not.
fn shop() -> Peer {
    let mut peer = Peer::new(Table::default());
    peer.set(&workload("a", &["10.0.0.1", "fd00::1"], &["shop"]));
    peer.set(&workload("b", &["10.0.0.2"], &["shop"]));
    peer.set(&workload("c", &["10.0.0.3"], &[]));
    peer.set_service(&service("shop", &["10.96.0.1", "fd00:96::/64"]));
    peer
}

#[test]
fn who_asks_for_nothing_or_for_a_star_gets_everything() {
    for names in [vec![], vec!["*".to_owned()]] {
        let mut peer = shop();
        peer.ask(|wire| wire.resource_names_subscribe = names.clone());
        assert_eq!(peer.pull(), answer(&["a", "b", "c", "shop"], &[]), "{names:?}");
        peer.ack();
        assert_eq!(peer.pull(), None);
    }
}

#[test]
fn an_empty_mesh_is_an_answer_too() {
    let mut peer = Peer::new(Table::default());
    peer.ask(|_| {});
    assert_eq!(peer.pull(), answer(&[], &[]));
    let mut peer = Peer::new(Table::default());
    peer.on_demand(&[]);
    assert_eq!(peer.pull(), answer(&[], &[]));
    peer.ack();
    assert_eq!(peer.pull(), None);
}

#[test]
fn each_form_of_a_name_means_what_it_names() {
    let gone = |name| answer(&[], &[name]);
    for (name, want) in [
        (uid("c").as_str(), answer(&["c"], &[])),
        (&service_name("shop"), answer(&["a", "b", "shop"], &[])),
        ("/10.96.0.1", answer(&["a", "b", "shop"], &[])),
        ("/fd00:96::77", answer(&["a", "b", "shop"], &[])),
        ("/10.0.0.1", answer(&["a"], &[])),
        ("/fd00::1", answer(&["a"], &[])),
        ("/::ffff:10.0.0.1", answer(&["a"], &[])),
        ("/10.0.0.9", gone("/10.0.0.9")),
        ("other/10.0.0.1", gone("other/10.0.0.1")),
        ("nothing", gone("nothing")),
    ] {
        let mut peer = shop();
        peer.on_demand(&[name]);
        assert_eq!(peer.pull(), want, "{name}");
    }
}

#[test]
fn the_pods_of_its_own_node_come_unasked() {
    let mut peer = shop();
    let mut own = workload("own", &["10.0.1.1"], &[]);
    own.node = Some("node-1".parse().unwrap());
    peer.set(&own);
    peer.on_demand(&[]);
    assert_eq!(peer.pull(), answer(&["own"], &[]));
    peer.ack();
    let later = Workload { node: own.node.clone(), ..workload("later", &["10.0.1.2"], &[]) };
    peer.set(&later);
    assert_eq!(peer.pull(), answer(&["later"], &[]));
    peer.ack();
    own.node = Some("node-2".parse().unwrap());
    peer.set(&own);
    assert_eq!(peer.pull(), answer(&[], &[&uid("own")]));
}

#[test]
fn who_asked_for_a_service_follows_its_workloads() {
    let mut peer = shop();
    peer.on_demand(&["/10.96.0.1"]);
    peer.drain().unwrap();
    peer.set(&workload("d", &["10.0.0.4"], &["shop"]));
    peer.set(&workload("c", &["10.0.0.33"], &[]));
    assert_eq!(peer.pull(), answer(&["d"], &[]));
    peer.ack();
    peer.set(&workload("a", &["10.0.0.1"], &[]));
    peer.remove("b");
    assert_eq!(peer.pull(), answer(&[], &[&uid("a"), &uid("b")]));
    peer.ack();
    // The address is another's now: so are the workloads meant by it.
    peer.set_service(&service("shop", &["10.96.0.9"]));
    assert_eq!(peer.pull(), answer(&[], &[&uid("d"), &service_name("shop")]));
    peer.ack();
    peer.set_service(&service("shop", &["10.96.0.1"]));
    assert_eq!(peer.pull(), answer(&["d", "shop"], &[]));
}

#[test]
fn a_name_nobody_has_is_sent_when_somebody_has_it() {
    let mut peer = shop();
    peer.on_demand(&["/10.0.0.9"]);
    peer.drain().unwrap();
    peer.set(&workload("late", &["10.0.0.9"], &[]));
    assert_eq!(peer.pull(), answer(&["late"], &[]));
}

#[test]
fn what_is_not_asked_for_any_more_goes_unless_it_is_asked_for_otherwise() {
    let mut peer = shop();
    peer.on_demand(&["/10.96.0.1", "/10.0.0.2"]);
    peer.drain().unwrap();
    peer.unsubscribe("/10.96.0.1");
    assert_eq!(peer.pull(), answer(&[], &[&uid("a"), &service_name("shop")]));
    assert_eq!(peer.has.len(), 1);
}

#[test]
fn who_asks_again_hears_again() {
    let mut peer = shop();
    peer.on_demand(&["/10.0.0.3"]);
    peer.drain().unwrap();
    peer.subscribe("/10.0.0.3");
    assert_eq!(peer.pull(), answer(&["c"], &[]));
}

#[test]
fn one_response_is_under_way_and_what_changes_meanwhile_is_one_more() {
    let mut peer = shop();
    peer.ask(|_| {});
    peer.pull();
    for last in 1..=100 {
        peer.set(&workload("c", &[&format!("10.1.0.{last}")], &[]));
        assert_eq!(peer.pull(), None, "a response is under way");
    }
    assert_eq!(peer.ack(), Settled::Ack);
    assert_eq!(peer.pull(), answer(&["c"], &[]));
    assert_eq!(peer.has[&uid("c")], peer.table.get(&uid("c")).unwrap().bytes);
    peer.ack();
    assert_eq!(peer.pull(), None);
}

#[test]
fn an_answer_with_another_nonce_settles_nothing_and_a_refusal_is_kept_by_its_beginning() {
    let mut peer = shop();
    peer.ask(|_| {});
    peer.pull();
    assert_eq!(peer.ask(|wire| wire.response_nonce = "77".to_owned()), Settled::Nothing);
    assert!(peer.view.standing(&peer.table).in_flight);
    let nonce = peer.nonce.clone();
    let refused = peer.ask(|wire| {
        wire.response_nonce = nonce.clone();
        wire.error_detail = Some(Status { code: 3, message: "é".repeat(4000) });
    });
    assert_eq!(refused, Settled::Nack);
    let standing = peer.view.standing(&peer.table);
    assert_eq!(standing.nacked, Some((nonce, "é".repeat(512))));
    assert_eq!((standing.acked, standing.in_flight, standing.pending), (None, false, false));
    assert_eq!(peer.pull(), None, "what was refused is not sent again");
}

#[test]
fn who_says_what_it_has_gets_the_differences() {
    let mut before = shop();
    before.ask(|_| {});
    before.drain().unwrap();
    let version = |(name, version): (&String, &String)| VersionEntry { name: name.clone(), version: version.clone() };
    let versions: Vec<VersionEntry> = before.versions.iter().map(version).collect();
    let mut peer = shop();
    peer.ask(|wire| wire.initial_resource_versions = versions.clone());
    assert_eq!(peer.pull(), answer(&[], &[]), "nothing differs");

    let mut peer = shop();
    peer.set(&workload("c", &["10.0.0.33"], &[]));
    peer.remove("a");
    let mut never = versions.clone();
    never.push(VersionEntry { name: "never/there".to_owned(), version: "1".to_owned() });
    peer.ask(|wire| wire.initial_resource_versions = never);
    assert_eq!(peer.pull(), answer(&["c"], &[&uid("a"), "never/there"]));

    // Names without versions: as ztunnel says what it had asked for.
    let mut peer = shop();
    peer.ask(|wire| {
        wire.resource_names_subscribe = vec!["*".to_owned()];
        wire.resource_names_unsubscribe = vec!["*".to_owned()];
        let names = [uid("a"), "/10.0.0.3".to_owned()];
        let entry = |name| VersionEntry { name, version: String::new() };
        wire.initial_resource_versions = names.map(entry).into();
    });
    assert_eq!(peer.pull(), answer(&["a", "c"], &[]));
}

#[test]
fn who_has_everything_says_so_in_one_number() {
    let mut peer = shop();
    let sum = VersionEntry { name: "*".to_owned(), version: peer.table.sum().to_string() };
    peer.ask(|wire| wire.initial_resource_versions = vec![sum.clone()]);
    assert_eq!(peer.pull(), answer(&[], &[]));
    peer.ack();
    peer.remove("a");
    assert_eq!(peer.pull(), answer(&[], &[&uid("a")]));
    let mut peer = shop();
    peer.set(&workload("c", &["10.0.0.33"], &[]));
    peer.ask(|wire| wire.initial_resource_versions = vec![sum]);
    assert_eq!(peer.pull(), answer(&["a", "b", "c", "shop"], &[]), "another number says nothing");
}

#[test]
fn a_long_answer_comes_in_parts_and_all_but_the_last_say_so() {
    for names in [vec![], vec!["*".to_owned(), service_name("shop"), "/10.0.0.3".to_owned(), "x/y".to_owned()]] {
        let mut peer = shop();
        peer.most = 1;
        peer.ask(|wire| {
            wire.resource_names_unsubscribe = names.iter().take(1).cloned().collect();
            wire.resource_names_subscribe = names.clone();
        });
        let mut parts = Vec::new();
        while peer.pull().is_some() {
            parts.push(peer.view.standing(&peer.table).sent.unwrap().1.ends_with(MORE));
            peer.ack();
        }
        assert_eq!(peer.has.len(), 4);
        let last = parts.pop();
        assert_eq!(last, Some(false), "{parts:?}");
        assert!(parts.len() >= 3 && parts.iter().all(|more| *more), "{parts:?}");
    }
}

#[test]
fn who_missed_removals_begins_again() {
    let mut peer = Peer::new(Table::remembering(1));
    peer.set(&workload("a", &["10.0.0.1"], &[]));
    peer.set(&workload("b", &["10.0.0.2"], &[]));
    peer.ask(|_| {});
    peer.pull();
    peer.remove("a");
    peer.remove("b");
    peer.ack();
    assert_eq!(peer.try_pull(), Err(Behind));
    // Who asked by name is known to the name: nothing is missed.
    let mut peer = Peer::new(Table::remembering(1));
    peer.set(&workload("a", &["10.0.0.1"], &[]));
    peer.set(&workload("b", &["10.0.0.2"], &[]));
    peer.on_demand(&["/10.0.0.1", "/10.0.0.2"]);
    peer.drain().unwrap();
    peer.remove("a");
    peer.remove("b");
    assert_eq!(peer.pull(), answer(&[], &[&uid("a"), &uid("b")]));
}

#[test]
fn what_is_too_much_is_refused_by_the_limit() {
    let read = |change: fn(&mut DeltaDiscoveryRequest)| {
        let mut wire = request();
        change(&mut wire);
        Request::read(wire).unwrap_err()
    };
    let error = read(|wire| wire.resource_names_subscribe = vec!["n".to_owned(); MAX_NAMES_PER_REQUEST + 1]);
    assert_eq!(error, RequestError::Names { count: MAX_NAMES_PER_REQUEST + 1 });
    assert!(error.is_too_much() && error.to_string().contains("10000"), "{error}");
    let error = read(|wire| wire.resource_names_unsubscribe = vec!["n".repeat(1025)]);
    assert_eq!(error, RequestError::Name { len: 1025 });
    assert!(matches!(read(|wire| wire.resource_names_subscribe = vec![String::new()]), RequestError::Name { len: 0 }));
    assert!(matches!(read(|wire| wire.type_url = "x".to_owned()), RequestError::Type(_)));
    let error = read(|wire| wire.initial_resource_versions = vec![VersionEntry::default(); 200_001]);
    assert!(matches!(error, RequestError::Versions { .. }) && error.is_too_much());

    let mut peer = Peer::new(Table::default());
    peer.on_demand(&[]);
    let mut ask = |from: usize| {
        let names = (from..from + MAX_NAMES_PER_REQUEST).map(|name| name.to_string()).collect();
        let wire = DeltaDiscoveryRequest { resource_names_subscribe: names, ..request() };
        peer.view.request(&peer.table, Request::read(wire).unwrap())
    };
    for from in (0..MAX_NAMES).step_by(MAX_NAMES_PER_REQUEST) {
        ask(from).unwrap();
    }
    assert_eq!(ask(MAX_NAMES), Err(RequestError::TotalNames(Kind::Address)));
}

mod law;
