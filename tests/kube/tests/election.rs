//! Elections, against whichever server `WEIR_TEST_KUBECONFIG` names, else ours. A real server decides between two writers by the
//! version each has read: the slower one is told 409.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use weir_kube::{Election, ElectionOptions, Leadership};
use weir_tests_kube::{Ground, things};

/// How long a change of leaders may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a leader that is not heard of is waited for.
const LEASE: Duration = Duration::from_secs(3);

fn candidate(client: &Client, namespace: &str, identity: &str) -> Election {
    let retry = Duration::from_millis(200);
    let renewal = Duration::from_millis(2200);
    let options = ElectionOptions { lease: LEASE, renewal, retry, ..ElectionOptions::new(namespace, "weir", identity) };
    Election::start(client.clone(), options)
}

/// Looks at all for ever, and ends when two of them lead.
async fn two_lead(all: Vec<Leadership>) {
    while all.iter().filter(|one| one.is_leader()).count() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn leads(mut leadership: Leadership) -> Result<()> {
    timeout(PATIENCE, leadership.gained()).await.context("it never leads")
}

/// One leads; it gives up and the other leads at once; that one is killed and a third leads when the lease is over.
#[tokio::test]
async fn one_of_two_leads_and_another_takes_over_but_never_two_at_once() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let one = candidate(&ground.client, &namespace, "one");
    leads(one.leadership()).await?;
    let two = candidate(&ground.client, &namespace, "two");
    let (first, second) = (one.leadership(), two.leadership());
    let looking = tokio::spawn(two_lead(vec![first.clone(), second.clone()]));
    let stopped = Instant::now();
    one.stop().await;
    assert!(!first.is_leader());
    leads(second.clone()).await?;
    let handed_over = stopped.elapsed();

    let three = candidate(&ground.client, &namespace, "three");
    let looking_again = tokio::spawn(two_lead(vec![first, second, three.leadership()]));
    let killed = Instant::now();
    drop(two);
    leads(three.leadership()).await?;
    let taken_over = killed.elapsed();
    assert!(taken_over > handed_over, "{taken_over:?} after a death, {handed_over:?} after a farewell");
    three.stop().await;
    assert!(!looking.is_finished() && !looking_again.is_finished(), "two leaders");
    let lease = Api::<Lease>::namespaced(ground.client.clone(), &namespace).get("weir").await?;
    let spec = lease.spec.context("a lease without a spec")?;
    assert_eq!(spec.lease_transitions, Some(3));
    assert_eq!(spec.holder_identity, None, "given up");
    ground.clean().await
}

/// Many begin at the same moment: one makes the lease, the others are told that it is there.
#[tokio::test]
async fn of_many_who_begin_at_once_one_leads() -> Result<()> {
    let mut ground = Ground::new().await?;
    let namespace = ground.namespace().await?;
    let all: Vec<Election> = (0..6).map(|i| candidate(&ground.client, &namespace, &format!("c{i}"))).collect();
    let deadline = Instant::now() + PATIENCE;
    let mut leading = 0;
    // Longer than a lease, so that each could have taken over by mistake.
    let mut watched = Instant::now() + 2 * LEASE;
    while Instant::now() < watched {
        ensure!(Instant::now() < deadline, "nobody leads");
        leading = all.iter().filter(|one| one.is_leader()).count();
        ensure!(leading <= 1, "{leading} leaders");
        if leading == 0 {
            watched = Instant::now() + 2 * LEASE;
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(leading, 1);
    for one in all {
        one.stop().await;
    }
    ground.clean().await
}

/// The times in a lease come from another machine's clock, which may be ten minutes off to either side: nobody believes them.
#[tokio::test]
async fn a_clock_that_is_ten_minutes_off_makes_no_second_leader() -> Result<()> {
    let mut ground = Ground::new().await?;
    for renewed in ["2020-01-01T00:00:00.000000Z", "2096-01-01T00:00:00.000000Z"] {
        let namespace = ground.namespace().await?;
        let leases = Api::<Lease>::namespaced(ground.client.clone(), &namespace);
        let seconds = LEASE.as_secs();
        let spec = json!({"holderIdentity": "skewed", "leaseDurationSeconds": seconds, "renewTime": renewed});
        things::make(&leases, json!({"metadata": {"name": "weir"}, "spec": spec})).await?;
        let one = candidate(&ground.client, &namespace, "one");
        let leadership = one.leadership();
        // The other lives: it changes its lease for longer than that lasts.
        let end = Instant::now() + 2 * LEASE;
        let mut transitions = 0;
        while Instant::now() < end {
            transitions += 1;
            let alive = json!({"spec": {"leaseTransitions": transitions}});
            leases.patch("weir", &PatchParams::default(), &Patch::Merge(&alive)).await?;
            ensure!(!leadership.is_leader(), "two leaders, renewed {renewed}");
            sleep(Duration::from_millis(50)).await;
        }
        let died = Instant::now();
        leads(leadership.clone()).await?;
        let waited = died.elapsed();
        assert!(waited + Duration::from_millis(500) > LEASE, "only {waited:?}, renewed {renewed}");
        one.stop().await;
    }
    ground.clean().await
}

/// A leader that cannot renew stops by itself, before another can lead; when the server is back one leads again.
#[tokio::test]
async fn a_leader_cut_off_from_the_server_leads_no_longer_on_our_own_server() -> Result<()> {
    let mut ground = Ground::own().await?;
    let namespace = ground.namespace().await?;
    let one = candidate(&ground.client, &namespace, "one");
    let mut leadership = one.leadership();
    leads(leadership.clone()).await?;
    let faults = ground.server.as_ref().context("it is ours")?.faults();
    faults.go_down();
    let began = Instant::now();
    timeout(PATIENCE, leadership.lost()).await.context("it leads for ever")?;
    assert!(!leadership.is_leader());
    // A lease, and what a busy machine adds.
    assert!(began.elapsed() < LEASE.mul_f64(1.5), "later than another could lead: {:?}", began.elapsed());
    faults.come_back();
    leads(leadership.clone()).await?;
    one.stop().await;
    Ok(())
}
