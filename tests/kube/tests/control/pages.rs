//! What people and programs may look at.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use weir_identity::Issuer;
use weir_tests_kube::eventually;
use weir_xds::{Kind, Mode};

use crate::scene::Scene;

#[tokio::test]
async fn the_pages_say_who_is_served_what() -> Result<()> {
    let scene = Scene::new().await?;
    scene.pod("p", "app", 1, &["10.1.0.1"]).await?;
    let control = scene.control(&[]).await?;
    let (mut all, mut some) =
        (scene.agent(1, &control, Mode::Wildcard).await?, scene.agent(2, &control, Mode::OnDemand).await?);
    all.synced().await?;
    some.demand(&scene.uid("p"))?;
    some.synced().await?;
    let uid = scene.uid("p");
    some.until("what it demanded", |agent| agent.workloads.contains_key(&uid)).await?;
    let addresses = Kind::Address.type_url();
    let page = eventually("both are in sync", || async {
        let page = control.page("/debug/syncz").await?;
        let agents = page.as_array().cloned().context("no list")?;
        let synced = agents.iter().filter(|one| one["types"][addresses]["inSync"] == true).count();
        Ok((synced == 2).then_some(agents))
    })
    .await?;
    let nodes: BTreeSet<_> = page.iter().filter_map(|one| one["node"].as_str()).collect();
    assert_eq!(nodes, BTreeSet::from([scene.node(1).as_str(), scene.node(2).as_str()]));
    for one in &page {
        assert_eq!(one["identity"], scene.spiffe("agent").as_str(), "{one}");
        assert_eq!(one["istiod"], "weir-control", "{one}");
        let everything = one["types"][addresses]["subscribed"] == "*";
        assert_eq!(everything, one["node"] == scene.node(1).as_str(), "{one}");
    }
    let page = control.page("/debug/configz").await?;
    let spaces = page["namespaces"].as_array().context("no namespaces")?;
    assert!(spaces.iter().any(|one| one == scene.space.as_str()), "{page}");
    assert!(page["resources"][addresses].as_u64().context("no count")? >= 3, "{page}");
    assert_eq!(page["notFollowed"].as_object().map(serde_json::Map::len), Some(0), "{page}");
    drop((all, some));
    eventually("nobody is left", || async {
        Ok(control.page("/debug/syncz").await?.as_array().is_some_and(Vec::is_empty).then_some(()))
    })
    .await?;
    scene.clean(control).await
}

/// As `promtool check metrics` would have them, but for the names that are istiod's.
#[tokio::test]
async fn the_metrics_are_well_formed() -> Result<()> {
    let scene = Scene::own().await?;
    let control = scene.control(&[]).await?;
    let mut agent = scene.agent(1, &control, Mode::Wildcard).await?;
    agent.synced().await?;
    agent.ca(std::time::Duration::from_secs(60))?.certify(&scene.spiffe("agent").parse()?).await?;
    let text = eventually("it is counted", || async {
        let text = control.metrics().await?;
        Ok(text.contains("citadel_server_success_cert_issuance_count 1").then_some(text))
    })
    .await?;
    let (mut kinds, mut helped, mut series) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT")) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a type")?;
            ensure!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            helped.insert(rest.split(' ').next().context("a name")?.to_owned());
        } else {
            let (one, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            value.parse::<f64>().with_context(|| line.to_owned())?;
            ensure!(series.insert(one.to_owned()), "{one} twice");
            let name = one.split('{').next().unwrap_or_default();
            let legal = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            ensure!(legal && !name.starts_with(|c: char| c.is_ascii_digit()), "{name}");
            let parts = ["_bucket", "_sum", "_count", "_total", ""];
            let family =
                parts.iter().find_map(|part| name.strip_suffix(part).filter(|family| kinds.contains_key(*family)));
            let family = family.with_context(|| format!("{name} has no type"))?;
            ensure!(helped.contains(family), "{family} has no help");
            let counter = kinds[family] == "counter";
            let istiods = ["citadel_", "pilot_"].iter().any(|prefix| name.starts_with(prefix));
            ensure!(!counter || name.ends_with("_total") || istiods, "{name} counts, but not as _total");
        }
    }
    for name in [
        "pilot_xds",
        "pilot_xds_pushes",
        "pilot_proxy_convergence_time_count",
        "citadel_server_csr_count",
        "citadel_server_root_cert_expiry_timestamp",
        "weir_leader",
    ] {
        ensure!(series.iter().any(|one| one.split('{').next() == Some(name)), "no {name} in:\n{text}");
    }
    Ok(())
}
