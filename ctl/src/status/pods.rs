//! Which pods are in the mesh, and why others are not; which waypoints are ready. Of a cluster one page of pods is held at a time.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use anyhow::Result;
use serde_json::Value;
use weir_model::{hint, nearest};

use super::{Glance, Problem};
use crate::{
    cluster::Cluster,
    out::{at, list},
    place::Answered,
};

/// The label that asks for the mesh. Istio `istio.io/dataplane-mode`.
const MODE: &str = "istio.io/dataplane-mode";
/// What it says for that.
const AMBIENT: &str = "ambient";
/// The annotation of a pod that is caught. Istio `ambient.istio.io/redirection`.
const CAUGHT: &str = "/metadata/annotations/ambient.istio.io~1redirection";

/// How many pods are in the mesh, and why others are not.
#[derive(Debug, Default)]
pub(super) struct Pods {
    caught: usize,
    /// That should be, and are not yet, or cannot be.
    failing: usize,
    /// Why others are not.
    outside: BTreeMap<String, usize>,
}

impl fmt::Display for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the mesh", self.caught)?;
        if self.failing > 0 {
            write!(f, ", {} that should be and are not", self.failing)?;
        }
        self.outside.iter().try_for_each(|(why, count)| write!(f, ", {count} not ({why})"))
    }
}

impl Pods {
    /// Those an agent knows of its node.
    pub(super) fn of_agent(&mut self, agent: &Answered) {
        let Ok(summary) = &agent.summary else { return };
        for pod in list(summary, "/pods") {
            match at(pod, "/state") {
                "Enrolled" => self.caught += 1,
                "Failing" => self.failing += 1,
                "Leaving" => *self.outside.entry("leaving".to_owned()).or_default() += 1,
                _ => *self.outside.entry(at(pod, "/reason").to_owned()).or_default() += 1,
            }
        }
    }
}

/// Whether a pod is to be in the mesh, by its own labels and those of its namespace; and else why not.
///
/// # Errors
/// Why not, in a few words.
pub(crate) fn wanted(pod: &Value, namespace: Option<&str>) -> Result<(), String> {
    let own = at(pod, "/metadata/labels/istio.io~1dataplane-mode");
    if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        return Err("uses the node's network".to_owned());
    }
    match (own, namespace) {
        ("none", _) => Err(format!("its label {MODE}=none")),
        (AMBIENT, _) | ("-", Some(AMBIENT)) => {
            if pod.pointer("/metadata/annotations/sidecar.istio.io~1status").is_some() {
                return Err("has an Istio sidecar".to_owned());
            }
            Ok(())
        }
        ("-", _) => Err("not asked for by a label".to_owned()),
        (other, _) => Err(format!("its label {MODE}={other} is neither {AMBIENT} nor none")),
    }
}

/// Labels of objects that are almost those of the mesh.
pub(crate) fn misspelt(labels: &Value) -> Vec<String> {
    let known = [MODE, "istio.io/use-waypoint", "istio.io/use-waypoint-namespace", "istio.io/waypoint-for"];
    let mut found = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if key == MODE && value != AMBIENT && value != "none" {
            let meant = nearest(value, [AMBIENT, "none"].map(str::to_owned));
            found.push(format!(
                "the label {MODE}={value} means nothing, expected {AMBIENT} or none{}",
                hint(meant.as_deref())
            ));
        } else if !known.contains(&key.as_str()) {
            let near = known.into_iter().filter(|name| name.len().abs_diff(key.len()) <= 2).map(str::to_owned);
            // There are many labels; one that is a letter or two off is a slip.
            if let Some(meant) = nearest(key, near).filter(|meant| off_by(key, meant) <= 2) {
                found.push(format!("the label {key} means nothing{}", hint(Some(&meant))));
            }
        }
    }
    found
}

/// In how many places two texts of about one length differ, ends aligned: enough to tell a slip from another word.
fn off_by(one: &str, other: &str) -> usize {
    let same_before = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let same_behind = one.chars().rev().zip(other.chars().rev()).take_while(|(a, b)| a == b).count();
    one.chars().count().max(other.chars().count()).saturating_sub(same_before + same_behind)
}

