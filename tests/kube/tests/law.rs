//! The law of the source: whatever happens, and whatever goes wrong between, a consumer ends up with what the server has, and no event
//! says what was said before. On our own server, which alone can be made to fail so.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use proptest::prelude::*;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weir_kube::Options;
use weir_manifest::{Kind, Object};
use weir_tests_kube::{Forgotten, Ground, Heard, quick, things};

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Step {
    Make(usize),
    Change(usize),
    Delete(usize),
    Break,
    Expire,
    /// The history is compacted and the watches break.
    Forget(Forgotten),
    Tear,
    Silence,
    Bookmark,
    /// The server is away for a moment.
    Away,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..4_usize;
    prop_oneof![
        4 => name.clone().prop_map(Step::Make),
        4 => name.clone().prop_map(Step::Change),
        4 => name.prop_map(Step::Delete),
        1 => Just(Step::Break),
        1 => Just(Step::Expire),
        1 => Just(Step::Forget(Forgotten::Status)),
        1 => Just(Step::Forget(Forgotten::Event)),
        1 => Just(Step::Tear),
        1 => Just(Step::Silence),
        1 => Just(Step::Bookmark),
        1 => Just(Step::Away),
    ]
}

/// Names and addresses of the slices a consumer knows.
fn known(heard: &Heard) -> BTreeMap<String, String> {
    let row = |object: &Object| match object {
        Object::EndpointSlice(slice) => Some((slice.name.to_string(), slice.endpoints[0].addresses[0].to_string())),
        Object::Namespace(_)
        | Object::Node(_)
        | Object::Pod(_)
        | Object::Service(_)
        | Object::Policy(_)
        | Object::Config(_) => None,
    };
    heard.state.values().filter_map(row).collect()
}

async fn follow(steps: Vec<Step>) -> Result<()> {
    let mut ground = Ground::own().await?;
    let namespace = ground.namespace().await?;
    let server = ground.server.as_ref().context("it is ours")?;
    let slices = Api::<EndpointSlice>::namespaced(ground.client.clone(), &namespace);
    let options = Options { silence: Duration::from_millis(200), page: 2, ..quick(&[Kind::EndpointSlice]) };
    let mut heard = Heard::start(ground.client.clone(), &namespace, options);
    for (i, step) in steps.into_iter().enumerate() {
        // Never the same again, so that an event that says what was known is one too many.
        let address = format!("10.0.{}.{}", i / 250, i % 250 + 1);
        match step {
            // Refused when it is there already.
            Step::Make(name) => drop(things::slice(&ground.client, &namespace, &format!("e{name}"), &address).await),
            Step::Change(name) => {
                let patch = Patch::Merge(json!({"endpoints": [{"addresses": [address]}]}));
                drop(slices.patch(&format!("e{name}"), &PatchParams::default(), &patch).await);
            }
            Step::Delete(name) => drop(things::delete(&slices, &format!("e{name}")).await),
            Step::Break => server.faults().drop_watches(),
            Step::Expire => server.faults().expire_watches(),
            Step::Forget(how) => {
                server.faults().forgotten_as(how);
                server.compact();
                server.faults().drop_watches();
            }
            Step::Tear => server.faults().tear_next_event(),
            Step::Silence => server.faults().silence_watches(),
            Step::Bookmark => server.faults().bookmark(),
            Step::Away => {
                server.faults().go_down();
                sleep(Duration::from_millis(20)).await;
                server.faults().come_back();
            }
        }
    }
    let row = |slice: EndpointSlice| (slice.metadata.name.unwrap_or_default(), slice.endpoints[0].addresses[0].clone());
    let deadline = Instant::now() + Duration::from_secs(30);
    // The client may find its connection broken first.
    let there = loop {
        match slices.list(&ListParams::default()).await {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(10)).await,
            list => break list?,
        }
    };
    let mut there: BTreeMap<_, _> = there.items.into_iter().map(row).collect();
    // Hears on until it knows what is there: before a marker, and again after it, since a list tells what is gone last.
    for marked in [false, true] {
        if marked {
            things::slice(&ground.client, &namespace, "last", "10.9.9.9").await?;
            there.insert("last".to_owned(), "10.9.9.9".to_owned());
        }
        while known(&heard) != there {
            ensure!(Instant::now() < deadline, "{:?} is known, {there:?} is there", known(&heard));
            heard.next().await?;
        }
    }
    ensure!(heard.doubled.is_empty(), "said twice: {:?}", heard.doubled);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_nothing_is_lost_and_nothing_said_twice_on_our_own_server(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let followed = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(follow(steps)));
        prop_assert!(followed.is_ok(), "{:#}", followed.unwrap_err());
    }
}
