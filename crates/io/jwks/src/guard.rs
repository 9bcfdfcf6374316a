//! Which addresses may be asked for keys.
//!
//! A rule names a URL, and whoever may write a rule in one namespace must not reach through us what only we can reach: ourselves, the node, the
//! cloud's metadata. Every address is judged that a name resolves to, and only one that was judged is connected to, so that a second answer
//! of DNS changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weir_manifest::KeysUrl;
use weir_request::{Authority, Host};

/// What the operator allows beside public addresses. Networks open private and loopback addresses in them, names the private ones they resolve
/// to; nothing opens link-local ones, those of clouds' metadata, and those that are nobody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    networks: Vec<IpNet>,
    /// Whole names, in lower case, without a dot at the end.
    hosts: Vec<String>,
}

/// A text that is neither a network nor an address nor the name of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no CIDR, no IP address and no name of a host")]
pub struct NotAllowed(String);

/// Why an address is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// RFC 1918, RFC 6598, RFC 4193 and the like.
    #[error("it is private, and neither its network nor its host is allowed")]
    Private,
    /// RFC 1122 §3.2.1.3, RFC 4291 §2.5.3.
    #[error("it is loopback, and its network is not allowed")]
    Loopback,
    /// RFC 3927, RFC 4291 §2.5.6, and where clouds tell machines their secrets.
    #[error("it is link-local, or of a cloud's metadata")]
    LinkLocal,
    /// Unspecified, multicast, broadcast, reserved, for documents.
    #[error("it is no address of one host")]
    NoHost,
}

/// What an address is, as far as that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Public,
    Not(Refused),
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, third: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), prefix)
}

/// Networks that are not public, those first that lie in others. IANA IPv4 Special-Purpose Address Registry.
const V4: &[(Ipv4Net, Refused)] = &[
    (v4(0, 0, 0, 0, 8), Refused::NoHost),
    (v4(127, 0, 0, 0, 8), Refused::Loopback),
    (v4(169, 254, 0, 0, 16), Refused::LinkLocal),
    // Metadata at other addresses: Alibaba, Oracle, Azure.
    (v4(100, 100, 100, 200, 32), Refused::LinkLocal),
    (v4(192, 0, 0, 192, 32), Refused::LinkLocal),
    (v4(168, 63, 129, 16, 32), Refused::LinkLocal),
    (v4(10, 0, 0, 0, 8), Refused::Private),
    (v4(172, 16, 0, 0, 12), Refused::Private),
    (v4(192, 168, 0, 0, 16), Refused::Private),
    (v4(100, 64, 0, 0, 10), Refused::Private),
    (v4(198, 18, 0, 0, 15), Refused::Private),
    (v4(192, 0, 0, 0, 24), Refused::NoHost),
    (v4(192, 0, 2, 0, 24), Refused::NoHost),
    (v4(192, 88, 99, 0, 24), Refused::NoHost),
    (v4(198, 51, 100, 0, 24), Refused::NoHost),
    (v4(203, 0, 113, 0, 24), Refused::NoHost),
    (v4(224, 0, 0, 0, 3), Refused::NoHost),
];

/// The same of IPv6. IANA IPv6 Special-Purpose Address Registry.
const V6: &[(Ipv6Net, Refused)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Refused::Loopback),
    // Of IPv4 in a form nobody uses, and the unspecified address.
    (v6(0, 0, 0, 96), Refused::NoHost),
    (v6(0x64, 0xff9b, 1, 48), Refused::Private),
    (v6(0x100, 0, 0, 64), Refused::NoHost),
    // Teredo and other protocols' own.
    (v6(0x2001, 0, 0, 23), Refused::NoHost),
    (v6(0x2001, 0xdb8, 0, 32), Refused::NoHost),
    (v6(0x3fff, 0, 0, 20), Refused::NoHost),
    (v6(0x5f00, 0, 0, 16), Refused::NoHost),
    // Metadata of Amazon's cloud, within what is private.
    (Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128), Refused::LinkLocal),
    (v6(0xfc00, 0, 0, 7), Refused::Private),
    (v6(0xfe80, 0, 0, 10), Refused::LinkLocal),
    (v6(0xfec0, 0, 0, 10), Refused::Private),
    (v6(0xff00, 0, 0, 8), Refused::NoHost),
];

/// IPv4 addresses in IPv6 that a router unpacks, with the bits before them. RFC 6052 §2.1, RFC 3056 §2.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 16);

