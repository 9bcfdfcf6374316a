//! ServiceEntries: what the mesh makes of them, and what a change of one changes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_manifest::{
    ConfigKind, ConfigObject, ConfigSpec, EntryAddress, EntryEndpoint, EntryPort, EntryResolution, Labels,
    ServiceEntrySpec, WaypointLabels, WaypointUse,
};
use weir_model::{Locality, Membership, Port};

use super::{
    tests::{LABELS, SPACES, a_bond, compiler, ips, labels, origin, pod, service, settings},
    *,
};

const HOSTS: [&str; 6] = [
    "e.example",
    "f.example",
    "*.w.example",
    "s0.a.svc.cluster.local",
    "s1.a.svc.cluster.local",
    "s0.b.svc.cluster.local",
];

pub(super) fn entry(namespace: &str, name: &str, hosts: &[&str]) -> ConfigObject {
    let port = |name: &str, number, target| EntryPort {
        name: name.into(),
        number: Port::new(number).unwrap(),
        protocol: "".into(),
        target,
    };
    let spec = ServiceEntrySpec {
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        addresses: Vec::new(),
        ports: vec![port("http", 80, None), port("tcp", 81, Port::new(8181))],
        location: Default::default(),
        resolution: EntryResolution::Static,
        endpoints: Vec::new(),
        selector: None,
        export_to: Default::default(),
        subject_alt_names: Vec::new(),
        allotted: Vec::new(),
        waypoint: WaypointLabels::default(),
        remarks: Vec::new(),
    };
    ConfigObject {
        origin: origin(),
        kind: ConfigKind::ServiceEntry,
        namespace: namespace.parse().unwrap(),
        name: name.into(),
        labels: Labels::new(),
        annotations: Labels::new(),
        created: None,
        generation: None,
        spec: ConfigSpec::ServiceEntry(Box::new(spec)),
    }
}

pub(super) fn entry_spec(object: &mut ConfigObject) -> &mut ServiceEntrySpec {
    let ConfigSpec::ServiceEntry(spec) = &mut object.spec else { panic!("no ServiceEntry") };
    spec
}

pub(super) fn entry_endpoint(ip: IpAddr) -> EntryEndpoint {
    EntryEndpoint {
        address: EntryAddress::Ip(ip),
        ports: BTreeMap::new(),
        labels: Labels::new(),
        network: None,
        locality: Locality::default(),
        weight: None,
        service_account: None,
    }
}

pub(super) fn an_entry() -> impl Strategy<Value = Object> {
    let spot = (0_usize..4, any::<bool>(), 0_u8..6).prop_map(|(octet, six, odd)| {
        let mut one = entry_endpoint(ips(octet)[usize::from(six)]);
        match odd {
            0 => one.network = Some("far".parse().unwrap()),
            1 => drop(one.ports.insert("http".into(), Port::new(8080).unwrap())),
            2 => one.address = EntryAddress::Unix("/run/x".into()),
            _ => {}
        }
        one
    });
    let behind = (prop::collection::vec(spot, 0..4), 0_usize..8);
    let name = (0_usize..2, 0_usize..3, 0_u8..3);
    (name, 0_usize..6, 0_usize..6, behind, 0_u8..12, a_bond()).prop_map(
        |((space, name, age), host, other, (endpoints, selector), odd, bond)| {
            let hosts: BTreeSet<&str> = [HOSTS[host], HOSTS[other]].into();
            let hosts: Vec<&str> = hosts.into_iter().collect();
            let mut one = entry(SPACES[space], &format!("x{name}"), &hosts);
            one.created = (age > 0).then(|| format!("2026-01-0{age}T00:00:00Z").into());
            if odd == 0 {
                one.labels.insert("networking.istio.io/enable-autoallocate-ip".into(), "false".into());
            }
            let spec = entry_spec(&mut one);
            spec.waypoint = bond;
            match odd {
                1 => spec.addresses = ["192.0.2.7/32", "2001:db8::/64"].map(|net| net.parse().unwrap()).into(),
                7 => {
                    spec.addresses = ["10.96.0.1/32", "10.0.0.2/32", "fd00::/16"].map(|net| net.parse().unwrap()).into()
                }
                2 => spec.allotted = vec![(None, "240.240.0.9".parse().unwrap())],
                3 => spec.resolution = EntryResolution::Dns,
                4 | 5 => spec.resolution = EntryResolution::None,
                6 => spec.ports.truncate(1),
                _ => {}
            }
            match selector {
                0..5 => spec.selector = Some(labels(LABELS[selector])),
                _ => spec.endpoints = endpoints,
            }
            Object::Config(one)
        },
    )
}

