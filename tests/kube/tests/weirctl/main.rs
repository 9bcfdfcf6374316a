//! `weirctl` against a cluster: the program itself, our own API server, and admin servers behind its port-forward.

mod many;

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, Node, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use weir_manifest::{ConfigKind, Kind};
use weir_tests_kube::{ApiServer, things};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const MESH: &str = "weir-system";

/// What `weirctl` prints, what it complains of, and what it ends with.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// It ended so, and said all of these.
    fn has(&self, code: i32, words: &[&str]) -> Result<()> {
        let text = format!("{}{}", self.out, self.err);
        let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
        ensure!(self.code == Some(code) && missing.is_empty(), "wanted {code} and {missing:?}: {self:#?}");
        Ok(())
    }
}

async fn weirctl(kubeconfig: &Path, words: &str) -> Result<Said> {
    let mut command = Command::new(weir_testbed::binary("weirctl")?);
    command.args(words.split(' ')).env("KUBECONFIG", kubeconfig).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    Ok(Said { code: output.status.code(), out, err })
}

/// A program's admin server, which answers by path.
fn admin(pages: Vec<(&'static str, Value)>) -> Result<SocketAddr> {
    admin_by(move |target| {
        let path = target.split('?').next().unwrap_or_default();
        pages.iter().find(|(at, _)| *at == path).map(|(_, page)| page.to_string())
    })
}

/// One that answers by a request's target.
fn admin_by(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> Result<SocketAddr> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    thread::spawn(move || {
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            let head: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let target = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
            let (status, body) = answer(target).map_or((404, "none".to_owned()), |page| (200, page));
            let length = body.len();
            // One that has gone is none of our business.
            drop(write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"));
        }
    });
    Ok(address)
}

async fn namespace(client: &Client, name: &str, labels: Value) -> Result<()> {
    things::make(&Api::<Namespace>::all(client.clone()), json!({"metadata": {"name": name, "labels": labels}})).await?;
    Ok(())
}

/// A pod that runs, with these labels and annotations, whose only container is called so.
async fn pod(
    client: &Client,
    (namespace, name): (&str, &str),
    node: &str,
    container: &str,
    metadata: Value,
) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let mut metadata = metadata;
    metadata["name"] = json!(name);
    let spec = json!({"nodeName": node, "containers": [{"name": container, "image": "none"}]});
    things::make(&pods, json!({"metadata": metadata, "spec": spec})).await?;
    things::runs(client, namespace, name, "10.1.2.3").await.map(drop)
}

fn summary(component: &str, name: &str, more: Value) -> Value {
    let mut summary = json!({
        "component": component, "version": VERSION, "name": name,
        "config": { "generation": 1, "rejectedAt": null, "errors": [] }, "certificates": [], "pods": [],
    });
    if let (Some(fields), Value::Object(more)) = (summary.as_object_mut(), more) {
        fields.extend(more);
    }
    summary
}

