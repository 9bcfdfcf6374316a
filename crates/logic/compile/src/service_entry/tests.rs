//! What hosts become, and the addresses they are given.

use proptest::prelude::*;
use weir_manifest::{ConfigObject, EntryEndpoint, EntryResolution, FileName, Labels, parse};
use weir_model::AppProtocol;

use super::*;
use crate::default_root_namespace;

fn settings() -> Settings {
    Settings {
        trust_domain: "td.example".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: None,
        cluster_domain: Default::default(),
        root_namespace: default_root_namespace(),
    }
}

/// An entry `shop/e` of the host `a.example` with these fields.
fn object(meta: &str, fields: &str, status: &str) -> ConfigObject {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: shop{meta}}}\n\
         spec: {{hosts: [a.example], {fields}}}\nstatus: {status}\n"
    );
    parse(&[(FileName::new("f"), &text)]).unwrap_or_else(|errors| panic!("{errors:#?}")).configs.remove(0)
}

fn read(fields: &str) -> ServiceEntrySpec {
    spec(&object("", fields, "{}")).unwrap().clone()
}

fn named(namespace: &str, host: &str) -> ServiceName {
    ServiceName { namespace: namespace.parse().unwrap(), hostname: host.parse().unwrap() }
}

fn made(spec: &ServiceEntrySpec) -> Service {
    let name = named("shop", "a.example");
    let given = [(name.clone(), addresses(7))].into();
    service(&settings(), spec, &name, &given, None)
}

#[test]
fn a_host_has_the_addresses_it_names_else_those_of_its_status_else_those_it_is_given() {
    let status = "{addresses: [{value: 240.240.9.9, host: a.example}, {value: 240.240.9.8, host: b.example}, {value: '2001:2::9'}]}";
    for (fields, status, want) in [
        ("addresses: [192.0.2.1, '2001:db8::/32']", status, vec!["192.0.2.1/32", "2001:db8::/32"]),
        ("addresses: []", status, vec!["240.240.9.9/32", "2001:2::9/128"]),
        ("addresses: []", "{}", vec!["240.240.0.7/32", "2001:2::7/128"]),
    ] {
        let vips = made(spec(&object("", fields, status)).unwrap()).vips;
        let vips: Vec<_> = vips.iter().map(|(_, net)| net.to_string()).collect();
        assert_eq!(vips, want, "{fields} {status}");
    }
}

#[test]
fn a_resolution_that_is_not_done_is_a_reason_to_refuse() {
    let waypoint = WaypointAddress {
        destination: weir_model::WaypointDestination::Service(named("shop", "w.shop.svc.cluster.local")),
        port: Port::new(15008).unwrap(),
    };
    let names = |how: &str| format!("resolution {how}, which waypoints do, and it is bound to none");
    let dynamic = "resolution DYNAMIC_DNS, which this version does not do".to_owned();
    for (resolution, is, bound, [alone, behind]) in [
        ("STATIC", true, true, [None, None]),
        ("NONE", false, true, [None, None]),
        ("DNS", true, true, [Some(names("DNS")), None]),
        ("DNS_ROUND_ROBIN", true, true, [Some(names("DNS_ROUND_ROBIN")), None]),
        ("DYNAMIC_DNS", true, true, [Some(dynamic.clone()), Some(dynamic)]),
    ] {
        let spec = read(&format!("resolution: {resolution}"));
        assert_eq!([is_service(&spec, None), is_service(&spec, Some(&waypoint))], [is, bound], "{resolution}");
        assert_eq!(made(&spec).unsupported.as_deref(), alone.as_deref(), "{resolution}");
        assert_eq!(unsupported(&spec, Some(&waypoint)), behind.as_deref(), "{resolution}");
    }
}

