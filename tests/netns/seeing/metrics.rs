//! Istio's TCP metrics of both reporters, by what was really moved.

use std::net::SocketAddr;

use weir_tests::peers::until;

use crate::exposition::{Sample, parse};
use crate::scene::{ECHO, PORT, Scene};

/// Names and order of ztunnel's labels. `src/proxy/metrics.rs`.
const LABELS: [&str; 27] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "source_region",
    "source_zone",
    "destination_region",
    "destination_zone",
];

/// What a series must be called; the other labels follow from the pods.
struct Want {
    node: usize,
    reporter: &'static str,
    source: &'static str,
    destination: &'static str,
    service: &'static str,
    security: &'static str,
    connections: u32,
    bytes: u32,
}

fn page(scene: &Scene, node: usize) -> Vec<Sample> {
    let answer = scene.get(node, 15020, "/metrics");
    assert_eq!(answer.status, 200);
    parse(&answer.body).unwrap_or_else(|error| panic!("{error}\n{}", answer.body))
}

impl Want {
    fn matches(&self, sample: &Sample) -> bool {
        let mutual = self.security == "mutual_tls";
        let pod = |name: &str| if name == "unknown" { "unknown".into() } else { name.to_owned() };
        let principal = |name: &str| match mutual {
            true => format!("spiffe://cluster.local/ns/default/sa/{name}"),
            false => "unknown".to_owned(),
        };
        let version = |name: &str| if name == "client" { "v1" } else { "latest" };
        let zone = |name: &str| if name == "client" { "node1" } else { "node2" };
        let known = self.service != "unknown";
        let full = if known { format!("{}.default.svc.cluster.local", self.service) } else { "unknown".to_owned() };
        let wants = [
            self.reporter.to_owned(),
            pod(self.source),
            pod(self.source),
            version(self.source).into(),
            "default".into(),
            principal(self.source),
            pod(self.source),
            version(self.source).into(),
            "Kubernetes".into(),
            pod(self.destination),
            "default".into(),
            principal(self.destination),
            pod(self.destination),
            version(self.destination).into(),
            full,
            pod(self.destination),
            version(self.destination).into(),
            self.service.into(),
            if known { "default".into() } else { "unknown".into() },
            "Kubernetes".into(),
            "tcp".into(),
            "-".into(),
            self.security.into(),
            "testbed".into(),
            zone(self.source).into(),
            "testbed".into(),
            zone(self.destination).into(),
        ];
        sample.labels.iter().map(|(_, value)| value).eq(wants.iter())
    }

    /// The values of this series: opened, closed, received, sent.
    fn values(&self, samples: &[Sample]) -> [f64; 4] {
        [
            "istio_tcp_connections_opened_total",
            "istio_tcp_connections_closed_total",
            "istio_tcp_received_bytes_total",
            "istio_tcp_sent_bytes_total",
        ]
        .map(|name| {
            let found: Vec<&Sample> = samples.iter().filter(|s| s.name == name && self.matches(s)).collect();
            if found.len() == 1 { found[0].value } else { -1.0 }
        })
    }
}