impl Allowed {
    /// Allows what is listed: networks, single addresses, names of hosts.
    ///
    /// # Errors
    /// With the first entry that is none of these.
    pub fn new<'e>(entries: impl IntoIterator<Item = &'e str>) -> Result<Self, NotAllowed> {
        let mut all = Self::default();
        for entry in entries {
            let network = entry.parse::<IpNet>().ok();
            let address = || entry.parse::<IpAddr>().ok().map(|address| address.to_canonical().into());
            if let Some(network) = network.or_else(address) {
                all.networks.push(network);
                continue;
            }
            match Authority::read(entry).map(|read| (read.host(), read.port())) {
                Ok((Host::Name(name), None)) => all.hosts.push(name.to_ascii_lowercase()),
                Ok(_) | Err(_) => return Err(NotAllowed(entry.to_owned())),
            }
        }
        Ok(all)
    }

    /// Whether an address that the host of a URL has may be asked.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn check(&self, url: &KeysUrl, address: IpAddr) -> Result<(), Refused> {
        // As the kernel connects to it.
        let address = address.to_canonical();
        let Class::Not(why) = class(address) else { return Ok(()) };
        let by_network = self.networks.iter().any(|network| network.contains(&address));
        let by_host = || {
            let Host::Name(host) = url.host() else { return false };
            self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
        };
        let is_open = match why {
            Refused::Private => by_network || by_host(),
            Refused::Loopback => by_network,
            Refused::LinkLocal | Refused::NoHost => false,
        };
        if is_open { Ok(()) } else { Err(why) }
    }
}

fn class(address: IpAddr) -> Class {
    let why = match address {
        IpAddr::V4(ip) => return class_v4(ip),
        IpAddr::V6(ip) if NAT64.contains(&ip) => {
            let [.., a, b, c, d] = ip.octets();
            return class_v4(Ipv4Addr::new(a, b, c, d));
        }
        IpAddr::V6(ip) if SIX_TO_FOUR.contains(&ip) => {
            let [_, _, a, b, c, d, ..] = ip.octets();
            return class_v4(Ipv4Addr::new(a, b, c, d));
        }
        IpAddr::V6(ip) => V6.iter().find(|(network, _)| network.contains(&ip)),
    };
    why.map_or(Class::Public, |(_, why)| Class::Not(*why))
}

