//! VirtualServices: any text is legal ones, which become routes that decide every request, or it is refused with reasons; what a server sends is
//! one, or a rejected one with reasons that are bounded. Findings say something, and the same objects come to the same.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rand::{SeedableRng, rngs::SmallRng};
use weir_compile::{Configs, Settings, routes};
use weir_fuzz::{ground, readings};
use weir_manifest::{ConfigKind, ConfigObject};
use weir_model::Port;
use weir_request::{Header, Normalization, Parts, Request};
use weir_route::{Asker, MESH, TcpFacts};
use weir_world::World;

const SERVICES: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}}
- {apiVersion: v1, kind: Service, metadata: {name: db}, spec: {ports: [{name: tcp, port: 80}, {name: tls, port: 443}]}}
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {ports: [{name: a, port: 80}, {name: b, port: 81}]}}
";

static GROUND: LazyLock<(Settings, World)> = LazyLock::new(|| ground(SERVICES));

/// Makes routes of objects, and asks them.
fn asked(objects: Vec<ConfigObject>) {
    let (settings, world) = &*GROUND;
    let mut configs = Configs::default();
    objects.into_iter().for_each(|object| configs.set(object));
    let compiled = routes(settings, world, &configs);
    let again = routes(settings, world, &configs);
    assert_eq!(compiled.findings, again.findings, "the same objects are told another thing");
    assert!(compiled.findings.iter().all(|finding| !finding.message.is_empty()), "a finding says nothing");
    let headers = [Header { name: "x", value: b"y" }];
    let namespace = "a".parse().expect("a namespace");
    for (port, namespace) in [(80, None), (81, Some(&namespace))] {
        let port = Port::new(port).expect("a port");
        let asker = Asker { namespace, labels: Some(&[("app", "web")]), gateway: MESH, port };
        for target in ["/", "/a/b?c=d"] {
            let parts = Parts { method: "GET", scheme: "http", authority: "web", target, headers: &headers };
            let request = Request::read(parts, Normalization::Base).expect("a request");
            for host in compiled.serving.hosts.values() {
                let of = |table: &weir_route::RouteTable| {
                    table.decide(&request, &asker, &mut SmallRng::seed_from_u64(1)).to_string()
                };
                let same = again.serving.host(&host.name.hostname).expect("the same hosts");
                assert_eq!(of(&host.http), of(&same.http), "a request has two answers");
                let address = "10.0.0.1".parse().expect("an address");
                let facts = TcpFacts { destination: address, client: address, name: Some("a.b") };
                let _said = host.tcp.decide(&facts, &asker, &mut SmallRng::seed_from_u64(1)).to_string();
            }
        }
    }
}

fuzz_target!(|text: &str| readings(text, ConfigKind::VirtualService, asked));
