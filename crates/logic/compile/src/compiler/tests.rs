//! A compiler that is told of changes ends up where one would that is told of everything at once, and says only what changed.

use proptest::prelude::*;
use weir_manifest::{
    Backing, ContainerPort, DataplaneMode, FileName, Labels, NamespaceObject, Origin, Owner, Phase, PolicySpec,
    PolicyTarget, ServicePortObject, Sidecar, SliceEndpoint, SlicePort, TargetPort, WaypointLabels, WaypointUse,
};
use weir_model::{Health, HealthPolicy, Locality, NetworkMode, PolicyKind, Port, Service, Tunnel, Workload};

use super::*;

pub(super) fn settings() -> Settings {
    Settings {
        trust_domain: "td.example".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: Some("n1".parse().unwrap()),
        cluster_domain: Default::default(),
        root_namespace: "root".parse().unwrap(),
    }
}

pub(super) fn origin() -> Origin {
    Origin { file: FileName::new("f"), document: 1, line: 1 }
}

pub(super) fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.into(), value.into())).collect()
}

pub(super) fn ips(octet: usize) -> Vec<IpAddr> {
    let [.., high, low] = octet.to_be_bytes();
    vec![IpAddr::from([10, 0, high, low]), format!("fd00::{octet:x}").parse().unwrap()]
}

pub(super) fn pod(namespace: &str, name: &str, octet: usize, of: &str) -> PodObject {
    PodObject {
        origin: origin(),
        namespace: namespace.parse().unwrap(),
        name: name.into(),
        incarnation: "1".into(),
        labels: labels(of),
        mode: None,
        waypoint: WaypointLabels::default(),
        network: None,
        netns: None,
        owner: None,
        service_account: "default".parse().unwrap(),
        node: Some("n1".parse().unwrap()),
        network_mode: NetworkMode::Standard,
        sidecar: Sidecar::Absent,
        ports: vec![ContainerPort { name: "web".into(), port: Port::new(8080).unwrap() }],
        phase: Phase::Running,
        addresses: ips(octet),
        health: Health::Healthy,
    }
}

pub(super) fn service(namespace: &str, name: &str, selector: &str) -> ServiceObject {
    let port = |name: &str, port, target| ServicePortObject {
        name: name.into(),
        port: Port::new(port).unwrap(),
        target,
        app_protocol: None,
    };
    ServiceObject {
        origin: origin(),
        namespace: namespace.parse().unwrap(),
        name: name.into(),
        waypoint: WaypointLabels::default(),
        cluster_ips: vec!["10.96.0.1".parse().unwrap(), "fd00:96::1".parse().unwrap()],
        external_ips: Vec::new(),
        selector: labels(selector),
        ports: vec![
            port("a", 80, TargetPort::Name("web".into())),
            port("b", 81, TargetPort::Number(Port::new(81).unwrap())),
        ],
        health_policy: HealthPolicy::OnlyReady,
        backing: Backing::Endpoints,
    }
}

pub(super) fn slice(namespace: &str, name: &str, service: &str, endpoints: Vec<SliceEndpoint>) -> EndpointSliceObject {
    EndpointSliceObject {
        origin: origin(),
        namespace: namespace.parse().unwrap(),
        name: name.into(),
        service: Some(service.into()),
        endpoints,
        ports: vec![SlicePort { name: "a".into(), port: Port::new(9090) }],
    }
}

pub(super) fn endpoint(octet: usize, pod: Option<(&str, &str)>) -> SliceEndpoint {
    SliceEndpoint {
        addresses: ips(octet)[..1].to_vec(),
        health: Health::Healthy,
        pod: pod.map(|(namespace, name)| (namespace.parse().unwrap(), name.into())),
    }
}

pub(super) fn namespace(name: &str, mode: Option<DataplaneMode>) -> Object {
    let waypoint = WaypointLabels::default();
    Object::Namespace(NamespaceObject {
        origin: origin(),
        name: name.parse().unwrap(),
        mode,
        labels: Labels::new(),
        waypoint,
    })
}

