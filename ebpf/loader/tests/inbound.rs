//! What arrives at an enrolled pod: given to the agent's listener, or passed because of who made it, or dropped.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bed;

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::PathBuf,
};

use bed::{Bed, NEIGHBOUR4, NEIGHBOUR6, NODE4, NODE6, POD4, POD4_SECOND, POD6, accept, app::App, count, ip, listen};
use socket2::{Domain, Protocol, Socket, Type};
use weir_ebpf_loader::{Counter, HostExemption, Settings};

fn accept_either(listeners: &[TcpListener; 2], who: &str) -> (usize, SocketAddr, SocketAddr) {
    let mut which = 0;
    bed::until(who, || {
        which = 1 - which;
        bed::is_ready(&listeners[which], std::time::Duration::ZERO)
    });
    let (stream, peer) = accept(&listeners[which], who);
    (which, bed::canonical(stream.local_addr().unwrap()), peer)
}

#[test]
fn each_connection_reaches_its_slot_and_getsockname_is_the_original_destination() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for (address, from) in [(POD4, NEIGHBOUR4), (POD4_SECOND, NEIGHBOUR4), (POD6, NEIGHBOUR6)] {
        for (port, group) in [(8080, &listeners.inbound), (22, &listeners.inbound), (15_008, &listeners.hbone)] {
            let to = SocketAddr::new(ip(address), port);
            let mut app = App::connect(&bed.neighbour, to);
            let (_, local, peer) = accept_either(group, &to.to_string());
            assert_eq!(local, to);
            assert_eq!(peer.ip(), ip(from), "the client keeps its address");
            assert_eq!(app.hear(), format!("{to} {peer}"));
        }
    }
    assert_eq!(count(&redirect, Counter::ToInbound), 6);
    assert_eq!(count(&redirect, Counter::ToHbone), 3);
    assert!(listeners.are_idle());
}

#[test]
fn both_members_of_a_group_get_connections() {
    let bed = Bed::new();
    let (_redirect, listeners) = bed.captured();
    for (port, group) in [(8080, &listeners.inbound), (15_008, &listeners.hbone)] {
        let mut got = [0; 2];
        for _ in 0..64 {
            let mut app = App::connect(&bed.neighbour, SocketAddr::new(ip(POD4), port));
            app.hear();
            got[accept_either(group, "one of many").0] += 1;
        }
        println!("port {port}: the members of the group got {got:?}");
        // By chance all go to one in 1 of 2^63 runs.
        assert!(got[0] > 0 && got[1] > 0, "{got:?}");
    }
}

#[test]
fn an_empty_slot_and_an_unknown_address_drop() {
    let bed = Bed::new();
    let (mut redirect, listeners) = bed.captured();
    // The application listens; nobody may reach it past the agent.
    let apps: Vec<_> = [POD4, POD4_SECOND, POD6].map(|own| bed.pod.within(|| listen((own, 8080)))).into();
    redirect.enrol(&listeners.capture(&bed.pod, &[ip(POD4), ip(POD6)])).unwrap();
    let second = SocketAddr::new(ip(POD4_SECOND), 8080);
    assert_eq!(App::connect(&bed.neighbour, second).hear(), "ConnectionRefused");
    assert_eq!(count(&redirect, Counter::DroppedUnknownAddress), 1);
    drop(listeners);
    for (n, (address, port)) in [(POD4, 8080), (POD4, 15_008), (POD6, 8080), (POD6, 15_008)].into_iter().enumerate() {
        let to = SocketAddr::new(ip(address), port);
        assert_eq!(App::connect(&bed.neighbour, to).hear(), "ConnectionRefused", "{to}");
        assert_eq!(count(&redirect, Counter::DroppedNoListener), u64::try_from(n + 1).unwrap());
    }
    assert!(apps.iter().all(|app| !bed::is_ready(app, std::time::Duration::ZERO)));
}

/// Starts connecting from an address which is not this netns's, as the agent does when it delivers.
fn connect_as(from: IpAddr, to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).unwrap();
    match from {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true).unwrap(),
        IpAddr::V6(_) => socket.set_freebind_v6(true).unwrap(),
    }
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let started = socket.connect(&to.into()).unwrap_err();
    assert_eq!(started.raw_os_error(), Some(libc::EINPROGRESS));
    socket
}

