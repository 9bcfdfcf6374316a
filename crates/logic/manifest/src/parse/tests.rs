//! Manifests: what the API server prints is taken, what nobody meant is refused with its place.

use proptest::prelude::*;
use weir_model::{Health, HealthPolicy};

use super::*;
use crate::object::*;

fn file(name: &str) -> FileName {
    FileName::new(name)
}

fn one(text: &str) -> Result<Objects, Vec<ManifestError>> {
    parse(&[(file("f.yaml"), text)])
}

/// The errors as a person reads them.
fn errors(text: &str) -> Vec<String> {
    one(text).expect_err("refused").iter().map(ToString::to_string).collect()
}

const POD: &str = include_str!("testdata/pod.yaml");
const REST: &str = include_str!("testdata/rest.yaml");

#[test]
fn what_kubectl_prints_is_taken_whole() {
    let objects = one(POD).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let [pod] = objects.pods.as_slice() else { panic!("{objects:?}") };
    assert_eq!(&*pod.name, "ui-7d9c5b8f4-x2x9z");
    assert_eq!(&*pod.incarnation, "7a1b7f2e-0000-4000-8000-000000000002");
    assert_eq!(pod.namespace.as_str(), "todo");
    assert_eq!(pod.service_account.as_str(), "ui");
    assert_eq!(pod.node.as_ref().map(|node| node.as_str()), Some("n1"));
    assert_eq!(pod.addresses, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
    assert_eq!((pod.phase, pod.health), (Phase::Running, Health::Healthy));
    assert_eq!(pod.mode, Some(DataplaneMode::Ambient));
    assert_eq!(pod.netns.as_deref(), Some(std::path::Path::new("/run/netns/ui")));
    assert_eq!(pod.owner.as_ref().map(|owner| (&*owner.kind, &*owner.name)), Some(("ReplicaSet", "ui-7d9c5b8f4")));
    let ports: Vec<_> = pod.ports.iter().map(|port| (&*port.name, port.port.number())).collect();
    assert_eq!(ports, [("web", 8090)]);

    let objects = one(REST).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let [service] = objects.services.as_slice() else { panic!("{objects:?}") };
    assert_eq!(service.cluster_ips, ["10.96.0.7".parse::<IpAddr>().unwrap(), "fd00:10:96::7".parse().unwrap()]);
    assert_eq!(service.external_ips, ["192.0.2.10".parse::<IpAddr>().unwrap()]);
    assert_eq!(service.health_policy, HealthPolicy::All);
    let targets: Vec<_> = service.ports.iter().map(|port| (port.port.number(), &port.target)).collect();
    assert_eq!(
        targets,
        [(8090, &TargetPort::Name("web".into())), (9090, &TargetPort::Number(weir_model::Port::new(9091).unwrap()))]
    );
    let [slice] = objects.endpoint_slices.as_slice() else { panic!("{objects:?}") };
    assert_eq!(slice.service.as_deref(), Some("ui"));
    let healths: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.health).collect();
    assert_eq!(healths, [Health::Healthy, Health::Unhealthy, Health::Healthy]);
    assert_eq!((objects.namespaces.len(), objects.nodes.len()), (1, 1));
    assert_eq!(objects.namespaces[0].mode, Some(DataplaneMode::Ambient));
}

