//! Faults on purpose, copies of requests, and the share of requests that either is for.

use std::{fmt, str::FromStr, time::Duration};

use rand::Rng;

use crate::{backend::Target, grpc::GrpcStatus};

/// All requests, in the parts that shares are counted in.
const ALL: u32 = 1_000_000;

/// Not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    /// Not a number, or out of range.
    #[error("{0:?} percent, expected a number from 0 to 100, as 12.5")]
    Text(String),
    /// Not a fraction of a whole.
    #[error("the fraction {numerator}/{denominator}, expected at most 1 and a denominator of at least 1")]
    Fraction {
        /// Above.
        numerator: u32,
        /// Below.
        denominator: u32,
    },
}

/// A share of requests, to the ten-thousandth of a percent. The default is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// Every request.
    pub const EVERY: Self = Self(ALL);

    /// A fraction. Gateway API v1 `Fraction`.
    ///
    /// # Errors
    /// When it is more than 1, or has no denominator.
    pub fn fraction(numerator: u32, denominator: u32) -> Result<Self, PercentError> {
        if denominator == 0 || numerator > denominator {
            return Err(PercentError::Fraction { numerator, denominator });
        }
        let parts = u64::from(numerator) * u64::from(ALL) / u64::from(denominator);
        Ok(Self(u32::try_from(parts).unwrap_or(ALL)))
    }

    /// Whether this request is of the share. Draws nothing when there is nothing to decide.
    pub fn draw(self, rng: &mut impl Rng) -> bool {
        match self.0 {
            0 => false,
            ALL => true,
            parts => rng.random_range(0..ALL) < parts,
        }
    }
}

impl FromStr for Percent {
    type Err = PercentError;

    /// A decimal number, as it stands in YAML; what is beyond its fourth place is cut off.
    fn from_str(text: &str) -> Result<Self, PercentError> {
        let bad = || PercentError::Text(text.chars().take(64).collect());
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str| (1..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(places) {
            return Err(bad());
        }
        let fourth: String = places.chars().chain("0000".chars()).take(4).collect();
        let whole: u32 = whole.parse().map_err(|_| bad())?;
        let parts: u32 = fourth.parse().map_err(|_| bad())?;
        match whole.checked_mul(10_000).and_then(|whole| whole.checked_add(parts)) {
            Some(share) if share <= ALL => Ok(Self(share)),
            Some(_) | None => Err(bad()),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = format!("{:04}", self.0 % 10_000);
        match places.trim_end_matches('0') {
            "" => write!(f, "{}%", self.0 / 10_000),
            places => write!(f, "{}.{places}%", self.0 / 10_000),
        }
    }
}

/// Why a fault is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Not the status of an answer.
    #[error("status {0} of a fault, expected 200 to 599")]
    Status(u16),
    /// No time at all.
    #[error("a delay of no time")]
    NoDelay,
}

/// Waits before the request is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    time: Duration,
    percent: Percent,
}

impl Delay {
    /// Lets a share of requests wait. Istio `HTTPFaultInjection.Delay.fixedDelay`.
    ///
    /// # Errors
    /// When there is nothing to wait for.
    pub fn new(time: Duration, percent: Percent) -> Result<Self, FaultError> {
        if time.is_zero() { Err(FaultError::NoDelay) } else { Ok(Self { time, percent }) }
    }
}

/// What is answered instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// A status of HTTP, from 200 to 599.
    Http(u16),
    /// A status of gRPC.
    Grpc(GrpcStatus),
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "{status}"),
            Self::Grpc(status) => write!(f, "gRPC {status}"),
        }
    }
}

/// Faults on purpose. Istio `HTTPFaultInjection`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fault {
    delay: Option<Delay>,
    abort: Option<(Abort, Percent)>,
}

/// The faults of one request: first it waits, then it is answered. Each is drawn by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Injected {
    /// How long it waits.
    pub delay: Option<Duration>,
    /// What is answered instead of sending it on.
    pub abort: Option<Abort>,
}

impl Fault {
    /// Faults on purpose.
    ///
    /// # Errors
    /// When what is answered has no status of an answer.
    pub fn new(delay: Option<Delay>, abort: Option<(Abort, Percent)>) -> Result<Self, FaultError> {
        match abort {
            Some((Abort::Http(status), _)) if !(200..=599).contains(&status) => Err(FaultError::Status(status)),
            Some((Abort::Http(_) | Abort::Grpc(_), _)) | None => Ok(Self { delay, abort }),
        }
    }