#[test]
fn the_agents_delivery_passes_and_the_same_from_another_process_does_not() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for (n, (own, client)) in [(POD4, NEIGHBOUR4), (POD6, NEIGHBOUR6)].into_iter().enumerate() {
        let n = u64::try_from(n).unwrap();
        let (to, client) = (SocketAddr::new(ip(own), 8080), ip(client));
        let target = bed.pod.within(|| listen((own, 8080)));
        // Replies would need the routing rule of a real agent; that the first segment passed is what counts here.
        let _delivery = bed.pod.within(|| connect_as(client, to));
        bed::until("the delivery passes", || count(&redirect, Counter::PassedAgent) > n);
        assert_eq!(count(&redirect, Counter::ToInbound), n);
        let _app = App::run(&bed.pod, |talk| {
            let _socket = connect_as(client, to);
            talk.wait();
        });
        bed::until("the other is given to the agent", || count(&redirect, Counter::ToInbound) > n);
        drop(target);
    }
    // And a whole handshake, from one address of the pod to the other.
    let target = bed.pod.within(|| listen((POD4, 8081)));
    let passed = count(&redirect, Counter::PassedAgent);
    let delivery = bed.pod.within(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&SocketAddr::new(ip(POD4_SECOND), 0).into()).unwrap();
        socket.connect(&SocketAddr::new(ip(POD4), 8081).into()).unwrap();
        socket
    });
    let (_stream, peer) = accept(&target, "the agent");
    assert_eq!(Some(peer), delivery.local_addr().unwrap().as_socket());
    assert!(count(&redirect, Counter::PassedAgent) > passed);
    assert!(listeners.are_idle());
}

#[test]
fn the_agent_itself_enters_a_pod_by_the_front_door_from_elsewhere() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for (own, from) in [(POD4, NODE4), (POD6, NODE6)] {
        for (port, group) in [(8080, &listeners.inbound), (15_008, &listeners.hbone)] {
            let to = SocketAddr::new(ip(own), port);
            let _stream = bed.node.within(|| bed::connect(to).unwrap());
            let (_, local, peer) = accept_either(group, "the agent, from the node");
            assert_eq!((local, peer.ip()), (to, ip(from)));
        }
    }
    assert_eq!(count(&redirect, Counter::PassedAgent) + count(&redirect, Counter::PassedHost), 0);
}

#[test]
fn an_exempt_process_of_the_node_passes_with_its_own_address_and_others_do_not() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    let targets = [POD4, POD6].map(|own| bed.pod.within(|| listen((own, 8080))));
    let probe = || {
        App::run(&bed.node, |talk| {
            for own in [POD4, POD6] {
                talk.wait();
                let stream = bed::connect(SocketAddr::new(ip(own), 8080)).unwrap();
                talk.say(&stream.local_addr().unwrap().to_string());
                talk.wait();
            }
        })
    };
    let (mut kubelet, mut other, mut elsewhere) = (
        probe(),
        probe(),
        App::run(&bed.neighbour, |talk| {
            talk.wait();
            let stream = bed::connect(SocketAddr::new(ip(POD4), 8080)).unwrap();
            talk.say(&stream.local_addr().unwrap().to_string());
            talk.wait();
        }),
    );
    // The exempt process is known only now; taking over with new settings is what a restart does.
    drop(redirect);
    let host_exemption = HostExemption::Processes(vec![kubelet.pid(), elsewhere.pid()]);
    let redirect = bed.start_with(&Settings { host_exemption, ..bed.settings() });
    for (target, node) in targets.iter().zip([NODE4, NODE6]) {
        kubelet.go();
        let heard = kubelet.hear();
        let (_stream, peer) = accept(target, "the kubelet");
        assert_eq!((peer.ip(), peer.to_string()), (ip(node), heard));
        kubelet.go();
        other.go();
        other.hear();
        let (_, _, peer) = accept_either(&listeners.inbound, "the other process");
        assert_eq!(peer.ip(), ip(node));
        other.go();
    }
    elsewhere.go();
    elsewhere.hear();
    accept_either(&listeners.inbound, "a process which is exempt, but not in the node's netns");
    assert_eq!(count(&redirect, Counter::PassedHost), 2);
    assert_eq!(count(&redirect, Counter::ToInbound), 3);
}

