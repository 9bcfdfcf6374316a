//! Manifests to the mesh: enrolment, names, services, endpoints.

use weir_manifest::{FileName, parse};
use weir_model::{AppProtocol, Enrolment, Health, HealthPolicy, Port, Tunnel, Workload, WorkloadKind};

use super::*;

fn settings() -> Settings {
    Settings {
        trust_domain: "td.example".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "net1".parse().unwrap(),
        node: Some("n1".parse().unwrap()),
        cluster_domain: Default::default(),
        root_namespace: crate::default_root_namespace(),
    }
}

fn mesh(text: &str) -> Mesh {
    match parse(&[(FileName::new("f.yaml"), text)]) {
        Ok(objects) => compile(objects, &settings()),
        Err(errors) => panic!("{:#?}", errors.iter().map(ToString::to_string).collect::<Vec<_>>()),
    }
}

fn namespace(name: &str, labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n")
}

/// A ready dual-stack pod of namespace `a` on node `n1`, unless the parts say otherwise.
fn pod_with(name: &str, octet: u8, meta: &str, spec: &str, container: &str, status: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: a{meta}}}\n\
         spec: {{nodeName: n1, containers: [{{name: app{container}}}]{spec}}}\n\
         status: {{podIPs: [{{ip: 10.0.0.{octet}}}, {{ip: 'fd00::{octet}'}}], {status}}}\n---\n"
    )
}

const READY: &str = "phase: Running, conditions: [{type: Ready, status: 'True'}]";
const UNREADY: &str = "phase: Running, conditions: [{type: Ready, status: 'False'}]";

fn pod(name: &str, octet: u8, meta: &str) -> String {
    pod_with(name, octet, meta, "", "", READY)
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: a}}\nspec: {{{spec}}}\n---\n")
}

fn slice(name: &str, service: &str, family: &str, endpoints: &str, ports: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, namespace: a, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         addressType: {family}\nendpoints: [{endpoints}]\nports: [{ports}]\n---\n"
    )
}

fn workload(text: &str) -> Workload {
    let mut mesh = mesh(text);
    assert_eq!(mesh.workloads.len(), 1);
    mesh.workloads.remove(0)
}

/// `workload|addresses|ports|health` of each workload behind the service, by uid; `-` for one that is no pod.
fn lines(mesh: &Mesh, service: &str) -> Vec<String> {
    let line = |one: &Workload, ports: &[(Port, Port)]| {
        let name = if one.uid.as_str().contains("//v1/Pod/") { &*one.name } else { "-" };
        let addresses: Vec<_> = one.addresses.iter().map(ToString::to_string).collect();
        let ports: Vec<_> = ports.iter().map(|(from, to)| format!("{from}>{to}")).collect();
        let health = if one.health == Health::Healthy { "ready" } else { "not" };
        format!("{name}|{}|{}|{health}", addresses.join(","), ports.join(","))
    };
    let of = |one: &Workload| {
        let membership = one.services.iter().find(|own| own.service.to_string().starts_with(&format!("a/{service}.")));
        membership.map(|own| line(one, &own.ports))
    };
    mesh.workloads.iter().filter_map(of).collect()
}

#[test]
fn a_pod_is_enrolled_exactly_when_it_should_be() {
    let (ambient, none) = ("istio.io/dataplane-mode: ambient", "istio.io/dataplane-mode: none");
    let labels = |label: &str| format!(", labels: {{{label}}}");
    let sidecar = ", annotations: {sidecar.istio.io/status: '{}'}";
    for (namespace_label, meta, spec, want) in [
        ("", String::new(), "", Enrolment::NotLabelled),
        (none, String::new(), "", Enrolment::NotLabelled),
        (ambient, String::new(), "", Enrolment::Enrolled),
        ("", labels(ambient), "", Enrolment::Enrolled),
        (none, labels(ambient), "", Enrolment::Enrolled),
        (ambient, labels(none), "", Enrolment::OptedOut),
        (ambient, labels(ambient), ", hostNetwork: true", Enrolment::HostNetwork),
        (ambient, sidecar.into(), "", Enrolment::Sidecar),
        (ambient, String::new(), ", initContainers: [{name: istio-proxy}]", Enrolment::Sidecar),
    ] {
        let mesh = mesh(&(namespace("a", namespace_label) + &pod_with("p", 1, &meta, spec, "", READY)));
        assert_eq!(mesh.local_pods[0].enrolment, want, "{namespace_label} {meta} {spec}");
        let tunnel = if want == Enrolment::Enrolled { Tunnel::Hbone } else { Tunnel::None };
        assert_eq!(mesh.workloads[0].tunnel, tunnel, "{namespace_label} {meta} {spec}");
    }
    let other = namespace("b", ambient) + &pod("p", 1, "");
    assert_eq!(mesh(&other).local_pods[0].enrolment, Enrolment::NotLabelled, "a label of another namespace");
}

