//! Circuit breakers: how many connections and requests at once. `DestinationRule.connectionPool` and `retryBudget`.
//!
//! In: limits. Out: a slot for each thing that is begun, which gives itself back when it is dropped, or what is full. Nothing here waits.
//!
//! The numbers a user writes are those of a whole proxy, as in Envoy, whose threads share their counters: with a counter for each of four
//! workers, `maxConnections: 1` would be four. So the breakers of a service whose policy sets a number are [`Shared`]. [`PerWorker`] costs no
//! atomic operation and is right where numbers are not limited ([`Limits::are_none`]: then they are counted for metrics alone), for
//! a program with one worker, and for what one worker has under way at an endpoint (LEAST_REQUEST). What a single connection may carry is the
//! connection's own: [`Uses`].

use std::{
    cell::Cell,
    num::NonZeroU32,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::Percent;

/// How many at once. The defaults are Istio's (`ConnectionPoolSettings`): 2^32 - 1, which is as good as no limit. To Istio, 0 is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `tcp.maxConnections`.
    pub connections: u32,
    /// `http.http1MaxPendingRequests`: waiting for a connection, whatever the version of HTTP.
    pub pending: u32,
    /// `http.http2MaxRequests`: under way, whatever the version of HTTP.
    pub requests: u32,
    /// `http.maxRetries` or `retryBudget`.
    pub retries: Retries,
}

/// How many retries at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// So many.
    AtMost(u32),
    /// As many as there are requests to pay for them. Counts instead of a number, if both are written.
    Budget(RetryBudget),
}

/// `retryBudget`: retries in proportion to requests. The defaults are those of Envoy's `RetryBudget`: 20 %, 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// `percent`, of requests that are under way or pending.
    pub percent: Percent,
    /// `minRetryConcurrency`: never fewer than so many.
    pub at_least: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: Percent::TWENTY, at_least: 3 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: u32::MAX, pending: u32::MAX, requests: u32::MAX, retries: Retries::AtMost(u32::MAX) }
    }
}

impl Limits {
    /// Whether nothing is limited.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What is full, and how many it holds. Response flag `UO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Overflow {
    /// Connections.
    #[error("{limit} connections are open, no more are allowed")]
    Connections {
        /// `tcp.maxConnections`.
        limit: u32,
    },
    /// Requests that wait.
    #[error("{limit} requests wait for a connection, no more are allowed")]
    Pending {
        /// `http.http1MaxPendingRequests`.
        limit: u32,
    },
    /// Requests.
    #[error("{limit} requests are under way, no more are allowed")]
    Requests {
        /// `http.http2MaxRequests`.
        limit: u32,
    },
    /// Retries.
    #[error("{limit} retries are under way, no more are allowed")]
    Retries {
        /// `http.maxRetries`, or what the budget comes to.
        limit: u32,
    },
}

/// A counter that clones share.
pub trait Tally: Clone + Default {
    /// One more, unless there are `limit` already.
    fn take(&self, limit: u32) -> bool;
    /// One less.
    fn give_back(&self);
    /// How many there are.
    fn count(&self) -> u32;
}

/// A counter of one thread.
#[derive(Debug, Clone, Default)]
pub struct PerWorker(Rc<Cell<u32>>);

impl Tally for PerWorker {
    fn take(&self, limit: u32) -> bool {
        let free = self.0.get() < limit;
        self.0.set(self.0.get() + u32::from(free));
        free
    }

    fn give_back(&self) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    fn count(&self) -> u32 {
        self.0.get()
    }
}

/// A counter of the whole program. It guards no other memory, so its operations need no order.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<AtomicU32>);

impl Tally for Shared {
    fn take(&self, limit: u32) -> bool {
        let one_more = |count| if count < limit { Some(count + 1) } else { None };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        let one_less = |count: u32| count.checked_sub(1);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        debug_assert!(before.is_ok(), "each slot is taken once and given back once");
    }

    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A place that is taken. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "it is given back at once"]
pub struct Slot<T: Tally> {
    tally: T,
}

impl<T: Tally> Slot<T> {
    /// A place, if there are fewer than `limit`.
    pub fn take(tally: &T, limit: u32) -> Option<Self> {
        tally.take(limit).then(|| Self { tally: tally.clone() })
    }
}

