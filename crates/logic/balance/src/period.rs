//! A time that may be a pause, and so must not be nothing.

use std::time::Duration;

use crate::PolicyError;

/// A duration of at least a millisecond: what Istio takes for each duration of a DestinationRule but idle times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// The shortest.
    pub const SHORTEST: Duration = Duration::from_millis(1);

    /// So long.
    ///
    /// # Errors
    /// When it is shorter than [`Period::SHORTEST`].
    pub fn new(what: &'static str, value: Duration) -> Result<Self, PolicyError> {
        if value < Self::SHORTEST {
            return Err(PolicyError::TooShort { what, value, least: Self::SHORTEST });
        }
        Ok(Self(value))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    pub(crate) const TEN_SECONDS: Self = Self(Duration::from_secs(10));
    pub(crate) const THIRTY_SECONDS: Self = Self(Duration::from_secs(30));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_period() {
        for (micros, fits) in [(0, false), (999, false), (1_000, true), (u64::MAX, true)] {
            let value = Duration::from_micros(micros);
            assert_eq!(Period::new("interval", value).is_ok(), fits, "{value:?}");
        }
        let why = Period::new("interval", Duration::ZERO).unwrap_err();
        assert_eq!(why.to_string(), "interval of 0ns, at least 1ms is expected");
    }
}
