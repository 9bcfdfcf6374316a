//! Statuses of routes and Gateways, beside those of other controllers. Gateway API v1 `RouteStatus`, `GatewayStatus`.

use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Client,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use weir_manifest::{ConfigKind, Kind, ObjectKey};

use crate::{
    Error,
    conditions::{Condition, merged, status_edit, status_edit_of},
    write::Applied,
};

/// Types of conditions of a route at a parent. Gateway API v1 `RouteConditionType`.
const OF_ROUTES: &[&str] = &["Accepted", "ResolvedRefs", "PartiallyInvalid"];
/// Types of conditions of a Gateway that are ours. Gateway API v1 `GatewayConditionType`.
const OF_GATEWAYS: &[&str] = &["Accepted", "Programmed"];
/// Types of conditions of a listener. Gateway API v1 `ListenerConditionType`.
const OF_LISTENERS: &[&str] = &["Accepted", "Programmed", "ResolvedRefs", "Conflicted"];

/// What holds of a route at one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentConditions {
    /// The index of the parent in `spec.parentRefs`.
    pub parent: usize,
    /// What holds.
    pub conditions: Vec<Condition>,
}

/// What a controller says of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteParents {
    /// This, of these parents of the route as it was in that generation. Of a route that is another by now nothing is said.
    Listed(Option<i64>, Vec<ParentConditions>),
    /// This, of a route whose parents could not be read with the rest of it: of those that are services, and of those of which the controller
    /// said something before.
    All(Vec<Condition>),
}

/// What holds of a listener. Gateway API v1 `ListenerStatus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerEntry {
    /// Its name.
    pub name: String,
    /// Kinds of routes that may attach, all of the Gateway API.
    pub supported_kinds: Vec<&'static str>,
    /// How many routes are attached.
    pub attached_routes: usize,
    /// What holds.
    pub conditions: Vec<Condition>,
}

/// Sees to it that what the controller says of a route's parents is this and no more. What others say stays.
///
/// # Errors
/// With status 404 when there is no such route, 409 when others change it all the time; when the server refuses, or does not say in time.
pub async fn route_status_set(
    client: &Client,
    kind: Kind,
    key: &ObjectKey,
    controller: &str,
    parents: &RouteParents,
) -> Result<Applied, Error> {
    status_edit(client, kind, key, |route| {
        let listed = list(&route.data["status"]["parents"]);
        let wanted = entries(route, listed, controller, parents, Timestamp::now())?;
        (wanted != listed).then(|| json!({"parents": wanted}))
    })
    .await
}

/// Sees to it that a Gateway's conditions and listeners say this, and its addresses if they are known. Conditions of other types stay.
///
/// # Errors
/// As [`route_status_set`].
pub async fn gateway_status_set(
    client: &Client,
    key: &ObjectKey,
    conditions: &[Condition],
    listeners: &[ListenerEntry],
    addresses: Option<&[IpAddr]>,
) -> Result<Applied, Error> {
    status_edit(client, Kind::Config(ConfigKind::Gateway), key, |gateway| {
        let status = &gateway.data["status"];
        let (now, listed, before) = (Timestamp::now(), list(&status["conditions"]), list(&status["listeners"]));
        let wanted = merged(listed, OF_GATEWAYS, conditions, now);
        let all: Vec<Value> = listeners.iter().map(|listener| entry(listener, before, now)).collect();
        let said = list(&status["addresses"]);
        let reached: Vec<Value> = match addresses {
            Some(addresses) => addresses.iter().map(|one| json!({"type": "IPAddress", "value": one})).collect(),
            None => said.to_vec(),
        };
        if wanted == listed && all == before && reached == said {
            return None;
        }
        let mut status = json!({"conditions": wanted, "listeners": all});
        if reached != said {
            status["addresses"] = json!(reached);
        }
        Some(status)
    })
    .await
}

/// Says of a GatewayClass that it is taken, if it is the controller's. Gateway API v1 `GatewayClassStatus`.
///
/// # Errors
/// As [`route_status_set`].
pub async fn gateway_class_accept(
    client: &Client,
    name: &str,
    controller: &str,
    message: &str,
) -> Result<Applied, Error> {
    let gvk = GroupVersionKind::gvk(ConfigKind::Gateway.group(), "v1", "GatewayClass");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "gatewayclasses");
    status_edit_of(client, &resource, None, name, |class| {
        if class.data["spec"]["controllerName"] != controller {
            return None;
        }
        let accepted = Condition {
            kind: "Accepted",
            holds: true,
            reason: "Accepted",
            message: message.to_owned(),
            generation: class.metadata.generation,
        };
        let listed = list(&class.data["status"]["conditions"]);
        let wanted = merged(listed, &["Accepted"], &[accepted], Timestamp::now());
        (wanted != listed).then(|| json!({"conditions": wanted}))
    })
    .await
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `status.parents` as it is to be; nothing if the route is another one by now. What is as it was keeps its place and its form.
fn entries(
    route: &DynamicObject,
    listed: &[Value],
    controller: &str,
    parents: &RouteParents,
    now: Timestamp,
) -> Option<Vec<Value>> {
    let refs = list(&route.data["spec"]["parentRefs"]);
    let is_ours = |entry: &&Value| entry["controllerName"] == controller;
    let before = |parent: &Value| listed.iter().filter(is_ours).find(|entry| entry["parentRef"] == *parent);
    let said: Vec<(&Value, &[Condition])> = match parents {
        RouteParents::Listed(generation, _) if generation.is_some() && *generation != route.metadata.generation => {
            return None;
        }
        RouteParents::Listed(_, parents) => {
            parents.iter().filter_map(|one| Some((refs.get(one.parent)?, &*one.conditions))).collect()
        }
        RouteParents::All(conditions) => {
            let ours = refs.iter().filter(|one| one["kind"] == "Service" || before(one).is_some());
            ours.map(|one| (one, &**conditions)).collect()
        }
    };
    let made = |(parent, conditions): &(&Value, &[Condition])| {
        let there = before(parent).map(|entry| list(&entry["conditions"])).unwrap_or_default();
        let conditions = merged(there, OF_ROUTES, conditions, now);
        json!({"parentRef": parent, "controllerName": controller, "conditions": conditions})
    };
    let mut wanted: Vec<Value> = Vec::new();
    for entry in listed {
        match said.iter().find(|(parent, _)| is_ours(&entry) && entry["parentRef"] == **parent) {
            Some(one) => wanted.push(made(one)),
            None if is_ours(&entry) => {}
            None => wanted.push(entry.clone()),
        }
    }
    wanted.extend(said.iter().filter(|(parent, _)| before(parent).is_none()).map(made));
    Some(wanted)
}

