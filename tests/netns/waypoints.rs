//! Pods that require a waypoint, with real agents.

use anyhow::Context;
use weir_testbed::{PodSpec, ServiceSpec, Topology, TopologySpec, labels};
use weir_tests::{Bed, client_seen, eventually, refused};

#[test]
fn a_pod_that_requires_its_waypoint_is_entered_by_nobody_else() -> anyhow::Result<()> {
    let required = |name: &str| {
        let mut spec = PodSpec::new(name, 0);
        spec.labels.insert("weir.dev/waypoint".into(), "required".into());
        spec
    };
    let mut guarded = required("guarded");
    guarded.labels.insert("istio.io/use-waypoint".into(), "gate".into());
    let pods = [
        PodSpec::new("gate", 1),
        PodSpec::new("client", 1),
        PodSpec::new("near", 0),
        PodSpec::new("plain", 0).unenrolled(),
        PodSpec::new("free", 0),
        guarded,
        required("unbound"),
    ];
    let mut topology = Topology::new(TopologySpec::default())?;
    for pod in pods {
        topology.add_pod(pod)?;
    }
    // It is the waypoint that stands behind the service of that name: what it sends is not led back to it.
    let (selector, ports) = (labels([("app", "gate")]), vec![("mesh".to_owned(), 15008, 15008)]);
    topology.add_service(ServiceSpec { name: "gate".into(), namespace: "default".into(), selector, ports })?;
    let bed = Bed::on(topology, &[])?;
    for from in ["gate", "client", "near", "plain"] {
        for at in bed.http("free") {
            eventually("the network is there", || client_seen(bed.topology.pod(from).netns(), at, "/").map(|_| true))?;
        }
    }
    for (from, to, enters) in [
        ("gate", "guarded", true),
        ("client", "guarded", false),
        ("near", "guarded", false),
        ("plain", "guarded", false),
        ("gate", "unbound", false),
        ("client", "unbound", false),
    ] {
        for at in bed.http(to) {
            let from_ns = bed.topology.pod(from).netns();
            match enters {
                true => drop(client_seen(from_ns, at, "/").with_context(|| format!("{from} to {to} at {at}"))?),
                false => refused(from_ns, at).with_context(|| format!("{from} to {to} at {at}"))?,
            }
        }
    }
    eventually("a line of log names the waypoint", || {
        Ok(bed.mesh.agent(0).log().contains("weir.dev/waypoint default/default/gate: only its waypoint may enter"))
    })?;
    bed.mesh.stop()
}
