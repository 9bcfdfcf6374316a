//! Envoy as a waypoint: what is bound to it goes through it or nowhere, whether it ends HBONE itself or is handed what the agent ended.

use std::net::{IpAddr, SocketAddr};

use anyhow::ensure;
use serde_json::Value;
use weir_testbed::{PodSpec, Process, ServiceSpec, Topology, TopologySpec, labels};
use weir_tests::peers::{Ca, Http2, Leaf, client, listening_ports};
use weir_tests::{Bed, client_seen, eventually, pod_state, refused};

use crate::HBONE;
use crate::envoy::{Files, handed, server, start, to_cluster};

/// Where a waypoint is handed what came over HBONE.
const HANDED: u16 = 15088;
/// The proven name of the client.
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

/// A client and a pod outside the mesh on one node; on the other a pod `shop`, whose service is bound to `gate`, where Envoy runs.
struct Scene {
    envoy: Process,
    bed: Bed,
}

/// The service `shop`, bound to a waypoint, and perhaps entered through it only.
fn shop(waypoint: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: shop\n  namespace: default\n  labels:\n    istio.io/use-waypoint: {waypoint}\n{more}\
         spec:\n  selector:\n    app: shop\n  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n"
    )
}

fn gateway(annotations: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: gate\n  namespace: default\n{annotations}\
         spec:\n  gatewayClassName: istio-waypoint\n  listeners:\n  - name: mesh\n    port: 15008\n    protocol: HBONE\n"
    )
}

impl Scene {
    fn new(annotations: &str, port: u16, envoy: impl Fn(&Topology, [IpAddr; 2]) -> Vec<(Value, Vec<Value>)>) -> Self {
        let mut topology = Topology::new(TopologySpec::default()).unwrap();
        let gate = PodSpec::new("gate", 1).label("gateway.networking.k8s.io/gateway-name", "gate");
        for pod in [PodSpec::new("client", 0), PodSpec::new("plain", 0).unenrolled(), PodSpec::new("shop", 1), gate] {
            topology.add_pod(pod).unwrap();
        }
        let vips = topology.allot_cluster_ips("default", "shop").unwrap();
        topology.add_manifest("shop.yaml", &shop("gate", "")).unwrap();
        topology.add_manifest("gateway.yaml", &gateway(annotations)).unwrap();
        for (name, ports) in [("gate", vec![("mesh".into(), 15008, 15008)]), ("free", vec![("http".into(), 80, 8080)])]
        {
            let selector = labels([("app", if name == "gate" { "gate" } else { "shop" })]);
            topology
                .add_service(ServiceSpec { name: name.into(), namespace: "default".into(), selector, ports })
                .unwrap();
        }
        let bed = Bed::on(topology, &[]).unwrap();
        let envoy = start(&bed.topology, "gate", envoy(&bed.topology, vips));
        let scene = Self { envoy, bed };
        let netns = scene.bed.topology.pod("gate").netns();
        eventually("Envoy's listening", || {
            Ok(listening_ports(netns)?.into_iter().filter(|open| *open == port).count() == 2)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.envoy.log()));
        scene
    }

    fn vips(&self) -> [SocketAddr; 2] {
        self.bed.topology.cluster_ips("shop").map(|ip| SocketAddr::new(ip, 80))
    }

    /// Whom the shop takes for its client when the client asks for its service.
    fn asked(&self, vip: SocketAddr) -> anyhow::Result<(String, IpAddr)> {
        client_seen(self.bed.topology.pod("client").netns(), vip, "/")
    }

    /// Waits until the service is reached through the waypoint.
    fn reached(&self) {
        let gate = self.bed.topology.pod("gate").addresses();
        for vip in self.vips() {
            let through = || {
                let (name, seen) = self.asked(vip)?;
                ensure!(name == "shop" && gate.contains(&seen), "{name} saw {seen}");
                Ok(true)
            };
            eventually("the service is reached through its waypoint", || Ok(through().is_ok()))
                .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", through(), self.logs()));
        }
    }

