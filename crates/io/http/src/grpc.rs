//! gRPC as far as a proxy sees it: calls by their content type, messages by their frames, statuses by their headers.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

/// The trailer that says how a call ended.
pub(crate) const STATUS: &str = "grpc-status";

/// Whether a message is of gRPC. gRPC `PROTOCOL-HTTP2`: `application/grpc`, and something behind a `+` or `;`.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).and_then(|value| {
        let (start, rest) = value.split_at_checked(b"application/grpc".len())?;
        start.eq_ignore_ascii_case(b"application/grpc").then_some(rest)
    });
    matches!(rest, Some([] | [b'+' | b';' | b' ', ..]))
}

/// `grpc-status`, if it is there.
pub(crate) fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// How long a client waits for its call.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Milliseconds in each unit that is longer. gRPC `PROTOCOL-HTTP2`, `TimeoutUnit`.
const UNITS: [(u8, u64); 4] = [(b'm', 1), (b'S', 1_000), (b'M', 60_000), (b'H', 3_600_000)];
/// The most that a timeout counts of its unit: eight digits.
const MOST: u64 = 99_999_999;

/// How long a client says it waits; nothing for no time at all, or for what is no timeout. gRPC `PROTOCOL-HTTP2`, `Timeout`.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(TIMEOUT)?.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let time = match unit {
        b'n' => Duration::from_nanos(count),
        b'u' => Duration::from_micros(count),
        unit => {
            let (_, each) = UNITS.iter().find(|(known, _)| known == unit)?;
            Duration::from_millis(count.saturating_mul(*each))
        }
    };
    (!time.is_zero()).then_some(time)
}

/// How long a call may take: as long as its client waits for it, and no longer than its rule says. Envoy `max_grpc_timeout`, which Istio sets to the
/// timeout of the rule.
pub(crate) fn limit(headers: &HeaderMap, most: Option<Duration>) -> Option<Duration> {
    let asked = timeout(headers);
    asked.into_iter().chain(most).min()
}

/// `grpc-timeout` of a time, in whole milliseconds at least; of one that is very long, in the least unit that has room for it.
pub(crate) fn timeout_of(time: Duration) -> HeaderValue {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let fits = UNITS.iter().map(|(unit, each)| (unit, millis.div_ceil(*each))).find(|(_, count)| *count <= MOST);
    let (unit, count) = fits.unwrap_or((&b'H', MOST));
    HeaderValue::try_from(format!("{count}{}", char::from(*unit))).unwrap_or(HeaderValue::from_static("1H"))
}

/// The status of gRPC that stands for one of HTTP. gRPC `http-grpc-status-mapping`.
pub(crate) fn status_of(http: u16) -> u8 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The status of HTTP that stands for one of gRPC, as outlier detection counts it. Envoy `Grpc::Utility::grpcToHttpStatus`.
pub(crate) fn http_status(grpc: u32) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// `grpc-message`: what is not plain is written in percent. gRPC `PROTOCOL-HTTP2`.
pub(crate) fn message(text: &str) -> String {
    let mut message = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => message.push(char::from(byte)),
            _ => message.push_str(&format!("%{byte:02X}")),
        }
    }
    message
}

/// Counts messages while their bytes pass. Five bytes in front of each say whether it is compressed, and how long it is.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    count: u64,
    prefix: [u8; 5],
    /// How many bytes of the prefix came.
    at: usize,
    /// How many of the message are still to come.
    left: u32,
}

impl Messages {
    pub(crate) fn read(&mut self, mut data: &[u8]) {
        while let [first, rest @ ..] = data {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
                self.left = self.left.saturating_sub(u32::try_from(skip).unwrap_or(u32::MAX));
                data = &data[skip..];
                continue;
            }
            self.prefix[self.at] = *first;
            self.at += 1;
            data = rest;
            if self.at == self.prefix.len() {
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length);
                self.count += 1;
                self.at = 0;
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::meter::wide;

    proptest! {
        #[test]
        fn all_messages_are_counted_and_no_others(
            lengths in prop::collection::vec(0_u32..300, 0..10),
            cuts in prop::collection::vec(1_usize..50, 1..20),
        ) {
            let mut bytes = Vec::new();
            for length in &lengths {
                bytes.push(0);
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend(std::iter::repeat_n(1, usize::try_from(*length).unwrap()));
            }
            let mut messages = Messages::default();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                messages.read(piece);
                rest = behind;
            }
            prop_assert_eq!(messages.count(), wide(lengths.len()));
        }
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let bytes = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0], &[1, 0, 0, 1, 0], &[7; 256]].concat();
        for cut in [1, 2, 3, 5, 7, 300] {
            let mut messages = Messages::default();
            bytes.chunks(cut).for_each(|piece| messages.read(piece));
            assert_eq!(messages.count(), 3, "{cut}");
        }
    }

    #[test]
    fn a_call_may_take_as_long_as_its_client_waits_and_its_rule_lets_it() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (said, most, want) in [
            (None, None, None),
            (None, Some(minute), Some(minute)),
            (Some("1S"), None, Some(second)),
            (Some("1S"), Some(minute), Some(second)),
            (Some("1000m"), Some(minute), Some(second)),
            (Some("1000000u"), Some(minute), Some(second)),
            (Some("99999999n"), None, Some(Duration::from_nanos(99_999_999))),
            (Some("2M"), Some(minute), Some(minute)),
            (Some("1H"), None, Some(minute * 60)),
            (Some("00000001S"), None, Some(second)),
            // As with Envoy, no time is no limit.
            (Some("0S"), Some(minute), Some(minute)),
            (Some("0S"), None, None),
            (Some("123456789S"), Some(minute), Some(minute)),
            (Some("1"), None, None),
            (Some("S"), None, None),
            (Some("-1S"), None, None),
            (Some("1s"), None, None),
            (Some(""), None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(said.map(|said| (TIMEOUT, HeaderValue::from_static(said))));
            assert_eq!(limit(&headers, most), want, "{said:?} {most:?}");
        }
        for (time, want) in [
            (second, "1000m"),
            (Duration::from_nanos(1), "1m"),
            (Duration::from_millis(MOST), "99999999m"),
            (Duration::from_millis(MOST + 1), "100000S"),
            (Duration::from_secs(MOST + 1), "1666667M"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout_of(time), want, "{time:?}");
        }
    }

    #[test]
    fn text_is_carried_in_a_header() {
        assert_eq!(message("no healthy upstream"), "no healthy upstream");
        assert_eq!(message("50% \u{e9}\n"), "50%25 %C3%A9%0A");
    }
}
