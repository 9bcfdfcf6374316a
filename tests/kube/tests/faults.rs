//! The source, and what a real server does only now and then. Every case here runs against our own server alone, whatever
//! `WEIR_TEST_KUBECONFIG` names: no real one can be told to do this.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weir_kube::Options;
use weir_manifest::{Kind, Object, PolicyTarget};
use weir_tests_kube::{ApiServer, Forgotten, Ground, Heard, quick, things};

/// A server of our own, a namespace, and a source that has heard of the pods `a`, `b` and `c`.
struct Scene {
    ground: Ground,
    namespace: String,
    heard: Heard,
}

impl Scene {
    async fn new(options: Options) -> Result<Self> {
        let mut ground = Ground::own().await?;
        let namespace = ground.namespace().await?;
        for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
            things::pod(&ground.client, &namespace, name, address).await?;
        }
        let mut heard = Heard::start(ground.client.clone(), &namespace, options);
        heard.hears(&["set Pod a", "set Pod b", "synced"]).await?;
        // Heard by the watch, so that there is one.
        things::pod(&ground.client, &namespace, "c", "fd00::3").await?;
        heard.hears(&["set Pod c", "set Pod c"]).await?;
        Ok(Self { ground, namespace, heard })
    }

    fn server(&self) -> Result<&ApiServer> {
        self.ground.server.as_ref().context("it is ours")
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.ground.client.clone(), &self.namespace)
    }

    /// A change that is heard next, if nothing else is.
    async fn mark(&mut self, name: &str) -> Result<()> {
        things::pod(&self.ground.client, &self.namespace, name, "10.0.0.9").await?;
        let line = format!("set Pod {name}");
        self.heard.hears(&[&line, &line]).await
    }

    /// Deletes `a`, makes `b` anew, makes `d`, leaves `c`.
    async fn change(&self) -> Result<()> {
        things::delete(&self.pods(), "a").await?;
        things::delete(&self.pods(), "b").await?;
        things::pod(&self.ground.client, &self.namespace, "b", "10.0.0.22").await?;
        things::pod(&self.ground.client, &self.namespace, "d", "10.0.0.4").await.map(drop)
    }
}

/// What is heard of [`Scene::change`] after a new list: the differences, each once.
const DIFFERENCES: [&str; 4] = ["removed Pod b", "set Pod b", "set Pod d", "removed Pod a"];

/// A watch whose connection breaks is asked for again from where it was: nothing is lost, nothing comes twice.
#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was_on_our_own_server() -> Result<()> {
    let mut scene = Scene::new(quick(&[Kind::Pod])).await?;
    let lists = scene.server()?.lists();
    for name in ["d", "e", "f"] {
        scene.server()?.faults().drop_watches();
        scene.mark(name).await?;
    }
    scene.server()?.faults().silence_watches();
    things::delete(&scene.pods(), "a").await?;
    scene.server()?.faults().drop_watches();
    scene.heard.hears(&["set Pod a", "removed Pod a"]).await?;
    assert_eq!(scene.server()?.lists(), lists, "no list was needed");
    Ok(())
}

/// An event of which half a line came is told whole by the next watch.
#[tokio::test]
async fn an_event_cut_in_half_is_heard_whole_on_our_own_server() -> Result<()> {
    let mut scene = Scene::new(quick(&[Kind::Pod])).await?;
    scene.server()?.faults().tear_next_event();
    things::delete(&scene.pods(), "c").await?;
    scene.heard.hears(&["set Pod c", "removed Pod c"]).await?;
    scene.mark("d").await
}

/// A server that has compacted its history answers a watch with 410, by status or in the stream; a new list says what changed.
#[tokio::test]
async fn a_forgotten_version_is_made_good_by_a_new_list_on_our_own_server() -> Result<()> {
    for forgotten in [Forgotten::Status, Forgotten::Event] {
        let mut scene = Scene::new(quick(&[Kind::Pod])).await?;
        let server = scene.server()?;
        server.faults().forgotten_as(forgotten);
        server.faults().silence_watches();
        scene.change().await?;
        let server = scene.server()?;
        server.compact();
        server.faults().drop_watches();
        scene.heard.hears(&DIFFERENCES).await.with_context(|| format!("{forgotten:?}"))?;
        let Some(Object::Pod(pod)) = &scene.heard.last else { panic!("no pod") };
        assert_eq!(&*pod.name, "d");
        scene.mark("e").await?;
    }
    Ok(())
}

/// A server may end a watch that is under way with an ERROR event of 410.
#[tokio::test]
async fn a_watch_that_expires_is_made_good_by_a_new_list_on_our_own_server() -> Result<()> {
    let mut scene = Scene::new(quick(&[Kind::Pod])).await?;
    let lists = scene.server()?.lists();
    scene.server()?.faults().silence_watches();
    scene.change().await?;
    scene.server()?.faults().expire_watches();
    scene.heard.hears(&DIFFERENCES).await?;
    assert!(scene.server()?.lists() > lists);
    Ok(())
}

