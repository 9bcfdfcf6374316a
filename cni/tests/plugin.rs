//! The plugin as a runtime runs it: a process with an environment and standard input, beside an agent that is well or not.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Spacing, order and numbers that a JSON library would write otherwise.
const RESULT: &str = r#"{"cniVersion":"1.0.0", "zeta": 1.50, "alpha": 1e2,
  "ips":[{"address":"10.0.0.7/24","gateway":"10.0.0.1"},{"address":"fd00::7/64"}], "dns":{}}"#;
const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("cni.sock")
    }

    /// An agent for one question: reads it, writes `answer` and closes. The question's body comes back.
    fn agent(&self, answer: impl Into<Vec<u8>>) -> JoinHandle<Value> {
        let (listener, answer) = (UnixListener::bind(self.socket()).unwrap(), answer.into());
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let body = question(&mut stream);
            // The plugin need not read all of what is too large.
            drop(stream.write_all(&answer));
            body
        })
    }

    fn config(&self, more: &str) -> String {
        let socket = self.socket();
        format!(
            r#"{{"cniVersion":"1.0.0","name":"net","type":"weir-cni","agentSocket":"{}"{more},"prevResult":{RESULT}}}"#,
            socket.display()
        )
    }
}

fn question(stream: &mut UnixStream) -> Value {
    let mut text = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "the question ended early: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&part[..read]);
        let so_far = String::from_utf8(text.clone()).unwrap();
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
        let (_, length) = head.split_once("content-length: ").unwrap();
        if body.len() == length.split("\r\n").next().unwrap().parse::<usize>().unwrap() {
            assert!(head.starts_with("POST /cni HTTP/1.1\r\n"), "{head}");
            return serde_json::from_str(body).unwrap();
        }
    }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn run_with(command: &str, change: &[(&str, &str)], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir-cni"))
        .env_clear()
        .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/c1")])
        .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", "/opt/cni/bin"), ("CNI_ARGS", POD)])
        .envs(change.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It need not read all of what is too large.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn run(command: &str, input: &str) -> Output {
    run_with(command, &[], input)
}

#[track_caller]
fn succeeds(output: &Output, want: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), want, "{output:?}");
    assert!(output.status.success(), "{output:?}");
}