/// A cluster with a mesh: a control plane, the agent of `n1`, and a waypoint.
async fn mesh() -> Result<(ApiServer, Client)> {
    let server = ApiServer::start().await?;
    let client = server.client().await?;
    things::define(&client, Kind::Config(ConfigKind::Gateway)).await?;
    namespace(&client, MESH, json!({})).await?;
    namespace(&client, "shop", json!({"istio.io/dataplane-mode": "ambient"})).await?;
    let uid = "Kubernetes//v1/Pod/shop/cart";
    let caught = json!([{ "uid": uid, "state": "Enrolled", "reason": null, "policies": [] }]);
    let refusal = json!({
        "at": "2026-01-01T00:00:01Z", "direction": "inbound", "flag": "UAEX", "reason": "no rule matches", "service": null,
        "source": { "address": "10.0.0.9:1", "namespace": "front", "workload": "web", "identity": "spiffe://cluster.local/ns/front/sa/web" },
        "destination": { "address": "10.1.2.3:80", "namespace": "shop", "workload": "cart", "identity": null },
        "policy": { "kind": "AuthorizationPolicy", "namespace": "shop", "name": "p" }, "remedy": "add a rule",
    });
    let workload = json!({
        "uid": uid, "name": "cart", "namespace": "shop", "workloadIps": ["10.1.2.3"], "protocol": "HBONE", "node": "n1",
        "trustDomain": "cluster.local", "serviceAccount": "default", "status": "Healthy",
    });
    let service = json!({
        "name": "cart", "namespace": "shop", "hostname": "cart.shop.svc.cluster.local", "vips": ["/10.96.0.1"], "ports": { "80": 8080 },
        "endpoints": { "uid": { "workloadUid": uid } },
        "waypoint": { "destination": { "namespace": "shop", "hostname": "gate.shop.svc.cluster.local" } },
    });
    let route = json!({ "kind": "HTTPRoute", "namespace": "shop", "name": "split", "rules": 2 });
    let host = json!({ "service": "shop/cart.shop.svc.cluster.local", "routes": [route], "subsets": [] });
    let nothing = json!({ "refusals": [], "cursor": "1.0", "forgotten": 0, "leftOut": 0 });
    let programs = [
        (
            "weir-control",
            MESH,
            "n1",
            vec![
                ("/debug/summary", summary("weir-control", "weir-control-0", json!({}))),
                ("/debug/syncz", json!([{ "proxy": "n1", "types": { "x": { "inSync": true, "refused": null } } }])),
            ],
        ),
        (
            "weir-agent",
            MESH,
            "n1",
            vec![
                ("/debug/summary", summary("weir-agent", "n1", json!({ "pods": caught }))),
                ("/debug/workloads", json!({ "items": [workload], "next": null })),
                ("/debug/services", json!({ "items": [service], "next": null })),
                ("/debug/refusals", json!({ "refusals": [refusal], "cursor": "1.1", "forgotten": 0, "leftOut": 0 })),
            ],
        ),
        (
            "weir-waypoint",
            "shop",
            "n1",
            vec![
                ("/debug/summary", summary("weir-waypoint", "shop/gate", json!({}))),
                ("/debug/refusals", nothing),
                (
                    "/config_dump",
                    json!({ "version": VERSION, "gateway": "shop/gate", "config": { "generation": 1 }, "hosts": [host] }),
                ),
            ],
        ),
    ];
    for (program, space, node, pages) in programs {
        let labels = json!({
            "app.kubernetes.io/name": program, "gateway.networking.k8s.io/gateway-name": "gate", "istio.io/dataplane-mode": "none",
        });
        pod(&client, (space, program), node, program, json!({"labels": labels})).await?;
        server.forward(space, program, admin(pages)?);
    }
    let enabled = json!({"annotations": {"ambient.istio.io/redirection": "enabled"}});
    pod(&client, ("shop", "cart"), "n1", "app", enabled).await?;
    Ok((server, client))
}

#[tokio::test]
async fn a_mesh_is_looked_at_through_the_api_server_on_our_own_server() -> Result<()> {
    let (server, client) = mesh().await?;
    let at = server.kubeconfig();
    weirctl(&at, "status")
        .await?
        .has(0, &["no problems", "pods      1 in the mesh", "1 subscriber of weir-control-0"])?;
    weirctl(&at, "version")
        .await?
        .has(0, &["weir-control   weir-control-0", "weir-agent     n1", "weir-waypoint  shop/gate"])?;
    weirctl(&at, "why shop/cart")
        .await?
        .has(0, &["front/web", "shop/cart", "AuthorizationPolicy shop/p", "add a rule"])?;
    weirctl(&at, "agent workloads").await?.has(0, &["shop       cart"])?;
    weirctl(&at, "agent workloads --node n7").await?.has(2, &["no agent of node n7"])?;
    weirctl(&at, "describe pod shop/cart").await?.has(
        0,
        &[
            "by the agent of n1",
            "the label istio.io/dataplane-mode=ambient of Namespace shop",
            "spiffe://cluster.local/ns/shop/sa/default",
        ],
    )?;

    weirctl(&at, "describe service shop/cart").await?.has(0, &["shop/gate", "HTTPRoute shop/split (2 rules)"])?;

    // What is wrong is said first, each with what to do.
    namespace(&client, "front", json!({"istio.io/dataplane-mode": "ambiant"})).await?;
    pod(&client, ("shop", "stock"), "n1", "app", json!({})).await?;
    pod(&client, ("shop", "far"), "n9", "app", json!({})).await?;
    weirctl(&at, "status").await?.has(
        1,
        &[
            "3 problems\n",
            "Namespace front: the label istio.io/dataplane-mode=ambiant means nothing, expected ambient or none; did you mean ambient?",
            "Pod shop/stock: is not caught by the agent of n1",
            "Pod shop/far: runs on n9, which has no agent",
            "pods      1 in the mesh, 2 that should be and are not",
        ],
    )?;

    // A program that cannot be reached is a problem, not the end.
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    server.forward(MESH, "weir-agent", nobody);
    weirctl(&at, "status").await?.has(1, &["weir-agent n1: cannot ask pod weir-system/weir-agent", "no answer"])?;
    Ok(())
}

