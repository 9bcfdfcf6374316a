//! The operator plugs in a CA of their own: its root is believed first, then it signs, and nobody fails to prove who it is.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::Instant;
use weir_tests_kube::{PATIENCE, dial, eventually};

use crate::{
    scene::{Scene, openssl},
    wire,
};

/// A root and an intermediate below it, as files of the folder.
fn operators_ca(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let root =
        ["-x509", "-days", "30", "-subj", "/O=operator/CN=root", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    let (root_key, root_cert) = (at("root.key"), at("root-cert.pem"));
    openssl(&[&["req"][..], &ec, &root, &["-keyout", &root_key, "-out", &root_cert]].concat())?;
    let (key, csr, cert) = (at("ca-key.pem"), at("ca.csr"), at("ca-cert.pem"));
    openssl(&[&["req"][..], &ec, &["-subj", "/O=operator/CN=mesh", "-keyout", &key, "-out", &csr]].concat())?;
    let extensions = at("ca.ext");
    fs::write(&extensions, "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n")?;
    let signed =
        ["x509", "-req", "-days", "20", "-in", &csr, "-CA", &root_cert, "-CAkey", &root_key, "-CAcreateserial"];
    openssl(&[&signed[..], &["-extfile", &extensions, "-out", &cert]].concat())?;
    fs::write(at("cert-chain.pem"), fs::read_to_string(&cert)? + &fs::read_to_string(&root_cert)?)?;
    Ok(())
}

/// What an agent was given once.
struct Given {
    chain: String,
    roots: String,
}

impl Given {
    /// Whether whoever believes `roots` takes it.
    fn is_taken(&self, folder: &Path, roots: &str) -> Result<()> {
        let at = |name: &str| folder.join(name).display().to_string();
        let (chain, believed) = (at("given.pem"), at("believed.pem"));
        fs::write(&chain, &self.chain)?;
        fs::write(&believed, roots)?;
        openssl(&["verify", "-x509_strict", "-CAfile", &believed, "-untrusted", &chain, &chain]).map(drop)
    }

    fn issuer(&self, folder: &Path) -> Result<String> {
        let chain = folder.join("given.pem").display().to_string();
        fs::write(&chain, &self.chain)?;
        openssl(&["x509", "-in", &chain, "-noout", "-issuer", "-nameopt", "compat"])
    }
}

/// A real server keeps the operator's Secret; nobody else reads it.
#[tokio::test]
async fn a_ca_that_is_plugged_in_takes_over_without_one_that_fails() -> Result<()> {
    let scene = Scene::new().await?;
    let folder = scene.folder.path();
    // Certificates live for so long, and the new root is out for so long before its CA signs.
    let control = scene.control(&["--longest-lifetime=8s"]).await?;
    let (roots_file, token) = (folder.join("roots"), folder.join("token"));
    let old_roots = scene.roots(&scene.space).await?;
    fs::write(&roots_file, &old_roots)?;
    fs::write(&token, scene.token("agent", "agent-1").await?)?;
    let channel = dial(control.plan.agents, &roots_file, Some(&token))?.connect().await?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&KeyPair::generate()?)?.pem()?;
    let give = async || {
        let chain = wire::create(&channel, &csr, None).await?;
        let (roots, chain) = chain.split_last().context("an empty chain")?;
        Ok::<_, anyhow::Error>(Given { chain: chain.concat(), roots: roots.clone() })
    };
    let first = give().await?;
    first.is_taken(folder, &old_roots)?;

    operators_ca(folder)?;
    let plugged = Api::<Secret>::namespaced(scene.client(), &scene.home);
    let file = |name: &str| Ok::<_, anyhow::Error>((name.to_owned(), ByteString(fs::read(folder.join(name))?)));
    let names = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];
    let mut data = names.into_iter().map(file).collect::<Result<std::collections::BTreeMap<_, _>>>()?;
    // First with a key of somebody else: it is said, and nothing changes.
    let good_key =
        data.insert("ca-key.pem".to_owned(), ByteString(fs::read(folder.join("root.key"))?)).context("a key")?;
    let metadata = ObjectMeta { name: Some("cacerts".to_owned()), ..ObjectMeta::default() };
    plugged.create(&PostParams::default(), &Secret { metadata, data: Some(data), ..Secret::default() }).await?;
    control.says(&["the CA goes on as it is", "key"]).await?;
    assert_eq!(give().await?.issuer(folder)?, first.issuer(folder)?);
    let repair = serde_json::json!({"data": {"ca-key.pem": good_key}});
    plugged.patch("cacerts", &PatchParams::default(), &Patch::Merge(&repair)).await?;

    let operators = fs::read_to_string(folder.join("root-cert.pem"))?;
    // Each lives for a few seconds only: it is compared with the one before it.
    let (mut last, mut believed_first, began) = (give().await?, false, Instant::now());
    loop {
        let now = give().await?;
        // Both ways, whoever of them got theirs a moment ago.
        now.is_taken(folder, &last.roots).context("the new certificate by who has the old roots")?;
        last.is_taken(folder, &now.roots).context("the old certificate by who has the new roots")?;
        let switched = now.issuer(folder)?.contains("mesh");
        let believed = now.roots.matches("BEGIN").count() == 2;
        ensure!(!switched || believed_first, "it signs before its root was published");
        believed_first |= believed && !switched;
        last = now;
        if switched {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "it never signs:\n{}", control.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    last.is_taken(folder, &operators).context("it leads to the operator's root")?;
    eventually("both roots are published", || async {
        let published = scene.roots(&scene.space).await?;
        Ok((published == last.roots && published.contains(operators.trim())).then_some(()))
    })
    .await?;
    // The server shows a certificate of the new CA by now.
    fs::write(&roots_file, &operators)?;
    dial(control.plan.agents, &roots_file, Some(&token))?.connect().await?;
    control.says(&["the next CA's root is published"]).await?;
    control.says(&["the next CA signs"]).await?;
    scene.clean(control).await
}