#[test]
fn a_pod_becomes_a_workload_once_it_has_a_node_or_an_address_and_until_it_ends() {
    for (meta, status, want) in [
        ("", READY, Some(Health::Healthy)),
        ("", UNREADY, Some(Health::Unhealthy)),
        ("", "phase: Running", Some(Health::Unhealthy)),
        ("", "phase: Pending", Some(Health::Unhealthy)),
        (", deletionTimestamp: '2026-08-01T10:00:00Z'", READY, Some(Health::Unhealthy)),
        ("", "phase: Succeeded", None),
        ("", "phase: Failed", None),
    ] {
        let mesh = mesh(&pod_with("p", 1, meta, "", "", status));
        assert_eq!(mesh.workloads.first().map(|one| one.health), want, "{meta} {status}");
        assert_eq!(mesh.local_pods.len(), mesh.workloads.len());
    }
    let waiting = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\nstatus: {phase: Pending}";
    assert_eq!(mesh(waiting), Mesh::default());
    // Its address is said when the CNI plugins are done, and its agent must know of it before.
    let starting = mesh(&waiting.replace("containers: []", "nodeName: n1, containers: []"));
    assert_eq!((starting.workloads.len(), starting.local_pods.len()), (1, 1));
    assert!(starting.workloads[0].addresses.is_empty());
}

#[test]
fn local_pods_are_those_of_the_own_node() {
    let text = pod("here", 1, ", annotations: {weir.dev/netns: /run/netns/here}")
        + &pod("there", 2, "").replace("nodeName: n1", "nodeName: n2");
    let mesh = mesh(&text);
    assert_eq!(mesh.workloads.len(), 2);
    let [local] = mesh.local_pods.as_slice() else { panic!("{:?}", mesh.local_pods) };
    assert_eq!(local.uid.as_str(), "Kubernetes//v1/Pod/a/here");
    assert_eq!(local.netns.as_deref(), Some(std::path::Path::new("/run/netns/here")));
    assert_eq!(local.addresses.len(), 2);
    let objects = parse(&[(FileName::new("f"), &text)]).unwrap();
    assert!(compile(objects, &Settings { node: None, ..settings() }).local_pods.is_empty());
}

#[test]
fn a_workload_is_named_after_its_controller() {
    let owner = |kind: &str, name: &str| {
        format!(
            ", ownerReferences: [{{apiVersion: x, kind: Other, name: other}}, {{apiVersion: x, kind: {kind}, name: {name}, controller: true}}]"
        )
    };
    for (meta, kind, name) in [
        (String::new(), WorkloadKind::Pod, "p"),
        (owner("ReplicaSet", "ui-77d") + ", labels: {pod-template-hash: 77d}", WorkloadKind::Deployment, "ui"),
        (owner("ReplicaSet", "ui-77d") + ", labels: {pod-template-hash: 88e}", WorkloadKind::Pod, "ui-77d"),
        (owner("ReplicaSet", "ui-77d"), WorkloadKind::Pod, "ui-77d"),
        (owner("StatefulSet", "db"), WorkloadKind::Pod, "db"),
        (owner("DaemonSet", "log"), WorkloadKind::Pod, "log"),
        (owner("Job", "nightly-28000001"), WorkloadKind::CronJob, "nightly"),
        (owner("Job", "import-2026"), WorkloadKind::Job, "import-2026"),
        (owner("Job", "import"), WorkloadKind::Job, "import"),
        (owner("Job", "import") + ", labels: {service.istio.io/workload-name: w}", WorkloadKind::Job, "w"),
    ] {
        let workload = workload(&pod("p", 1, &meta));
        assert_eq!((workload.kind, &*workload.workload_name), (kind, name), "{meta}");
        assert_eq!((&*workload.canonical_name, &*workload.canonical_revision), (name, "latest"), "{meta}");
    }
}