#[test]
fn endpoints_are_found_as_the_resolution_says() {
    let host: Hostname = "a.example".parse().unwrap();
    let found = |text: &str, host: &Hostname| external(&read(text), host);
    let at = |resolution| External { resolution, ..External::default() };
    let endpoint = |at, ports: &[(u16, u16)]| NamedEndpoint {
        at,
        ports: ports.iter().map(|(of, own)| (Port::new(*of).unwrap(), Port::new(*own).unwrap())).collect(),
        labels: Labels::new(),
        locality: Locality::default(),
    };
    let (name, port) =
        (|name: &str| Spot::Name(name.parse().unwrap()), "ports: [{number: 80, name: http, targetPort: 8080}]");
    let own = endpoint(name("a.example"), &[(80, 8080)]);
    for (text, want) in [
        ("resolution: STATIC, endpoints: [{address: 192.0.2.1}]".to_owned(), Resolution::Mesh),
        ("resolution: NONE".to_owned(), Resolution::Original),
        (format!("resolution: DNS, {port}"), Resolution::Names(Answers::All, [own.clone()].into())),
        (format!("resolution: DNS_ROUND_ROBIN, {port}"), Resolution::Names(Answers::First, [own].into())),
        (
            format!(
                "resolution: DNS, {port}, endpoints: [{{address: b.example, ports: {{http: 81}}}}, {{address: '2001:db8::1'}}, {{address: 'unix:///a'}}]"
            ),
            Resolution::Names(
                Answers::All,
                [
                    endpoint(name("b.example"), &[(80, 81)]),
                    endpoint(Spot::Ip("2001:db8::1".parse().unwrap()), &[(80, 8080)]),
                ]
                .into(),
            ),
        ),
    ] {
        assert_eq!(found(&text, &host), at(want), "{text}");
    }
    let labelled = "resolution: DNS, endpoints: [{address: b.example, labels: {v: '1'}, locality: r/z}], subjectAltNames: [c.example]";
    let External { resolution: Resolution::Names(_, endpoints), names } = found(labelled, &host) else {
        panic!("{labelled}");
    };
    let locality = Locality { region: "r".into(), zone: "z".into(), subzone: "".into() };
    assert_eq!((&*endpoints[0].labels["v"], &endpoints[0].locality, &*names[0]), ("1", &locality, "c.example"));
    let wild = found("resolution: DNS", &"*.example".parse().unwrap());
    assert_eq!(wild.resolution, Resolution::Names(Answers::All, [].into()));
}

#[test]
fn a_port_speaks_what_it_says_and_leads_where_it_says() {
    let spec = read(
        "ports: [{number: 80, name: http}, {number: 443, name: a, protocol: HTTPS, targetPort: 8443}, {number: 70, name: x, protocol: GRPC-WEB}, \
         {number: 3306, name: y}]",
    );
    let spoken: Vec<_> =
        made(&spec).ports.iter().map(|port| (port.port.number(), port.protocol, port.target)).collect();
    assert_eq!(
        spoken,
        [
            (80, AppProtocol::Http11, None),
            (443, AppProtocol::Tls, Port::new(8443)),
            (70, AppProtocol::Grpc, None),
            (3306, AppProtocol::Tcp, None),
        ]
    );
    let endpoint =
        read("resolution: STATIC, endpoints: [{address: 192.0.2.1, ports: {http: 8080, a: 1, z: 9}}]").endpoints;
    let pairs = |endpoint: Option<&EntryEndpoint>| -> Vec<_> {
        ports(&spec, endpoint).iter().map(|(port, target)| (port.number(), target.number())).collect()
    };
    assert_eq!(pairs(None), [(80, 80), (443, 8443), (70, 70), (3306, 3306)]);
    assert_eq!(pairs(endpoint.first()), [(80, 8080), (443, 1), (70, 70), (3306, 3306)]);
}

#[test]
fn an_endpoint_is_a_workload_of_its_own() {
    let text = "resolution: STATIC, endpoints: [{address: 192.0.2.1}, {address: '2001:db8::1', network: far, locality: r/z, serviceAccount: a, \
                labels: {app: x, version: v2, networking.istio.io/tunnel: http}}, {address: 192.0.2.1}]";
    let entry = Key { namespace: "shop".parse().unwrap(), name: "e".into() };
    for (location, tunnel) in [("MESH_EXTERNAL", Tunnel::None), ("MESH_INTERNAL", Tunnel::Hbone)] {
        let spec = read(&format!("{text}, location: {location}"));
        let made = |spot| of_endpoint(&settings(), &entry, &spec, spot, Vec::new()).unwrap();
        let workloads: Vec<_> = spots(&spec).into_iter().map(made).collect();
        let uids: Vec<_> = workloads.iter().map(|one| one.uid.as_str()).collect();
        let base = "Kubernetes/networking.istio.io/ServiceEntry/shop/e";
        assert_eq!(uids, [format!("{base}/192.0.2.1"), format!("{base}/2001:db8::1"), format!("{base}/192.0.2.1/1")]);
        let brief = |one: &Workload| {
            let id = one.identity().to_string();
            (one.tunnel, one.network.to_string(), one.locality.zone.to_string(), id, one.canonical_name.to_string())
        };
        let id = |account: &str| format!("spiffe://td.example/ns/shop/sa/{account}");
        let plain = (Tunnel::None, String::new(), String::new(), id("default"), "e".to_owned());
        let far = (tunnel, "far".to_owned(), "z".to_owned(), id("a"), "x".to_owned());
        assert_eq!(workloads.iter().map(brief).collect::<Vec<_>>(), [plain.clone(), far, plain]);
        assert_eq!(&*workloads[1].canonical_revision, "v2");
    }
}

