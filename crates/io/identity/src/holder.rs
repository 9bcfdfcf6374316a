//! The certificates of this node's pods: one per identity, asked for once, read without a lock.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;
use weir_model::SpiffeId;

use crate::{
    Error, Issuer, WorkloadCertificate, WorkloadTls, backoff,
    certificate::unix_seconds,
    error::in_full,
    renew_at,
    tls::no_roots,
    verifier::{MeshRoots, Source},
};

/// How long an issuer may take.
const ISSUER_DEADLINE: Duration = Duration::from_secs(10);

type Slots = HashMap<SpiffeId, Arc<Slot>>;

/// The certificates of this node's pods.
pub struct Identities {
    issuer: Arc<dyn Issuer>,
    clock: fn() -> SystemTime,
    slots: ArcSwap<Slots>,
    /// Whom all of them believe.
    roots: Arc<MeshRoots>,
    /// Held while the set of slots changes.
    change: Mutex<()>,
    /// Rung when something may be due earlier than thought.
    pub(crate) wake: Notify,
    issued: AtomicU64,
    failed: AtomicU64,
}

/// One identity.
pub(crate) struct Slot {
    identity: SpiffeId,
    tls: ArcSwapOption<WorkloadTls>,
    /// Held by whoever asks the issuer: at most one at a time.
    asking: tokio::sync::Mutex<()>,
    plan: Mutex<Plan>,
}

#[derive(Default, Clone)]
struct Plan {
    /// When to ask (again). `None`: at once.
    due: Option<SystemTime>,
    failures: u32,
    last: Option<Arc<Error>>,
}

impl Slot {
    fn new(identity: SpiffeId) -> Self {
        Self { identity, tls: ArcSwapOption::empty(), asking: tokio::sync::Mutex::default(), plan: Mutex::default() }
    }

