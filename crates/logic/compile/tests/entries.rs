//! Where a connection of a pod goes that asks for an address of a ServiceEntry.

#![expect(clippy::unwrap_used, reason = "what the mesh is made of is written here")]

use rand::{SeedableRng, rngs::SmallRng};
use weir_compile::{Settings, compile, default_root_namespace};
use weir_manifest::{FileName, parse};
use weir_model::OrigDst;
use weir_world::{Plan, World};

/// An enrolled client and an enrolled server, each with an address of either family.
const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: a, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: a}
spec: {nodeName: n1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: a, labels: {app: server}}
spec: {nodeName: n1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}], conditions: [{type: Ready, status: 'True'}]}
---
";

fn world(spec: &str) -> World {
    let text = format!(
        "{PODS}apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: a}}\nspec: {{hosts: [e.example], \
         ports: [{{number: 80, name: http, targetPort: 8080}}], addresses: [192.0.2.1, '2001:db8::1'], {spec}}}\n"
    );
    let objects = parse(&[(FileName::new("f.yaml"), &text)]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    World::new(compile(
        objects,
        &Settings {
            trust_domain: "td.example".parse().unwrap(),
            cluster: "Kubernetes".parse().unwrap(),
            network: "".parse().unwrap(),
            node: None,
            cluster_domain: Default::default(),
            root_namespace: default_root_namespace(),
        },
    ))
}

/// The plan for a connection of the client, in a few words.
fn plan(world: &World, to: &str) -> String {
    let client = "Kubernetes//v1/Pod/a/client".parse().unwrap();
    match world.outbound(&client, OrigDst::new(to.parse().unwrap()), &mut SmallRng::seed_from_u64(1)) {
        Plan::Tunnel(plan) => format!("tunnel {} {}", plan.next_hop, plan.authority),
        Plan::Passthrough(plan) => format!("plain {} {}", plan.target, plan.service.is_some()),
        Plan::Refuse(refusal) => format!("refused: {refusal}"),
    }
}

#[test]
fn what_is_outside_is_reached_in_the_clear_what_is_in_the_mesh_in_a_tunnel_and_what_must_be_resolved_not_at_all() {
    let refused = |why: &str| {
        format!(
            "refused: service a/e.example cannot be reached by this version: {why}, which waypoints do, and it is bound to none"
        )
    };
    let six = "[2001:db8::1]:80";
    for (spec, v4, v6) in [
        (
            "resolution: STATIC, endpoints: [{address: 198.51.100.1}, {address: '2001:db8:1::1', ports: {http: 81}}]",
            "plain 198.51.100.1:8080 true".to_owned(),
            "plain [2001:db8:1::1]:81 true".to_owned(),
        ),
        (
            "resolution: STATIC, endpoints: [{address: 10.0.0.2}, {address: 'fd00::2'}]",
            "tunnel 10.0.0.2:15008 10.0.0.2:8080".to_owned(),
            "tunnel [fd00::2]:15008 [fd00::2]:8080".to_owned(),
        ),
        (
            "resolution: STATIC, workloadSelector: {labels: {app: server}}",
            "tunnel 10.0.0.2:15008 10.0.0.2:8080".to_owned(),
            "tunnel [fd00::2]:15008 [fd00::2]:8080".to_owned(),
        ),
        ("resolution: NONE", "plain 192.0.2.1:80 false".to_owned(), format!("plain {six} false")),
        ("resolution: DNS", refused("resolution DNS"), refused("resolution DNS")),
    ] {
        let world = world(spec);
        assert_eq!([plan(&world, "192.0.2.1:80"), plan(&world, six)], [v4, v6], "{spec}");
    }
    let endpoint = "resolution: STATIC, endpoints: [{address: 198.51.100.1}, {address: '2001:db8:1::1'}]";
    for (export, is_seen) in [("['*']", true), ("['.']", true), ("[b, a]", true), ("[b]", false), ("['~']", false)] {
        let world = world(&format!("{endpoint}, exportTo: {export}"));
        let want = match is_seen {
            true => ["plain 198.51.100.1:8080 true", "plain [2001:db8:1::1]:8080 true"],
            false => ["plain 192.0.2.1:80 false", "plain [2001:db8::1]:80 false"],
        };
        assert_eq!([plan(&world, "192.0.2.1:80"), plan(&world, six)], want, "{export}");
    }
    let nobody = plan(&world("resolution: STATIC"), six);
    assert!(nobody.starts_with("refused: "), "{nobody}");
}
