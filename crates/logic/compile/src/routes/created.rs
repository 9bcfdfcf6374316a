//! When an object was made, as a time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_manifest::ConfigObject;

/// `metadata.creationTimestamp`, which the parser took in one form alone: `2026-08-01T10:00:00Z`.
pub(super) fn created(object: &ConfigObject) -> Option<SystemTime> {
    let text = object.created.as_deref()?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let time = (days(year, month, day)? * 24 + hour) * 3_600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(time))
}

/// Days from the first of 1970 to a day of the Gregorian calendar, which months of any length are counted into.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that begin in March, so that the leap day is their last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let leaps = years / 4 - years / 100 + years / 400;
    let of_year = (153 * months + 2) / 5 + day.checked_sub(1)?;
    (years * 365 + leaps + of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (day, want) in [
            ((1970, 1, 1), Some(0)),
            ((1970, 3, 1), Some(59)),
            ((2000, 2, 29), Some(11_016)),
            ((2000, 3, 1), Some(11_017)),
            ((2026, 8, 1), Some(20_666)),
            ((2100, 3, 1), Some(47_541)),
            ((1969, 12, 31), None),
            ((0, 1, 1), None),
            ((2026, 1, 0), None),
        ] {
            assert_eq!(days(day.0, day.1, day.2), want, "{day:?}");
        }
    }
}