#[test]
fn a_host_is_given_addresses_unless_it_has_some_or_wants_none() {
    let host = |text: &str| text.parse::<Hostname>().unwrap();
    let label = |value: &str| format!(", labels: {{networking.istio.io/enable-autoallocate-ip: '{value}'}}");
    for (meta, fields, status, of, want) in [
        ("", "resolution: STATIC", "{}", "a.example", true),
        ("", "resolution: DNS", "{}", "a.example", true),
        ("", "resolution: NONE", "{}", "a.example", false),
        ("", "resolution: STATIC, addresses: [192.0.2.1]", "{}", "a.example", false),
        ("", "resolution: STATIC", "{addresses: [{value: 240.240.0.1}]}", "a.example", false),
        ("", "resolution: STATIC", "{addresses: [{value: 240.240.0.1, host: b.example}]}", "a.example", true),
        ("", "resolution: STATIC", "{}", "*.a.example", false),
        (&label("false"), "resolution: STATIC", "{}", "a.example", false),
        (&label("true"), "resolution: STATIC", "{}", "a.example", true),
    ] {
        let object = object(meta, fields, status);
        assert_eq!(is_without(&object, spec(&object).unwrap(), &host(of)), want, "{meta} {fields} {status} {of}");
    }
}

#[test]
fn a_kubernetes_service_is_known_by_its_host() {
    for (host, want) in [
        ("a.b.svc.cluster.local", Some(("b", "a"))),
        ("a.b.c.svc.cluster.local", None),
        ("b.svc.cluster.local", None),
        ("a.b.svc.cluster.example", None),
        ("a.example", None),
    ] {
        let want = want.map(|(namespace, name)| Key { namespace: namespace.parse().unwrap(), name: name.into() });
        assert_eq!(kubernetes(&settings(), &host.parse().unwrap()), want, "{host}");
    }
}

#[test]
fn the_last_addresses_are_given_once_and_then_none() {
    let mut entry = read("resolution: STATIC");
    let free = [1, 4_711, 65_534];
    entry.addresses = (1..65_535).filter(|slot| !free.contains(slot)).map(|slot| addresses(slot)[0].into()).collect();
    let hosts: Vec<_> = (0..5).map(|i| named("n", &format!("h{i}.example"))).collect();
    let given = allot(&hosts, [&entry].into_iter());
    assert!(given.keys().eq(&hosts[..3]), "{given:?}");
    let distinct: BTreeSet<_> = given.values().flatten().copied().collect();
    assert_eq!(distinct, free.into_iter().flat_map(addresses).collect());
}

#[test]
fn the_address_of_a_host_is_always_the_same() {
    // Pinned: agents and waypoints that are made of different versions must agree.
    let given = allot(&[named("shop", "a.example")], std::iter::empty());
    let [v4, v6] = given[&named("shop", "a.example")];
    assert_eq!([v4.to_string(), v6.to_string()], ["240.240.129.101", "2001:2::8165"]);
}

proptest! {
    /// Nobody is given what another has, and who is older keeps what it has when others come.
    #[test]
    fn addresses_are_distinct_and_stay(
        hosts in prop::collection::btree_set(0_u32..5_000, 0..200),
        more in prop::collection::btree_set(5_000_u32..9_000, 0..200),
        fixed in prop::collection::vec(0_u64..65_536, 0..50),
    ) {
        let name = |i: &u32| named("n", &format!("h{i}.example"));
        let mut entry = read("resolution: STATIC");
        entry.resolution = EntryResolution::Static;
        entry.addresses = fixed.iter().flat_map(|slot| addresses(*slot)).map(IpNet::from).collect();
        let hosts: Vec<_> = hosts.iter().map(name).collect();
        let before = allot(&hosts, [&entry].into_iter());
        let all: Vec<_> = hosts.iter().cloned().chain(more.iter().map(name)).collect();
        let after = allot(&all, [&entry].into_iter());
        prop_assert_eq!(after.len(), all.len());
        let distinct: BTreeSet<IpAddr> = after.values().flatten().copied().collect();
        prop_assert_eq!(distinct.len(), 2 * all.len());
        prop_assert!(entry.addresses.iter().all(|net| !distinct.contains(&net.addr())));
        for (host, ips) in &before {
            prop_assert_eq!(after.get(host), Some(ips));
        }
    }
}
