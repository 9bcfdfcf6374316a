//! What is bound to which waypoint, by every way to say it, and what a change of a Gateway changes.

use weir_manifest::{FileName, LabelSelector, ObjectKey, parse};
use weir_model::{Enrolment, Tunnel};

use super::*;
use crate::{Compiler, Mesh};

fn settings() -> Settings {
    Settings {
        trust_domain: "td".parse().unwrap(),
        cluster: "c".parse().unwrap(),
        network: "".parse().unwrap(),
        node: Some("n1".parse().unwrap()),
        cluster_domain: Default::default(),
        root_namespace: crate::default_root_namespace(),
    }
}

/// Labels of a bond: `w`, `b/w`, `none`, or nothing.
fn bond(text: &str) -> String {
    match text.split_once('/') {
        _ if text.is_empty() => String::new(),
        Some((namespace, name)) => {
            format!("istio.io/use-waypoint: {name}, istio.io/use-waypoint-namespace: {namespace}")
        }
        None => format!("istio.io/use-waypoint: {text}"),
    }
}

/// Namespace `a` with the service `s`, the pod `p`, the waypoint's own pod `g` and service `w`, and what they say.
fn compiler(namespace: &str, service: &str, pod: &str) -> Compiler {
    let [namespace, service, pod] = [namespace, service, pod].map(bond);
    let object = |kind: &str, name: &str, labels: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: a, labels: {{{labels}}}}}\n{rest}\n---\n"
        )
    };
    let spec = |ip: u8| {
        format!(
            "spec: {{nodeName: n1, containers: [{{name: istio-proxy}}]}}\n\
             status: {{phase: Running, podIP: 10.0.0.{ip}, conditions: [{{type: Ready, status: 'True'}}]}}"
        )
    };
    let text = [
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: a, labels: {{{namespace}}}}}\n---\n"),
        object("Service", "s", &service, "spec: {ports: [{port: 80}]}"),
        object("Service", "w", "", "spec: {ports: [{port: 15008}]}"),
        object("Pod", "p", &pod, &spec(1)),
        object("Pod", "g", "gateway.networking.k8s.io/gateway-name: w", &spec(2)),
    ];
    let objects = parse(&[(FileName::new("f.yaml"), text.concat().as_str())]).unwrap();
    let mut compiler = Compiler::new(settings());
    objects.into_objects().for_each(|object| compiler.set(object));
    compiler
}

/// A Gateway by its class, what it is for, and from where it may be named: `all`, or namespaces with a label.
fn facts(text: &str) -> GatewayFacts {
    let mut words = text.split(' ');
    GatewayFacts {
        role: GatewayRole::of_class(words.next().unwrap_or_default()),
        waypoint_for: match words.next() {
            Some("workload") => WaypointFor::Workload,
            Some("all") => WaypointFor::All,
            Some("none") => WaypointFor::None,
            Some("service") | None => WaypointFor::Service,
            Some(other) => panic!("{other}"),
        },
        namespaces: match words.next() {
            Some("all") => RouteNamespaces::All,
            Some(label) => {
                let (key, value) = label.split_once('=').unwrap();
                let labels = Labels::from([(key.into(), value.into())]);
                RouteNamespaces::Selector(LabelSelector { labels, ..LabelSelector::default() })
            }
            None => RouteNamespaces::Same,
        },
        proxy: None,
    }
}

/// What the service, the pod, and the waypoint's own service and pod are bound to.
fn bound(mesh: &Mesh) -> [String; 4] {
    let text = |one: &Option<WaypointAddress>| one.as_ref().map_or("-".to_owned(), ToString::to_string);
    let service = |name: &str| {
        let of = mesh.services.iter().find(|one| &*one.short_name == name).unwrap();
        text(&of.waypoint)
    };
    let pod = |name: &str| text(&mesh.workloads.iter().find(|one| &*one.name == name).unwrap().waypoint);
    [service("s"), pod("p"), service("w"), pod("g")]
}

const W: &str = "a/w.a.svc.cluster.local";
const V: &str = "a/v.a.svc.cluster.local";
const FAR: &str = "b/w.b.svc.cluster.local";
const CLASS: &str = "istio-waypoint";