fn node(name: &str, zone: &str) -> Object {
    let labels = labels(&format!("topology.kubernetes.io/zone={zone}"));
    Object::Node(NodeObject { origin: origin(), name: name.parse().unwrap(), labels })
}

fn policy(namespace: &str, kind: &str, selector: Option<&str>) -> Object {
    let kind = match kind {
        "PeerAuthentication" => PolicyKind::PeerAuthentication,
        _ => PolicyKind::Authorization,
    };
    Object::Policy(policy_of(namespace, kind, selector, PolicySpec::Rejected("no".into())))
}

pub(super) fn policy_of(namespace: &str, kind: PolicyKind, selector: Option<&str>, spec: PolicySpec) -> PolicyObject {
    PolicyObject {
        origin: origin(),
        kind,
        namespace: namespace.parse().unwrap(),
        name: "p".into(),
        created: None,
        generation: None,
        target: selector.map(labels).filter(|one| !one.is_empty()).map_or(PolicyTarget::All, PolicyTarget::Selector),
        spec,
    }
}

pub(super) const SPACES: [&str; 3] = ["a", "b", "root"];
pub(super) const LABELS: [&str; 5] = ["", "app=x", "app=y", "app=x,tier=t", "tier=t"];

/// Mostly nothing.
pub(super) fn a_bond() -> impl Strategy<Value = WaypointLabels> {
    let gateway = |namespace: Option<&str>, name: &str| {
        Some(WaypointUse::Gateway { namespace: namespace.map(|one| one.parse().unwrap()), name: name.into() })
    };
    let uses = vec![gateway(None, "w1"), gateway(None, "w2"), gateway(Some("b"), "w1"), Some(WaypointUse::None)];
    let uses = prop::sample::select([vec![None; 8], uses].concat());
    (uses, prop::bool::weighted(0.2)).prop_map(|(uses, required)| WaypointLabels { uses, required })
}

pub(super) fn compiler(objects: impl IntoIterator<Item = Object>) -> Compiler {
    let mut compiler = Compiler::new(settings());
    for object in objects {
        compiler.set(object);
    }
    compiler.take();
    compiler
}

/// The names of the workloads that changed, `-` before those that are gone.
pub(super) fn changed(compiler: &mut Compiler) -> Vec<String> {
    let name = |uid: &WorkloadUid| uid.as_str().rsplit('/').next().unwrap().to_owned();
    let line = |(uid, now): &(_, Option<Workload>)| format!("{}{}", if now.is_some() { "" } else { "-" }, name(uid));
    compiler.take().workloads.iter().map(line).collect()
}

pub(super) fn find(compiler: &Compiler, name: &str) -> Workload {
    compiler.mesh().workloads.into_iter().find(|one| &*one.name == name).unwrap()
}

#[test]
fn one_of_five_thousand_endpoints_changes_alone() {
    let name = |i: usize| format!("p{i:04}");
    let names: Vec<String> = (0..5_000).map(name).collect();
    let pods = (0..5_000).map(|i| Object::Pod(pod("a", &names[i], i + 1, "app=x")));
    let all = |but: usize| {
        let endpoints = (0..5_000).filter(|i| *i != but).map(|i| endpoint(i + 1, Some(("a", &names[i]))));
        Object::EndpointSlice(slice("a", "e", "s", endpoints.collect()))
    };
    let mut compiler = compiler(pods.chain([Object::Service(service("a", "s", "app=x")), all(5_000)]));
    assert!(compiler.mesh().workloads.iter().all(|one| one.services.len() == 1));
    let mut sick = pod("a", "p0007", 8, "app=x");
    sick.health = Health::Unhealthy;
    compiler.set(Object::Pod(sick));
    assert_eq!(compiler.marked.pods.len(), 1);
    assert_eq!(changed(&mut compiler), ["p0007"]);
    compiler.set(all(9));
    assert_eq!(compiler.marked.pods.len(), 1, "an endpoint that leaves concerns nobody else");
    assert_eq!(changed(&mut compiler), ["p0009"]);
    assert!(find(&compiler, "p0009").services.is_empty());
}

