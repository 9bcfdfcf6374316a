//! The roots, told to every namespace: ConfigMap `istio-ca-root-cert`, as workloads of Istio expect it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use weir_kube::{Client, Leadership};
use weir_model::Namespace;

/// The ConfigMap, and its key.
const NAME: &str = "istio-ca-root-cert";
const KEY: &str = "root-cert.pem";
/// How often all of them are looked at: somebody may have changed one.
const AUDIT: Duration = Duration::from_secs(600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Publishes `bundle` in all of `namespaces`, as long as we lead, until `ended`.
pub(crate) async fn publish(
    client: Client,
    mut leadership: Leadership,
    mut bundle: watch::Receiver<Arc<str>>,
    mut namespaces: watch::Receiver<Arc<BTreeSet<Namespace>>>,
    ended: impl Future<Output = ()>,
) {
    let mut ended = std::pin::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            () = leadership.gained() => {}
        }
        let mut done: BTreeSet<Namespace> = BTreeSet::new();
        let mut audit = Instant::now() + AUDIT;
        while leadership.is_leader() {
            let (roots, wanted) = (bundle.borrow_and_update().clone(), namespaces.borrow_and_update().clone());
            done.retain(|namespace| wanted.contains(namespace));
            let data = [(KEY.to_owned(), roots.to_string())].into();
            let mut failed = false;
            for namespace in wanted.iter() {
                if done.contains(namespace) || !leadership.is_leader() {
                    continue;
                }
                match weir_kube::config_map_apply(&client, namespace, NAME, &data).await {
                    Ok(_) => drop(done.insert(namespace.clone())),
                    // The namespace is being deleted: nothing can be made in it.
                    Err(error) if matches!(error.status(), Some(403 | 404)) => drop(done.insert(namespace.clone())),
                    Err(error) => {
                        tracing::warn!(%namespace, %error, "the roots cannot be published; trying again");
                        failed = true;
                    }
                }
            }
            let wake = if failed { Instant::now() + RETRY } else { audit };
            tokio::select! {
                () = &mut ended => return,
                () = leadership.lost() => {}
                changed = bundle.changed() => {
                    if changed.is_err() { return }
                    done.clear();
                }
                changed = namespaces.changed() => if changed.is_err() { return },
                () = sleep_until(wake) => if wake == audit {
                    done.clear();
                    audit = Instant::now() + AUDIT;
                },
            }
        }
    }
}
