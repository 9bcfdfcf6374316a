//! Against the real kernel: each test makes namespaces of its own, and therefore needs root.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

struct Named {
    path: PathBuf,
    netns: NetNs,
}

impl Named {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/run/netns/weir-netlink-test-{}-{number}", std::process::id()));
        let netns = NetNs::create(&path).unwrap();
        Rtnl::open_in(&netns).unwrap().set_up("lo").unwrap();
        Self { path, netns }
    }

    fn rtnl(&self) -> Rtnl {
        Rtnl::open_in(&self.netns).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        NetNs::delete(&self.path).unwrap();
    }
}

/// Two namespaces with a veth between them: `.1` and `.2`, both families.
fn pair() -> (Named, Named) {
    let (left, right) = (Named::new(), Named::new());
    left.rtnl().add_veth("eth0", VethPeer { name: "eth0", netns: &right.netns }, 1400).unwrap();
    for (side, last) in [(&left, 1), (&right, 2)] {
        let mut rtnl = side.rtnl();
        rtnl.set_up("eth0").unwrap();
        rtnl.add_address("eth0", Ipv4Addr::new(192, 0, 2, last).into(), 24).unwrap();
        rtnl.add_address("eth0", v6(u16::from(last)), 64).unwrap();
    }
    (left, right)
}

fn v6(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
}

