//! Objects of the Gateway API, beside two services: whatever they say, they are refused or compiled, every route has a status, and every request to
//! a service gets a decision; the same text means the same twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rand::{SeedableRng, rngs::SmallRng};
use weir_compile::{Compiled, Compiler};
use weir_fuzz::settings;
use weir_manifest::{ConfigSpec, FileName, parse};
use weir_request::{Header, Normalization, Parts, Request};
use weir_route::{Asker, MESH, TcpFacts};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: grpc, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}
---
";

/// What the text comes to, and how many routes it holds.
fn compiled(text: &str) -> Option<(Compiled, usize)> {
    let objects = parse(&[(FileName::new("fuzz.yaml"), &format!("{SERVICES}{text}"))]).ok()?;
    let routes = objects.configs.iter().filter(|config| matches!(config.spec, ConfigSpec::Route(_))).count();
    let mut compiler = Compiler::new(settings());
    objects.into_objects().for_each(|object| compiler.set(object));
    compiler.take();
    Some((compiler.routes(), routes))
}

fuzz_target!(|text: &str| {
    let Some((once, routes)) = compiled(text) else { return };
    let (again, _) = compiled(text).expect("it was accepted before");
    assert_eq!((&once.statuses, &once.gateways), (&again.statuses, &again.gateways));
    assert_eq!(once.statuses.len(), routes);
    for condition in once.statuses.iter().flat_map(|status| &status.parents).flat_map(|parent| &parent.conditions) {
        assert!(!condition.message.is_empty(), "{condition:?}");
    }
    let grpc = [Header { name: "content-type", value: b"application/grpc" }];
    for (name, host) in &once.serving.hosts {
        for (target, headers) in [("/", &[][..]), ("/a/b?q=1", &[]), ("/s.S/M", &grpc)] {
            let parts = Parts { method: "POST", scheme: "http", authority: "web.shop", target, headers };
            let request = Request::read(parts, Normalization::Base).expect("it is legal");
            let asker = Asker { namespace: None, labels: None, gateway: MESH, port: "80".parse().expect("a port") };
            let decided = |compiled: &Compiled| {
                let table = compiled.serving.host(name).map(|host| host.http.clone()).unwrap_or_default();
                table.decide(&request, &asker, &mut SmallRng::seed_from_u64(1)).to_string()
            };
            assert_eq!(decided(&once), decided(&again));
            let facts = TcpFacts { destination: [10, 0, 0, 1].into(), client: [10, 0, 0, 2].into(), name: None };
            host.tcp.decide(&facts, &asker, &mut SmallRng::seed_from_u64(1));
        }
    }
});
