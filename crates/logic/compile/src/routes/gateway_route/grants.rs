//! Who may refer to what in another namespace. Gateway API `ReferenceGrant`.

use std::{collections::BTreeMap, sync::Arc};

use weir_manifest::{ConfigKind, ConfigObject, ConfigSpec, ReferenceGrantSpec};
use weir_model::Namespace;

use crate::routes::Configs;

/// The grants of each namespace.
#[derive(Debug, Default)]
pub(super) struct Grants<'c>(BTreeMap<&'c Namespace, Vec<&'c ReferenceGrantSpec>>);

/// What is referred to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Referent<'r> {
    pub(super) group: &'r str,
    pub(super) kind: &'r str,
    pub(super) namespace: &'r Namespace,
    pub(super) name: &'r str,
}

impl<'c> Grants<'c> {
    pub(super) fn new(configs: &'c Configs) -> Self {
        let mut grants = Self::default();
        for object in configs.of(ConfigKind::ReferenceGrant) {
            let object: &'c Arc<ConfigObject> = object;
            if let ConfigSpec::ReferenceGrant(spec) = &object.spec {
                grants.0.entry(&object.namespace).or_default().push(spec);
            }
        }
        grants
    }

    /// Whether a route may refer to that. In its own namespace it always may.
    pub(super) fn permit(&self, route: &ConfigObject, to: Referent<'_>) -> bool {
        if route.namespace == *to.namespace {
            return true;
        }
        let from = |spec: &ReferenceGrantSpec| {
            spec.from.iter().any(|from| {
                *from.group == *route.kind.group()
                    && *from.kind == *route.kind.name()
                    && from.namespace == route.namespace
            })
        };
        let into = |spec: &ReferenceGrantSpec| {
            spec.to.iter().any(|one| {
                *one.group == *to.group
                    && *one.kind == *to.kind
                    && one.name.as_ref().is_none_or(|name| **name == *to.name)
            })
        };
        self.0.get(to.namespace).into_iter().flatten().any(|spec| from(spec) && into(spec))
    }
}
