//! Every command of `weirctl` that looks, over a control plane, an agent and a waypoint that run: what each says is written down.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use regex::Regex;
use weir_netlink::NetNs;
use weir_testbed::{PodSpec, binary};
use weir_tests::{connect, eventually};

use crate::scene::{By, ECHO, Scene};

/// Admin servers on the loopback of the first node; the agent's is also where the waypoint has its own, in its pod. The folder is that of the manifests.
const NAMES: [(&str, &str); 3] =
    [("CONTROL", "http://localhost:15010"), ("AGENT", "http://localhost:15000"), ("NOBODY", "http://localhost:1")];
/// Asked on the first node.
const ON_THE_NODE: &str = "version --admin AGENT,CONTROL
version --admin AGENT,NOBODY
version --admin CONTROL -o yaml
status --admin AGENT,CONTROL
status --admin NOBODY
agent workloads --admin AGENT
agent workloads --admin AGENT -n default --name asker -o yaml
agent workloads --admin AGENT -n nowhere
agent workloads --admin CONTROL
agent workloads --admin NOBODY
agent services --admin AGENT
agent services --admin AGENT -n nowhere
agent policies --admin AGENT
agent connections --admin AGENT --name asker
agent certificates --admin AGENT
agent certificates --admin AGENT --node node7
agent log --admin AGENT
agent log nonsense --admin AGENT
describe pod default/asker --admin AGENT
describe pod default/aksre --admin AGENT
describe pod defualt/asker --admin AGENT
describe service default/web --admin AGENT
describe service default/wep --admin AGENT
explain --from default/asker --to web.default:81 --admin NOBODY
authz explain --from default/client --to default/web-2:8081 --admin AGENT
authz explain --from default/client --to default/web-2:8081 --admin NOBODY
authz explain --from default/client --to default/wbe-2:8081 --admin AGENT
why default/asker --admin AGENT
why default/nobody --admin AGENT
why --admin CONTROL
why --admin NOBODY
check --admin AGENT,NOBODY
waypoint config default/waypoint --admin AGENT
waypoint config default/waypoint --admin NOBODY";
/// Asked in the waypoint's pod, where its own admin server has the port that the agent's has on a node.
const IN_THE_WAYPOINT: &str = "version --admin AGENT
status --admin AGENT
waypoint config default/waypoint --admin AGENT
waypoint config default/wyapoint --admin AGENT
waypoint status default/waypoint --admin AGENT
waypoint list --admin AGENT
agent workloads --admin AGENT
describe service default/web --admin AGENT
explain --from default/client --to web.default:81 --admin AGENT
explain --from default/client --to web.default:81 --admin AGENT 'GET /moved'
explain --from default/client --to web.default:80 --admin AGENT 'GET /moved'
explain --from default/asker --to web.default:81 --admin AGENT 'GET /'
explain --from default/asker --to wep.default:81 --admin AGENT 'GET /'
why default/asker --admin AGENT
why default/nobody --admin AGENT";
/// Asked of the folder that all of it was told by.
const OF_THE_FOLDER: &str = "describe pod default/asker -f FOLDER
describe service default/web -f FOLDER
explain --from default/asker --to web.default:81 -f FOLDER 'GET /'
explain --from default/client --to web.default:80 -f FOLDER 'GET /moved'
authz explain --from default/client --to default/web-2:8081 -f FOLDER
analyze FOLDER
analyze FOLDER -n nowhere
analyze FOLDER/missing.yaml
waypoint list -f FOLDER";
const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/client, cluster.local/ns/default/sa/other]}}]
";
const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 81}]
  rules:
  - matches: [{path: {type: Exact, value: /moved}}]
    filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302, path: {type: ReplaceFullPath, replaceFullPath: /}}}]
  - backendRefs: [{name: web, port: 81}]
";

