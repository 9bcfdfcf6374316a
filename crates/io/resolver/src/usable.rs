//! Which addresses of a name are gone to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use weir_model::canonical_ip;

/// Whether somebody else can be at an address: whoever writes a name must not thereby reach what listens on this very host for itself, nor the services of
/// the link, such as the metadata of clouds.
pub fn is_usable(ip: IpAddr) -> bool {
    match canonical_ip(ip) {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            first != 0 && !ip.is_loopback() && !ip.is_link_local() && !ip.is_multicast() && !ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_multicast()
        }
    }
}

/// Whether the system would send anything there. Nothing is sent.
pub(crate) fn has_route(ip: IpAddr) -> bool {
    let own: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The port of `discard`, which nothing reaches.
    UdpSocket::bind((own, 0)).and_then(|socket| socket.connect(SocketAddr::new(ip, 9))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_at_an_address_of_ones_own() {
        for (ip, want) in [
            ("192.0.2.1", true),
            ("10.0.0.1", true),
            ("240.240.0.1", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:192.0.2.1", true),
        ] {
            assert_eq!(is_usable(ip.parse().unwrap()), want, "{ip}");
        }
    }

    #[test]
    fn there_is_a_way_to_oneself() {
        assert!(has_route(Ipv4Addr::LOCALHOST.into()));
    }
}
