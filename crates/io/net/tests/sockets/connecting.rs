//! Connections: from which address, and how they fail.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use socket2::Socket;
use weir_net::{Source, connect};
use weir_netlink::{PodRouting, write_sysctl};

use crate::bed::{ADDRESSES, Place, first_addresses, ip, listen, run, soon};

const MARK: u32 = 0x6e65_7400;

#[test]
fn the_server_sees_the_source_that_was_asked_for() {
    let place = Place::new();
    PodRouting::new(MARK, 4_711).install(&place.links()).unwrap();
    let client = |text| Source::Client { ip: ip(text), mark: MARK };
    run(async {
        for ([at, second], somebody) in ADDRESSES.into_iter().zip(["198.51.100.7", "2001:db8:7::7"]) {
            let (acceptor, local) = listen(&place, (ip(at), 0).into());
            for (source, want) in [(Source::Any, at), (Source::Own(ip(second)), second), (client(somebody), somebody)] {
                let stream = soon(connect(&place.netns(), local, source, None)).await.unwrap();
                let (_, peer) = soon(acceptor.accept()).await.unwrap();
                assert_eq!(peer.ip(), ip(want), "{source:?}");
                assert_eq!((stream.local().unwrap(), stream.peer().unwrap()), (peer, local));
            }
        }
    });
}

#[test]
fn an_address_of_somebody_else_is_not_our_own() {
    let place = Place::new();
    run(async {
        for (at, somebody) in first_addresses().into_iter().zip(["198.51.100.7", "2001:db8:7::7"]) {
            let (_acceptor, local) = listen(&place, (at, 0).into());
            let error = connect(&place.netns(), local, Source::Own(ip(somebody)), None).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{somebody}");
        }
    });
}

#[test]
fn what_the_network_answers_is_the_error() {
    let place = Place::new();
    run(async {
        for (at, nowhere) in first_addresses().into_iter().zip(["198.51.100.7", "2001:db8:7::7"]) {
            let (acceptor, local) = listen(&place, (at, 0).into());
            drop(acceptor);
            for (to, want) in [
                (local, io::ErrorKind::ConnectionRefused),
                ((ip(nowhere), 80).into(), io::ErrorKind::NetworkUnreachable),
            ] {
                let error = soon(connect(&place.netns(), to, Source::Any, None)).await.unwrap_err();
                assert_eq!(error.kind(), want, "{to}: {error}");
            }
        }
    });
}

#[test]
fn one_source_has_more_connections_than_ports_when_they_go_to_several_targets() {
    let place = Place::new();
    run(async {
        let mut acceptors = Vec::new();
        let targets = |at: IpAddr, acceptors: &mut Vec<_>| -> Vec<SocketAddr> {
            let made = (0..3).map(|_| listen(&place, (at, 0).into()));
            made.map(|(acceptor, local)| {
                acceptors.push(acceptor);
                local
            })
            .collect()
        };
        let targets: Vec<_> = first_addresses().map(|at| targets(at, &mut acceptors)).into();
        write_sysctl(&place.links(), "net/ipv4/ip_local_port_range", "40000 40003").unwrap();
        for (targets, [_, second]) in targets.into_iter().zip(ADDRESSES) {
            let mut open = Vec::new();
            for to in targets.into_iter().cycle().take(12) {
                open.push(soon(connect(&place.netns(), to, Source::Own(ip(second)), None)).await.unwrap());
            }
            let ports: HashSet<_> = open.iter().map(|stream| stream.local().unwrap().port()).collect();
            assert!(ports.len() <= 4 && open.len() == 12, "{ports:?}");
        }
    });
}

#[test]
fn a_connected_socket_has_its_settings() {
    let place = Place::new();
    run(async {
        for at in first_addresses() {
            let (_acceptor, local) = listen(&place, (at, 0).into());
            let keepalive = Some((Duration::from_secs(41), 5));
            let stream = soon(connect(&place.netns(), local, Source::Any, keepalive)).await.unwrap();
            let socket = Socket::from(OwnedFd::from(stream));
            assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(41));
        }
    });
}
