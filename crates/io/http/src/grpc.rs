//! gRPC as far as a proxy sees it: calls by their content type, messages by their frames, statuses by their headers.

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

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
    fn text_is_carried_in_a_header() {
        assert_eq!(message("no healthy upstream"), "no healthy upstream");
        assert_eq!(message("50% \u{e9}\n"), "50%25 %C3%A9%0A");
    }
}
