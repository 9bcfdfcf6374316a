//! The socket as the plugin finds it, without a kernel: states are set by hand.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Cursor},
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_cni::Outcome;
use weir_model::{Enrolment, LocalPod};

use super::*;
use crate::namespaces::Authority;

const WEB: &str = "Kubernetes//v1/Pod/shop/web-0";
const OLD: &str = "7a1b7f2e-0c4d-4000-8000-00000000000a";
const NEW: &str = "7a1b7f2e-0c4d-4000-8000-00000000000b";
const SHORT: Duration = Duration::from_millis(50);

struct Scene {
    folder: tempfile::TempDir,
    states: States,
    namespaces: Namespaces,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("netns"), "").unwrap();
        fs::write(folder.path().join("other"), "").unwrap();
        Self { folder, states: States::default(), namespaces: Namespaces::new(Authority::Mesh, None) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn user(&self) -> u32 {
        fs::metadata(self.folder.path()).unwrap().uid()
    }

    fn set(&self, state: PodState) {
        self.states.replace(BTreeMap::from([(WEB.to_owned(), state)]));
    }

    fn enrolled(&self) -> PodState {
        let netns = self.path("netns");
        PodState::Enrolled { cookie: 7, id: NetnsId::at(&netns).unwrap(), netns }
    }

    fn bind(&self, user: u32) -> Server {
        let path = self.path("run/cni.sock");
        Server::bind_for(user, &path, cluster(), self.states.clone(), self.namespaces.clone()).unwrap()
    }

    async fn settled(&self, netns: &str) -> Result<bool, String> {
        let (states, namespaces) = (self.states.clone(), self.namespaces.clone());
        let answerer = Answerer { user: 0, cluster: cluster(), states, namespaces };
        let pod = Added { incarnation: NEW.into(), netns: self.path(netns), addresses: Vec::new() };
        let settled = answerer.settled(WEB.parse().unwrap(), pod, SHORT).await;
        settled.map_err(|refusal| chain(&refusal))
    }

    /// The plugin itself, as a runtime calls it.
    async fn plugin(&self, command: &'static str) -> Outcome {
        let netns = self.path("netns");
        let config = serde_json::json!({
            "cniVersion": "1.1.0", "name": "net", "type": "weir-cni", "agentSocket": self.path("run/cni.sock"),
            "prevResult": {"ips": [{"address": "10.0.0.7/24"}]},
        });
        let variable = move |name: &str| match name {
            "CNI_COMMAND" => Some(OsString::from(command)),
            "CNI_CONTAINERID" => Some("c1".into()),
            "CNI_IFNAME" => Some("eth0".into()),
            "CNI_NETNS" => Some(netns.clone().into()),
            "CNI_ARGS" => Some("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u".into()),
            _ => None,
        };
        tokio::task::spawn_blocking(move || weir_cni::run(&variable, Cursor::new(config.to_string()))).await.unwrap()
    }

    /// What comes back for these bytes.
    async fn raw(&self, request: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.path("run/cni.sock")).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(CONNECTION, stream.read_to_string(&mut answer)).await.unwrap()?;
        Ok(answer)
    }
}

fn cluster() -> ClusterId {
    "Kubernetes".parse().unwrap()
}

