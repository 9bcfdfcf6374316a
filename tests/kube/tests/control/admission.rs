//! The validating webhook, asked as an API server asks: over TLS, by whom the roots in its configuration are all that is trusted.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration as Configuration;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use weir_tests_kube::{Control, SERVING_NAME, eventually};

use crate::scene::{Scene, deploy};

const WEBHOOK: &str = include_str!("../../../../deploy/base/webhook.yaml");
const NAME: &str = "weir-validator";
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A webhook that runs, and what its configuration says of it.
struct Webhook {
    control: Control,
    address: SocketAddr,
    roots: Vec<u8>,
}

async fn start(scene: &Scene, address: &str) -> Result<Webhook> {
    deploy(&scene.client(), WEBHOOK).await?;
    let control = scene.control(&[&format!("--webhook-addr={address}")]).await?;
    let said = control.says(&["API servers are answered here"]).await?;
    let address = said.split("address=").nth(1).and_then(|rest| rest.split(' ').next()).context("no address")?;
    let address = address.trim_matches('"').parse()?;
    let roots = trusted(scene).await?;
    Ok(Webhook { control, address, roots })
}

/// The roots of the configuration, once all its webhooks have the same.
async fn trusted(scene: &Scene) -> Result<Vec<u8>> {
    let all = Api::<Configuration>::all(scene.client());
    eventually("roots in the configuration", || async {
        let webhooks = all.get(NAME).await?.webhooks.context("no webhooks")?;
        let bundles: Option<Vec<_>> = webhooks.into_iter().map(|one| one.client_config.ca_bundle).collect();
        Ok(bundles
            .filter(|all| all.iter().all(|one| one.0.starts_with(b"-----BEGIN") && *one == all[0]))
            .map(|all| all[0].0.clone()))
    })
    .await
}

impl Webhook {
    /// A request over a connection of its own; the status and the body of its answer.
    async fn request(&self, verb: &str, path: &str, body: &[u8]) -> Result<(u16, String)> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&self.roots) {
            roots.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // What an API server offers.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let asked = async {
            let stream = TcpStream::connect(self.address).await?;
            let mut stream =
                TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(SERVING_NAME)?, stream).await?;
            let head = format!(
                "{verb} {path} HTTP/1.1\r\nHost: {SERVING_NAME}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            // A body that is too large is refused before its end.
            let _sent = stream.write_all(body).await.is_ok();
            let mut answer = Vec::new();
            // Nor is a connection that ends then said farewell to.
            let _ended = stream.read_to_end(&mut answer).await.is_ok();
            let answer = String::from_utf8(answer)?;
            let (head, body) =
                answer.split_once("\r\n\r\n").with_context(|| format!("no end of the head: {answer:?}"))?;
            Ok((head.split(' ').nth(1).context("no status")?.parse()?, body.to_owned()))
        };
        timeout(ANSWER, asked).await.context("no answer")?
    }

    /// What is answered about an object.
    async fn review(&self, object: &Value) -> Result<Value> {
        let version = object["apiVersion"].as_str().context("no version")?;
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u-1", "operation": "CREATE", "dryRun": true, "object": object, "namespace": object["metadata"]["namespace"],
            "kind": {"group": group, "version": version, "kind": object["kind"]},
        }});
        let (status, body) = self.request("POST", "/validate", review.to_string().as_bytes()).await?;
        anyhow::ensure!(status == 200, "{status}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        assert_eq!(answer["response"]["uid"], "u-1", "{answer}");
        Ok(answer["response"].clone())
    }
}