#[test]
fn canonical_name_and_revision_are_istios() {
    let mut labels = String::new();
    for (label, name, revision) in [
        ("app: x1", "x1", "latest"),
        ("app.kubernetes.io/name: x2", "x2", "latest"),
        ("service.istio.io/canonical-name: x3", "x3", "latest"),
        ("version: v1", "x3", "v1"),
        ("app.kubernetes.io/version: v2", "x3", "v2"),
        ("service.istio.io/canonical-revision: v3", "x3", "v3"),
    ] {
        labels.push_str(&format!("{label}, "));
        let workload = workload(&pod("p", 1, &format!(", labels: {{{labels}}}")));
        assert_eq!((&*workload.canonical_name, &*workload.canonical_revision), (name, revision), "{labels}");
    }
}

#[test]
fn identity_network_and_place_come_from_settings_labels_and_node() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}}\n---\n";
    let plain = workload(&(node.to_owned() + &pod_with("p", 1, "", ", serviceAccountName: sa", "", READY)));
    assert_eq!(plain.identity().to_string(), "spiffe://td.example/ns/a/sa/sa");
    assert_eq!((plain.network.as_str(), &*plain.locality.region, &*plain.locality.zone), ("net1", "r", "z"));
    let far = workload(&pod("p", 1, ", labels: {topology.istio.io/network: net2}"));
    assert_eq!((far.network.as_str(), far.service_account.as_str()), ("net2", "default"));
}

#[test]
fn a_service_has_the_addresses_that_lead_to_it() {
    for (spec, want) in [
        ("clusterIP: 10.96.0.1", vec!["10.96.0.1/32"]),
        ("clusterIPs: ['fd00:10::1', 10.96.0.1]", vec!["fd00:10::1/128", "10.96.0.1/32"]),
        ("clusterIP: 10.96.0.1, externalIPs: [192.0.2.1, 10.96.0.1]", vec!["10.96.0.1/32", "192.0.2.1/32"]),
        ("clusterIP: None", vec![]),
        ("type: ExternalName, externalName: example.com, externalIPs: [192.0.2.1]", vec![]),
    ] {
        let mesh = mesh(&service("s", spec));
        let service = &mesh.services[0];
        assert_eq!(service.name.to_string(), "a/s.a.svc.cluster.local");
        let vips: Vec<_> = service.vips.iter().map(|(_, vip)| vip.to_string()).collect();
        assert_eq!(vips, want, "{spec}");
        assert!(service.vips.iter().all(|(network, _)| network.as_str() == "net1"));
    }
}

#[test]
fn a_selector_makes_endpoints_with_each_pods_own_ports() {
    let ports = |web: u16| {
        format!(", ports: [{{name: web, containerPort: {web}}}, {{name: dns, containerPort: 53, protocol: UDP}}]")
    };
    let app = ", labels: {app: x, tier: t}";
    let pods = pod_with("p1", 1, app, "", &ports(8080), READY)
        + &pod_with(
            "p2",
            2,
            app,
            ", initContainers: [{name: late, ports: [{name: adm, containerPort: 99}]}]",
            &ports(9090),
            UNREADY,
        )
        + &pod("other", 3, ", labels: {app: y}")
        + &pod("elsewhere", 4, app).replace("namespace: a", "namespace: b")
        + &pod_with("done", 5, app, "", "", "phase: Succeeded");
    let spec = "selector: {app: x}, ports: [{name: a, port: 80, targetPort: web}, {name: b, port: 81}, {name: c, port: 82, targetPort: 8082}, {name: d, port: 83, targetPort: adm}, {name: e, port: 84, targetPort: dns}, {name: u, port: 53, protocol: UDP}]";
    // One pod set behind two services, each with its own view of ports and health.
    let second = "selector: {tier: t}, publishNotReadyAddresses: true, ports: [{port: 80, targetPort: 7}]";
    let mesh = mesh(&(pods + &service("s", spec) + &service("second", second)));
    assert_eq!(
        lines(&mesh, "s"),
        ["p1|10.0.0.1,fd00::1|80>8080,81>81,82>8082|ready", "p2|10.0.0.2,fd00::2|80>9090,81>81,82>8082,83>99|not",]
    );
    assert_eq!(mesh.services[0].health_policy, HealthPolicy::OnlyReady);
    assert_eq!(lines(&mesh, "second"), ["p1|10.0.0.1,fd00::1|80>7|ready", "p2|10.0.0.2,fd00::2|80>7|not"]);
    assert_eq!(mesh.services[1].health_policy, HealthPolicy::All);
}