fn class_v4(ip: Ipv4Addr) -> Class {
    let why = V4.iter().find(|(network, _)| network.contains(&ip));
    why.map_or(Class::Public, |(_, why)| Class::Not(*why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(networks: &[&str], hosts: &[&str]) -> Allowed {
        Allowed::new(networks.iter().chain(hosts).copied()).unwrap()
    }

    #[test]
    fn networks_addresses_and_names_are_told_apart() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        for (entry, want) in [
            ("10.0.0.0/8", Some((vec![net("10.0.0.0/8")], vec![]))),
            ("10.0.0.1", Some((vec![net("10.0.0.1/32")], vec![]))),
            ("fd00::/8", Some((vec![net("fd00::/8")], vec![]))),
            ("fd00::1", Some((vec![net("fd00::1/128")], vec![]))),
            ("::ffff:10.0.0.1", Some((vec![net("10.0.0.1/32")], vec![]))),
            ("Keycloak.auth.svc.", Some((vec![], vec!["keycloak.auth.svc"]))),
            ("", None),
            ("10.0.0.0/33", None),
            ("[fd00::1]", None),
            ("a:80", None),
            ("10.0.0.1:80", None),
            ("https://a", None),
            ("*.svc", None),
        ] {
            let read = Allowed::new([entry]).ok().map(|allowed| (allowed.networks, allowed.hosts));
            let want = want.map(|(nets, hosts)| (nets, hosts.into_iter().map(str::to_owned).collect::<Vec<_>>()));
            assert_eq!(read, want, "{entry:?}");
        }
    }

    #[test]
    fn only_public_addresses_are_asked() {
        use Refused::{LinkLocal, Loopback, NoHost, Private};
        let url: KeysUrl = "https://issuer.example/keys".parse().unwrap();
        for (address, want) in [
            ("1.1.1.1", None),
            ("11.0.0.1", None),
            ("172.15.255.255", None),
            ("172.32.0.1", None),
            ("192.167.0.1", None),
            ("100.63.0.1", None),
            ("100.128.0.1", None),
            ("169.253.0.1", None),
            ("223.255.255.255", None),
            ("2606:4700::1111", None),
            ("2a00:1450::1", None),
            ("::ffff:1.1.1.1", None),
            ("64:ff9b::1.1.1.1", None),
            ("2002:101:101::1", None),
            ("0.0.0.0", Some(NoHost)),
            ("0.1.2.3", Some(NoHost)),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.255", Some(Loopback)),
            ("169.254.169.254", Some(LinkLocal)),
            ("169.254.0.1", Some(LinkLocal)),
            ("100.100.100.200", Some(LinkLocal)),
            ("192.0.0.192", Some(LinkLocal)),
            ("168.63.129.16", Some(LinkLocal)),
            ("10.0.0.1", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.1.1", Some(Private)),
            ("100.64.0.1", Some(Private)),
            ("198.19.0.1", Some(Private)),
            ("192.0.2.1", Some(NoHost)),
            ("224.0.0.1", Some(NoHost)),
            ("240.0.0.1", Some(NoHost)),
            ("255.255.255.255", Some(NoHost)),
            ("::", Some(NoHost)),
            ("::1", Some(Loopback)),
            ("::1.1.1.1", Some(NoHost)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::ffff:169.254.169.254", Some(LinkLocal)),
            ("::ffff:10.0.0.1", Some(Private)),
            ("64:ff9b::169.254.169.254", Some(LinkLocal)),
            ("64:ff9b::10.0.0.1", Some(Private)),
            ("64:ff9b:1::1", Some(Private)),
            ("2002:a9fe:a9fe::1", Some(LinkLocal)),
            ("2002:7f00:1::", Some(Loopback)),
            ("2001:0:1::1", Some(NoHost)),
            ("2001:db8::1", Some(NoHost)),
            ("fc00::1", Some(Private)),
            ("fdff::1", Some(Private)),
            ("fd00:ec2::254", Some(LinkLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("fec0::1", Some(Private)),
            ("ff02::1", Some(NoHost)),
        ] {
            let outcome = Allowed::default().check(&url, address.parse().unwrap());
            assert_eq!(outcome.err(), want, "{address}");
        }
    }

    #[test]
    fn what_is_allowed_opens_what_it_names() {
        use Refused::{LinkLocal, Loopback, NoHost, Private};
        let all = ["0.0.0.0/0", "::/0"];
        for (networks, hosts, host, address, want) in [
            (&["10.1.0.0/16"][..], &[][..], "a", "10.1.2.3", None),
            (&["10.1.0.0/16"], &[], "a", "10.2.2.3", Some(Private)),
            (&["10.1.0.0/16"], &[], "a", "::ffff:10.1.2.3", None),
            (&["fd00::/8"], &[], "a", "fd00::1", None),
            (&["fd00::/8"], &[], "a", "fc00::1", Some(Private)),
            (&["fd00::/8"], &[], "a", "fd00:ec2::254", Some(LinkLocal)),
            (&["127.0.0.1/32"], &[], "a", "127.0.0.1", None),
            (&["127.0.0.1/32"], &[], "a", "127.0.0.2", Some(Loopback)),
            (&["::1/128"], &[], "a", "::1", None),
            (&[], &["keycloak.auth.svc"], "keycloak.auth.svc", "10.96.0.9", None),
            (&[], &["keycloak.auth.svc"], "Keycloak.auth.svc.", "10.96.0.9", None),
            (&[], &["keycloak.auth.svc"], "keycloak.auth.svc", "fd00::9", None),
            (&[], &["keycloak.auth.svc"], "x.keycloak.auth.svc", "10.96.0.9", Some(Private)),
            (&[], &["10.96.0.9"], "10.96.0.9", "10.96.0.9", None),
            // Whoever owns the name says where it leads, so not everything opens for it.
            (&[], &["a"], "a", "127.0.0.1", Some(Loopback)),
            (&[], &["a"], "a", "169.254.169.254", Some(LinkLocal)),
            (&all, &["a"], "a", "169.254.169.254", Some(LinkLocal)),
            (&all, &["a"], "a", "::ffff:169.254.169.254", Some(LinkLocal)),
            (&all, &["a"], "a", "fe80::1", Some(LinkLocal)),
            (&all, &["a"], "a", "0.0.0.0", Some(NoHost)),
            (&all, &["a"], "a", "ff02::1", Some(NoHost)),
        ] {
            let url: KeysUrl = format!("http://{host}/").parse().unwrap();
            let outcome = allowed(networks, hosts).check(&url, address.parse().unwrap());
            assert_eq!(outcome.err(), want, "{networks:?} {hosts:?} {host} {address}");
        }
    }
}
