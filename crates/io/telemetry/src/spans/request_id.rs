//! `x-request-id`: a UUID, in which Envoy keeps whether and why a request is traced.

use std::fmt;

use weir_model::SAMPLES_OF;

/// Where Envoy writes that, in the place of the UUID's version. `UUIDRequestIDExtension`.
const REASON_AT: usize = 14;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Whether a hyphen stands there. RFC 9562 §4.
const fn is_hyphen(at: usize) -> bool {
    matches!(at, 8 | 13 | 18 | 23)
}

/// An `x-request-id` that is a UUID.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 36]);

/// Why a request is traced that nobody before decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It is not.
    NotTraced,
    /// By chance.
    Sampled,
    /// `x-envoy-force-trace`.
    Service,
    /// `x-client-trace-id`.
    Client,
}

impl Reason {
    fn digit(self) -> u8 {
        match self {
            Self::NotTraced => b'4',
            Self::Sampled => b'9',
            Self::Service => b'a',
            Self::Client => b'b',
        }
    }
}

impl RequestId {
    /// One of version 4 out of random bits. RFC 9562 §5.4.
    pub fn random(bits: u128) -> Self {
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let mut text = [b'-'; 36];
        let mut at = 0;
        // Each request that has none gets one: by hand, for formatting costs ten times as much.
        for byte in bits.to_be_bytes() {
            at += usize::from(is_hyphen(at));
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 0xf)];
            at += 2;
        }
        Self(text)
    }

    /// Reads one; other texts are legal values of the header, too, but say nothing about traces.
    pub fn read(text: &[u8]) -> Option<Self> {
        let text: [u8; 36] = text.try_into().ok()?;
        let legal = |(at, byte): (usize, &u8)| match at {
            at if is_hyphen(at) => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        text.iter().enumerate().all(legal).then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and hyphens")
    }

    /// A number below [`SAMPLES_OF`] that everybody who sees this id finds alike. Envoy's.
    pub(super) fn chance(&self) -> u32 {
        u32::from_str_radix(&self.as_str()[..8], 16).expect("eight digits") % SAMPLES_OF
    }

    /// What somebody decided who wrote it.
    pub(super) fn reason(&self) -> Reason {
        match self.0[REASON_AT] {
            b'9' => Reason::Sampled,
            b'a' | b'A' => Reason::Service,
            b'b' | b'B' => Reason::Client,
            _ => Reason::NotTraced,
        }
    }

    pub(super) fn because(mut self, reason: Reason) -> Self {
        self.0[REASON_AT] = reason.digit();
        self
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_of_random_bits_is_a_uuid_of_version_4_and_is_read_again(bits: u128) {
            let id = RequestId::random(bits);
            let text = id.as_str();
            prop_assert_eq!((&text[14..15], text.len()), ("4", 36));
            prop_assert!("89ab".contains(&text[19..20]), "{text}");
            prop_assert_eq!(RequestId::read(text.as_bytes()), Some(id));
            prop_assert_eq!(id.reason(), Reason::NotTraced);
            for reason in [Reason::NotTraced, Reason::Sampled, Reason::Service, Reason::Client] {
                prop_assert_eq!(id.because(reason).reason(), reason);
                prop_assert_eq!(id.because(reason).chance(), id.chance());
            }
        }
    }

    #[test]
    fn only_a_uuid_is_read() {
        for (text, chance) in [
            ("00002710-0000-4000-8000-000000000000", Some(0)),
            ("0000270F-0000-4000-8000-000000000000", Some(9_999)),
            ("ffffffff-0000-4000-8000-000000000000", Some(4_294_967_295_u32 % 10_000)),
            ("ffffffff-0000-4000-8000-00000000000", None),
            ("ffffffff-0000-4000-8000-0000000000000", None),
            ("ffffffff_0000-4000-8000-000000000000", None),
            ("gfffffff-0000-4000-8000-000000000000", None),
            ("", None),
        ] {
            assert_eq!(RequestId::read(text.as_bytes()).map(|id| id.chance()), chance, "{text}");
        }
    }
}
