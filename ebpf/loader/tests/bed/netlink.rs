//! The few rtnetlink requests the test bed needs, for the netns of the calling thread. rtnetlink(7).

use std::{fs::File, io, net::IpAddr, os::fd::AsRawFd as _};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

const ACK_REQUEST: u16 = 0x5;
const CREATE: u16 = 0x600;

/// A veth pair: `name` here, `eth0` in `peer`.
pub(crate) fn veth(name: &str, peer: &File) {
    let far = [
        &[0; 16][..],
        &attribute(libc::IFLA_IFNAME, b"eth0\0"),
        &attribute(libc::IFLA_NET_NS_FD, &u32::try_from(peer.as_raw_fd()).unwrap().to_ne_bytes()),
    ]
    .concat();
    // VETH_INFO_PEER is 1.
    let kind =
        [attribute(libc::IFLA_INFO_KIND, b"veth"), attribute(libc::IFLA_INFO_DATA, &attribute(1, &far))].concat();
    let body = [
        &[0; 16][..],
        &attribute(libc::IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat()),
        &attribute(libc::IFLA_LINKINFO, &kind),
    ]
    .concat();
    request(libc::RTM_NEWLINK, CREATE, &body);
}

pub(crate) fn up(name: &str) {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index(name).to_ne_bytes());
    // Flags, and which of them to change: IFF_UP.
    body[8] = 1;
    body[12] = 1;
    request(libc::RTM_NEWLINK, 0, &body);
}

pub(crate) fn address(name: &str, address: &str, prefix: u8) {
    let (family, octets) = parse(address);
    let header = [family, prefix, 0, 0];
    let body = [
        &header[..],
        &index(name).to_ne_bytes(),
        &attribute(libc::IFA_LOCAL, &octets),
        &attribute(libc::IFA_ADDRESS, &octets),
        // Usable at once.
        &attribute(libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes()),
    ]
    .concat();
    request(libc::RTM_NEWADDR, CREATE, &body);
}

pub(crate) fn default_route(gateway: &str) {
    let (family, octets) = parse(gateway);
    // Main table, static, universe, unicast.
    let header = [family, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    let body = [&header[..], &attribute(libc::RTA_GATEWAY, &octets)].concat();
    request(libc::RTM_NEWROUTE, CREATE, &body);
}

fn parse(address: &str) -> (u8, Vec<u8>) {
    match address.parse().unwrap() {
        IpAddr::V4(v4) => (u8::try_from(libc::AF_INET).unwrap(), v4.octets().to_vec()),
        IpAddr::V6(v6) => (u8::try_from(libc::AF_INET6).unwrap(), v6.octets().to_vec()),
    }
}

fn index(name: &str) -> u32 {
    if_nametoindex(name).unwrap()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn request(kind: u16, flags: u16, body: &[u8]) {
    let length = u32::try_from(body.len() + 16).unwrap();
    let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &(flags | ACK_REQUEST).to_ne_bytes(), &[0; 8]];
    let message = [&header.concat(), body].concat();
    let protocol = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    send(socket.as_raw_fd(), &message, MsgFlags::empty()).unwrap();
    let mut answer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
    assert!(length >= 20, "a short answer");
    let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    assert_eq!(error, 0, "request {kind}: {}", io::Error::from_raw_os_error(-error));
}
