//! What is sent is what is read, and what cannot be read or honoured is said.

use proptest::prelude::*;
use weir_model::{Seen, Termination, Tunnel, WaypointDestination};

use super::*;
use crate::{
    proto::{ApplicationTunnel, GatewayAddress, WeightedWaypoint},
    testing::{service, services, workload, workloads},
};

proptest! {
    #[test]
    fn a_workload_is_read_as_it_was_sent(workload in workloads()) {
        let sent = Address::Workload(Box::new(workload));
        prop_assert_eq!(Address::decode(&sent.name(), &sent.encode()), Ok(sent));
    }

    #[test]
    fn a_service_is_read_as_it_was_sent(service in services()) {
        let sent = Address::Service(Box::new(service));
        prop_assert_eq!(Address::decode(&sent.name(), &sent.encode()), Ok(sent));
    }

    #[test]
    fn damaged_bytes_are_read_or_refused(workload in workloads(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let sent = Address::Workload(Box::new(workload));
        let mut bytes = sent.encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(read) = Address::decode(&sent.name(), &bytes) {
            prop_assert_eq!(Address::decode(&read.name(), &read.encode()), Ok(read));
        }
    }
}

fn read_workload(change: impl FnOnce(&mut proto::Workload)) -> Result<Workload, ConvertError> {
    let mut wire = workload_to(&workload("web", &["10.0.0.7", "fd00::7"], &["shop"]));
    change(&mut wire);
    workload::workload_from(Named("web"), &mut Texts::default(), wire)
}

fn read_service(change: impl FnOnce(&mut proto::Service)) -> Result<Service, ConvertError> {
    let mut wire = service_to(&service("shop", &["10.96.0.7", "fd00:1::7"]));
    change(&mut wire);
    service::service_from(Named("shop"), &mut Texts::default(), wire)
}

type Change<M> = fn(&mut M);

#[test]
fn what_a_workload_asks_for_beyond_this_version_is_named_and_its_addresses_are_known() {
    let cases: [(&str, Change<proto::Workload>); 13] = [
        ("waypoint", |wire| wire.waypoint = Some(GatewayAddress::default())),
        ("a waypoint by a range of addresses", |wire| wire.waypoint = Some(at(&[10, 0, 0, 0], Some(8)))),
        ("application_tunnel", |wire| wire.application_tunnel = Some(ApplicationTunnel { protocol: 2, port: 1 })),
        ("network_gateway", |wire| wire.network_gateway = Some(GatewayAddress::default())),
        ("application_tunnel", |wire| wire.application_tunnel = Some(ApplicationTunnel { protocol: 1, port: 0 })),
        ("native_tunnel with application_tunnel", |wire| {
            wire.native_tunnel = true;
            wire.application_tunnel = Some(ApplicationTunnel { protocol: 1, port: 1 });
        }),
        ("hostname", |wire| wire.hostname = "example.com".to_owned()),
        ("tunnel_protocol LEGACY_ISTIO_MTLS", |wire| wire.tunnel_protocol = 2),
        ("tunnel_protocol 3", |wire| wire.tunnel_protocol = 3),
        ("status 2", |wire| wire.status = 2),
        ("network_mode 2", |wire| wire.network_mode = 2),
        ("the extension \"x\"", |wire| {
            wire.extensions.push(proto::Extension { name: "x".to_owned(), config: None });
        }),
        ("waypoint, hostname", |wire| {
            (wire.waypoint, wire.hostname) = (Some(GatewayAddress::default()), "example.com".to_owned());
        }),
    ];
    for (field, change) in cases {
        let read = read_workload(change).unwrap();
        assert_eq!(read.unsupported.as_deref(), Some(format!("this version does not know {field}").as_str()));
        assert_eq!((read.addresses.len(), read.waypoint), (2, None), "{field}");
    }
    let read = read_workload(|wire| wire.application_tunnel = Some(ApplicationTunnel { protocol: 0, port: 1 }));
    let read = read.unwrap();
    assert_eq!((read.unsupported, read.termination), (None, Termination::Agent), "a tunnel of no protocol");
}

fn at(address: &[u8], length: Option<u32>) -> GatewayAddress {
    let address = proto::NetworkAddress { network: "net".to_owned(), address: address.to_vec(), length };
    GatewayAddress { hostname: None, address: Some(address), hbone_mtls_port: 0 }
}

fn called(namespace: &str, hostname: &str, hbone_mtls_port: u32) -> GatewayAddress {
    let hostname = Some(proto::NamespacedHostname { namespace: namespace.to_owned(), hostname: hostname.to_owned() });
    GatewayAddress { hostname, address: None, hbone_mtls_port }
}

#[test]
fn a_waypoint_is_read_as_istiod_sends_it() {
    let mapped = "::ffff:10.0.0.1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    for (wire, want) in [
        (called("gw", "w.gw.svc.cluster.local", 15008), "gw/w.gw.svc.cluster.local 15008"),
        (called("gw", "w.gw.svc.cluster.local", 16008), "gw/w.gw.svc.cluster.local 16008"),
        (called("gw", "w.gw.svc.cluster.local", 0), "gw/w.gw.svc.cluster.local 15008"),
        (at(&[10, 0, 0, 1], None), "net/10.0.0.1 15008"),
        (at(&[10, 0, 0, 1], Some(32)), "net/10.0.0.1 15008"),
        (at(&mapped, None), "net/10.0.0.1 15008"),
    ] {
        let workload = read_workload(|one| one.waypoint = Some(wire.clone())).unwrap();
        let service = read_service(|one| one.waypoint = Some(wire.clone())).unwrap();
        assert_eq!((workload.unsupported, service.unsupported), (None, None));
        assert_eq!(workload.waypoint, service.waypoint);
        let read = service.waypoint.unwrap();
        assert_eq!(format!("{read} {}", read.port), want);
    }
    for (wire, field) in [
        (called("", "w.gw", 0), "waypoint.hostname.namespace"),
        (called("gw", "w..gw", 0), "waypoint.hostname.hostname"),
        (called("gw", "w.gw", 65_536), "waypoint.hbone_mtls_port"),
        (at(&[10, 0, 0], None), "waypoint.address.address"),
    ] {
        let errors = [
            read_workload(|one| one.waypoint = Some(wire.clone())).unwrap_err().to_string(),
            read_service(|one| one.waypoint = Some(wire.clone())).unwrap_err().to_string(),
        ];
        assert!(errors.iter().all(|error| error.contains(&format!(": {field}: "))), "{errors:?}");
    }
    let both = GatewayAddress { address: at(&[10, 0, 0, 1], None).address, ..called("gw", "w.gw", 0) };
    assert!(read_workload(|one| one.waypoint = Some(both)).unwrap().unsupported.is_some());
}