#[test]
fn a_label_of_a_namespace_turns_its_thousand_pods_and_turning_it_back_turns_none() {
    let pods = (0..1_000).map(|i| Object::Pod(pod("a", &format!("p{i}"), i + 1, "app=x")));
    let mut compiler = compiler(pods.chain([Object::Pod(pod("b", "other", 2_000, "app=x"))]));
    compiler.set(namespace("a", Some(DataplaneMode::Ambient)));
    compiler.set(namespace("a", None));
    assert_eq!(changed(&mut compiler), [""; 0]);
    compiler.set(namespace("a", Some(DataplaneMode::Ambient)));
    let delta = compiler.take();
    let meshed = |one: &Workload| one.tunnel == Tunnel::Hbone;
    assert_eq!(delta.workloads.iter().filter(|(_, now)| now.as_ref().is_some_and(meshed)).count(), 1_000);
    assert_eq!(delta.workloads.len(), 1_000);
    compiler.remove(&namespace("a", None).key());
    assert_eq!(changed(&mut compiler).len(), 1_000);
}

#[test]
fn a_pod_made_anew_under_its_name_is_another() {
    let mut compiler = compiler([Object::Pod(pod("a", "p", 1, ""))]);
    let mut anew = pod("a", "p", 1, "");
    anew.incarnation = "2".into();
    compiler.remove(&Object::Pod(anew.clone()).key());
    compiler.set(Object::Pod(anew));
    assert_eq!(changed(&mut compiler), ["p"]);
    assert_eq!(&*find(&compiler, "p").incarnation, "2");
    compiler.set(Object::Pod(pod("a", "q", 2, "")));
    compiler.remove(&Object::Pod(pod("a", "q", 2, "")).key());
    assert_eq!(changed(&mut compiler), [""; 0], "one that came and went in between never was");
}

#[test]
fn where_a_node_is_may_come_late_and_change() {
    let mut stray = pod("a", "stray", 3, "");
    stray.node = Some("gone".parse().unwrap());
    let mut homeless = pod("a", "homeless", 4, "");
    homeless.node = None;
    let mut compiler = compiler([pod("a", "p", 1, ""), stray, homeless].map(Object::Pod));
    assert_eq!(find(&compiler, "p").locality, Locality::default());
    for (object, zone) in [(node("n1", "z1"), "z1"), (node("n1", "z2"), "z2")] {
        compiler.set(object);
        assert_eq!(changed(&mut compiler), ["p"]);
        assert_eq!(&*find(&compiler, "p").locality.zone, zone);
    }
    compiler.remove(&node("n1", "").key());
    assert_eq!(changed(&mut compiler), ["p"]);
    for name in ["p", "stray", "homeless"] {
        assert_eq!(find(&compiler, name).locality, Locality::default(), "{name}");
    }
}

#[test]
fn services_are_what_they_are_whether_anything_stands_behind_them() {
    let headless = ServiceObject { cluster_ips: Vec::new(), ..service("a", "headless", "app=x") };
    let external = ServiceObject { backing: Backing::ExternalName, ..service("a", "external", "app=x") };
    let nobody = service("a", "nobody", "app=none");
    let twin = service("b", "twin", "app=x");
    let services = [headless, external, nobody, twin].map(Object::Service);
    let compiler = compiler(services.into_iter().chain([Object::Pod(pod("a", "p", 1, "app=x"))]));
    let mesh = compiler.mesh();
    let vips: Vec<_> = mesh.services.iter().map(|one| (&*one.short_name, one.vips.len())).collect();
    assert_eq!(vips, [("external", 0), ("headless", 0), ("nobody", 2), ("twin", 2)]);
    let [own] = mesh.workloads[0].services.as_slice() else { panic!("{mesh:?}") };
    assert_eq!(own.service.to_string(), "a/headless.a.svc.cluster.local");
    assert_eq!(mesh.workloads[0].addresses.len(), 2, "both families");
}