#[tokio::test]
async fn a_label_that_is_misspelt_is_told_with_the_one_that_is_meant_on_our_own_server() -> Result<()> {
    let (server, client) = mesh().await?;
    let at = server.kubeconfig();
    let namespaces = Api::<Namespace>::all(client.clone());
    let pods = Api::<Pod>::namespaced(client.clone(), "shop");
    let label = |key: &str, value: Value| Patch::Merge(json!({"metadata": {"labels": { key: value }}}));
    let merge = PatchParams::default();
    for (key, value, told) in [
        (
            "istio.io/dataplane-mod",
            "ambient",
            "the label istio.io/dataplane-mod means nothing; did you mean istio.io/dataplane-mode?",
        ),
        ("istio.io/dataplane-mode", "ambinet", "expected ambient or none; did you mean ambient?"),
        ("istio.io/use-waypiont", "gate", "did you mean istio.io/use-waypoint?"),
    ] {
        // Of the pod, then of its namespace.
        let was = pods.get("cart").await?.metadata.labels.unwrap_or_default().get(key).cloned();
        pods.patch("cart", &merge, &label(key, json!(value))).await?;
        weirctl(&at, "status").await?.has(1, &["1 problem\n", "Pod shop/cart: ", told])?;
        weirctl(&at, "describe pod shop/cart").await?.has(0, &["of its pod: ", told])?;
        pods.patch("cart", &merge, &label(key, json!(was))).await?;
        let was = namespaces.get("shop").await?.metadata.labels.unwrap_or_default().get(key).cloned();
        namespaces.patch("shop", &merge, &label(key, json!(value))).await?;
        weirctl(&at, "status").await?.has(1, &["1 problem\n", "Namespace shop: ", told])?;
        weirctl(&at, "describe pod shop/cart").await?.has(0, &["of its namespace: ", told])?;
        namespaces.patch("shop", &merge, &label(key, json!(was))).await?;
    }
    weirctl(&at, "status").await?.has(0, &["no problems"])
}

