//! What the suite takes for granted of a server, asked of whichever server `WEIR_TEST_KUBECONFIG` names, else ours: so ours stays honest.

use anyhow::{Context, Result};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    Api, Discovery, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use weir_tests_kube::{Ground, things};

/// The HTTP status of a refusal.
fn code<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> u16 {
    match answer {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("no refusal: {other:?}"),
    }
}

/// A real server says which groups, versions and kinds it has.
#[tokio::test]
async fn discovery_finds_the_kinds() -> Result<()> {
    let ground = Ground::new().await?;
    let discovery = Discovery::new(ground.client.clone()).run().await?;
    for (group, kind) in [("", "Pod"), ("coordination.k8s.io", "Lease"), ("discovery.k8s.io", "EndpointSlice")] {
        let group = discovery.get(group).with_context(|| format!("no group {group:?}"))?;
        assert!(group.recommended_kind(kind).is_some(), "{kind}");
    }
    assert!(discovery.get("weir-test.example.com").is_none());
    Ok(())
}

/// A real server refuses an update of a version that is not the last, and one of a lease without a version.
#[tokio::test]
async fn an_update_of_an_old_version_is_refused() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let leases = Api::<Lease>::namespaced(ground.client.clone(), &namespace);
    let first = things::make(&leases, json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})).await?;
    let mut second = first.clone();
    second.spec.get_or_insert_default().holder_identity = Some("b".to_owned());
    leases.replace("l", &PostParams::default(), &second).await?;
    assert_eq!(code(leases.replace("l", &PostParams::default(), &second).await), 409);
    second.metadata.resource_version = None;
    assert_eq!(code(leases.replace("l", &PostParams::default(), &second).await), 422);
    assert_eq!(code(leases.create(&PostParams::default(), &Lease { spec: None, ..second }).await), 409);
    ground.clean().await
}

/// A real server deletes only what the conditions of a deletion name.
#[tokio::test]
async fn a_deletion_of_another_uid_is_refused() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let maps = Api::<ConfigMap>::namespaced(ground.client.clone(), &namespace);
    let map = things::make(&maps, json!({"metadata": {"name": "m"}})).await?;
    let only =
        |uid: Option<String>| DeleteParams::default().preconditions(Preconditions { uid, resource_version: None });
    let other = Some("11111111-2222-4333-8444-555555555555".to_owned());
    assert_eq!(code(maps.delete("m", &only(other)).await), 409);
    maps.delete("m", &only(map.uid())).await?;
    assert_eq!(code(maps.get("m").await), 404);
    ground.clean().await
}

/// A real server refuses to apply over a field of another manager, unless by force.
#[tokio::test]
async fn applied_fields_belong_to_their_managers() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let maps = Api::<ConfigMap>::namespaced(ground.client.clone(), &namespace);
    let map = |data: serde_json::Value| {
        Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}))
    };
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    maps.patch("m", &one, &map(json!({"a": "1", "b": "1"}))).await?;
    assert_eq!(code(maps.patch("m", &two, &map(json!({"a": "2"}))).await), 409);
    maps.patch("m", &two, &map(json!({"c": "2"}))).await?;
    maps.patch("m", &two.clone().force(), &map(json!({"a": "2"}))).await?;
    let data = maps.get("m").await?.data.context("no data")?;
    let data: Vec<_> = data.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(data, ["a=2", "b=1"]);
    ground.clean().await
}

/// A real server takes no status from who writes the object, and nothing but the status from who writes that.
#[tokio::test]
async fn a_status_is_written_apart() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let pods = Api::<Pod>::namespaced(ground.client.clone(), &namespace);
    things::pod(&ground.client, &namespace, "p", "fd00::1").await?;
    let both = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}, "status": {"reason": "said"}}));
    let pod = pods.patch("p", &PatchParams::default(), &both).await?;
    assert_eq!((pod.labels().len(), pod.status.and_then(|status| status.reason)), (2, None));
    let other = Patch::Merge(json!({"spec": {"nodeName": "n2"}, "status": {"reason": "said"}}));
    let pod = pods.patch_status("p", &PatchParams::default(), &other).await?;
    assert_eq!(pod.spec.and_then(|spec| spec.node_name).as_deref(), Some("n1"));
    assert_eq!(pod.status.and_then(|status| status.reason).as_deref(), Some("said"));
    ground.clean().await
}

/// A real server says who may do what.
#[tokio::test]
async fn a_review_of_access_says_no_to_strangers() -> Result<()> {
    let ground = Ground::new().await?;
    let reviews = Api::<SubjectAccessReview>::all(ground.client.clone());
    for (groups, want) in [(vec!["system:masters".to_owned()], true), (Vec::new(), false)] {
        let attributes = ResourceAttributes {
            verb: Some("list".to_owned()),
            resource: Some("secrets".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some("weir-test-stranger".to_owned()),
            groups: Some(groups),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        assert_eq!(answer.status.map(|status| status.allowed), Some(want));
    }
    Ok(())
}

/// A real server lets nobody in whose token it does not know, and lets an account do only what its roles say.
#[tokio::test]
async fn nobody_may_do_what_no_role_says_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let namespace = ground.namespace().await?;
    things::account(&ground.client, &namespace, "app").await?;
    let token = things::token(&ground.client, &namespace, "app", "", None).await?;
    let server = ground.server.as_ref().context("it is ours")?;
    for (token, want) in [(token.as_str(), 403), ("garbage", 401)] {
        let secrets = Api::<Secret>::namespaced(server.client_of(token).await?, &namespace);
        assert_eq!(code(secrets.list(&ListParams::default()).await), want);
    }
    Ok(())
}