#[test]
fn an_endpoint_is_the_pod_at_its_address_for_as_long_as_there_is_one() {
    let objects = [
        Object::Service(service("a", "s", "")),
        Object::EndpointSlice(slice("a", "e", "s", vec![endpoint(1, None), endpoint(2, None)])),
    ];
    let mut compiler = compiler(objects);
    let uids = |compiler: &Compiler| {
        let behind = |one: &Workload| (!one.services.is_empty()).then(|| one.uid.to_string());
        compiler.mesh().workloads.iter().filter_map(behind).collect::<Vec<_>>()
    };
    let own = |octet: u8| format!("Kubernetes/discovery.k8s.io/EndpointSlice/a/e/10.0.0.{octet}");
    assert_eq!(uids(&compiler), [own(1), own(2)]);
    // It comes, and another says that it has the address as well.
    compiler.set(Object::Pod(pod("a", "p", 1, "")));
    assert_eq!(changed(&mut compiler), ["p", "-10.0.0.1"]);
    compiler.set(Object::Pod(pod("a", "q", 1, "")));
    assert_eq!(changed(&mut compiler), ["q"]);
    assert_eq!(uids(&compiler), ["Kubernetes//v1/Pod/a/p".into(), own(2)]);
    compiler.remove(&Object::Pod(pod("a", "p", 1, "")).key());
    assert_eq!(changed(&mut compiler), ["-p", "q"]);
    assert_eq!(uids(&compiler), ["Kubernetes//v1/Pod/a/q".into(), own(2)]);
    compiler.remove(&Object::Pod(pod("a", "q", 1, "")).key());
    assert_eq!(changed(&mut compiler), ["-q", "10.0.0.1"]);
    compiler.remove(&Object::Service(service("a", "s", "")).key());
    assert_eq!(changed(&mut compiler), ["-10.0.0.1", "-10.0.0.2"]);
}

#[test]
fn the_selector_counts_again_when_the_last_slice_is_gone() {
    let ours = || Object::EndpointSlice(slice("a", "e", "s", Vec::new()));
    let objects = [Object::Pod(pod("a", "p", 1, "app=x")), Object::Service(service("a", "s", "app=x")), ours()];
    let mut compiler = compiler(objects);
    assert!(find(&compiler, "p").services.is_empty());
    compiler.remove(&ours().key());
    assert_eq!(changed(&mut compiler), ["p"]);
    assert_eq!(find(&compiler, "p").services.len(), 1);
    compiler.set(ours());
    assert_eq!(changed(&mut compiler), ["p"]);
}

#[test]
fn a_policy_covers_whom_it_selects_and_its_name_is_no_others() {
    use weir_model::PolicyScope::{Mesh, Namespace, Workloads};
    let (authorization, peer) = ("AuthorizationPolicy", "PeerAuthentication");
    for (object, name, scope, selected) in [
        (policy("a", authorization, None), "a/p", Namespace, vec![]),
        (policy("a", authorization, Some("")), "a/p", Namespace, vec![]),
        (policy("a", authorization, Some("app=x")), "a/p", Workloads, vec!["p1"]),
        (policy("a", peer, Some("app=x")), "a/peerauthentication~p", Workloads, vec!["p1"]),
        (policy("a", authorization, Some("app=none")), "a/p", Workloads, vec![]),
        (policy("root", authorization, None), "root/p", Mesh, vec![]),
        (policy("root", authorization, Some("app=x")), "root/p", Workloads, vec!["p1", "p2"]),
    ] {
        let pods = [pod("a", "p1", 1, "app=x,tier=t"), pod("b", "p2", 2, "app=x"), pod("a", "p3", 3, "app=y")];
        let mut compiler = compiler(pods.map(Object::Pod));
        compiler.set(object.clone());
        let delta = compiler.take();
        let [(_, Some(made))] = delta.policies.as_slice() else { panic!("{delta:?}") };
        assert_eq!((made.name.to_string().as_str(), made.scope), (name, scope), "{object:?}");
        let covered: Vec<_> = delta.workloads.iter().filter_map(|(_, now)| now.as_ref()).collect();
        assert_eq!(covered.iter().map(|one| &*one.name).collect::<Vec<_>>(), selected, "{object:?}");
        assert!(covered.iter().all(|one| one.policies == [made.name.clone()]));
        compiler.remove(&object.key());
        let delta = compiler.take();
        assert_eq!((delta.policies.len(), delta.workloads.len()), (1, selected.len()), "{object:?}");
    }
    let longest = "x".repeat(253);
    assert!(policy::name("RequestAuthentication", &"a".parse().unwrap(), &longest).is_ok());
}

