//! Ethernet, IP and TCP headers, as far as a listener needs them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP's protocol number.
const TCP: u8 = 6;

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'p> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Number of its first byte. RFC 9293 §3.1.
    pub(crate) sequence: u32,
    /// Whether it opens a connection: SYN without ACK.
    pub(crate) opens: bool,
    /// Whether it has SYN, which takes one number.
    pub(crate) syn: bool,
    pub(crate) payload: &'p [u8],
}

/// The TCP segment in an Ethernet frame; none when it holds something else, or a fragment.
pub(crate) fn parse(frame: &[u8]) -> Option<Segment<'_>> {
    let (ethernet, packet) = frame.split_at_checked(14)?;
    match ethernet.get(12..14)? {
        [0x08, 0x00] => ipv4(packet),
        [0x86, 0xdd] => ipv6(packet),
        _other => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Segment<'_>> {
    let head = usize::from(packet.first()? & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let fragment = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?);
    // More fragments, or not the first.
    if *packet.get(9)? != TCP || fragment & 0x3fff != 0 {
        return None;
    }
    let from = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
    let to = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
    // Zero: larger than the field can say, as left to hardware segmentation.
    let end = if length == 0 { packet.len() } else { length };
    tcp(packet.get(head..end)?, from.into(), to.into())
}

fn ipv6(packet: &[u8]) -> Option<Segment<'_>> {
    let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
    if *packet.get(6)? != TCP {
        return None;
    }
    let from = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?);
    let to = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
    let end = if length == 0 { packet.len() } else { 40 + length };
    tcp(packet.get(40..end)?, from.into(), to.into())
}

fn tcp(bytes: &[u8], from: IpAddr, to: IpAddr) -> Option<Segment<'_>> {
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let sequence = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let head = usize::from(bytes.get(12)? >> 4) * 4;
    let flags = bytes.get(13)?;
    Some(Segment {
        from: SocketAddr::new(from, port(0)?),
        to: SocketAddr::new(to, port(2)?),
        sequence,
        opens: flags & 0x12 == 0x02,
        syn: flags & 0x02 != 0,
        payload: bytes.get(head..)?,
    })
}