fn entry(listener: &ListenerEntry, before: &[Value], now: Timestamp) -> Value {
    let there = before.iter().find(|one| one["name"] == *listener.name);
    let there = there.map(|one| list(&one["conditions"])).unwrap_or_default();
    let group = ConfigKind::HttpRoute.group();
    let kinds = listener.supported_kinds.iter().map(|kind| json!({"group": group, "kind": kind}));
    json!({
        "name": listener.name,
        "supportedKinds": kinds.collect::<Vec<_>>(),
        "attachedRoutes": listener.attached_routes,
        "conditions": merged(there, OF_LISTENERS, &listener.conditions, now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "weir.dev/waypoint-controller";

    fn condition(holds: bool) -> Condition {
        let reason = if holds { "Accepted" } else { "UnsupportedValue" };
        Condition { kind: "Accepted", holds, reason, message: "m".to_owned(), generation: Some(2) }
    }

    fn route(generation: i64, refs: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "r", "generation": generation}, "spec": {"parentRefs": refs},
        }))
        .unwrap()
    }

    fn said(parent: &Value, controller: &str, status: &str) -> Value {
        let reason = if status == "True" { "Accepted" } else { "UnsupportedValue" };
        json!({"parentRef": parent, "controllerName": controller, "conditions": [{
            "type": "Accepted", "status": status, "reason": reason, "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 2,
        }]})
    }

    #[test]
    fn a_controller_says_of_each_parent_what_it_has_to_say_and_leaves_others_alone() {
        let (web, gate) = (json!({"kind": "Service", "name": "web"}), json!({"kind": "Gateway", "name": "gate"}));
        let refs = json!([web, gate]);
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let listed = |holds: bool, which: &[usize]| {
            let one = |parent: &usize| ParentConditions { parent: *parent, conditions: vec![condition(holds)] };
            RouteParents::Listed(Some(2), which.iter().map(one).collect())
        };
        let theirs = said(&gate, "example.com/other", "True");
        for (before, parents, after) in [
            (vec![], listed(true, &[0]), Some(vec![said(&web, OURS, "True")])),
            // Beside what others say; in its place; and taken away.
            (vec![theirs.clone()], listed(true, &[0]), Some(vec![theirs.clone(), said(&web, OURS, "True")])),
            (
                vec![said(&web, OURS, "True"), theirs.clone()],
                listed(false, &[0]),
                Some(vec![said(&web, OURS, "False"), theirs.clone()]),
            ),
            (vec![said(&web, OURS, "True"), theirs.clone()], listed(true, &[]), Some(vec![theirs.clone()])),
            // A parent that is not in the list, and a route that is another by now.
            (vec![], listed(true, &[7]), Some(vec![])),
            (vec![theirs.clone()], RouteParents::Listed(Some(1), Vec::new()), None),
            // Of one that cannot be read: services, and what is ours already.
            (vec![], RouteParents::All(vec![condition(false)]), Some(vec![said(&web, OURS, "False")])),
            (
                vec![said(&gate, OURS, "True"), theirs.clone()],
                RouteParents::All(vec![condition(false)]),
                Some(vec![said(&gate, OURS, "False"), theirs.clone(), said(&web, OURS, "False")]),
            ),
        ] {
            assert_eq!(entries(&route(2, &refs), &before, OURS, &parents, now), after, "{before:?} {parents:?}");
        }
    }

    #[test]
    fn a_listener_that_is_as_it_was_keeps_its_form() {
        let listener = |attached_routes| ListenerEntry {
            name: "mesh".to_owned(),
            supported_kinds: vec!["HTTPRoute"],
            attached_routes,
            conditions: vec![condition(true)],
        };
        let (then, later) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-02-02T00:00:00Z".parse().unwrap());
        let first = entry(&listener(1), &[], then);
        assert_eq!(first["supportedKinds"], json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]));
        assert_eq!(entry(&listener(1), std::slice::from_ref(&first), later), first);
        let other = entry(&listener(2), std::slice::from_ref(&first), later);
        assert_eq!((&other["attachedRoutes"], &other["conditions"]), (&json!(2), &first["conditions"]));
    }
}
