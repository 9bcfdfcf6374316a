//! What breaks: the waypoint, a server in the middle of an answer, the configuration under load.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_testbed::Process;
use weir_tests::{bed_command, eventually, refused};

use crate::scene::{ECHO, QUICK, Scene};

/// Between two changes of the configuration: a hundred in a second, of which the folder is read once they settle, or every two seconds.
const BETWEEN: Duration = Duration::from_millis(10);
/// How many such changes.
const CHANGES: u32 = 250;
/// How many more, each of which is taken over.
const SETTLED: u32 = 30;

#[test]
fn a_waypoint_that_is_gone_is_not_gone_past() {
    let mut scene = Scene::new(&[]);
    for round in 0..2 {
        let path = format!("/before/{round}");
        for at in scene.at(ECHO) {
            scene.asked(at, &path, &[]);
        }
        // Killed, with no time to say anything.
        scene.waypoint = None;
        let arrived = ["web-1", "web-2"].map(|pod| scene.counts(pod));
        for from in ["client", "other"] {
            for at in scene.at(ECHO).into_iter().chain(scene.at(QUICK)) {
                let netns = scene.bed.topology.pod(from).netns();
                refused(netns, at).unwrap_or_else(|error| panic!("{from} {at}: {error:#}\n{}", scene.logs()));
            }
        }
        assert_eq!(["web-1", "web-2"].map(|pod| scene.counts(pod)), arrived, "somebody got past");
        scene.start_waypoint();
    }
    scene.stop();
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_and_the_next_goes_elsewhere() {
    let mut scene = Scene::new(&[]);
    for (round, flag) in ["--http1.1", "--http2-prior-knowledge"].into_iter().enumerate() {
        for (family, at) in scene.at(ECHO).into_iter().enumerate() {
            let path = format!("/part/{round}-{family}");
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--globoff", "--no-buffer", "--max-time", "30", flag]);
            let file = scene.bed.topology.work_dir().join(format!("part-{round}-{family}"));
            curl.arg("--output").arg(&file).arg(format!("http://{at}{path}"));
            let logs = scene.bed.topology.work_dir().join("logs");
            let netns = scene.bed.topology.pod("client").netns();
            let mut curl = Process::start(netns, &format!("curl-{round}-{family}"), curl, &logs).unwrap();
            let held = || std::fs::read_to_string(&file).unwrap_or_default();
            eventually("the first part arrives", || Ok(held() == "the first part")).unwrap();
            let what = format!("GET {path}");
            let pod = if scene.count("web-1", &what) == 1 { "web-1" } else { "web-2" };
            scene.echo.remove(pod).unwrap();
            let status = curl.wait(Duration::from_secs(20)).unwrap();
            // 18: cut short. 56: reset. 92: a stream of HTTP/2 was.
            assert!(matches!(status.code(), Some(18 | 56 | 92)), "{flag} {at}: {status}\n{}", curl.log());
            assert_eq!(held(), "the first part");
            // It is not sent again, for somebody has acted on it; what comes after is served, by whoever is left.
            let other = if pod == "web-1" { "web-2" } else { "web-1" };
            assert_eq!(scene.count(other, &what), 0);
            for number in 0..30 {
                let seen = scene.asked(at, &format!("/after/{number}"), &[flag]);
                assert_eq!(seen["name"], other, "{seen}");
            }
            scene.start_echo(pod);
        }
    }
    scene.stop();
}

/// Weights, headers and a policy that change with each version, and are all right.
fn version(number: u32) -> String {
    let weight = number % 101;
    let rest = 100 - weight;
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         host: web.default.svc.cluster.local\n  subsets:\n  - {{name: one, labels: {{version: '1'}}}}\n  - {{name: two, labels: {{version: '2'}}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         hosts: [web.default.svc.cluster.local]\n  http:\n  - headers: {{request: {{set: {{x-number: n{number}}}}}}}\n    route:\n    \
         - {{destination: {{host: web.default.svc.cluster.local, subset: one}}, weight: {weight}}}\n    \
         - {{destination: {{host: web.default.svc.cluster.local, subset: two}}, weight: {rest}}}\n---\n\
         apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: some, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: web}}]\n  action: DENY\n  rules:\n  - to: [{{operation: {{paths: [/never/{number}]}}}}]\n"
    )
}

#[test]
fn no_request_fails_while_the_configuration_changes_a_hundred_times_a_second() {
    let scene = Scene::new(&[("routes.yaml", &version(0))]);
    let generation = || scene.waypoint().metric("weir_config_generation", &[]).unwrap().value;
    let before = generation();
    let topology = &scene.bed.topology;
    let reports: Vec<Value> = thread::scope(|scope| {
        let loads: Vec<_> = scene
            .at(QUICK)
            .into_iter()
            .map(|at| {
                let mut command =
                    bed_command(&["request", "--connections", "4", "--seconds", "8", "--rate", "200"]).unwrap();
                command.args(["--to", &at.to_string()]).stdin(Stdio::null());
                let scene = &scene;
                scope.spawn(move || serde_json::from_str(&scene.run("client", command).unwrap()).unwrap())
            })
            .collect();
        let start = Instant::now();
        for number in 1..=CHANGES {
            topology.add_manifest("routes.yaml", &version(number)).unwrap();
            // Not waiting for anything: a pace.
            let due = start + BETWEEN * number;
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
        }
        for number in CHANGES + 1..=CHANGES + SETTLED {
            let before = generation();
            topology.add_manifest("routes.yaml", &version(number)).unwrap();
            eventually("a version is taken over", || Ok(generation() > before)).unwrap();
        }
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    });
    for report in &reports {
        assert!(report["failed"] == 0 && report["ok"].as_u64() > Some(500), "{reports:?}\n{}", scene.logs());
    }
    let last = format!("n{}", CHANGES + SETTLED);
    for at in scene.at(ECHO) {
        eventually("the last version is in force", || Ok(scene.asked(at, "/", &[])["headers"]["x-number"] == *last))
            .unwrap();
    }
    assert!(generation() > before + u64::from(SETTLED), "{before} to {}: the folder was not followed", generation());
    scene.stop();
}

#[test]
fn no_request_fails_while_endpoints_come_and_go() {
    let mut scene = Scene::new(&[]);
    let at = scene.at(QUICK)[1];
    let mut command = bed_command(&["request", "--connections", "4", "--seconds", "8", "--rate", "200"]).unwrap();
    command.args(["--to", &at.to_string()]);
    let mut load = scene.bed.topology.start_in_pod("client", command).unwrap();
    for round in 0..6 {
        let (pod, other) = if round % 2 == 0 { ("web-1", "web-2") } else { ("web-2", "web-1") };
        scene.bed.topology.change_pod(pod, |spec| spec.ready = false).unwrap();
        eventually("nothing more goes to a pod that is not ready", || {
            Ok(scene.tally(scene.at(QUICK)[0], "/", 20).keys().eq([other]))
        })
        .unwrap();
        assert!(load.is_running().unwrap(), "it ended in round {round}: {}", load.log());
        scene.bed.topology.change_pod(pod, |spec| spec.ready = true).unwrap();
        eventually("it is asked again", || Ok(scene.tally(scene.at(QUICK)[0], "/", 20).len() == 2)).unwrap();
    }
    assert!(load.wait(Duration::from_secs(30)).unwrap().success(), "{}", load.log());
    let report: Value = serde_json::from_str(load.log().trim()).unwrap();
    assert!(report["failed"] == 0 && report["ok"].as_u64() > Some(500), "{report}\n{}", scene.logs());
    scene.stop();
}