#[test]
fn a_change_of_what_nobody_reads_changes_nothing() {
    let mut one = pod("a", "p", 1, "app=x");
    one.owner = Some(Owner { kind: "StatefulSet".into(), name: "db".into() });
    let mut compiler = compiler([Object::Pod(one.clone()), Object::Service(service("a", "s", "app=x"))]);
    one.origin.line = 7;
    compiler.set(Object::Pod(one));
    let mut moved = service("a", "s", "app=x");
    moved.cluster_ips.truncate(1);
    compiler.set(Object::Service(moved));
    assert!(compiler.marked.pods.is_empty(), "a service's address is not its pods' business");
    let delta = compiler.take();
    assert_eq!((delta.workloads.len(), delta.services.len()), (0, 1));
}

#[test]
fn an_endpoint_that_is_not_ready_is_behind_a_service_that_publishes_it() {
    let unready = |octet, pod| SliceEndpoint { health: Health::Unhealthy, ..endpoint(octet, pod) };
    let endpoints = vec![unready(1, Some(("a", "p"))), unready(2, None)];
    let objects = [
        Object::Pod(pod("a", "p", 1, "")),
        Object::Service(service("a", "s", "")),
        Object::EndpointSlice(slice("a", "e", "s", endpoints)),
    ];
    let mut compiler = compiler(objects);
    let behind = |compiler: &Compiler| {
        let behind = |one: &Workload| (one.services.len(), one.health);
        compiler.mesh().workloads.iter().map(behind).collect::<Vec<_>>()
    };
    assert_eq!(behind(&compiler), [(0, Health::Healthy), (0, Health::Unhealthy)]);
    compiler.set(Object::Service(ServiceObject { health_policy: HealthPolicy::All, ..service("a", "s", "") }));
    assert_eq!(changed(&mut compiler), ["p", "10.0.0.2"]);
    assert_eq!(behind(&compiler), [(1, Health::Healthy), (1, Health::Unhealthy)]);
}

#[test]
fn what_cannot_be_read_stays_and_is_not_reached_until_it_can() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: a}\n\
                spec: {nodeName: n1, containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.0.0.1}]}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\nspec: {ports: [{port: 80}]}\n";
    let mut objects = weir_manifest::parse(&[(FileName::new("f"), text)]).unwrap();
    let (pod, service) = (Object::Pod(objects.pods.remove(0)), Object::Service(objects.services.remove(0)));
    let mut compiler = Compiler::new(settings());
    compiler.set(pod.clone());
    compiler.set(service.clone());
    compiler.take();
    for object in [pod, service] {
        let why = |delta: &Delta| {
            let pods = delta.workloads.iter().map(|(_, now)| now.as_ref().unwrap().unsupported.clone());
            let services = delta.services.iter().map(|(_, now)| now.as_ref().unwrap().unsupported.clone());
            pods.chain(services).collect::<Vec<_>>()
        };
        compiler.refuse(&object.key(), "spec.x: no such thing");
        assert_eq!(why(&compiler.take()), [Some("spec.x: no such thing".into())]);
        compiler.set(object.clone());
        assert_eq!(why(&compiler.take()), [None]);
        compiler.refuse(&object.key(), "again");
        compiler.take();
        compiler.remove(&object.key());
        let delta = compiler.take();
        assert!(delta.workloads.iter().all(|(_, now)| now.is_none()), "{delta:?}");
        assert!(delta.services.iter().all(|(_, now)| now.is_none()), "{delta:?}");
    }
    // One that never was known is not known now.
    compiler.refuse(&ObjectKey { kind: "Pod".into(), namespace: Some("a".parse().unwrap()), name: "q".into() }, "bad");
    assert_eq!(compiler.take(), Delta::default());
}

mod law;