/// The compiler of these, and the names of services and workloads that the last change was about.
fn told(compiler: &mut Compiler) -> Vec<String> {
    let delta = compiler.take();
    let sign = |there: bool| if there { "" } else { "-" };
    let services = delta.services.iter().map(|(name, now)| format!("{}{name}", sign(now.is_some())));
    let last = |uid: &WorkloadUid| uid.as_str().rsplit('/').next().unwrap().to_owned();
    let workloads = delta.workloads.iter().map(|(uid, now)| format!("{}{}", sign(now.is_some()), last(uid)));
    services.chain(workloads).collect()
}

fn with(mut object: ConfigObject, change: impl FnOnce(&mut ServiceEntrySpec)) -> Object {
    change(entry_spec(&mut object));
    Object::Config(object)
}

/// The services a workload stands behind, with their ports.
fn behind(compiler: &Compiler, uid: &str) -> Vec<String> {
    let workloads = compiler.mesh().workloads;
    let workload = workloads.iter().find(|one| one.uid.as_str().ends_with(uid)).unwrap();
    let ports = |one: &Membership| {
        one.ports.iter().map(|(port, target)| format!("{port}:{target}")).collect::<Vec<_>>().join(" ")
    };
    workload.services.iter().map(|one| format!("{} {}", one.service.hostname, ports(one))).collect()
}

#[test]
fn endpoints_of_both_families_stand_behind_every_host() {
    let object = with(entry("a", "x", &["e.example", "f.example"]), |spec| {
        let mut six = entry_endpoint("2001:db8::1".parse().unwrap());
        six.ports.insert("http".into(), Port::new(8080).unwrap());
        spec.endpoints = vec![entry_endpoint("192.0.2.1".parse().unwrap()), six];
    });
    let mut compiler = Compiler::new(settings());
    compiler.set(object.clone());
    assert_eq!(told(&mut compiler), ["a/e.example", "a/f.example", "192.0.2.1", "2001:db8::1"]);
    assert_eq!(behind(&compiler, "192.0.2.1"), ["e.example 80:80 81:8181", "f.example 80:80 81:8181"]);
    assert_eq!(behind(&compiler, "2001:db8::1"), ["e.example 80:8080 81:8181", "f.example 80:8080 81:8181"]);
    let vips: Vec<_> = compiler.world().services().map(|one| one.vips.len()).collect();
    assert_eq!(vips, [2, 2]);
    compiler.set(object.clone());
    assert_eq!(told(&mut compiler), [""; 0]);
    compiler.remove(&object.key());
    assert_eq!(told(&mut compiler), ["-a/e.example", "-a/f.example", "-192.0.2.1", "-2001:db8::1"]);
}

#[test]
fn an_endpoint_that_is_a_pod_is_that_pod() {
    let [four, six] = [ips(1)[0], ips(1)[1]];
    for ip in [four, six] {
        let object = with(entry("a", "x", &["e.example"]), |spec| spec.endpoints = vec![entry_endpoint(ip)]);
        let mut compiler = compiler([object]);
        assert_eq!(behind(&compiler, &ip.to_string()), ["e.example 80:80 81:8181"]);
        // Whatever its namespace.
        compiler.set(Object::Pod(pod("b", "p", 1, "")));
        assert_eq!(told(&mut compiler), ["p".to_owned(), format!("-{ip}")]);
        assert_eq!(behind(&compiler, "b/p"), ["e.example 80:80 81:8181"]);
        compiler.remove(&Object::Pod(pod("b", "p", 1, "")).key());
        assert_eq!(told(&mut compiler), ["-p".to_owned(), ip.to_string()]);
    }
    let far = with(entry("a", "x", &["e.example"]), |spec| {
        let network = Some("far".parse().unwrap());
        spec.endpoints = vec![EntryEndpoint { network, ..entry_endpoint(ips(1)[0]) }];
    });
    let compiler = compiler([far, Object::Pod(pod("b", "p", 1, ""))]);
    assert_eq!(behind(&compiler, "b/p"), [""; 0], "an address of another network is somebody else");
}