#[test]
fn the_narrowest_label_binds_to_what_the_gateway_serves() {
    for (said, gateway, want) in [
        (["", "", ""], Some(CLASS), ["-", "-"]),
        (["w", "", ""], Some(CLASS), [W, "-"]),
        (["w", "", ""], Some("weir-waypoint all"), [W, W]),
        (["w", "", ""], Some("istio-waypoint workload"), ["-", W]),
        (["w", "", ""], Some("istio-waypoint none"), ["-", "-"]),
        (["", "w", "w"], Some("istio-waypoint none"), ["-", "-"]),
        (["", "w", "w"], Some(CLASS), [W, "-"]),
        (["", "w", "w"], Some("istio-waypoint workload"), ["-", W]),
        // The service's and the pod's own word comes before the namespace's, and `none` is a word.
        (["w", "none", "none"], Some("istio-waypoint all"), ["-", "-"]),
        (["w", "none", ""], Some("istio-waypoint all"), ["-", W]),
        (["w", "", "none"], Some("istio-waypoint all"), [W, "-"]),
        (["none", "w", "w"], Some("istio-waypoint all"), [W, W]),
        (["v", "w", "w"], Some("istio-waypoint all"), [W, W]),
        (["w", "v", "v"], Some("istio-waypoint all"), [V, V]),
        // Without a Gateway, or with one that is none, a label binds all the same. Whether pods are meant by a namespace nobody knows then.
        (["w", "", ""], None, [W, "-"]),
        (["", "w", "w"], None, [W, W]),
        (["w", "none", "none"], None, ["-", "-"]),
        (["w", "", ""], Some("istio"), ["a/w.is-no-waypoint.invalid", "-"]),
        (["", "w", "w"], Some("istio"), ["a/w.is-no-waypoint.invalid", "a/w.is-no-waypoint.invalid"]),
    ] {
        let [namespace, service, pod] = said;
        let mut compiler = compiler(namespace, service, pod);
        compiler.set_gateway(&"a".parse().unwrap(), "w", gateway.map(facts));
        // Its own pod and service are bound to nothing, lest it call itself.
        let own = |text| if said[0] == "v" { text } else { "-" };
        let others = if gateway.is_some_and(|text| facts(text).role == GatewayRole::Waypoint) { "-" } else { own(V) };
        assert_eq!(bound(&compiler.mesh()), [want[0], want[1], others, "-"].map(str::to_owned), "{said:?} {gateway:?}");
        let taken = compiler.take();
        let services: Vec<_> = taken.services.into_iter().filter_map(|(_, now)| now).collect();
        assert_eq!(services, compiler.mesh().services);
    }
}

#[test]
fn a_waypoint_elsewhere_says_who_may_name_it() {
    let refused = "b/w.does-not-allow-this-namespace.invalid";
    for (gateway, want, outcome) in [
        (None, [FAR, FAR], "there is no such Gateway: connections are refused"),
        (Some("istio-waypoint all"), [refused, refused], "the Gateway's allowedRoutes do not name this namespace"),
        (
            Some("istio-waypoint all kubernetes.io/metadata.name=c"),
            [refused, refused],
            "the Gateway's allowedRoutes do not name this namespace",
        ),
        (Some("istio-waypoint all kubernetes.io/metadata.name=a"), [FAR, FAR], "bound"),
        (Some("istio-waypoint all all"), [FAR, FAR], "bound"),
        (Some("istio-waypoint service all"), [FAR, "-"], "bound"),
        (Some("istio-waypoint workload all"), ["-", FAR], "the Gateway's istio.io/waypoint-for leaves this out"),
        (Some("istio all all"), ["b/w.is-no-waypoint.invalid"; 2], "the Gateway is of no waypoint's class"),
    ] {
        let mut compiler = compiler("", "b/w", "b/w");
        compiler.set_gateway(&"b".parse().unwrap(), "w", gateway.map(facts));
        assert_eq!(bound(&compiler.mesh())[..2], want.map(str::to_owned), "{gateway:?}");
        compiler.take();
        let said = compiler.take_bindings();
        let [(key, Some(status))] = &said[..] else { panic!("{said:?}") };
        assert_eq!((&*key.kind, &*key.name, status.outcome.is_bound()), ("Service", "s", outcome == "bound"));
        assert!(status.to_string().starts_with(&format!("Service a/s: waypoint b/w: {outcome}")), "{status}");
    }
}

