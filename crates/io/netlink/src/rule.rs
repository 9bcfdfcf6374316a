//! Policy rules: which routing table a marked packet is looked up in.

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::{Attempt, NetlinkError};
use crate::rtnl::Rtnl;

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, for loops.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn on_the_wire(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

/// `fwmark MARK/MASK lookup TABLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which family's packets.
    pub family: Family,
    /// Rules are tried from the lowest number up.
    pub priority: u32,
    /// The mark, after masking.
    pub mark: u32,
    /// The bits of the mark that count.
    pub mask: u32,
    /// The table to look in.
    pub table: u32,
    /// Who made it: free for the maker to use, shown by `ip rule` as `proto`. rtnetlink(7), FRA_PROTOCOL.
    pub protocol: u8,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, priority, mark, mask, table, protocol } = self;
        let dash = match family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        write!(f, "{dash} {priority}: fwmark {mark:#x}/{mask:#x} lookup {table} proto {protocol}")
    }
}

impl Rtnl {
    /// Adds a rule. The same rule being there already is fine.
    ///
    /// # Errors
    /// When the kernel lacks policy routing or the family.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRule(write(rule));
        match self.change(message, NLM_F_CREATE | NLM_F_EXCL, || Attempt::AddRule(*rule)) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
            done => done,
        }
    }

    /// Deletes a rule. Its absence is fine.
    ///
    /// # Errors
    /// When the kernel refuses for another reason.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        match self.change(RouteNetlinkMessage::DelRule(write(rule)), 0, || Attempt::DeleteRule(*rule)) {
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => Ok(()),
            done => done,
        }
    }

    /// The rules of a family that select by mark.
    ///
    /// # Errors
    /// When the kernel's listing fails.
    pub fn rules(&mut self, family: Family) -> Result<Vec<Rule>, NetlinkError> {
        let mut message = RuleMessage::default();
        message.header.family = family.on_the_wire();
        let listed = self.dump(RouteNetlinkMessage::GetRule(message), || Attempt::ListRules)?;
        Ok(listed
            .into_iter()
            .filter_map(|message| {
                let RouteNetlinkMessage::NewRule(rule) = message else { return None };
                if rule.header.family == family.on_the_wire() { read(family, &rule) } else { None }
            })
            .collect())
    }
}

fn write(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = rule.family.on_the_wire();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::FwMark(rule.mark),
        RuleAttribute::FwMask(rule.mask),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)),
    ];
    message
}

fn read(family: Family, message: &RuleMessage) -> Option<Rule> {
    let (mut mark, mut priority, mut mask, mut table, mut protocol) = (None, 0, u32::MAX, 0, 0);
    for attribute in &message.attributes {
        if let RuleAttribute::FwMark(value) = attribute {
            mark = Some(*value);
        } else if let RuleAttribute::FwMask(value) = attribute {
            mask = *value;
        } else if let RuleAttribute::Priority(value) = attribute {
            priority = *value;
        } else if let RuleAttribute::Table(value) = attribute {
            table = *value;
        } else if let RuleAttribute::Protocol(value) = attribute {
            protocol = u8::from(*value);
        }
    }
    Some(Rule { family, priority, mark: mark?, mask, table, protocol })
}