#[test]
fn the_fields_are_those_of_istio() {
    let name = |name: &str| WaypointDestination::Service(name.parse().unwrap());
    let waypoint =
        Some(weir_model::WaypointAddress { destination: name("gw/w.gw"), port: crate::testing::port(15008) });
    // hostname 1 {namespace 1, hostname 2}, hbone_mtls_port 3.
    let message = b"\x0a\x0a\x0a\x02gw\x12\x04w.gw\x18\xa0\x75";
    let holds =
        |bytes: &[u8], tag: u8| bytes.windows(message.len() + 2).any(|some| some[0] == tag && some[2..] == *message);
    let web = Workload { waypoint: waypoint.clone(), ..workload("web", &[], &[]) };
    assert!(holds(&workload_to(&web).encode_to_vec(), 8 << 3 | 2), "Workload.waypoint is field 8");
    let shop = Service { waypoint, ..service("shop", &[]) };
    assert!(holds(&service_to(&shop).encode_to_vec(), 7 << 3 | 2), "Service.waypoint is field 7");
    for (termination, want) in [
        (Termination::Agent, &b""[..]),
        (Termination::Own, &[14 << 3, 1][..]),
        // Field 23 {protocol 1, port 2}.
        (Termination::Proxy(crate::testing::port(15088)), &[0xba, 1, 5, 8, 1, 0x10, 0xf0, 0x75][..]),
    ] {
        let bare = proto::Workload::default().encode_to_vec();
        let (native_tunnel, application_tunnel) = waypoint::termination_to(termination);
        let with = proto::Workload { native_tunnel, application_tunnel, ..proto::Workload::default() };
        assert_eq!((with.encode_to_vec().as_slice(), bare.len()), (want, 0), "{termination:?}");
    }
}

