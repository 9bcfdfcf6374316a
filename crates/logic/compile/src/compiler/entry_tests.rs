//! ServiceEntries: what the mesh makes of them, and what a change of one changes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_manifest::{
    ConfigKind, ConfigObject, ConfigSpec, EntryAddress, EntryEndpoint, EntryPort, EntryResolution, Labels,
    ServiceEntrySpec, WaypointLabels,
};
use weir_model::{Locality, Port};

use super::{
    tests::{LABELS, SPACES, a_bond, ips, labels, origin},
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
                1 => spec.addresses = vec!["192.0.2.7/32".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
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
