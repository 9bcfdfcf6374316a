//! ServiceEntries: every field is read, everything else is an error with its place.

use proptest::prelude::*;

use super::*;
use crate::{
    FileName,
    object::{ConfigSpec, ExportTo, RemarkKind, WaypointLabels, WaypointUse},
    parse,
};

fn document(meta: &str, spec: &str, status: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: shop{meta}}}\nspec: {spec}\nstatus: {status}\n"
    )
}

fn said(meta: &str, spec: &str, status: &str) -> ServiceEntrySpec {
    let text = document(meta, spec, status);
    let mut objects = parse(&[(FileName::new("f.yaml"), &text)]).unwrap_or_else(|errors| panic!("{text}{errors:#?}"));
    let ConfigSpec::ServiceEntry(spec) = objects.configs.remove(0).spec else { panic!("{text}") };
    *spec
}

/// What an entry says that has one host and these fields.
fn read(fields: &str) -> ServiceEntrySpec {
    said("", &format!("{{hosts: [a.example]{}{fields}}}", if fields.is_empty() { "" } else { ", " }), "{}")
}

fn refused(spec: &str) -> Vec<String> {
    let errors = parse(&[(FileName::new("f.yaml"), &document("", spec, "{}"))]).expect_err(spec);
    errors.iter().map(|error| format!("{}: {}", error.field, error.cause)).collect()
}

