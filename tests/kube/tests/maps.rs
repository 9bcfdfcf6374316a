//! ConfigMaps of one name, followed: whatever goes wrong, the last thing told of each is what it is. On our own server, which is told what goes wrong.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;
use weir_kube::{ConfigMaps, MapChange};
use weir_tests_kube::{Ground, things};

/// What was told last of each namespace, until it is as `want` says.
async fn told(
    maps: &mut ConfigMaps,
    last: &mut BTreeMap<String, Option<String>>,
    want: &[(&str, Option<&str>)],
) -> Result<()> {
    let so = |last: &BTreeMap<String, Option<String>>| {
        want.iter().all(|(namespace, value)| last.get(*namespace).is_some_and(|told| told.as_deref() == *value))
    };
    while !so(last) {
        let next = timeout(Duration::from_secs(30), maps.next()).await;
        let MapChange { namespace, data } = next.with_context(|| format!("{last:?}, expected {want:?}"))?;
        last.insert(namespace.to_string(), data.map(|mut data| data.remove("k").unwrap_or_default()));
    }
    Ok(())
}

#[tokio::test]
async fn what_becomes_of_a_config_map_is_told_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let (one, two) = (ground.namespace().await?, ground.namespace().await?);
    let of = |namespace: &str| Api::<ConfigMap>::namespaced(ground.client.clone(), namespace);
    let object = |name: &str, value: &str| json!({"metadata": {"name": name}, "data": {"k": value}});
    let set = |value: &str| Patch::Merge(json!({"data": {"k": value}}));
    things::make(&of(&one), object("roots", "a")).await?;
    things::make(&of(&one), object("other", "not told")).await?;
    let (mut maps, mut last) = (ConfigMaps::start(ground.client.clone(), "roots"), BTreeMap::new());
    told(&mut maps, &mut last, &[(&one, Some("a"))]).await?;
    things::make(&of(&two), object("roots", "b")).await?;
    told(&mut maps, &mut last, &[(&two, Some("b"))]).await?;
    of(&two).patch("roots", &PatchParams::default(), &set("c")).await?;
    things::make(&of(&two), object("other", "not told")).await?;
    things::delete(&of(&one), "roots").await?;
    told(&mut maps, &mut last, &[(&two, Some("c")), (&one, None)]).await?;

    // Unheard: told by the next watch; and when the server has forgotten, by a new list.
    let server = ground.server.as_ref().context("it is ours")?;
    for forgets in [false, true] {
        server.faults().silence_watches();
        things::make(&of(&one), object("roots", "d")).await?;
        things::delete(&of(&two), "roots").await?;
        if forgets {
            server.compact();
        }
        server.faults().drop_watches();
        told(&mut maps, &mut last, &[(&one, Some("d")), (&two, None)]).await?;
        things::delete(&of(&one), "roots").await?;
        things::make(&of(&two), object("roots", "e")).await?;
        told(&mut maps, &mut last, &[(&one, None), (&two, Some("e"))]).await?;
        // Away for a while.
        server.faults().go_down();
        server.faults().come_back();
    }
    of(&two).patch("roots", &PatchParams::default(), &set("f")).await?;
    told(&mut maps, &mut last, &[(&two, Some("f"))]).await?;
    assert!(last.values().all(|value| value.as_deref() != Some("not told")), "{last:?}");
    Ok(())
}