#[test]
fn an_error_says_where_what_was_expected_and_what_was_found() {
    for (text, want) in [
        ("just text", "f.yaml:1 (document 1): expected a Kubernetes object, found \"just text\""),
        ("kind: Pod", "f.yaml:1 (document 1): apiVersion: missing, expected the version of the object's kind"),
        (
            "apiVersion: v1\nkind: Pot",
            "f.yaml:2 (document 1): Pot default/(no name): kind: unknown kind \"Pot\" of apiVersion \"v1\"",
        ),
        (
            "apiVersion: v1beta1\nkind: Pod\nmetadata: {name: a}",
            "f.yaml:1 (document 1): Pod default/a: Pod is read as apiVersion \"v1\", found \"v1beta1\"",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: A}",
            "f.yaml:3 (document 1): Namespace A: metadata.name: namespace \"A\" has the character 'A', allowed are lower-case letters, digits and '-' inside",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n    istio.io/dataplane-mode: Ambient",
            "f.yaml:6 (document 1): Namespace a: metadata.labels[\"istio.io/dataplane-mode\"]: expected \"ambient\" or \"none\", found \"Ambient\"",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {x: yes}}",
            "f.yaml:3 (document 1): Namespace a: metadata.labels.x: expected text, found the boolean true (quote it if it is meant as text)",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\nspecs: {}",
            "f.yaml:4 (document 1): Namespace a: specs: unknown field, did you mean \"spec\"?",
        ),
        ("a: [1", "f.yaml:"),
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].starts_with(want), "{}\nis not\n{want}", errors[0]);
    }
}

/// A pod whose parts are given.
fn pod(name: &str, meta: &str, spec: &str, status: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{meta}}}\nspec: {{containers: [{{name: app}}]{spec}}}\nstatus: {{{status}}}\n---\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
}

#[test]
fn a_pod_nobody_could_mean_is_refused() {
    for (text, want) in [
        (pod("a", "", "", "phase: Running"), "status.podIP: missing, expected an address"),
        (pod("a", "", "", "phase: running"), "status.phase: expected \"Pending\", "),
        (pod("a", "", "", "podIP: 10.0.0"), "status.podIP: expected an IPv4 or IPv6 address, found \"10.0.0\""),
        (
            pod("a", "", "", "podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.2}]"),
            "status.podIP: contradicts status.podIPs[0].ip",
        ),
        (
            pod("a", "", "", "podIPs: [{ip: 10.0.0.2}, {ip: '::ffff:10.0.0.2'}]"),
            "status.podIPs[1].ip: the same address as status.podIPs[0].ip",
        ),
        (
            pod("a", ", annotations: {weir.dev/netns: run/x}", "", ""),
            "metadata.annotations[\"weir.dev/netns\"]: expected an absolute path, found \"run/x\"",
        ),
        (
            pod("a", ", annotations: {weir.dev/netns: ''}", "", ""),
            "metadata.annotations[\"weir.dev/netns\"]: expected an absolute path, found \"\"",
        ),
        (pod("a", ", labels: {istio.io/dataplane-mode: sidecar}", "", ""), "expected \"ambient\" or \"none\""),
        (
            pod("a", ", labels: {weir.dev/waypoint: wanted}", "", ""),
            "metadata.labels[\"weir.dev/waypoint\"]: expected \"required\", found \"wanted\"",
        ),
        (
            pod("a", ", annotations: {weir.dev/waypoint: required}", "", ""),
            "metadata.annotations[\"weir.dev/waypoint\"]: is read as a label only",
        ),
        (
            pod("a", ", labels: {istio.io/use-waypoint: Web}", "", ""),
            "metadata.labels[\"istio.io/use-waypoint\"]: expected \"none\" or the name of a Gateway, found \"Web\"",
        ),
        (
            pod("a", ", labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: W}", "", ""),
            "metadata.labels[\"istio.io/use-waypoint-namespace\"]: namespace \"W\"",
        ),
        (pod("a", "", ", hostnetwork: true", ""), "spec.hostnetwork: unknown field, did you mean \"hostNetwork\"?"),
        (pod("a", "", ", hostNetwork: 'true'", ""), "spec.hostNetwork: expected true or false, found \"true\""),
        (
            pod("a", "", ", serviceAccountName: x, serviceAccount: y", ""),
            "spec.serviceAccount: contradicts spec.serviceAccountName: \"y\"",
        ),
        (pod("a", "", ", serviceAccountName: X", ""), "spec.serviceAccountName: service account \"X\""),
        (pod("a", "", ", nodeName: N", ""), "spec.nodeName: node name \"N\""),
        (pod("A", "", "", ""), "metadata.name: expected a DNS subdomain"),
        (pod("a", ", namespace: A", "", ""), "metadata.namespace: namespace \"A\""),
        (pod("a", "", "", "conditions: [{type: Ready, status: true}]"), "status.conditions[0].status: expected text"),
        (
            pod("a", "", "", "conditions: [{type: Ready, status: 'yes'}]"),
            "status.conditions[0].status: expected \"True\"",
        ),
        (
            pod("a", "", ", initContainers: [{name: b, ports: [{containerPort: 0}]}]", ""),
            "spec.initContainers[0].ports[0].containerPort: expected a port, 1 to 65535, found the number 0",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}".into(), "spec: missing"),
    ] {
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].contains(want), "{}\nhas no\n{want}", errors[0]);
    }
}

