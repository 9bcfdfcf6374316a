//! The verbs: what each does to the store, and what it answers.

use http::Method;
use serde_json::{Value, json};

use crate::{
    apply::{self, Managers},
    reply::Refusal,
    request::{Path, Query, Resource},
    rules,
    store::{Key, Store, text},
};

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Merge,
    Apply,
}

/// A request to change something, authenticated and allowed.
pub(crate) struct Change<'r> {
    pub(crate) method: &'r Method,
    pub(crate) path: &'r Path,
    pub(crate) query: &'r Query,
    pub(crate) patch: Option<PatchKind>,
    pub(crate) body: Value,
}

/// A list: whole, or one page of the state the first page saw.
pub(crate) fn list(store: &mut Store, resource: &Resource, path: &Path, query: &Query) -> Result<Value, Refusal> {
    let (version, all, from) = match &query.token {
        None => {
            let mut all = store.list(resource, path.namespace.as_deref());
            all.retain(|object| query.selects(object));
            (store.version, all, 0)
        }
        Some(token) => {
            let parts = token.split_once(':').and_then(|(id, from)| Some((id.parse().ok()?, from.parse().ok()?)));
            let (id, from): (u64, usize) = parts.ok_or_else(|| Refusal::bad("continue key is not valid"))?;
            let (version, all) = store.snapshots.remove(&id).ok_or_else(Refusal::gone)?;
            (version, all, from)
        }
    };
    let end = query.limit.map_or(all.len(), |limit| all.len().min(from + limit));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let items: Vec<Value> =
        all.get(from..end).unwrap_or_default().iter().map(|object| item(resource, object)).collect();
    if end < all.len() {
        let id = rand::random::<u64>();
        metadata["continue"] = json!(format!("{id}:{end}"));
        metadata["remainingItemCount"] = json!(all.len() - end);
        store.snapshots.insert(id, (version, all));
    }
    let kind = format!("{}List", resource.kind);
    Ok(json!({"kind": kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items}))
}

/// Items of built-in kinds do not repeat their kind.
fn item(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut().filter(|_| !resource.custom) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

/// One object.
pub(crate) fn get(store: &Store, resource: &Resource, path: &Path) -> Result<Value, Refusal> {
    let name = path.name.as_deref().unwrap_or_default();
    let stored = store.objects.get(&Store::key(resource, path.namespace.as_deref(), name));
    stored.map(|stored| stored.object.clone()).ok_or_else(|| Refusal::not_found(&resource.plural, name))
}

/// Any change. The answer comes with its status.
pub(crate) fn change(store: &mut Store, resource: &Resource, change: Change<'_>) -> Result<(u16, Value), Refusal> {
    let Some(name) = change.path.name.clone() else {
        if *change.method == Method::POST {
            return create(store, resource, &change).map(|object| (201, object));
        }
        return Err(Refusal::new(405, "MethodNotAllowed", "this server changes one object at a time"));
    };
    match change.path.part.as_deref() {
        None => {}
        Some("status") if resource.status => {}
        Some(part) => return Err(Refusal::not_found(&resource.plural, &format!("{name}/{part}"))),
    }
    let key = Store::key(resource, change.path.namespace.as_deref(), &name);
    match change.method.as_str() {
        "PUT" => replace(store, resource, &key, change).map(|object| (200, object)),
        "PATCH" => patch(store, resource, &key, change),
        "DELETE" => delete(store, resource, &key, &change.body).map(|object| (200, object)),
        _ => Err(Refusal::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

fn create(store: &mut Store, resource: &Resource, change: &Change<'_>) -> Result<Value, Refusal> {
    let object = rules::complete(store, resource, change.path.namespace.as_deref(), change.body.clone())?;
    let name = text(&object, "/metadata/name").to_owned();
    let key = Store::key(resource, change.path.namespace.as_deref(), &name);
    if store.objects.contains_key(&key) {
        return Err(Refusal::new(409, "AlreadyExists", format!("{} {name:?} already exists", resource.plural)));
    }
    let defined = if resource.kind == "CustomResourceDefinition" { Some(rules::defined(&object)?) } else { None };
    let managers = apply::updated(&Managers::default(), &json!({}), &object, (manager(change.query), ""));
    let made = store.insert(resource, object, managers);
    store.resources.extend(defined);
    Ok(made)
}

fn manager(query: &Query) -> &str {
    query.manager.as_deref().unwrap_or("unknown")
}

/// Only the status, or everything but it.
fn confined(resource: &Resource, part: Option<&str>, before: &Value, mut after: Value) -> Value {
    if part == Some("status") {
        let mut object = before.clone();
        object["status"] = after["status"].take();
        return object;
    }
    if resource.status {
        match before.get("status") {
            Some(status) => after["status"] = status.clone(),
            None => drop(after.as_object_mut().and_then(|fields| fields.remove("status"))),
        }
    }
    after
}

/// Refuses a change of another object or of another state than the one that is there.
fn same(resource: &Resource, key: &Key, before: &Value, after: &Value) -> Result<(), Refusal> {
    let (uid, version) = (text(after, "/metadata/uid"), text(after, "/metadata/resourceVersion"));
    if !uid.is_empty() && uid != text(before, "/metadata/uid") {
        let there = text(before, "/metadata/uid");
        return Err(Refusal::conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {there}"
        )));
    }
    if !version.is_empty() && version != text(before, "/metadata/resourceVersion") {
        let message = "the object has been modified; please apply your changes to the latest version and try again";
        let (plural, name) = (&resource.plural, &key.2);
        return Err(Refusal::conflict(format!("Operation cannot be fulfilled on {plural} {name:?}: {message}")));
    }
    Ok(())
}

fn replace(store: &mut Store, resource: &Resource, key: &Key, change: Change<'_>) -> Result<Value, Refusal> {
    let stored = store.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(&resource.plural, &key.2))?;
    if resource.kind == "Lease" && text(&change.body, "/metadata/resourceVersion").is_empty() {
        return Err(Refusal::invalid("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"));
    }
    same(resource, key, &stored.object, &change.body)?;
    let part = change.path.part.as_deref();
    let mut object = confined(resource, part, &stored.object, change.body);
    object["apiVersion"] = stored.object["apiVersion"].clone();
    object["kind"] = stored.object["kind"].clone();
    object["metadata"]["namespace"] = stored.object["metadata"]["namespace"].clone();
    if object["metadata"]["namespace"].is_null()
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        metadata.remove("namespace");
    }
    rules::check(resource, &object)?;
    let as_whom = (manager(change.query), part.unwrap_or_default());
    let managers = apply::updated(&stored.managers, &stored.object, &object, as_whom);
    store.update(key, object, managers)
}

