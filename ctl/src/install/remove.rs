//! Takes everything away again, in the reverse order, what the agents left on their nodes included; and says what stays.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weir_kube::{
    AnyKind, AnyName, Applying, Client, Deleted, Others, Run, object_apply, object_delete, object_get, objects_list,
};

use super::{ADMISSION, MANAGER, NAMESPACE, Overlay, PART_OF, allowed, bundle::Bundle, is_others, say};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Most objects of a kind that are looked at.
const MANY: usize = 100_000;
/// Most nodes and objects that are named one by one.
const NAMED: usize = 10;
/// Pods that clean up nodes.
const CLEANING: &str = "app.kubernetes.io/name=weir-cleanup";
/// Waypoints, ours and Istio's. Istio `gateway.istio.io/managed`.
const WAYPOINTS: &str = "gateway.istio.io/managed=istio.io-mesh-controller";
/// Where roots are published, and by whom. Istio `istio-ca-root-cert`.
const ROOTS: &str = "istio-ca-root-cert";
const PUBLISHER: &str = "weir-control";

/// Takes the mesh off a cluster; answers with what stays.
///
/// # Errors
/// When the server refuses something. It may be called again then: it goes on where it ended.
pub(super) async fn all(client: &Client, purge: bool, within: Duration) -> Result<String> {
    let removing = Removing { client, deadline: Instant::now() + within };
    let mut objects = Bundle::of(Overlay::Ha, &[])?.objects()?;
    objects.reverse();
    let agent = objects.iter().find(|one| one["kind"] == "DaemonSet").context("the manifests have an agent")?.clone();
    // Before who answers: while nobody does, no object of the mesh's kinds can be changed, to clean up or otherwise.
    for object in objects.iter().filter(|object| object["kind"] == ADMISSION) {
        removing.delete(&AnyName::of(object).context("a manifest has a kind and a name")?).await?;
    }
    let control = AnyKind::new("apps/v1", "Deployment").named(Some(NAMESPACE), "weir-control");
    // Then who would make again what is taken away.
    removing.delete(&control).await?;
    removing.until_no_pods("app.kubernetes.io/name=weir-control").await?;
    removing.waypoints().await?;
    let mut stays = removing.nodes(&agent).await?;
    removing.roots().await?;
    for object in &objects {
        let name = AnyName::of(object).context("a manifest has a kind and a name")?;
        let Some(there) = removing.get(&name).await? else { continue };
        let is_definition = name.kind.kind == "CustomResourceDefinition";
        if is_others(&name, &there) {
            stays.push(format!("{name}: it is not Weir's"));
        } else if is_definition && !purge {
            stays.push(format!("{name}, with the objects of its kind: --purge takes them away"));
        } else {
            removing.delete(&name).await?;
        }
    }
    removing.until_gone(&AnyKind::new("v1", "Namespace").named(None, NAMESPACE)).await?;
    stays.push("what people wrote: Gateways, labels such as istio.io/dataplane-mode, statuses".to_owned());
    Ok(format!("the mesh is gone. What stays:\n{}", stays.iter().map(|line| format!("  {line}\n")).collect::<String>()))
}

struct Removing<'a> {
    client: &'a Client,
    deadline: Instant,
}

