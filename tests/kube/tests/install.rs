//! `weirctl install` and `uninstall` against our own API server: what is made, said, waited for, and taken away.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use weir_tests_kube::{Ground, eventually, things};

const HOME: &str = "weir-system";

fn kind(client: &Client, api_version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Api::all_with(client.clone(), &ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
}

fn at_home(client: &Client, api_version: &str, kind: &str) -> Api<DynamicObject> {
    inside(client, HOME, api_version, kind)
}

fn inside(client: &Client, namespace: &str, api_version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn weirctl(kubeconfig: &Path, words: &[&str]) -> Result<Child> {
    let mut command = Command::new(weir_testbed::binary("weirctl")?);
    command.args(words).arg("--kubeconfig").arg(kubeconfig).env_remove("KUBECONFIG");
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

/// What it says, and whether it ends well: it has a deadline of its own.
async fn ends(child: Child) -> Result<(bool, String)> {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.success(), said))
}

async fn run(kubeconfig: &Path, words: &[&str]) -> Result<(bool, String)> {
    ends(weirctl(kubeconfig, words)?).await
}

async fn gateway_api(client: &Client) -> Result<()> {
    for (plural, name, scope) in [
        ("gatewayclasses", "GatewayClass", "Cluster"),
        ("gateways", "Gateway", "Namespaced"),
        ("httproutes", "HTTPRoute", "Namespaced"),
    ] {
        let group = "gateway.networking.k8s.io";
        let version = json!({"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
        let definition = json!({"metadata": {"name": format!("{plural}.{group}")}, "spec": {"group": group, "scope": scope,
            "names": {"plural": plural, "kind": name, "singular": name.to_lowercase(), "listKind": format!("{name}List")}, "versions": [version]}});
        things::make(&kind(client, "apiextensions.k8s.io/v1", "CustomResourceDefinition"), definition).await?;
    }
    Ok(())
}

/// Objects of these kinds, wherever they are.
async fn count(client: &Client, kinds: &[(&str, &str)]) -> Result<usize> {
    let mut sum = 0;
    for (api_version, name) in kinds {
        sum += kind(client, api_version, name).list(&ListParams::default()).await?.items.len();
    }
    Ok(sum)
}

const MADE: [(&str, &str); 10] = [
    ("v1", "ServiceAccount"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("gateway.networking.k8s.io/v1", "GatewayClass"),
    ADMISSION,
];
/// By which API servers ask, and its name.
const ADMISSION: (&str, &str) = ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration");
const VALIDATOR: &str = "weir-validator";

/// Says of a Deployment or DaemonSet what its controller would, once its pods run.
async fn is_ready(client: &Client, kind: &str, name: &str, pods: u64) -> Result<()> {
    let api = at_home(client, "apps/v1", kind);
    eventually(&format!("{kind} {name}"), || async { api.get_opt(name).await.map_err(Into::into) }).await?;
    let status = json!({"observedGeneration": 1_000, "availableReplicas": pods, "updatedReplicas": pods,
        "desiredNumberScheduled": pods, "numberReady": pods, "updatedNumberScheduled": pods});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await?;
    Ok(())
}

/// Writes roots into the webhooks, as the control plane that leads would.
async fn trusts(client: &Client) -> Result<()> {
    let all = kind(client, ADMISSION.0, ADMISSION.1);
    let mut there = eventually("a webhook", || async { all.get_opt(VALIDATOR).await.map_err(Into::into) }).await?;
    for webhook in there.data["webhooks"].as_array_mut().context("webhooks")? {
        webhook["clientConfig"]["caBundle"] = json!("cm9vdHM=");
    }
    let params = PostParams { field_manager: Some("weir-control".to_owned()), ..PostParams::default() };
    all.replace(VALIDATOR, &params, &there).await?;
    Ok(())
}

/// Asks for what cannot be done whole, and then for what would be done; answers with how many objects there are all the same.
async fn refused_and_tried(client: &Client, kubeconfig: &Path) -> Result<usize> {
    let (well, said) = run(kubeconfig, &["install"]).await?;
    ensure!(
        !well && said.contains("gateways.gateway.networking.k8s.io") && said.contains("kubectl apply -f https://"),
        "{said}"
    );
    gateway_api(client).await?;
    let before = count(client, &MADE).await?;
    let (well, said) = run(kubeconfig, &["install", "--dry-run"]).await?;
    ensure!(
        well && said.contains("would make Deployment weir-system/weir-control") && said.contains("nothing was done"),
        "{said}"
    );
    assert_eq!(count(client, &MADE).await?, before, "a dry run made something");
    Ok(before)
}

#[tokio::test]
async fn a_mesh_is_installed_waited_for_and_taken_away_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let space = ground.namespace().await?;
    let client = ground.client.clone();
    let kubeconfig = ground.server.as_ref().context("it is ours")?.kubeconfig();

    let before = refused_and_tried(&client, &kubeconfig).await?;
    let installing = weirctl(&kubeconfig, &["install", "--set", "image.tag=other"])?;
    let agents = at_home(&client, "apps/v1", "DaemonSet");
    eventually("the agents", || async { agents.get_opt("weir-agent").await.map_err(Into::into) }).await?;
    let asking = kind(&client, ADMISSION.0, ADMISSION.1);
    assert!(asking.get_opt(VALIDATOR).await?.is_none(), "nobody answers yet");
    is_ready(&client, "Deployment", "weir-control", 2).await?;
    trusts(&client).await?;
    is_ready(&client, "DaemonSet", "weir-agent", 3).await?;
    let (well, said) = ends(installing).await?;
    ensure!(said.contains("trusted    ValidatingWebhookConfiguration weir-validator"), "{said}");
    ensure!(well && said.contains("made       DaemonSet weir-system/weir-agent"), "{said}");
    ensure!(said.contains("ready      DaemonSet weir-system/weir-agent: 3 of 3"), "{said}");
    let agent = agents.get("weir-agent").await?;
    assert_eq!(agent.data["spec"]["template"]["spec"]["containers"][0]["image"], "ghcr.io/weir-mesh/weir-agent:other");

    // The same again changes nothing; another version only what differs.
    let (well, said) = run(&kubeconfig, &["install", "--set=image.tag=other", "--timeout=0s"]).await?;
    ensure!(well && !said.contains("made ") && !said.contains("changed    "), "{said}");
    let (well, said) = run(&kubeconfig, &["install", "--timeout=0s"]).await?;
    ensure!(
        well && said.contains("changed    DaemonSet weir-system/weir-agent")
            && said.contains("unchanged  ClusterRole weir-control"),
        "{said}"
    );
    let roots = asking.get(VALIDATOR).await?.data["webhooks"][0]["clientConfig"]["caBundle"].clone();
    assert_eq!(roots, "cm9vdHM=", "they are the control plane's");

    // What others have made stays theirs; what the mesh put elsewhere goes.
    let class = kind(&client, "gateway.networking.k8s.io/v1", "GatewayClass");
    let theirs = json!({"metadata": {"labels": {"app.kubernetes.io/part-of": null}}});
    class.patch("istio-waypoint", &PatchParams::default(), &Patch::Merge(theirs)).await?;
    let roots = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert"}, "data": {"root-cert.pem": "x"}});
    let maps = inside(&client, &space, "v1", "ConfigMap");
    maps.patch("istio-ca-root-cert", &PatchParams::apply("weir-control"), &Patch::Apply(&roots)).await?;
    let theirs = inside(&client, "default", "v1", "ConfigMap");
    theirs.patch("istio-ca-root-cert", &PatchParams::apply("pilot-discovery"), &Patch::Apply(&roots)).await?;
    waypoint(&client, &space, "ours", "weir").await?;
    waypoint(&client, &space, "theirs", "istio").await?;
    let nodes = kind(&client, "v1", "Node");
    for name in ["n1", "n2"] {
        things::make(&nodes, json!({"metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}})).await?;
    }

    let removing = weirctl(&kubeconfig, &["uninstall", "--timeout=4s"])?;
    let pods = at_home(&client, "v1", "Pod");
    eventually("a pod on each node", || async {
        let there = pods.get_opt("weir-cleanup-n2").await?;
        Ok(there.filter(|pod| pod.data["spec"]["nodeName"] == "n2"))
    })
    .await?;
    assert!(at_home(&client, "apps/v1", "DaemonSet").get_opt("weir-agent").await?.is_none(), "agents go first");
    let done = json!({"status": {"phase": "Succeeded"}});
    pods.patch_status("weir-cleanup-n1", &PatchParams::default(), &Patch::Merge(done)).await?;
    let (well, said) = ends(removing).await?;
    ensure!(well && said.contains("cleaned    Node n1"), "{said}");
    ensure!(said.contains("Node n2 is not cleaned up: Pod weir-cleanup-n2 on n2"), "{said}");
    ensure!(said.contains("GatewayClass istio-waypoint: it is not Weir's") && said.contains("--purge"), "{said}");
    let gone = |what: &str| said.find(&format!("deleted    {what}")).with_context(|| format!("{what}: {said}"));
    ensure!(gone("ValidatingWebhookConfiguration weir-validator")? < gone("Deployment weir-system/weir-control")?);
    assert_eq!(count(&client, &MADE).await?, before + 1 + 3, "one class and one waypoint are others'");
    assert!(inside(&client, &space, "apps/v1", "Deployment").get_opt("theirs").await?.is_some());
    assert!(
        maps.get_opt("istio-ca-root-cert").await?.is_none() && theirs.get_opt("istio-ca-root-cert").await?.is_some()
    );
    let definitions = kind(&client, "apiextensions.k8s.io/v1", "CustomResourceDefinition");
    assert!(definitions.get_opt("peerauthentications.security.istio.io").await?.is_some());
    let (well, said) = run(&kubeconfig, &["uninstall", "--purge"]).await?;
    ensure!(
        well && said.contains("deleted    CustomResourceDefinition peerauthentications.security.istio.io"),
        "{said}"
    );
    ground.clean().await
}

#[tokio::test]
async fn nobody_is_asked_while_nobody_answers_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    ground.namespace().await?;
    let kubeconfig = ground.server.as_ref().context("it is ours")?.kubeconfig();
    let asking = kind(&ground.client, ADMISSION.0, ADMISSION.1);
    let words = ["install", "--overlay=minimal", "--timeout=0s"];
    let (well, said) = run(&kubeconfig, &words).await?;
    let later =
        "later      ValidatingWebhookConfiguration weir-validator: Deployment weir-system/weir-control is not ready";
    ensure!(well && said.contains(later), "{said}");
    assert!(asking.get_opt(VALIDATOR).await?.is_none());
    is_ready(&ground.client, "Deployment", "weir-control", 1).await?;
    let (well, said) = run(&kubeconfig, &words).await?;
    ensure!(well && said.contains("made       ValidatingWebhookConfiguration weir-validator"), "{said}");
    // Without roots everything it asks about is refused, and who installs is told.
    is_ready(&ground.client, "DaemonSet", "weir-agent", 1).await?;
    let (well, said) = run(&kubeconfig, &["install", "--overlay=minimal", "--timeout=1s"]).await?;
    ensure!(!well && said.contains("has no roots after 1 s") && said.contains("kubectl delete"), "{said}");
    ground.clean().await
}

/// What belongs to a waypoint's Gateway, made by us or by others.
async fn waypoint(client: &Client, namespace: &str, name: &str, part_of: &str) -> Result<()> {
    let meta = json!({"name": name, "labels": {"gateway.istio.io/managed": "istio.io-mesh-controller"}, "ownerReferences":
        [{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": name, "uid": format!("uid-of-{name}")}]});
    let labels = json!({"app.kubernetes.io/part-of": part_of});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": labels}}});
    things::make(&inside(client, namespace, "v1", "ServiceAccount"), json!({"metadata": meta})).await?;
    let service = json!({"metadata": meta, "spec": {"ports": [{"port": 15008}]}});
    things::make(&inside(client, namespace, "v1", "Service"), service).await?;
    things::make(&inside(client, namespace, "apps/v1", "Deployment"), json!({"metadata": meta, "spec": spec})).await?;
    Ok(())
}

#[tokio::test]
async fn who_may_not_install_is_told_which_verb_on_what_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let space = ground.namespace().await?;
    things::account(&ground.client, &space, "nobody").await?;
    let token = things::token(&ground.client, &space, "nobody", "", None).await?;
    let kubeconfig = ground.server.as_ref().context("it is ours")?.kubeconfig();
    let mut file: Value = serde_json::from_slice(&std::fs::read(&kubeconfig)?)?;
    file["users"][0]["user"]["token"] = json!(token);
    let own = kubeconfig.with_file_name("kubeconfig-nobody");
    std::fs::write(&own, file.to_string())?;
    for words in [["install", "--overlay=minimal"], ["install", "--dry-run"], ["uninstall", "--purge"]] {
        let (well, said) = run(&own, &words).await?;
        ensure!(!well && said.contains("not allowed: ") && said.contains(" of "), "{words:?}: {said}");
    }
    let (well, said) = run(Path::new("/nowhere"), &["install", "--overlay=minimal"]).await?;
    ensure!(!well && said.contains("/nowhere") && said.contains("--kubeconfig"), "{said}");
    ground.clean().await
}

#[tokio::test]
async fn what_is_printed_is_what_is_rendered_and_nobody_is_asked() -> Result<()> {
    for overlay in ["minimal", "default", "ha"] {
        let (well, said) = run(Path::new("/nowhere"), &["install", "-o=yaml", "--overlay", overlay]).await?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rendered");
        let rendered = std::fs::read_to_string(folder.join(format!("{overlay}.yaml")))?;
        ensure!(well && said.ends_with(&rendered), "{overlay}: {}", said.len());
    }
    Ok(())
}
