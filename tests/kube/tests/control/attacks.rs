//! Whoever asks for more than is theirs is refused, and somebody can see who asked for what.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, KeyPair, SanType};
use tonic::Code;
use weir_identity::Issuer;
use weir_rpc::Channel;
use weir_tests_kube::{Control, dial, eventually, things};
use weir_xds::Mode;

use crate::{
    scene::{Scene, openssl},
    wire::{self, Ask},
};

struct Siege {
    scene: Scene,
    control: Control,
}

impl Siege {
    async fn new() -> Result<Self> {
        let scene = Scene::new().await?;
        scene.pod("p", "app", 1, &["10.1.0.1"]).await?;
        scene.pod("q", "other", 2, &["10.1.0.2"]).await?;
        let control = scene.control(&[]).await?;
        Ok(Self { scene, control })
    }

    /// A connection of whoever shows the token.
    async fn channel(&self, token: Option<&str>) -> Result<Channel> {
        let (roots, file) = (self.scene.folder.path().join("roots"), self.scene.folder.path().join("token"));
        fs::write(&roots, self.scene.roots(&self.scene.space).await?)?;
        // The file is read at each call: each token has its own.
        let file = file.with_extension(format!("{:x}", rand::random::<u64>()));
        if let Some(token) = token {
            fs::write(&file, token)?;
        }
        Ok(dial(self.control.plan.agents, &roots, token.map(|_| file.as_path()))?.connect().await?)
    }

    async fn agent(&self) -> Result<Channel> {
        let token = self.scene.token("agent", "agent-1").await?;
        self.channel(Some(&token)).await
    }

    /// The call is refused by the code, a metric moves, and a line says all of the words.
    async fn refuses(
        &self,
        channel: &Channel,
        (csr, asked): (&str, &str),
        code: Code,
        (metric, label): (&str, &str),
        words: &[&str],
    ) -> Result<()> {
        let before = self.control.metric(metric, label).await?;
        let issued = self.control.metric("citadel_server_success_cert_issuance_count", "").await?;
        let Err(status) = wire::create(channel, csr, Some(asked)).await else {
            anyhow::bail!("{asked} was signed, expected {words:?}");
        };
        ensure!(status.code() == code, "{status:?}, expected {code:?} for {words:?}");
        let after = self.control.metric(metric, label).await?;
        ensure!(after > before, "{metric} {label} did not move for {words:?}");
        let still = self.control.metric("citadel_server_success_cert_issuance_count", "").await?;
        ensure!((still - issued).abs() < 0.5, "something was issued");
        self.control.says(words).await.map(drop)
    }
}

fn csr(name: &str, change: impl FnOnce(&mut CertificateParams) -> Result<()>) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
    change(&mut params)?;
    Ok(params.serialize_request(&KeyPair::generate()?)?.pem()?)
}

const REFUSED: &str = "weir_certificates_refused_total";

/// What a real server says of a token is believed: who, on which node, for whom.
#[tokio::test]
async fn identities_of_others_are_refused() -> Result<()> {
    let mut siege = Siege::new().await?;
    let elsewhere = siege.scene.ground.namespace().await?;
    siege.scene.pod_in(&elsewhere, "p", "app", &siege.scene.node(2), &["10.1.0.9"]).await?;
    let scene = &siege.scene;
    let (agent, own) = (siege.agent().await?, scene.spiffe("app"));
    wire::create(&agent, &csr(&own, |_| Ok(()))?, Some(&own)).await?;

    let who = scene.spiffe("agent");
    let other_namespace = format!("spiffe://cluster.local/ns/{elsewhere}/sa/app");
    let other_domain = own.replace("cluster.local", "evil.example");
    for asked in [scene.spiffe("other"), other_namespace, other_domain, scene.spiffe("nobody")] {
        let request = csr(&asked, |_| Ok(()))?;
        let words = ["a certificate was refused", &who, &asked, "not_entitled", "agent-1"];
        let metric = (REFUSED, "not_entitled");
        siege.refuses(&agent, (&request, &asked), Code::PermissionDenied, metric, &words).await?;
    }
    for asked in ["spiffe://cluster.local", "no identity", ""] {
        let words = ["a certificate was refused", &who, "bad_identity"];
        let metric = (REFUSED, "bad_identity");
        siege.refuses(&agent, (&csr(&own, |_| Ok(()))?, asked), Code::InvalidArgument, metric, &words).await?;
    }
    // A workload is itself, and nobody else of its node.
    let workload = siege.channel(Some(&scene.token("app", "p").await?)).await?;
    wire::create(&workload, &csr(&own, |_| Ok(()))?, Some(&own)).await?;
    let words = ["a certificate was refused", &own, &who, "not_entitled"];
    let request = csr(&who, |_| Ok(()))?;
    siege.refuses(&workload, (&request, &who), Code::PermissionDenied, (REFUSED, "not_entitled"), &words).await?;
    // An agent whose token is bound to no pod is on no node.
    let unbound = things::token(&scene.client(), &scene.space, "agent", "istio-ca", None).await?;
    let unbound = siege.channel(Some(&unbound)).await?;
    let request = csr(&own, |_| Ok(()))?;
    let words = ["a certificate was refused", &who, &own, "not_entitled"];
    siege.refuses(&unbound, (&request, &own), Code::PermissionDenied, (REFUSED, "not_entitled"), &words).await?;
    siege.scene.clean(siege.control).await
}