impl Removing<'_> {
    async fn get(&self, name: &AnyName) -> Result<Option<Value>> {
        object_get(self.client, name).await.map_err(|error| allowed(error, name, "get"))
    }

    async fn delete(&self, name: &AnyName) -> Result<()> {
        match object_delete(self.client, name, None).await.map_err(|error| allowed(error, name, "delete"))? {
            Deleted::Deleted => say(&format!("deleted    {name}")),
            Deleted::Absent => {}
        }
        Ok(())
    }

    async fn list(&self, kind: &AnyKind, namespace: Option<&str>, labels: &str) -> Result<Vec<Value>> {
        let listed = objects_list(self.client, kind, namespace, labels, MANY).await;
        listed.map_err(|error| allowed(error, &kind.clone().named(namespace, ""), "list"))
    }

    /// Waits a moment; whether there is time for it.
    async fn may_wait(&self) -> bool {
        if Instant::now() >= self.deadline {
            return false;
        }
        sleep(LOOK_AGAIN).await;
        true
    }

    async fn until_no_pods(&self, labels: &str) -> Result<()> {
        loop {
            let there = self.list(&AnyKind::new("v1", "Pod"), Some(NAMESPACE), labels).await?;
            if there.is_empty() {
                return Ok(());
            }
            if !self.may_wait().await {
                let (count, names) = (there.len(), named(&there));
                anyhow::bail!("{count} pods are still there: {names}\nweirctl uninstall goes on where this ended");
            }
        }
    }

    async fn until_gone(&self, name: &AnyName) -> Result<()> {
        while self.get(name).await?.is_some() {
            if !self.may_wait().await {
                anyhow::bail!(
                    "{name} is deleted and not gone yet: something in it holds it; `kubectl get namespace {} -o yaml` says what",
                    name.name
                );
            }
        }
        Ok(())
    }

    /// Waypoints that ours deployed, each with all that belongs to its Gateway.
    async fn waypoints(&self) -> Result<()> {
        let kinds = [
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("policy/v1", "PodDisruptionBudget"),
            ("v1", "Service"),
            ("v1", "ServiceAccount"),
        ];
        for deployment in self.list(&AnyKind::new("apps/v1", "Deployment"), None, WAYPOINTS).await? {
            if deployment["spec"]["template"]["metadata"]["labels"][PART_OF.0] != PART_OF.1 {
                continue;
            }
            let (owner, meta) = (owner(&deployment), &deployment["metadata"]);
            let (namespace, name) = (meta["namespace"].as_str(), meta["name"].as_str().unwrap_or_default());
            self.delete(&AnyKind::new("apps/v1", "Deployment").named(namespace, name)).await?;
            for (api_version, kind) in kinds {
                let name = AnyKind::new(api_version, kind).named(namespace, name);
                let there = self.get(&name).await?;
                if there.is_some_and(|there| owner.is_some() && self::owner(&there) == owner) {
                    self.delete(&name).await?;
                }
            }
        }
        Ok(())
    }

    /// Agents, and then what they put on their nodes. Answers with nodes that could not be cleaned up.
    async fn nodes(&self, agent: &Value) -> Result<Vec<String>> {
        let name = AnyName::of(agent).context("the agent has a name")?;
        let live = self.get(&name).await?;
        // The image is where this mesh came from.
        let template = live.as_ref().unwrap_or(agent)["spec"]["template"].clone();
        if live.is_none() && self.get(&AnyKind::new("v1", "Namespace").named(None, NAMESPACE)).await?.is_none() {
            return Ok(Vec::new());
        }
        self.delete(&name).await?;
        self.until_no_pods("app.kubernetes.io/name=weir-agent").await?;
        let nodes = self.list(&AnyKind::new("v1", "Node"), None, "kubernetes.io/os=linux").await?;
        let mut open = BTreeSet::new();
        for node in &nodes {
            let node = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let pod = cleaner(&template, &node);
            let how = Applying { manager: MANAGER, others: Others::Taken, run: Run::Real };
            let name = AnyName::of(&pod).context("a pod has a name")?;
            object_apply(self.client, &pod, how).await.map_err(|error| allowed(error, &name, "create and patch"))?;
            open.insert(node);
        }
        let mut last = Vec::new();
        while !open.is_empty() {
            last = self.list(&AnyKind::new("v1", "Pod"), Some(NAMESPACE), CLEANING).await?;
            for pod in last.iter().filter(|pod| pod["status"]["phase"] == "Succeeded") {
                if let Some(node) = pod["spec"]["nodeName"].as_str()
                    && open.remove(node)
                {
                    say(&format!("cleaned    Node {node}"));
                }
            }
            if !open.is_empty() && !self.may_wait().await {
                break;
            }
        }
        Ok(left(&open, &last))
    }

    /// The roots that our control plane published in every namespace.
    async fn roots(&self) -> Result<()> {
        for namespace in self.list(&AnyKind::new("v1", "Namespace"), None, "").await? {
            let name = AnyKind::new("v1", "ConfigMap").named(namespace["metadata"]["name"].as_str(), ROOTS);
            let there = self.get(&name).await?;
            if there.is_some_and(|there| managers(&there) == BTreeSet::from([PUBLISHER])) {
                self.delete(&name).await?;
            }
        }
        Ok(())
    }
}