/// A bookmark says that nothing happened up to a version: a watch goes on from there though all before it is forgotten.
#[tokio::test]
async fn a_bookmark_spares_a_new_list_on_our_own_server() -> Result<()> {
    let mut scene = Scene::new(quick(&[Kind::Pod])).await?;
    // What happens to other kinds moves the version, and who watches pods hears nothing of it.
    things::slice(&scene.ground.client, &scene.namespace, "x", "10.0.0.1").await?;
    let (server, lists) = (scene.server()?, scene.server()?.lists());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.is_watched_from_now() {
        assert!(Instant::now() < deadline, "no watch goes on from a bookmark");
        server.faults().bookmark();
        sleep(Duration::from_millis(20)).await;
        server.faults().drop_watches();
        sleep(Duration::from_millis(20)).await;
    }
    server.compact();
    server.faults().drop_watches();
    scene.mark("d").await?;
    assert_eq!(scene.server()?.lists(), lists, "no list was needed");
    Ok(())
}

/// A server that is slow is waited for; one that is too slow is lost, said once, and back when it answers.
#[tokio::test]
async fn slow_answers_are_survived_on_our_own_server() -> Result<()> {
    let mut scene = Scene::new(Options { answer: Duration::from_secs(2), ..quick(&[Kind::Pod]) }).await?;
    scene.server()?.faults().delay(Duration::from_millis(100));
    scene.server()?.faults().drop_watches();
    scene.mark("d").await?;
    scene.server()?.faults().delay(Duration::from_secs(20));
    scene.server()?.faults().drop_watches();
    scene.heard.hears(&["lost Pod"]).await?;
    scene.server()?.faults().delay(Duration::ZERO);
    scene.heard.hears(&["back Pod"]).await?;
    scene.mark("e").await
}

/// A watch whose network has gone away without a word is taken for dead, and nothing that happened meanwhile is lost.
#[tokio::test]
async fn a_watch_that_has_fallen_silent_is_asked_for_again_on_our_own_server() -> Result<()> {
    let mut scene = Scene::new(Options { silence: Duration::from_millis(300), ..quick(&[Kind::Pod]) }).await?;
    scene.server()?.faults().silence_watches();
    things::delete(&scene.pods(), "b").await?;
    scene.heard.hears(&["set Pod b", "removed Pod b"]).await?;
    scene.mark("d").await
}

/// A server that is away for long is said to be lost once, and back once; what it knows then is what counts.
#[tokio::test]
async fn a_server_that_was_gone_for_long_is_followed_again_on_our_own_server() -> Result<()> {
    for history in ["kept", "forgotten"] {
        let mut scene = Scene::new(quick(&[Kind::Pod])).await?;
        scene.server()?.faults().silence_watches();
        scene.change().await?;
        scene.server()?.faults().go_down();
        scene.heard.hears(&["lost Pod"]).await?;
        if history == "forgotten" {
            scene.server()?.compact();
        }
        scene.server()?.faults().come_back();
        let lines = scene.heard.until("set Pod d").await?;
        match history {
            "kept" => assert_eq!(
                lines,
                ["back Pod", "set Pod a", "removed Pod a", "set Pod b", "removed Pod b", "set Pod b", "set Pod b"]
            ),
            // A watch from a forgotten version is an answer all the same: the server is back before the list.
            _ => assert_eq!(lines, ["back Pod", "removed Pod b", "set Pod b"]),
        }
        let rest = if history == "kept" { ["set Pod d"] } else { ["removed Pod a"] };
        scene.heard.hears(&rest).await?;
        scene.mark("e").await?;
    }
    Ok(())
}

/// A server that is not there at the start is waited for.
#[tokio::test]
async fn a_server_that_comes_later_is_followed_then_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let namespace = ground.namespace().await?;
    things::pod(&ground.client, &namespace, "a", "10.0.0.1").await?;
    let server = ground.server.as_ref().context("it is ours")?;
    server.faults().go_down();
    let mut heard = Heard::start(ground.client.clone(), &namespace, quick(&[Kind::Pod]));
    heard.hears(&["lost Pod"]).await?;
    server.faults().come_back();
    heard.hears(&["back Pod", "set Pod a", "synced"]).await
}

/// A server without a definition answers 404, which is no failure; one that comes later brings its objects, and takes them along.
#[tokio::test]
async fn a_kind_that_is_defined_later_is_followed_then_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let namespace = ground.namespace().await?;
    let kind = Kind::AuthorizationPolicy;
    let mut heard = Heard::start(ground.client.clone(), &namespace, quick(&Kind::ALL));
    assert_eq!(heard.until("synced").await?, [format!("set Namespace {namespace}")]);
    things::define(&ground.client, kind).await?;
    let policies = things::custom(&ground.client, kind, &namespace);
    let policy = |name: &str| {
        json!({"apiVersion": "security.istio.io/v1", "kind": kind.name(), "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": "a"}}}})
    };
    things::make(&policies, policy("p")).await?;
    heard.hears(&["set AuthorizationPolicy p"]).await?;
    let Some(Object::Policy(read)) = &heard.last else { panic!("no policy") };
    let PolicyTarget::Selector(labels) = &read.target else { panic!("{:?}", read.target) };
    assert_eq!(labels.get("app").map(|value| &**value), Some("a"));
    things::make(&policies, policy("q")).await?;
    heard.hears(&["set AuthorizationPolicy q"]).await?;
    things::undefine(&ground.client, kind).await?;
    let mut lines = [heard.next().await?, heard.next().await?];
    lines.sort();
    assert_eq!(lines, ["removed AuthorizationPolicy p", "removed AuthorizationPolicy q"]);
    things::define(&ground.client, kind).await?;
    things::make(&policies, policy("r")).await?;
    heard.hears(&["set AuthorizationPolicy r"]).await
}