/// What nothing is said of.
fn unsaid() -> ServiceEntrySpec {
    ServiceEntrySpec {
        hosts: vec!["a.example".parse().unwrap()],
        addresses: Vec::new(),
        ports: Vec::new(),
        location: Location::External,
        resolution: EntryResolution::None,
        endpoints: Vec::new(),
        selector: None,
        export_to: ExportTo::Everywhere,
        subject_alt_names: Vec::new(),
        allotted: Vec::new(),
        waypoint: WaypointLabels::default(),
        remarks: Vec::new(),
    }
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn entry_port(name: &str, number: u16, protocol: &str, target: Option<u16>) -> EntryPort {
    EntryPort { name: name.into(), number: port(number), protocol: protocol.into(), target: target.map(port) }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

#[test]
fn every_field_is_read() {
    type Set = fn(&mut ServiceEntrySpec);
    let rows: [(&str, Set); 21] = [
        ("", |_| {}),
        ("addresses: [192.0.2.1, '2001:db8::1', '::ffff:192.0.2.2', 192.0.2.1]", |one| {
            let nets = ["192.0.2.1/32", "2001:db8::1/128", "192.0.2.2/32"];
            one.addresses = nets.map(|net| net.parse().unwrap()).into();
        }),
        ("addresses: [10.1.2.3/8, '2001:db8::1/32']", |one| {
            one.addresses = ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().unwrap()).into();
        }),
        ("ports: [{number: 80, name: http}]", |one| one.ports = vec![entry_port("http", 80, "", None)]),
        (
            "ports: [{number: 443, name: a, protocol: HTTPS, targetPort: 8443}, {number: 1, name: b, protocol: grpc-web}]",
            |one| {
                one.ports = vec![entry_port("a", 443, "https", Some(8443)), entry_port("b", 1, "grpc-web", None)];
            },
        ),
        ("location: MESH_EXTERNAL", |_| {}),
        ("location: MESH_INTERNAL", |one| one.location = Location::Internal),
        ("resolution: NONE", |_| {}),
        ("resolution: STATIC", |one| one.resolution = EntryResolution::Static),
        ("resolution: DNS", |one| one.resolution = EntryResolution::Dns),
        ("resolution: DNS_ROUND_ROBIN", |one| one.resolution = EntryResolution::DnsRoundRobin),
        ("resolution: DYNAMIC_DNS", |one| one.resolution = EntryResolution::DynamicDns),
        ("workloadSelector: {labels: {app: a}}", |one| one.selector = Some(labels(&[("app", "a")]))),
        ("workloadSelector: {}", |one| one.selector = Some(Labels::new())),
        ("exportTo: ['.']", |one| one.export_to = ExportTo::Only { own: true, others: Default::default() }),
        ("exportTo: ['*']", |_| {}),
        ("subjectAltNames: []", |_| {}),
        ("subjectAltNames: [a]", |spec| spec.subject_alt_names = vec!["a".into()]),
        ("endpoints: null", |_| {}),
        ("ports: []", |_| {}),
        ("addresses: []", |_| {}),
    ];
    for (text, set) in rows {
        let mut want = unsaid();
        set(&mut want);
        assert_eq!(read(text), want, "{text}");
    }
    let hosts = said("", "{hosts: [a.example, '*.b.example', c]}", "{}").hosts;
    assert_eq!(hosts.iter().map(Hostname::as_str).collect::<Vec<_>>(), ["a.example", "*.b.example", "c"]);
}

#[test]
fn every_field_of_an_endpoint_is_read() {
    type Set = fn(&mut EntryEndpoint);
    let rows: [(&str, Set); 12] = [
        ("{address: 192.0.2.1}", |_| {}),
        ("{address: '::ffff:192.0.2.1'}", |_| {}),
        ("{address: '2001:db8::1'}", |one| one.address = EntryAddress::Ip("2001:db8::1".parse().unwrap())),
        ("{address: unix:///run/a}", |one| one.address = EntryAddress::Unix("/run/a".into())),
        ("{address: 'unix://@a'}", |one| one.address = EntryAddress::Unix("@a".into())),
        ("{network: far}", |one| {
            (one.address, one.network) = (EntryAddress::OfNetwork, Some("far".parse().unwrap()));
        }),
        ("{address: 192.0.2.1, ports: {http: 8080}}", |one| one.ports = [("http".into(), port(8080))].into()),
        ("{address: 192.0.2.1, labels: {app: a}}", |one| one.labels = labels(&[("app", "a")])),
        ("{address: 192.0.2.1, network: far}", |one| one.network = Some("far".parse().unwrap())),
        ("{address: 192.0.2.1, locality: r/z/s}", |one| {
            one.locality = Locality { region: "r".into(), zone: "z".into(), subzone: "s".into() };
        }),
        ("{address: 192.0.2.1, weight: 5}", |one| one.weight = NonZeroU32::new(5)),
        ("{address: 192.0.2.1, serviceAccount: a}", |one| one.service_account = Some("a".parse().unwrap())),
    ];
    for (text, set) in rows {
        let mut want = EntryEndpoint {
            address: EntryAddress::Ip("192.0.2.1".parse().unwrap()),
            ports: BTreeMap::new(),
            labels: Labels::new(),
            network: None,
            locality: Locality::default(),
            weight: None,
            service_account: None,
        };
        set(&mut want);
        assert_eq!(read(&format!("resolution: STATIC, endpoints: [{text}]")).endpoints, [want], "{text}");
    }
    let named = read("resolution: DNS, endpoints: [{address: b.example, locality: r, weight: 0}]").endpoints.remove(0);
    assert_eq!(named.address, EntryAddress::Host("b.example".parse().unwrap()));
    assert_eq!((&*named.locality.region, &*named.locality.zone, named.weight), ("r", "", None));
}

#[test]
fn labels_and_status_are_read() {
    let uses = Some(WaypointUse::Gateway { namespace: Some("edge".parse().unwrap()), name: "w".into() });
    let meta = ", labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: edge}";
    assert_eq!(said(meta, "{hosts: [a.example]}", "{}").waypoint, WaypointLabels { uses, required: false });
    let status = "{addresses: [{value: 240.240.0.1, host: a.example}, {value: '2001:2::1', somethingNew: 1}], conditions: [{}], new: 1}";
    let [one, other] = ["240.240.0.1", "2001:2::1"].map(|ip| ip.parse().unwrap());
    let want = [(Some("a.example".parse().unwrap()), one), (None, other)];
    assert_eq!(said("", "{hosts: [a.example]}", status).allotted, want);
}

#[test]
fn what_does_not_do_what_it_says_is_remarked() {
    use RemarkKind::Unsupported;
    for (text, field, kind) in [
        ("ports: [{number: 53, name: dns, protocol: UDP}]", "ports[0]", Unsupported),
        ("resolution: STATIC, endpoints: [{address: 'unix:///a'}]", "endpoints[0]", Unsupported),
        ("resolution: STATIC, endpoints: [{network: far}]", "endpoints[0]", Unsupported),
        ("resolution: STATIC, endpoints: [{address: 192.0.2.1, weight: 2}]", "endpoints[0].weight", Unsupported),
    ] {
        let told: Vec<_> = read(text).remarks.into_iter().map(|one| (one.field, one.kind)).collect();
        assert_eq!(told, [(format!("spec.{field}"), kind)], "{text}");
    }
    assert_eq!(read("ports: [{number: 53, name: dns, protocol: UDP}]").ports, []);
}

#[test]
fn what_is_not_legal_is_refused_at_its_place() {
    for (spec, want) in [
        ("{}", "hosts: missing, expected at least one host"),
        ("{hosts: []}", "hosts: expected at least one host"),
        ("{hosts: ['*']}", "hosts[0]: "),
        ("{hosts: [a.example, b.example, a.example]}", "hosts[2]: the same host as spec.hosts[0]"),
        ("{hosts: [A]}", "hosts[0]: "),
        ("{hosts: [a], host: b}", "host: unknown field, did you mean \"hosts\"?"),
        ("{hosts: [a], addresses: [b]}", "addresses[0]: expected an IPv4 or IPv6 address, or a range"),
        ("{hosts: [a], addresses: [10.0.0.0/33]}", "addresses[0]: expected an IPv4 or IPv6 address, or a range"),
        ("{hosts: [a], resolution: DNS, addresses: [10.0.0.0/8]}", "addresses: not together with a resolution by DNS"),
        ("{hosts: [a], location: MARS}", "location: expected \"MESH_EXTERNAL\" or \"MESH_INTERNAL\""),
        ("{hosts: [a], resolution: FIXED}", "resolution: expected \"NONE\", \"STATIC\", \"DNS\""),
        ("{hosts: [a], ports: [{number: 80}]}", "ports[0].name: missing, expected the port's name"),
        ("{hosts: [a], ports: [{name: a}]}", "ports[0].number: missing, expected a port"),
        ("{hosts: [a], ports: [{name: a, number: 0}]}", "ports[0].number: expected a port, 1 to 65535"),
        ("{hosts: [a], ports: [{name: a, number: 1, targetPort: 70000}]}", "ports[0].targetPort: expected a port"),
        ("{hosts: [a], ports: [{name: a_b, number: 1}]}", "ports[0].name: expected 1 to 63 letters and digits"),
        ("{hosts: [a], ports: [{name: a, number: 1, protocol: SCTP}]}", "ports[0].protocol: expected HTTP, HTTP2"),
        (
            "{hosts: [a], ports: [{name: a, number: 1}, {name: a, number: 2}]}",
            "ports[1]: the same name as spec.ports[0]",
        ),
        (
            "{hosts: [a], ports: [{name: a, number: 1}, {name: b, number: 1}]}",
            "ports[1]: the same port as spec.ports[0]",
        ),
        ("{hosts: [a], endpoints: [{address: 192.0.2.1}]}", "endpoints: not together with resolution NONE"),
        ("{hosts: [a], workloadSelector: {labels: {a: '*'}}}", "workloadSelector.labels: expected at most 256 labels"),
        ("{hosts: [a], workloadSelector: {matchLabels: {}}}", "workloadSelector.matchLabels: unknown field"),
        ("{hosts: [a], subjectAltNames: [1]}", "subjectAltNames[0]: expected text"),
        ("{hosts: [a], exportTo: [A]}", "exportTo[0]: expected \"*\""),
    ] {
        let errors = refused(spec);
        let want = format!("spec.{want}");
        assert!(errors.len() == 1 && errors[0].starts_with(&want), "{spec}: {errors:?}\n{want}");
    }
    let many = (0..257).map(|i| format!("h{i}")).collect::<Vec<_>>().join(", ");
    assert_eq!(refused(&format!("{{hosts: [{many}]}}")), ["spec.hosts: more than 256 hosts"]);
}

#[test]
fn an_endpoint_that_is_not_legal_is_refused_at_its_place() {
    for (spec, want) in [
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: b.example}]}",
            "endpoints: not together with resolution STATIC, where an endpoint is a name",
        ),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [], workloadSelector: {}}",
            "endpoints: not together with workloadSelector",
        ),
        (
            "{hosts: [a], resolution: DNS_ROUND_ROBIN, endpoints: [{address: b}, {address: c}]}",
            "endpoints: more than 1 endpoints with DNS_ROUND_ROBIN",
        ),
        ("{hosts: [a], resolution: STATIC, endpoints: [{}]}", "endpoints[0].address: missing, expected an address"),
        ("{hosts: [a], resolution: DNS, endpoints: [{address: '*.a'}]}", "endpoints[0].address: expected an IPv4"),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 'unix://a'}]}",
            "endpoints[0].address: expected unix://",
        ),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 'unix:///a/'}]}",
            "endpoints[0].address: expected unix://",
        ),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 'unix:///a', ports: {a: 1}}]}",
            "endpoints[0].ports: not together with an address that is a Unix socket",
        ),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 192.0.2.1, ports: {a: 0}}]}",
            "endpoints[0].ports.a: expected a port",
        ),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 192.0.2.1, locality: a//b}]}",
            "endpoints[0].locality: expected region/zone/subzone",
        ),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 192.0.2.1, weight: -1}]}",
            "endpoints[0].weight: expected a whole number",
        ),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 192.0.2.1, instancePort: 1}]}",
            "endpoints[0].instancePort: unknown field",
        ),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 192.0.2.1, serviceAccount: A}]}",
            "endpoints[0].serviceAccount: ",
        ),
    ] {
        let errors = refused(spec);
        let want = format!("spec.{want}");
        assert!(errors.len() == 1 && errors[0].starts_with(&want), "{spec}: {errors:?}\n{want}");
    }
}

proptest! {
    #[test]
    fn no_value_of_a_field_makes_the_parser_stop(
        field in prop::sample::select([SPEC, ENDPOINT, PORT].concat()),
        value in "[-a-z0-9.%*{}: ,\\[\\]~'/]{0,40}",
    ) {
        for spec in [
            format!("{{hosts: [a], {field}: {value}}}"),
            format!("{{hosts: [a], resolution: STATIC, endpoints: [{{address: 192.0.2.1, {field}: {value}}}]}}"),
            format!("{{hosts: [a], ports: [{{name: a, number: 1, {field}: {value}}}]}}"),
        ] {
            // Legal or not, it is read to its end.
            drop(parse(&[(FileName::new("f.yaml"), &document("", &spec, "{}"))]));
        }
    }
}
