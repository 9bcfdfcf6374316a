//! The PROXY protocol, version 1: a line that says whose connection it is. HAProxy's `proxy-protocol.txt` §2.1. It is only written: who is asked to believe
//! one by us is asked in version 2.

use std::net::{IpAddr, SocketAddr};

use weir_model::canonical_socket;

/// The line of a connection of `client` to `target`. Addresses of two families are both written as IPv6.
pub fn encode(client: SocketAddr, target: SocketAddr) -> String {
    let (client, target) = (canonical_socket(client), canonical_socket(target));
    let (family, from, to) = match (client.ip(), target.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ("TCP4", from.to_string(), to.to_string()),
        (from, to) => ("TCP6", six(from), six(to)),
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), target.port())
}

fn six(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_string(),
        IpAddr::V6(ip) => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_and_where_to() {
        for (client, target, want) in [
            ("192.0.2.1:5", "192.0.2.2:443", "PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\n"),
            ("[2001:db8::1]:5", "[2001:db8::2]:443", "PROXY TCP6 2001:db8::1 2001:db8::2 5 443\r\n"),
            ("192.0.2.1:5", "[2001:db8::2]:443", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 5 443\r\n"),
            ("[::ffff:192.0.2.1]:5", "192.0.2.2:443", "PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\n"),
        ] {
            let line = encode(client.parse().unwrap(), target.parse().unwrap());
            assert_eq!(line, want);
            assert!(line.len() <= 107, "the longest that receivers must take");
        }
    }
}