#[test]
fn pods_that_are_selected_stand_behind_it() {
    let object = with(entry("a", "x", &["e.example"]), |spec| spec.selector = Some(labels("app=x")));
    let pods = [pod("a", "p", 1, "app=x"), pod("a", "q", 2, "app=y"), pod("b", "r", 3, "app=x")].map(Object::Pod);
    let mut compiler = compiler(pods);
    compiler.set(object);
    assert_eq!(told(&mut compiler), ["a/e.example", "p"]);
    compiler.set(Object::Pod(pod("a", "q", 2, "app=x")));
    assert_eq!(told(&mut compiler), ["q"]);
    assert_eq!(behind(&compiler, "a/q"), ["e.example 80:80 81:8181"]);
    compiler.set(with(entry("a", "x", &["e.example"]), |spec| spec.selector = Some(Labels::new())));
    assert_eq!(told(&mut compiler), ["p", "q"], "a selector that asks for nothing selects nothing");
}

#[test]
fn labels_of_endpoints_are_those_of_their_workloads() {
    let endpoint =
        |labelled: &str| EntryEndpoint { labels: labels(labelled), ..entry_endpoint("2001:db8::1".parse().unwrap()) };
    let object = with(entry("a", "x", &["e.example"]), |spec| {
        spec.endpoints = vec![endpoint("v=1"), endpoint("v=2")];
    });
    let compiler = compiler([object, Object::Pod(pod("a", "p", 1, "v=3"))]);
    let told: BTreeMap<WorkloadUid, Labels> = compiler.labels().collect();
    let workloads = compiler.mesh().workloads;
    let found: Vec<_> = workloads.iter().filter_map(|one| told.get(&one.uid).cloned()).collect();
    assert_eq!(found, [labels("v=3"), labels("v=1"), labels("v=2")]);
    assert_eq!(told.len(), 3);
}

#[test]
fn a_host_that_kubernetes_has_is_kubernetes_wherever_it_is_declared() {
    let host = "s.a.svc.cluster.local";
    let entries = ["a", "b"].map(|space| {
        with(entry(space, "x", &[host]), |spec| spec.endpoints = vec![entry_endpoint("192.0.2.1".parse().unwrap())])
    });
    let mut compiler = compiler(entries);
    let service = Object::Service(service("a", "s", ""));
    compiler.set(service.clone());
    let gone = "-192.0.2.1".to_owned();
    assert_eq!(told(&mut compiler), [format!("a/{host}"), format!("-b/{host}"), gone.clone(), gone]);
    assert_eq!(&*compiler.world().services().next().unwrap().short_name, "s");
    compiler.remove(&service.key());
    assert_eq!(told(&mut compiler).len(), 4);
    assert_eq!(&*compiler.world().services().next().unwrap().short_name, host);
}

#[test]
fn an_address_of_a_pod_or_of_a_kubernetes_service_is_not_taken_from_it() {
    let object = with(entry("a", "x", &["e.example"]), |spec| {
        spec.addresses = ["10.96.0.1/32", "fd00:96::1/128", "10.0.0.1/32", "fd00::1/128", "10.0.0.0/8"]
            .map(|net| net.parse().unwrap())
            .into();
    });
    let vips = |compiler: &Compiler| -> Vec<String> {
        let service = compiler.world().services().find(|one| &*one.short_name == "e.example").unwrap();
        service.vips.iter().map(|(_, vip)| vip.to_string()).collect()
    };
    let mut compiler = compiler([object]);
    assert_eq!(vips(&compiler).len(), 5);
    compiler.set(Object::Service(service("b", "s", "")));
    compiler.take();
    assert_eq!(vips(&compiler), ["10.0.0.1/32", "fd00::1/128", "10.0.0.0/8"]);
    compiler.set(Object::Pod(pod("b", "p", 1, "")));
    compiler.take();
    assert_eq!(vips(&compiler), ["10.0.0.0/8"]);
    compiler.remove(&Object::Service(service("b", "s", "")).key());
    compiler.remove(&Object::Pod(pod("b", "p", 1, "")).key());
    compiler.take();
    assert_eq!(vips(&compiler).len(), 5);
}

