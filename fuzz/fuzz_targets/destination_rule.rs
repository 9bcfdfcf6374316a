//! DestinationRules: any text is legal ones, which become policies of every service, port and subset, or it is refused with reasons; what a server
//! sends is one, or a rejected one with reasons that are bounded. Findings say something, and the same objects come to the same in any order.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use weir_compile::{Compiled, Configs, Settings, routes};
use weir_fuzz::{ground, readings};
use weir_manifest::{ConfigKind, ConfigObject};
use weir_model::Port;
use weir_world::World;

const SERVICES: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: b, port: 81}]}}
- {apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: 'fd00::2', ports: [{name: tcp, port: 80}]}}
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {ports: [{name: http, port: 80}]}}
";

static GROUND: LazyLock<(Settings, World)> = LazyLock::new(|| ground(SERVICES));

fn compiled(objects: impl Iterator<Item = ConfigObject>) -> Compiled {
    let (settings, world) = &*GROUND;
    let mut configs = Configs::default();
    objects.for_each(|object| configs.set(object));
    routes(settings, world, &configs)
}

/// Makes policies of objects, and looks at each.
fn held(objects: Vec<ConfigObject>) {
    let once = compiled(objects.iter().cloned());
    let again = compiled(objects.into_iter().rev());
    assert_eq!(once.findings, again.findings, "the same objects are told another thing");
    assert!(once.findings.iter().all(|finding| !finding.message.is_empty()), "a finding says nothing");
    for (name, host) in &once.serving.hosts {
        let destinations = &host.destinations;
        assert_eq!(destinations, again.serving.destinations(name), "a service is treated in two ways");
        for (subset, said) in &destinations.subsets {
            assert_eq!(destinations.subset(name, subset).expect("it is there"), said);
            for port in [80, 81, 82].map(|port| Port::new(port).expect("a port")) {
                let policy = said.policies.of(port);
                assert!(
                    said.policies.ports.get(&port).is_none_or(|own| own == policy),
                    "a port's own policy does not hold"
                );
            }
        }
    }
}

fuzz_target!(|text: &str| readings(text, ConfigKind::DestinationRule, held));