/// The pod that cleans up a node: as the agent, with its folders and rights, and the tasks that take out what it put in.
fn cleaner(template: &Value, node: &str) -> Value {
    let agent = &template["spec"]["containers"][0];
    let volume_is_of_node = |volume: &&Value| !volume["hostPath"].is_null();
    let volumes: Vec<&Value> =
        template["spec"]["volumes"].as_array().into_iter().flatten().filter(volume_is_of_node).collect();
    let is_there = |mount: &&Value| volumes.iter().any(|volume| volume["name"] == mount["name"]);
    let mounts: Vec<&Value> = agent["volumeMounts"].as_array().into_iter().flatten().filter(is_there).collect();
    let container = |name: &str, args: &[&str]| json!({"name": name, "image": agent["image"], "args": args, "securityContext": agent["securityContext"], "volumeMounts": mounts});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("weir-cleanup-{node}"), "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": "weir-cleanup", PART_OF.0: PART_OF.1, "istio.io/dataplane-mode": "none"},
        },
        "spec": {
            "nodeName": node, "restartPolicy": "OnFailure", "hostNetwork": true, "automountServiceAccountToken": false,
            "serviceAccountName": template["spec"]["serviceAccountName"], "tolerations": template["spec"]["tolerations"],
            // One after the other: no pod is to ask for an agent that is not there.
            "initContainers": [container("cni", &["cni", "uninstall", "--conf-dir=/host/etc/cni/net.d", "--bin-dir=/host/opt/cni/bin"])],
            "containers": [container("kernel", &["cleanup", "--proc=/host/proc"])],
            "volumes": volumes,
        },
    })
}

/// The Gateway that an object is of, by its uid.
fn owner(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["kind"] == "Gateway")?["uid"].as_str()
}

/// Who applied fields of an object.
fn managers(object: &Value) -> BTreeSet<&str> {
    let fields = object["metadata"]["managedFields"].as_array();
    fields.into_iter().flatten().filter_map(|one| one["manager"].as_str()).collect()
}

/// A few names of these.
fn named(objects: &[Value]) -> String {
    let names: Vec<&str> = objects.iter().take(NAMED).filter_map(|one| one["metadata"]["name"].as_str()).collect();
    names.join(", ")
}

/// Nodes that were not cleaned up, and why, a line each.
fn left(nodes: &BTreeSet<String>, pods: &[Value]) -> Vec<String> {
    let why = |node: &str| {
        let pod = pods.iter().find(|pod| pod["spec"]["nodeName"] == node);
        pod.and_then(super::wait::why).unwrap_or_else(|| "its pod has not run".to_owned())
    };
    let mut lines: Vec<String> =
        nodes.iter().take(NAMED).map(|node| format!("Node {node} is not cleaned up: {}", why(node))).collect();
    if nodes.len() > NAMED {
        lines.push(format!("and {} more nodes", nodes.len() - NAMED));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Value {
        let objects = Bundle::of(Overlay::Minimal, &[]).unwrap().objects().unwrap();
        objects.into_iter().find(|one| one["kind"] == "DaemonSet").unwrap()
    }

    #[test]
    fn a_node_is_cleaned_up_with_the_rights_and_folders_of_its_agent_and_no_secret() {
        let pod = cleaner(&agent()["spec"]["template"], "n1");
        let (spec, agents) = (&pod["spec"], &agent()["spec"]["template"]["spec"]["containers"][0]);
        assert_eq!((&spec["nodeName"], &spec["hostNetwork"]), (&json!("n1"), &json!(true)));
        for container in [&spec["initContainers"][0], &spec["containers"][0]] {
            assert_eq!(
                (&container["image"], &container["securityContext"]),
                (&agents["image"], &agents["securityContext"])
            );
            let paths: BTreeSet<&str> = container["volumeMounts"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|one| one["mountPath"].as_str())
                .collect();
            assert!(
                ["/sys/fs/bpf", "/host/proc", "/host/etc/cni/net.d", "/host/opt/cni/bin"]
                    .iter()
                    .all(|one| paths.contains(one)),
                "{paths:?}"
            );
        }
        assert!(
            spec["volumes"]
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one["projected"].is_null() && one["configMap"].is_null())
        );
    }

    #[test]
    fn nodes_that_stay_as_they_are_are_named_with_the_reason_and_not_without_end() {
        let pods = [json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n00"}, "status":
            {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}})];
        let nodes: BTreeSet<String> = (0..12).map(|n| format!("n{n:02}")).collect();
        let lines = left(&nodes, &pods);
        assert_eq!(lines[0], "Node n00 is not cleaned up: Pod p on n00: ErrImagePull");
        assert_eq!(lines[1], "Node n01 is not cleaned up: its pod has not run");
        assert_eq!((lines.len(), lines[10].as_str()), (11, "and 2 more nodes"));
    }

    #[test]
    fn roots_that_others_publish_too_are_not_ours_to_take() {
        let map = |names: &[&str]| json!({"metadata": {"managedFields": names.iter().map(|name| json!({"manager": name})).collect::<Vec<_>>()}});
        assert_eq!(managers(&map(&["weir-control", "weir-control"])), BTreeSet::from([PUBLISHER]));
        assert_ne!(managers(&map(&["weir-control", "pilot-discovery"])), BTreeSet::from([PUBLISHER]));
        assert_ne!(managers(&map(&[])), BTreeSet::from([PUBLISHER]));
    }
}
