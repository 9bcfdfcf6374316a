//! Tells the control plane which pods are caught.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::{Instant, sleep_until};
use weir_report::{Caught, Reporter};
use weir_rpc::Dial;
use weir_world::World;

use crate::enrol::{PodState, States, chain};

/// How often it is told again: a control plane that was started anew knows nothing of it.
const AGAIN: Duration = Duration::from_secs(60);
/// Between the first failures; more and more after each, up to `AGAIN`.
const RETRY: Duration = Duration::from_secs(2);

/// Reports until `ended`.
pub(crate) async fn run(dial: Dial, states: States, world: Arc<ArcSwap<World>>, ended: impl Future<Output = ()>) {
    let mut ended = std::pin::pin!(ended);
    let mut reporter = Reporter::new(dial);
    let mut follow = states.follow();
    let mut failures = 0_u32;
    let mut told = None;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = &mut ended => return,
            changed = follow.changed() => if changed.is_err() { return },
            () = sleep_until(next) => told = None,
        }
        if failures > 0 && Instant::now() < next {
            continue;
        }
        let known = states.all();
        let caught = caught(&known, &world.load());
        // Before the node's pods were looked at nothing is known; that none is caught is worth telling, for it may be news.
        if known.is_empty() || told.as_ref() == Some(&caught) {
            next = next.max(Instant::now() + RETRY);
            continue;
        }
        match reporter.report(&caught).await {
            Ok(()) => {
                failures = 0;
                told = Some(caught);
                next = Instant::now() + AGAIN;
            }
            Err(error) => {
                tracing::debug!(reason = %chain(&error), "which pods are caught was not told");
                failures = failures.saturating_add(1);
                told = None;
                next = Instant::now() + RETRY.saturating_mul(1 << failures.min(5)).min(AGAIN);
            }
        }
    }
}

fn caught(states: &BTreeMap<String, PodState>, world: &World) -> BTreeSet<Caught> {
    let enrolled = states.iter().filter(|(_, state)| matches!(state, PodState::Enrolled { .. }));
    let pod = |uid: &String| {
        let workload = world.workload(&uid.parse().ok()?)?;
        Some(Caught {
            namespace: workload.namespace.to_string(),
            name: workload.name.to_string(),
            uid: workload.incarnation.to_string(),
        })
    };
    enrolled.filter_map(|(uid, _)| pod(uid)).collect()
}
