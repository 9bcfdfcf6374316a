//! The mesh's roots in the webhook's configuration, so that API servers believe who answers them.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use weir_kube::{Applied, Client, Leadership};

/// The configuration, as `deploy/base/webhook.yaml` has it.
const NAME: &str = "weir-validator";
/// How often it is looked at: somebody may have applied it again, without roots.
const AUDIT: Duration = Duration::from_secs(15);

/// Writes the roots there, as long as we lead, until `ended`.
pub(crate) async fn trust(
    client: Client,
    mut leadership: Leadership,
    mut bundle: watch::Receiver<Arc<str>>,
    ended: impl Future<Output = ()>,
) {
    let trusting = async {
        let mut complaint = None;
        loop {
            leadership.gained().await;
            while leadership.is_leader() {
                let roots = bundle.borrow_and_update().clone();
                let now = match weir_kube::webhook_trust(&client, NAME, &roots).await {
                    Ok(Some(Applied::Changed)) => {
                        tracing::info!(name = NAME, "API servers trust the webhook by the roots of now");
                        None
                    }
                    Ok(Some(Applied::Same) | None) => None,
                    Err(error) => Some(error.to_string()),
                };
                if let Some(why) = now.as_ref().filter(|why| complaint.as_ref() != Some(*why)) {
                    tracing::warn!(name = NAME, why, "the webhook's roots cannot be written; trying again");
                }
                complaint = now;
                let next = Instant::now() + AUDIT;
                tokio::select! {
                    () = leadership.lost() => {}
                    () = sleep_until(next) => {}
                    changed = bundle.changed() => if changed.is_err() { return },
                }
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = trusting => {}
    }
}
