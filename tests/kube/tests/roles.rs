//! `deploy/base/control-rbac.yaml` suffices: everything `weir-kube` does is done as the account it binds, on our own server. A real one would
//! have to be given the namespace `weir-system`, which the suite leaves alone.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use weir_kube::{
    Condition, ConfigMaps, Election, ElectionOptions, MapChange, TokenReviewer, conditions_set, config_map_apply,
    secret_create_or_get, secret_get, secret_read, secret_replace,
};
use weir_manifest::{ConfigKind, Kind, ObjectKey};
use weir_model::{Namespace, TrustDomain};
use weir_rpc::Verify;
use weir_tests_kube::{Ground, Heard, quick, things};

const ROLES: &str = include_str!("../../../deploy/base/control-rbac.yaml");

/// Makes everything the file declares.
async fn deploy(client: &Client) -> Result<()> {
    for document in ROLES.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document)?;
        let text = |field: &str| object[field].as_str().with_context(|| format!("no {field}")).map(str::to_owned);
        let (api_version, kind) = (text("apiVersion")?, text("kind")?);
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let objects: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        objects.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    }
    Ok(())
}

/// A server with RBAC refuses whatever no role names.
#[tokio::test]
async fn the_roles_suffice_for_all_that_is_done_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let name = ground.namespace().await?;
    let (namespace, home) = (name.parse::<Namespace>()?, "weir-system".parse::<Namespace>()?);
    deploy(&ground.client).await?;
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_custom()) {
        things::define(&ground.client, kind).await?;
    }
    let token = things::token(&ground.client, "weir-system", "weir-control", "", None).await?;
    let control = ground.server.as_ref().context("it is ours")?.client_of(&token).await?;

    let mut heard = Heard::start(control.clone(), &name, quick(&Kind::ALL));
    assert_eq!(heard.until("synced").await?, [format!("set Namespace {name}")], "no kind was lost");
    things::account(&ground.client, &name, "app").await?;
    let asked = things::token(&ground.client, &name, "app", "istio-ca", None).await?;
    TokenReviewer::new(control.clone(), TrustDomain::default(), vec!["istio-ca".to_owned()]).verify(&asked).await?;
    secret_create_or_get(&control, &home, "weir-ca", Secret::default()).await?;
    secret_get(&control, &home, "weir-ca").await?.context("it is there")?;
    let (_, version) = secret_read(&control, &home, "weir-ca").await?.context("it is there")?;
    secret_replace(&control, &home, "weir-ca", &version, BTreeMap::new()).await?;
    let mut maps = ConfigMaps::start(control.clone(), "istio-ca-root-cert");
    for text in ["one", "two"] {
        let data = BTreeMap::from([("root-cert.pem".to_owned(), text.to_owned())]);
        config_map_apply(&control, &namespace, "istio-ca-root-cert", &data).await?;
        let seen = tokio::time::timeout(std::time::Duration::from_secs(30), maps.next()).await?;
        assert_eq!(seen, MapChange { namespace: namespace.clone(), data: Some(data) });
    }
    // A grant has no status.
    let said = |kind: &Kind| kind.is_custom() && *kind != Kind::Config(ConfigKind::ReferenceGrant);
    for kind in Kind::ALL.into_iter().filter(said) {
        let policies = things::custom(&ground.client, kind, &name);
        let object = json!({"apiVersion": "security.istio.io/v1", "kind": kind.name(), "metadata": {"name": "p"}});
        things::make(&policies, object).await?;
        let key = ObjectKey { kind: kind.name().into(), namespace: Some(namespace.clone()), name: "p".into() };
        let (message, generation) = (String::new(), Some(1));
        let one = Condition { kind: "ZtunnelAccepted", holds: true, reason: "Accepted", message, generation };
        conditions_set(&control, kind, &key, &["ZtunnelAccepted"], &[one]).await?;
    }
    let election = Election::start(control.clone(), ElectionOptions::new(home.as_str(), "weir-control", "one"));
    let mut leadership = election.leadership();
    tokio::time::timeout(std::time::Duration::from_secs(30), leadership.gained()).await?;
    election.stop().await;

    // And for no more than that.
    let secrets = Api::<Secret>::namespaced(control.clone(), &name).list(&ListParams::default()).await;
    assert!(secrets.is_err(), "secrets of others");
    let maps = Api::<ConfigMap>::namespaced(control, &name);
    things::make(&Api::<ConfigMap>::namespaced(ground.client, &name), json!({"metadata": {"name": "other"}})).await?;
    let patched = maps.patch_metadata("other", &PatchParams::default(), &Patch::Merge(json!({}))).await;
    assert!(matches!(patched, Err(kube::Error::Api(status)) if status.code == 403), "config maps of others");
    Ok(())
}
