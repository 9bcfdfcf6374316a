//! The routing a pod's namespace needs so that replies to connections made in a client's name come back to the agent:
//! `ip rule fwmark M lookup T`, `ip route local default dev lo table T`, `net.ipv4.tcp_fwmark_accept=1`, `net.ipv[46].fwmark_reflect=1`.
//!
//! What the settings were before is written into the rule itself, as its protocol number: so it is known to an agent that comes after
//! a crash, and goes with the namespace.

use std::path::Path;

use crate::error::NetlinkError;
use crate::netns::NetNs;
use crate::route::Route;
use crate::rtnl::Rtnl;
use crate::rule::{Family, Rule};
use crate::sysctl::{read_sysctl, write_sysctl};

/// Accepted sockets take over the mark of the SYN (set below `ipv4`, it holds for IPv6 as well), and so do answers that no socket
/// gives: the reset of a port where nobody listens would else go to the client whose address was borrowed. Linux `ip-sysctl`.
const SETTINGS: [&str; 3] = ["net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"];
/// Protocol number of a rule of ours where all settings were off before; bit N is set where setting N was on, or is not in this
/// kernel. Unassigned in `rt_protos`.
const RULE: u8 = 0x50;
/// How many protocol numbers that makes.
const COMBINATIONS: u8 = 1 << SETTINGS.len();
/// Before the `main` table (32766).
const PRIORITY: u32 = 15_008;

/// The rule and route for one mark and one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodRouting {
    mark: u32,
    table: u32,
}

/// What became of IPv6 in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6Routing {
    /// Rule and route are in place.
    Installed,
    /// IPv6 is off in the pod's namespace: there is nothing to route.
    Disabled,
}

impl PodRouting {
    /// For packets with exactly this mark, and a table nobody else uses in the pod.
    #[must_use]
    pub const fn new(mark: u32, table: u32) -> Self {
        Self { mark, table }
    }

    /// Puts rule, route and setting in place. Doing it twice is fine.
    ///
    /// # Errors
    /// When the kernel lacks policy routing, or the agent a capability. What was put in place until then stays: [`Self::remove`] it.
    pub fn install(&self, netns: &NetNs) -> Result<Ipv6Routing, NetlinkError> {
        let mut rtnl = Rtnl::open_in(netns)?;
        let protocol = match self.protocol_in_place(&mut rtnl)? {
            Some(protocol) => protocol,
            None => RULE | settings_on(netns)?,
        };
        // The rule goes in before a setting changes: whoever finds no rule knows that nothing was changed.
        rtnl.add_rule(&self.rule(Family::V4, protocol))?;
        rtnl.add_route(&Route::local_default(Family::V4, self.table))?;
        for setting in settings_off_before(protocol) {
            write_sysctl(netns, setting, "1")?;
        }
        if ipv6_is_off(netns)? {
            return Ok(Ipv6Routing::Disabled);
        }
        rtnl.add_rule(&self.rule(Family::V6, protocol))?;
        rtnl.add_route(&Route::local_default(Family::V6, self.table))?;
        Ok(Ipv6Routing::Installed)
    }

    /// Takes out what [`Self::install`] put in, and sets the setting back. Doing it twice, or without an install, is fine.
    ///
    /// # Errors
    /// When the kernel refuses although the namespace is there.
    pub fn remove(&self, netns: &NetNs) -> Result<(), NetlinkError> {
        let mut rtnl = Rtnl::open_in(netns)?;
        let Some(protocol) = self.protocol_in_place(&mut rtnl)? else {
            return Ok(());
        };
        for family in [Family::V6, Family::V4] {
            rtnl.delete_route(&Route::local_default(family, self.table))?;
            if family == Family::V4 {
                for setting in settings_off_before(protocol) {
                    write_sysctl(netns, setting, "0")?;
                }
            }
            rtnl.delete_rule(&self.rule(family, protocol))?;
        }
        Ok(())
    }

    /// As [`Self::remove`], for the namespace at `path`; when that is gone already, all is done.
    ///
    /// # Errors
    /// When the kernel refuses although the namespace is there.
    pub fn remove_at(&self, path: &Path) -> Result<(), NetlinkError> {
        match NetNs::open(path) {
            Ok(netns) => self.remove(&netns),
            Err(NetlinkError::NotANetns(_)) => Ok(()),
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the IPv4 rule and route are in place; what a check after a restart asks.
    ///
    /// # Errors
    /// When the kernel's listings fail.
    pub fn is_installed(&self, netns: &NetNs) -> Result<bool, NetlinkError> {
        let mut rtnl = Rtnl::open_in(netns)?;
        let route = Route::local_default(Family::V4, self.table);
        Ok(self.protocol_in_place(&mut rtnl)?.is_some() && rtnl.routes(Family::V4, self.table)?.contains(&route))
    }

    fn rule(&self, family: Family, protocol: u8) -> Rule {
        Rule { family, priority: PRIORITY, mark: self.mark, mask: u32::MAX, table: self.table, protocol }
    }

    fn protocol_in_place(&self, rtnl: &mut Rtnl) -> Result<Option<u8>, NetlinkError> {
        let rules = rtnl.rules(Family::V4)?;
        let mut ours = (0..COMBINATIONS).map(|on| RULE | on);
        Ok(ours.find(|protocol| rules.contains(&self.rule(Family::V4, *protocol))))
    }
}

/// A bit for each setting that is on, or that this kernel does not have.
fn settings_on(netns: &NetNs) -> Result<u8, NetlinkError> {
    let mut on = 0;
    for (bit, setting) in SETTINGS.iter().enumerate() {
        match read_sysctl(netns, setting) {
            Ok(value) if value == "0" => {}
            Ok(_) => on |= 1 << bit,
            Err(error) if error.errno() == Some(libc::ENOENT) => on |= 1 << bit,
            Err(error) => return Err(error),
        }
    }
    Ok(on)
}

/// The settings that are ours to change, by the protocol number of the rule.
fn settings_off_before(protocol: u8) -> impl Iterator<Item = &'static str> {
    SETTINGS.into_iter().enumerate().filter(move |(bit, _)| protocol >> bit & 1 == 0).map(|(_, setting)| setting)
}

/// Off for the loopback link, where the route must go, or not built into the kernel.
fn ipv6_is_off(netns: &NetNs) -> Result<bool, NetlinkError> {
    match read_sysctl(netns, "net/ipv6/conf/lo/disable_ipv6") {
        Ok(value) => Ok(value != "0"),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(true),
        Err(error) => Err(error),
    }
}