fn echo_once(from: &NetNs, to: &NetNs, ip: IpAddr) -> Vec<u8> {
    let listener = to.run(|| TcpListener::bind((ip, 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let mut client = from.run(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    server.join().unwrap();
    answer
}

#[test]
fn a_namespace_has_a_name_until_it_is_deleted_and_deleting_twice_is_fine() {
    let named = Named::new();
    assert!(matches!(NetNs::create(&named.path), Err(error) if error.errno() == Some(libc::EEXIST)));
    NetNs::open(&named.path).unwrap();
    NetNs::delete(&named.path).unwrap();
    assert!(!named.path.exists());
    NetNs::delete(&named.path).unwrap();
}

#[test]
fn an_ordinary_file_is_not_taken_for_a_namespace() {
    let error = NetNs::open(Path::new("/etc/hostname")).unwrap_err();
    assert!(matches!(error, NetlinkError::NotANetns(_)), "{error}");
}

#[test]
fn running_inside_leaves_the_caller_where_it_was() {
    let named = Named::new();
    let before = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let inside = named.netns.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert_ne!(before, inside);
    assert_eq!(before, std::fs::read_link("/proc/thread-self/ns/net").unwrap());
}

#[test]
fn a_program_is_started_inside() {
    let named = Named::new();
    let mut command = Command::new("cat");
    command.arg("/proc/net/dev").stdout(Stdio::piped());
    let output = named.netns.spawn(command).unwrap().wait_with_output().unwrap();
    let links: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().skip(2).map(str::to_owned).collect();
    assert!(links.len() == 1 && links[0].trim_start().starts_with("lo:"), "{links:?}");
}

#[test]
fn a_program_hears_the_signals_that_its_starter_has_blocked() {
    use nix::sys::signal::{SigSet, Signal, kill};
    let named = Named::new();
    SigSet::from(Signal::SIGTERM).thread_block().unwrap();
    let mut command = Command::new("sleep");
    command.arg("1000");
    let mut child = named.netns.spawn(command).unwrap();
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not hear SIGTERM");
        }
        thread::yield_now();
    }
}

#[test]
fn a_program_dies_with_the_thread_that_started_it() {
    let named = Named::new();
    let mut child = thread::scope(|scope| {
        scope
            .spawn(|| {
                let mut command = Command::new("sleep");
                command.arg("1000");
                named.netns.spawn(command).unwrap()
            })
            .join()
            .unwrap()
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(!status.success());
            return;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it is still running");
        }
        thread::yield_now();
    }
}

#[test]
fn both_families_pass_a_veth_pair_and_are_counted() {
    let (left, right) = pair();
    for ip in [Ipv4Addr::new(192, 0, 2, 2).into(), v6(2)] {
        assert_eq!(echo_once(&left.netns, &right.netns, ip), b"hello", "{ip}");
    }
    let link = left.rtnl().link("eth0").unwrap();
    assert!(link.up);
    assert_eq!(link.mtu, 1400);
    assert!(link.stats.tx_packets > 6 && link.stats.rx_bytes > 200, "{:?}", link.stats);
}

#[test]
fn links_are_moved_renumbered_taken_down_and_deleted() {
    let (left, right) = pair();
    let mut rtnl = right.rtnl();
    rtnl.set_mtu("eth0", 9000).unwrap();
    rtnl.set_down("eth0").unwrap();
    let link = rtnl.link("eth0").unwrap();
    assert!(!link.up && link.mtu == 9000);
    let third = Named::new();
    rtnl.move_link("eth0", &third.netns).unwrap();
    assert!(matches!(rtnl.link("eth0"), Err(NetlinkError::NoLink(_))));
    third.rtnl().delete_link("eth0").unwrap();
    assert!(matches!(left.rtnl().link("eth0"), Err(NetlinkError::NoLink(_))), "the other end goes too");
}

#[test]
fn a_bridge_carries_its_ports() {
    let middle = Named::new();
    middle.rtnl().add_bridge("br0").unwrap();
    middle.rtnl().set_up("br0").unwrap();
    let ends = [Named::new(), Named::new()];
    for (number, end) in (1u8..).zip(&ends) {
        let name = format!("port{number}");
        let mut rtnl = middle.rtnl();
        rtnl.add_veth(&name, VethPeer { name: "eth0", netns: &end.netns }, 1500).unwrap();
        rtnl.set_bridge(&name, "br0").unwrap();
        rtnl.set_up(&name).unwrap();
        assert_eq!(rtnl.link(&name).unwrap().bridge, Some(rtnl.link("br0").unwrap().index));
        let mut rtnl = end.rtnl();
        rtnl.set_up("eth0").unwrap();
        rtnl.add_address("eth0", Ipv4Addr::new(192, 0, 2, number).into(), 24).unwrap();
    }
    assert_eq!(echo_once(&ends[0].netns, &ends[1].netns, Ipv4Addr::new(192, 0, 2, 2).into()), b"hello");
}

#[test]
fn addresses_are_listed_and_deleted() {
    let (left, _right) = pair();
    let mut rtnl = left.rtnl();
    let link = rtnl.link("eth0").unwrap().index;
    for (ip, prefix_len) in [(Ipv4Addr::new(192, 0, 2, 1).into(), 24), (v6(1), 64)] {
        let address = LinkAddress { link, ip, prefix_len };
        rtnl.add_address("eth0", ip, prefix_len).unwrap();
        assert!(rtnl.addresses().unwrap().contains(&address), "{ip}");
        rtnl.delete_address("eth0", ip, prefix_len).unwrap();
        assert!(!rtnl.addresses().unwrap().contains(&address), "{ip}");
        assert!(rtnl.delete_address("eth0", ip, prefix_len).is_err(), "{ip}");
    }
}

#[test]
fn routes_and_rules_are_listed_and_adding_or_deleting_twice_is_fine() {
    let (left, _right) = pair();
    let mut rtnl = left.rtnl();
    for (gateway, family) in [(Ipv4Addr::new(192, 0, 2, 2).into(), Family::V4), (v6(2), Family::V6)] {
        let route = Route { link: Some("eth0".into()), ..Route::default_via(gateway) };
        for table in [Route::MAIN, 4711] {
            let route = Route { table, ..route.clone() };
            rtnl.add_route(&route).unwrap();
            rtnl.add_route(&route).unwrap();
            assert!(rtnl.routes(family, table).unwrap().contains(&route), "{route}");
            rtnl.delete_route(&route).unwrap();
            rtnl.delete_route(&route).unwrap();
            assert!(!rtnl.routes(family, table).unwrap().contains(&route), "{route}");
        }
        let rule = Rule { family, priority: 99, mark: 0x500, mask: 0xff00, table: 4711, protocol: 99 };
        rtnl.add_rule(&rule).unwrap();
        rtnl.add_rule(&rule).unwrap();
        assert_eq!(rtnl.rules(family).unwrap(), [rule]);
        rtnl.delete_rule(&rule).unwrap();
        rtnl.delete_rule(&rule).unwrap();
        assert_eq!(rtnl.rules(family).unwrap(), []);
    }
}

#[test]
fn pod_routing_goes_in_and_out_any_number_of_times_and_sets_the_settings_back() {
    const SETTINGS: [&str; 3] = ["net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"];
    let routing = PodRouting::new(0x5e1, 15_008);
    let read = |pod: &Named| SETTINGS.map(|setting| read_sysctl(&pod.netns, setting).unwrap());
    for before in [["0", "0", "0"], ["1", "1", "1"], ["1", "0", "1"], ["0", "1", "0"]] {
        let pod = Named::new();
        for (setting, value) in SETTINGS.into_iter().zip(before) {
            write_sysctl(&pod.netns, setting, value).unwrap();
        }
        routing.remove(&pod.netns).unwrap();
        for _ in 0..2 {
            assert_eq!(routing.install(&pod.netns).unwrap(), Ipv6Routing::Installed);
            assert!(routing.is_installed(&pod.netns).unwrap());
            assert_eq!(read(&pod), ["1"; 3]);
            for family in Family::BOTH {
                let rules = pod.rtnl().rules(family).unwrap();
                assert!(rules.len() == 1 && rules[0].mark == 0x5e1 && rules[0].table == 15_008, "{rules:?}");
                assert_eq!(pod.rtnl().routes(family, 15_008).unwrap(), [Route::local_default(family, 15_008)]);
            }
        }
        for _ in 0..2 {
            routing.remove(&pod.netns).unwrap();
            assert!(!routing.is_installed(&pod.netns).unwrap());
            assert_eq!(read(&pod), before);
            for family in Family::BOTH {
                assert_eq!(pod.rtnl().rules(family).unwrap(), []);
                assert_eq!(pod.rtnl().routes(family, 15_008).unwrap(), []);
            }
        }
    }
}

#[test]
fn pod_routing_leaves_out_ipv6_where_it_is_off() {
    let routing = PodRouting::new(0x5e1, 15_008);
    let pod = Named::new();
    for which in ["all", "lo"] {
        write_sysctl(&pod.netns, &format!("net/ipv6/conf/{which}/disable_ipv6"), "1").unwrap();
    }
    assert_eq!(routing.install(&pod.netns).unwrap(), Ipv6Routing::Disabled);
    assert!(routing.is_installed(&pod.netns).unwrap());
    routing.remove(&pod.netns).unwrap();
    assert!(!routing.is_installed(&pod.netns).unwrap());
}

#[test]
fn pod_routing_is_removed_even_when_ipv6_was_switched_off_after_it_went_in() {
    let routing = PodRouting::new(0x5e1, 15_008);
    let pod = Named::new();
    assert_eq!(routing.install(&pod.netns).unwrap(), Ipv6Routing::Installed);
    write_sysctl(&pod.netns, "net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    routing.remove(&pod.netns).unwrap();
    for family in Family::BOTH {
        assert_eq!(pod.rtnl().rules(family).unwrap(), []);
    }
}

#[test]
fn removing_pod_routing_from_a_namespace_that_is_gone_is_fine() {
    let routing = PodRouting::new(0x5e1, 15_008);
    let pod = Named::new();
    let path = pod.path.clone();
    drop(pod);
    routing.remove_at(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    routing.remove_at(&path).unwrap();
    NetNs::delete(&path).unwrap();
}

#[test]
fn with_pod_routing_accepted_sockets_of_both_families_take_the_mark_of_the_client() {
    let pod = Named::new();
    let accepted_mark = |ip: IpAddr| {
        pod.netns
            .run(|| {
                let listener = TcpListener::bind((ip, 0)).unwrap();
                let address = listener.local_addr().unwrap();
                let client = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
                client.set_mark(0x5e1).unwrap();
                client.connect_timeout(&address.into(), PATIENCE).unwrap();
                let (accepted, _) = listener.accept().unwrap();
                SockRef::from(&accepted).mark().unwrap()
            })
            .unwrap()
    };
    let ips: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    assert_eq!(ips.map(accepted_mark), [0, 0]);
    PodRouting::new(0x5e1, 15_008).install(&pod.netns).unwrap();
    assert_eq!(ips.map(accepted_mark), [0x5e1, 0x5e1]);
}

#[test]
fn with_pod_routing_a_connection_made_in_the_name_of_a_stranger_gets_its_answers() {
    let (pod, _beyond) = pair();
    for gateway in [Ipv4Addr::new(192, 0, 2, 2).into(), v6(2)] {
        pod.rtnl().add_route(&Route::default_via(gateway)).unwrap();
    }
    let reached = |stranger: &str, own: IpAddr, patience: Duration| {
        let stranger: SocketAddr = stranger.parse().unwrap();
        let connect = || {
            let listener = TcpListener::bind((own, 0)).unwrap();
            let client = Socket::new(Domain::for_address(stranger), Type::STREAM, None).unwrap();
            client.set_mark(0x5e1).unwrap();
            if stranger.is_ipv4() { client.set_ip_transparent_v4(true) } else { client.set_freebind_v6(true) }.unwrap();
            client.bind(&stranger.into()).unwrap();
            client.connect_timeout(&listener.local_addr().unwrap().into(), patience).is_ok()
        };
        pod.netns.run(connect).unwrap()
    };
    let cases = [("198.51.100.7:7007", Ipv4Addr::new(192, 0, 2, 1).into()), ("[2001:db8:7::7]:7007", v6(1))];
    let soon = Duration::from_millis(300);
    assert_eq!(cases.map(|(stranger, own)| reached(stranger, own, soon)), [false, false], "answers go to the stranger");
    PodRouting::new(0x5e1, 15_008).install(&pod.netns).unwrap();
    assert_eq!(cases.map(|(stranger, own)| reached(stranger, own, PATIENCE)), [true, true]);
}

#[test]
fn packets_of_one_link_are_heard_and_counted() {
    let (left, right) = pair();
    let ear = PacketSocket::listen(&left.netns, "eth0").unwrap();
    assert_eq!(echo_once(&left.netns, &right.netns, Ipv4Addr::new(192, 0, 2, 2).into()), b"hello");
    let mut buffer = vec![0; 70_000];
    let mut heard = 0;
    while let Some(packet) = ear.receive(&mut buffer, Duration::from_millis(100)).unwrap() {
        heard += packet.windows(5).filter(|window| *window == b"hello").count();
    }
    assert_eq!(heard, 2, "there and back");
    let stats = ear.stats().unwrap();
    assert!(stats.seen > 6 && stats.lost == 0, "{stats:?}");
}