    /// Waits until the client's agent refuses the service, and says so.
    fn unreached(&self, why: &str) {
        let netns = self.bed.topology.pod("client").netns();
        for vip in self.vips() {
            let words = ["connection failed", &vip.to_string(), "default/shop.default.svc.cluster.local", why];
            let said = || self.bed.mesh.agent(0).log().lines().any(|line| words.iter().all(|word| line.contains(word)));
            eventually("the agent refuses the service", || Ok(refused(netns, vip).is_ok() && said()))
                .unwrap_or_else(|error| panic!("{error}: {words:?}\n{}", self.logs()));
        }
    }

    fn told(&self, what: &str, log: impl Fn() -> String, words: &[&str]) {
        let found = || Ok(log().lines().any(|line| words.iter().all(|word| line.contains(word))));
        eventually(what, found).unwrap_or_else(|error| panic!("{error}: {words:?}\n{}", self.logs()));
    }

    fn logs(&self) -> String {
        let Self { envoy, bed } = self;
        format!("{}\n{}\n{}", envoy.log(), bed.mesh.agent(0).log(), bed.mesh.agent(1).log())
    }
}

#[test]
fn an_envoy_that_ends_hbone_itself_gets_what_is_bound_to_it() {
    let mut scene = Scene::new("", HBONE, |topology, vips| {
        let files = Files::new(topology, "gate");
        let (own, shop) = (topology.pod("gate").addresses(), topology.pod("shop").addresses());
        let ends = own.iter().zip(vips).zip(shop);
        ends.map(|((own, vip), shop)| {
            let (at, vip) = (SocketAddr::new(*own, HBONE), SocketAddr::new(vip, 80));
            let (listener, _) = server(&files, &own.to_string(), at, vip);
            (listener, vec![to_cluster(&own.to_string(), SocketAddr::new(*shop, 8080))])
        })
        .collect()
    });
    scene.reached();
    let state = pod_state(&scene.bed.topology, 1, "gate").unwrap().unwrap();
    assert!(state.0 == "NotEnrolled" && state.1 == "Waypoint", "{state:?}");
    let from = scene.bed.topology.pod("client").addresses().to_vec();
    for (vip, client) in scene.vips().iter().zip(&from) {
        let (seen, peer) = (format!("SEEN CONNECT {vip} "), format!("peer={CLIENT} "));
        let (remote, host) = (format!("remote={client} "), "host=shop.default.svc.cluster.local");
        scene.told("what Envoy saw", || scene.envoy.log(), &[&seen, "code=200", &peer, &remote, host]);
        let gate = scene.bed.topology.pod("gate").addresses().iter().find(|ip| ip.is_ipv4() == vip.is_ipv4()).unwrap();
        let hop = format!("dst.addr={}", SocketAddr::new(*gate, HBONE));
        let (asked, service) = (format!("dst.hbone_addr=\"{vip}\""), "dst.service=\"shop.default.svc.cluster.local\"");
        let words = [
            "connection complete",
            &hop,
            &asked,
            service,
            "dst.workload=\"gate\"",
            "dst.identity=\"spiffe://cluster.local/ns/default/sa/gate\"",
        ];
        scene.told("the agent's line", || scene.bed.mesh.agent(0).log(), &words);
    }
    // The pod by its own address is not bound, nor is another service of its.
    let netns = scene.bed.topology.pod("client").netns();
    let free = scene.bed.topology.cluster_ips("free").map(|ip| SocketAddr::new(ip, 80));
    for at in scene.bed.http("shop").into_iter().chain(free) {
        let (_, seen) = client_seen(netns, at, "/").unwrap();
        assert!(from.contains(&seen), "{at}: {seen}");
    }
    // Without the waypoint there is no way, until it is there again.
    scene.bed.topology.change_pod("gate", |spec| spec.ready = false).unwrap();
    scene.unreached("none of its 1 workloads is ready");
    scene.bed.topology.change_pod("gate", |spec| spec.ready = true).unwrap();
    scene.reached();
    scene.bed.topology.add_manifest("shop.yaml", &shop("nobody", "")).unwrap();
    scene.unreached("default/nobody.default.svc.cluster.local only, and the mesh knows no such waypoint");
    scene.bed.topology.add_manifest("shop.yaml", &shop("none", "")).unwrap();
    let direct = || Ok(scene.vips().iter().all(|vip| scene.asked(*vip).is_ok_and(|(_, seen)| from.contains(&seen))));
    eventually("it is reached directly", direct).unwrap();
    let Scene { envoy, bed } = scene;
    drop(envoy);
    bed.mesh.stop().unwrap();
}

