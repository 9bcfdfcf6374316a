//! Who holds a token, against whichever server `WEIR_TEST_KUBECONFIG` names, else ours.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weir_kube::TokenReviewer;
use weir_model::TrustDomain;
use weir_rpc::{Caller, Credential, Unproven, Verify};
use weir_tests_kube::{Ground, things};

/// The audience of agents' tokens.
const AUDIENCE: &str = "istio-ca";

fn reviewer(ground: &Ground) -> TokenReviewer {
    TokenReviewer::new(ground.client.clone(), TrustDomain::default(), vec![AUDIENCE.to_owned()])
}

/// What a refusal says.
fn refusal(answer: Result<Caller, Unproven>) -> Result<String> {
    match answer {
        Err(Unproven::Refused(why)) => Ok(why),
        Err(unavailable @ Unproven::Unavailable(_)) => Err(unavailable.into()),
        Ok(caller) => bail!("it was accepted as {caller:?}"),
    }
}

/// A real server names the account, and for a token bound to a pod the pod and its node.
#[tokio::test]
async fn a_token_of_a_pod_proves_account_pod_and_node() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let nodes = Api::<Node>::all(ground.client.clone());
    things::make(&nodes, json!({"metadata": {"name": namespace}})).await?;
    things::pod_on(&ground.client, &namespace, "p", "10.0.0.1", &namespace).await?;
    let bound = things::token(&ground.client, &namespace, "app", AUDIENCE, Some("p")).await?;
    let caller = reviewer(&ground).verify(&bound).await?;
    assert_eq!(caller.identity.to_string(), format!("spiffe://cluster.local/ns/{namespace}/sa/app"));
    assert_eq!(caller.node.as_ref().map(|node| node.as_str()), Some(namespace.as_str()));
    assert_eq!((caller.pod.as_deref(), caller.credential), (Some("p"), Credential::Token));

    let free = things::token(&ground.client, &namespace, "app", AUDIENCE, None).await?;
    let caller = reviewer(&ground).verify(&free).await?;
    assert_eq!((caller.node, caller.pod), (None, None), "no pod, no node");
    things::delete(&nodes, &namespace).await?;
    ground.clean().await
}

/// A real server refuses what is meant for somebody else, what it never gave out, and what is no token at all.
#[tokio::test]
async fn a_token_for_others_and_garbage_prove_nothing() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    things::account(&ground.client, &namespace, "app").await?;
    let other = things::token(&ground.client, &namespace, "app", "vault", None).await?;
    let own = things::token(&ground.client, &namespace, "app", "", None).await?;
    let good = things::token(&ground.client, &namespace, "app", AUDIENCE, None).await?;
    let reviewer = reviewer(&ground);
    reviewer.verify(&good).await?;
    let cut = &good[..good.len() - 1];
    for token in [other.as_str(), &own, cut, "garbage", "", &"x".repeat(100_000)] {
        refusal(reviewer.verify(token).await).with_context(|| format!("token of {} bytes", token.len()))?;
    }
    ground.clean().await
}

/// A real server gives up a token with the pod it is bound to, and says that it has been invalidated; a token it has just seen
/// it may accept for ten seconds more.
#[tokio::test]
async fn a_token_of_a_deleted_pod_is_refused() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    things::pod(&ground.client, &namespace, "p", "10.0.0.1").await?;
    let token = things::token(&ground.client, &namespace, "app", AUDIENCE, Some("p")).await?;
    reviewer(&ground).verify(&token).await?;
    let pods = Api::<Pod>::namespaced(ground.client.clone(), &namespace);
    things::delete(&pods, "p").await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let why = loop {
        match reviewer(&ground).verify(&token).await {
            Ok(_) if Instant::now() < deadline => sleep(Duration::from_millis(200)).await,
            answer => break refusal(answer)?,
        }
    };
    assert!(why.contains("invalidated"), "{why}");
    // Another pod of the name is another pod.
    things::pod(&ground.client, &namespace, "p", "10.0.0.2").await?;
    refusal(reviewer(&ground).verify(&token).await)?;
    ground.clean().await
}

/// A token ends with its time. Only our own server can be told to end it now: a real one gives none for less than ten minutes.
#[tokio::test]
async fn a_token_that_has_expired_is_refused_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let namespace = ground.namespace().await?;
    things::account(&ground.client, &namespace, "app").await?;
    let token = things::token(&ground.client, &namespace, "app", AUDIENCE, None).await?;
    ground.server.as_ref().context("it is ours")?.expire_tokens();
    let why = refusal(reviewer(&ground).verify(&token).await)?;
    assert!(why.contains("expired"), "{why}");
    Ok(())
}

/// A good answer counts for a moment, so that a thousand calls are not a thousand reviews; a bad one never does, and one
/// that did not come is nobody's fault.
#[tokio::test]
async fn only_good_answers_are_remembered_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let namespace = ground.namespace().await?;
    things::account(&ground.client, &namespace, "app").await?;
    let token = things::token(&ground.client, &namespace, "app", AUDIENCE, None).await?;
    let reviewer = reviewer(&ground);
    refusal(reviewer.verify("garbage").await)?;
    let first = reviewer.verify(&token).await?;
    ground.server.as_ref().context("it is ours")?.faults().go_down();
    assert_eq!(reviewer.verify(&token).await?, first);
    assert!(matches!(reviewer.verify("garbage").await, Err(Unproven::Unavailable(_))));
    Ok(())
}
