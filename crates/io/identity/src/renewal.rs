//! The task that renews certificates before they expire.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use crate::{Identities, holder::Slot};

/// How many requests to the issuer may be under way at once.
const AT_ONCE: usize = 8;
/// The longest sleep: a clock that was set forward, or a machine that was suspended, is noticed within it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

impl Identities {
    /// Renews what is due, until `shutdown` is done. One task per process runs this.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let sleep = tokio::time::sleep(self.until_next());
            tokio::select! {
                () = &mut shutdown => return,
                () = self.wake.notified() => {}
                () = sleep => {}
            }
            tokio::select! {
                () = &mut shutdown => return,
                () = self.renew_due() => {}
            }
        }
    }

    fn until_next(&self) -> Duration {
        let now = self.now();
        let wait = |slot: &Arc<Slot>| slot.due().duration_since(now).unwrap_or_default();
        self.all().iter().map(wait).min().unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
    }

    /// A bounded number at a time; dropping this future stops them all.
    async fn renew_due(self: &Arc<Self>) {
        let now = self.now();
        let mut running = JoinSet::new();
        for slot in self.all().into_iter().filter(|slot| slot.due() <= now) {
            if running.len() >= AT_ONCE {
                running.join_next().await;
            }
            let identities = Arc::clone(self);
            running.spawn(async move { identities.renew(&slot).await });
        }
        while running.join_next().await.is_some() {}
    }
}