/// A real server says of tokens that are over, for others, or of deleted pods that they are not good.
#[tokio::test]
async fn tokens_that_prove_nothing_are_refused() -> Result<()> {
    let siege = Siege::new().await?;
    let scene = &siege.scene;
    let own = scene.spiffe("app");
    let request = csr(&own, |_| Ok(()))?;
    let wrong = things::token(&scene.client(), &scene.space, "agent", "vault", Some("agent-1")).await?;
    let (used, unused) = (scene.token("agent", "agent-2").await?, scene.token("agent", "agent-2").await?);
    let replayed = siege.channel(Some(&used)).await?;
    wire::create(&replayed, &csr(&scene.spiffe("other"), |_| Ok(()))?, Some(&scene.spiffe("other"))).await?;
    things::delete(&scene.pods(), "agent-2").await?;
    let metric = ("weir_grpc_unauthenticated_total", "");
    for token in [Some(unused.as_str()), Some(&wrong), Some("garbage"), Some("e30.e30.e30"), None] {
        let channel = siege.channel(token).await?;
        let words = ["a call was refused", "CreateCertificate", "127.0.0.1"];
        siege.refuses(&channel, (&request, &own), Code::Unauthenticated, metric, &words).await?;
        let (code, why) = wire::discover(&channel, vec![Ask::addresses(vec!["*".to_owned()])]).await?;
        assert_eq!(code, Code::Unauthenticated, "{why}");
        siege.control.says(&["a call was refused", "DeltaAggregatedResources"]).await?;
        assert!(token.is_none_or(|token| !siege.control.log().contains(token)), "a token stands in the log");
    }
    // Long enough to be no header, and no token.
    let long = siege.channel(Some(&"x".repeat(20_000))).await?;
    let refused = wire::create(&long, &request, Some(&own)).await.err().context("a token of 20 kB")?;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    // One that was good a moment ago is not for long.
    let other = scene.spiffe("other");
    let refused = eventually("the deleted pod's token is over", || async {
        Ok(wire::create(&replayed, &csr(&other, |_| Ok(()))?, Some(&other)).await.err())
    });
    assert_eq!(refused.await?.code(), Code::Unauthenticated);
    siege.scene.clean(siege.control).await
}

/// Our own server can make time pass.
#[tokio::test]
async fn expired_tokens_are_refused_on_our_own_server() -> Result<()> {
    let scene = Scene::own().await?;
    scene.pod("p", "app", 1, &["10.1.0.1"]).await?;
    let control = scene.control(&[]).await?;
    let siege = Siege { scene, control };
    let token = siege.scene.token("agent", "agent-1").await?;
    let channel = siege.channel(Some(&token)).await?;
    siege.scene.server()?.expire_token(&token);
    let own = siege.scene.spiffe("app");
    let words = ["a call was refused", "CreateCertificate", "expired"];
    let metric = ("weir_grpc_unauthenticated_total", "");
    siege.refuses(&channel, (&csr(&own, |_| Ok(()))?, &own), Code::Unauthenticated, metric, &words).await
}

