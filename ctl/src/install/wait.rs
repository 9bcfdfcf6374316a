//! Waits until what was applied runs, and says what is not.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use weir_kube::{AnyKind, AnyName, Client, object_get, objects_list};

use super::{NAMESPACE, allowed, say};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Most pods that are looked at, and most that are named.
const MANY: usize = 20_000;
const NAMED: usize = 10;
/// What to do when it took too long.
const AGAIN: &str = "weirctl install goes on where this ended";

/// Waits, for all there is to wait for together not longer than it may.
pub(super) struct Waiting<'a> {
    client: &'a Client,
    within: Duration,
    deadline: Instant,
}

impl<'a> Waiting<'a> {
    /// From now on.
    pub(super) fn new(client: &'a Client, within: Duration) -> Self {
        Self { client, within, deadline: Instant::now() + within }
    }

    /// Waits until every object of a kind, Deployments or DaemonSets, is ready.
    pub(super) async fn until_ready(&self, kind: &str, objects: &[Value]) -> Result<()> {
        for name in objects.iter().filter_map(AnyName::of).filter(|name| name.kind.kind == kind) {
            let mut said = String::new();
            loop {
                let (ready, wanted) = progress(&self.get(&name).await?);
                let line =
                    format!("ready      {name}: {ready} of {}", wanted.map_or("?".to_owned(), |n| n.to_string()));
                if line != said {
                    say(&line);
                    said = line;
                }
                if wanted.is_some_and(|wanted| ready >= wanted) {
                    break;
                }
                if self.is_over().await {
                    let why = unready(self.client, &name).await.unwrap_or_default();
                    bail!("{name} is not ready after {} s{why}\n{AGAIN}", self.within.as_secs());
                }
            }
        }
        Ok(())
    }

    /// Waits until API servers know whom they ask: before that they refuse what they would ask about.
    pub(super) async fn until_trusted(&self, objects: &[Value]) -> Result<()> {
        for name in objects.iter().filter_map(AnyName::of) {
            while !is_trusted(&self.get(&name).await?) {
                if self.is_over().await {
                    bail!(
                        "{name} has no roots after {} s, so that policies and routes are refused: the log of the weir-control that leads says why it does not write \
                         them\n{AGAIN}; `kubectl delete {} {}` does without",
                        self.within.as_secs(),
                        name.kind.resource_name(),
                        name.name
                    );
                }
            }
            say(&format!("trusted    {name}"));
        }
        Ok(())
    }

    async fn get(&self, name: &AnyName) -> Result<Value> {
        let there = object_get(self.client, name).await.map_err(|error| allowed(error, name, "get"))?;
        Ok(there.unwrap_or_default())
    }

    /// Whether there is no time left; waits a moment if there is.
    async fn is_over(&self) -> bool {
        let is_over = Instant::now() >= self.deadline;
        if !is_over {
            sleep(LOOK_AGAIN).await;
        }
        is_over
    }
}