#[test]
fn slices_count_before_the_selector_and_map_ports_by_name() {
    let pods = pod("p1", 1, ", labels: {app: x}") + &pod("p2", 2, ", labels: {app: x}");
    let target = |name: &str| format!("targetRef: {{kind: Pod, name: {name}, namespace: a}}");
    let spec = "selector: {app: x}, ports: [{name: web, port: 80, targetPort: 1}, {name: adm, port: 81}]";
    let four =
        format!("{{addresses: [10.0.0.1], {}}}, {{addresses: [10.0.0.9], conditions: {{ready: false}}}}", target("p1"));
    let six = format!("{{addresses: ['fd00::1'], {}}}", target("p1"));
    let text = pods
        + &service("s", spec)
        + &slice("s-1", "s", "IPv4", &four, "{name: web, port: 8080}, {name: dns, port: 53, protocol: UDP}")
        // The same endpoint once more, ready by now, as while slices are rewritten.
        + &slice("s-2", "s", "IPv4", "{addresses: [10.0.0.9]}", "{name: web, port: 8080}")
        + &slice("s-3", "s", "IPv6", &six, "{name: web, port: 8080}, {name: adm}");
    assert_eq!(lines(&mesh(&text), "s"), ["p1|10.0.0.1,fd00::1|80>8080,81>81|ready", "-|10.0.0.9|80>8080|ready"]);
    let empty = pod("p1", 1, ", labels: {app: x}") + &service("s", spec) + &slice("s-1", "s", "IPv4", "", "");
    assert!(lines(&mesh(&empty), "s").is_empty(), "an empty slice says that there are none");
}

#[test]
fn an_endpoint_whose_pod_is_gone_is_nobodys() {
    let named =
        |name: &str, ip: &str| format!("{{addresses: [{ip}], targetRef: {{kind: Pod, name: {name}, namespace: a}}}}");
    let spec = "ports: [{port: 80}]";
    for (endpoint, want) in [
        (named("p1", "10.0.0.1"), vec!["p1|10.0.0.1,fd00::1|80>80|ready"]),
        // The pod has ended and its address is another's by now.
        (named("old", "10.0.0.1"), vec![]),
        (named("p1", "10.0.0.2"), vec![]),
        (named("done", "10.0.0.3"), vec![]),
        ("{addresses: [10.0.0.1]}".into(), vec!["p1|10.0.0.1,fd00::1|80>80|ready"]),
        ("{addresses: [192.0.2.1]}".into(), vec!["-|192.0.2.1|80>80|ready"]),
        // Many host-network pods share an address: only a name tells which.
        ("{addresses: [10.0.0.4]}".into(), vec!["-|10.0.0.4|80>80|ready"]),
        (named("host", "10.0.0.4"), vec!["host|10.0.0.4,fd00::4|80>80|ready"]),
    ] {
        let text = pod("p1", 1, "")
            + &pod_with("done", 3, "", "", "", "phase: Failed")
            + &pod_with("host", 4, "", ", hostNetwork: true", "", READY)
            + &service("s", spec)
            + &slice("s-1", "s", "IPv4", &endpoint, "{port: 80}");
        assert_eq!(lines(&mesh(&text), "s"), want, "{endpoint}");
    }
}

#[test]
fn services_without_selector_or_of_another_name_have_no_pods() {
    let pods = pod("p1", 1, ", labels: {app: x}");
    for spec in ["ports: [{port: 80}]", "type: ExternalName, externalName: example.com, selector: {app: x}"] {
        assert!(lines(&mesh(&(pods.clone() + &service("s", spec))), "s").is_empty(), "{spec}");
    }
}

#[test]
fn a_port_speaks_what_its_app_protocol_or_name_says() {
    for (port, want) in [
        ("port: 80", AppProtocol::Unknown),
        ("port: 80, name: http", AppProtocol::Http11),
        ("port: 80, name: http-web", AppProtocol::Http11),
        ("port: 80, name: httpweb", AppProtocol::Unknown),
        ("port: 80, name: grpc-api", AppProtocol::Grpc),
        ("port: 80, name: https", AppProtocol::Tls),
        ("port: 80, name: http, appProtocol: http2", AppProtocol::Http2),
        ("port: 80, appProtocol: kubernetes.io/h2c", AppProtocol::Http2),
        ("port: 80, appProtocol: kubernetes.io/ws", AppProtocol::Http11),
        ("port: 80, appProtocol: HTTP", AppProtocol::Http11),
        ("port: 80, name: http, appProtocol: example.com/x", AppProtocol::Unknown),
        ("port: 6379, name: redis", AppProtocol::Tcp),
        ("port: 3306", AppProtocol::Tcp),
    ] {
        let mesh = mesh(&service("s", &format!("ports: [{{{port}}}]")));
        assert_eq!(mesh.services[0].ports[0].protocol, want, "{port}");
    }
}