#[test]
fn the_oldest_of_a_namespace_has_the_host_and_other_namespaces_have_their_own() {
    let aged = |space: &str, name: &str, age: Option<&str>, ip: &str| {
        let mut object = entry(space, name, &["e.example"]);
        object.created = age.map(Into::into);
        with(object, |spec| spec.endpoints = vec![entry_endpoint(ip.parse().unwrap())])
    };
    let mut compiler = compiler([
        aged("a", "x", Some("2026-01-02T00:00:00Z"), "192.0.2.1"),
        aged("a", "y", Some("2026-01-01T00:00:00Z"), "192.0.2.2"),
        aged("b", "z", Some("2026-01-03T00:00:00Z"), "192.0.2.3"),
    ]);
    let uids = |compiler: &Compiler| -> Vec<String> {
        compiler.mesh().workloads.iter().map(|one| one.uid.as_str().rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(uids(&compiler), ["192.0.2.2", "192.0.2.3"]);
    compiler.set(aged("a", "x", None, "192.0.2.1"));
    assert_eq!(told(&mut compiler), ["192.0.2.1", "-192.0.2.2"]);
    compiler.remove(&aged("a", "x", None, "192.0.2.1").key());
    assert_eq!(told(&mut compiler), ["-192.0.2.1", "192.0.2.2"]);
}

#[test]
fn a_waypoint_is_on_the_way_to_its_hosts_and_one_that_cannot_serve_them_is_a_refusal() {
    let bond =
        WaypointLabels { uses: Some(WaypointUse::Gateway { namespace: None, name: "w".into() }), required: false };
    for (resolution, services, refused) in [
        (EntryResolution::Static, [true, true], [false, false]),
        (EntryResolution::None, [false, true], [false, false]),
        (EntryResolution::Dns, [true, true], [true, false]),
        (EntryResolution::DynamicDns, [true, true], [true, true]),
    ] {
        let object = |waypoint: &WaypointLabels| {
            with(entry("a", "x", &["e.example"]), |spec| {
                (spec.resolution, spec.waypoint) = (resolution, waypoint.clone());
                spec.addresses = vec!["192.0.2.0/24".parse().unwrap()];
            })
        };
        let mut one = compiler([object(&WaypointLabels::default())]);
        for (waypoint, (is, refused)) in
            [WaypointLabels::default(), bond.clone()].iter().zip(services.into_iter().zip(refused))
        {
            one.set(object(waypoint));
            one.take();
            let service = one.world().services().next();
            assert_eq!(service.is_some(), is, "{resolution:?}");
            assert_eq!(service.is_some_and(|one| one.unsupported.is_some()), refused, "{resolution:?}");
            assert_eq!(service.is_some_and(|one| one.waypoint.is_some()), is && *waypoint == bond, "{resolution:?}");
        }
    }
}

#[test]
fn an_entry_that_is_not_legal_any_more_stays_what_it_was() {
    let legal = with(entry("a", "x", &["e.example"]), |_| {});
    let mut illegal = entry("a", "x", &["e.example"]);
    illegal.spec = ConfigSpec::Rejected("spec.hosts: expected at least one host".into());
    let mut compiler = compiler([legal]);
    compiler.set(Object::Config(illegal.clone()));
    assert_eq!(told(&mut compiler), [""; 0]);
    compiler.remove(&Object::Config(illegal.clone()).key());
    assert_eq!(told(&mut compiler), ["-a/e.example"]);
    compiler.set(Object::Config(illegal));
    assert_eq!(told(&mut compiler), [""; 0]);
}

#[test]
fn a_host_without_addresses_keeps_what_it_was_given_when_others_come_and_go() {
    let mut compiler = compiler([with(entry("a", "x0", &["h.example"]), |_| {})]);
    let before = compiler.world().services().next().unwrap().vips.clone();
    for i in 0..50 {
        let mut object = entry("a", &format!("x1{i}"), &[&format!("h{i}.example")]);
        object.created = Some("2026-01-01T00:00:00Z".into());
        compiler.set(Object::Config(object));
        assert_eq!(told(&mut compiler), [format!("a/h{i}.example")]);
    }
    let name = ServiceName { namespace: "a".parse().unwrap(), hostname: "h.example".parse().unwrap() };
    assert_eq!(compiler.world().service(&name).unwrap().vips, before);
}
