//! Tables of every case of the two decisions.

use core::net::{IpAddr, SocketAddr};

use super::*;

const POD: u64 = 7;

fn owner(address: &Address) -> Option<u64> {
    match std::format!("{}", IpAddr::from(*address)).as_str() {
        "10.0.0.7" | "10.0.0.77" | "fd00::7" => Some(POD),
        "10.0.0.8" | "fd00::8" => Some(8),
        _ => None,
    }
}

fn at(text: &str) -> (Address, Port) {
    let socket: SocketAddr = text.parse().unwrap();
    (socket.ip().into(), Port::new(socket.port()))
}

fn connecting(to: &str) -> Connecting {
    let (destination, port) = at(to);
    Connecting { kind: 1, protocol: 6, cookie: POD, destination, port }
}

fn enrolled(v4: &str, v6: &str) -> Enrolled {
    let ((v4, v4_port), (v6, v6_port)) = (at(v4), at(v6));
    Enrolled { v4, v6, v4_port, v6_port }
}

fn redirect(to: &str) -> OnConnect {
    let (address, port) = at(to);
    OnConnect::Redirect { address, port }
}

#[test]
fn a_pods_tcp_goes_to_its_own_listener_and_nothing_else_does() {
    let both = enrolled("10.0.0.7:4001", "[fd00::7]:6001");
    for (to, want) in [
        ("10.96.0.1:80", redirect("10.0.0.7:4001")),
        ("[::ffff:10.96.0.1]:80", redirect("10.0.0.7:4001")),
        ("[fd00::99]:80", redirect("[fd00::7]:6001")),
        ("[fe80::99]:80", redirect("[fd00::7]:6001")),
        ("10.0.0.8:80", redirect("10.0.0.7:4001")),
        ("[fd00::8]:80", redirect("[fd00::7]:6001")),
        ("169.254.169.254:80", redirect("10.0.0.7:4001")),
        ("127.0.0.1:80", OnConnect::Leave),
        ("[::ffff:127.0.0.2]:80", OnConnect::Leave),
        ("[::1]:80", OnConnect::Leave),
        ("0.0.0.0:80", OnConnect::Leave),
        ("[::]:80", OnConnect::Leave),
        ("[::ffff:0.0.0.0]:80", OnConnect::Leave),
        ("224.0.0.1:80", OnConnect::Leave),
        ("[ff02::1]:80", OnConnect::Leave),
        ("10.0.0.7:80", OnConnect::Leave),
        ("[::ffff:10.0.0.7]:80", OnConnect::Leave),
        ("10.0.0.77:80", OnConnect::Leave),
        ("[fd00::7]:80", OnConnect::Leave),
        ("10.0.0.7:4001", OnConnect::RefuseToListener),
        ("[::ffff:10.0.0.7]:4001", OnConnect::RefuseToListener),
        ("[fd00::7]:6001", OnConnect::RefuseToListener),
        ("10.0.0.77:4001", OnConnect::Leave),
    ] {
        assert_eq!(on_connect(&connecting(to), &both, owner), want, "{to}");
    }
}

#[test]
fn a_family_without_a_listener_is_refused() {
    let (only4, only6) = (enrolled("10.0.0.7:4001", "[::]:0"), enrolled("0.0.0.0:0", "[fd00::7]:6001"));
    for (pod, to, want) in [
        (only4, "10.96.0.1:80", redirect("10.0.0.7:4001")),
        (only4, "[fd00::99]:80", OnConnect::RefuseNoListener),
        (only4, "[fd00::7]:80", OnConnect::Leave),
        (only4, "[::1]:80", OnConnect::Leave),
        (only6, "[fd00::99]:80", redirect("[fd00::7]:6001")),
        (only6, "10.96.0.1:80", OnConnect::RefuseNoListener),
        (only6, "[::ffff:10.96.0.1]:80", OnConnect::RefuseNoListener),
        (only6, "10.0.0.7:0", OnConnect::Leave),
    ] {
        assert_eq!(on_connect(&connecting(to), &pod, owner), want, "{to}");
    }
}

#[test]
fn what_is_not_tcp_is_left_alone() {
    let pod = enrolled("10.0.0.7:4001", "[fd00::7]:6001");
    for (kind, protocol, caught) in [(1, 6, true), (2, 17, false), (1, 132, false), (3, 6, false), (1, 262, false)] {
        let socket = Connecting { kind, protocol, ..connecting("10.96.0.1:80") };
        let got = on_connect(&socket, &pod, owner);
        assert_eq!(got != OnConnect::Leave, caught, "type {kind}, protocol {protocol}");
    }
}