#[track_caller]
fn fails(output: &Output, code: u32, says: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    let error: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(error["code"], code, "{text}");
    assert!(error["cniVersion"].is_string() && error["msg"].is_string(), "{text}");
    assert!(error["details"].as_str().unwrap().contains(says), "{text} does not say {says:?}");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn add_asks_the_agent_and_passes_the_result_on_as_it_was() {
    for enrolled in [true, false] {
        let folder = Folder::new();
        let agent = folder.agent(http("200 OK", &json!({ "enrolled": enrolled }).to_string()));
        succeeds(&run("ADD", &folder.config("")), RESULT);
        let want = json!({
            "command": "ADD", "podNamespace": "shop", "podName": "web-0", "podUid": "u-1",
            "containerId": "c1", "netns": "/run/netns/c1", "ips": ["10.0.0.7", "fd00::7"],
        });
        assert_eq!(agent.join().unwrap(), want);
    }
}

#[test]
fn check_and_status_ask_and_say_nothing() {
    for (command, about) in [("CHECK", "/run/netns/c1".into()), ("STATUS", Value::Null)] {
        let folder = Folder::new();
        let agent = folder.agent(http("200 OK", r#"{"enrolled":true}"#));
        succeeds(&run(command, &folder.config("")), "");
        let asked = agent.join().unwrap();
        assert_eq!((&asked["command"], &asked["netns"]), (&json!(command), &about));
    }
}

#[test]
fn an_agent_that_says_no_is_quoted() {
    for (command, code) in [("ADD", 100), ("CHECK", 100), ("STATUS", 50)] {
        let folder = Folder::new();
        let agent = folder.agent(http("503 Service Unavailable", r#"{"error":"no certificate"}"#));
        fails(&run(command, &folder.config("")), code, "no certificate");
        agent.join().unwrap();
    }
}

#[test]
fn without_an_agent_a_pod_is_tried_again_later() {
    let folder = Folder::new();
    let socket = folder.socket().display().to_string();
    for (command, code) in [("ADD", 11), ("CHECK", 11), ("STATUS", 50)] {
        fails(&run(command, &folder.config("")), code, &socket);
    }
    // Left behind by an agent that is gone.
    drop(UnixListener::bind(folder.socket()).unwrap());
    fails(&run("ADD", &folder.config("")), 11, &socket);
}

#[test]
fn an_agent_that_hangs_is_left_after_the_timeout() {
    let folder = Folder::new();
    let _silent = UnixListener::bind(folder.socket()).unwrap();
    for (command, code) in [("ADD", 11), ("STATUS", 50)] {
        let begun = Instant::now();
        fails(&run(command, &folder.config(r#","timeout":1"#)), code, "within");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(15), "{command} took {took:?}");
    }
}

#[test]
fn an_agent_that_talks_nonsense_is_not_believed() {
    let large = http("200 OK", &format!(r#"{{"error":"{}"}}"#, "x".repeat(70_000)));
    for answer in ["", "garbage", "HTTP/1.1 200 OK\r\n\r\n{", "HTTP/1.1 500 Oh\r\n\r\n{\"enrolled\":true}", &large] {
        let folder = Folder::new();
        let agent = folder.agent(answer);
        fails(&run("ADD", &folder.config("")), 101, "expected");
        agent.join().unwrap();
    }
}

#[test]
fn pods_of_excluded_namespaces_and_other_containers_start_without_an_agent() {
    let folder = Folder::new();
    let of = |namespace| format!("K8S_POD_NAME=web-0;K8S_POD_NAMESPACE={namespace}");
    for namespace in ["kube-system", "weir-system"] {
        succeeds(&run_with("ADD", &[("CNI_ARGS", &of(namespace))], &folder.config("")), RESULT);
    }
    let others = folder.config(r#","excludeNamespaces":["shop"]"#);
    succeeds(&run("ADD", &others), RESULT);
    fails(&run_with("ADD", &[("CNI_ARGS", &of("kube-system"))], &others), 11, "cannot be spoken with");
    succeeds(&run_with("ADD", &[("CNI_ARGS", "")], &folder.config("")), RESULT);
}

#[test]
fn del_succeeds_whatever_is_wrong() {
    let folder = Folder::new();
    for input in [&*folder.config(""), "", "{", r#"{"cniVersion":"9.0.0"}"#] {
        succeeds(&run_with("DEL", &[("CNI_NETNS", ""), ("CNI_CONTAINERID", "/")], input), "");
    }
}

#[test]
fn versions_are_told_and_others_refused() {
    let output = run("VERSION", r#"{"cniVersion":"1.0.0"}"#);
    succeeds(&output, r#"{"cniVersion":"1.0.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#);
    for command in ["ADD", "CHECK", "STATUS", "GC"] {
        fails(&run(command, r#"{"cniVersion":"0.2.0","name":"n","type":"weir-cni"}"#), 1, "0.2.0");
    }
    succeeds(&run("GC", r#"{"cniVersion":"1.1.0","name":"n","type":"weir-cni","cni.dev/valid-attachments":[]}"#), "");
}

#[test]
fn what_the_runtime_gets_wrong_is_named() {
    let folder = Folder::new();
    let good = folder.config("");
    fails(&run("MOVE", &good), 4, "CNI_COMMAND");
    fails(&run_with("ADD", &[("CNI_CONTAINERID", "")], &good), 4, "CNI_CONTAINERID");
    fails(&run_with("ADD", &[("CNI_NETNS", "")], &good), 4, "CNI_NETNS");
    fails(&run("ADD", "{"), 6, "line 1");
    fails(&run("ADD", r#"{"cniVersion":"1.0.0","name":"n","type":"weir-cni"}"#), 7, "prevResult");
    fails(&run("ADD", &" ".repeat((1 << 20) + 1)), 7, "longer than 1048576 bytes");
    assert!(!Path::new(&folder.socket()).exists());
}