fn patch(store: &mut Store, resource: &Resource, key: &Key, change: Change<'_>) -> Result<(u16, Value), Refusal> {
    let part = change.path.part.as_deref();
    let as_whom = (manager(change.query), part.unwrap_or_default());
    let kind = change.patch.ok_or_else(|| {
        Refusal::new(
            415,
            "UnsupportedMediaType",
            "this server reads application/merge-patch+json and application/apply-patch+yaml",
        )
    })?;
    let stored = match store.objects.get(key).cloned() {
        Some(stored) => stored,
        // Apply makes what is not there, but no status of nothing.
        None if kind == PatchKind::Apply && part.is_none() => {
            let object = rules::complete(store, resource, change.path.namespace.as_deref(), change.body.clone())?;
            // What the server filled in is nobody's.
            let mut applied = change.body;
            if let Some(fields) = applied.as_object_mut() {
                fields.retain(|field, _| !(resource.status && field == "status"));
            }
            let (_, managers) = apply::apply(&json!({}), &Managers::default(), &applied, as_whom, true)?;
            let defined =
                if resource.kind == "CustomResourceDefinition" { Some(rules::defined(&object)?) } else { None };
            let made = store.insert(resource, object, managers);
            store.resources.extend(defined);
            return Ok((201, made));
        }
        None => return Err(Refusal::not_found(&resource.plural, &key.2)),
    };
    let uid = text(&change.body, "/metadata/uid");
    if !uid.is_empty() && uid != text(&stored.object, "/metadata/uid") {
        return Err(Refusal::invalid(format!("metadata.uid: Invalid value: {uid:?}: field is immutable")));
    }
    same(resource, key, &stored.object, &change.body)?;
    let (object, managers) = match kind {
        PatchKind::Merge => {
            let mut merged = stored.object.clone();
            merge(&mut merged, &change.body);
            let object = confined(resource, part, &stored.object, merged);
            let managers = apply::updated(&stored.managers, &stored.object, &object, as_whom);
            (object, managers)
        }
        PatchKind::Apply => {
            if change.query.manager.is_none() {
                return Err(Refusal::bad(
                    "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch",
                ));
            }
            let mut applied = change.body;
            if let Some(fields) = applied.as_object_mut() {
                fields.retain(|field, _| match part {
                    Some(part) => field == part,
                    None => !(resource.status && field == "status"),
                });
            }
            apply::apply(&stored.object, &stored.managers, &applied, as_whom, change.query.force)?
        }
    };
    rules::check(resource, &object)?;
    store.update(key, object, managers).map(|object| (200, object))
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            if let Some(fields) = object.as_object_mut() {
                fields.remove(key);
            }
        } else {
            merge(&mut object[key], value);
        }
    }
}

fn delete(store: &mut Store, resource: &Resource, key: &Key, options: &Value) -> Result<Value, Refusal> {
    let stored = store.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(&resource.plural, &key.2))?;
    let conditions = json!({"metadata": options["preconditions"]});
    same(resource, key, &stored.object, &conditions)?;
    if resource.kind == "Pod" {
        // A kubelet would end the pod and then delete it for good; here there is none. Watchers hear of both steps, even where no time is between.
        let grace = match text(&stored.object, "/spec/nodeName") {
            "" => 0,
            _ => options["gracePeriodSeconds"].as_u64().unwrap_or(30),
        };
        let mut object = stored.object;
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        let ending = store.update(key, object, stored.managers)?;
        if grace > 0 {
            return Ok(ending);
        }
    }
    store.remove(key).ok_or_else(|| Refusal::not_found(&resource.plural, &key.2))
}
