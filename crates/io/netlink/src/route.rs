//! Routes: through a gateway, or delivered locally.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::error::{Attempt, NetlinkError};
use crate::rtnl::Rtnl;
use crate::rule::Family;

/// What happens to a packet that a route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Sent to this next hop.
    Via(IpAddr),
    /// Sent out directly.
    OnLink,
    /// Taken in as if the destination were an address of this host.
    Local,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination, with the family: the unspecified address with length 0 is the default route.
    pub destination: IpAddr,
    /// Length of the destination prefix, in bits.
    pub prefix_len: u8,
    /// What happens.
    pub kind: RouteKind,
    /// Name of the link; may be left out with a gateway.
    pub link: Option<String>,
    /// Routing table; 254 is the main one. rtnetlink(7).
    pub table: u32,
}

impl Route {
    /// The table that is looked in without any rule of one's own. rtnetlink(7), RT_TABLE_MAIN.
    pub const MAIN: u32 = 254;

    /// `default via GATEWAY`.
    #[must_use]
    pub fn default_via(gateway: IpAddr) -> Self {
        let family = if gateway.is_ipv4() { Family::V4 } else { Family::V6 };
        let kind = RouteKind::Via(gateway);
        Self { destination: unspecified(family), prefix_len: 0, kind, link: None, table: Self::MAIN }
    }

    /// `local default dev lo table TABLE`.
    #[must_use]
    pub fn local_default(family: Family, table: u32) -> Self {
        let (kind, link) = (RouteKind::Local, Some("lo".into()));
        Self { destination: unspecified(family), prefix_len: 0, kind, link, table }
    }

    fn family(&self) -> Family {
        if self.destination.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.kind, RouteKind::Local) {
            f.write_str("local ")?;
        }
        write!(f, "{}/{}", self.destination, self.prefix_len)?;
        if let RouteKind::Via(gateway) = self.kind {
            write!(f, " via {gateway}")?;
        }
        if let Some(link) = &self.link {
            write!(f, " dev {link}")?;
        }
        write!(f, " table {}", self.table)
    }
}

impl Rtnl {
    /// Adds a route, or replaces the one to the same destination in the same table.
    ///
    /// # Errors
    /// When the gateway or link is not there, or IPv6 is off.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(self.route_message(route)?);
        self.change(message, NLM_F_CREATE | NLM_F_REPLACE, || Attempt::AddRoute(route.to_string()))
    }

    /// Deletes a route. Its absence is fine.
    ///
    /// # Errors
    /// When the kernel refuses for another reason.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(self.route_message(route)?);
        match self.change(message, 0, || Attempt::DeleteRoute(route.to_string())) {
            // ESRCH: no such route. ENOENT: no such table. EACCES: IPv6 is off on the link, and took its routes along.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::ESRCH | libc::ENOENT | libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
                ) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// The routes of one table, of one family.
    ///
    /// # Errors
    /// When the kernel's listing fails.
    pub fn routes(&mut self, family: Family, table: u32) -> Result<Vec<Route>, NetlinkError> {
        let names: Vec<_> = self.links()?.into_iter().map(|link| (link.index, link.name)).collect();
        let mut message = RouteMessage::default();
        message.header.address_family = family.on_the_wire();
        let listed = self.dump(RouteNetlinkMessage::GetRoute(message), || Attempt::ListRoutes)?;
        Ok(listed
            .into_iter()
            .filter_map(|message| {
                let RouteNetlinkMessage::NewRoute(route) = message else { return None };
                if route.header.address_family == family.on_the_wire() { read(family, &route, &names) } else { None }
            })
            .filter(|route| route.table == table)
            .collect())
    }

    fn route_message(&mut self, route: &Route) -> Result<RouteMessage, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = route.family().on_the_wire();
        message.header.destination_prefix_length = route.prefix_len;
        message.header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.header.protocol = RouteProtocol::Static;
        (message.header.kind, message.header.scope) = match route.kind {
            RouteKind::Via(_) => (RouteType::Unicast, RouteScope::Universe),
            RouteKind::OnLink => (RouteType::Unicast, RouteScope::Link),
            RouteKind::Local => (RouteType::Local, RouteScope::Host),
        };
        message.attributes.push(RouteAttribute::Table(route.table));
        if route.prefix_len > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination)));
        }
        if let RouteKind::Via(gateway) = route.kind {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
        }
        if let Some(link) = &route.link {
            message.attributes.push(RouteAttribute::Oif(self.link(link)?.index));
        }
        Ok(message)
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(ip) = address {
        Some((*ip).into())
    } else if let RouteAddress::Inet6(ip) = address {
        Some((*ip).into())
    } else {
        None
    }
}

fn read(family: Family, message: &RouteMessage, names: &[(u32, String)]) -> Option<Route> {
    let (mut destination, mut gateway, mut link) = (unspecified(family), None, None);
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(address) = attribute {
            destination = ip(address)?;
        } else if let RouteAttribute::Gateway(address) = attribute {
            gateway = Some(ip(address)?);
        } else if let RouteAttribute::Oif(index) = attribute {
            link = names.iter().find(|(i, _)| i == index).map(|(_, name)| name.clone());
        } else if let RouteAttribute::Table(value) = attribute {
            table = *value;
        }
    }
    let kind = match (message.header.kind == RouteType::Local, gateway) {
        (true, _) => RouteKind::Local,
        (false, Some(gateway)) => RouteKind::Via(gateway),
        (false, None) => RouteKind::OnLink,
    };
    Some(Route { destination, prefix_len: message.header.destination_prefix_length, kind, link, table })
}
