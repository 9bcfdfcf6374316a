//! An agent gets what its node's pods are entitled to, and openssl agrees that it is what it should be.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use weir_identity::Issuer;
use weir_tests_kube::{eventually, things};
use weir_xds::Mode;

use crate::{
    scene::{Scene, openssl},
    wire,
};

/// A real server's token names the node its pod is bound to.
#[tokio::test]
async fn an_agent_gets_the_identities_of_its_nodes_pods() -> Result<()> {
    let scene = Scene::new().await?;
    scene.pod("p", "app", 1, &["10.1.0.1"]).await?;
    scene.pod("q", "late", 2, &["fd00:1::2"]).await?;
    let control = scene.control(&["--certificate-lifetime=2h", "--longest-lifetime=3h"]).await?;
    let agent = scene.agent(1, &control, Mode::Wildcard).await?;
    let ca = agent.ca(Duration::from_secs(3600))?;
    for account in ["app", "agent"] {
        let identity = scene.spiffe(account).parse()?;
        let certificate = ca.certify(&identity).await?;
        assert_eq!(certificate.identity(), &identity);
        let valid = certificate.not_after().duration_since(std::time::SystemTime::now())?;
        assert!(valid <= Duration::from_secs(3600) && valid > Duration::from_secs(3500), "{valid:?}");
    }
    // A pod of the account comes to the node, and goes.
    let late = scene.spiffe("late").parse()?;
    assert!(ca.certify(&late).await.is_err(), "no pod of it is on this node");
    scene.pod("q1", "late", 1, &["10.1.0.3"]).await?;
    eventually("a pod of it is there", || async { Ok(ca.certify(&late).await.ok()) }).await?;
    things::delete(&scene.pods(), "q1").await?;
    eventually("it is gone again", || async { Ok(ca.certify(&late).await.err()) }).await?;
    // One that has ended is not alive.
    scene.pod("q2", "late", 1, &["10.1.0.4"]).await?;
    eventually("another is there", || async { Ok(ca.certify(&late).await.ok()) }).await?;
    let ended = json!({"status": {"phase": "Succeeded"}});
    scene.pods().patch_status("q2", &PatchParams::default(), &Patch::Merge(&ended)).await?;
    eventually("it has ended", || async { Ok(ca.certify(&late).await.err()) }).await?;

    // By another program's eyes.
    let at = |name: &str| scene.folder.path().join(name).display().to_string();
    let (key, csr, leaf, roots) = (at("k"), at("csr"), at("leaf"), at("roots"));
    openssl(&["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=ignored", "-keyout", &key, "-out", &csr])?;
    let token_file = scene.folder.path().join("token");
    fs::write(&token_file, scene.token("agent", "agent-1").await?)?;
    fs::write(&roots, scene.roots(&scene.space).await?)?;
    let channel = weir_tests_kube::dial(control.plan.agents, roots.as_ref(), Some(&token_file))?.connect().await?;
    let chain = wire::create(&channel, &fs::read_to_string(&csr)?, Some(&scene.spiffe("app"))).await?;
    let (bundle, chain) = chain.split_last().context("an empty chain")?;
    assert_eq!(*bundle, scene.roots(&scene.space).await?, "the roots that are published");
    fs::write(&leaf, chain.concat())?;
    openssl(&["verify", "-x509_strict", "-CAfile", &roots, "-untrusted", &leaf, &leaf])?;
    let shown = openssl(&["x509", "-in", &leaf, "-noout", "-text"])?;
    for part in [
        &format!("URI:{}", scene.spiffe("app")),
        "X509v3 Subject Alternative Name: critical",
        "X509v3 Key Usage: critical\n                Digital Signature",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "CA:FALSE",
    ] {
        assert!(shown.contains(part), "no {part:?} in:\n{shown}");
    }
    assert!(!shown.contains("ignored"), "the subject came from the request:\n{shown}");
    openssl(&["x509", "-in", &leaf, "-noout", "-checkend", "3500"])?;
    assert!(openssl(&["x509", "-in", &leaf, "-noout", "-checkend", "3700"]).is_err(), "longer than asked for");
    control.stop().await?;
    scene.clean(()).await
}
