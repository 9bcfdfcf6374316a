//! What became of each policy, in its status: by who leads, beside what others say, and only when it changes.

use anyhow::{Context, Result};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use weir_manifest::Kind;
use weir_tests_kube::{eventually, things};

use crate::scene::Scene;

fn policy(kind: Kind, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": kind.name(), "metadata": {"name": name}, "spec": spec})
}

/// `type=status/reason` of each condition.
fn said(object: &DynamicObject) -> Vec<String> {
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    let all = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().map(|one| format!("{}={}/{}", text(one, "type"), text(one, "status"), text(one, "reason"))).collect()
}

async fn until(policies: &Api<DynamicObject>, name: &str, want: &[&str]) -> Result<DynamicObject> {
    eventually(&format!("{name} says {want:?}"), || async {
        let object = policies.get(name).await?;
        Ok(Some(object).filter(|object| said(object) == want))
    })
    .await
}

const AS_WRITTEN: [&str; 2] = ["ZtunnelAccepted=True/Accepted", "weir.dev/Enforced=True/AsWritten"];

/// The definitions of a real server are Istio's, and other cases would see these policies.
#[tokio::test]
async fn the_leader_says_what_became_of_each_policy_on_our_own_server() -> Result<()> {
    let scene = Scene::own().await?;
    let policies = |kind| things::custom(&scene.client(), kind, &scene.space);
    let (rules, modes) = (policies(Kind::AuthorizationPolicy), policies(Kind::PeerAuthentication));
    let from = json!([{"source": {"namespaces": ["a"]}}]);
    let allow = json!({"rules": [{"from": from}]});
    things::make(&rules, policy(Kind::AuthorizationPolicy, "plain", &allow)).await?;
    let theirs = json!({"status": {"conditions": [{"type": "Theirs", "status": "True", "reason": "Theirs"}]}});
    rules.patch_status("plain", &PatchParams::default(), &Patch::Merge(&theirs)).await?;
    let control = scene.control(&[]).await?;
    until(&rules, "plain", &[&["Theirs=True/Theirs"], &AS_WRITTEN[..]].concat()).await?;

    // Its author asks for more than agents can do.
    let more = json!({"rules": [{"from": from}, {"to": [{"operation": {"methods": ["GET"]}}]}]});
    let patch = Patch::Merge(json!({"spec": more}));
    let generation = rules.patch("plain", &PatchParams::default(), &patch).await?.metadata.generation;
    let want = ["Theirs=True/Theirs", "ZtunnelAccepted=True/UnsupportedValue", "weir.dev/Enforced=False/NotAsWritten"];
    let object = until(&rules, "plain", &want).await?;
    let condition = &object.data["status"]["conditions"][2];
    assert_eq!(condition["observedGeneration"].as_i64(), generation, "{condition}");
    let message = condition["message"].as_str().context("a message")?;
    assert!(message.starts_with("1 other rule: agent; spec.rules[1]: nowhere (left out: methods is of"), "{message}");
    control.says(&["not enforced as written", "plain", "spec.rules[1]"]).await?;
    let page = control.page("/debug/configz").await?;
    assert_eq!(page["policiesNotAsWritten"][0]["placements"][1]["enforcer"], "nowhere", "{page}");

    // Whom it covers cannot be made out: what it said before stays.
    let patch = Patch::Merge(json!({"spec": {"selector": {"matchLabels": 5}}}));
    rules.patch("plain", &PatchParams::default(), &patch).await?;
    let want = ["Theirs=True/Theirs", "ZtunnelAccepted=False/Invalid", "weir.dev/Enforced=False/NotAsWritten"];
    let object = until(&rules, "plain", &want).await?;
    let message = object.data["status"]["conditions"][1]["message"].as_str().context("a message")?;
    assert!(
        message.starts_with("what it said before stays in force: ") && message.contains("spec.selector"),
        "{message}"
    );
    let patch = Patch::Merge(json!({"spec": {"selector": null, "rules": [{"from": from}]}}));
    rules.patch("plain", &PatchParams::default(), &patch).await?;
    until(&rules, "plain", &[&["Theirs=True/Theirs"], &AS_WRITTEN[..]].concat()).await?;

    // What is not legal, what a waypoint would have to do, and what an older one decides.
    for (kind, name, spec, want) in [
        (Kind::AuthorizationPolicy, "bad", json!({"rules": 1}), "ZtunnelAccepted=False/Invalid"),
        (
            Kind::AuthorizationPolicy,
            "of-waypoint",
            json!({"targetRefs": [{"kind": "Service", "group": "", "name": "s"}]}),
            "WaypointAccepted=False/TargetNotFound",
        ),
        (Kind::PeerAuthentication, "a", json!({"mtls": {"mode": "STRICT"}}), AS_WRITTEN[0]),
    ] {
        let enforced = if want == AS_WRITTEN[0] { AS_WRITTEN[1] } else { "weir.dev/Enforced=False/NotAsWritten" };
        things::make(&policies(kind), policy(kind, name, &spec)).await?;
        until(&policies(kind), name, &[want, enforced]).await?;
    }
    // That one is older, or was made in the same second and its name is less.
    things::make(&modes, policy(Kind::PeerAuthentication, "b", &json!({"mtls": {"mode": "PERMISSIVE"}}))).await?;
    until(&modes, "b", &["ZtunnelAccepted=False/Conflicted", "weir.dev/Enforced=False/NotAsWritten"]).await?;
    things::delete(&modes, "a").await?;
    until(&modes, "b", &AS_WRITTEN).await?;

    // Whoever leads next finds everything said, and writes nothing.
    let before = rules.get("plain").await?.resource_version();
    control.stop().await?;
    let control = scene.control(&[]).await?;
    things::make(&rules, policy(Kind::AuthorizationPolicy, "zz", &allow)).await?;
    until(&rules, "zz", &AS_WRITTEN).await?;
    assert_eq!(rules.get("plain").await?.resource_version(), before);
    scene.clean(control).await
}

#[tokio::test]
async fn the_leader_says_what_became_of_a_label_that_names_a_waypoint_on_our_own_server() -> Result<()> {
    let scene = Scene::own().await?;
    let services: Api<DynamicObject> = things::custom(&scene.client(), Kind::Service, &scene.space);
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "shop", "labels": {"istio.io/use-waypoint": "gate"}},
        "spec": {"ports": [{"port": 80}]},
    });
    things::make(&services, service).await?;
    let control = scene.control(&[]).await?;
    let object = until(&services, "shop", &["istio.io/WaypointBound=False/WaypointMissing"]).await?;
    let message = object.data["status"]["conditions"][0]["message"].as_str().context("a message")?;
    assert!(message.ends_with("/gate: there is no such Gateway: connections are refused"), "{message}");
    control.says(&["shop", "there is no such Gateway"]).await?;
    let page = control.page("/debug/configz").await?;
    assert_eq!(page["waypointsNotBound"].as_array().map(Vec::len), Some(1), "{page}");
    // Bound no more, it is said no more.
    let none = Patch::Merge(json!({"metadata": {"labels": {"istio.io/use-waypoint": "none"}}}));
    services.patch("shop", &PatchParams::default(), &none).await?;
    until(&services, "shop", &[]).await?;
    Ok(())
}
