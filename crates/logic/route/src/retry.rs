//! Whether a request that failed is sent once more.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use rand::Rng;

use crate::grpc::GrpcStatus;

/// The time that waits grow from when the rule names none. Istio `HTTPRetry.backoff`.
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);
/// How far a wait grows, in times of the first. Envoy `RetryBackOff.max_interval`.
const MAX_GROWTH: u32 = 10;
/// Most retries of a request that a rule may ask for.
const MAX_ATTEMPTS: u32 = 100;

/// Why a policy of retries is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// Not a condition.
    #[error("{0:?} is no condition of retries: expected a status from 400 to 599 or a name such as connect-failure")]
    Condition(String),
    /// Too many.
    #[error("{0} retries, at most {MAX_ATTEMPTS} are allowed")]
    Attempts(u32),
}

/// When a request may be sent once more. Envoy `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// `5xx`: any 5xx, or no answer at all.
    ServerError,
    /// `gateway-error`: 502, 503 or 504, or no answer at all.
    GatewayError,
    /// `reset`: no answer at all.
    Reset,
    /// `reset-before-request`: no answer, and nothing of the request was sent.
    ResetBeforeRequest,
    /// `connect-failure`: no connection.
    ConnectFailure,
    /// `refused-stream`: HTTP/2 `REFUSED_STREAM`, which promises that nothing was done.
    RefusedStream,
    /// `retriable-4xx`: 409.
    Retriable4xx,
    /// `retriable-status-codes`: the codes that stand beside it.
    RetriableStatusCodes,
    /// `cancelled`, and the rest: statuses of gRPC.
    Cancelled,
    /// `deadline-exceeded`.
    DeadlineExceeded,
    /// `internal`.
    Internal,
    /// `resource-exhausted`.
    ResourceExhausted,
    /// `unavailable`.
    Unavailable,
}

const CONDITIONS: &[(&str, Condition)] = &[
    ("5xx", Condition::ServerError),
    ("gateway-error", Condition::GatewayError),
    ("reset", Condition::Reset),
    ("reset-before-request", Condition::ResetBeforeRequest),
    ("connect-failure", Condition::ConnectFailure),
    ("refused-stream", Condition::RefusedStream),
    ("retriable-4xx", Condition::Retriable4xx),
    ("retriable-status-codes", Condition::RetriableStatusCodes),
    ("cancelled", Condition::Cancelled),
    ("deadline-exceeded", Condition::DeadlineExceeded),
    ("internal", Condition::Internal),
    ("resource-exhausted", Condition::ResourceExhausted),
    ("unavailable", Condition::Unavailable),
];

/// The conditions of a rule, any of which is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    conditions: BTreeSet<Condition>,
    codes: BTreeSet<u16>,
}

impl RetryOn {
    /// These statuses, and no answer at all. Gateway API v1 `HTTPRouteRetry.codes`, GEP-1731.
    ///
    /// # Errors
    /// When one is not a status of failure.
    pub fn codes(codes: impl IntoIterator<Item = u16>) -> Result<Self, RetryError> {
        let codes: BTreeSet<u16> = codes.into_iter().collect();
        if let Some(bad) = codes.iter().find(|code| !(400..=599).contains(*code)) {
            return Err(RetryError::Condition(bad.to_string()));
        }
        let no_answer = [Condition::Reset, Condition::ConnectFailure, Condition::RefusedStream];
        Ok(Self { conditions: no_answer.into_iter().chain([Condition::RetriableStatusCodes]).collect(), codes })
    }

    fn asks_for(&self, outcome: Outcome) -> bool {
        let has = |condition| self.conditions.contains(&condition);
        let no_answer = has(Condition::ServerError) || has(Condition::GatewayError) || has(Condition::Reset);
        match outcome {
            Outcome::ConnectFailure => {
                no_answer || has(Condition::ConnectFailure) || has(Condition::ResetBeforeRequest)
            }
            Outcome::RefusedStream => no_answer || has(Condition::RefusedStream),
            Outcome::ResetBeforeRequest => no_answer || has(Condition::ResetBeforeRequest),
            Outcome::Reset | Outcome::TryTimeout => no_answer,
            Outcome::Answer { status, grpc } => {
                (has(Condition::ServerError) && (500..=599).contains(&status))
                    || (has(Condition::GatewayError) && (502..=504).contains(&status))
                    || (has(Condition::Retriable4xx) && status == 409)
                    || (has(Condition::RetriableStatusCodes) && self.codes.contains(&status))
                    || (has(Condition::Cancelled) && grpc == Some(GrpcStatus::CANCELLED))
                    || (has(Condition::DeadlineExceeded) && grpc == Some(GrpcStatus::DEADLINE_EXCEEDED))
                    || (has(Condition::Internal) && grpc == Some(GrpcStatus::INTERNAL))
                    || (has(Condition::ResourceExhausted) && grpc == Some(GrpcStatus::RESOURCE_EXHAUSTED))
                    || (has(Condition::Unavailable) && grpc == Some(GrpcStatus::UNAVAILABLE))
            }
        }
    }
}

impl Default for RetryOn {
    /// What is safe to do again, or said not to have been done. Istio's default.
    fn default() -> Self {
        use Condition::{Cancelled, ConnectFailure, RefusedStream, Unavailable};
        let conditions = [ConnectFailure, RefusedStream, Unavailable, Cancelled].into();
        Self { conditions, codes: BTreeSet::new() }
    }
}

impl FromStr for RetryOn {
    type Err = RetryError;