#[test]
fn both_reporters_count_what_was_moved_under_istios_labels() {
    let scene = Scene::new(&[]);
    let ours = |service, connections, bytes| {
        [(0, "source"), (1, "destination")].map(|(node, reporter)| Want {
            node,
            reporter,
            source: "client",
            destination: "server",
            service,
            security: "mutual_tls",
            connections,
            bytes,
        })
    };
    let plain = |node, reporter, source, destination, connections, bytes| Want {
        node,
        reporter,
        source,
        destination,
        service: "unknown",
        security: "unknown",
        connections,
        bytes,
    };
    for (vip, server) in scene.topology.cluster_ips("shop").into_iter().zip(scene.addresses("server")) {
        scene.echo("client", SocketAddr::new(vip, PORT), 300_001);
        scene.echo("client", SocketAddr::new(server, ECHO), 20_000);
        scene.echo("client", SocketAddr::new(server, ECHO), 0);
        scene.echo("legacy", SocketAddr::new(server, ECHO), 4_000);
    }
    for legacy in scene.addresses("legacy") {
        scene.echo("client", SocketAddr::new(legacy, ECHO), 500);
    }
    let mut wants = Vec::from(ours("shop", 2, 600_002));
    wants.extend(ours("unknown", 4, 40_000));
    wants.push(plain(0, "source", "client", "legacy", 2, 1_000));
    wants.push(plain(1, "destination", "legacy", "server", 2, 8_000));
    for want in &wants {
        let (connections, bytes) = (f64::from(want.connections), f64::from(want.bytes));
        let values = || want.values(&page(&scene, want.node));
        let all = until("the counting", || Ok(values() == [connections, connections, bytes, bytes]));
        all.unwrap_or_else(|error| {
            panic!(
                "{error}: {} -> {} as {}: {:?}\n{}",
                want.source,
                want.destination,
                want.reporter,
                values(),
                scene.get(want.node, 15020, "/metrics").body
            )
        });
    }
    for node in [0, 1] {
        let tcp: Vec<Sample> = page(&scene, node).into_iter().filter(|s| s.name.starts_with("istio_tcp_")).collect();
        for sample in &tcp {
            assert!(sample.labels.iter().map(|(name, _)| name.as_str()).eq(LABELS), "{sample:?}");
        }
        // What was counted is what is listed above, and nothing besides.
        let opened = tcp.iter().filter(|s| s.name == "istio_tcp_connections_opened_total").count();
        assert_eq!(opened, 3, "{tcp:?}");
        assert_eq!(scene.get(node, 15020, "/stats/prometheus").status, 200);
    }
}

#[test]
fn what_failed_is_counted_with_the_flag_that_says_why() {
    let scene = Scene::new(&[]);
    for ((void, shop), server) in scene
        .topology
        .cluster_ips("void")
        .into_iter()
        .zip(scene.topology.cluster_ips("shop"))
        .zip(scene.addresses("server"))
    {
        scene.refused("client", SocketAddr::new(void, PORT));
        scene.refused("client", SocketAddr::new(shop, 81));
        // Nobody listens: refused by the server's own kernel, told through the tunnel.
        scene.refused("client", SocketAddr::new(server, 9));
        // Nobody listens outside of the mesh either.
        scene.refused("client", SocketAddr::new(scene.addresses("legacy")[usize::from(server.is_ipv6())], 9));
    }
    let failed = |node: usize, of: &[(&str, &str)]| {
        let samples = page(&scene, node);
        let all = samples.iter().filter(|s| s.name == "istio_tcp_connections_failed_total");
        all.filter(|s| of.iter().all(|(name, value)| s.label(name) == *value)).map(|s| s.value).sum::<f64>()
    };
    let no_endpoint = ("response_flags", "UH");
    let no_port = ("response_flags", "NR");
    let connect = ("response_flags", "CONNECT");
    let by_source = ("reporter", "source");
    for (node, of, want) in [
        (0, vec![by_source, no_endpoint, ("source_workload", "client"), ("destination_service_name", "void")], 2.0),
        (0, vec![by_source, no_port, ("source_workload", "client"), ("destination_service_name", "shop")], 2.0),
        (
            0,
            vec![by_source, connect, ("destination_workload", "server"), ("connection_security_policy", "mutual_tls")],
            2.0,
        ),
        (
            0,
            vec![by_source, connect, ("destination_workload", "legacy"), ("connection_security_policy", "unknown")],
            2.0,
        ),
        (
            1,
            vec![
                ("reporter", "destination"),
                connect,
                ("destination_workload", "server"),
                ("source_workload", "client"),
            ],
            2.0,
        ),
    ] {
        let counted = until("the counting", || Ok(failed(node, &of) == want));
        counted.unwrap_or_else(|error| panic!("{error}: {of:?}\n{}", scene.get(node, 15020, "/metrics").body));
    }
    // A connection that failed was never open.
    for node in [0, 1] {
        let opened = page(&scene, node).iter().filter(|s| s.name == "istio_tcp_connections_opened_total").count();
        assert_eq!(opened, 0);
    }
}
