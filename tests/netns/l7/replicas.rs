//! Waypoints of several workloads: a connection that one does not take goes to another.

use weir_tests::{eventually, refused};

use crate::scene::{By, ECHO, QUICK, Scene};

#[test]
fn a_replica_that_refuses_costs_no_connection() {
    // It is ready, as far as anybody was told, nearer to the clients than the other one, and nobody listens there.
    let mut scene = Scene::by(By::Folder, &[], |topology| topology.add_replica("waypoint", "spare", 0).unwrap());
    for at in scene.at(ECHO) {
        for number in 0..50 {
            for (from, flag) in [("client", "--http1.1"), ("other", "--http2-prior-knowledge")] {
                let path = format!("/replicas/{number}");
                assert_eq!(scene.status(from, at, &path, &[flag]), 200, "{from} {at}{path}\n{}", scene.logs());
            }
        }
    }
    let log = scene.bed.mesh.agent(0).log();
    let failed = log.lines().filter(|line| line.contains("connection failed") && line.contains("/waypoint"));
    assert_eq!(failed.count(), 0, "{log}");
    // Where none takes it, it is refused, and the log says how far it got.
    scene.waypoint = None;
    for at in scene.at(QUICK) {
        let netns = scene.bed.topology.pod("client").netns();
        refused(netns, at).unwrap_or_else(|error| panic!("{at}: {error:#}\n{}", scene.logs()));
    }
    let said = |line: &str| line.contains("connection failed") && line.contains("connection to the peer");
    eventually("a line of log", || Ok(scene.bed.mesh.agent(0).log().lines().any(said)))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    scene.start_waypoint();
    scene.stop();
}
