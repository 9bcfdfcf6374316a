//! Addresses and ports, normalised once: an IPv4 address mapped into IPv6 is the IPv4 address.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
};

/// Why a text or number is no address of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Zero, negative or beyond 65535.
    #[error("{0} is not a port: expected 1 to 65535")]
    Port(String),
}

/// A TCP port that can be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port, if it is not zero.
    pub const fn new(port: u16) -> Option<Self> {
        match NonZeroU16::new(port) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }

    /// The port as a number.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<i64> for Port {
    type Error = AddressError;

    fn try_from(port: i64) -> Result<Self, AddressError> {
        u16::try_from(port).ok().and_then(Self::new).ok_or_else(|| AddressError::Port(port.to_string()))
    }
}

impl FromStr for Port {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| AddressError::Port(format!("{text:?}")))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The address without an IPv4-in-IPv6 disguise (RFC 4291 §2.5.5.2).
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The socket address without an IPv4-in-IPv6 disguise, flow label or scope.
pub fn canonical_socket(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}

/// Where an application wanted to connect before it was caught. Always canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrigDst(SocketAddr);

impl OrigDst {
    /// The destination, made canonical.
    pub fn new(address: SocketAddr) -> Self {
        Self(canonical_socket(address))
    }

    /// The destination as a socket address.
    pub fn socket(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for OrigDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped: SocketAddr = "[::ffff:10.0.0.7]:80".parse().unwrap();
        assert_eq!(OrigDst::new(mapped).to_string(), "10.0.0.7:80");
        let real: SocketAddr = "[fd00::7]:80".parse().unwrap();
        assert_eq!(OrigDst::new(real).to_string(), "[fd00::7]:80");
    }

    #[test]
    fn port_zero_and_ports_beyond_16_bits_are_refused() {
        for bad in [0, -1, 65_536, i64::MAX] {
            assert!(Port::try_from(bad).is_err(), "{bad} was taken");
        }
        assert_eq!(Port::try_from(65_535).map(Port::number), Ok(65_535));
    }
}