#[tokio::test]
async fn the_webhook_on_our_own_server_is_trusted_and_judges_among_the_objects_of_now() -> Result<()> {
    let scene = Scene::own().await?;
    let webhook = start(&scene, "[::1]:0").await?;
    let space = scene.space.clone();
    let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "shop", "namespace": space}, "spec": {"host": "shop"}});
    let answer = webhook.review(&rule).await?;
    assert_eq!(answer["allowed"], true, "{answer}");
    let warning = answer["warnings"][0].as_str().context("no warning")?;
    assert!(warning.starts_with("[IST0174] spec.host: no service has the host shop"), "{warning}");
    // The service comes, and the warning goes: what is left is that nobody reads its requests.
    scene.service("shop", "app").await?;
    eventually("the service is known", || async {
        let answer = webhook.review(&rule).await?;
        let told = answer["warnings"].to_string();
        Ok((!told.contains("IST0174") && told.contains("WEIR0006")).then_some(()))
    })
    .await?;
    let policy = |rules: Value| {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": space}, "spec": {"rules": rules}})
    };
    // Nobody enforces it as long as the namespace is not in the mesh.
    let right = policy(json!([{"from": [{"source": {"namespaces": ["a"]}}]}]));
    let answer = webhook.review(&right).await?;
    assert!(answer["warnings"][0].as_str().is_some_and(|warning| warning.starts_with("[WEIR0013]")), "{answer}");
    scene.enrol(Some("ambient")).await?;
    eventually("the namespace is known to be in the mesh", || async {
        Ok((webhook.review(&right).await? == json!({"uid": "u-1", "allowed": true})).then_some(()))
    })
    .await?;
    let answer = webhook.review(&policy(json!([{"from": [{"source": {"ipBlock": ["10.0.0.0/8"]}}]}]))).await?;
    let message = answer["status"]["message"].as_str().context("no message")?;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(422)));
    assert!(message.contains("spec.rules[0].from[0].source.ipBlock") && message.contains("ipBlocks"), "{message}");
    let metric = "weir_admission_reviews_total";
    assert_eq!(webhook.control.metric(metric, "verdict=\"refused\"").await?, 1.0);
    assert_eq!(webhook.control.metric(metric, "verdict=\"admitted\"").await?, 1.0);
    let control = webhook.control;
    scene.clean(control).await
}

#[tokio::test]
async fn what_is_no_review_on_our_own_server_is_refused_with_what_was_expected() -> Result<()> {
    let scene = Scene::own().await?;
    let webhook = start(&scene, "127.0.0.1:0").await?;
    let large = vec![b' '; (4 << 20) + 1];
    for (verb, path, body, status, why) in [
        ("GET", "/validate", &b""[..], 405, "expected POST"),
        ("POST", "/mutate", b"{}", 404, "expected /validate"),
        ("POST", "/validate", b"", 400, "no AdmissionReview"),
        ("POST", "/validate", b"[1]", 400, "no AdmissionReview"),
        ("POST", "/validate", &large, 413, "more than 4194304 bytes"),
    ] {
        let (got, text) = webhook.request(verb, path, body).await?;
        assert_eq!(got, status, "{verb} {path}: {text}");
        assert!(text.contains(why), "{verb} {path}: {text}");
    }
    let control = webhook.control;
    scene.clean(control).await
}

/// Whoever applies the file again takes the roots away, and whoever writes others keeps nobody from being trusted for long.
#[tokio::test]
async fn the_roots_on_our_own_server_are_put_back() -> Result<()> {
    let scene = Scene::own().await?;
    let webhook = start(&scene, "[::1]:0").await?;
    let all = Api::<Configuration>::all(scene.client());
    let mut webhooks = serde_json::to_value(all.get(NAME).await?.webhooks)?;
    webhooks[0]["clientConfig"]["caBundle"] = Value::Null;
    webhooks[1]["timeoutSeconds"] = json!(7);
    all.patch(NAME, &PatchParams::default(), &Patch::Merge(&json!({"webhooks": webhooks}))).await?;
    assert_eq!(trusted(&scene).await?, webhook.roots);
    let left = all.get(NAME).await?.webhooks.context("no webhooks")?;
    assert_eq!(left[1].timeout_seconds, Some(7), "what somebody else says stays");
    let control = webhook.control;
    scene.clean(control).await
}