#[test]
fn what_a_service_asks_for_beyond_this_version_is_named_and_its_addresses_are_known() {
    fn balance(mode: i32, health_policy: i32) -> Option<proto::LoadBalancing> {
        Some(proto::LoadBalancing { mode, health_policy })
    }
    let cases: [(&str, Change<proto::Service>); 7] = [
        ("waypoint", |wire| wire.waypoint = Some(GatewayAddress::default())),
        ("weighted_waypoints", |wire| wire.weighted_waypoints = vec![WeightedWaypoint::default()]),
        ("visibility 2", |wire| wire.visibility = 2),
        ("load_balancing.mode STRICT", |wire| wire.load_balancing = balance(1, 0)),
        ("load_balancing.mode PASSTHROUGH", |wire| wire.load_balancing = balance(3, 0)),
        ("load_balancing.mode 4", |wire| wire.load_balancing = balance(4, 0)),
        ("load_balancing.health_policy 2", |wire| wire.load_balancing = balance(0, 2)),
    ];
    for (field, change) in cases {
        let read = read_service(change).unwrap();
        assert_eq!(read.unsupported.as_deref(), Some(format!("this version does not know {field}").as_str()));
        assert_eq!((read.vips.len(), read.waypoint), (2, None), "{field}");
    }
    let failover = read_service(|wire| wire.load_balancing = balance(2, 1)).unwrap();
    assert_eq!((failover.unsupported, failover.health_policy), (None, weir_model::HealthPolicy::All));
}

#[test]
fn a_service_is_seen_where_it_is_exported_to_and_by_agents_of_another_make_nowhere_else() {
    let namespaces = |names: &[&str]| Seen::In(Arc::new(names.iter().map(|name| name.parse().unwrap()).collect()));
    let own = service("shop", &["10.96.0.7"]).name.namespace.to_string();
    for (seen, visibility, listed) in [
        (Seen::Everywhere, 0, vec![]),
        (namespaces(&[&own]), 1, vec![]),
        (namespaces(&[&own, "zone"]), 1, vec![own.as_str(), "zone"]),
        (namespaces(&["zone"]), 1, vec!["zone"]),
        (namespaces(&[]), 1, vec![""]),
    ] {
        let sent = service_to(&Service { seen: seen.clone(), ..service("shop", &["10.96.0.7"]) });
        let texts = sent.extensions.iter().map(|one| {
            assert_eq!(one.name, "weir.dev/seen-in");
            <String as Message>::decode(one.config.as_ref().unwrap().value.as_slice()).unwrap()
        });
        assert_eq!(
            (sent.visibility, texts.collect::<Vec<_>>()),
            (visibility, listed.iter().map(|one| (*one).to_owned()).collect())
        );
        let read = service::service_from(Named("shop"), &mut Texts::default(), sent).unwrap();
        assert_eq!(read.seen, seen);
    }
    let bad = |wire: &mut proto::Service| wire.extensions = vec![extension("weir.dev/seen-in", "No Name")];
    let error = read_service(bad).unwrap_err().to_string();
    assert!(error.contains("extensions"), "{error}");
}

#[test]
fn a_workload_with_a_bad_field_is_refused_by_the_name_of_the_field() {
    let cases: [(&str, Change<proto::Workload>); 12] = [
        ("uid", |wire| wire.uid.clear()),
        ("addresses", |wire| wire.addresses[0] = vec![10, 0, 0]),
        ("addresses", |wire| wire.addresses.push(Vec::new())),
        ("namespace", |wire| wire.namespace = "a/b".to_owned()),
        ("trust_domain", |wire| wire.trust_domain = "A".to_owned()),
        ("service_account", |wire| wire.service_account = "-".to_owned()),
        ("node", |wire| wire.node = "_".to_owned()),
        ("network", |wire| wire.network = "\u{7f}".to_owned()),
        ("name", |wire| wire.name = "n".repeat(1025)),
        ("services", |wire| drop(wire.services.insert("shop".to_owned(), proto::PortList::default()))),
        ("services.target_port", |wire| {
            wire.services.values_mut().for_each(|ports| ports.ports[0].target_port = 65_536);
        }),
        ("authorization_policies", |wire| wire.authorization_policies.push("x".to_owned())),
    ];
    for (field, change) in cases {
        let error = read_workload(change).unwrap_err().to_string();
        assert!(error.starts_with(&format!("\"web\": {field}: ")), "{field}: {error}");
    }
}

