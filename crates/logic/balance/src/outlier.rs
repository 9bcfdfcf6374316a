//! Outlier detection: who fails again and again is left alone for a while. `DestinationRule.outlierDetection`.
//!
//! In: what came of requests, endpoint by endpoint, and the time. Out: who is ejected, and why. A state machine with Envoy's rules (outlier.rst); it
//! never sends anything itself, and has no timer: its owner says when time has passed.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use crate::{Percent, Period, PolicyError};

/// How failures count. The defaults are Istio's (`OutlierDetection`), which are mostly Envoy's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`: so many in a row and it is out. Five; none if 0 was written.
    pub consecutive_5xx: Option<NonZeroU32>,
    /// `consecutiveGatewayErrors`: the same of 502, 503 and 504 alone. None.
    pub consecutive_gateway: Option<NonZeroU32>,
    /// `splitExternalLocalOriginErrors`: whether what goes wrong on this side is counted with the answers. It is.
    pub origins: Origins,
    /// `interval`: how often it is looked who may return. 10 s.
    pub interval: Period,
    /// `baseEjectionTime`: how long it is out, times how often in a row it was. 30 s.
    pub base_ejection: Period,
    /// `maxEjectionPercent`: of all endpoints, how many may be out. 10 %, which of fewer than ten endpoints is none
    /// (Envoy's `always_eject_one_host` is off, and Istio does not set it). 0 is not said, to Istio.
    pub max_ejected: Percent,
    /// `minHealthPercent`: with fewer left than this, ejections are disregarded. 0 %.
    pub min_health: Percent,
    /// `outlierDetectionHttpErrorCodes`: the answers that are errors. 500 to 599.
    pub codes: ErrorCodes,
}

const FIVE: NonZeroU32 = match NonZeroU32::new(5) {
    Some(five) => five,
    None => NonZeroU32::MIN,
};

/// How long an endpoint is out at most, unless the first time is longer. Envoy `max_ejection_time`, which Istio does not set: 300 s.
const LONGEST: Duration = Duration::from_secs(300);

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: Some(FIVE),
            consecutive_gateway: None,
            origins: Origins::Together,
            interval: Period::TEN_SECONDS,
            base_ejection: Period::THIRTY_SECONDS,
            max_ejected: Percent::TEN,
            min_health: Percent::ZERO,
            codes: ErrorCodes::default(),
        }
    }
}

/// Whether failures of this side are counted with those of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    /// They count as the answers they would have been: a timeout as 504, a failed connection as 503.
    Together,
    /// They have a counter of their own, with `consecutiveLocalOriginFailures`. Five.
    Split {
        /// So many in a row and it is out.
        consecutive_local: NonZeroU32,
    },
}

impl Origins {
    /// Split, with Istio's default.
    pub const SPLIT: Self = Self::Split { consecutive_local: FIVE };
}

/// Which answers are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorCodes(BTreeSet<u16>);

impl ErrorCodes {
    /// These, and no others.
    ///
    /// # Errors
    /// When one is no status.
    pub fn new(codes: impl IntoIterator<Item = u16>) -> Result<Self, PolicyError> {
        let legal = |code| if (100..=599).contains(&code) { Ok(code) } else { Err(PolicyError::Status { code }) };
        Ok(Self(codes.into_iter().map(legal).collect::<Result<_, _>>()?))
    }

    fn has(&self, code: u16) -> bool {
        if self.0.is_empty() { (500..=599).contains(&code) } else { self.0.contains(&code) }
    }
}

/// What came of a request or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// An HTTP status. For gRPC, that which its status stands for.
    Status(u16),
    /// A connection was made; what it is good for is not known yet.
    Connected,
    /// TCP, and it went well.
    Done,
    /// No connection, or one that was reset.
    Failed,
    /// No answer in time.
    TimedOut,
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Errors in a row.
    Consecutive5xx,
    /// Gateway errors in a row.
    ConsecutiveGateway,
    /// Failures of this side in a row.
    ConsecutiveLocal,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// Nothing.
    Noted,
    /// The endpoint is out, for at least so long.
    Ejected {
        /// Why.
        cause: Cause,
        /// How long.
        lasts: Duration,
    },
    /// It would be, but too many are already.
    Spared {
        /// Why.
        cause: Cause,
    },
}

/// The state of all endpoints of a service, by their place in a list.
#[derive(Debug, Clone)]
pub struct Detector {
    settings: OutlierDetection,
    records: Vec<Record>,
    ejected: usize,
    next_sweep: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    errors: u32,
    gateway: u32,
    local: u32,
    /// How often in a row it was out, which is forgotten one by one while it does well.
    times: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Untouched,
    Out {
        since: Duration,
    },
    Back {
        since: Duration,
    },
}

impl Detector {
    /// So many endpoints of which nothing is known.
    pub fn new(settings: OutlierDetection, endpoints: usize, now: Duration) -> Self {
        let next_sweep = now.saturating_add(settings.interval.get());
        Self { settings, records: vec![Record::default(); endpoints], ejected: 0, next_sweep }
    }

    /// Whether an endpoint is out.
    pub fn is_ejected(&self, endpoint: usize) -> bool {
        self.records.get(endpoint).is_some_and(Record::is_out)
    }

    /// How many are out.
    pub fn ejected(&self) -> usize {
        self.ejected
    }

