//! Links: veth pairs, bridges, their state, their counters.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use crate::error::{Attempt, NetlinkError};
use crate::netns::NetNs;
use crate::rtnl::Rtnl;

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index in its namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Largest packet, in bytes without the link header.
    pub mtu: u32,
    /// The bridge it is a port of.
    pub bridge: Option<u32>,
    /// What went through it.
    pub stats: LinkStats,
}

/// What went through a link since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received; one that the sender left to hardware segmentation counts once.
    pub rx_packets: u64,
    /// Packets sent; one left to hardware segmentation counts once.
    pub tx_packets: u64,
    /// Packets dropped on receipt.
    pub rx_dropped: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
}

/// The second end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct VethPeer<'a> {
    /// Its name, in its own namespace.
    pub name: &'a str,
    /// The namespace it is made in.
    pub netns: &'a NetNs,
}

impl Rtnl {
    /// Makes a veth pair: `name` here, the other end straight in its namespace.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn add_veth(&mut self, name: &str, peer: VethPeer<'_>, mtu: u32) -> Result<(), NetlinkError> {
        let mut other = LinkMessage::default();
        other.attributes = vec![
            LinkAttribute::IfName(peer.name.into()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NetNsFd(peer.netns.as_fd().as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
            ]),
        ];
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, || {
            Attempt::CreateVeth(name.into(), peer.name.into())
        })
    }

    /// Makes a bridge.
    ///
    /// # Errors
    /// When the name is taken or the kernel has no bridges.
    pub fn add_bridge(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes =
            vec![LinkAttribute::IfName(name.into()), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)])];
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, || {
            Attempt::CreateBridge(name.into())
        })
    }

    /// Puts a link up.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_up(&mut self, name: &str) -> Result<(), NetlinkError> {
        self.set_flags(name, LinkFlags::Up)
    }

    /// Takes a link down.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_down(&mut self, name: &str) -> Result<(), NetlinkError> {
        self.set_flags(name, LinkFlags::empty())
    }

    /// Makes `name` a port of `bridge`.
    ///
    /// # Errors
    /// When either is absent.
    pub fn set_bridge(&mut self, name: &str, bridge: &str) -> Result<(), NetlinkError> {
        let controller = self.link(bridge)?.index;
        self.set_attribute(name, LinkAttribute::Controller(controller))
    }

    /// Sets the largest packet size, in bytes.
    ///
    /// # Errors
    /// When there is no such link or its driver refuses the size.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        self.set_attribute(name, LinkAttribute::Mtu(mtu))
    }

    /// Moves a link into another namespace; it arrives down and without addresses.
    ///
    /// # Errors
    /// When there is no such link, or its name is taken over there.
    pub fn move_link(&mut self, name: &str, netns: &NetNs) -> Result<(), NetlinkError> {
        let mut message = self.message_for(name)?;
        message.attributes.push(LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()));
        self.change(RouteNetlinkMessage::SetLink(message), 0, || Attempt::MoveLink(name.into()))
    }

    /// Deletes a link; of a veth pair, both ends.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn delete_link(&mut self, name: &str) -> Result<(), NetlinkError> {
        let message = self.message_for(name)?;
        self.change(RouteNetlinkMessage::DelLink(message), 0, || Attempt::DeleteLink(name.into()))
    }

    /// The link of this name.
    ///
    /// # Errors
    /// [`NetlinkError::NoLink`] when there is none.
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| NetlinkError::NoLink(name.into()))
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// When the kernel's listing fails.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let listed = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), || Attempt::ListLinks)?;
        Ok(listed
            .into_iter()
            .filter_map(
                |message| if let RouteNetlinkMessage::NewLink(link) = message { Some(read(&link)) } else { None },
            )
            .collect())
    }

    fn message_for(&mut self, name: &str) -> Result<LinkMessage, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = self.link(name)?.index;
        Ok(message)
    }

    fn set_flags(&mut self, name: &str, flags: LinkFlags) -> Result<(), NetlinkError> {
        let mut message = self.message_for(name)?;
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0, || Attempt::ChangeLink(name.into()))
    }

    fn set_attribute(&mut self, name: &str, attribute: LinkAttribute) -> Result<(), NetlinkError> {
        let mut message = self.message_for(name)?;
        message.attributes.push(attribute);
        self.change(RouteNetlinkMessage::SetLink(message), 0, || Attempt::ChangeLink(name.into()))
    }
}

fn read(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        bridge: None,
        stats: LinkStats::default(),
    };
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name.clone_from(name);
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = *mtu;
        } else if let LinkAttribute::Controller(index) = attribute {
            link.bridge = Some(*index);
        } else if let LinkAttribute::Stats64(stats) = attribute {
            link.stats = LinkStats {
                rx_bytes: stats.rx_bytes,
                tx_bytes: stats.tx_bytes,
                rx_packets: stats.rx_packets,
                tx_packets: stats.tx_packets,
                rx_dropped: stats.rx_dropped,
                tx_dropped: stats.tx_dropped,
            };
        }
    }
    link
}