#[test]
fn a_service_with_a_bad_field_is_refused_by_the_name_of_the_field() {
    let cases: [(&str, Change<proto::Service>); 7] = [
        ("namespace", |wire| wire.namespace.clear()),
        ("hostname", |wire| wire.hostname = "a..b".to_owned()),
        ("addresses", |wire| wire.addresses[0].address = vec![0; 5]),
        ("addresses.length", |wire| wire.addresses[0].length = Some(33)),
        ("addresses.length", |wire| wire.addresses[1].length = Some(129)),
        ("ports.service_port", |wire| wire.ports[0].service_port = 0),
        ("ports.target_port", |wire| wire.ports[0].target_port = 70_000),
    ];
    for (field, change) in cases {
        let error = read_service(change).unwrap_err().to_string();
        assert!(error.starts_with(&format!("\"shop\": {field}: ")), "{field}: {error}");
    }
}

#[test]
fn what_is_left_out_has_its_default_and_a_mapped_address_is_the_ipv4_address() {
    let mapped: std::net::Ipv6Addr = "::ffff:10.0.0.9".parse().unwrap();
    let read = read_workload(|wire| {
        wire.cluster_id.clear();
        wire.tunnel_protocol = 0;
        wire.addresses = vec![mapped.octets().to_vec()];
    })
    .unwrap();
    assert_eq!(read.identity().to_string(), "spiffe://cluster.local/ns/default/sa/default");
    assert_eq!((read.cluster.as_str(), &*read.canonical_revision, read.tunnel), ("Kubernetes", "latest", Tunnel::None));
    assert_eq!(read.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    let read = read_service(|wire| {
        let address = mapped.octets().to_vec();
        wire.addresses = vec![proto::NetworkAddress { network: String::new(), address, length: Some(120) }];
    });
    assert_eq!(read.unwrap().vips[0].1.to_string(), "10.0.0.9/24");
}

#[test]
fn what_is_not_reached_is_not_reached_by_an_agent_of_another_make_either() {
    let reason = Some("it wants a waypoint".into());
    let sent = workload_to(&Workload { unsupported: reason.clone(), ..workload("web", &["10.0.0.7"], &[]) });
    assert!(sent.waypoint.is_some());
    let sent = service_to(&Service { unsupported: reason, ..service("shop", &["10.96.0.7"]) });
    assert!(sent.waypoint.is_some());
    let both = "it wants a waypoint; this version does not know visibility 2";
    let cases: [(Change<proto::Service>, Option<&str>, Option<&str>); 4] = [
        // Without the extension that says why, it is a waypoint like any other, and nobody has it.
        (|wire| wire.extensions.clear(), None, Some("weir-system/unsupported.invalid")),
        (|wire| wire.visibility = 2, Some(both), None),
        (|wire| wire.waypoint = Some(called("gw", "w.gw", 0)), Some("it wants a waypoint"), None),
        (|_| {}, Some("it wants a waypoint"), None),
    ];
    for (change, want, waypoint) in cases {
        let mut wire = sent.clone();
        change(&mut wire);
        let read = service::service_from(Named("shop"), &mut Texts::default(), wire).unwrap();
        assert_eq!(read.unsupported.as_deref(), want);
        assert_eq!(read.waypoint.map(|one| one.to_string()).as_deref(), waypoint);
    }
    assert_eq!(service_to(&service("shop", &["10.96.0.7"])).waypoint, None);
}

#[test]
fn a_reason_is_bounded_however_much_is_beyond_this_version() {
    let many = |wire: &mut proto::Workload| {
        wire.extensions = vec![proto::Extension { name: "é".repeat(100), config: None }; 1000];
    };
    let read = Address::Workload(Box::new(Workload { uid: "web".parse().unwrap(), ..read_workload(many).unwrap() }));
    assert_eq!(Address::decode("web", &read.encode()), Ok(read));
}

#[test]
fn a_resource_is_called_as_it_calls_itself() {
    let sent = Address::Workload(Box::new(workload("web", &["10.0.0.7"], &[])));
    let error = Address::decode("another", &sent.encode()).unwrap_err().to_string();
    assert!(error.contains("another") && error.contains("Pod/default/web"), "{error}");
    assert!(Address::decode("empty", &[]).is_err());
    let long = vec![0; MAX_RESOURCE_BYTES + 1];
    assert!(matches!(Address::decode("long", &long), Err(ConvertError::TooLong { .. })));
}
