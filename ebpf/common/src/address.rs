//! An address as the maps hold it: 16 bytes, IPv4 as v4-mapped IPv6, so that v4, v6 and v4-mapped sockets
//! meet under one key. This is the only place that knows about the mapping.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::{BigEndian, FromBytes, Immutable, IntoBytes, KnownLayout, U16};

/// A TCP port, big-endian in memory.
pub type Port = U16<BigEndian>;

/// The third word of a v4-mapped address. RFC 4291 §2.5.5.2.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// An IP address: four words whose memory is the 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Address {
    words: [u32; 4],
}

impl Address {
    /// `::`, the value of a map entry nobody wrote.
    pub const ZERO: Self = Self { words: [0; 4] };

    /// From the four words of a kernel context; each word's memory is in network order.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// From the one word of a kernel context that holds an IPv4 address in network order.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    /// The four words, memory in network order.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 4] {
        self.words
    }

    /// The last word: the IPv4 address in network order when [`Self::is_v4`].
    #[inline(always)]
    pub const fn v4_word(&self) -> u32 {
        self.words[3]
    }

    /// Is this an IPv4 address (which is kept v4-mapped)?
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// `127.0.0.0/8` or `::1`.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() { self.first_octet_v4() == 127 } else { self.is_high_zero() && self.words[3] == 1_u32.to_be() }
    }

    /// `0.0.0.0` or `::`. Linux connects such a destination to the host itself.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        (self.is_v4() || self.is_high_zero()) && self.words[3] == 0
    }

    /// `224.0.0.0/4`, `255.255.255.255` or `ff00::/8`: no TCP goes there.
    #[inline(always)]
    pub const fn is_group(&self) -> bool {
        if self.is_v4() {
            self.first_octet_v4() >> 4 == 0xe || self.words[3] == u32::MAX
        } else {
            self.words[0].to_ne_bytes()[0] == 0xff
        }
    }

    #[inline(always)]
    const fn is_high_zero(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == 0
    }

    #[inline(always)]
    const fn first_octet_v4(&self) -> u8 {
        self.words[3].to_ne_bytes()[0]
    }

    /// The socket address of this address and `port`; IPv4 comes out as IPv4.
    pub fn with_port(&self, port: Port) -> SocketAddr {
        SocketAddr::new(IpAddr::from(*self), port.get())
    }
}

// By hand, word by word: the derived one becomes a call to `memcmp`, which the BPF target lacks.
impl PartialEq for Address {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.words[0] == other.words[0]
            && self.words[1] == other.words[1]
            && self.words[2] == other.words[2]
            && self.words[3] == other.words[3]
    }
}

impl Eq for Address {}

impl From<Ipv4Addr> for Address {
    fn from(v4: Ipv4Addr) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(v4.octets()))
    }
}

impl From<Ipv6Addr> for Address {
    fn from(v6: Ipv6Addr) -> Self {
        zerocopy::transmute!(v6.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        let octets: [u8; 16] = zerocopy::transmute!(address.words);
        Ipv6Addr::from(octets).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn each_address_is_of_the_kind_its_rfc_says() {
        for (text, v4, loopback, unspecified, group) in [
            ("10.1.2.3", true, false, false, false),
            ("127.0.0.1", true, true, false, false),
            ("127.255.3.4", true, true, false, false),
            ("128.0.0.1", true, false, false, false),
            ("0.0.0.0", true, false, true, false),
            ("224.0.0.1", true, false, false, true),
            ("239.255.255.255", true, false, false, true),
            ("240.0.0.1", true, false, false, false),
            ("255.255.255.255", true, false, false, true),
            ("::ffff:127.0.0.1", true, true, false, false),
            ("::ffff:0.0.0.0", true, false, true, false),
            ("::ffff:10.0.0.1", true, false, false, false),
            ("::", false, false, true, false),
            ("::1", false, true, false, false),
            ("::2", false, false, false, false),
            ("::127.0.0.1", false, false, false, false),
            ("1::1", false, false, false, false),
            ("fd00::1", false, false, false, false),
            ("fe80::1", false, false, false, false),
            ("ff02::1", false, false, false, true),
        ] {
            let a = address(text);
            let got = (a.is_v4(), a.is_loopback(), a.is_unspecified(), a.is_group());
            assert_eq!(got, (v4, loopback, unspecified, group), "{text}");
        }
    }

    #[test]
    fn an_address_survives_the_way_into_the_map_and_back() {
        for (text, back) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("fd00::a:b", "fd00::a:b"),
            ("::1", "::1"),
            ("::", "::"),
        ] {
            assert_eq!(format!("{}", IpAddr::from(address(text))), back);
        }
        assert_eq!(address("10.1.2.3"), address("::ffff:10.1.2.3"));
        assert_ne!(address("10.1.2.3"), address("::10.1.2.3"));
        assert_eq!(address("10.1.2.3").v4_word().to_ne_bytes(), [10, 1, 2, 3]);
        assert_eq!(format!("{}", address("fd00::1").with_port(Port::new(80))), "[fd00::1]:80");
    }

    #[test]
    fn addresses_that_differ_in_one_word_differ() {
        let base = [1, 2, 3, 4];
        for word in 0..4 {
            let mut other = base;
            other[word] += 1;
            assert_ne!(Address::from_words(base), Address::from_words(other), "word {word}");
        }
        assert_eq!(Address::from_words(base), Address::from_words(base));
    }
}
