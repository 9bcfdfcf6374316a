//! Whatever happens to a mesh and to a stream: in the end the subscriber has what it asked for.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// What may happen between a mesh and one of its subscribers.
#[derive(Debug, Clone)]
enum Step {
    Workload {
        name: &'static str,
        ip: u8,
        services: Vec<&'static str>,
        node: Option<&'static str>,
    },
    NoWorkload(&'static str),
    Service {
        name: &'static str,
        vips: Vec<&'static str>,
    },
    NoService(&'static str),
    Subscribe(String),
    Unsubscribe(String),
    Pull,
    Ack,
    Nack,
    /// The stream breaks, perhaps with a response in it that never arrives.
    Reconnect {
        lose: bool,
        sum: bool,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let pods = || select(vec!["a", "b", "c"]);
    let shops = || select(vec!["s", "t"]);
    let vips = vec(select(vec!["10.96.0.1", "10.96.0.2", "10.97.0.0/24"]), 0..3);
    let mut names: Vec<String> =
        ["*", "/10.96.0.1", "/10.96.0.2", "/10.97.0.5", "/10.0.0.1", "/10.0.0.2"].map(Into::into).into();
    names.extend([uid("a"), uid("b"), service_name("s"), service_name("t")]);
    let node = proptest::option::of(select(vec!["node-1", "node-2"]));
    prop_oneof![
        4 => (pods(), 1..4_u8, vec(shops(), 0..3), node)
            .prop_map(|(name, ip, services, node)| Step::Workload { name, ip, services, node }),
        2 => pods().prop_map(Step::NoWorkload),
        2 => (shops(), vips).prop_map(|(name, vips)| Step::Service { name, vips }),
        1 => shops().prop_map(Step::NoService),
        3 => select(names.clone()).prop_map(Step::Subscribe),
        2 => select(names).prop_map(Step::Unsubscribe),
        4 => Just(Step::Pull),
        4 => Just(Step::Ack),
        1 => Just(Step::Nack),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(lose, sum)| Step::Reconnect { lose, sum }),
    ]
}

/// A subscriber, the mesh as plain lists, and what was asked for.
struct Scene {
    peer: Peer,
    workloads: BTreeMap<&'static str, Workload>,
    services: BTreeMap<&'static str, Service>,
    asked: BTreeSet<String>,
    all: bool,
}

impl Scene {
    fn reconnect(&mut self, sum: bool) {
        self.peer.view = Subscription::new(Kind::Address, Some("node-1".parse().unwrap()));
        let entry = |(name, version): (&String, &String)| VersionEntry { name: name.clone(), version: version.clone() };
        let mut versions: Vec<VersionEntry> = self.peer.versions.iter().map(entry).collect();
        if sum {
            let mut all = crate::kind::Sum::default();
            self.peer.versions.iter().for_each(|(name, version)| all.add(name, version.parse().unwrap()));
            versions.push(VersionEntry { name: "*".to_owned(), version: all.to_string() });
        }
        let (asked, all) = (&self.asked, self.all);
        self.peer.ask(|wire| {
            wire.initial_resource_versions = versions;
            wire.resource_names_subscribe = ["*".to_owned()].into_iter().chain(asked.iter().cloned()).collect();
            wire.resource_names_unsubscribe = if all { Vec::new() } else { vec!["*".to_owned()] };
        });
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Workload { name, ip, services, node } => {
                let mut workload = workload(name, &[&format!("10.0.0.{ip}")], &services);
                workload.node = node.map(|node| node.parse().unwrap());
                self.peer.set(&workload);
                self.workloads.insert(name, workload);
            }
            Step::NoWorkload(name) => {
                self.peer.remove(name);
                self.workloads.remove(name);
            }
            Step::Service { name, vips } => {
                let service = service(name, &vips);
                self.peer.set_service(&service);
                self.services.insert(name, service);
            }
            Step::NoService(name) => {
                self.peer.table.remove(&service_name(name));
                self.services.remove(name);
            }
            Step::Subscribe(name) => {
                self.peer.subscribe(&name);
                self.note(name, true);
            }
            Step::Unsubscribe(name) => {
                self.peer.unsubscribe(&name);
                self.note(name, false);
            }
            Step::Pull => {
                if self.peer.try_pull().is_err() {
                    self.reconnect(false);
                }
            }
            Step::Ack => drop(self.peer.ack()),
            Step::Nack => {
                let nonce = self.peer.nonce.clone();
                self.peer.ask(|wire| {
                    wire.response_nonce = nonce;
                    wire.error_detail = Some(Status::default());
                });
            }
            Step::Reconnect { lose, sum } => {
                if lose {
                    drop(self.peer.view.next(&self.peer.table, self.peer.most));
                }
                self.reconnect(sum);
            }
        }
    }

    fn note(&mut self, name: String, on: bool) {
        match (name.as_str(), on) {
            ("*", _) => self.all = on,
            (_, true) => drop(self.asked.insert(name)),
            (_, false) => drop(self.asked.remove(&name)),
        }
    }

    /// The names of what it should have: the rule as it is told, over all there is.
    fn wanted(&self) -> BTreeSet<String> {
        let address = |name: &String| name.strip_prefix('/').and_then(|ip| ip.parse::<IpAddr>().ok());
        let asked: Vec<IpAddr> = self.asked.iter().filter_map(address).collect();
        let named = |service: &Service| {
            let at = |ip: &IpAddr| service.vips.iter().any(|(_, range)| range.contains(ip));
            self.asked.contains(&service.name.to_string()) || asked.iter().any(at)
        };
        let behind = |workload: &Workload, service: &Service| {
            workload.services.iter().any(|place| place.service == service.name)
        };
        let wants = |workload: &&Workload| {
            self.all
                || workload.node.as_ref().is_some_and(|node| node.as_str() == "node-1")
                || self.asked.contains(workload.uid.as_str())
                || workload.addresses.iter().any(|ip| asked.contains(ip))
                || workload.services.iter().any(|place| self.asked.contains(&place.service.to_string()))
                || self.services.values().any(|service| behind(workload, service) && named(service))
        };
        let workloads = self.workloads.values().filter(wants).map(|workload| workload.uid.to_string());
        let services = self.services.values().filter(|service| self.all || named(service));
        workloads.chain(services.map(|service| service.name.to_string())).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn in_the_end_a_subscriber_has_what_it_asked_for_and_as_it_is(
        steps in vec(steps(), 0..60),
        all in any::<bool>(),
        most in select(vec![1_usize, 700, ALL_OF_IT]),
        remembered in select(vec![0_usize, 1, 3, 100]),
    ) {
        let peer = Peer { most, ..Peer::new(Table::remembering(remembered)) };
        let mut scene = Scene { peer, workloads: BTreeMap::new(), services: BTreeMap::new(), asked: BTreeSet::new(), all };
        scene.reconnect(false);
        for step in steps {
            scene.take(step);
        }
        if scene.peer.drain().is_err() {
            scene.reconnect(false);
            scene.peer.drain().unwrap();
        }
        let has: BTreeSet<String> = scene.peer.has.keys().cloned().collect();
        prop_assert_eq!(&has, &scene.wanted());
        for name in has {
            prop_assert_eq!(&scene.peer.has[&name], &scene.peer.table.get(&name).unwrap().bytes);
        }
        prop_assert!(!scene.peer.view.standing(&scene.peer.table).pending);
    }
}