    /// The faults of one request.
    pub fn draw(&self, rng: &mut impl Rng) -> Injected {
        Injected {
            delay: self.delay.filter(|delay| delay.percent.draw(rng)).map(|delay| delay.time),
            abort: self.abort.filter(|(_, percent)| percent.draw(rng)).map(|(abort, _)| abort),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Delay { time, percent }) = self.delay {
            write!(f, "delays {percent} by {time:?}")?;
        }
        if let Some((abort, percent)) = self.abort {
            let comma = if self.delay.is_some() { ", " } else { "" };
            write!(f, "{comma}answers {percent} with {abort}")?;
        }
        Ok(())
    }
}

/// A copy of a request, whose answer nobody waits for. Istio `HTTPMirrorPolicy`, Gateway API v1 `HTTPRequestMirrorFilter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Where the copy goes. One that leads nowhere is not sent.
    pub target: Target,
    /// Of how many requests.
    pub percent: Percent,
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn shares_are_read() {
        for (text, want) in [
            ("0", Some(0)),
            ("100", Some(ALL)),
            ("100.0", Some(ALL)),
            ("12.5", Some(125_000)),
            ("0.0001", Some(1)),
            ("0.00009", Some(0)),
            ("100.0001", None),
            ("101", None),
            ("-1", None),
            ("", None),
            (".5", None),
            ("5.", None),
            ("NaN", None),
            ("1e1", None),
            ("99999999999", None),
        ] {
            assert_eq!(text.parse::<Percent>().ok(), want.map(Percent), "{text}");
        }
        for (numerator, denominator, want) in
            [(0, 1, Some("0%")), (1, 1, Some("100%")), (1, 3, Some("33.3333%")), (2, 1, None), (0, 0, None)]
        {
            let share = Percent::fraction(numerator, denominator).ok().map(|share| share.to_string());
            assert_eq!(share.as_deref(), want, "{numerator}/{denominator}");
        }
        assert_eq!("12.50".parse::<Percent>().unwrap().to_string(), "12.5%");
    }

    #[test]
    fn a_share_is_drawn_within_three_standard_deviations() {
        let mut rng = SmallRng::seed_from_u64(11);
        for (text, low, high) in [("0", 0, 0), ("100", 10_000, 10_000), ("10", 910, 1_090), ("0.5", 29, 71)] {
            let percent: Percent = text.parse().unwrap();
            let count = (0..10_000).filter(|_| percent.draw(&mut rng)).count();
            assert!((low..=high).contains(&count), "{text}: {count}");
        }
    }

    #[test]
    fn faults_are_drawn_each_by_itself() {
        let second = Duration::from_secs(1);
        let never: Percent = "0".parse().unwrap();
        let delay = |percent| Some(Delay::new(second, percent).unwrap());
        let unavailable = Abort::Grpc(GrpcStatus::UNAVAILABLE);
        for (fault, want, text) in [
            (Fault::new(None, None), Injected::default(), ""),
            (
                Fault::new(delay(Percent::EVERY), None),
                Injected { delay: Some(second), abort: None },
                "delays 100% by 1s",
            ),
            (Fault::new(delay(never), None), Injected::default(), "delays 0% by 1s"),
            (
                Fault::new(delay(Percent::EVERY), Some((Abort::Http(418), Percent::EVERY))),
                Injected { delay: Some(second), abort: Some(Abort::Http(418)) },
                "delays 100% by 1s, answers 100% with 418",
            ),
            (
                Fault::new(None, Some((unavailable, Percent::EVERY))),
                Injected { delay: None, abort: Some(unavailable) },
                "answers 100% with gRPC UNAVAILABLE",
            ),
        ] {
            let fault = fault.unwrap();
            assert_eq!(fault.draw(&mut SmallRng::seed_from_u64(1)), want, "{fault:?}");
            assert_eq!(fault.to_string(), text);
        }
        assert_eq!(Delay::new(Duration::ZERO, never), Err(FaultError::NoDelay));
        for status in [0, 100, 600] {
            assert_eq!(Fault::new(None, Some((Abort::Http(status), never))), Err(FaultError::Status(status)));
        }
    }
}