/// Whether who is asked by every webhook is known by roots.
fn is_trusted(object: &Value) -> bool {
    let webhooks = object["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let roots = |webhook: &Value| webhook["clientConfig"]["caBundle"].as_str().is_some_and(|roots| !roots.is_empty());
    !webhooks.is_empty() && webhooks.iter().all(roots)
}

/// Whether a Deployment or DaemonSet is ready.
pub(super) fn is_ready(object: &Value) -> bool {
    let (ready, wanted) = progress(object);
    wanted.is_some_and(|wanted| ready >= wanted)
}

/// How many pods of a Deployment or DaemonSet are ready, and how many there should be, once its controller has seen it as it is.
fn progress(object: &Value) -> (u64, Option<u64>) {
    let status = &object["status"];
    let count = |field: &str| status[field].as_u64();
    let seen = status["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64();
    let (ready, wanted) = match object["kind"].as_str() {
        Some("DaemonSet") => {
            let ready = count("numberReady").unwrap_or(0).min(count("updatedNumberScheduled").unwrap_or(0));
            (ready, count("desiredNumberScheduled"))
        }
        Some(_) | None => {
            let ready = count("availableReplicas").unwrap_or(0).min(count("updatedReplicas").unwrap_or(0));
            (ready, object["spec"]["replicas"].as_u64().or(Some(1)))
        }
    };
    (ready, wanted.filter(|_| seen && !object.is_null()))
}

/// Its pods that are not ready, and why, a line each.
async fn unready(client: &Client, name: &AnyName) -> Result<String> {
    let labels = format!("app.kubernetes.io/name={}", name.name);
    let pods = objects_list(client, &AnyKind::new("v1", "Pod"), Some(NAMESPACE), &labels, MANY).await?;
    let waiting: Vec<String> = pods.iter().filter_map(why).collect();
    let mut text: String = waiting.iter().take(NAMED).map(|line| format!("\n  {line}")).collect();
    if waiting.len() > NAMED {
        text.push_str(&format!("\n  and {} more", waiting.len() - NAMED));
    }
    if pods.is_empty() {
        text = "\n  it has no pods: see `kubectl describe` for why none are made".to_owned();
    }
    Ok(text)
}

/// Why a pod is not ready; nothing if it is.
pub(super) fn why(pod: &Value) -> Option<String> {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |kind: &str, status: &str| conditions.iter().find(|one| one["type"] == kind && one["status"] == status);
    if is("Ready", "True").is_some() {
        return None;
    }
    let states = pod["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let waiting = states.iter().map(|one| &one["state"]["waiting"]).find(|waiting| !waiting.is_null());
    let reason = match (waiting, is("PodScheduled", "False")) {
        (Some(waiting), _) => format!("{}: {}", text(waiting, "reason"), text(waiting, "message")),
        (None, Some(unscheduled)) => format!("{}: {}", text(unscheduled, "reason"), text(unscheduled, "message")),
        (None, None) => "it runs and is not ready: see its log".to_owned(),
    };
    let node = pod["spec"]["nodeName"].as_str().map(|node| format!(" on {node}")).unwrap_or_default();
    Some(format!("Pod {}{node}: {}", text(&pod["metadata"], "name"), reason.trim_end_matches(": ")))
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_ready_is_what_its_controller_says_of_this_generation() {
        for (object, want) in [
            (json!(null), (0, None)),
            (
                json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2},
                "status": {"observedGeneration": 1, "availableReplicas": 2, "updatedReplicas": 2}}),
                (2, None),
            ),
            (
                json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2},
                "status": {"observedGeneration": 2, "availableReplicas": 2, "updatedReplicas": 1}}),
                (1, Some(2)),
            ),
            (
                json!({"kind": "DaemonSet", "metadata": {"generation": 1},
                "status": {"observedGeneration": 1, "desiredNumberScheduled": 3, "numberReady": 3, "updatedNumberScheduled": 3}}),
                (3, Some(3)),
            ),
        ] {
            assert_eq!(progress(&object), want, "{object}");
        }
    }

    #[test]
    fn who_is_asked_is_trusted_once_every_webhook_has_roots() {
        let webhooks = |bundles: &[Option<&str>]| json!({"webhooks": bundles.iter().map(|roots| json!({"clientConfig": {"caBundle": roots}})).collect::<Vec<_>>()});
        for (object, want) in [
            (json!(null), false),
            (webhooks(&[]), false),
            (webhooks(&[None]), false),
            (webhooks(&[Some("")]), false),
            (webhooks(&[Some("roots"), None]), false),
            (webhooks(&[Some("roots"), Some("roots")]), true),
        ] {
            assert_eq!(is_trusted(&object), want, "{object}");
        }
    }

    #[test]
    fn a_pod_that_is_not_ready_says_why() {
        let pod = |status: Value| json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": status});
        for (status, want) in [
            (json!({"conditions": [{"type": "Ready", "status": "True"}]}), None),
            (
                json!({"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]}),
                Some("Pod p on n: ErrImagePull: no such image"),
            ),
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0 of 1 nodes"}]}),
                Some("Pod p on n: Unschedulable: 0 of 1 nodes"),
            ),
            (json!({}), Some("Pod p on n: it runs and is not ready: see its log")),
        ] {
            assert_eq!(why(&pod(status.clone())).as_deref(), want, "{status}");
        }
    }
}
