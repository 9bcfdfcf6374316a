//! Times as programs write them.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The time of an RFC 3339 text.
pub(crate) fn read(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// How long it is, in its largest unit.
pub(crate) fn short(long: Duration) -> String {
    let seconds = long.as_secs();
    for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds >= unit {
            return format!("{}{name}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_and_a_duration_is_short() {
        assert_eq!(read("1970-01-01T00:01:00Z"), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(60)));
        assert_eq!(read("yesterday"), None);
        for (seconds, want) in [(0, "0s"), (59, "59s"), (60, "1m"), (7_300, "2h"), (200_000, "2d")] {
            assert_eq!(short(Duration::from_secs(seconds)), want);
        }
    }
}
