//! ServiceEntries: any text is legal ones, which become services and workloads, or it is refused with reasons. In any order they come to the same
//! mesh, without them it is what it was, and whatever they say, nothing that is in the mesh is reached in the clear.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use rand::{SeedableRng, rngs::SmallRng};
use weir_compile::Compiler;
use weir_fuzz::{readings, settings};
use weir_manifest::{ConfigKind, ConfigObject, FileName, Object, parse};
use weir_model::{OrigDst, WorkloadUid};
use weir_world::{Plan, World};

/// Two enrolled pods and a service.
const MESH: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {istio.io/dataplane-mode: ambient}}}
- apiVersion: v1
  kind: Pod
  metadata: {name: client, namespace: a}
  spec: {nodeName: n1, containers: [{name: c}]}
  status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], conditions: [{type: Ready, status: 'True'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: server, namespace: a, labels: {app: server}}
  spec: {nodeName: n1, containers: [{name: c}]}
  status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}], conditions: [{type: Ready, status: 'True'}]}
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {clusterIP: 10.96.0.1, selector: {app: server}, ports: [{port: 80}]}}
";
const IN_THE_MESH: [&str; 4] = ["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"];

fn mesh() -> Compiler {
    let mut compiler = Compiler::new(settings());
    let objects = parse(&[(FileName::new("mesh.yaml"), MESH)]).expect("a mesh");
    objects.into_objects().for_each(|object| compiler.set(object));
    compiler
}

fn entered(entries: Vec<ConfigObject>) {
    let of = |entries: Vec<ConfigObject>| {
        let mut compiler = mesh();
        entries.into_iter().for_each(|entry| compiler.set(Object::Config(entry)));
        compiler
    };
    let mut once = of(entries.clone());
    let made = once.mesh();
    assert_eq!(made, of(entries.iter().rev().cloned().collect()).mesh(), "their order says something");
    // Taken bit by bit, it comes to the same.
    once.take();
    let world = World::new(made.clone());
    let client: WorkloadUid = "Kubernetes//v1/Pod/a/client".parse().expect("a uid");
    let hidden = IN_THE_MESH.map(|ip| ip.parse().expect("an address"));
    let services = made.services.iter().flat_map(|service| {
        let ports = service.ports.iter().map(|port| port.port.number());
        let vips = service.vips.iter().map(|(_, net)| net.addr());
        vips.flat_map(move |ip| ports.clone().map(move |port| SocketAddr::new(ip, port)))
    });
    for to in services.chain(hidden.map(|ip| SocketAddr::new(ip, 80))) {
        for world in [&world, once.world()] {
            match world.outbound(&client, OrigDst::new(to), &mut SmallRng::seed_from_u64(1)) {
                Plan::Passthrough(plan) => assert!(!hidden.contains(&plan.target.ip()), "{to} is reached in the clear"),
                Plan::Refuse(refusal) => assert!(!refusal.to_string().is_empty()),
                Plan::Tunnel(_) => {}
            }
        }
    }
    for entry in &entries {
        once.remove(&Object::Config(entry.clone()).key());
    }
    assert_eq!(once.mesh(), mesh().mesh(), "what is removed leaves something behind");
}

fuzz_target!(|text: &str| {
    readings(text, ConfigKind::ServiceEntry, |objects| {
        let is_entry = |object: &ConfigObject| object.kind == ConfigKind::ServiceEntry;
        entered(objects.into_iter().filter(is_entry).collect());
    });
});
