//! What is known of one source of keys, and when it is asked again.

use std::{sync::Arc, time::Duration};

use hyper::body::Bytes;
use tokio::{sync::oneshot, time::Instant};
use weir_token::KeySet;

/// Most that wait for one fetch; who comes later is not kept waiting.
const MAX_WAITERS: usize = 1_024;

/// Most doublings of the time between attempts that fail.
const MAX_DOUBLINGS: u32 = 8;

/// One source.
#[derive(Debug)]
pub(crate) struct Source {
    /// How long a fetch may take.
    pub(crate) wait: Duration,
    /// When it is asked next; none while it is being asked.
    pub(crate) due: Option<Instant>,
    pub(crate) kept: Option<Kept>,
    tried: Option<Instant>,
    failures: u32,
    waiters: Vec<oneshot::Sender<()>>,
}

/// Keys that were fetched.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: Bytes,
    pub(crate) keys: Arc<KeySet>,
}

impl Source {
    /// One to be asked at once.
    pub(crate) fn new(wait: Duration, now: Instant) -> Self {
        Self { wait, due: Some(now), kept: None, tried: None, failures: 0, waiters: Vec::new() }
    }

    /// It is being asked.
    pub(crate) fn begun(&mut self, now: Instant) {
        self.due = None;
        self.tried = Some(now);
    }

    /// Somebody has a token that the keys do not know: it is asked at once, unless it was lately. Who waits is told when there is news, or none to come.
    pub(crate) fn wanted(&mut self, waiter: oneshot::Sender<()>, now: Instant, pause: Duration) {
        let is_late = self.tried.is_none_or(|tried| now.duration_since(tried) >= pause);
        let is_coming = match self.due {
            None => true,
            Some(due) if is_late => {
                self.due = Some(due.min(now));
                true
            }
            Some(_) => false,
        };
        // Not kept, it tells at once.
        if is_coming && self.waiters.len() < MAX_WAITERS {
            self.waiters.push(waiter);
        }
    }

    /// The keys came. Whether they are other than those before: the same text is the same keys, by which what was proven stays proven.
    pub(crate) fn fetched(&mut self, bytes: Bytes, keys: KeySet, next: Instant) -> bool {
        self.ended(next);
        self.failures = 0;
        let is_new = self.kept.as_ref().is_none_or(|kept| kept.bytes != bytes);
        if is_new {
            self.kept = Some(Kept { bytes, keys: Arc::new(keys) });
        }
        is_new
    }

    /// They did not. Those before stay. The time until the next attempt doubles with each, from `first` to `most`.
    pub(crate) fn failed(&mut self, now: Instant, first: Duration, most: Duration) {
        let pause = first.saturating_mul(1 << self.failures.min(MAX_DOUBLINGS)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.ended(now + pause);
    }

    /// How many attempts failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    fn ended(&mut self, next: Instant) {
        self.due = Some(next);
        // Dropped, they tell whoever waits.
        self.waiters.clear();
    }
}

#[cfg(test)]
mod tests {
    use oneshot::error::TryRecvError::{Closed, Empty};

    use super::*;

    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const PAUSE: Duration = Duration::from_secs(10);

    fn keys() -> KeySet {
        KeySet::read(KEYS.as_bytes()).unwrap()
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_failure_is_followed_by_longer_and_longer_waiting_and_keeps_the_keys() {
        let now = Instant::now();
        let mut source = Source::new(PAUSE, now);
        source.begun(now);
        assert!(source.fetched(KEYS.into(), keys(), now));
        let before = source.kept.as_ref().unwrap().keys.clone();
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
        for want in [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60] {
            source.begun(now);
            assert_eq!(source.due, None);
            source.failed(now, first, most);
            assert_eq!(source.due, Some(after(now, want)));
        }
        assert!(Arc::ptr_eq(&source.kept.as_ref().unwrap().keys, &before));
        source.begun(now);
        assert!(!source.fetched(KEYS.into(), keys(), now), "the same text is the same keys");
        assert!(Arc::ptr_eq(&source.kept.as_ref().unwrap().keys, &before));
        assert_eq!(source.failures(), 0);
        assert!(source.fetched(format!("{KEYS} ").into(), keys(), now));
        assert!(!Arc::ptr_eq(&source.kept.as_ref().unwrap().keys, &before));
    }

    #[test]
    fn who_has_an_unknown_key_waits_only_for_what_comes() {
        let now = Instant::now();
        let mut source = Source::new(PAUSE, now);
        let ask = |source: &mut Source, now| {
            let (waiter, told) = oneshot::channel();
            source.wanted(waiter, now, PAUSE);
            told
        };
        // Before the first attempt, and during one.
        let mut early = ask(&mut source, now);
        source.begun(now);
        let mut during = ask(&mut source, now);
        assert_eq!(early.try_recv(), Err(Empty));
        source.fetched(KEYS.into(), keys(), after(now, 1_200));
        assert_eq!((early.try_recv(), during.try_recv()), (Err(Closed), Err(Closed)));
        // Too soon after one: told at once, and nothing is asked.
        let mut soon = ask(&mut source, after(now, 9));
        assert_eq!(soon.try_recv(), Err(Closed));
        assert_eq!(source.due, Some(after(now, 1_200)));
        // Later: at once.
        let mut later = ask(&mut source, after(now, 10));
        assert_eq!(source.due, Some(after(now, 10)));
        source.begun(after(now, 10));
        source.failed(after(now, 11), PAUSE, PAUSE);
        assert_eq!(later.try_recv(), Err(Closed));
        // No more than so many wait.
        source.begun(after(now, 30));
        let mut waiting: Vec<_> = (0..=MAX_WAITERS).map(|_| ask(&mut source, after(now, 30))).collect();
        assert_eq!(waiting[MAX_WAITERS].try_recv(), Err(Closed));
        assert_eq!(waiting[MAX_WAITERS - 1].try_recv(), Err(Empty));
    }
}