#[test]
fn a_service_nobody_could_mean_is_refused() {
    for (spec, want) in [
        ("ports: [{port: 0}]", "spec.ports[0].port: expected a port"),
        ("ports: [{port: 80, targetPort: '80'}]", "spec.ports[0].targetPort: expected a port, 1 to 65535, or the name"),
        (
            "ports: [{port: 80, protocol: tcp}]",
            "spec.ports[0].protocol: expected \"TCP\", \"UDP\" or \"SCTP\", found \"tcp\"",
        ),
        ("ports: [{name: a, port: 80}, {port: 81}]", "spec.ports[1].name: missing, expected a name"),
        (
            "ports: [{name: a, port: 80}, {name: a, port: 81}]",
            "spec.ports[1].name: the same name as spec.ports[0].name",
        ),
        (
            "ports: [{name: a, port: 80}, {name: b, port: 80}]",
            "spec.ports[1]: the same port and protocol as spec.ports[0]",
        ),
        (
            "ports: [{port: 80, targetport: 8080}]",
            "spec.ports[0].targetport: unknown field, did you mean \"targetPort\"?",
        ),
        ("clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2]", "spec.clusterIP: contradicts spec.clusterIPs[0]: \"10.0.0.1\""),
        ("clusterIPs: [none]", "spec.clusterIPs[0]: expected an IPv4 or IPv6 address, found \"none\""),
        ("type: Headless", "spec.type: expected \"ClusterIP\""),
        ("type: ExternalName", "spec.externalName: missing"),
        ("publishNotReadyAddresses: 'no'", "spec.publishNotReadyAddresses: expected true or false"),
    ] {
        let errors = errors(&service("a", spec));
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].contains(want), "{}\nhas no\n{want}", errors[0]);
    }
    let udp = service("a", "ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]");
    assert_eq!(one(&udp).unwrap().services[0].ports.len(), 1);
}

#[test]
fn a_slice_nobody_could_mean_is_refused() {
    let slice =
        |rest: &str| format!("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a}}\n{rest}");
    for (rest, want) in [
        ("endpoints: []", "addressType: missing"),
        ("addressType: ipv4", "addressType: expected \"IPv4\""),
        (
            "addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]",
            "endpoints[0].addresses[0]: expected an IPv4 address",
        ),
        (
            "addressType: IPv6\nendpoints: [{addresses: [10.0.0.1]}]",
            "endpoints[0].addresses[0]: expected an IPv6 address",
        ),
        ("addressType: IPv4\nendpoints: [{}]", "endpoints[0].addresses: missing"),
        (
            "addressType: IPv4\nendpoints: [{addresses: [], condition: {}}]",
            "endpoints[0].condition: unknown field, did you mean \"conditions\"?",
        ),
        (
            "addressType: IPv4\nendpoints: [{addresses: [], conditions: {ready: 'no'}}]",
            "endpoints[0].conditions.ready: expected true or false",
        ),
        ("addressType: IPv4\nports: [{port: 70000}]", "ports[0].port: expected a port"),
    ] {
        let errors = errors(&slice(rest));
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].contains(want), "{}\nhas no\n{want}", errors[0]);
    }
}