    /// Names and statuses with commas between them, as Istio's `retryOn`. A status implies `retriable-status-codes`.
    fn from_str(text: &str) -> Result<Self, RetryError> {
        let mut on = Self { conditions: BTreeSet::new(), codes: BTreeSet::new() };
        for name in text.split(',').map(str::trim) {
            let known = CONDITIONS.iter().find(|(known, _)| *known == name).map(|(_, condition)| *condition);
            match (known, name.parse()) {
                (Some(condition), _) => {
                    on.conditions.insert(condition);
                }
                (None, Ok(code @ 400..=599)) => {
                    on.conditions.insert(Condition::RetriableStatusCodes);
                    on.codes.insert(code);
                }
                (None, _) => return Err(RetryError::Condition(name.chars().take(64).collect())),
            }
        }
        Ok(on)
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = CONDITIONS.iter().filter(|(_, condition)| self.conditions.contains(condition));
        let names = names.map(|(name, _)| (*name).to_owned()).chain(self.codes.iter().map(u16::to_string));
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

/// How many retries a destination may see at one time. Istio `TrafficPolicy.retryBudget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of a hundred requests under way, how many may be retries.
    pub percent: u8,
    /// How many may be in any case.
    pub least: u32,
}

impl RetryBudget {
    fn allows(self, load: Load) -> bool {
        let share = u64::from(load.active) * u64::from(self.percent) / 100;
        u64::from(load.retrying) < share.max(self.least.into())
    }
}

/// What a destination has under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests, retries among them.
    pub active: u32,
    /// Retries.
    pub retrying: u32,
}

/// How an attempt ended, before anything of an answer was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no connection.
    ConnectFailure,
    /// The stream was refused: nothing was done.
    RefusedStream,
    /// The connection or the stream ended, and nothing of the request had been sent.
    ResetBeforeRequest,
    /// The connection or the stream ended.
    Reset,
    /// The time of this attempt was over, that of the request was not.
    TryTimeout,
    /// There is an answer.
    Answer {
        /// Its status.
        status: u16,
        /// Its `grpc-status`, if that came with the headers.
        grpc: Option<GrpcStatus>,
    },
}

/// Whether the request can be sent again as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// All that was read of its body is still held.
    Held,
    /// Some of its body was sent on and is held no more.
    Consumed,
}

/// Whether to send a request once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Yes, when this much time has passed.
    After(Duration),
    /// No.
    No(WhyNot),
}

/// Why a request is not sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNot {
    /// The rule does not ask for it.
    NotAsked,
    /// It was sent as often as the rule allows.
    Exhausted,
    /// What was sent of its body is gone.
    BodyConsumed,
    /// The destination sees enough retries.
    Budget,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "no retry is asked for after this",
            Self::Exhausted => "all retries were made",
            Self::BodyConsumed => "the body of the request is no longer held",
            Self::Budget => "the budget of retries is used up",
        })
    }
}

/// When, how often and how soon a request is sent once more. Istio `HTTPRetry`, Gateway API v1 `HTTPRouteRetry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: u32,
    on: RetryOn,
    backoff: Option<Duration>,
    /// How many retries the destination may see.
    pub budget: Option<RetryBudget>,
    /// Whether an endpoint that failed may be tried again. Istio `retryIgnorePreviousHosts`.
    pub same_endpoint: SameEndpoint,
    /// Whether endpoints further away may be tried. Istio `retryRemoteLocalities`.
    pub localities: Localities,
}

/// Whether an endpoint that failed may be tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SameEndpoint {
    /// Only if there is no other.
    #[default]
    Avoided,
    /// Like any other.
    Allowed,
}

/// Which endpoints a retry may go to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Localities {
    /// Those that the first attempt could go to.
    #[default]
    AsBefore,
    /// Those further away too.
    Remote,
}

impl Default for RetryPolicy {
    /// Two retries after what is safe to do again: a rule that says nothing. Istio `defaultHttpRetryPolicy`.
    fn default() -> Self {
        Self {
            attempts: 2,
            on: RetryOn::default(),
            backoff: None,
            budget: None,
            same_endpoint: SameEndpoint::default(),
            localities: Localities::default(),
        }
    }
}

impl RetryPolicy {
    /// So many retries, after these outcomes, with at least this time between them. A time of zero is none given.
    ///
    /// # Errors
    /// When there are too many.
    pub fn new(attempts: u32, on: RetryOn, backoff: Option<Duration>) -> Result<Self, RetryError> {
        if attempts > MAX_ATTEMPTS {
            return Err(RetryError::Attempts(attempts));
        }
        Ok(Self { attempts, on, backoff: backoff.filter(|time| !time.is_zero()), ..Self::default() })
    }

    /// Whether a request may be sent once more, that was so `retries` times, and when. Asked only while nothing of an answer was passed on: later never.
    pub fn may_retry(&self, retries: u32, outcome: Outcome, body: Body, load: Load, rng: &mut impl Rng) -> Retry {
        if !self.on.asks_for(outcome) {
            return Retry::No(WhyNot::NotAsked);
        }
        if retries >= self.attempts {
            return Retry::No(WhyNot::Exhausted);
        }
        if body == Body::Consumed {
            return Retry::No(WhyNot::BodyConsumed);
        }
        if self.budget.is_some_and(|budget| !budget.allows(load)) {
            return Retry::No(WhyNot::Budget);
        }
        Retry::After(self.wait(retries, rng))
    }

    /// From the least time to twice that, then four times, up to ten: never sooner than asked, and not all at once.
    fn wait(&self, retries: u32, rng: &mut impl Rng) -> Duration {
        let least = self.backoff.unwrap_or(DEFAULT_BACKOFF);
        let growth = 2_u32.saturating_pow(retries.saturating_add(1)).min(MAX_GROWTH);
        rng.random_range(least..=least.saturating_mul(growth))
    }
}

impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempts {
            0 => f.write_str("no retries"),
            attempts => write!(f, "up to {attempts} retries on {}", self.on),
        }
    }
}

#[cfg(test)]
mod tests;
