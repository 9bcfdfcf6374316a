//! One of several leads, as long as it can say so.
//!
//! A Lease of the API server names the leader. No clock of another machine is believed: a candidate takes over only when the record has
//! not changed for a whole lease *while it watched*. A leader believes in itself for a shorter time, counted from before its
//! last renewal was sent. So the old one has stopped before a new one can begin, whatever their clocks show.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{Error, error::within};

/// How long giving up the lease may take at the end.
const RELEASE: Duration = Duration::from_secs(3);

/// Which lease, and how it is held.
#[derive(Debug, Clone)]
pub struct ElectionOptions {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// The candidate, for people: a pod's name. Something random is added, so that a successor of the same name is another one.
    pub identity: String,
    /// How long a leader that is not heard of is waited for. Whole seconds count.
    pub lease: Duration,
    /// How long a leader believes in itself after it began its last renewal. Shorter than `lease`.
    pub renewal: Duration,
    /// Between tries, but for chance.
    pub retry: Duration,
}

impl ElectionOptions {
    /// 15 s, 10 s and 2 s.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease: Duration::from_secs(15),
            renewal: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Whether we lead.
#[derive(Debug, Clone)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
}

impl Leadership {
    /// Whether nobody else can lead now. Ask right before each write.
    pub fn is_leader(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until we lead. Never returns when the election was stopped.
    pub async fn gained(&mut self) {
        while !self.is_leader() {
            if self.until.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until we do not lead.
    pub async fn lost(&mut self) {
        loop {
            let until = *self.until.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else { return };
            tokio::select! {
                () = sleep_until(until) => {}
                changed = self.until.changed() => if changed.is_err() { sleep_until(until).await },
            }
        }
    }
}

/// A candidate, until it is stopped or dropped. Dropped it gives nothing up: the others wait for the lease to end.
pub struct Election {
    leadership: Leadership,
    stop: Option<oneshot::Sender<()>>,
    candidate: JoinHandle<()>,
}

impl Election {
    /// Becomes a candidate. Needs a runtime.
    pub fn start(client: Client, mut options: ElectionOptions) -> Self {
        options.identity = format!("{}_{:016x}", options.identity, rand::random::<u64>());
        // A leader must stop before the others' wait is over, whatever was asked for.
        options.lease = Duration::from_secs(options.lease.as_secs().max(1));
        options.renewal = options.renewal.min(options.lease.mul_f64(0.8));
        let (until, leadership) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let leases = Api::namespaced(client, &options.namespace);
        let candidate = Candidate { leases, options, until, seen: None };
        let candidate = tokio::spawn(candidate.run(stopped));
        Self { leadership: Leadership { until: leadership }, stop: Some(stop), candidate }
    }

    /// Whether we lead, to be asked again and again.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Whether nobody else can lead now.
    pub fn is_leader(&self) -> bool {
        self.leadership.is_leader()
    }

    /// Stops leading, then lets another lead at once.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // Refused when it has ended already.
            let _sent = stop.send(()).is_ok();
        }
        if let Err(error) = (&mut self.candidate).await {
            tracing::error!(%error, "a candidate ended badly");
        }
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.candidate.abort();
    }
}

/// The lease as it was last seen to change.
struct Seen {
    resource_version: Option<String>,
    at: Instant,
}

struct Candidate {
    leases: Api<Lease>,
    options: ElectionOptions,
    until: watch::Sender<Option<Instant>>,
    seen: Option<Seen>,
}

/// How a try ended.
enum Outcome {
    /// We lead, by a renewal that was begun then.
    Leading(Instant),
    /// Another does, or may.
    Following,
}

impl Candidate {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        // Short, so that one lost answer leaves time for another try; longer where the server is that slow, for a slow leader is better than none.
        let first = self.options.renewal.min(self.options.retry * 2);
        let mut patience = first;
        loop {
            let tried = tokio::select! {
                tried = timeout(patience, self.attempt()) => tried,
                // Also when the election was dropped.
                _ = &mut stopped => break,
            };
            patience = if tried.is_ok() { first } else { self.options.renewal.min(patience * 2) };
            match tried {
                Ok(Ok(Outcome::Leading(began))) => self.lead(began),
                // Not ours any more: not a moment longer.
                Ok(Ok(Outcome::Following)) => self.follow(),
                // Nobody knows; what was renewed before counts until its end.
                Ok(Err(error)) => tracing::warn!(lease = self.options.name, %error, "the lease cannot be seen to"),
                Err(_) => tracing::warn!(lease = self.options.name, "the lease cannot be seen to: no answer in time"),
            }
            let chance: f64 = rand::random();
            tokio::select! {
                () = sleep(self.options.retry.mul_f64(chance.mul_add(0.4, 0.8))) => {}
                _ = &mut stopped => break,
            }
        }
        let held = self.until.send_replace(None).is_some();
        if held && timeout(RELEASE, self.release()).await.is_err() {
            tracing::warn!(lease = self.options.name, "the lease was not given up in time; others wait for its end");
        }
    }

