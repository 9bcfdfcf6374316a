//! What is between nodes and pods: bridges, veth pairs, addresses, routes.

use std::net::IpAddr;

use weir_netlink::{NetNs, Route, RouteKind, Rtnl, VethPeer, write_sysctl};

use super::WIRE;
use super::place::Node;
use crate::manifests::Stack;
use crate::sweep::Run;

/// The bridge of every node.
const BRIDGE: &str = "br0";

pub(super) fn new_node(run: &Run, number: u8) -> anyhow::Result<Node> {
    let name = format!("node{number}");
    let netns_path = run.netns_path(&name);
    let netns = NetNs::create(&netns_path)?;
    for (setting, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
    ] {
        write_sysctl(&netns, &format!("net/{setting}"), value)?;
    }
    let node = Node { name, number, netns, netns_path, next_pod: 10 };
    let mut rtnl = Rtnl::open_in(&node.netns)?;
    rtnl.set_up("lo")?;
    rtnl.add_bridge(BRIDGE)?;
    rtnl.set_up(BRIDGE)?;
    let [v4, v6] = node.gateways();
    rtnl.add_address(BRIDGE, v4, 24)?;
    rtnl.add_address(BRIDGE, v6, 64)?;
    Ok(node)
}

/// Puts the wire between the nodes; the answer is the switch, if one was needed.
pub(super) fn connect_nodes(run: &Run, nodes: &[Node], mtu: u32) -> anyhow::Result<Option<NetNs>> {
    let mut switch = None;
    match nodes {
        [_alone] => return Ok(None),
        [one, other] => {
            Rtnl::open_in(&one.netns)?.add_veth(WIRE, VethPeer { name: WIRE, netns: &other.netns }, mtu)?;
        }
        many => {
            let netns = NetNs::create(&run.netns_path("switch"))?;
            let mut rtnl = Rtnl::open_in(&netns)?;
            rtnl.add_bridge(BRIDGE)?;
            rtnl.set_up(BRIDGE)?;
            for node in many {
                rtnl.add_veth(&node.name, VethPeer { name: WIRE, netns: &node.netns }, mtu)?;
                rtnl.set_bridge(&node.name, BRIDGE)?;
                rtnl.set_up(&node.name)?;
            }
            switch = Some(netns);
        }
    }
    for node in nodes {
        let mut rtnl = Rtnl::open_in(&node.netns)?;
        rtnl.set_up(WIRE)?;
        let [v4, v6] = node.addresses();
        rtnl.add_address(WIRE, v4, 24)?;
        rtnl.add_address(WIRE, v6, 64)?;
        for other in nodes.iter().filter(|other| other.number != node.number) {
            for ((destination, prefix_len), gateway) in
                other.pod_addresses(0).into_iter().zip([24, 64]).zip(other.addresses())
            {
                let kind = RouteKind::Via(gateway);
                rtnl.add_route(&Route { destination, prefix_len, kind, link: None, table: Route::MAIN })?;
            }
        }
    }
    Ok(switch)
}

pub(super) fn connect_pod(
    netns: &NetNs,
    node: &Node,
    link: &str,
    addresses: &[IpAddr],
    mtu: u32,
    stack: Stack,
) -> anyhow::Result<()> {
    if stack == Stack::V4 {
        write_sysctl(netns, "net/ipv6/conf/all/disable_ipv6", "1")?;
        write_sysctl(netns, "net/ipv6/conf/default/disable_ipv6", "1")?;
    }
    let mut outside = Rtnl::open_in(&node.netns)?;
    outside.add_veth(link, VethPeer { name: "eth0", netns }, mtu)?;
    outside.set_bridge(link, BRIDGE)?;
    outside.set_up(link)?;
    let mut inside = Rtnl::open_in(netns)?;
    inside.set_up("lo")?;
    inside.set_up("eth0")?;
    for ip in addresses {
        inside.add_address("eth0", *ip, if ip.is_ipv4() { 24 } else { 64 })?;
    }
    for gateway in node.gateways() {
        if addresses.iter().any(|ip| ip.is_ipv4() == gateway.is_ipv4()) {
            inside.add_route(&Route::default_via(gateway))?;
        }
    }
    Ok(())
}