impl<T: Tally> Drop for Slot<T> {
    fn drop(&mut self) {
        self.tally.give_back();
    }
}

/// The breakers of one service, or of one subset.
#[derive(Debug, Clone, Default)]
pub struct Breaker<T: Tally> {
    limits: Limits,
    connections: T,
    pending: T,
    requests: T,
    retries: T,
}

impl<T: Tally> Breaker<T> {
    /// Nothing is taken yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Other limits for the same slots: what is under way when a policy changes still counts.
    #[must_use]
    pub fn limited(&self, limits: Limits) -> Self {
        Self { limits, ..self.clone() }
    }

    /// For as long as a connection is open.
    ///
    /// # Errors
    /// When as many are open as may be.
    pub fn connection(&self) -> Result<Slot<T>, Overflow> {
        let limit = self.limits.connections;
        Slot::take(&self.connections, limit).ok_or(Overflow::Connections { limit })
    }

    /// For as long as a request waits for a connection.
    ///
    /// # Errors
    /// When as many wait as may.
    pub fn pending(&self) -> Result<Slot<T>, Overflow> {
        let limit = self.limits.pending;
        Slot::take(&self.pending, limit).ok_or(Overflow::Pending { limit })
    }

    /// For as long as a request is under way.
    ///
    /// # Errors
    /// When as many are under way as may be.
    pub fn request(&self) -> Result<Slot<T>, Overflow> {
        let limit = self.limits.requests;
        Slot::take(&self.requests, limit).ok_or(Overflow::Requests { limit })
    }

    /// For as long as a retry is under way, its pause included. Of a budget that workers share, the requests are counted a moment before.
    ///
    /// # Errors
    /// When as many are under way as may be.
    pub fn retry(&self) -> Result<Slot<T>, Overflow> {
        let limit = match self.limits.retries {
            Retries::AtMost(limit) => limit,
            Retries::Budget(budget) => {
                budget.percent.of(self.requests.count().saturating_add(self.pending.count())).max(budget.at_least)
            }
        };
        Slot::take(&self.retries, limit).ok_or(Overflow::Retries { limit })
    }

    /// How many requests are under way.
    pub fn requests(&self) -> u32 {
        self.requests.count()
    }
}

/// How many requests a connection has carried. `http.maxRequestsPerConnection`; none is unlimited, Istio's default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uses {
    left: Option<u32>,
}

impl Uses {
    /// A new connection.
    pub fn new(limit: Option<NonZeroU32>) -> Self {
        Self { left: limit.map(NonZeroU32::get) }
    }

    /// One more request, if it may have one. After the last, the connection is to be closed: `is_over`.
    pub fn take(&mut self) -> bool {
        let Some(left) = &mut self.left else { return true };
        let free = *left > 0;
        *left = left.saturating_sub(1);
        free
    }

    /// Whether it may carry no more.
    pub fn is_over(&self) -> bool {
        self.left == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(connections: u32, pending: u32, requests: u32, retries: Retries) -> Limits {
        Limits { connections, pending, requests, retries }
    }

    fn slots_are_given_back<T: Tally + std::fmt::Debug>() {
        let breaker: Breaker<T> = Breaker::new(limits(1, 2, 3, Retries::AtMost(0)));
        let connection = breaker.connection().unwrap();
        assert_eq!(breaker.connection().unwrap_err(), Overflow::Connections { limit: 1 });
        // A clone is the same breaker.
        assert!(breaker.clone().connection().is_err());
        drop(connection);
        let _connection = breaker.connection().unwrap();
        let pending: Vec<_> = (0..2).map(|_| breaker.pending().unwrap()).collect();
        assert_eq!(breaker.pending().unwrap_err(), Overflow::Pending { limit: 2 });
        drop(pending);
        let requests: Vec<_> = (0..3).map(|_| breaker.request().unwrap()).collect();
        assert_eq!(breaker.request().unwrap_err(), Overflow::Requests { limit: 3 });
        assert_eq!(breaker.retry().unwrap_err(), Overflow::Retries { limit: 0 });
        // Fewer are allowed from now on; what is under way counts until it is done.
        let fewer = breaker.limited(limits(1, 1, 1, Retries::AtMost(1)));
        assert!(fewer.request().is_err());
        drop(requests);
        assert!(fewer.request().is_ok() && fewer.retry().is_ok());
        assert_eq!(breaker.requests(), 0);
    }

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        slots_are_given_back::<PerWorker>();
        slots_are_given_back::<Shared>();
    }

