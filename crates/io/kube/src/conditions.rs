//! Conditions in the status of an object, beside those of others.
//!
//! Istio's definitions make `status.conditions` a list without keys, so whoever applies one condition takes all of them over. It is
//! read, changed where it is ours, and written back only if it is still what was read.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use weir_manifest::{Kind, ObjectKey};
use weir_model::Namespace;

use crate::{
    Error,
    error::within,
    write::{Applied, FIELD_MANAGER},
};

/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often somebody else may be faster.
const RACES: usize = 3;

/// A condition as we want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `type`.
    pub kind: &'static str,
    /// `status`.
    pub holds: bool,
    /// `reason`, one word.
    pub reason: &'static str,
    /// `message`.
    pub message: String,
    /// `observedGeneration`.
    pub generation: Option<i64>,
}

/// Sees to it that of the conditions of an object whose types are `ours` there are these and no others. Those of other types stay.
///
/// # Errors
/// With status 404 when there is no such object, 409 when others change it all the time; when the server refuses, or does not say in time.
pub async fn conditions_set(
    client: &Client,
    kind: Kind,
    key: &ObjectKey,
    ours: &[&str],
    conditions: &[Condition],
) -> Result<Applied, Error> {
    status_edit(client, kind, key, |object| {
        let listed = object.data["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let wanted = merged(listed, ours, conditions, Timestamp::now());
        (wanted != listed).then(|| json!({"conditions": wanted}))
    })
    .await
}

/// Reads an object and writes of its status what `edit` answers, if it answers with anything, unless somebody else was faster; then
/// once more.
///
/// # Errors
/// As [`conditions_set`].
pub(crate) async fn status_edit(
    client: &Client,
    kind: Kind,
    key: &ObjectKey,
    edit: impl Fn(&DynamicObject) -> Option<Value>,
) -> Result<Applied, Error> {
    let gvk = GroupVersionKind::gvk(kind.group(), kind.version(), kind.name());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    status_edit_of(client, &resource, key.namespace.as_ref().map(Namespace::as_str), &key.name, edit).await
}

/// [`status_edit`] of an object of any kind.
///
/// # Errors
/// As [`conditions_set`].
pub(crate) async fn status_edit_of(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    name: &str,
    edit: impl Fn(&DynamicObject) -> Option<Value>,
) -> Result<Applied, Error> {
    let objects: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    let what = |verb: &str| {
        let namespace = namespace.map_or(String::new(), |namespace| format!("{namespace}/"));
        format!("{verb} status of {} {namespace}{name}", resource.kind)
    };
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let mut failed = None;
    for _ in 0..RACES {
        let there = within(DEADLINE, || what("get"), objects.get_status(name)).await?;
        let Some(status) = edit(&there) else { return Ok(Applied::Same) };
        let patch = json!({"metadata": {"resourceVersion": there.resource_version()}, "status": status});
        let patch = async { objects.patch_status(name, &params, &Patch::Merge(&patch)).await };
        match within(DEADLINE, || what("patch"), patch).await {
            Ok(_) => return Ok(Applied::Changed),
            Err(error) if error.status() == Some(409) => failed = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(failed.expect("a round that does not return has failed"))
}

/// The list as it is to be. What is as it was keeps its place and its form.
pub(crate) fn merged(listed: &[Value], ours: &[&str], conditions: &[Condition], now: Timestamp) -> Vec<Value> {
    let is = |one: &Value, kind: &str| one["type"] == kind;
    let mut wanted: Vec<Value> = Vec::new();
    for one in listed {
        match conditions.iter().find(|condition| is(one, condition.kind)) {
            // Of two of one type the first counts.
            Some(condition) if wanted.iter().any(|other| is(other, condition.kind)) => {}
            Some(condition) => wanted.push(condition.over(Some(one), now)),
            None if ours.iter().any(|kind| is(one, kind)) => {}
            None => wanted.push(one.clone()),
        }
    }
    for condition in conditions {
        if !wanted.iter().any(|one| is(one, condition.kind)) {
            wanted.push(condition.over(None, now));
        }
    }
    wanted
}

impl Condition {
    /// The condition in place of the one that is there. Its time is that of the last change of its status.
    fn over(&self, before: Option<&Value>, now: Timestamp) -> Value {
        let status = if self.holds { "True" } else { "False" };
        let since = before.filter(|before| before["status"] == status).map(|before| &before["lastTransitionTime"]);
        if let (Some(before), Some(Value::String(_))) = (before, since)
            && before["reason"] == self.reason
            && before["message"] == self.message.as_str()
            && generation(&before["observedGeneration"]) == self.generation
        {
            return before.clone();
        }
        let since = since.filter(|since| since.is_string()).cloned();
        let mut condition = json!({
            "type": self.kind, "status": status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": since.unwrap_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        });
        if let Some(generation) = self.generation {
            condition["observedGeneration"] = json!(generation);
        }
        condition
    }
}

/// A generation, which Istio writes as text.
fn generation(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(holds: bool, message: &str) -> Condition {
        Condition { kind: "Ours", holds, reason: "Test", message: message.to_owned(), generation: Some(2) }
    }

    fn listed(kind: &str, status: &str, message: &str, generation: Value) -> Value {
        json!({"type": kind, "status": status, "reason": "Test", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation})
    }

    #[test]
    fn ours_are_set_and_those_of_others_stay_as_they_are() {
        let theirs = json!({"type": "Theirs", "odd": [1]});
        let now = "2026-02-02T02:02:02.5Z".parse().unwrap();
        let new = |status: &str, time: &str| {
            json!({"type": "Ours", "status": status, "reason": "Test", "message": "m",
                "lastTransitionTime": time, "observedGeneration": 2})
        };
        let (long_ago, just_now) = ("2026-01-01T00:00:00Z", "2026-02-02T02:02:02Z");
        for (before, wanted, after) in [
            (vec![], vec![condition(true, "m")], vec![new("True", just_now)]),
            (vec![theirs.clone()], vec![condition(true, "m")], vec![theirs.clone(), new("True", just_now)]),
            // As it is, though Istio would write it otherwise.
            (
                vec![listed("Ours", "True", "m", json!("2")), theirs.clone()],
                vec![condition(true, "m")],
                vec![listed("Ours", "True", "m", json!("2")), theirs.clone()],
            ),
            // Another generation, message, status; the time is that of the status.
            (vec![listed("Ours", "True", "m", json!(1))], vec![condition(true, "m")], vec![new("True", long_ago)]),
            (vec![listed("Ours", "True", "old", json!(2))], vec![condition(true, "m")], vec![new("True", long_ago)]),
            (vec![listed("Ours", "False", "m", json!(2))], vec![condition(true, "m")], vec![new("True", just_now)]),
            (vec![json!({"type": "Ours", "status": "True"})], vec![condition(true, "m")], vec![new("True", just_now)]),
            // Two of one type; one that is ours and no longer wanted.
            (
                vec![listed("Ours", "True", "m", json!(2)), listed("Ours", "False", "x", json!(1))],
                vec![condition(true, "m")],
                vec![listed("Ours", "True", "m", json!(2))],
            ),
            (vec![listed("Ours", "True", "m", json!(2)), theirs.clone()], vec![], vec![theirs.clone()]),
        ] {
            assert_eq!(merged(&before, &["Ours"], &wanted, now), after, "{before:?}");
        }
    }
}