/// `scope action [dry run] kind name (file) | rules or the reason`, by name.
fn policies(text: &str) -> Vec<String> {
    let line = |one: weir_model::Policy| {
        let places: Vec<String> = one.rules.iter().map(|rule| format!("{:?}", rule.place)).collect();
        let dry_run = if one.dry_run { " dry run" } else { "" };
        let file = one.source.file.as_deref().unwrap_or("-");
        let said = one.rejected.as_deref().map_or(places.join(" "), ToOwned::to_owned);
        format!("{:?} {:?}{dry_run} {} {} ({file}) | {said}", one.scope, one.action, one.source.kind, one.name)
    };
    mesh(text).policies.into_iter().map(line).collect()
}

fn policy(kind: &str, meta: &str, spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{{meta}}}\nspec:{spec}\n---\n")
}

#[test]
fn a_policy_of_a_folder_is_found_by_file_and_line_and_only_what_is_for_agents_is_made() {
    let (ours, root) = ("name: p, namespace: a", "name: p, namespace: istio-system");
    let dry = "name: p, namespace: a, annotations: {istio.io/dry-run: 'true'}";
    let line = |line: u32| format!("RulePlace {{ index: Some(0), line: Some({line}) }}");
    let mode = "RulePlace { index: None, line: Some(1) }";
    let (authorization, peer, request) = ("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication");
    let ask = "CUSTOM asks the provider \"x\", and this version cannot ask any";
    let tokens = "agents see connections and no tokens of requests, and what has no targetRefs is no waypoint's";
    for (kind, meta, spec, want) in [
        (authorization, ours, " {}", vec!["Namespace Allow AuthorizationPolicy a/p (f.yaml) | ".to_owned()]),
        (authorization, root, " {}", vec!["Mesh Allow AuthorizationPolicy istio-system/p (f.yaml) | ".to_owned()]),
        (
            authorization,
            root,
            "\n  selector: {matchLabels: {a: b}}\n  action: DENY\n  rules:\n  - {}",
            vec![format!("Workloads Deny AuthorizationPolicy istio-system/p (f.yaml) | {}", line(8))],
        ),
        (
            authorization,
            dry,
            "\n  action: AUDIT\n  rules:\n  - to: [{operation: {ports: ['80']}}]",
            vec![format!("Namespace Audit dry run AuthorizationPolicy a/p (f.yaml) | {}", line(7))],
        ),
        (
            authorization,
            ours,
            " {action: CUSTOM, provider: {name: x}, rules: [{}]}",
            vec![format!("Namespace Deny AuthorizationPolicy a/p (f.yaml) | {ask}")],
        ),
        (authorization, ours, " {targetRefs: [{group: '', kind: Service, name: s}], rules: [{}]}", vec![]),
        (
            peer,
            root,
            " {mtls: {mode: STRICT}}",
            vec![format!(
                "Workloads Deny PeerAuthentication istio-system/converted_peer_authentication_p (f.yaml) | {mode}"
            )],
        ),
        (peer, ours, " {mtls: {mode: PERMISSIVE}}", vec![]),
        (
            peer,
            ours,
            " {selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: STRICT}, 81: {mode: PERMISSIVE}}}",
            vec![
                format!("Workloads Deny PeerAuthentication a/converted_peer_authentication_p (f.yaml) | {mode}"),
                format!("Workloads Deny PeerAuthentication a/converted_peer_authentication_p~strict (f.yaml) | {mode}"),
            ],
        ),
        (
            request,
            ours,
            " {jwtRules: [{issuer: 'https://x.example'}]}",
            vec![format!("Namespace Deny RequestAuthentication a/requestauthentication~p (f.yaml) | {tokens}")],
        ),
        (request, ours, " {targetRefs: [{group: '', kind: Service, name: s}]}", vec![]),
    ] {
        let text = policy(kind, meta, spec);
        assert_eq!(policies(&text), want, "{text}");
        let statuses = compile_with_status(parse(&[(FileName::new("f.yaml"), &text)]).unwrap(), &settings()).1;
        let [status] = &statuses[..] else { panic!("{statuses:?}") };
        assert_eq!((status.kind.as_str(), status.name.as_str()), (kind, "p"));
        let denied = want.iter().any(|line| line.ends_with(ask) || line.ends_with(tokens));
        assert_eq!(status.is_as_written(), !denied && !spec.contains("targetRefs"), "{status}");
    }
}
