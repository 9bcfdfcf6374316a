//! The roots, told to every namespace: ConfigMap `istio-ca-root-cert`, as workloads of Istio expect it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use weir_kube::{Client, ConfigMaps, Error, Leadership, MapChange};
use weir_model::Namespace;

/// The ConfigMap, and its key.
const NAME: &str = "istio-ca-root-cert";
const KEY: &str = "root-cert.pem";
/// How often all of them are looked at, whatever was heard of them.
const AUDIT: Duration = Duration::from_secs(600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How soon what somebody changed is put back: at first, and when it is changed again and again. It may be another control plane that
/// puts back its own, and the two are not to keep the API server busy.
const REPAIR: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Publishes `bundle` in all of `namespaces`, as long as we lead, until `ended`.
pub(crate) async fn publish(
    client: Client,
    leadership: Leadership,
    bundle: watch::Receiver<Arc<str>>,
    namespaces: watch::Receiver<Arc<BTreeSet<Namespace>>>,
    ended: impl Future<Output = ()>,
) {
    let (done, repairs) = (BTreeSet::new(), Repairs::default());
    let mut publisher = Publisher { client, leadership, bundle, namespaces, done, repairs };
    tokio::select! {
        () = ended => {}
        () = publisher.run() => {}
    }
}

struct Publisher {
    client: Client,
    leadership: Leadership,
    bundle: watch::Receiver<Arc<str>>,
    namespaces: watch::Receiver<Arc<BTreeSet<Namespace>>>,
    /// Where it is as it should be.
    done: BTreeSet<Namespace>,
    repairs: Repairs,
}

/// How often something had to be put back lately.
#[derive(Debug, Default)]
struct Repairs {
    /// When the last was, and how long it was waited for.
    last: Option<(Instant, Duration)>,
}

impl Repairs {
    /// When to repair what was found wrong now.
    fn next(&mut self, now: Instant) -> Instant {
        let pause = match self.last {
            // It did not last.
            Some((at, pause)) if now < at + 4 * pause => (pause * 2).min(REPAIR.1),
            Some(_) | None => REPAIR.0,
        };
        let at = now + pause;
        self.last = Some((at, pause));
        at
    }
}

/// Nobody knows any more what to publish.
struct Over;

impl Publisher {
    async fn run(&mut self) {
        loop {
            self.leadership.gained().await;
            self.done.clear();
            let mut maps = ConfigMaps::start(self.client.clone(), NAME);
            let mut audit = Instant::now() + AUDIT;
            while self.leadership.is_leader() {
                let failed = self.round().await;
                let wake = if failed { audit.min(Instant::now() + RETRY) } else { audit };
                if self.wait(&mut maps, wake).await.is_err() {
                    return;
                }
                if Instant::now() >= audit {
                    self.done.clear();
                    audit = Instant::now() + AUDIT;
                }
            }
        }
    }

    /// Publishes where it is not done. Answers whether it is to be tried again.
    async fn round(&mut self) -> bool {
        let (roots, wanted) = (self.bundle.borrow_and_update().clone(), self.namespaces.borrow_and_update().clone());
        self.done.retain(|namespace| wanted.contains(namespace));
        let data: BTreeMap<String, String> = [(KEY.to_owned(), roots.to_string())].into();
        let mut failed = false;
        for namespace in wanted.iter() {
            if self.done.contains(namespace) || !self.leadership.is_leader() {
                continue;
            }
            match weir_kube::config_map_apply(&self.client, namespace, NAME, &data).await {
                Ok(_) => drop(self.done.insert(namespace.clone())),
                Err(error) if is_ending(&error) => drop(self.done.insert(namespace.clone())),
                Err(error) => {
                    tracing::warn!(%namespace, %error, "the roots cannot be published; trying again");
                    failed = true;
                }
            }
        }
        failed
    }

    /// Until there is something to do, at `wake` at the latest.
    async fn wait(&mut self, maps: &mut ConfigMaps, mut wake: Instant) -> Result<(), Over> {
        let mut undone = false;
        loop {
            tokio::select! {
                () = self.leadership.lost() => return Ok(()),
                () = sleep_until(wake) => return Ok(()),
                changed = self.bundle.changed() => {
                    self.done.clear();
                    return changed.map_err(|_| Over);
                }
                changed = self.namespaces.changed() => return changed.map_err(|_| Over),
                change = maps.next() => {
                    let namespace = change.namespace.clone();
                    if self.is_undone_by(change) && !undone {
                        undone = true;
                        wake = wake.min(self.repairs.next(Instant::now()));
                        tracing::warn!(%namespace, "somebody changed or deleted the roots; they are put back");
                    }
                }
            }
        }
    }

    /// Whether the change made something wrong that was done.
    fn is_undone_by(&mut self, change: MapChange) -> bool {
        let MapChange { namespace, data } = change;
        let right = data.is_some_and(|data| data.get(KEY).is_some_and(|roots| **roots == **self.bundle.borrow()));
        if right {
            self.done.insert(namespace);
            return false;
        }
        self.done.remove(&namespace)
    }
}

/// Whether the namespace is being deleted, or gone: nothing can be made in it.
fn is_ending(error: &Error) -> bool {
    match error {
        Error::Status { code: 404, .. } => true,
        Error::Status { code: 403, message, .. } => message.contains("being terminated"),
        Error::Status { .. }
        | Error::Config { .. }
        | Error::Unreachable { .. }
        | Error::Slow { .. }
        | Error::TooLarge { .. }
        | Error::Malformed { .. }
        | Error::TooMany { .. }
        | Error::Incomplete { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_undoes_it_again_and_again_is_answered_ever_more_slowly() {
        let (mut repairs, start) = (Repairs::default(), Instant::now());
        let (mut now, mut waits) = (start, Vec::new());
        for _ in 0..12 {
            let at = repairs.next(now);
            waits.push(at.duration_since(now).as_secs());
            // Undone at once.
            now = at;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        let later = now + 4 * REPAIR.1;
        assert_eq!(repairs.next(later), later + REPAIR.0, "after a while of peace");
    }
}