    fn plan(&self) -> Plan {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_plan(&self, plan: Plan) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    fn valid_at(&self, now: SystemTime) -> Option<Arc<WorkloadTls>> {
        self.tls.load_full().filter(|tls| now < tls.not_after())
    }

    /// When to ask the issuer next.
    pub(crate) fn due(&self) -> SystemTime {
        self.plan().due.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl Identities {
    /// Holds what `issuer` gives out.
    pub fn new(issuer: Arc<dyn Issuer>) -> Self {
        Self::with_clock(issuer, SystemTime::now)
    }

    pub(crate) fn with_clock(issuer: Arc<dyn Issuer>, clock: fn() -> SystemTime) -> Self {
        Self {
            issuer,
            clock,
            slots: ArcSwap::default(),
            roots: no_roots(),
            change: Mutex::default(),
            wake: Notify::new(),
            issued: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Believes `roots` as well as those that came with the newest certificate, from the next handshake on and for all identities, until this
    /// is called again. So a root can be believed before anything is renewed, which a rotation needs: its file or ConfigMap is followed by
    /// whoever calls this.
    ///
    /// # Errors
    /// One of them cannot be read; nothing changes.
    pub fn set_roots(&self, roots: &[CertificateDer<'static>]) -> Result<(), Error> {
        self.roots.set(Source::Published, roots).map_err(|reason| Error::Root { reason: Box::new(reason) })
    }

    /// The certificate, if there is one that is valid now. Takes no lock.
    pub fn current(&self, identity: &SpiffeId) -> Option<Arc<WorkloadTls>> {
        self.slots.load().get(identity)?.valid_at(self.now())
    }

    /// The certificate; asks the issuer if there is none that is valid now. Callers at the same time share one request, and
    /// after a failure all get that failure until a retry is due.
    ///
    /// # Errors
    /// The issuer failed, was too slow, or gave a certificate that is not valid now or somebody else's.
    pub async fn fetch(&self, identity: &SpiffeId) -> Result<Arc<WorkloadTls>, Error> {
        if let Some(tls) = self.current(identity) {
            return Ok(tls);
        }
        let slot = self.slot(identity);
        let _one = slot.asking.lock().await;
        let now = self.now();
        if let Some(tls) = slot.valid_at(now) {
            return Ok(tls);
        }
        let plan = slot.plan();
        if let (Some(source), Some(due)) = (plan.last, plan.due)
            && let Ok(retry_in) = due.duration_since(now)
            && !retry_in.is_zero()
        {
            return Err(Error::Unavailable { identity: identity.clone(), retry_in, source });
        }
        self.ask(&slot).await.map_err(|source| {
            let retry_in = slot.due().duration_since(self.now()).unwrap_or_default();
            Error::Unavailable { identity: identity.clone(), retry_in, source }
        })
    }

    /// Forgets every identity that is not among `identities`: no pod of this node runs as it any more.
    pub fn retain(&self, identities: &HashSet<SpiffeId>) {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.slots.load();
        if slots.keys().all(|known| identities.contains(known)) {
            return;
        }
        let kept: Slots = slots.iter().filter(|(id, _)| identities.contains(*id)).map(copied).collect();
        self.slots.store(Arc::new(kept));
    }

    /// What is held, in order of identity. No keys.
    pub fn snapshot(&self) -> Vec<CertificateReport> {
        let now = self.now();
        let mut reports: Vec<_> = self.slots.load().values().map(|slot| report(slot, now)).collect();
        reports.sort_by(|a, b| a.identity.cmp(&b.identity));
        reports
    }

    /// How many certificates were issued since the start.
    pub fn issued(&self) -> u64 {
        self.issued.load(Relaxed)
    }

    /// How many requests to the issuer failed since the start.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.load().values().cloned().collect()
    }

    /// Renews a certificate that is due. A failure is planned for and logged; the old certificate stays while it is valid.
    pub(crate) async fn renew(&self, slot: &Slot) {
        let _one = slot.asking.lock().await;
        if slot.due() > self.now() {
            return; // Somebody fetched it meanwhile.
        }
        if let Err(error) = self.ask(slot).await {
            let state =
                if slot.valid_at(self.now()).is_some() { "the old one is still valid" } else { "there is none" };
            tracing::warn!(identity = %slot.identity, error = in_full(&*error), "certificate not renewed, {state}");
        }
    }

    /// One request to the issuer, by the holder of `asking`.
    async fn ask(&self, slot: &Slot) -> Result<Arc<WorkloadTls>, Arc<Error>> {
        let answer = match tokio::time::timeout(ISSUER_DEADLINE, self.issuer.certify(&slot.identity)).await {
            Ok(answer) => answer.and_then(|certificate| accept(&slot.identity, certificate, &self.roots, self.now())),
            Err(_) => Err(Error::IssuerTimeout { identity: slot.identity.clone(), waited: ISSUER_DEADLINE }),
        };
        match answer {
            Ok(tls) => {
                let tls = Arc::new(tls);
                let due = renew_at(tls.not_before(), tls.not_after(), &mut rand::rng());
                slot.tls.store(Some(tls.clone()));
                slot.set_plan(Plan { due: Some(due), ..Plan::default() });
                self.issued.fetch_add(1, Relaxed);
                self.wake.notify_one();
                tracing::debug!(identity = %slot.identity, serial = tls.serial(), "certificate issued");
                Ok(tls)
            }
            Err(error) => {
                let error = Arc::new(error);
                let failures = slot.plan().failures.saturating_add(1);
                let due = self.now() + backoff(failures, &mut rand::rng());
                slot.set_plan(Plan { due: Some(due), failures, last: Some(error.clone()) });
                self.failed.fetch_add(1, Relaxed);
                self.wake.notify_one();
                Err(error)
            }
        }
    }

    fn slot(&self, identity: &SpiffeId) -> Arc<Slot> {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.slots.load();
        if let Some(slot) = slots.get(identity) {
            return slot.clone();
        }
        let slot = Arc::new(Slot::new(identity.clone()));
        let mut grown: Slots = slots.iter().map(copied).collect();
        grown.insert(identity.clone(), slot.clone());
        self.slots.store(Arc::new(grown));
        slot
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("issuer", &self.issuer)
            .field("held", &self.snapshot())
            .finish_non_exhaustive()
    }
}

fn copied((identity, slot): (&SpiffeId, &Arc<Slot>)) -> (SpiffeId, Arc<Slot>) {
    (identity.clone(), slot.clone())
}

fn accept(
    asked: &SpiffeId,
    certificate: WorkloadCertificate,
    roots: &Arc<MeshRoots>,
    now: SystemTime,
) -> Result<WorkloadTls, Error> {
    if certificate.identity() != asked {
        return Err(Error::WrongIdentity { asked: asked.clone(), found: certificate.identity().clone() });
    }
    if now < certificate.not_before() || now >= certificate.not_after() {
        return Err(Error::NotValidNow {
            identity: asked.clone(),
            not_before: unix_seconds(certificate.not_before()),
            not_after: unix_seconds(certificate.not_after()),
            now: unix_seconds(now),
        });
    }
    WorkloadTls::sharing(&certificate, roots)
}

/// One identity as `config_dump` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateReport {
    /// Who.
    pub identity: SpiffeId,
    /// Serial number, if there ever was a certificate.
    pub serial: Option<String>,
    /// When the certificate begins to be valid.
    pub not_before: Option<SystemTime>,
    /// When it ends to be valid.
    pub not_after: Option<SystemTime>,
    /// Whether it can be used.
    pub state: CertificateState,
    /// Why the last request failed, if it did.
    pub last_failure: Option<String>,
}

/// Whether a certificate can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateState {
    /// Asked for, never there.
    Waiting,
    /// Valid.
    Valid,
    /// It was valid, and is never used any more.
    Expired,
}

impl CertificateState {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Valid => "Valid",
            Self::Expired => "Expired",
        }
    }
}

fn report(slot: &Slot, now: SystemTime) -> CertificateReport {
    let tls = slot.tls.load_full();
    let state = match &tls {
        None => CertificateState::Waiting,
        Some(tls) if now < tls.not_after() => CertificateState::Valid,
        Some(_) => CertificateState::Expired,
    };
    CertificateReport {
        identity: slot.identity.clone(),
        serial: tls.as_ref().map(|tls| tls.serial().to_owned()),
        not_before: tls.as_ref().map(|tls| tls.not_before()),
        not_after: tls.as_ref().map(|tls| tls.not_after()),
        state,
        last_failure: slot.plan().last.map(|error| in_full(&*error)),
    }
}

#[cfg(test)]
mod tests;