#[tokio::test]
async fn signing_requests_that_want_more_are_refused() -> Result<()> {
    let siege = Siege::new().await?;
    let scene = &siege.scene;
    let (agent, own, who) = (siege.agent().await?, scene.spiffe("app"), scene.spiffe("agent"));
    let at = |name: &str| scene.folder.path().join(name).display().to_string();
    let (key, file) = (at("weak.key"), at("weak.csr"));
    openssl(&["genrsa", "-out", &key, "512"])?;
    let san = format!("subjectAltName=URI:{own}");
    openssl(&["req", "-new", "-key", &key, "-subj", "/", "-addext", &san, "-out", &file])?;
    let more = |names: &[SanType]| {
        let names = names.to_vec();
        csr(&own, move |params| {
            params.subject_alt_names.extend(names);
            Ok(())
        })
    };
    let mut damaged = csr(&own, |_| Ok(()))?;
    let middle = damaged.len() / 2;
    damaged.replace_range(middle..=middle, if &damaged[middle..=middle] == "A" { "B" } else { "A" });
    for (what, request) in [
        ("another identity", more(&[SanType::URI(scene.spiffe("other").as_str().try_into()?)])?),
        ("a DNS name", more(&[SanType::DnsName("kubernetes.default.svc".try_into()?)])?),
        ("an address", more(&[SanType::IpAddress("10.1.0.1".parse()?)])?),
        ("only another identity", csr(&scene.spiffe("other"), |_| Ok(()))?),
        (
            "a CA",
            csr(&own, |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                // rcgen writes no basic constraints into a request: they are asked for as an extension.
                params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(
                    &[2, 5, 29, 19],
                    vec![0x30, 0x03, 0x01, 0x01, 0xff],
                ));
                params.is_ca = IsCa::NoCa;
                Ok(())
            })?,
        ),
        ("a weak key", fs::read_to_string(&file)?),
        ("a damaged one", damaged),
        ("an oversized one", format!("{}{}", "x".repeat(20 << 10), csr(&own, |_| Ok(()))?)),
        ("garbage", "garbage".to_owned()),
        ("nothing", String::new()),
    ] {
        let words = ["a certificate was refused", &who, &own, "bad_request", "agent-1"];
        let refused = siege.refuses(&agent, (&request, &own), Code::InvalidArgument, (REFUSED, "bad_request"), &words);
        refused.await.context(what)?;
    }
    // Larger than any call may be.
    let huge = "x".repeat(256 << 10);
    let words = ["a certificate was refused", &who, "unreadable"];
    let refused = wire::create(&agent, &huge, Some(&own)).await.err().context("a call of 256 KiB")?;
    assert!(
        matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument),
        "{refused:?}"
    );
    siege.control.says(&words).await?;
    siege.scene.clean(siege.control).await
}

#[tokio::test]
async fn discovery_is_for_agents_and_within_bounds() -> Result<()> {
    let siege = Siege::new().await?;
    let scene = &siege.scene;
    let refused = async || siege.control.metric("weir_xds_refused_total", "").await;
    let workload = siege.channel(Some(&scene.token("app", "p").await?)).await?;
    let before = refused().await?;
    let (code, why) = wire::discover(&workload, vec![Ask::addresses(vec!["*".to_owned()])]).await?;
    assert_eq!(code, Code::PermissionDenied, "{why}");
    assert!(refused().await? > before);
    siege.control.says(&["a subscriber was refused", &scene.spiffe("app")]).await?;

    let agent = siege.agent().await?;
    let who = scene.spiffe("agent");
    let names = |from: usize, count: usize| (from..from + count).map(|n| format!("/10.{n}")).collect::<Vec<_>>();
    let million: Vec<Ask> = (0..100).map(|part| Ask::addresses(names(part * 10_000, 10_000))).collect();
    let nobody = Ask { node: None, ..Ask::addresses(Vec::new()) };
    let other_type =
        Ask { type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(), ..nobody.clone() };
    for (what, requests, want) in [
        ("long names", vec![Ask::addresses(vec!["x".repeat(2048)])], Code::InvalidArgument),
        ("an oversized request", vec![Ask::addresses(vec!["x".repeat(2 << 20)])], Code::ResourceExhausted),
        ("too many at once", vec![Ask::addresses(names(0, 10_001))], Code::ResourceExhausted),
        ("a million in all", million, Code::ResourceExhausted),
        ("nobody", vec![nobody], Code::InvalidArgument),
        ("another type", vec![other_type], Code::InvalidArgument),
    ] {
        let before = refused().await?;
        let (code, why) = wire::discover(&agent, requests).await.context(what)?;
        assert_eq!(code, want, "{what}: {why}");
        assert!(refused().await? > before, "{what} is not counted");
        let start: String = why.chars().take(40).collect();
        siege.control.says(&["a subscriber was refused", &who, start.trim_matches('"')]).await.context(what)?;
    }
    // It serves all the same.
    let mut good = scene.agent(1, &siege.control, Mode::Wildcard).await?;
    good.synced().await?;
    good.ca(Duration::from_secs(600))?.certify(&scene.spiffe("app").parse()?).await?;
    siege.scene.clean(siege.control).await
}
