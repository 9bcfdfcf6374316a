//! When an object was made.

use std::time::{Duration, SystemTime};

/// The time of `metadata.creationTimestamp`, such as `2026-08-01T10:00:00Z`: the one form in which Kubernetes writes it. Nothing for any other.
pub(in crate::routes) fn time(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let away = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(away) } else { SystemTime::UNIX_EPOCH.checked_add(away) }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that the odd day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_month = (153 * month + 2) / 5;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-02T00:00:01Z", Some(86_401)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2026-08-01T10:00:00Z", Some(1_785_578_400)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("", None),
            ("yesterday", None),
        ] {
            let want = want.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(time(text), want, "{text}");
        }
        assert!(time("1969-12-31T23:59:59Z").unwrap() < SystemTime::UNIX_EPOCH);
        assert!(time("0000-00-00T00:00:00Z").is_some() && time("9999-99-99T99:99:99Z").is_some());
    }
}
