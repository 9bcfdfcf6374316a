//! Whatever objects come, change and go: the mesh is that of the objects there are.

use std::collections::BTreeMap;

use weir_manifest::{LabelSelector, RouteNamespaces, WaypointFor};

use super::{
    super::{entry_tests as entries, policy_tests as policies},
    *,
};
use crate::{
    gateway::{GatewayFacts, GatewayRole, Gateways},
    policy::waypoint,
};

fn a_pod() -> impl Strategy<Value = Object> {
    let place = (0_usize..2, 0_usize..5, 0_usize..4, 0_usize..5);
    (place, 0_u8..15, 0_u8..3, any::<bool>(), a_bond()).prop_map(
        |((space, name, octet, of), odd, node, healthy, bond)| {
            let mut one = pod(SPACES[space], &format!("p{name}"), octet, LABELS[of]);
            one.health = if healthy { Health::Healthy } else { Health::Unhealthy };
            one.node = (node > 0).then(|| format!("n{node}").parse().unwrap());
            match odd {
                0 => one.network_mode = NetworkMode::HostNetwork,
                1 => one.phase = Phase::Failed,
                2 => one.network = Some("far".parse().unwrap()),
                3 => one.addresses.clear(),
                4 => one.addresses.truncate(1),
                5 => one.ports.clear(),
                6 => one.incarnation = "2".into(),
                7 | 9..13 => one.mode = Some(DataplaneMode::Ambient),
                8 => drop(one.labels.insert(waypoint::GATEWAY.into(), "w1".into())),
                _ => {}
            }
            one.waypoint = bond;
            Object::Pod(one)
        },
    )
}

fn a_service() -> impl Strategy<Value = Object> {
    (0_usize..2, 0_usize..3, 0_usize..5, 0_u8..6, a_bond()).prop_map(|(space, name, selector, odd, bond)| {
        let mut one =
            service(SPACES[space], &if name == 2 { "w1".to_owned() } else { format!("s{name}") }, LABELS[selector]);
        match odd {
            0 => one.health_policy = HealthPolicy::All,
            1 => one.backing = Backing::ExternalName,
            2 => one.ports.truncate(1),
            3 => one.cluster_ips.clear(),
            _ => {}
        }
        one.waypoint = bond;
        Object::Service(one)
    })
}

fn a_slice() -> impl Strategy<Value = Object> {
    let parts = (0_usize..4, any::<bool>(), any::<bool>(), 0_usize..5, 0_usize..2);
    let one = parts.prop_map(|(octet, ready, named, name, space)| {
        let name = format!("p{name}");
        let mut one = endpoint(octet, named.then_some((SPACES[space], name.as_str())));
        if !ready {
            one.health = Health::Unhealthy;
        }
        one
    });
    let endpoints = prop::collection::vec(one, 0..4);
    (0_usize..2, 0_usize..3, 0_usize..4, endpoints, any::<bool>()).prop_map(|(space, name, of, endpoints, both)| {
        let mut one = slice(SPACES[space], &format!("e{name}"), &format!("s{of}"), endpoints);
        one.service = one.service.filter(|_| of < 3);
        if both {
            one.ports.push(SlicePort { name: "b".into(), port: None });
        }
        Object::EndpointSlice(one)
    })
}

fn an_object() -> impl Strategy<Value = Object> {
    let modes = vec![None, Some(DataplaneMode::Ambient), Some(DataplaneMode::None)];
    prop_oneof![
        4 => a_pod(),
        2 => a_service(),
        3 => a_slice(),
        1 => (0_usize..2, prop::sample::select(modes), a_bond(), any::<bool>()).prop_map(|(space, mode, bond, team)| {
            let mut one = namespace(SPACES[space], mode);
            if let Object::Namespace(one) = &mut one {
                one.waypoint = bond;
                one.labels = if team { labels("team=t") } else { Labels::new() };
            }
            one
        }),
        1 => (1_u8..3, 0_u8..2).prop_map(|(name, zone)| node(&format!("n{name}"), &format!("z{zone}"))),
        4 => policies::a_policy().prop_map(Object::Policy),
        3 => entries::an_entry(),
    ]
}

/// One thing that comes, goes or changes.
#[derive(Debug, Clone)]
enum Step {
    Object(Box<Object>),
    Gateway(Key, GatewayFacts),
}

