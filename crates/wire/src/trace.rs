//! Which trace a connection or a request belongs to: W3C Trace Context and B3, read from headers and written for the next hop.
//!
//! In: headers a peer wrote. Out: the trace and the span before this one, what was decided about sampling, and the headers that
//! say so to whom it is passed on. What cannot be read is no trace, never an error.

mod b3;
mod context;

pub use context::{Decision, Forms, HEADERS, Incoming, Outgoing, Parent};

use std::fmt;

/// The ids of one hop. Random ones come from the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace, not zero.
    pub trace: u128,
    /// The hop within it, not zero.
    pub span: u64,
    /// Flags; bit 0 says it is sampled.
    pub flags: u8,
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl Traceparent {
    /// Reads version 00, and of a later one what it has in common with that (§4.3); a peer's value that is anything else is no
    /// trace, which is never an error.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (text, rest) = text.split_at_checked(55)?;
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split('-');
        let hex = |part: Option<&str>, len: usize| {
            let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            part.filter(|p| p.len() == len && p.chars().all(lower)).and_then(|p| u128::from_str_radix(p, 16).ok())
        };
        let version = hex(parts.next(), 2)?;
        let trace = hex(parts.next(), 32)?;
        let span = hex(parts.next(), 16).and_then(|s| u64::try_from(s).ok())?;
        let flags = hex(parts.next(), 2).and_then(|f| u8::try_from(f).ok())?;
        let whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        (whole && trace != 0 && span != 0 && parts.next().is_none()).then_some(Self { trace, span, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_prints_as_it_was_read_and_nothing_else_is_one() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Traceparent::parse(text.as_bytes()).unwrap().to_string(), text);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn of_a_later_version_what_is_known_is_read() {
        let of_now = Traceparent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        for later in [
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-be",
        ] {
            assert_eq!(Traceparent::parse(later.as_bytes()), of_now, "{later}");
        }
    }
}
