//! What an enrolled pod connects: caught, or left alone, or refused; and what the agent then knows.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bed;

use std::net::SocketAddr;

use bed::{
    Bed, Listeners, NEIGHBOUR4, NEIGHBOUR6, NODE4, NODE6, POD4, POD4_SECOND, POD6, accept,
    app::{App, Talk},
    count, ip, listen,
};
use socket2::{Domain, Protocol, Socket, Type};
use weir_ebpf_loader::{Capture, Counter, Settings};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_pods_connection_reaches_the_agent_which_learns_where_it_was_going() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    let (origins, cookie) = (redirect.origins().unwrap(), bed.pod.cookie());
    for (to, listener, want) in [
        ("10.96.0.7:80", &listeners.outbound_v4, "10.96.0.7:80"),
        ("[fd96::7]:443", &listeners.outbound_v6, "[fd96::7]:443"),
        ("[::ffff:10.96.0.8]:8080", &listeners.outbound_v4, "10.96.0.8:8080"),
        ("169.254.169.254:80", &listeners.outbound_v4, "169.254.169.254:80"),
    ] {
        let mut app = App::connect(&bed.pod, at(to));
        let (stream, peer) = accept(listener, to);
        let heard = app.hear();
        let (saw_peer, saw_local) = heard.split_once(' ').unwrap_or_else(|| panic!("{to}: {heard}"));
        assert_eq!(saw_peer, to, "getpeername");
        assert_eq!(bed::canonical(at(saw_local)), peer, "getsockname is the pod's address and port");
        assert!([ip(POD4), ip(POD6)].contains(&peer.ip()));
        assert_eq!(origins.take(cookie + 1, peer).unwrap(), None, "another pod's");
        assert_eq!(origins.take(cookie, peer).unwrap(), Some(at(want)), "{to}");
        assert_eq!(origins.take(cookie, peer).unwrap(), None, "{to}: it was taken");
        drop(stream);
    }
    assert_eq!(count(&redirect, Counter::Caught), 4);
}

#[test]
fn a_netns_which_is_not_enrolled_is_untouched() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for node in ["10.77.2.1", "fd77:2::1"] {
        let target = bed.node.within(|| listen((node, 0)));
        let to = target.local_addr().unwrap();
        let mut app = App::connect(&bed.neighbour, to);
        let (_stream, peer) = accept(&target, node);
        assert!([ip(NEIGHBOUR4), ip(NEIGHBOUR6)].contains(&peer.ip()));
        assert_eq!(app.hear(), format!("{to} {peer}"));
    }
    assert_eq!(count(&redirect, Counter::Caught), 0);
    assert!(listeners.are_idle());
}

#[test]
fn a_pod_reaches_itself_untouched() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for own in ["127.0.0.1", "::1", POD4, POD4_SECOND, POD6] {
        let target = bed.pod.within(|| listen((own, 0)));
        let to = target.local_addr().unwrap();
        let mut app = App::connect(&bed.pod, to);
        let (_stream, peer) = accept(&target, own);
        assert_eq!(app.hear(), format!("{to} {peer}"));
    }
    // From one of its addresses to another.
    let target = bed.pod.within(|| listen((POD4, 0)));
    let to = target.local_addr().unwrap();
    let _app = App::run(&bed.pod, |talk| connect_from(talk, ip(POD4_SECOND), to));
    assert_eq!(accept(&target, "the other address").1.ip(), ip(POD4_SECOND));
    assert_eq!(count(&redirect, Counter::Caught), 0);
    assert_eq!(count(&redirect, Counter::PassedSelf), 6);
    assert!(listeners.are_idle());
}

fn connect_from(talk: &mut Talk, from: std::net::IpAddr, to: SocketAddr) {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    talk.say("connected");
    talk.wait();
}

