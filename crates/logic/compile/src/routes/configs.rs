//! Objects that shape requests, as they come and go.

use std::{collections::BTreeMap, sync::Arc};

use weir_manifest::{ConfigKind, ConfigObject, ConfigSpec, Object, ObjectKey};

use super::{Finding, FindingReason};

/// Objects that shape requests. One whose newest form is not legal stays in force as it last was legal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Configs {
    legal: BTreeMap<ObjectKey, Arc<ConfigObject>>,
    illegal: BTreeMap<ObjectKey, Arc<ConfigObject>>,
}

impl Configs {
    /// The object is there, or is so now.
    pub fn set(&mut self, object: ConfigObject) {
        let object = Arc::new(object);
        let key = Object::Config(ConfigObject::clone(&object)).key();
        match object.spec {
            ConfigSpec::Rejected(_) => drop(self.illegal.insert(key, object)),
            ConfigSpec::VirtualService(_)
            | ConfigSpec::DestinationRule(_)
            | ConfigSpec::ServiceEntry(_)
            | ConfigSpec::Telemetry(_)
            | ConfigSpec::Gateway(_)
            | ConfigSpec::Route(_)
            | ConfigSpec::ReferenceGrant(_) => {
                self.illegal.remove(&key);
                self.legal.insert(key, object);
            }
        }
    }

    /// The object is gone; whether it was there.
    pub fn remove(&mut self, object: &ObjectKey) -> bool {
        let illegal = self.illegal.remove(object).is_some();
        self.legal.remove(object).is_some() || illegal
    }

    /// The object as it is in force.
    pub(crate) fn legal(&self, object: &ObjectKey) -> Option<&Arc<ConfigObject>> {
        self.legal.get(object)
    }

    /// Those of a kind, by namespace and name.
    pub fn of(&self, kind: ConfigKind) -> impl Iterator<Item = &Arc<ConfigObject>> {
        self.legal.values().filter(move |object| object.kind == kind)
    }

    /// Whether there are none, legal or not.
    pub fn is_empty(&self) -> bool {
        self.legal.is_empty() && self.illegal.is_empty()
    }

    /// All that are in force.
    pub fn all(&self) -> impl Iterator<Item = (&ObjectKey, &ConfigObject)> {
        self.legal.iter().map(|(key, object)| (key, &**object))
    }

    /// What is to be told about those that are not legal.
    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        self.illegal.iter().map(|(key, object)| {
            let errors = match &object.spec {
                ConfigSpec::Rejected(errors) => &**errors,
                ConfigSpec::VirtualService(_)
                | ConfigSpec::DestinationRule(_)
                | ConfigSpec::ServiceEntry(_)
                | ConfigSpec::Telemetry(_)
                | ConfigSpec::Gateway(_)
                | ConfigSpec::Route(_)
                | ConfigSpec::ReferenceGrant(_) => "",
            };
            let then = match self.legal.contains_key(key) {
                true => "what it was before stays in force",
                false => "it has no effect",
            };
            Finding::new(object, "", FindingReason::Invalid, format!("{errors}; {then}"))
        })
    }
}
