//! Why a policy is not one.

use std::time::Duration;

/// Why a value has no place in a policy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// A percentage that is none.
    #[error("{what} of {value} %, between 0 and 100 is expected")]
    Percent {
        /// What it is of.
        what: &'static str,
        /// As given.
        value: f64,
    },
    /// A number that must be above zero, and is not.
    #[error("{what} of {value}, more than 0 is expected")]
    NotPositive {
        /// What it is of.
        what: &'static str,
        /// As given.
        value: f64,
    },
    /// A time that is too short to mean anything.
    #[error("{what} of {value:?}, at least {least:?} is expected")]
    TooShort {
        /// What it is of.
        what: &'static str,
        /// As given.
        value: Duration,
        /// The shortest.
        least: Duration,
    },
    /// A hash ring that is empty or too large.
    #[error("ring of {size} points, 1 to {max} are expected")]
    RingSize {
        /// As given.
        size: u64,
        /// The largest.
        max: u32,
    },
    /// A Maglev table that is too large, or whose size is no prime.
    #[error("table of {size} entries, a prime of at most {max} is expected")]
    TableSize {
        /// As given.
        size: u64,
        /// The largest.
        max: u32,
    },
    /// A text that is empty, too long, or has a character that does not belong.
    #[error("{what} {text:?}, expected are 1 to {max} bytes of {allowed}")]
    Text {
        /// What it names.
        what: &'static str,
        /// As given.
        text: String,
        /// The most bytes.
        max: usize,
        /// What may stand in it, in words.
        allowed: &'static str,
    },
    /// A place that is not written as region/zone/subzone.
    #[error(
        "locality {text:?} is not of the form region/zone/subzone, each part but the first optional, the last perhaps *"
    )]
    Locality {
        /// As given.
        text: String,
    },
    /// Shares of traffic that are not all of it.
    #[error("traffic from {from} is distributed by {sum} %, 100 is expected")]
    Distribution {
        /// Where it comes from.
        from: String,
        /// What the shares add up to.
        sum: u64,
    },
    /// A place that is named twice.
    #[error("traffic from {from} is distributed to {to} twice")]
    DistributedTwice {
        /// Where it comes from.
        from: String,
        /// Where it goes.
        to: String,
    },
    /// A list that is too long.
    #[error("{count} {what}, at most {max} are allowed")]
    TooMany {
        /// What is listed.
        what: &'static str,
        /// How many.
        count: usize,
        /// The most.
        max: usize,
    },
    /// A status that HTTP does not have.
    #[error("status {code} counted as an error, 100 to 599 are expected")]
    Status {
        /// As given.
        code: u16,
    },
}