/// What it prints, and what it complains of and ends with.
fn weirctl(at: &NetNs, words: &str, folder: &str) -> String {
    let mut command = Command::new(binary("weirctl").unwrap());
    let words = words.replace("FOLDER", folder);
    let named = |word: &str| NAMES.iter().fold(word.to_owned(), |word, (name, url)| word.replace(name, url));
    // What is between quotes is one word.
    for (number, part) in words.split('\'').enumerate() {
        match number % 2 {
            0 => command.args(part.split_whitespace().map(named)),
            _ => command.arg(part),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = at.spawn(command).unwrap().wait_with_output().unwrap();
    let [said, complained] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    format!("{said}{complained}(ends with {})\n", output.status.code().unwrap())
}

/// With names in place of what differs from run to run.
fn settled(text: &str, folder: &str) -> String {
    let mut text = text.replace(env!("CARGO_PKG_VERSION"), "x.y.z").replace(folder, "FOLDER");
    for (name, url) in NAMES {
        text = text.replace(url, name);
    }
    for (what, instead) in [
        ("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "TIME"),
        ("([0-9a-f]{2}:){9,}[0-9a-f]{2}", "SERIAL"),
        ("(10[.]244[.][0-9.]+|\\[fd[0-9a-f:]+\\]):[3-6][0-9]{4}", "$1:PORT"),
        ("configuration [0-9]+ of", "configuration N of"),
        ("(x[.]y[.]z +)[0-9]+ ", "${1}N "),
        ("([^ \\n])   *", "$1  "),
    ] {
        text = Regex::new(what).unwrap().replace_all(&text, instead).into_owned();
    }
    text
}

fn answers(at: &NetNs, all: &str, folder: &str) -> String {
    let mut told = String::new();
    for words in all.lines() {
        write!(told, "$ weirctl {words}\n{}\n", settled(&weirctl(at, words, folder), folder)).unwrap();
    }
    told
}

#[test]
fn every_command_answers_of_a_mesh_that_runs_as_it_was_written_down() {
    // Its own port of the service has the route; the others are served as if there was none, or the scene is never up.
    let scene = Scene::by(By::Control, &[("policy.yaml", POLICY), ("route.yaml", ROUTE)], |topology| {
        topology.add_pod(PodSpec::new("asker", 0)).unwrap();
    });
    let folder = scene.bed.topology.manifests_dir().to_str().unwrap().to_owned();
    scene.wait_status("client", "/moved", &[], 302);
    scene.wait_status("asker", "/", &[], 403);
    let (node, waypoint) = (scene.bed.topology.nodes()[0].netns(), scene.bed.topology.pod("waypoint").netns());
    // A port that the service does not have is refused by the agent of whoever asks.
    let lacking = SocketAddr::new(scene.at(ECHO)[0].ip(), 9);
    assert!(connect(scene.bed.topology.pod("asker").netns(), lacking).and_then(talked).is_err());
    for (at, words, until) in [
        (node, "status --admin AGENT,CONTROL", "no problems"),
        (node, "agent connections --admin AGENT --name asker", "no connection is open"),
        (node, "why default/asker --admin AGENT", "port 9"),
        (waypoint, "status --admin AGENT", "no problems"),
        (waypoint, "why default/asker --admin AGENT", "default/asker"),
    ] {
        let so = || Ok(weirctl(at, words, &folder).contains(until));
        eventually(words, so)
            .unwrap_or_else(|error| panic!("{error:#}: {}\n{}", weirctl(at, words, &folder), scene.logs()));
    }
    insta::assert_snapshot!("on_the_node", answers(node, ON_THE_NODE, &folder));
    insta::assert_snapshot!("in_the_waypoint", answers(waypoint, IN_THE_WAYPOINT, &folder));
    insta::assert_snapshot!("of_the_folder", answers(node, OF_THE_FOLDER, &folder));
    scene.stop();
}

/// Reads what a connection says until it ends.
fn talked(mut stream: std::net::TcpStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut one = [0];
    match std::io::Read::read(&mut stream, &mut one) {
        Ok(0) | Err(_) => anyhow::bail!("refused"),
        Ok(_) => Ok(()),
    }
}