#[test]
fn a_namespace_a_service_and_a_pod_may_be_bound_to_a_waypoint() {
    let gateway = |namespace: Option<&str>| {
        let namespace = namespace.map(|namespace| namespace.parse().unwrap());
        Some(WaypointUse::Gateway { namespace, name: "web.gateway".into() })
    };
    for (labels, uses, required) in [
        ("a: b", None, false),
        ("istio.io/use-waypoint: none", Some(WaypointUse::None), false),
        ("istio.io/use-waypoint: ''", None, false),
        ("istio.io/use-waypoint: web.gateway", gateway(None), false),
        ("istio.io/use-waypoint: web.gateway, istio.io/use-waypoint-namespace: edge", gateway(Some("edge")), false),
        ("istio.io/use-waypoint: web.gateway, weir.dev/waypoint: required", gateway(None), true),
        ("weir.dev/waypoint: required", None, true),
    ] {
        let want = WaypointLabels { uses, required };
        let meta = format!("metadata: {{name: a, labels: {{{labels}}}}}");
        let text = format!(
            "apiVersion: v1\nkind: Namespace\n{meta}\n---\napiVersion: v1\nkind: Service\n{meta}\nspec: {{}}\n---\n{}",
            pod("a", &format!(", labels: {{{labels}}}"), "", "")
        );
        let objects = one(&text).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let read = [&objects.namespaces[0].waypoint, &objects.services[0].waypoint, &objects.pods[0].waypoint];
        assert_eq!(read, [&want; 3], "{labels}");
    }
}

#[test]
fn kinds_without_effect_are_taken_and_named() {
    let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: todoui}
spec: {template: {anything: [goes]}}
---
apiVersion: networking.istio.io/v1alpha3
kind: Sidecar
metadata: {name: todoui, namespace: b}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: weir}
---
apiVersion: v1
kind: Namespace
metadata: {name: b, labels: {istio.io/use-waypoint: w}}
";
    let ignored = one(text).unwrap().ignored;
    let lines: Vec<_> = ignored.iter().map(|one| format!("{} {} {:?}", one.object, one.field, one.why)).collect();
    assert_eq!(
        lines,
        ["Deployment default/todoui  PodsOnly", "Sidecar b/todoui  OtherProxy", "GatewayClass weir  NeedsWaypoint",]
    );
}

#[test]
fn two_of_one_name_are_refused_with_both_places() {
    let (a, b) = (pod("a", "", "", ""), format!("---\n{}", pod("a", ", namespace: default", "", "")));
    let errors = parse(&[(file("a.yaml"), &a), (file("b.yaml"), &b)]).unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["b.yaml:2 (document 1): Pod default/a: declared already in a.yaml:1 (document 1)"]);
    let elsewhere = pod("a", ", namespace: other", "", "");
    assert!(parse(&[(file("a.yaml"), &a), (file("b.yaml"), &elsewhere)]).is_ok());
}

#[test]
fn an_address_belongs_to_one_running_pod() {
    let pods = |spec: &str, meta: &str, status: &str| {
        pod("a", "", spec, "phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]") + &pod("b", meta, spec, status)
    };
    for (ip, shown) in [("10.0.0.1", "10.0.0.1"), ("'fd00::1'", "fd00::1"), ("'::ffff:10.0.0.1'", "10.0.0.1")] {
        let errors = errors(&pods("", "", &format!("phase: Running, podIP: {ip}")));
        let want =
            format!("Pod default/b: status.podIPs: {shown} is also the address of Pod default/a, declared in f.yaml:1");
        assert!(errors.len() == 1 && errors[0].contains(&want), "{errors:?}");
    }
    for (spec, meta, status) in [
        (", hostNetwork: true", "", "phase: Running, podIP: 10.0.0.1"),
        ("", "", "phase: Succeeded, podIP: 10.0.0.1"),
        ("", "", "phase: Failed, podIP: 10.0.0.1"),
        ("", ", labels: {topology.istio.io/network: other}", "phase: Running, podIP: 10.0.0.1"),
        ("", "", "phase: Pending"),
    ] {
        assert!(one(&pods(spec, meta, status)).is_ok(), "{spec} {meta} {status}");
    }
    let shared = service("a", "clusterIP: 10.96.0.1") + &service("b", "clusterIP: 10.96.0.1");
    let errors = errors(&shared);
    assert!(errors.len() == 1 && errors[0].contains("10.96.0.1 is also an address of Service default/a"), "{errors:?}");
}

