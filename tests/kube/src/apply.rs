//! Who set which field: server-side apply, simply but truly.
//!
//! An object is seen as its leaves. Lists are leaves, but for `conditions`, whose items are known by their type, and `webhooks`, by name. A manager owns the leaves it
//! has set last; who applies another value to a leaf of somebody else is refused unless by force; what a manager no longer applies, and
//! nobody else has set, goes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::reply::Refusal;

/// A leaf's place.
type Place = Vec<String>;

/// A manager: its name, its operation, and the part of the object it writes.
type Manager = (String, &'static str, String);

/// Who owns which leaves.
pub(crate) type Managers = BTreeMap<Manager, BTreeSet<Place>>;

/// The field by which items of a list are known, if they are.
fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "conditions" => Some("type"),
        "webhooks" => Some("name"),
        _ => None,
    }
}

/// All leaves of an object that belong to somebody.
fn leaves(object: &Value) -> BTreeMap<Place, Value> {
    let mut all = BTreeMap::new();
    collect(object, &mut Vec::new(), &mut all);
    let server = |place: &Place| match place.as_slice() {
        [top] => matches!(top.as_str(), "apiVersion" | "kind"),
        [top, field, ..] => top == "metadata" && !matches!(field.as_str(), "labels" | "annotations"),
        [] => true,
    };
    all.retain(|place, _| !server(place));
    all
}

fn collect(value: &Value, place: &mut Place, all: &mut BTreeMap<Place, Value>) {
    let key = place.last().and_then(|last| key_of(last));
    let items: Vec<(String, &Value)> = match (value, key) {
        (Value::Object(fields), _) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        (Value::Array(items), Some(key)) => {
            items.iter().map(|item| (item[key].as_str().unwrap_or_default().to_owned(), item)).collect()
        }
        (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_), _) => {
            all.insert(place.clone(), value.clone());
            return;
        }
    };
    for (key, value) in items {
        place.push(key);
        collect(value, place, all);
        place.pop();
    }
}

