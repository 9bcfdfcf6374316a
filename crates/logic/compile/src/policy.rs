//! Policies, as far as this version knows them: whom they cover.

use weir_manifest::{PodObject, PolicyObject};
use weir_model::{Policy, PolicyName, PolicyScope, Workload};

use crate::{Settings, workload};

/// An AuthorizationPolicy goes by its own name; another kind by `<kind>~<name>`, which no name of Kubernetes can be.
fn name(policy: &PolicyObject) -> PolicyName {
    let name = match &*policy.kind {
        "AuthorizationPolicy" => policy.name.to_string(),
        kind => format!("{}~{}", kind.to_ascii_lowercase(), policy.name),
    };
    // A kind and a name make at most 253 + 30 characters, and only the longest names are shortened.
    let name: String = name.chars().take(253).collect();
    PolicyName::new(policy.namespace.clone(), &name).expect("kind and name are visible ASCII and short")
}

/// The policy as the mesh knows it.
pub(crate) fn policy(settings: &Settings, policy: &PolicyObject) -> Policy {
    let scope = match policy.selector {
        Some(_) => PolicyScope::Workloads,
        None if policy.namespace == settings.root_namespace => PolicyScope::Mesh,
        None => PolicyScope::Namespace,
    };
    Policy { name: name(policy), scope }
}

/// Tells workloads which policies select them.
pub(crate) fn cover(settings: &Settings, policies: &[&PolicyObject], pods: &[PodObject], workloads: &mut [Workload]) {
    for policy in policies {
        let Some(selector) = &policy.selector else { continue };
        // A selector in the root namespace selects in all of them.
        let everywhere = policy.namespace == settings.root_namespace;
        let selected = |pod: &&PodObject| {
            (everywhere || pod.namespace == policy.namespace)
                && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
        };
        for pod in pods.iter().filter(selected) {
            let uid = workload::uid(settings, &pod.namespace, &pod.name);
            if let Some(one) = workloads.iter_mut().find(|one| one.uid == uid) {
                one.policies.push(name(policy));
                one.policies.sort();
            }
        }
    }
}