#[test]
fn an_envoy_behind_our_agent_is_told_who_the_client_is() {
    let annotations = "  annotations:\n    ambient.istio.io/waypoint-inbound-binding: PROXY/15088\n";
    let scene = Scene::new(annotations, HANDED, |topology, _| {
        let (own, shop) = (topology.pod("gate").addresses(), topology.pod("shop").addresses());
        let one = |(own, shop): (&IpAddr, &IpAddr)| {
            handed(&own.to_string(), SocketAddr::new(*own, HANDED), SocketAddr::new(*shop, 8080))
        };
        own.iter().zip(shop).map(one).collect()
    });
    scene.reached();
    let (topology, from) = (&scene.bed.topology, scene.bed.topology.pod("client").addresses());
    for (vip, client) in scene.vips().iter().zip(from) {
        let from = SocketAddr::new(*client, 0).to_string();
        let from = format!("HANDED from={}", from.trim_end_matches('0'));
        let (to, identity) = (format!("to={vip} "), format!("identity={CLIENT} "));
        let words = [&*from, &to, &identity, "service=shop.default.svc.cluster.local"];
        scene.told("what Envoy was told", || scene.envoy.log(), &words);
        let asked = format!("dst.hbone_addr=\"{vip}\"");
        let words =
            ["connection complete", "direction=\"inbound\"", &asked, "dst.workload=\"gate\"", "dst.service=\"shop."];
        scene.told("its agent's line", || scene.bed.mesh.agent(1).log(), &words);
    }
    // What the waypoint sends goes on in the mesh, as the waypoint.
    let on = ["connection complete", "src.workload=\"gate\"", "dst.workload=\"shop\"", "direction=\"outbound\""];
    scene.told("the line of the way on", || scene.bed.mesh.agent(1).log(), &on);
    // Where the waypoint is required, it is the only way.
    topology.add_manifest("shop.yaml", &shop("gate", "    weir.dev/waypoint: required\n")).unwrap();
    for at in scene.bed.http("shop").into_iter().chain(topology.cluster_ips("free").map(|ip| SocketAddr::new(ip, 80))) {
        let netns = topology.pod("client").netns();
        eventually("only the waypoint enters", || Ok(refused(netns, at).is_ok())).unwrap();
    }
    scene.reached();
    let signed =
        Ca::open(&topology.work_dir().join("ca")).unwrap().sign(&Leaf::new("cluster.local", "client")).unwrap();
    let config = client(&signed).unwrap();
    let free = topology.cluster_ips("free");
    for (at, free) in topology.pod("gate").addresses().iter().zip(free) {
        let mut peer = Http2::open(topology.pod("plain").netns(), None, (*at, HBONE).into(), &config).unwrap();
        let shop = topology.pod("shop").addresses().iter().find(|ip| ip.is_ipv4() == at.is_ipv4()).unwrap();
        for (target, want) in [((free, 80), 400), ((*shop, 8080), 400), ((*at, HANDED), 503), ((*at, 15008), 503)] {
            let authority = SocketAddr::from(target).to_string();
            assert_eq!(peer.connect(&authority).unwrap().1, want, "{authority}\n{}", scene.logs());
        }
        // Nor may anybody write a header of his own, in the clear.
        refused(topology.pod("plain").netns(), SocketAddr::new(*at, HANDED)).unwrap();
        refused(topology.pod("client").netns(), SocketAddr::new(*at, HANDED)).unwrap();
    }
    // Envoy was told of nothing but what is bound to it, by nobody but the agent.
    let lines =
        || scene.envoy.log().lines().filter(|line| line.contains("HANDED")).map(str::to_owned).collect::<Vec<_>>();
    let before = lines().len();
    scene.reached();
    eventually("Envoy's last lines", || Ok(lines().len() >= before + 2)).unwrap();
    let expected = |line: &String| {
        let to = scene.vips().iter().any(|vip| line.contains(&format!(" to={vip} ")));
        to && line.contains(&format!(" identity={CLIENT} "))
    };
    assert!(lines().iter().all(expected), "{}", scene.envoy.log());
    let Scene { envoy, bed } = scene;
    drop(envoy);
    bed.mesh.stop().unwrap();
}