fn post(body: &str) -> String {
    format!("POST /cni HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn each_state_has_its_answer() {
    let scene = Scene::new();
    assert!(scene.settled("netns").await.unwrap_err().contains("does not know the pod"));
    for incarnation in ["", NEW] {
        scene.set(PodState::Outside { why: Enrolment::NotLabelled, incarnation: incarnation.into() });
        assert_eq!(scene.settled("netns").await, Ok(false));
    }
    // The next of this name may be another's business: it waits until that one is known.
    scene.set(PodState::Outside { why: Enrolment::NotLabelled, incarnation: OLD.into() });
    assert!(scene.settled("netns").await.unwrap_err().contains("not yet the one of"));
    scene.set(PodState::NotSent);
    assert!(scene.settled("netns").await.unwrap_err().contains("ZDS"));
    scene.set(PodState::Failing("no certificate".to_owned()));
    assert_eq!(scene.settled("netns").await, Err("no certificate".to_owned()));
    scene.set(PodState::Leaving(3));
    assert!(scene.settled("netns").await.unwrap_err().contains("leaving"));
    scene.set(scene.enrolled());
    assert_eq!(scene.settled("netns").await, Ok(true));
    assert!(scene.settled("other").await.unwrap_err().contains("which is not"));
    assert!(scene.settled("gone").await.unwrap_err().contains("gone"));
}

#[tokio::test]
async fn the_plugin_waits_until_its_pod_is_caught() {
    let scene = Scene::new();
    let server = scene.bind(scene.user());
    let serving = tokio::spawn(server.serve(std::future::pending()));
    scene.set(PodState::Failing("no certificate".to_owned()));
    let (outcome, ()) = tokio::join!(scene.plugin("ADD"), async {
        // Only a question under way follows the states.
        let asked = async {
            while scene.states.followers() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(CONNECTION, asked).await.unwrap();
        scene.set(scene.enrolled());
    });
    assert_eq!(outcome, Outcome::Done(r#"{"ips":[{"address":"10.0.0.7/24"}]}"#.to_owned()));
    let web =
        LocalPod { uid: WEB.parse().unwrap(), addresses: Vec::new(), netns: None, enrolment: Enrolment::Enrolled };
    let found = scene.namespaces.find(&web, "u").expect("the plugin said where it is");
    assert_eq!(found.addresses(&web), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
    assert!(scene.namespaces.find(&web, "another").is_none());
    assert_eq!(scene.plugin("CHECK").await, Outcome::Done(String::new()));
    assert_eq!(scene.plugin("STATUS").await, Outcome::Done(String::new()));
    scene.set(PodState::Failing("no certificate".to_owned()));
    let Outcome::Failed(text) = scene.plugin("CHECK").await else {
        panic!("CHECK of a pod that is not caught succeeds")
    };
    assert!(text.contains(r#""code":100"#) && text.contains("no certificate"), "{text}");
    serving.abort();
}

#[tokio::test]
async fn what_is_no_question_is_refused_with_its_reason() {
    let scene = Scene::new();
    let serving = tokio::spawn(scene.bind(scene.user()).serve(std::future::pending()));
    let large = format!(r#"{{"command":"STATUS","podName":"{}"}}"#, "x".repeat(BODY_BOUND));
    let pod = r#""command":"CHECK","podNamespace":"a","podName":"b","netns":"/n""#;
    let long_uid = format!(r#"{{{pod},"podUid":"{}"}}"#, "x".repeat(POD_UID_BOUND + 1));
    let many = format!(r#"{{{pod},"ips":[{}]}}"#, vec![r#""::1""#; ADDRESSES + 1].join(","));
    for (request, status, says) in [
        ("GET /cni HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "404", "POST /cni"),
        (post("{"), "400", "not the JSON"),
        (post(r#"{"command":"MOVE"}"#), "400", "MOVE"),
        (post(r#"{"command":"STATUS","more":1}"#), "400", "more"),
        (post(r#"{"command":"ADD"}"#), "400", "podNamespace"),
        (post(r#"{"command":"ADD","podNamespace":"../a","podName":"b","netns":"/n"}"#), "400", "name a pod"),
        (post(r#"{"command":"ADD","podNamespace":"a","podName":"b c","netns":"/n"}"#), "400", "name a pod"),
        (post(r#"{"command":"ADD","podNamespace":"a","podName":"b"}"#), "400", "netns"),
        (post(r#"{"command":"ADD","podNamespace":"a","podName":"b","netns":"n"}"#), "400", "absolute"),
        (post(&long_uid), "400", "129 bytes"),
        (post(&many), "400", "65 ips"),
        (post(r#"{"command":"ADD","podNamespace":"a","podName":"b","netns":"/no/such"}"#), "503", "/no/such"),
        (post(&large), "400", "longer than 65536 bytes"),
        (post(r#"{"command":"CHECK","podNamespace":"a","podName":"b","netns":"/n"}"#), "503", "does not know"),
    ] {
        let answer = scene.raw(&request).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.80}: {answer}");
        assert!(answer.contains(says), "{request:.80}: {answer}");
    }
    assert!(scene.raw(&post(r#"{"command":"STATUS"}"#)).await.unwrap().contains("200 OK"));
    serving.abort();
}

#[tokio::test]
async fn nobody_but_the_one_user_is_answered() {
    let scene = Scene::new();
    let serving = tokio::spawn(scene.bind(scene.user() + 1).serve(std::future::pending()));
    // Closed with the question unread, or before it was written.
    let answer = scene.raw(&post(r#"{"command":"STATUS"}"#)).await.unwrap_or_default();
    assert_eq!(answer, "");
    serving.abort();
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_root_s_alone() {
    let scene = Scene::new();
    drop(scene.bind(scene.user()));
    let serving = tokio::spawn(scene.bind(scene.user()).serve(std::future::pending()));
    let socket = fs::metadata(scene.path("run/cni.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(scene.path("run")).unwrap().count(), 1);
    assert_eq!(scene.plugin("STATUS").await, Outcome::Done(String::new()));
    serving.abort();
}