#[test]
fn only_a_delivery_into_the_pod_itself_is_an_agents_flow() {
    for (to, want) in [
        ("10.0.0.7:80", NoteKind::Agent),
        ("[::ffff:10.0.0.77]:80", NoteKind::Agent),
        ("[fd00::7]:80", NoteKind::Agent),
        ("10.0.0.8:15008", NoteKind::Nothing),
        ("[fd00::8]:80", NoteKind::Nothing),
        ("10.96.0.1:80", NoteKind::Nothing),
        ("127.0.0.1:80", NoteKind::Nothing),
    ] {
        assert_eq!(on_agent_connect(&connecting(to), owner), want, "{to}");
    }
    let udp = Connecting { kind: 2, protocol: 17, ..connecting("10.0.0.7:80") };
    assert_eq!(on_agent_connect(&udp, owner), NoteKind::Nothing);
}

#[test]
fn each_arriving_flow_finds_its_listener() {
    let (agent, host, caught) =
        (Some(NoteKind::Agent.number()), Some(NoteKind::Host.number()), Some(NoteKind::Caught.number()));
    for (protocol, from, to, noted, want) in [
        (17, "10.0.0.1:9", "10.0.0.7:53", None, OnLookup::Ignore),
        (6, "10.0.0.1:9", "10.0.0.7:80", None, OnLookup::Give(SlotKind::Inbound)),
        (6, "10.0.0.1:9", "10.0.0.77:80", None, OnLookup::Give(SlotKind::Inbound)),
        (6, "10.0.0.8:9", "10.0.0.7:80", None, OnLookup::Give(SlotKind::Inbound)),
        (6, "10.0.0.1:9", "10.0.0.7:15008", None, OnLookup::Give(SlotKind::Hbone)),
        (6, "[fd00::1]:9", "[fd00::7]:80", None, OnLookup::Give(SlotKind::Inbound)),
        (6, "[fd00::1]:9", "[fd00::7]:15008", None, OnLookup::Give(SlotKind::Hbone)),
        (6, "10.0.0.1:15008", "10.0.0.7:80", None, OnLookup::Give(SlotKind::Inbound)),
        (6, "10.0.0.1:9", "10.0.0.9:80", None, OnLookup::DropUnknownAddress),
        (6, "10.0.0.1:9", "10.0.0.9:80", agent, OnLookup::DropUnknownAddress),
        (6, "[fd00::1]:9", "[fe80::7]:80", None, OnLookup::DropUnknownAddress),
        (6, "127.0.0.1:9", "127.0.0.1:80", None, OnLookup::PassSelf),
        (6, "10.0.0.7:9", "127.0.0.1:80", None, OnLookup::PassSelf),
        (6, "[::1]:9", "[::1]:15008", None, OnLookup::PassSelf),
        (6, "10.0.0.7:9", "10.0.0.7:80", None, OnLookup::PassSelf),
        (6, "10.0.0.77:9", "10.0.0.7:80", None, OnLookup::PassSelf),
        (6, "10.0.0.77:9", "10.0.0.7:80", agent, OnLookup::PassAgent),
        (6, "[fd00::7]:9", "[fd00::7]:80", None, OnLookup::PassSelf),
        (6, "127.0.0.1:9", "10.0.0.7:80", None, OnLookup::Give(SlotKind::Inbound)),
        (6, "10.0.0.1:9", "10.0.0.7:80", agent, OnLookup::PassAgent),
        (6, "[fd00::1]:9", "[fd00::7]:80", agent, OnLookup::PassAgent),
        (6, "10.0.0.1:9", "10.0.0.7:80", host, OnLookup::PassHost),
        (6, "10.0.0.1:9", "10.0.0.7:15008", host, OnLookup::PassHost),
        (6, "127.0.0.1:9", "10.0.0.7:4001", caught, OnLookup::PassSelf),
        (6, "[::1]:9", "[fd00::7]:6001", caught, OnLookup::PassSelf),
        (6, "10.0.0.1:9", "10.0.0.7:80", Some(NoteKind::Nothing.number()), OnLookup::Give(SlotKind::Inbound)),
    ] {
        let ((source, source_port), (destination, destination_port)) = (at(from), at(to));
        let flow = Flow { source, destination, source_port, destination_port };
        assert_eq!(on_lookup(protocol, &flow, owner, |_| noted), want, "{protocol} {from} {to} {noted:?}");
    }
}
