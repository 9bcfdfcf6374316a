//! Policies, as far as this version knows them: whom they cover.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{NameError, Namespace};

/// The longest name within a namespace: that of an object, 253, with its kind before it.
const MAX_NAME: usize = 320;

/// A policy of the mesh, written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// The namespace it was declared in.
    pub namespace: Namespace,
    /// Its name there: visible ASCII.
    name: Arc<str>,
}

impl PolicyName {
    /// The name of a policy.
    ///
    /// # Errors
    /// If `name` is empty, too long or not visible ASCII.
    pub fn new(namespace: Namespace, name: &str) -> Result<Self, NameError> {
        crate::name::visible("policy name", name, MAX_NAME)?;
        Ok(Self { namespace, name: name.into() })
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PolicyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| NameError::Form {
            what: "policy name",
            text: text.to_owned(),
            form: "namespace/name",
        })?;
        Self::new(namespace.parse()?, name)
    }
}

/// Which workloads a policy covers. Istio `security.Scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyScope {
    /// All of the mesh.
    Mesh,
    /// Those of its namespace.
    Namespace,
    /// Those that name it in [`Workload::policies`](crate::Workload::policies).
    Workloads,
}

/// A policy. This version enforces none: what it covers is not entered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// Whom it covers.
    pub scope: PolicyScope,
}
