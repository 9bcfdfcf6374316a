//! gateway.networking.k8s.io/v1beta1 ReferenceGrant, as its author wrote it.

use std::sync::Arc;

use weir_model::Namespace;

/// `spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGrantSpec {
    /// `from`: who may refer.
    pub from: Vec<GrantFrom>,
    /// `to`: to what, of the grant's own namespace.
    pub to: Vec<GrantTo>,
}

/// `ReferenceGrantFrom`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantFrom {
    /// `group`; empty for the core.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `namespace`.
    pub namespace: Namespace,
}

/// `ReferenceGrantTo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTo {
    /// `group`; empty for the core.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`; all of the kind when nothing is said.
    pub name: Option<Arc<str>>,
}
