//! Which pods run on which node: for the CA, which gives a node's agent nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::{PoisonError, RwLock},
};

use weir_authority::LivePod;
use weir_issuance::Pods;
use weir_model::{Namespace, NodeName, ServiceAccount, Workload, WorkloadUid};
use weir_world::Delta;

type Account = (Namespace, ServiceAccount);

/// Pods by node.
#[derive(Debug, Default)]
pub(crate) struct NodePods(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    pods: HashMap<WorkloadUid, (NodeName, Account)>,
    /// How many pods of a node run as whom.
    nodes: HashMap<NodeName, BTreeMap<Account, usize>>,
}

impl NodePods {
    /// The node a pod is on.
    pub(crate) fn node_of(&self, uid: &WorkloadUid) -> Option<NodeName> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.pods.get(uid).map(|(node, _)| node.clone())
    }

    /// Follows a change of the mesh.
    pub(crate) fn apply(&self, delta: &Delta) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (uid, workload) in &delta.workloads {
            known.set(uid, workload.as_ref());
        }
    }
}

impl Known {
    fn set(&mut self, uid: &WorkloadUid, workload: Option<&Workload>) {
        let now =
            workload.and_then(|one| Some((one.node.clone()?, (one.namespace.clone(), one.service_account.clone()))));
        let before = match &now {
            Some(now) => self.pods.insert(uid.clone(), now.clone()),
            None => self.pods.remove(uid),
        };
        if before == now {
            return;
        }
        if let Some((node, account)) = before
            && let Some(accounts) = self.nodes.get_mut(&node)
        {
            if let Some(count) = accounts.get_mut(&account) {
                *count -= 1;
                if *count == 0 {
                    accounts.remove(&account);
                }
            }
            if accounts.is_empty() {
                self.nodes.remove(&node);
            }
        }
        if let Some((node, account)) = now {
            *self.nodes.entry(node).or_default().entry(account).or_default() += 1;
        }
    }
}

impl Pods for NodePods {
    fn on_node(&self, node: &NodeName, visit: &mut dyn FnMut(LivePod<'_>) -> ControlFlow<()>) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for (namespace, service_account) in known.nodes.get(node).into_iter().flat_map(BTreeMap::keys) {
            if visit(LivePod { namespace, service_account, node }).is_break() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(pods: &NodePods, node: &str) -> Vec<String> {
        let mut found = Vec::new();
        pods.on_node(&node.parse().unwrap(), &mut |pod| {
            found.push(format!("{}/{}", pod.namespace, pod.service_account));
            ControlFlow::Continue(())
        });
        found
    }

    #[test]
    fn an_account_is_on_a_node_as_long_as_one_of_its_pods_is() {
        let yaml = |node: &str| {
            ["p1", "p2"].map(|name| {
                format!(
                    "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: a}}\n\
                     spec: {{nodeName: {node}, serviceAccountName: sa, containers: [{{name: c}}]}}\n\
                     status: {{podIPs: [{{ip: 10.0.0.{}}}]}}\n",
                    &name[1..]
                )
            })
        };
        let workloads = |node: &str| {
            let text = yaml(node).join("---\n");
            let objects = weir_manifest::parse(&[(weir_manifest::FileName::new("f"), &text)]).unwrap();
            let settings = weir_compile::Settings {
                trust_domain: Default::default(),
                cluster: "c".parse().unwrap(),
                network: Default::default(),
                node: None,
                cluster_domain: Default::default(),
                root_namespace: "istio-system".parse().unwrap(),
            };
            weir_compile::compile(objects, &settings).workloads
        };
        let pods = NodePods::default();
        let set = |one: &Workload, now: Option<Workload>| {
            pods.apply(&Delta { workloads: vec![(one.uid.clone(), now)], ..Delta::default() });
        };
        let (n1, n2) = (workloads("n1"), workloads("n2"));
        for one in &n1 {
            set(one, Some(one.clone()));
        }
        assert_eq!(on(&pods, "n1"), ["a/sa"]);
        set(&n2[0], Some(n2[0].clone()));
        assert_eq!((on(&pods, "n1"), on(&pods, "n2")), (vec!["a/sa".to_owned()], vec!["a/sa".to_owned()]));
        set(&n1[1], None);
        assert!(on(&pods, "n1").is_empty());
        set(&n2[0], None);
        set(&n2[0], None);
        assert!(on(&pods, "n2").is_empty());
    }
}
