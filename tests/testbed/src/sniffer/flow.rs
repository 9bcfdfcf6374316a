//! One direction of a TCP connection: what was already seen of it, so that nothing counts twice and nothing hides between segments.

use std::net::SocketAddr;

use super::packet::Segment;

/// From, to.
pub(crate) type Key = (SocketAddr, SocketAddr);

/// Bytes from the start that are kept, for handshakes.
const PREFIX: usize = 16 << 10;

#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Number of the SYN.
    first: Option<u32>,
    /// Number of the byte that comes next.
    next: Option<u32>,
    /// The last bytes before it, one fewer than the needle has.
    tail: Vec<u8>,
    prefix: Vec<u8>,
}

impl Flow {
    /// Whether its SYN had this number.
    pub(crate) fn began_at(&self, sequence: u32) -> bool {
        self.first == Some(sequence)
    }

    /// The start of the stream, as far as it was seen without a gap.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Takes in a segment; the answer is how often the needle ends in what of it is new.
    pub(crate) fn take(&mut self, segment: &Segment<'_>, needle: &[u8], keep_prefix: bool) -> u64 {
        if segment.syn {
            self.first = Some(segment.sequence);
            self.next = Some(segment.sequence.wrapping_add(1));
            return 0;
        }
        if segment.payload.is_empty() {
            return 0;
        }
        let length = u32::try_from(segment.payload.len()).expect("below the largest packet");
        let next = self.next.unwrap_or(segment.sequence);
        // Distance back to what was expected; "negative" is a gap. RFC 9293 §3.4.
        let known = next.wrapping_sub(segment.sequence);
        let fresh = if known == 0 {
            segment.payload
        } else if known >= 1 << 31 {
            // A gap: what was before does not join on to this.
            self.tail.clear();
            segment.payload
        } else if known >= length {
            return 0;
        } else {
            &segment.payload[usize::try_from(known).expect("below its length")..]
        };
        let gap = known >= 1 << 31;
        if keep_prefix && !gap && self.first.is_some() {
            fresh.iter().take(PREFIX - self.prefix.len()).for_each(|byte| self.prefix.push(*byte));
        }
        self.next = Some(segment.sequence.wrapping_add(length));
        self.count(fresh, needle)
    }

    fn count(&mut self, fresh: &[u8], needle: &[u8]) -> u64 {
        let Some(overlap) = needle.len().checked_sub(1) else { return 0 };
        let mut joint = std::mem::take(&mut self.tail);
        joint.extend_from_slice(&fresh[..fresh.len().min(overlap)]);
        let found = hits(needle, &joint) + hits(needle, fresh);
        // Within the joint piece only needles that begin in the tail were found: fresh[..overlap] is too short for a whole one.
        if fresh.len() >= overlap {
            self.tail = fresh[fresh.len() - overlap..].to_vec();
        } else {
            self.tail = joint.split_off(joint.len().saturating_sub(overlap));
        }
        found
    }
}

/// How often `needle` is in `hay`.
pub(crate) fn hits(needle: &[u8], hay: &[u8]) -> u64 {
    let Some(first) = needle.first() else { return 0 };
    let (mut found, mut from) = (0, 0);
    while let Some(at) = hay[from..].iter().position(|byte| byte == first) {
        let start = from + at;
        found += u64::from(hay[start..].starts_with(needle));
        from = start + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequence number and payload.
    type Piece = (u32, &'static [u8]);

    fn count(segments: &[Piece]) -> u64 {
        let mut flow = Flow::default();
        let address = "192.0.2.1:1".parse().unwrap();
        let take = |(sequence, payload): &Piece| {
            let (from, to, sequence) = (address, address, *sequence);
            flow.take(&Segment { from, to, sequence, opens: false, syn: false, payload }, b"needle", false)
        };
        segments.iter().map(take).sum()
    }

    #[test]
    fn a_needle_counts_once_however_the_stream_is_cut_sent_again_or_joined() {
        let near_wrap = u32::MAX - 2;
        let cases: [(&[Piece], u64); 9] = [
            (&[(0, b"a needle in hay, a needle")], 2),
            (&[(0, b"a nee"), (5, b"dle")], 1),
            (&[(0, b"n"), (1, b"e"), (2, b"e"), (3, b"d"), (4, b"l"), (5, b"e")], 1),
            (&[(0, b"needle"), (0, b"needle")], 1),
            (&[(0, b"xxneed"), (2, b"needle")], 1),
            (&[(0, b"nee"), (9, b"dle")], 0),
            (&[(0, b"nee"), (9, b"needle")], 1),
            (&[(near_wrap, b"nee"), (0, b"dle")], 1),
            (&[(0, b"needl"), (5, b"xneedle")], 1),
        ];
        for (segments, want) in cases {
            assert_eq!(count(segments), want, "{segments:?}");
        }
    }
}