    /// Takes note of what came of a request.
    pub fn report(&mut self, endpoint: usize, outcome: Outcome, now: Duration) -> Reaction {
        let (settings, whole) = (&self.settings, self.records.len());
        let Some(record) = self.records.get_mut(endpoint).filter(|record| !record.is_out()) else {
            return Reaction::Noted;
        };
        let Some(cause) = record.count(settings, outcome) else { return Reaction::Noted };
        if !settings.max_ejected.allows(self.ejected + 1, whole) {
            return Reaction::Spared { cause };
        }
        record.state = State::Out { since: now };
        // Up to one more than lasts the longest, as Envoy has it.
        if settings.base_ejection.get().saturating_mul(record.times)
            < settings.longest().saturating_add(settings.base_ejection.get())
        {
            record.times = record.times.saturating_add(1);
        }
        self.ejected += 1;
        Reaction::Ejected { cause, lasts: record.lasts(settings) }
    }

    /// When time has come, lets those back whose time is over. True if there were any.
    pub fn sweep(&mut self, now: Duration) -> bool {
        if now < self.next_sweep {
            return false;
        }
        self.next_sweep = now.saturating_add(self.settings.interval.get());
        let before = self.ejected;
        for record in &mut self.records {
            match record.state {
                State::Out { since } if record.lasts(&self.settings) <= now.saturating_sub(since) => {
                    record.let_back(now);
                    self.ejected -= 1;
                }
                State::Back { since } if now.saturating_sub(since) >= self.settings.interval.get() => {
                    record.times = record.times.saturating_sub(1);
                }
                State::Out { .. } | State::Back { .. } | State::Untouched => {}
            }
        }
        self.ejected != before
    }

    /// The same for another list of endpoints, of each of which it is said where it stood in this one. If there are fewer now, some may have to come
    /// back: those that are out for the longest time.
    #[must_use]
    pub fn moved(&self, settings: OutlierDetection, from: &[Option<usize>], now: Duration) -> Self {
        let old = |from: &Option<usize>| from.and_then(|from| self.records.get(from).copied()).unwrap_or_default();
        let records: Vec<Record> = from.iter().map(old).collect();
        let mut out: Vec<(Duration, usize)> =
            records.iter().enumerate().filter_map(|(at, record)| Some((record.out()?, at))).collect();
        out.sort_unstable();
        let next_sweep = self.next_sweep.min(now.saturating_add(settings.interval.get()));
        let mut moved = Self { ejected: out.len(), settings, records, next_sweep };
        for (_, at) in out {
            if moved.settings.max_ejected.allows(moved.ejected, moved.records.len()) {
                break;
            }
            if let Some(record) = moved.records.get_mut(at) {
                record.let_back(now);
                moved.ejected -= 1;
            }
        }
        moved
    }
}

impl OutlierDetection {
    fn longest(&self) -> Duration {
        LONGEST.max(self.base_ejection.get())
    }
}

impl Record {
    fn is_out(&self) -> bool {
        self.out().is_some()
    }

    fn out(&self) -> Option<Duration> {
        match self.state {
            State::Out { since } => Some(since),
            State::Untouched | State::Back { .. } => None,
        }
    }

    fn lasts(&self, settings: &OutlierDetection) -> Duration {
        settings.base_ejection.get().saturating_mul(self.times).min(settings.longest())
    }

    fn let_back(&mut self, now: Duration) {
        *self = Self { times: self.times, state: State::Back { since: now }, ..Self::default() };
    }

    /// Counts, and says when a count is full. A full one begins anew, whatever comes of it.
    fn count(&mut self, settings: &OutlierDetection, outcome: Outcome) -> Option<Cause> {
        match (outcome, settings.origins) {
            (Outcome::Status(code), Origins::Together) => self.answered(settings, code),
            (Outcome::Status(code), Origins::Split { .. }) => {
                self.local = 0;
                self.answered(settings, code)
            }
            (Outcome::Connected, Origins::Together) => None,
            (Outcome::Connected, Origins::Split { .. }) => {
                self.local = 0;
                None
            }
            (Outcome::Done, _) => {
                (self.errors, self.gateway, self.local) = (0, 0, 0);
                None
            }
            (Outcome::Failed, Origins::Together) => self.failed(settings, Kind::Gateway),
            (Outcome::TimedOut, Origins::Together) => self.failed(settings, Kind::Gateway),
            (Outcome::Failed | Outcome::TimedOut, Origins::Split { consecutive_local }) => {
                full(&mut self.local, Some(consecutive_local)).then_some(Cause::ConsecutiveLocal)
            }
        }
    }

    fn answered(&mut self, settings: &OutlierDetection, code: u16) -> Option<Cause> {
        if settings.codes.has(code) {
            return self.failed(settings, if matches!(code, 502..=504) { Kind::Gateway } else { Kind::Other });
        }
        (self.errors, self.gateway) = (0, 0);
        None
    }

    fn failed(&mut self, settings: &OutlierDetection, kind: Kind) -> Option<Cause> {
        let gateway = match kind {
            Kind::Gateway => full(&mut self.gateway, settings.consecutive_gateway),
            Kind::Other => {
                self.gateway = 0;
                false
            }
        };
        let any = full(&mut self.errors, settings.consecutive_5xx);
        if gateway { Some(Cause::ConsecutiveGateway) } else { any.then_some(Cause::Consecutive5xx) }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    /// 502, 503, 504, or what would have been one.
    Gateway,
    Other,
}

fn full(count: &mut u32, at: Option<NonZeroU32>) -> bool {
    *count = count.saturating_add(1);
    let full = at.is_some_and(|at| *count >= at.get());
    if full {
        *count = 0;
    }
    full
}

#[cfg(test)]
mod tests;
