//! Envoy as a client of our waypoint: its HBONE is let in, and judged by the name it proves.

use std::net::{IpAddr, SocketAddr};

use weir_testbed::{PodSpec, ServiceSpec, Topology, TopologySpec, Waypoint, binary, http_get, labels};
use weir_tests::peers::listening_ports;
use weir_tests::{Bed, eventually};

use crate::HBONE;
use crate::envoy::{Files, client, start};

/// Where Envoy takes what it is to tunnel to the service that is bound, and to the one that is not.
const TO_SHOP: u16 = 9000;
const TO_FREE: u16 = 9001;
/// The name that Envoy proves.
const FOREIGN: &str = "spiffe://cluster.local/ns/default/sa/foreign";

const SHOP: &str = "apiVersion: v1
kind: Service
metadata:
  name: shop
  namespace: default
  labels:
    istio.io/use-waypoint: waypoint
spec:
  selector:
    app: shop
  ports:
  - {name: http, port: 80, targetPort: 8080}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shop, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: shop}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/foreign]}}]
    to: [{operation: {methods: [GET], paths: [/open]}}]
";

#[test]
fn an_envoy_enters_our_waypoint_by_its_own_name() {
    let mut topology = Topology::new(TopologySpec::default()).unwrap();
    for pod in [PodSpec::new("foreign", 0).unenrolled(), PodSpec::new("client", 0), PodSpec::new("shop", 1)] {
        topology.add_pod(pod).unwrap();
    }
    topology.add_waypoint("waypoint", 1).unwrap();
    let vips = topology.allot_cluster_ips("default", "shop").unwrap();
    topology.add_manifest("shop.yaml", SHOP).unwrap();
    let (selector, ports) = (labels([("app", "shop")]), vec![("http".into(), 80, 8080)]);
    let free = ServiceSpec { name: "free".into(), namespace: "default".into(), selector, ports };
    let free = topology.add_service(free).unwrap();
    let bed = Bed::on(topology, &[]).unwrap();
    let topology = &bed.topology;
    let waypoint = Waypoint::start(topology, &binary("weir-waypoint").unwrap(), "waypoint").unwrap();
    let files = Files::new(topology, "foreign");
    let (own, hops) = (topology.pod("foreign").addresses(), topology.pod("waypoint").addresses());
    let listen = |port: u16, to: [IpAddr; 2]| {
        let (files, families) = (&files, own.iter().zip(hops).zip(to));
        families.map(move |((own, hop), to)| {
            let (at, hop) = (SocketAddr::new(*own, port), SocketAddr::new(*hop, HBONE));
            let name = at.to_string();
            client(files, &name, at, hop, SocketAddr::new(to, 80), "spiffe://cluster.local/ns/default/sa/waypoint")
        })
    };
    let envoy = start(topology, "foreign", listen(TO_SHOP, vips).chain(listen(TO_FREE, free)).collect());
    let netns = topology.pod("foreign").netns();
    eventually("Envoy's listening", || {
        let open = listening_ports(netns)?;
        Ok(open.into_iter().filter(|open| [TO_SHOP, TO_FREE].contains(open)).count() == 4)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", envoy.log()));
    let logs = || format!("{}\n{}", envoy.log(), waypoint.log());
    for ip in own {
        let at = SocketAddr::new(*ip, TO_SHOP);
        for (path, want) in [("/open", 200), ("/shut", 403), ("/open", 200)] {
            let answer = http_get(netns, at, path).unwrap_or_else(|error| panic!("{at}{path}: {error:#}\n{}", logs()));
            assert_eq!(answer.status, want, "{at}{path}: {answer:?}\n{}", logs());
            assert!(want != 200 || answer.body.contains("\"name\":\"shop\""), "{answer:?}");
        }
        // What is not bound to it is not to be had through it, for anybody.
        http_get(netns, SocketAddr::new(*ip, TO_FREE), "/open").unwrap_err();
    }
    // The path alone lets nobody in.
    for vip in vips {
        let at = SocketAddr::new(vip, 80);
        let answer = http_get(topology.pod("client").netns(), at, "/open").unwrap();
        assert_eq!(answer.status, 403, "{answer:?}\n{}", logs());
    }
    let principal = format!("source_principal=\"{FOREIGN}\"");
    for (code, want) in [("200", 4), ("403", 2)] {
        let labels = ["reporter=\"waypoint\"", &principal, &format!("response_code=\"{code}\"")];
        let counted = || Ok(waypoint.metric("istio_requests_total", &labels)?.value == want);
        eventually("requests are counted by name", counted)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", waypoint.metrics().unwrap(), logs()));
    }
    drop(envoy);
    waypoint.stop().unwrap();
    bed.mesh.stop().unwrap();
}
