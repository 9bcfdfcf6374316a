//! Policies: how they are named in the mesh, and whom they cover.

use std::sync::Arc;

use weir_manifest::{Labels, PolicyObject, PolicySpec, PolicyTarget};
use weir_model::{NameError, Namespace, Policy, PolicyAction, PolicyKind, PolicyName, PolicyScope, PolicySource};

use crate::Settings;

/// Whom a policy covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Covering {
    /// The namespace it reaches, none for all of the mesh.
    pub(crate) over: Option<Namespace>,
    /// Absent for everything there. A selector that asks for nothing selects everything, as in Kubernetes.
    pub(crate) selector: Option<Labels>,
    kind: PolicyKind,
    own: Arc<str>,
    rejected: Option<Arc<str>>,
}

impl Covering {
    /// A policy of the root namespace reaches all others.
    pub(crate) fn new(settings: &Settings, object: PolicyObject) -> Self {
        Self {
            over: (object.namespace != settings.root_namespace).then_some(object.namespace),
            selector: match object.target {
                PolicyTarget::Selector(labels) => Some(labels).filter(|labels| !labels.is_empty()),
                PolicyTarget::All | PolicyTarget::Refs(_) | PolicyTarget::Unknown => None,
            },
            kind: object.kind,
            own: object.name,
            rejected: match object.spec {
                PolicySpec::Rejected(why) => Some(why),
                PolicySpec::Authorization(_)
                | PolicySpec::PeerAuthentication(_)
                | PolicySpec::RequestAuthentication => Some("this version does not enforce policies".into()),
            },
        }
    }

    pub(crate) fn policy(&self, name: &PolicyName) -> Policy {
        Policy {
            name: name.clone(),
            scope: self.scope(),
            action: PolicyAction::Deny,
            dry_run: false,
            rules: Vec::new(),
            rejected: self.rejected.clone(),
            source: PolicySource { kind: self.kind, name: self.own.clone(), file: None },
        }
    }

    pub(crate) fn scope(&self) -> PolicyScope {
        match (&self.selector, &self.over) {
            (Some(_), _) => PolicyScope::Workloads,
            (None, None) => PolicyScope::Mesh,
            (None, Some(_)) => PolicyScope::Namespace,
        }
    }
}

/// The name of a policy in the mesh. An AuthorizationPolicy bears its own, as on Istio's wire; the others have their
/// kind before it, `requestauthentication~jwt`: no object's name has a `~` (RFC 1123), so that none is taken for another.
pub(crate) fn name(kind: &str, namespace: &Namespace, name: &str) -> Result<PolicyName, NameError> {
    match kind {
        "AuthorizationPolicy" => PolicyName::new(namespace.clone(), name),
        other => PolicyName::new(namespace.clone(), &format!("{}~{name}", other.to_ascii_lowercase())),
    }
}