    fn lead(&self, began: Instant) {
        let until = began + self.options.renewal;
        let before = self.until.send_replace(Some(until));
        if before.is_none_or(|before| before <= Instant::now()) {
            tracing::info!(lease = self.options.name, identity = self.options.identity, "leads");
        }
    }

    fn follow(&self) {
        if self.until.send_replace(None).is_some() {
            tracing::warn!(lease = self.options.name, "leads no longer");
        }
    }

    async fn attempt(&mut self) -> Result<Outcome, Error> {
        let lease = format!("Lease {}/{}", self.options.namespace, self.options.name);
        let what = |verb: &str| format!("{verb} {lease}");
        let began = Instant::now();
        let lease = self.leases.get_opt(&self.options.name).await;
        let Some(lease) = lease.map_err(|error| Error::of(what("get"), error))? else {
            let made = self.leases.create(&PostParams::default(), &self.claim(None)).await;
            return self.claimed(made, began).map_err(|error| Error::of(what("create"), error));
        };
        let fresh = match &self.seen {
            Some(seen) if seen.resource_version == lease.metadata.resource_version => seen.at,
            Some(_) | None => Instant::now(),
        };
        self.seen = Some(Seen { resource_version: lease.metadata.resource_version.clone(), at: fresh });
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let asked = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let wait = Duration::from_secs(asked.unwrap_or_default()).max(self.options.lease);
        if !holder.is_empty() && holder != self.options.identity && fresh.elapsed() < wait {
            return Ok(Outcome::Following);
        }
        let mine = self.claim(Some(&lease));
        let replaced = self.leases.replace(&self.options.name, &PostParams::default(), &mine).await;
        self.claimed(replaced, began).map_err(|error| Error::of(what("update"), error))
    }

    fn claimed(&mut self, answer: Result<Lease, kube::Error>, began: Instant) -> Result<Outcome, kube::Error> {
        match answer {
            Ok(lease) => {
                let resource_version = lease.metadata.resource_version;
                self.seen = Some(Seen { resource_version, at: Instant::now() });
                Ok(Outcome::Leading(began))
            }
            // Another was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Outcome::Following),
            Err(error) => Err(error),
        }
    }

    /// The lease with us as its holder. The times are for people. A version is kept, so that whoever is slower is told.
    fn claim(&self, before: Option<&Lease>) -> Lease {
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(&self.options.identity);
        let now = MicroTime(Timestamp::now());
        let transitions = spec.lease_transitions.unwrap_or(0);
        let metadata = before.map_or_else(
            || ObjectMeta { name: Some(self.options.name.clone()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        );
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.options.identity.clone()),
                lease_duration_seconds: Some(i32::try_from(self.options.lease.as_secs()).unwrap_or(i32::MAX)),
                acquire_time: if ours { spec.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the lease up, if it is still ours.
    async fn release(&self) {
        let given_up = async {
            let mut lease = self.leases.get(&self.options.name).await?;
            let Some(spec) = &mut lease.spec else { return Ok(()) };
            if spec.holder_identity.as_deref() != Some(&self.options.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            self.leases.replace(&self.options.name, &PostParams::default(), &lease).await.map(drop)
        };
        let what = || format!("release Lease {}/{}", self.options.namespace, self.options.name);
        if let Err(error) = within(RELEASE, what, given_up).await {
            tracing::warn!(%error, "the lease was not given up; others wait for its end");
        }
    }
}