#[test]
fn of_a_label_is_said_what_came_of_it_again_only_when_it_changes() {
    let mut compiler = compiler("", "w", "");
    let space: Namespace = "a".parse().unwrap();
    let said = |compiler: &mut Compiler| {
        compiler.take();
        let line = |(key, now): (ObjectKey, Option<BindingStatus>)| {
            format!("{} {}", key.name, now.map_or("-", |now| now.outcome.reason()))
        };
        compiler.take_bindings().into_iter().map(line).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(said(&mut compiler), "s WaypointMissing");
    assert_eq!(said(&mut compiler), "");
    for (gateway, want) in [
        (Some(CLASS), "s WaypointAccepted"),
        (Some("istio-waypoint all"), ""),
        (Some("istio-waypoint workload"), "s NotServed"),
        (Some("istio"), "s NotAWaypoint"),
        (None, "s WaypointMissing"),
    ] {
        compiler.set_gateway(&space, "w", gateway.map(facts));
        assert_eq!(said(&mut compiler), want, "{gateway:?}");
    }
    compiler.remove(&ObjectKey { kind: "Service".into(), namespace: Some(space), name: "s".into() });
    assert_eq!(said(&mut compiler), "s -");
    assert_eq!(said(&mut compiler), "");
}

#[test]
fn a_change_of_a_gateway_changes_what_names_it_and_its_own_pods_and_nothing_else() {
    let changed = |compiler: &mut Compiler| {
        let delta = compiler.take();
        let workloads = delta.workloads.iter().map(|(uid, _)| uid.as_str().rsplit('/').next().unwrap().to_owned());
        let services =
            delta.services.iter().map(|(name, _)| name.hostname.as_str().split('.').next().unwrap().to_owned());
        workloads.chain(services).collect::<Vec<_>>().join(" ")
    };
    let mut compiler = compiler("w", "", "");
    let space = "a".parse().unwrap();
    changed(&mut compiler);
    for (name, gateway, want) in [
        ("w", Some(CLASS), "g"),
        ("w", Some(CLASS), ""),
        ("v", Some(CLASS), ""),
        ("w", Some("istio-waypoint all"), "p"),
        ("w", Some("istio"), "g p s"),
        ("w", None, "s"),
        ("w", Some(CLASS), "g"),
        ("v", None, ""),
    ] {
        compiler.set_gateway(&space, name, gateway.map(facts));
        assert_eq!(changed(&mut compiler), want, "{name} {gateway:?}");
    }
}

#[test]
fn the_pods_of_a_waypoint_take_tunnels_themselves_or_through_their_agent() {
    let proxy = Port::new(15088);
    for (gateway, proxy, mode, want) in [
        (None, None, "", (Enrolment::Sidecar, Tunnel::None, Termination::Agent)),
        (Some("istio"), proxy, "", (Enrolment::Sidecar, Tunnel::None, Termination::Agent)),
        (Some(CLASS), None, "", (Enrolment::Waypoint, Tunnel::Hbone, Termination::Own)),
        (Some(CLASS), None, "none", (Enrolment::Waypoint, Tunnel::Hbone, Termination::Own)),
        (Some(CLASS), proxy, "", (Enrolment::Enrolled, Tunnel::Hbone, Termination::Proxy(Port::new(15088).unwrap()))),
        (
            Some(CLASS),
            proxy,
            "none",
            (Enrolment::OptedOut, Tunnel::None, Termination::Proxy(Port::new(15088).unwrap())),
        ),
    ] {
        let mut compiler = compiler("", "", "");
        if !mode.is_empty() {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: g, namespace: a, labels: {{istio.io/dataplane-mode: {mode}, \
                 {GATEWAY}: w}}}}\nspec: {{nodeName: n1, containers: [{{name: istio-proxy}}]}}\n\
                 status: {{phase: Running, podIP: 10.0.0.2}}\n"
            );
            let objects = parse(&[(FileName::new("f.yaml"), text.as_str())]).unwrap();
            objects.into_objects().for_each(|object| compiler.set(object));
        }
        let facts = gateway.map(|text| GatewayFacts { proxy, ..facts(text) });
        compiler.set_gateway(&"a".parse().unwrap(), "w", facts);
        let mesh = compiler.mesh();
        let pod = mesh.workloads.iter().find(|one| &*one.name == "g").unwrap();
        let local = mesh.local_pods.iter().find(|one| one.uid == pod.uid).unwrap();
        assert_eq!((local.enrolment, pod.tunnel, pod.termination), want, "{gateway:?} {proxy:?} {mode:?}");
    }
}

#[test]
fn a_name_that_no_service_can_have_is_bound_to_nobody() {
    let long = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s, labels: {{istio.io/use-waypoint: {}}}}}\nspec: {{ports: [{{port: 80}}]}}\n",
        "w".repeat(80)
    );
    let mut compiler = Compiler::new(settings());
    let objects = parse(&[(FileName::new("f.yaml"), long.as_str())]).unwrap();
    objects.into_objects().for_each(|object| compiler.set(object));
    let waypoint = compiler.mesh().services[0].waypoint.clone().unwrap();
    assert_eq!(waypoint.to_string(), "default/too-long-a-name.invalid");
}

