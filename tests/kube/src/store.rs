//! What the server knows: objects, their history, and which kinds there are.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    apply::{self, Managers},
    reply::Refusal,
    request::{Resource, built_in},
    token::Tokens,
};

/// Resource, namespace, name: the order of lists.
pub(crate) type Key = (String, String, String);

/// An object, and who set which of its fields.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) object: Value,
    pub(crate) managers: Managers,
}

/// A change, for watches.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) version: u64,
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) kind: &'static str,
    pub(crate) object: Value,
}

/// Everything.
pub(crate) struct Store {
    pub(crate) resources: Vec<Resource>,
    pub(crate) objects: BTreeMap<Key, Stored>,
    history: Vec<Happened>,
    pub(crate) version: u64,
    /// Watches can go on from this version, and from later ones.
    pub(crate) oldest: u64,
    /// Lists under way: each goes on in the state it began with.
    pub(crate) snapshots: HashMap<u64, (u64, Vec<Value>)>,
    pub(crate) tokens: Tokens,
    pub(crate) changed: watch::Sender<u64>,
}

/// Text at a path of an object, empty when it is not there.
pub(crate) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Store {
    pub(crate) fn new() -> Self {
        let mut store = Self {
            resources: built_in(),
            objects: BTreeMap::new(),
            history: Vec::new(),
            version: 1000,
            oldest: 1000,
            snapshots: HashMap::new(),
            tokens: Tokens::default(),
            changed: watch::channel(1000).0,
        };
        let namespaces = store.resources[0].clone();
        for name in ["default", "kube-system"] {
            let object = json!({"metadata": {"name": name}, "status": {"phase": "Active"}});
            store.insert(&namespaces, object, Managers::default());
        }
        store
    }

    /// A copy to try a change on, of which nobody hears.
    pub(crate) fn trial(&self) -> Self {
        Self {
            resources: self.resources.clone(),
            objects: self.objects.clone(),
            history: Vec::new(),
            version: self.version,
            oldest: self.oldest,
            snapshots: HashMap::new(),
            tokens: Tokens::default(),
            changed: watch::channel(self.version).0,
        }
    }

    /// The resource of a path.
    pub(crate) fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Resource> {
        let same = |one: &&Resource| one.group == group && one.version == version && one.plural == plural;
        self.resources.iter().find(same).cloned()
    }

    pub(crate) fn key(resource: &Resource, namespace: Option<&str>, name: &str) -> Key {
        (resource.id(), namespace.unwrap_or_default().to_owned(), name.to_owned())
    }

    /// An object by its built-in resource's plural.
    pub(crate) fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        let key = (format!("{plural}."), namespace.to_owned(), name.to_owned());
        self.objects.get(&key).map(|stored| &stored.object)
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn happened(&mut self, key: &Key, kind: &'static str, object: Value) {
        let (version, resource, namespace) = (self.version, key.0.clone(), key.1.clone());
        self.history.push(Happened { version, resource, namespace, kind, object });
        self.changed.send_replace(version);
    }

    /// Puts a new object in. Its name is not taken.
    pub(crate) fn insert(&mut self, resource: &Resource, mut object: Value, managers: Managers) -> Value {
        let version = self.next_version();
        let uid = format!("{:08x}-0000-4000-8000-{:012x}", rand::random::<u32>(), version);
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind);
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        object["metadata"]["generation"] = json!(1);
        apply::note(&mut object, &managers);
        let namespace = text(&object, "/metadata/namespace").to_owned();
        let key = Self::key(resource, Some(&namespace), text(&object, "/metadata/name"));
        self.objects.insert(key.clone(), Stored { object: object.clone(), managers });
        self.happened(&key, "ADDED", object.clone());
        object
    }

    /// Puts another state of an object in. One that is no other changes nothing.
    pub(crate) fn update(&mut self, key: &Key, mut object: Value, managers: Managers) -> Result<Value, Refusal> {
        let Some(stored) = self.objects.get(key) else { return Err(Refusal::not_found(&key.0, &key.2)) };
        for field in ["uid", "creationTimestamp", "resourceVersion", "generation"] {
            object["metadata"][field] = stored.object["metadata"][field].clone();
        }
        apply::note(&mut object, &managers);
        if object == stored.object {
            return Ok(object);
        }
        if object.get("spec") != stored.object.get("spec") {
            object["metadata"]["generation"] = json!(stored.object["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
        }
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.objects.insert(key.clone(), Stored { object: object.clone(), managers });
        self.happened(key, "MODIFIED", object.clone());
        Ok(object)
    }

    /// Takes an object out.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?.object;
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.happened(key, "DELETED", object.clone());
        if key.0 == "namespaces." {
            let inside: Vec<Key> = self.objects.keys().filter(|other| other.1 == key.2).cloned().collect();
            for other in inside {
                self.remove(&other);
            }
        }
        if key.0.starts_with("customresourcedefinitions.") {
            let id = format!("{}.{}", text(&object, "/spec/names/plural"), text(&object, "/spec/group"));
            let all: Vec<Key> = self.objects.keys().filter(|other| other.0 == id).cloned().collect();
            for other in all {
                self.remove(&other);
            }
            self.resources.retain(|resource| resource.id() != id);
        }
        Some(object)
    }

    /// The objects of a resource, in one namespace or all.
    pub(crate) fn list(&self, resource: &Resource, namespace: Option<&str>) -> Vec<Value> {
        let id = resource.id();
        let mine = |key: &Key| key.0 == id && namespace.is_none_or(|namespace| key.1 == namespace);
        self.objects.iter().filter(|(key, _)| mine(key)).map(|(_, stored)| stored.object.clone()).collect()
    }

    /// What happened after a version; nothing when that is no longer known.
    pub(crate) fn since(&self, version: u64, resource: &str, namespace: Option<&str>) -> Option<Vec<Happened>> {
        if version < self.oldest {
            return None;
        }
        let mine = |one: &&Happened| {
            one.version > version
                && one.resource == resource
                && namespace.is_none_or(|namespace| one.namespace == namespace)
        };
        Some(self.history.iter().filter(mine).cloned().collect())
    }

    /// Forgets the history, and the lists under way.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.oldest = self.version;
        self.snapshots.clear();
    }
}