    #[test]
    fn nothing_is_limited_by_default() {
        let breaker: Breaker<PerWorker> = Breaker::default();
        let held: Vec<_> =
            (0..5_000).map(|_| (breaker.connection(), breaker.pending(), breaker.request(), breaker.retry())).collect();
        assert!(held.iter().all(|(one, two, three, four)| one.is_ok() && two.is_ok() && three.is_ok() && four.is_ok()));
        assert!(Limits::default().are_none());
        assert!(!limits(u32::MAX, u32::MAX, u32::MAX, Retries::Budget(RetryBudget::default())).are_none());
    }

    #[test]
    fn a_budget_grows_with_the_requests_and_has_a_floor() {
        for (requests, pending, percent, at_least, want) in [
            (0, 0, 20.0, 3, 3),
            (10, 4, 20.0, 3, 3),
            (20, 5, 20.0, 3, 5),
            (19, 5, 20.0, 3, 4),
            (100, 0, 0.0, 0, 0),
            (9, 0, 100.0, 0, 9),
        ] {
            let percent = Percent::new("x", percent).unwrap();
            let retries = Retries::Budget(RetryBudget { percent, at_least });
            let breaker: Breaker<PerWorker> = Breaker::new(Limits { retries, ..Limits::default() });
            let held: Vec<_> =
                (0..requests).map(|_| breaker.request()).chain((0..pending).map(|_| breaker.pending())).collect();
            let granted: Vec<_> = (0..200).map_while(|_| breaker.retry().ok()).collect();
            assert_eq!(granted.len(), want, "{requests} {pending} {percent} {at_least}");
            drop(held);
        }
    }

    #[test]
    fn a_limit_of_the_program_holds_whoever_asks() {
        let breaker: Breaker<Shared> = Breaker::new(limits(u32::MAX, u32::MAX, 7, Retries::AtMost(0)));
        let most = std::thread::scope(|scope| {
            let ask = || {
                let mut most = 0;
                for _ in 0..2_000 {
                    let held: Vec<_> = (0..4).map_while(|_| breaker.request().ok()).collect();
                    most = most.max(breaker.requests());
                    drop(held);
                }
                most
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).max()
        });
        assert!(most.is_some_and(|most| most <= 7), "{most:?}");
        assert_eq!(breaker.requests(), 0);
        let held: Vec<_> = (0..100).map_while(|_| breaker.request().ok()).collect();
        assert_eq!(held.len(), 7);
    }

    #[test]
    fn a_connection_is_over_after_its_last_request() {
        for (limit, want) in [(1, vec![true, false, false]), (2, vec![true, true, false]), (0, vec![true, true, true])]
        {
            let mut uses = Uses::new(NonZeroU32::new(limit));
            let taken: Vec<bool> = (0..3).map(|_| uses.take()).collect();
            assert_eq!(taken, want, "{limit}");
            assert_eq!(uses.is_over(), limit > 0);
        }
        assert!(!Uses::new(NonZeroU32::new(1)).is_over());
    }

    proptest! {
        #[test]
        fn as_many_are_counted_as_are_held(limit in 0_u32..8, steps in prop::collection::vec(any::<Option<prop::sample::Index>>(), 0..60)) {
            let breaker: Breaker<PerWorker> = Breaker::new(Limits { requests: limit, ..Limits::default() });
            let mut held = Vec::new();
            for step in steps {
                match step {
                    None => held.extend(breaker.request().ok()),
                    Some(which) if !held.is_empty() => drop(held.swap_remove(which.index(held.len()))),
                    Some(_) => {}
                }
                prop_assert_eq!(usize::try_from(breaker.requests()).unwrap(), held.len());
                prop_assert!(breaker.requests() <= limit);
            }
        }
    }
}