/// Sets a leaf, or takes it away; items of a list are known by `key`.
fn set(object: &mut Value, place: &[String], key: &str, leaf: Option<&Value>) {
    let [first, rest @ ..] = place else {
        if let Some(leaf) = leaf {
            *object = leaf.clone();
        }
        return;
    };
    if let Value::Array(items) = object {
        let at = items.iter().position(|item| item[key] == json!(first));
        let at = at.unwrap_or_else(|| {
            items.push(json!({key: first}));
            items.len() - 1
        });
        set(&mut items[at], rest, key, leaf);
        // An item of which only its name is left is none.
        if leaf.is_none() && items[at].as_object().is_none_or(|fields| fields.keys().all(|field| field == key)) {
            items.remove(at);
        }
        return;
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(fields) = object.as_object_mut() else { return };
    if rest.is_empty() && leaf.is_none() {
        fields.remove(first);
        return;
    }
    let list = key_of(first).filter(|_| !rest.is_empty());
    let empty = if list.is_some() { json!([]) } else { json!({}) };
    set(fields.entry(first.clone()).or_insert(empty), rest, list.unwrap_or_default(), leaf);
}

/// Applies the fields `applied` names. `part` is `status` or empty.
pub(crate) fn apply(
    before: &Value,
    managers: &Managers,
    applied: &Value,
    (manager, part): (&str, &str),
    force: bool,
) -> Result<(Value, Managers), Refusal> {
    let me: Manager = (manager.to_owned(), "Apply", part.to_owned());
    let (there, wanted) = (leaves(before), leaves(applied));
    let mut managers = managers.clone();
    for (place, value) in &wanted {
        if there.get(place) == Some(value) {
            continue;
        }
        for (other, owned) in &mut managers {
            if *other != me && owned.contains(place) {
                if !force {
                    let message =
                        format!("Apply failed with 1 conflict: conflict with {:?}: .{}", other.0, place.join("."));
                    return Err(Refusal::conflict(message));
                }
                owned.remove(place);
            }
        }
    }
    let mut object = before.clone();
    let mine: BTreeSet<Place> = wanted.keys().cloned().collect();
    let dropped = managers.insert(me.clone(), mine.clone()).unwrap_or_default();
    for place in dropped.difference(&mine) {
        if !managers.iter().any(|(other, owned)| *other != me && owned.contains(place)) {
            set(&mut object, place, "", None);
        }
    }
    for (place, value) in &wanted {
        set(&mut object, place, "", Some(value));
    }
    managers.retain(|_, owned| !owned.is_empty());
    Ok((object, managers))
}

/// Who owns what after `manager` has changed `before` to `after` by an update or a patch: what it changed is its.
pub(crate) fn updated(managers: &Managers, before: &Value, after: &Value, (manager, part): (&str, &str)) -> Managers {
    let (old, new) = (leaves(before), leaves(after));
    let mut managers = managers.clone();
    let changed: BTreeSet<Place> =
        new.iter().filter(|(place, value)| old.get(*place) != Some(value)).map(|(place, _)| place.clone()).collect();
    for owned in managers.values_mut() {
        owned.retain(|place| new.contains_key(place) && !changed.contains(place));
    }
    managers.entry((manager.to_owned(), "Update", part.to_owned())).or_default().extend(changed);
    managers.retain(|_, owned| !owned.is_empty());
    managers
}

/// Writes `metadata.managedFields`.
pub(crate) fn note(object: &mut Value, managers: &Managers) {
    let version = object["apiVersion"].clone();
    let entries = managers.iter().map(|((name, operation, part), owned)| {
        let mut fields = json!({});
        for place in owned {
            let mut at = &mut fields;
            for step in place {
                at = &mut at[format!("f:{step}")];
            }
            *at = json!({});
        }
        let mut entry = json!({"manager": name, "operation": operation, "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": fields});
        if !part.is_empty() {
            entry["subresource"] = json!(part);
        }
        entry
    });
    object["metadata"]["managedFields"] = entries.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_belongs_to_who_applied_it_last_and_goes_with_them() {
        let none = (json!({}), Managers::new());
        let (one, managers) =
            apply(&none.0, &none.1, &json!({"data": {"a": "1", "b": "1"}}), ("x", ""), false).unwrap();
        let (two, managers) = apply(&one, &managers, &json!({"data": {"a": "1", "c": "2"}}), ("y", ""), false).unwrap();
        assert_eq!(two["data"], json!({"a": "1", "b": "1", "c": "2"}), "fields are merged, equal ones shared");
        let conflict = apply(&two, &managers, &json!({"data": {"b": "9"}}), ("y", ""), false).unwrap_err();
        assert_eq!(conflict.code, 409);
        let (three, managers) = apply(&two, &managers, &json!({"data": {"b": "9"}}), ("y", ""), true).unwrap();
        assert_eq!(three["data"], json!({"a": "1", "b": "9"}), "c went with its only owner, a has another");
        let (four, _) = apply(&three, &managers, &json!({}), ("x", ""), false).unwrap();
        assert_eq!(four["data"], json!({"b": "9"}));
    }

    #[test]
    fn conditions_are_known_by_their_type() {
        let none = (json!({}), Managers::new());
        let condition =
            |kind: &str, status: &str| json!({"status": {"conditions": [{"type": kind, "status": status}]}});
        let (one, managers) = apply(&none.0, &none.1, &condition("Ready", "True"), ("x", "status"), false).unwrap();
        let (two, managers) = apply(&one, &managers, &condition("Weir", "False"), ("y", "status"), false).unwrap();
        assert_eq!(two["status"]["conditions"].as_array().map(Vec::len), Some(2));
        let (three, _) = apply(&two, &managers, &json!({}), ("y", "status"), false).unwrap();
        assert_eq!(three["status"]["conditions"], json!([{"type": "Ready", "status": "True"}]));
    }

    #[test]
    fn what_others_set_of_a_webhook_stays_when_it_is_applied_again() {
        let hook = |path: &str| json!({"webhooks": [{"name": "a", "clientConfig": {"path": path}}]});
        let (one, managers) = apply(&json!({}), &Managers::new(), &hook("/a"), ("x", ""), false).unwrap();
        let mut after = one.clone();
        after["webhooks"][0]["clientConfig"]["caBundle"] = json!("roots");
        let managers = updated(&managers, &one, &after, ("y", ""));
        let (two, _) = apply(&after, &managers, &hook("/b"), ("x", ""), false).unwrap();
        let want = json!([{"name": "a", "clientConfig": {"path": "/b", "caBundle": "roots"}}]);
        assert_eq!(two["webhooks"], want);
    }
}
