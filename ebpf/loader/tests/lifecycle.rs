//! Agents come and go: adoption, withdrawal, cleanup, two agents on one kernel, and what fails halfway.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bed;

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    os::fd::AsFd as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::{
    maps::{HashMap, Map, MapData, MapInfo, loaded_maps},
    programs::{
        links::{FdLink, PinnedLink},
        loaded_links, loaded_programs,
    },
};
use bed::{Bed, Listeners, NODE4, POD4, POD6, accept, app::App, ip, listen};
use socket2::{Domain, Socket, Type};
use weir_ebpf_common::{Address, Origin, OriginKey, Port};
use weir_ebpf_loader::{Capture, Error, HostExemption, Redirect, Removed, Settings, cleanup};

/// Ids of what is in the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Kernel {
    programs: BTreeSet<u32>,
    links: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Kernel {
    /// All there is, of whomever.
    fn all() -> Self {
        Self {
            programs: loaded_programs().filter_map(Result::ok).map(|program| program.id()).collect(),
            links: loaded_links().filter_map(Result::ok).map(|link| link.id()).collect(),
            maps: loaded_maps().filter_map(Result::ok).map(|map| map.id()).collect(),
        }
    }

    /// What the bed's agent has pinned, and the programs in its links.
    fn pinned(bed: &Bed) -> Self {
        let files = |folder: &str| fs::read_dir(bed.pin_dir.join(folder)).unwrap().map(|file| file.unwrap().path());
        let links = files("links").chain(files("pods"));
        let links = links.map(|path| FdLink::from(PinnedLink::from_pin(path).unwrap()).info().unwrap());
        let (links, programs) = links.map(|link| (link.id(), link.program_id())).unzip();
        let maps = files("maps").map(|path| MapInfo::from_pin(path).unwrap().id()).collect();
        Self { programs, links, maps }
    }

    fn is_disjoint(&self, other: &Self) -> bool {
        self.programs.is_disjoint(&other.programs)
            && self.links.is_disjoint(&other.links)
            && self.maps.is_disjoint(&other.maps)
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The pod's connection is caught, and its destination known.
fn assert_captured(bed: &Bed, redirect: &Redirect, listeners: &Listeners) {
    for (to, listener) in [("10.96.0.7:80", &listeners.outbound_v4), ("[fd96::7]:80", &listeners.outbound_v6)] {
        let _app = App::connect(&bed.pod, at(to));
        let (_stream, peer) = accept(listener, to);
        assert_eq!(redirect.origins().unwrap().take(bed.pod.cookie(), peer).unwrap(), Some(at(to)));
    }
}

/// The pod connects and is reached as if there were no agent.
fn assert_free(bed: &Bed) {
    for (node, own) in [(NODE4, POD4), (bed::NODE6, POD6)] {
        let target = bed.node.within(|| listen((node, 0)));
        let _app = App::connect(&bed.pod, target.local_addr().unwrap());
        assert_eq!(accept(&target, "the pod").1.ip(), ip(own));
        let target = bed.pod.within(|| listen((own, 8080)));
        let _app = App::connect(&bed.neighbour, target.local_addr().unwrap());
        accept(&target, "the neighbour");
    }
}

#[test]
fn a_new_agent_adopts_what_a_dead_one_left() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    let first = Kernel::pinned(&bed);
    assert_captured(&bed, &redirect, &listeners);
    drop((redirect, listeners));
    assert_eq!(App::connect(&bed.pod, at("10.96.0.7:80")).hear(), "ConnectionRefused");
    assert_eq!(App::connect(&bed.neighbour, SocketAddr::new(ip(POD4), 80)).hear(), "ConnectionRefused");

    let mut redirect = bed.start();
    assert_eq!(redirect.enrolled().unwrap(), [bed.pod.cookie()]);
    assert_eq!(App::connect(&bed.pod, at("10.96.0.7:80")).hear(), "ConnectionRefused", "not served yet");
    let listeners = Listeners::new(&bed.pod);
    listeners.enrol(&mut redirect, &bed.pod).unwrap();
    assert_captured(&bed, &redirect, &listeners);
    // The links and maps are the same, the programs are new ones.
    let now = Kernel::pinned(&bed);
    assert_eq!((&now.links, &now.maps), (&first.links, &first.maps));
    assert!(now.programs.is_disjoint(&first.programs));
    bed::until("old programs go", || Kernel::all().programs.is_disjoint(&first.programs));
}

#[test]
fn enrolling_again_changes_nothing_but_the_listeners() {
    let bed = Bed::new();
    let (mut redirect, old) = bed.captured();
    let before = Kernel::pinned(&bed);
    let new = Listeners::new(&bed.pod);
    new.enrol(&mut redirect, &bed.pod).unwrap();
    assert_eq!(Kernel::pinned(&bed), before);
    assert_eq!(redirect.enrolled().unwrap(), [bed.pod.cookie()]);
    assert_captured(&bed, &redirect, &new);
    assert!(!bed::is_ready(&old.outbound_v4, Duration::ZERO));
}

#[test]
fn a_withdrawn_pod_is_free_and_can_be_enrolled_again() {
    let bed = Bed::new();
    let (mut redirect, listeners) = bed.captured();
    redirect.withdraw(bed.pod.cookie()).unwrap();
    assert_eq!(redirect.enrolled().unwrap(), []);
    assert_free(&bed);
    redirect.withdraw(bed.pod.cookie()).unwrap();
    listeners.enrol(&mut redirect, &bed.pod).unwrap();
    assert_captured(&bed, &redirect, &listeners);
}

#[test]
fn a_pod_which_is_gone_can_be_withdrawn_and_its_address_be_anothers_before() {
    let bed = Bed::new();
    let mut redirect = bed.start();
    let (gone, cookie) = {
        let pod = bed::Netns::new();
        let listeners = pod.within(|| [listen(("::", 0)), listen(("::", 0))]);
        let capture = Capture {
            netns: pod.0.as_fd(),
            cookie: pod.cookie(),
            addresses: &[ip(POD4), ip("10.77.1.9")],
            outbound_v4: None,
            outbound_v6: None,
            hbone: listeners[0].as_fd(),
            inbound: listeners[1].as_fd(),
        };
        redirect.enrol(&capture).unwrap();
        (bed.pin_dir.join("pods").join(capture.cookie.to_string()), capture.cookie)
    };
    let listeners = Listeners::new(&bed.pod);
    listeners.enrol(&mut redirect, &bed.pod).unwrap();
    let mut both = [cookie, bed.pod.cookie()];
    both.sort_unstable();
    assert_eq!(redirect.enrolled().unwrap(), both);
    assert!(gone.exists());
    redirect.withdraw(cookie).unwrap();
    assert!(!gone.exists());
    assert_eq!(redirect.enrolled().unwrap(), [bed.pod.cookie()]);
    // The address they had in common is the living one's.
    let _app = App::connect(&bed.neighbour, SocketAddr::new(ip(POD4), 80));
    bed::until("the neighbour", || listeners.inbound.iter().any(|inbound| bed::is_ready(inbound, Duration::ZERO)));
}

#[test]
fn cleanup_leaves_nothing_and_can_be_repeated() {
    let bed = Bed::new();
    let (redirect, listeners) = bed.captured();
    let mine = Kernel::pinned(&bed);
    assert_eq!((mine.programs.len(), mine.links.len(), mine.maps.len()), (6, 6, 11));
    for program in loaded_programs().filter_map(Result::ok).filter(|program| mine.programs.contains(&program.id())) {
        let maps = program.map_ids().unwrap().unwrap();
        assert!(maps.iter().all(|map| mine.maps.contains(map)), "each map is pinned, or could not be adopted");
    }
    let own_cgroup = || fs::read_to_string("/proc/self/cgroup").unwrap().contains("0::/weir-agent-");
    assert!(own_cgroup(), "the agent is in a cgroup of its own");
    let removed = cleanup(&bed.pin_dir).unwrap();
    assert_eq!(removed, Removed { links: 6, maps: 11, cgroups: 1 });
    // The agent still runs and holds programs; already nothing is attached.
    assert_free(&bed);
    drop((redirect, listeners));
    bed::until("the kernel lets go", || mine.is_disjoint(&Kernel::all()));
    assert!(!bed.pin_dir.exists());
    assert!(!own_cgroup());
    assert_eq!(cleanup(&bed.pin_dir).unwrap(), Removed::default());
}

#[test]
fn two_agents_on_one_kernel_do_not_see_each_other() {
    let (one, two) = (Bed::new(), Bed::another());
    let ((redirect_one, listeners_one), (redirect_two, listeners_two)) = (one.captured(), two.captured());
    for _ in 0..2 {
        assert_captured(&one, &redirect_one, &listeners_one);
        assert_captured(&two, &redirect_two, &listeners_two);
    }
    assert_eq!(redirect_one.enrolled().unwrap(), [one.pod.cookie()]);
    cleanup(&two.pin_dir).unwrap();
    assert_free(&two);
    assert_captured(&one, &redirect_one, &listeners_one);
}

#[test]
fn a_pod_that_cannot_be_enrolled_is_left_as_it_was() {
    let bed = Bed::new();
    let (mut redirect, listeners) = (bed.start(), Listeners::new(&bed.pod));
    let addresses = bed::pod_addresses();
    let unbound = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    let not_a_netns = fs::File::open("/dev/null").unwrap();
    let whole = listeners.capture(&bed.pod, &addresses);
    for broken in [
        Capture { netns: not_a_netns.as_fd(), ..whole },
        Capture { inbound: not_a_netns.as_fd(), ..whole },
        Capture { hbone: unbound.as_fd(), ..whole },
        Capture { addresses: &[], ..whole },
        Capture { cookie: bed.node.cookie(), ..whole },
        Capture { addresses: &[ip(POD4), ip("::1")], ..whole },
        Capture { addresses: &[ip("::ffff:127.0.0.1")], ..whole },
    ] {
        redirect.enrol(&broken).unwrap_err();
        assert_eq!(redirect.enrolled().unwrap(), []);
        assert_free(&bed);
    }
    // A pod that was captured stays so.
    redirect.enrol(&whole).unwrap();
    redirect.enrol(&Capture { inbound: not_a_netns.as_fd(), ..whole }).unwrap_err();
    assert_eq!(redirect.enrolled().unwrap(), [whole.cookie]);
    assert_captured(&bed, &redirect, &listeners);
}

#[test]
fn maps_of_another_layout_are_replaced_only_when_no_pod_depends_on_them() {
    let bed = Bed::new();
    drop(bed.start());
    let pinned = bed.pin_dir.join("maps/ENROLLED");
    fs::remove_file(&pinned).unwrap();
    let other: HashMap<MapData, u64, u64> = HashMap::create(16, 0).unwrap();
    other.pin(&pinned).unwrap();
    let pod = bed.pin_dir.join("pods/4711");
    let standing_in: HashMap<MapData, u64, u64> = HashMap::create(16, 0).unwrap();
    standing_in.pin(&pod).unwrap();
    let error = bed.node.within(|| Redirect::start(&bed.settings())).unwrap_err();
    assert!(matches!(&error, Error::LayoutDiffers { map: "ENROLLED", .. }), "{error}");
    assert!(error.to_string().contains("weir-agent cleanup --bpf-dir"), "{error}");
    fs::remove_file(pod).unwrap();
    let (redirect, listeners) = bed.captured();
    assert_captured(&bed, &redirect, &listeners);
}

#[test]
fn unusable_settings_are_refused_with_a_reason() {
    let bed = Bed::new();
    let settings = bed.settings();
    for (broken, want) in [
        (Settings { pin_dir: "/tmp/weir-ebpf-test".into(), ..settings.clone() }, "mount -t bpf"),
        (Settings { cgroup_root: Some("/proc".into()), ..settings.clone() }, "/proc is not the root"),
        (Settings { host_exemption: HostExemption::NotInPods(Vec::new()), ..settings }, "name the pods' cgroups"),
    ] {
        let error = bed.node.within(|| Redirect::start(&broken)).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    assert!(!PathBuf::from("/tmp/weir-ebpf-test").exists());
}

#[test]
fn taking_an_original_destination_is_quick() {
    const MANY: u16 = 4096;
    let bed = Bed::new();
    let redirect = bed.start_with(&Settings { max_flows: 65_536, ..bed.settings() });
    let map = Map::LruHashMap(MapData::from_pin(bed.pin_dir.join("maps/ORIGINS")).unwrap());
    let mut map: HashMap<_, OriginKey, Origin> = map.try_into().unwrap();
    let address = Address::from(ip(POD6));
    for port in 1..=MANY {
        let key = OriginKey { cookie: 1, address, port: Port::new(port), zero: [0; 6] };
        map.insert(key, Origin { address, port: Port::new(port), zero: [0; 2] }, 0).unwrap();
    }
    let origins = redirect.origins().unwrap();
    let start = Instant::now();
    for port in 1..=MANY {
        let peer = SocketAddr::new(ip(POD6), port);
        assert_eq!(origins.take(1, peer).unwrap(), Some(peer));
    }
    let each = start.elapsed() / u32::from(MANY);
    println!("Origins::take: {each:?}");
    // Two orders of magnitude above what a system call takes, for busy machines.
    assert!(each < Duration::from_micros(100), "{each:?}");
}
