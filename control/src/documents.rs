//! What waypoints are told: objects as their authors wrote them, each to those whose namespaces it concerns; and who is a waypoint.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::Notify;
use weir_compile::{concerns, is_of_waypoints};
use weir_manifest::{ConfigKind, ConfigObject, ConfigSpec, Object, ObjectKey};
use weir_model::{Namespace, ServiceAccount};
use weir_xds::Store;

/// A Gateway, by namespace and name.
pub(crate) type GatewayKey = (Namespace, Arc<str>);

/// The Gateways that are waypoints: a waypoint runs as a service account of its Gateway's name.
#[derive(Debug, Default)]
pub(crate) struct Waypoints {
    all: RwLock<BTreeMap<GatewayKey, Arc<ConfigObject>>>,
    changed: Notify,
}

impl Waypoints {
    /// Whether a service account is that of a waypoint.
    pub(crate) fn include(&self, namespace: &Namespace, account: &ServiceAccount) -> bool {
        let known = self.all.read().unwrap_or_else(PoisonError::into_inner);
        known.contains_key(&(namespace.clone(), account.as_str().into()))
    }

    /// All of them, as they are now.
    pub(crate) fn all(&self) -> BTreeMap<GatewayKey, Arc<ConfigObject>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the next change. For one who waits.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, key: &ObjectKey, gateway: Option<&ConfigObject>) {
        let Some(namespace) = &key.namespace else { return };
        let name = (namespace.clone(), key.name.clone());
        {
            let mut known = self.all.write().unwrap_or_else(PoisonError::into_inner);
            match gateway {
                Some(gateway) => known.insert(name, Arc::new(gateway.clone())),
                None => known.remove(&name),
            };
        }
        self.changed.notify_one();
    }
}

/// Changes of objects on their way to the store.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    waypoints: Arc<Waypoints>,
    changed: BTreeMap<String, Option<weir_xds::Object>>,
    /// Whether something changed that shapes requests, itself.
    shaped: bool,
}

impl Documents {
    /// No changes yet. Waypoints that come and go are noted there.
    pub(crate) fn new(waypoints: Arc<Waypoints>) -> Self {
        Self { waypoints, changed: BTreeMap::new(), shaped: false }
    }

    /// An object is there, or is so now.
    pub(crate) fn set(&mut self, object: &Object, document: Option<Arc<str>>) {
        let key = object.key();
        self.shaped |= matches!(object, Object::Config(_));
        if let Object::Config(config) = object
            && config.kind == ConfigKind::Gateway
        {
            let is_one = matches!(&config.spec, ConfigSpec::Gateway(spec) if is_of_waypoints(&spec.class));
            self.waypoints.set(&key, Some(config).filter(|_| is_one));
        }
        let concerns: Vec<Namespace> = concerns(object).into_iter().collect();
        let told = document.filter(|_| !concerns.is_empty()).map(|json| weir_xds::Object { json, concerns });
        self.changed.insert(key.to_string(), told);
    }

    /// An object is gone.
    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        self.shaped |= ConfigKind::ALL.into_iter().any(|kind| kind.name() == &*key.kind);
        if &*key.kind == ConfigKind::Gateway.name() {
            self.waypoints.set(key, None);
        }
        self.changed.insert(key.to_string(), None);
    }

    /// Hands over what changed since the last time, and says whether something did that shapes requests.
    pub(crate) fn flush(&mut self, store: &Store) -> bool {
        let changed: Vec<_> = mem::take(&mut self.changed).into_iter().collect();
        store.apply_objects(&changed);
        mem::take(&mut self.shaped)
    }
}

#[cfg(test)]
mod tests {
    use weir_manifest::{FileName, parse};

    use super::*;

    #[test]
    fn a_waypoint_is_who_runs_as_its_gateway_for_as_long_as_that_is_one() {
        let gateway = |class: &str| {
            let text = format!(
                "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: w, namespace: shop}}, spec: \
                 {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}}}"
            );
            let objects = parse(&[(FileName::new("g.yaml"), &text)]).unwrap();
            objects.into_objects().next().unwrap()
        };
        let waypoints = Arc::new(Waypoints::default());
        let mut documents = Documents::new(waypoints.clone());
        let is =
            |namespace: &str, account: &str| waypoints.include(&namespace.parse().unwrap(), &account.parse().unwrap());
        assert!(!is("shop", "w"));
        documents.set(&gateway("weir-waypoint"), None);
        assert!(is("shop", "w") && !is("other", "w") && !is("shop", "default"));
        documents.set(&gateway("ingress"), None);
        assert!(!is("shop", "w"));
        documents.set(&gateway("istio-waypoint"), None);
        documents.remove(&gateway("istio-waypoint").key());
        assert!(!is("shop", "w"));
    }
}
