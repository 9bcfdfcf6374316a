//! Holding and renewing, with a paused clock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::*;
use crate::{
    Issuing,
    fixtures::{Authority, HOUR, id, uri},
};

const UI: &str = "spiffe://cluster.local/ns/todo/sa/ui";

thread_local! {
    static START: (SystemTime, Instant) = (SystemTime::now(), Instant::now());
}

/// A wall clock that goes with the runtime's paused one.
fn clock() -> SystemTime {
    START.with(|(wall, instant)| *wall + instant.elapsed())
}

/// Gives out certificates of one hour, unless told to fail, to hang, or to answer for somebody else.
struct Mock {
    authority: Authority,
    asked: AtomicUsize,
    down: AtomicBool,
    hang: AtomicBool,
    wrong: AtomicBool,
    stale: AtomicBool,
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mock")
    }
}

impl Issuer for Mock {
    fn certify<'a>(&'a self, identity: &'a SpiffeId) -> Issuing<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, SeqCst);
            sleep(Duration::from_millis(20)).await;
            if self.hang.load(SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.down.load(SeqCst) {
                return Err(Error::NoCertificate);
            }
            let name = if self.wrong.load(SeqCst) {
                "spiffe://cluster.local/ns/x/sa/y".to_owned()
            } else {
                identity.to_string()
            };
            let now = clock();
            let ends = if self.stale.load(SeqCst) { now - HOUR / 2 } else { now + HOUR };
            let (chain, key) = self.authority.sign(vec![uri(&name)], |p| {
                p.not_before = (now - HOUR).into();
                p.not_after = ends.into();
                if !self.stale.load(SeqCst) {
                    p.not_before = now.into();
                }
            });
            WorkloadCertificate::new(chain, key, vec![self.authority.root()])
        })
    }
}

fn setup() -> (Arc<Mock>, Arc<Identities>) {
    let mock = Arc::new(Mock {
        authority: Authority::new("mesh"),
        asked: AtomicUsize::new(0),
        down: AtomicBool::new(false),
        hang: AtomicBool::new(false),
        wrong: AtomicBool::new(false),
        stale: AtomicBool::new(false),
    });
    (mock.clone(), Arc::new(Identities::with_clock(mock, clock)))
}

#[tokio::test(start_paused = true)]
async fn callers_at_the_same_time_share_one_request() {
    let (mock, identities) = setup();
    assert!(identities.current(&id(UI)).is_none());
    let (ui, other) = (id(UI), id("spiffe://cluster.local/ns/todo/sa/db"));
    let (a, b, c) = tokio::join!(identities.fetch(&ui), identities.fetch(&ui), identities.fetch(&other));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(Arc::ptr_eq(&a, &b) && c.is_ok());
    assert_eq!((mock.asked.load(SeqCst), identities.issued()), (2, 2));
    assert!(Arc::ptr_eq(&identities.current(&ui).unwrap(), &a));
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_is_never_handed_out() {
    let (mock, identities) = setup();
    identities.fetch(&id(UI)).await.unwrap();
    mock.down.store(true, SeqCst);
    sleep(HOUR - Duration::from_secs(5)).await;
    assert!(identities.current(&id(UI)).is_some());
    sleep(Duration::from_secs(10)).await;
    assert!(identities.current(&id(UI)).is_none());
    let error = identities.fetch(&id(UI)).await.unwrap_err();
    assert!(error.to_string().contains(UI), "{error}");
    assert_eq!(identities.snapshot()[0].state, CertificateState::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_until_a_retry_is_due() {
    let (mock, identities) = setup();
    mock.down.store(true, SeqCst);
    for _ in 0..5 {
        assert!(matches!(identities.fetch(&id(UI)).await, Err(Error::Unavailable { .. })));
    }
    assert_eq!((mock.asked.load(SeqCst), identities.failed()), (1, 1));
    let report = identities.snapshot().remove(0);
    assert_eq!(
        (report.state, report.last_failure.as_deref()),
        (CertificateState::Waiting, Some("no certificate was presented"))
    );
    mock.down.store(false, SeqCst);
    sleep(Duration::from_millis(300)).await;
    assert!(identities.fetch(&id(UI)).await.is_ok());
    assert_eq!(identities.snapshot()[0].last_failure, None);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_does_not_answer_is_given_up() {
    let (mock, identities) = setup();
    mock.hang.store(true, SeqCst);
    let began = Instant::now();
    let error = identities.fetch(&id(UI)).await.unwrap_err();
    assert!(began.elapsed() < ISSUER_DEADLINE + Duration::from_secs(1));
    let Error::Unavailable { source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::IssuerTimeout { .. }), "{source:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_somebody_else_or_from_the_past_is_refused() {
    let (mock, identities) = setup();
    mock.wrong.store(true, SeqCst);
    let Err(Error::Unavailable { source, .. }) = identities.fetch(&id(UI)).await else { panic!("taken") };
    assert!(matches!(*source, Error::WrongIdentity { .. }), "{source:?}");
    mock.wrong.store(false, SeqCst);
    mock.stale.store(true, SeqCst);
    sleep(HOUR).await;
    let Err(Error::Unavailable { source, .. }) = identities.fetch(&id(UI)).await else { panic!("taken") };
    assert!(matches!(*source, Error::NotValidNow { .. }), "{source:?}");
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_around_half_their_life_until_told_to_stop() {
    let (mock, identities) = setup();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(identities.clone().run(async move { drop(stopped.await) }));
    let first = identities.fetch(&id(UI)).await.unwrap();
    sleep(HOUR.mul_f64(0.39)).await;
    assert!(Arc::ptr_eq(&identities.current(&id(UI)).unwrap(), &first));
    sleep(HOUR.mul_f64(0.22)).await;
    let second = identities.current(&id(UI)).unwrap();
    assert_ne!(second.serial(), first.serial());
    assert_eq!(mock.asked.load(SeqCst), 2);
    stop.send(()).unwrap();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_tried_again_while_the_old_certificate_serves() {
    let (mock, identities) = setup();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(identities.clone().run(async move { drop(stopped.await) }));
    let first = identities.fetch(&id(UI)).await.unwrap();
    mock.down.store(true, SeqCst);
    sleep(HOUR.mul_f64(0.8)).await;
    let asked = mock.asked.load(SeqCst);
    assert!((10..200).contains(&asked), "asked {asked} times: retried, and not without pause");
    assert!(Arc::ptr_eq(&identities.current(&id(UI)).unwrap(), &first));
    mock.down.store(false, SeqCst);
    sleep(Duration::from_secs(31)).await;
    assert!(!Arc::ptr_eq(&identities.current(&id(UI)).unwrap(), &first));
    stop.send(()).unwrap();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn identities_of_pods_that_left_are_forgotten() {
    let (mock, identities) = setup();
    let (ui, db) = (id(UI), id("spiffe://cluster.local/ns/todo/sa/db"));
    identities.fetch(&ui).await.unwrap();
    identities.fetch(&db).await.unwrap();
    identities.retain(&HashSet::from([db.clone()]));
    assert!(identities.current(&ui).is_none() && identities.current(&db).is_some());
    assert_eq!(identities.snapshot().len(), 1);
    identities.fetch(&ui).await.unwrap();
    assert_eq!(mock.asked.load(SeqCst), 3);
}
