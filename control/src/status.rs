//! What became of each policy, said in its status and in the log.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use weir_compile::{Compiler, ConditionKind, PolicyStatus};
use weir_kube::{Client, Condition, Error, Leadership, conditions_set};
use weir_manifest::{Kind, ObjectKey};

/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

type All = BTreeMap<ObjectKey, Arc<PolicyStatus>>;

/// What is to be said of each policy now.
#[derive(Debug, Default)]
pub(crate) struct Statuses {
    all: Mutex<All>,
    changed: Notify,
}

impl Statuses {
    /// Takes over what changed, and says in the log what is not as its author wrote it.
    pub(crate) fn take(&self, compiler: &mut Compiler) {
        let changed = compiler.take_statuses();
        if changed.is_empty() {
            return;
        }
        let mut all = self.all();
        for (key, now) in changed {
            let Some(now) = now else {
                all.remove(&key);
                continue;
            };
            let was = all.get(&key).is_none_or(|before| before.is_as_written());
            match (was, now.is_as_written()) {
                (_, false) => tracing::warn!("not enforced as written: {now}"),
                (false, true) => tracing::info!("enforced as written now: {now}"),
                (true, true) => tracing::debug!("enforced as written: {now}"),
            }
            all.insert(key, Arc::new(now));
        }
        drop(all);
        self.changed.notify_one();
    }

    /// Those of policies that are not enforced as they were written.
    pub(crate) fn not_as_written(&self) -> Vec<Arc<PolicyStatus>> {
        self.all().values().filter(|one| !one.is_as_written()).cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the statuses into the cluster, as long as we lead, until `ended`. One is written when we come to lead and when it changes: what
/// somebody else makes of it in between is left to them, lest two write over each other for ever.
pub(crate) async fn write(
    client: Client,
    mut leadership: Leadership,
    statuses: Arc<Statuses>,
    ended: impl Future<Output = ()>,
) {
    let writing = async {
        loop {
            leadership.gained().await;
            let mut done = All::new();
            while leadership.is_leader() {
                let failed = round(&client, &leadership, &statuses, &mut done).await;
                let retry = Instant::now() + RETRY;
                tokio::select! {
                    () = leadership.lost() => {}
                    () = statuses.changed.notified() => {}
                    () = sleep_until(retry), if failed => {}
                }
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = writing => {}
    }
}

/// Writes what is not done. Answers whether it is to be tried again.
async fn round(client: &Client, leadership: &Leadership, statuses: &Statuses, done: &mut All) -> bool {
    let wanted = statuses.all().clone();
    done.retain(|key, _| wanted.contains_key(key));
    let mut failed = false;
    for (key, status) in wanted {
        if done.get(&key) == Some(&status) || !leadership.is_leader() {
            continue;
        }
        match say(client, &key, &status).await {
            Ok(()) => drop(done.insert(key, status)),
            Err(error) => {
                let kind = &key.kind;
                let (namespace, name) = (&status.namespace, &status.name);
                tracing::warn!(%kind, namespace, name, %error, "its status cannot be written; trying again");
                failed = true;
            }
        }
    }
    failed
}

async fn say(client: &Client, key: &ObjectKey, status: &PolicyStatus) -> Result<(), Error> {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == &*key.kind) else { return Ok(()) };
    let conditions: Vec<Condition> = status
        .conditions
        .iter()
        .map(|one| Condition {
            kind: one.kind.as_str(),
            holds: one.holds,
            reason: one.reason.as_str(),
            message: one.message.clone(),
            generation: status.generation,
        })
        .collect();
    let ours = ConditionKind::ALL.map(ConditionKind::as_str);
    match conditions_set(client, kind, key, &ours, &conditions).await {
        // It is gone, and that will be heard.
        Err(error) if error.status() == Some(404) => Ok(()),
        result => result.map(drop),
    }
}