#[test]
fn only_the_agents_process_goes_out_uncaught_whatever_mark_others_set() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for (node, listener) in [(NODE4, &listeners.outbound_v4), (NODE6, &listeners.outbound_v6)] {
        let target = bed.node.within(|| listen((node, 0)));
        let to = target.local_addr().unwrap();
        let agent = bed.pod.within(|| bed::connect(to).unwrap());
        let (_stream, peer) = accept(&target, "the agent");
        assert_eq!(agent.local_addr().unwrap(), peer);
        assert_eq!(agent.peer_addr().unwrap(), to);
        // In the agent's own cgroup, being its child, but another process.
        let mut app = App::run(&bed.pod, |talk| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).unwrap();
            socket.set_mark(1337).unwrap();
            socket.connect(&to.into()).unwrap();
            talk.say("connected");
            talk.wait();
        });
        assert_eq!(app.hear(), "connected");
        let (_stream, peer) = accept(listener, "the marked one");
        assert_eq!(redirect.origins().unwrap().take(bed.pod.cookie(), peer).unwrap(), Some(to));
    }
    assert_eq!(count(&redirect, Counter::Caught), 2);
}

#[test]
fn a_family_without_a_listener_and_the_listener_itself_are_refused() {
    let bed = Bed::new();
    let (mut redirect, listeners) = (bed.start(), Listeners::new(&bed.pod));
    let addresses = bed::pod_addresses();
    let both = listeners.capture(&bed.pod, &addresses);
    let (only4, only6) = (Capture { outbound_v6: None, ..both }, Capture { outbound_v4: None, ..both });
    for (pod, to) in [(only4, "[fd96::7]:80"), (only6, "10.96.0.7:80"), (only6, "[::ffff:10.96.0.7]:80")] {
        redirect.enrol(&pod).unwrap();
        assert_eq!(App::connect(&bed.pod, at(to)).hear(), "PermissionDenied", "{to}");
    }
    assert_eq!(count(&redirect, Counter::RefusedNoListener), 3);
    redirect.enrol(&both).unwrap();
    for listener in [&listeners.outbound_v4, &listeners.outbound_v6] {
        let to = listener.local_addr().unwrap();
        assert_eq!(App::connect(&bed.pod, to).hear(), "PermissionDenied", "{to}");
    }
    assert_eq!(count(&redirect, Counter::RefusedToListener), 2);
    assert_eq!(count(&redirect, Counter::Caught), 0);
    assert!(listeners.are_idle());
}

#[test]
fn without_an_agent_connections_are_refused() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    let target = bed.node.within(|| listen((NODE4, 0)));
    drop((redirect, listeners));
    for to in [target.local_addr().unwrap(), at("10.96.0.7:80"), at("[fd96::7]:80"), at("[::ffff:10.96.0.7]:80")] {
        assert_eq!(App::connect(&bed.pod, to).hear(), "ConnectionRefused", "{to}");
    }
    assert!(!bed::is_ready(&target, std::time::Duration::ZERO));
}

#[test]
fn when_there_are_too_many_the_agent_finds_nothing_and_never_another_destination() {
    const MANY: u16 = 600;
    let bed = Bed::new();
    let redirect = bed.start_with(&Settings { max_flows: 64, ..bed.settings() });
    let (mut redirect, listeners) = (redirect, Listeners::new(&bed.pod));
    listeners.enrol(&mut redirect, &bed.pod).unwrap();
    let cookie = bed.pod.cookie();
    // The backlog of std is 128; enough connections wait in it, taken or not. Accept as they come, take at the end.
    let mut app = App::run(&bed.pod, |talk| {
        let mut streams = Vec::new();
        for port in 1..=MANY {
            let stream = bed::connect(SocketAddr::new(ip("10.96.0.7"), port)).unwrap();
            talk.say(&format!("{} {port}", stream.local_addr().unwrap()));
            streams.push(stream);
            talk.wait();
        }
    });
    let mut connections = Vec::new();
    for _ in 0..MANY {
        let heard = app.hear();
        let (local, port) = heard.split_once(' ').unwrap();
        let (_stream, peer) = accept(&listeners.outbound_v4, "one of many");
        assert_eq!(peer, at(local));
        connections.push((peer, port.parse::<u16>().unwrap()));
        app.go();
    }
    let origins = redirect.origins().unwrap();
    let mut found = 0;
    for &(peer, port) in &connections {
        match origins.take(cookie, peer).unwrap() {
            Some(origin) => {
                assert_eq!(origin, SocketAddr::new(ip("10.96.0.7"), port));
                found += 1;
            }
            None => assert_ne!(port, MANY, "the newest is there"),
        }
    }
    assert!((1..=64).contains(&found), "{found}");
}

