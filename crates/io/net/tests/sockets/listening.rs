//! Listeners: groups, families, what accepted sockets take over.

use std::{collections::HashSet, net::SocketAddr, os::fd::OwnedFd, time::Duration};

use socket2::{SockRef, Socket};
use weir_net::{Listener, ListenerSettings};
use weir_netlink::write_sysctl;

use crate::bed::{PLAIN, Place, first_addresses, ip, listen, run, soon};

/// Enough that each of three members gets some: the chance that one gets none is 3 × (2/3)^120, less than 10^-20.
const CONNECTIONS: usize = 120;

#[test]
fn a_group_shares_a_port_and_each_connection_goes_to_one_member() {
    let place = Place::new();
    run(async {
        for at in first_addresses() {
            let (first, local) = listen(&place, (at, 0).into());
            let group = [first, listen(&place, local).0, listen(&place, local).0];
            let (mut clients, mut peers, mut counts) = (Vec::new(), HashSet::new(), [0; 3]);
            for _ in 0..CONNECTIONS {
                clients.push(place.dial(local));
                let (member, accepted) = soon(async {
                    tokio::select! {
                        accepted = group[0].accept() => (0, accepted),
                        accepted = group[1].accept() => (1, accepted),
                        accepted = group[2].accept() => (2, accepted),
                    }
                })
                .await;
                counts[member] += 1;
                peers.insert(accepted.unwrap().1);
            }
            let dialled: HashSet<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
            assert_eq!(peers, dialled, "each client was accepted, and seen as itself");
            assert!(counts.iter().all(|count| *count > 0), "{at}: {counts:?}");
        }
    });
}

#[test]
fn a_member_that_is_gone_gets_nothing_more() {
    let place = Place::new();
    run(async {
        for at in first_addresses() {
            let (first, local) = listen(&place, (at, 0).into());
            drop(listen(&place, local));
            for _ in 0..20 {
                let client = place.dial(local);
                assert_eq!(soon(first.accept()).await.unwrap().1, client.local_addr().unwrap());
            }
        }
    });
}

#[test]
fn every_address_means_both_families_and_a_mapped_peer_is_shown_as_what_it_is() {
    let place = Place::new();
    run(async {
        let listener = Listener::bind_any(&place.netns(), 0, &PLAIN).unwrap();
        let port = listener.local().port();
        let acceptor = listener.register().unwrap();
        for at in first_addresses() {
            let client = place.dial((at, port).into());
            let (stream, peer) = soon(acceptor.accept()).await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(stream.peer().unwrap(), peer);
            assert_eq!(stream.local().unwrap(), SocketAddr::new(at, port), "what sk_lookup leaves to be read");
        }
    });
}

#[test]
fn an_address_means_itself_alone() {
    let place = Place::new();
    run(async {
        let [v4, v6] = first_addresses();
        let (_listening, local) = listen(&place, (v6, 0).into());
        for other in [v4, ip("2001:db8::2")] {
            let to = SocketAddr::new(other, local.port());
            let result = place.netns().run(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(30)));
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
        }
        // The port is still free for the other family.
        listen(&place, (v4, local.port()).into());
    });
}

#[test]
fn where_ipv6_is_off_ipv4_is_served() {
    let place = Place::new();
    write_sysctl(&place.links(), "net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    run(async {
        let listener = Listener::bind_any(&place.netns(), 0, &PLAIN).unwrap();
        let to = SocketAddr::new(ip("192.0.2.1"), listener.local().port());
        let acceptor = listener.register().unwrap();
        let client = place.dial(to);
        assert_eq!(soon(acceptor.accept()).await.unwrap().1, client.local_addr().unwrap());
    });
}

#[test]
fn accepted_sockets_take_over_the_settings() {
    let place = Place::new();
    run(async {
        for (at, keepalive) in first_addresses().into_iter().zip([None, Some((Duration::from_secs(37), 4))]) {
            let listener = Listener::bind(&place.netns(), (at, 0).into(), &ListenerSettings { keepalive }).unwrap();
            let local = listener.local();
            let acceptor = listener.register().unwrap();
            let _client = place.dial(local);
            let (stream, _) = soon(acceptor.accept()).await.unwrap();
            let socket = Socket::from(OwnedFd::from(stream));
            assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap());
            assert_eq!(socket.keepalive().unwrap(), keepalive.is_some());
            if let Some((idle, probes)) = keepalive {
                let socket = SockRef::from(&socket);
                assert_eq!(
                    (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_retries().unwrap()),
                    (idle, probes)
                );
            }
        }
    });
}

#[test]
fn an_address_the_namespace_does_not_have_is_an_error() {
    let place = Place::new();
    for at in ["198.51.100.1", "2001:db8:1::1"] {
        let error = Listener::bind(&place.netns(), (ip(at), 0).into(), &PLAIN).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable, "{at}");
    }
}