#[test]
fn a_cluster_address_may_be_given_by_an_ip_address_object() {
    let given = |ip: &str, service: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: IPAddress\nmetadata: {{name: '{ip}'}}\n\
             spec: {{parentRef: {{group: '', resource: services, namespace: default, name: {service}}}}}\n---\n"
        )
    };
    let text = given("10.96.0.9", "a")
        + &given("fd00:10:96::9", "a")
        + &given("10.96.0.8", "b")
        + &given("10.96.0.6", "headless");
    let text = text
        + &service("a", "type: ClusterIP")
        + &service("b", "clusterIP: 10.96.0.1")
        + &service("headless", "clusterIP: None");
    let ips: Vec<_> = one(&text).unwrap().services.into_iter().map(|service| service.cluster_ips).collect();
    let want: Vec<Vec<IpAddr>> = [vec!["10.96.0.9", "fd00:10:96::9"], vec!["10.96.0.1"], vec![]]
        .map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect())
        .into();
    assert_eq!(ips, want);
    assert!(errors(&given("10.96.0", "a"))[0].contains("metadata.name: expected an IP address"));
}

#[test]
fn files_and_folders_beyond_bounds_are_refused() {
    let large = "#".repeat(MAX_FILE_BYTES + 1);
    assert_eq!(
        errors(&large),
        [format!("f.yaml: the file has {} bytes, at most {MAX_FILE_BYTES} are read", large.len())]
    );
    let many = "a\n---\n".repeat(MAX_DOCUMENTS + 1);
    assert!(errors(&many).last().unwrap().contains("more than 100000 documents"));
}

#[test]
fn every_error_of_every_file_is_told_at_once() {
    let a =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: A, labels: [x]}\nspec: {nodename: x}\n---\nb: [\n---\nkind: 7\n";
    let b = service("s", "ports: [{port: x}, {prot: 80, name: y}]");
    let texts: Vec<_> = parse(&[(file("a"), a), (file("b"), &b)])
        .unwrap_err()
        .iter()
        .map(|error| format!("{}|{}", error.origin.file, error.field))
        .collect();
    assert_eq!(
        texts,
        [
            "a|metadata.labels",
            "a|metadata.name",
            "a|spec.nodename",
            "a|spec.containers",
            "a|",
            "a|apiVersion",
            "b|spec.ports[0].name",
            "b|spec.ports[0].port",
            "b|spec.ports[1].prot",
            "b|spec.ports[1].port",
        ]
    );
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused_with_a_reason(text in "\\PC*") {
        if let Err(errors) = one(&text) {
            prop_assert!(!errors.is_empty());
        }
    }

    #[test]
    fn yaml_of_any_shape_is_taken_or_refused_with_a_reason(text in "([a-c&*!]{1,2}[:,] ?|[\\[\\]{}\\n\\-]| {1,3}|---\\n){0,40}") {
        if let Err(errors) = one(&text) {
            prop_assert!(!errors.is_empty());
        }
    }

    #[test]
    fn a_broken_object_hides_no_other(broken in prop::collection::vec(any::<bool>(), 1..8)) {
        let text: String = broken.iter().enumerate().map(|(i, broken)| {
            pod(&format!("p{i}"), "", if *broken { ", nodename: x" } else { "" }, "")
        }).collect();
        let want = broken.iter().filter(|broken| **broken).count();
        match one(&text) {
            Ok(objects) => prop_assert_eq!((want, objects.pods.len()), (0, broken.len())),
            Err(errors) => prop_assert_eq!(errors.len(), want),
        }
    }
}