#[test]
fn the_agents_process_is_the_agent_only_in_the_cgroup_it_was_registered_in() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    let origins = redirect.origins().unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let [root, own] = [bed::cgroup_root(), bed::cgroup_root().join(own)].map(|cgroup| cgroup.join("cgroup.procs"));
    for (node, listener) in [(NODE4, &listeners.outbound_v4), (NODE6, &listeners.outbound_v6)] {
        let target = bed.node.within(|| listen((node, 0)));
        let to = target.local_addr().unwrap();
        // Whoever has the process id of a dead agent is somewhere else.
        std::fs::write(&root, "0").unwrap();
        let _caught = bed.pod.within(|| bed::connect(to).unwrap());
        let (_stream, peer) = accept(listener, "the process elsewhere");
        assert_eq!(origins.take(bed.pod.cookie(), peer).unwrap(), Some(to));
        std::fs::write(&own, "0").unwrap();
        let _uncaught = bed.pod.within(|| bed::connect(to).unwrap());
        accept(&target, "the agent");
    }
}

#[test]
fn a_socket_used_again_forgets_what_it_was() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for (to, own, listener) in
        [("10.96.0.7:80", "127.0.0.1", &listeners.outbound_v4), ("[fd96::7]:80", "::1", &listeners.outbound_v6)]
    {
        let to = at(to);
        let target = bed.pod.within(|| listen((own, 0)));
        let own = target.local_addr().unwrap();
        let mut app = App::run(&bed.pod, |talk| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).unwrap();
            for destination in [to, own, to] {
                socket.connect(&destination.into()).unwrap();
                talk.say(&socket.peer_addr().unwrap().as_socket().unwrap().to_string());
                bed::disconnect(&socket);
            }
        });
        for peer in [to, own, to] {
            assert_eq!(app.hear(), peer.to_string());
        }
        accept(listener, "the first");
        accept(listener, "the third");
    }
    assert_eq!(count(&redirect, Counter::Caught), 4);
}

#[test]
fn multipath_tcp_is_caught_like_tcp() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    for (node, listener) in [(NODE4, &listeners.outbound_v4), (NODE6, &listeners.outbound_v6)] {
        let target = bed.node.within(|| listen((node, 0)));
        let to = target.local_addr().unwrap();
        let mut app = App::run(&bed.pod, |talk| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::MPTCP)).unwrap();
            socket.connect(&to.into()).unwrap();
            talk.say("connected");
            talk.wait();
        });
        assert_eq!(app.hear(), "connected");
        assert!(!bed::is_ready(&target, std::time::Duration::ZERO), "it escaped");
        let (_stream, peer) = accept(listener, "multipath TCP");
        assert_eq!(redirect.origins().unwrap().take(bed.pod.cookie(), peer).unwrap(), Some(to));
    }
}

#[test]
fn a_source_address_of_the_applications_choice_makes_no_difference() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    let origins = redirect.origins().unwrap();
    for (from, to, listener) in [
        ("127.0.0.1", "10.96.0.7:80", &listeners.outbound_v4),
        (POD4_SECOND, "10.96.0.7:80", &listeners.outbound_v4),
        ("::1", "[fd96::7]:80", &listeners.outbound_v6),
    ] {
        let _app = App::run(&bed.pod, |talk| connect_from(talk, ip(from), at(to)));
        let (_stream, peer) = accept(listener, from);
        assert_eq!(peer.ip(), ip(from));
        assert_eq!(origins.take(bed.pod.cookie(), peer).unwrap(), Some(at(to)));
    }
    assert!(listeners.are_idle());
}