/// A cgroup of the test; goes with it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn id(&self) -> u64 {
        fs::metadata(&self.0).unwrap().ino()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_pod_with_host_network_is_no_process_of_the_node() {
    let bed = Bed::new();
    let kubepods = Cgroup::new(bed::cgroup_root().join(format!("weir-ebpf-test-kubepods-{}", std::process::id())));
    let burstable = Cgroup::new(kubepods.0.join("burstable"));
    let pod = Cgroup::new(burstable.0.join("pod1"));
    let host_exemption = HostExemption::NotInPods(vec![kubepods.id()]);
    let mut redirect = bed.start_with(&Settings { host_exemption, ..bed.settings() });
    let listeners = bed::Listeners::new(&bed.pod);
    listeners.enrol(&mut redirect, &bed.pod).unwrap();
    for own in [POD4, POD6] {
        let target = bed.pod.within(|| listen((own, 8080)));
        let to = SocketAddr::new(ip(own), 8080);
        let _kubelet = App::connect(&bed.node, to);
        accept(&target, "a process outside of pods");
        for cgroup in [&kubepods, &pod] {
            let procs = cgroup.0.join("cgroup.procs");
            let app = App::run(&bed.node, |talk| {
                fs::write(procs, "0").unwrap();
                let _stream = bed::connect(to).unwrap();
                talk.wait();
            });
            accept_either(&listeners.inbound, "a pod with hostNetwork");
            drop(app);
        }
    }
    assert_eq!(count(&redirect, Counter::PassedHost), 2);
    assert_eq!(count(&redirect, Counter::ToInbound), 4);
}

#[test]
fn a_flow_that_passed_is_forgotten_when_it_is_established_or_failed() {
    let bed = Bed::new();
    let (redirect, _listeners) = bed.captured();
    let flows = || {
        let map = aya::maps::MapData::from_pin(bed.pin_dir.join("maps/FLOWS")).unwrap();
        let map = aya::maps::Map::from_map_data(map).unwrap();
        let flows: aya::maps::HashMap<_, weir_ebpf_common::Flow, u32> = map.try_into().unwrap();
        flows.keys().count()
    };
    for own in [POD4, POD6] {
        let target = bed.pod.within(|| listen((own, 8080)));
        let to = SocketAddr::new(ip(own), 8080);
        bed.pod.within(|| bed::connect(to).unwrap());
        assert_eq!(flows(), 0, "established");
        accept(&target, "the agent");
        drop(target);
        bed.pod.within(|| bed::connect(to).unwrap_err());
        assert_eq!(flows(), 0, "refused");
        let client = if to.is_ipv4() { NEIGHBOUR4 } else { NEIGHBOUR6 };
        let target = bed.pod.within(|| listen((own, 8080)));
        let under_way = bed.pod.within(|| connect_as(ip(client), to));
        assert_eq!(flows(), 1, "under way");
        assert!(under_way.as_raw_fd() >= 0);
        drop(under_way);
        bed::until("given up is forgotten", || flows() == 0);
        drop(target);
    }
    assert_eq!(count(&redirect, Counter::FlowLost), 0);
}

#[test]
fn no_mark_and_no_borrowed_address_opens_a_neighbours_pod() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for (own, borrowed, genuine) in [(POD4, "10.77.3.3", NEIGHBOUR4), (POD6, "fd77:3::3", NEIGHBOUR6)] {
        let to = SocketAddr::new(ip(own), 8080);
        let target = bed.pod.within(|| listen((own, 8080)));
        for from in [genuine, borrowed] {
            let given = count(&redirect, Counter::ToInbound);
            let _app = App::run(&bed.neighbour, |talk| {
                let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).unwrap();
                socket.set_mark(1337).unwrap();
                match ip(from) {
                    IpAddr::V4(_) => socket.set_ip_transparent_v4(true).unwrap(),
                    IpAddr::V6(_) => socket.set_freebind_v6(true).unwrap(),
                }
                socket.bind(&SocketAddr::new(ip(from), 0).into()).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket.connect(&to.into()).unwrap_err();
                talk.wait();
            });
            bed::until("it is given to the agent", || count(&redirect, Counter::ToInbound) > given);
        }
        assert!(!bed::is_ready(&target, std::time::Duration::ZERO));
    }
    assert_eq!(count(&redirect, Counter::PassedAgent) + count(&redirect, Counter::PassedHost), 0);
    drop(listeners);
}
