//! Pods that are caught are annotated so, as Istio's tools expect it: `ambient.istio.io/redirection: enabled`.
//!
//! Agents say what they caught; each of them is believed for the pods of its own node alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use weir_issuance::NodeAgents;
use weir_kube::Client;
use weir_model::{ClusterId, NodeName, WorkloadUid};
use weir_report::{Caught, Sink};
use weir_rpc::Caller;

use crate::pods::NodePods;

const ANNOTATION: &str = "ambient.istio.io/redirection";
const ENABLED: &str = "enabled";
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// What agents said.
pub(crate) struct Reported {
    agents: NodeAgents,
    cluster: ClusterId,
    pods: Arc<NodePods>,
    nodes: Mutex<HashMap<NodeName, BTreeSet<Caught>>>,
    changed: Notify,
}

impl Reported {
    pub(crate) fn new(agents: NodeAgents, cluster: ClusterId, pods: Arc<NodePods>) -> Self {
        Self { agents, cluster, pods, nodes: Mutex::default(), changed: Notify::new() }
    }

    fn caught(&self) -> BTreeSet<Caught> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.values().flatten().cloned().collect()
    }

    /// Whether the pod is one of the node.
    fn is_on(&self, node: &NodeName, pod: &Caught) -> bool {
        let uid = pod.namespace.parse().and_then(|namespace| WorkloadUid::of_pod(&self.cluster, &namespace, &pod.name));
        uid.is_ok_and(|uid| self.pods.node_of(&uid).as_ref() == Some(node))
    }
}

impl Sink for Reported {
    fn admits(&self, caller: &Caller) -> bool {
        self.agents.include(caller.namespace(), caller.service_account())
    }

    fn heard(&self, node: &NodeName, pods: Vec<Caught>) {
        let (own, others): (BTreeSet<Caught>, BTreeSet<Caught>) =
            pods.into_iter().partition(|pod| self.is_on(node, pod));
        if let Some(other) = others.first() {
            let (namespace, name) = (&other.namespace, &other.name);
            tracing::warn!(%node, namespace, name, "its agent reports a pod that is not on the node");
        }
        let before = {
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.insert(node.clone(), own.clone())
        };
        if before.as_ref() != Some(&own) {
            self.changed.notify_one();
        }
    }
}

/// Annotates what was reported until `ended`. Any replica may: each hears of the nodes it serves, and writes the same.
pub(crate) async fn annotate(client: Client, reported: Arc<Reported>, ended: impl Future<Output = ()>) {
    let mut ended = std::pin::pin!(ended);
    let mut done: BTreeSet<Caught> = BTreeSet::new();
    let mut again: Option<Instant> = None;
    loop {
        let retry = again.unwrap_or_else(Instant::now);
        tokio::select! {
            () = &mut ended => return,
            () = reported.changed.notified() => {}
            () = sleep_until(retry), if again.is_some() => {}
        }
        let wanted = reported.caught();
        let mut changes: BTreeMap<Caught, bool> = wanted.difference(&done).map(|pod| (pod.clone(), true)).collect();
        changes.extend(done.difference(&wanted).map(|pod| (pod.clone(), false)));
        again = None;
        for (pod, caught) in changes {
            match write(&client, &pod, caught).await {
                Ok(()) if caught => drop(done.insert(pod)),
                Ok(()) => drop(done.remove(&pod)),
                Err(error) => {
                    let (namespace, name) = (&pod.namespace, &pod.name);
                    tracing::warn!(namespace, name, %error, "cannot be annotated; trying again");
                    again = Some(Instant::now() + RETRY);
                }
            }
        }
    }
}

async fn write(client: &Client, pod: &Caught, caught: bool) -> Result<(), weir_kube::Error> {
    // What is no legal name was never reported for a pod that is known.
    let Ok(namespace) = pod.namespace.parse() else { return Ok(()) };
    let value = caught.then_some(ENABLED);
    match weir_kube::pod_annotate(client, &namespace, &pod.name, &pod.uid, (ANNOTATION, value)).await {
        // It is gone, or another has its name: there is nothing to annotate.
        Err(error) if matches!(error.status(), Some(404 | 409 | 422)) => Ok(()),
        result => result,
    }
}