#[test]
fn a_gateway_is_what_its_object_says_as_long_as_there_is_one() {
    let gateway = |meta: &str, class: &str, listener: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: w, namespace: b{meta}}}\n\
             spec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE{listener}}}]}}\n"
        )
    };
    let all = ", labels: {istio.io/waypoint-for: all}";
    let proxy = ", annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY/15088}";
    let from = |text: &str| format!(", allowedRoutes: {{namespaces: {{{text}}}}}");
    let refused = "b/w.does-not-allow-this-namespace.invalid";
    let team = "from: Selector, selector: {matchLabels: {team: t}}";
    let other = "from: Selector, selector: {matchLabels: {team: u}}";
    for (text, want, termination) in [
        (gateway("", CLASS, ""), [refused, refused], Termination::Own),
        (gateway("", CLASS, &from("from: All")), [FAR, "-"], Termination::Own),
        (gateway(all, CLASS, &from("from: All")), [FAR, FAR], Termination::Own),
        (gateway(all, CLASS, &from(team)), [FAR, FAR], Termination::Own),
        (gateway(all, CLASS, &from(other)), [refused; 2], Termination::Own),
        (gateway(proxy, CLASS, &from("from: All")), [FAR, "-"], Termination::Proxy(Port::new(15088).unwrap())),
        (gateway("", "istio", &from("from: All")), ["b/w.is-no-waypoint.invalid"; 2], Termination::Agent),
    ] {
        let mut compiler = compiler("", "b/w", "b/w");
        let rest = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {team: t}}\n---\napiVersion: v1\nkind: Pod\n\
             metadata: {name: g, namespace: b, labels: {gateway.networking.k8s.io/gateway-name: w}}\n\
             spec: {nodeName: n1, containers: [{name: app}]}\nstatus: {phase: Running, podIP: 10.0.0.9}\n---\n";
        let objects = parse(&[(FileName::new("g.yaml"), format!("{rest}{text}").as_str())]).unwrap();
        objects.into_objects().for_each(|object| compiler.set(object));
        let mesh = compiler.mesh();
        assert_eq!(bound(&mesh)[..2], want.map(str::to_owned), "{text}");
        let pod = mesh.workloads.iter().find(|one| one.namespace.as_str() == "b").unwrap();
        assert_eq!(pod.termination, termination, "{text}");
        let namespace = Some("b".parse().unwrap());
        compiler.remove(&ObjectKey { kind: "Gateway".into(), namespace, name: "w".into() });
        assert_eq!(bound(&compiler.mesh())[..2], [FAR, FAR].map(str::to_owned), "{text}");
    }
}

#[test]
fn what_a_gateway_says_to_those_who_bind_to_it() {
    let facts = |meta: &str, class: &str, listener: &str| {
        let text = format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: w, namespace: a{meta}}}, \
             spec: {{gatewayClassName: {class}, listeners: [{listener}]}}}}"
        );
        let objects = parse(&[(FileName::new("f.yaml"), text.as_str())]).unwrap();
        let weir_manifest::ConfigSpec::Gateway(spec) = &objects.configs[0].spec else { panic!("{text}") };
        GatewayFacts::from(&**spec)
    };
    let plain = GatewayFacts {
        role: GatewayRole::Waypoint,
        waypoint_for: WaypointFor::Service,
        proxy: None,
        namespaces: RouteNamespaces::Same,
    };
    let label = |value: &str| format!(", labels: {{istio.io/waypoint-for: {value}}}");
    let binding = |value: &str| format!(", annotations: {{ambient.istio.io/waypoint-inbound-binding: {value}}}");
    let mesh = "{name: mesh, port: 15008, protocol: HBONE}";
    let all = "{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}";
    let proxy = "{name: mesh, port: 15088, protocol: istio.io/PROXY}";
    let handed = || GatewayFacts { proxy: Port::new(15088), ..plain.clone() };
    for (meta, listener, want) in [
        (String::new(), mesh, plain.clone()),
        (label("service"), mesh, plain.clone()),
        (label("workload"), mesh, GatewayFacts { waypoint_for: WaypointFor::Workload, ..plain.clone() }),
        (label("all"), mesh, GatewayFacts { waypoint_for: WaypointFor::All, ..plain.clone() }),
        (label("none"), mesh, GatewayFacts { waypoint_for: WaypointFor::None, ..plain.clone() }),
        (binding("PROXY/15088"), mesh, handed()),
        (binding("NONE"), proxy, plain.clone()),
        (String::new(), proxy, handed()),
        (String::new(), all, GatewayFacts { namespaces: RouteNamespaces::All, ..plain.clone() }),
    ] {
        assert_eq!(facts(&meta, "istio-waypoint", listener), want, "{meta} {listener}");
    }
    assert_eq!(facts("", "istio", mesh).role, GatewayRole::Other);
}