fn a_gateway() -> impl Strategy<Value = Step> {
    let served = [WaypointFor::Service, WaypointFor::Workload, WaypointFor::All, WaypointFor::None];
    let selector = |text: &str| LabelSelector { labels: labels(text), ..LabelSelector::default() };
    let allowed = [
        RouteNamespaces::Same,
        RouteNamespaces::All,
        RouteNamespaces::Selector(selector("kubernetes.io/metadata.name=a")),
        RouteNamespaces::Selector(selector("team=t")),
    ];
    let inbound = [None, Port::new(15088)];
    let choices = (prop::sample::select(served.to_vec()), prop::sample::select(allowed.to_vec()), 0_usize..2);
    ((0_usize..2, 1_u8..3), choices, prop::bool::weighted(0.2)).prop_map(
        move |((space, name), (waypoint_for, namespaces, how), other)| {
            let role = if other { GatewayRole::Other } else { GatewayRole::Waypoint };
            let key = Key { namespace: SPACES[space].parse().unwrap(), name: format!("w{name}").into() };
            Step::Gateway(key, GatewayFacts { role, waypoint_for, proxy: inbound[how], namespaces })
        },
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![12 => an_object().prop_map(|one| Step::Object(Box::new(one))), 1 => a_gateway()]
}

/// A mesh that takes deltas, and holds them to their word.
#[derive(Default)]
struct Follower {
    workloads: BTreeMap<String, Workload>,
    services: BTreeMap<String, Service>,
    policies: BTreeMap<String, weir_model::Policy>,
    statuses: BTreeMap<PolicyName, crate::PolicyStatus>,
}

fn follow<K: ToString, V: PartialEq>(held: &mut BTreeMap<String, V>, changes: Vec<(K, Option<V>)>) {
    for (key, now) in changes {
        let key = key.to_string();
        assert!(held.get(&key) != now.as_ref(), "{key} is said to have changed, and is what it was");
        match now {
            Some(now) => drop(held.insert(key, now)),
            None => drop(held.remove(&key)),
        }
    }
}

impl Follower {
    fn take(&mut self, compiler: &mut Compiler) {
        let delta = compiler.take();
        follow(&mut self.workloads, delta.workloads);
        follow(&mut self.services, delta.services);
        follow(&mut self.policies, delta.policies);
        for (object, now) in compiler.take_statuses() {
            let name = policy::name(&object.kind, object.namespace.as_ref().unwrap(), &object.name).unwrap();
            assert!(self.statuses.get(&name) != now.as_ref(), "{object:?} is what it was");
            match now {
                Some(now) => drop(self.statuses.insert(name, now)),
                None => drop(self.statuses.remove(&name)),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_came_and_went_the_mesh_is_that_of_the_objects_there_are(
        steps in prop::collection::vec((a_step(), 0_u8..8), 0..60),
    ) {
        let (mut compiler, mut follower) = (Compiler::new(settings()), Follower::default());
        let mut objects: BTreeMap<ObjectKey, Object> = BTreeMap::new();
        let mut gateways = BTreeMap::new();
        for (step, what) in steps {
            let object = match step {
                Step::Object(object) => *object,
                Step::Gateway(key, facts) => {
                    let facts = Some(facts).filter(|_| what > 1);
                    compiler.set_gateway(&key.namespace, &key.name, facts.clone());
                    gateways.remove(&key);
                    gateways.extend(facts.map(|facts| (key, facts)));
                    continue;
                }
            };
            match what {
                0 | 1 => {
                    compiler.remove(&object.key());
                    objects.remove(&object.key());
                }
                2 => follower.take(&mut compiler),
                _ => {
                    compiler.set(object.clone());
                    policies::keep(&mut objects, object);
                }
            }
        }
        follower.take(&mut compiler);
        prop_assert!(compiler.statuses().iter().eq(follower.statuses.values()), "{:?}", follower.statuses);
        let want = plain::mesh(&objects, &Gateways::from(gateways.clone()), &settings());
        prop_assert_eq!(compiler.mesh(), want.clone());
        prop_assert_eq!(compiler.world().len(), want.workloads.len());
        prop_assert_eq!(follower.workloads.into_values().collect::<Vec<_>>(), want.workloads);
        let mut services: Vec<_> = follower.services.into_values().collect();
        services.sort_by(|one, other| one.name.cmp(&other.name));
        prop_assert_eq!(services, want.services);
        let mut policies: Vec<_> = follower.policies.into_values().collect();
        policies.sort_by(|one, other| one.name.cmp(&other.name));
        prop_assert_eq!(policies, want.policies);
        prop_assert_eq!(compiler.take(), Delta::default());
        prop_assert!(compiler.index.is_tidy(), "{:?}", compiler.index);
        for key in objects.into_keys() {
            compiler.remove(&key);
        }
        for key in gateways.into_keys() {
            compiler.set_gateway(&key.namespace, &key.name, None);
        }
        compiler.take();
        prop_assert_eq!(compiler.world().len(), 0);
        prop_assert!(compiler.index.is_empty(), "{:?}", compiler.index);
        prop_assert!(compiler.required.is_empty(), "{:?}", compiler.required);
        compiler.take_statuses();
        prop_assert!(compiler.said.is_empty());
    }
}