/// Every pod of a cluster.
pub(super) async fn of_cluster(
    cluster: &Cluster,
    agents: &[&Answered],
    pods: &mut Pods,
    glance: &mut Glance,
) -> Result<()> {
    let mut modes: HashMap<String, String> = HashMap::new();
    cluster
        .each("/api/v1/namespaces", |namespace| {
            let name = at(namespace, "/metadata/name");
            let mode = at(namespace, "/metadata/labels/istio.io~1dataplane-mode");
            if mode != "-" {
                modes.insert(name.to_owned(), mode.to_owned());
            }
            for slip in misspelt(&namespace["metadata"]["labels"]) {
                let next = format!("kubectl label --overwrite namespace {name} {MODE}={AMBIENT}");
                glance.problem(Problem::new(format!("Namespace {name}"), slip, next));
            }
            Ok(())
        })
        .await?;
    let nodes: Vec<String> = agents.iter().map(|agent| agent.name()).collect();
    cluster
        .each("/api/v1/pods", |pod| {
            if matches!(at(pod, "/status/phase"), "Succeeded" | "Failed") {
                return Ok(());
            }
            let (namespace, name) = (at(pod, "/metadata/namespace"), at(pod, "/metadata/name"));
            match wanted(pod, modes.get(namespace).map(String::as_str)) {
                Err(why) => *pods.outside.entry(why).or_default() += 1,
                Ok(()) if at(pod, CAUGHT) == "enabled" => pods.caught += 1,
                Ok(()) => {
                    pods.failing += 1;
                    let node = at(pod, "/spec/nodeName");
                    let (what, next) = if node == "-" {
                        ("is not scheduled yet".to_owned(), format!("kubectl -n {namespace} describe pod {name}"))
                    } else if nodes.iter().any(|known| known == node) {
                        (
                            format!("is not caught by the agent of {node}"),
                            format!("weirctl describe pod {namespace}/{name}"),
                        )
                    } else {
                        (
                            format!("runs on {node}, which has no agent"),
                            "let the DaemonSet weir-agent run there: look at its tolerations".to_owned(),
                        )
                    };
                    glance.problem(Problem::new(format!("Pod {namespace}/{name}"), what, next));
                }
            }
            for slip in misspelt(&pod["metadata"]["labels"]) {
                glance.problem(Problem::new(
                    format!("Pod {namespace}/{name}"),
                    slip,
                    "correct it in what makes the pod",
                ));
            }
            Ok(())
        })
        .await
}

/// Every waypoint of a cluster.
pub(super) async fn waypoints(cluster: &Cluster, glance: &mut Glance) -> Result<()> {
    let (mut all, mut ready) = (0, 0);
    let known = cluster
        .each_known(crate::waypoints::GATEWAYS, |gateway| {
            if !crate::waypoints::is_waypoint(gateway) {
                return Ok(());
            }
            all += 1;
            match crate::waypoints::programmed(gateway) {
                Ok(()) => ready += 1,
                Err(why) => {
                    let name = format!("{}/{}", at(gateway, "/metadata/namespace"), at(gateway, "/metadata/name"));
                    glance.problem(Problem::new(
                        format!("waypoint {name}"),
                        why,
                        format!("weirctl waypoint status {name}"),
                    ));
                }
            }
            Ok(())
        })
        .await?;
    glance.count(
        "waypoints",
        match known {
            true => format!("{ready} of {all} ready"),
            false => "none: the cluster has no Gateway API".to_owned(),
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_wanted_by_its_own_label_before_that_of_its_namespace() {
        let pod =
            |labels: Value, host: bool| json!({ "metadata": { "labels": labels }, "spec": { "hostNetwork": host } });
        for (pod, namespace, want) in [
            (pod(json!({}), false), Some("ambient"), Ok(())),
            (pod(json!({}), false), None, Err("not asked for by a label")),
            (pod(json!({ MODE: "ambient" }), false), None, Ok(())),
            (pod(json!({ MODE: "none" }), false), Some("ambient"), Err("its label istio.io/dataplane-mode=none")),
            (pod(json!({}), true), Some("ambient"), Err("uses the node's network")),
            (
                pod(json!({ MODE: "Ambient" }), false),
                Some("ambient"),
                Err("its label istio.io/dataplane-mode=Ambient is neither ambient nor none"),
            ),
        ] {
            assert_eq!(wanted(&pod, namespace), want.map_err(str::to_owned), "{pod} {namespace:?}");
        }
    }

    #[test]
    fn a_label_that_is_almost_one_of_the_meshs_is_told() {
        for (labels, want) in [
            (json!({ "istio.io/dataplane-mode": "ambiant" }), Some("expected ambient or none; did you mean ambient?")),
            (json!({ "istio.io/dataplane-mode": "ambinet" }), Some("expected ambient or none; did you mean ambient?")),
            (json!({ "isto.io/dataplane-mode": "ambient" }), Some("did you mean istio.io/dataplane-mode?")),
            (json!({ "istio.io/dataplane_mode": "ambient" }), Some("did you mean istio.io/dataplane-mode?")),
            (json!({ "istio.io/dataplane-mod": "ambient" }), Some("did you mean istio.io/dataplane-mode?")),
            (json!({ "istio.io/use-waypiont": "w" }), Some("did you mean istio.io/use-waypoint?")),
            (json!({ "istio.io/dataplane-mode": "ambient", "istio.io/rev": "default", "app": "x" }), None),
        ] {
            let found = misspelt(&labels);
            assert_eq!(found.len(), usize::from(want.is_some()), "{labels}: {found:?}");
            assert!(want.is_none_or(|want| found.iter().any(|one| one.contains(want))), "{labels}: {found:?}");
        }
    }
}
