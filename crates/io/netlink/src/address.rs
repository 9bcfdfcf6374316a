//! Addresses of links.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::{Attempt, NetlinkError};
use crate::rtnl::Rtnl;

/// An address of a link, as the kernel lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// Index of the link.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its on-link prefix, in bits.
    pub prefix_len: u8,
}

impl Rtnl {
    /// Gives a link an address, usable at once: IPv6 without duplicate address detection. Having it already is fine.
    ///
    /// # Errors
    /// When there is no such link, or IPv6 is off in the namespace.
    pub fn add_address(&mut self, link: &str, ip: IpAddr, prefix_len: u8) -> Result<(), NetlinkError> {
        let message = self.address_message(link, ip, prefix_len)?;
        let attempt = || Attempt::AddAddress(ip, prefix_len);
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE, attempt)
    }

    /// Takes an address from a link.
    ///
    /// # Errors
    /// When the link has no such address.
    pub fn delete_address(&mut self, link: &str, ip: IpAddr, prefix_len: u8) -> Result<(), NetlinkError> {
        let message = self.address_message(link, ip, prefix_len)?;
        self.change(RouteNetlinkMessage::DelAddress(message), 0, || Attempt::DeleteAddress(ip, prefix_len))
    }

    /// All addresses of the namespace.
    ///
    /// # Errors
    /// When the kernel's listing fails.
    pub fn addresses(&mut self) -> Result<Vec<LinkAddress>, NetlinkError> {
        let listed =
            self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), || Attempt::ListAddresses)?;
        let mut found = Vec::new();
        for message in listed {
            let RouteNetlinkMessage::NewAddress(message) = message else { continue };
            // IFA_LOCAL is the address itself, IFA_ADDRESS the peer's on point-to-point links and the only one for IPv6.
            let (mut local, mut address) = (None, None);
            for attribute in &message.attributes {
                if let AddressAttribute::Local(ip) = attribute {
                    local = Some(*ip);
                } else if let AddressAttribute::Address(ip) = attribute {
                    address = Some(*ip);
                }
            }
            if let Some(ip) = local.or(address) {
                found.push(LinkAddress { link: message.header.index, ip, prefix_len: message.header.prefix_len });
            }
        }
        Ok(found)
    }

    fn address_message(&mut self, link: &str, ip: IpAddr, prefix_len: u8) -> Result<AddressMessage, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = self.link(link)?.index;
        message.header.prefix_len = prefix_len;
        message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        if ip.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        Ok(message)
    }
}
