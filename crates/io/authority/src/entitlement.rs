//! Who may have which identity.

use weir_model::{Namespace, NodeName, ServiceAccount, SpiffeId, TrustDomain};

use crate::Refusal;

/// Who asks, as its token proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requester<'a> {
    /// A workload that asks for itself: a waypoint, a gateway.
    Workload(&'a SpiffeId),
    /// A node's agent, which asks for the pods of its node. The node is that of the pod its token is bound to.
    NodeAgent {
        /// The agent.
        identity: &'a SpiffeId,
        /// Its node.
        node: &'a NodeName,
    },
}

/// A pod that was not deleted and did not end, as the cluster has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePod<'a> {
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// Its service account.
    pub service_account: &'a ServiceAccount,
    /// Its node.
    pub node: &'a NodeName,
}

/// Whether who asks may have the identity: a node's agent that of a live pod of its node, or its own; everybody else nothing but its own.
///
/// # Errors
/// With the reason, when it may not.
pub fn entitled<'a>(
    requester: Requester<'_>,
    asked: &SpiffeId,
    own: &TrustDomain,
    pods: impl IntoIterator<Item = LivePod<'a>>,
) -> Result<(), Refusal> {
    if asked.trust_domain() != own {
        return Err(Refusal::TrustDomain { asked: asked.clone(), own: own.clone() });
    }
    let (identity, node) = match requester {
        Requester::Workload(identity) => (identity, None),
        Requester::NodeAgent { identity, node } => (identity, Some(node)),
    };
    if identity == asked {
        return Ok(());
    }
    let Some(node) = node else {
        return Err(Refusal::NotItsOwn { requester: identity.clone(), asked: asked.clone() });
    };
    let runs = |pod: LivePod<'_>| {
        pod.node == node && pod.namespace == asked.namespace() && pod.service_account == asked.service_account()
    };
    if pods.into_iter().any(runs) {
        return Ok(());
    }
    Err(Refusal::NotOnNode { requester: identity.clone(), node: node.clone(), asked: asked.clone() })
}

#[cfg(test)]
mod tests;