#[tokio::test]
async fn what_a_cluster_has_against_it_is_said_with_what_to_do_on_our_own_server() -> Result<()> {
    let (server, client) = mesh().await?;
    weirctl(&server.kubeconfig(), "status --mesh-namespace weir")
        .await?
        .has(2, &["no program of Weir runs in namespace weir", "--mesh-namespace"])?;
    // Somebody who may do nothing.
    things::account(&client, "shop", "nobody").await?;
    let token = things::token(&client, "shop", "nobody", "", None).await?;
    let mut config: Value = serde_json::from_slice(&std::fs::read(server.kubeconfig())?)?;
    config["users"][0]["user"]["token"] = json!(token);
    let folder = tempfile::tempdir()?;
    let poor = folder.path().join("kubeconfig");
    std::fs::write(&poor, config.to_string())?;
    weirctl(&poor, "status").await?.has(2, &["forbids it", "cannot list resource \"pods\"", "\"weir-system\""])?;
    weirctl(&poor, "check").await?.has(2, &["cannot list resource \"nodes\""])?;
    weirctl(&poor, "waypoint list").await?.has(2, &["cannot list resource \"gateways\""])?;
    server.expire_token(&token);
    weirctl(&poor, "status").await?.has(2, &["does not know who asks", "401"])?;
    config["users"][0]["user"]["token"] = json!("nonsense");
    config["current-context"] = json!("nowhere");
    std::fs::write(&poor, config.to_string())?;
    weirctl(&poor, "status").await?.has(2, &["no cluster is named", "nowhere"])?;
    // A server that is not there.
    let kubeconfig = std::fs::read(server.kubeconfig())?;
    let url = server.url();
    std::fs::write(&poor, kubeconfig)?;
    drop(server);
    let said = weirctl(&poor, "status").await?;
    ensure!(said.code == Some(2), "{said:?}");
    ensure!(said.err.contains(&url) || said.err.contains("kubeconfig"), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_waypoint_is_made_looked_at_and_taken_away_on_our_own_server() -> Result<()> {
    let (server, client) = mesh().await?;
    let at = server.kubeconfig();
    weirctl(&at, "waypoint list").await?.has(0, &["no waypoint: weirctl waypoint apply makes one"])?;
    weirctl(&at, "waypoint apply -n shopp").await?.has(2, &["there is no namespace shopp; did you mean shop?"])?;
    weirctl(&at, "waypoint apply -n shop --name gate --for all")
        .await?
        .has(0, &["waypoint shop/gate applied", "kubectl label namespace shop istio.io/use-waypoint=gate"])?;
    let gateways = things::custom(&client, Kind::Config(ConfigKind::Gateway), "shop");
    let made = gateways.get("gate").await?;
    ensure!(made.data["spec"]["gatewayClassName"] == "weir-waypoint", "{made:?}");
    ensure!(made.metadata.labels.context("no labels")?["istio.io/waypoint-for"] == "all");
    weirctl(&at, "waypoint list")
        .await?
        .has(0, &["shop       gate  weir-waypoint  all  no", "does weir-control run?"])?;
    weirctl(&at, "waypoint status shop/gate").await?.has(1, &["is not ready: nobody says whether it is Accepted"])?;
    weirctl(&at, "waypoint status shop/gaet")
        .await?
        .has(2, &["there is no Gateway shop/gaet; did you mean shop/gate?"])?;
    let yes = |kind: &str| json!({"type": kind, "status": "True", "reason": "X", "message": "so it is", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {"conditions": [yes("Accepted"), yes("Programmed")]}});
    gateways.patch_status("gate", &PatchParams::default(), &Patch::Merge(&status)).await?;
    weirctl(&at, "waypoint status shop/gate")
        .await?
        .has(0, &["waypoint shop/gate is ready", "weir-waypoint  n1", "ready"])?;
    weirctl(&at, "waypoint config shop/gate")
        .await?
        .has(0, &["waypoint shop/gate, version", "HTTPRoute shop/split (2 rules)"])?;
    // Somebody else has said what it is for.
    let other = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "gate", "labels": {"istio.io/waypoint-for": "service"}}});
    gateways.patch("gate", &PatchParams::apply("other").force(), &Patch::Apply(&other)).await?;
    let again = "waypoint apply -n shop --name gate --for all --enroll-namespace";
    weirctl(&at, again).await?.has(2, &["give --overwrite to take them", "istio.io/waypoint-for"])?;
    weirctl(&at, &format!("{again} --overwrite"))
        .await?
        .has(0, &["namespace shop labelled istio.io/use-waypoint=gate"])?;
    let shop = Api::<Namespace>::all(client.clone()).get("shop").await?;
    ensure!(shop.metadata.labels.context("no labels")?["istio.io/use-waypoint"] == "gate");
    weirctl(&at, "waypoint delete shop/gate")
        .await?
        .has(0, &["deleted", "kubectl label namespace shop istio.io/use-waypoint-"])?;
    ensure!(gateways.get_opt("gate").await?.is_none());
    weirctl(&at, "waypoint delete shop/gate").await?.has(2, &["there is no Gateway shop/gate"])?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_is_checked_before_and_after_an_install_on_our_own_server() -> Result<()> {
    let server = ApiServer::start().await?;
    let client = server.client().await?;
    let at = server.kubeconfig();
    let node = |kernel: &str| json!({"status": {"nodeInfo": {"kernelVersion": kernel, "operatingSystem": "linux"}}});
    let nodes = Api::<Node>::all(client.clone());
    for (name, kernel) in [("new", "6.1.0-amd64"), ("old", "5.4.0")] {
        things::make(&nodes, json!({"metadata": {"name": name}})).await?;
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&node(kernel))).await?;
    }
    let sets = Api::<DaemonSet>::namespaced(client.clone(), "kube-system");
    let labels = json!({"app": "x"});
    let spec = json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": []}}});
    for name in ["ztunnel", "cilium"] {
        things::make(&sets, json!({"metadata": {"name": name}, "spec": spec})).await?;
    }
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), "default");
    things::make(
        &policies,
        json!({"metadata": {"name": "closed"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
    )
    .await?;
    weirctl(&at, "check").await?.has(
        1,
        &[
            "BAD   nodes",
            "too old a kernel: old (5.4.0)",
            "Istio's ztunnel runs in namespace kube-system",
            "set cni.exclusive=false",
            "default/closed may block port 15008",
            "no gateways, httproutes, grpcroutes",
            "not installed",
            "3 things are in the way",
        ],
    )?;
    weirctl(&at, "check -o json").await?.has(1, &["\"state\": \"bad\""])?;
    for name in ["ztunnel", "cilium"] {
        things::delete(&sets, name).await?;
    }
    things::delete(&nodes, "old").await?;
    things::delete(&policies, "closed").await?;
    weirctl(&at, "check").await?.has(0, &["nothing is in the way", "you may install", "none blocks port 15008"])?;
    // A namespace and an agent, but no control plane.
    namespace(&client, MESH, json!({})).await?;
    weirctl(&at, "check").await?.has(1, &["half installed"])?;
    let labels = json!({"labels": {"app.kubernetes.io/name": "weir-agent"}});
    pod(&client, (MESH, "weir-agent-1"), "new", "weir-agent", labels).await?;
    weirctl(&at, "check").await?.has(1, &["half installed: no weir-control in weir-system"])?;
    Ok(())
}
