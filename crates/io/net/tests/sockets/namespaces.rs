//! Opening a namespace, and being inside.

use std::{io, net::SocketAddr, os::unix::fs::symlink, path::Path};

use socket2::Domain;
use weir_net::{Listener, ListenerSettings, Netns, NetnsError};

use crate::bed::{Place, first_addresses};

#[test]
fn a_path_that_leads_nowhere_is_named_in_the_error() {
    let error = Netns::open(Path::new("/run/netns/weir-net-none")).unwrap_err();
    assert_eq!(error.to_string(), "network namespace /run/netns/weir-net-none");
    let NetnsError::Open { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}

#[test]
fn only_a_network_namespace_is_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [&*file, folder.path(), Path::new("/proc/self/ns/uts"), Path::new("/proc/self/ns/mnt")] {
        let error = Netns::open(path).unwrap_err();
        assert!(matches!(error, NetnsError::NotANamespace { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("{} is not a network namespace", path.display()));
    }
}

#[test]
fn a_namespace_is_known_again_and_told_from_another() {
    let (one, other) = (Place::new(), Place::new());
    let (a, again, b) = (one.netns(), one.netns(), other.netns());
    assert_eq!((a.id(), a.cookie(), a.path()), (again.id(), again.cookie(), one.path()));
    assert_ne!(a.id(), b.id());
    assert_ne!(a.cookie(), b.cookie());
}

#[test]
fn a_path_that_is_gone_or_leads_elsewhere_is_not_current() {
    let (one, other) = (Place::new(), Place::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pod");
    symlink(one.path(), &path).unwrap();
    let netns = Netns::open(&path).unwrap();
    assert!(netns.is_current());
    std::fs::remove_file(&path).unwrap();
    assert!(!netns.is_current(), "its path is gone");
    symlink(other.path(), &path).unwrap();
    assert!(!netns.is_current(), "another took the place");
    std::fs::remove_file(&path).unwrap();
    symlink(one.path(), &path).unwrap();
    assert!(netns.is_current(), "it is back");
}

/// Programs in containers have no rights; they need none where they are.
#[test]
#[expect(unsafe_code, reason = "no library gives up the rights of one thread alone")]
fn ones_own_namespace_takes_no_right_and_any_other_does() {
    let place = Place::new();
    let without = std::thread::scope(|scope| {
        let work = || {
            // SAFETY: the call takes three numbers, and as made here changes no other thread.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65532, 65532, 65532) }, 0);
            let own = Netns::own().unwrap();
            let loopback = "127.0.0.1:0".parse().unwrap();
            let listener = Listener::bind(&own, loopback, &ListenerSettings { keepalive: None }).unwrap();
            own.socket(Domain::IPV4).unwrap();
            assert_ne!(listener.local().port(), 0);
            assert!(own.is_current());
            let refused = Netns::open(place.path()).unwrap_err();
            let NetnsError::Open { source, .. } = refused else { panic!("{refused:?}") };
            assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
            (own.id(), own.cookie())
        };
        scope.spawn(work).join().unwrap()
    });
    let own = Netns::open(Path::new("/proc/self/ns/net")).unwrap();
    assert_eq!(without, (own.id(), own.cookie()));
}

#[test]
fn what_runs_inside_leaves_the_caller_where_it_was() {
    let place = Place::new();
    let here = || std::fs::read_link("/proc/thread-self/ns/net");
    let before = here().unwrap();
    let inside = place.netns().run(here).unwrap();
    assert_eq!(inside, std::fs::read_link(place.path()).unwrap());
    assert_ne!(inside, before);
    assert_eq!(here().unwrap(), before);
    let error = place.netns().run(|| Err::<(), _>(io::Error::from(io::ErrorKind::AddrInUse))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "its error comes out");
}

#[test]
fn a_socket_is_of_the_namespace_it_was_asked_of_also_when_they_take_turns() {
    let places = [Place::new(), Place::new()];
    let [a, b] = [places[0].netns(), places[1].netns()];
    for at in first_addresses() {
        let bound = a.socket(Domain::for_address((at, 0).into())).unwrap();
        bound.bind(&SocketAddr::new(at, 0).into()).unwrap();
        let taken = bound.local_addr().unwrap().as_socket().unwrap();
        for (netns, want) in [(&b, None), (&a, Some(io::ErrorKind::AddrInUse)), (&b, None)] {
            let socket = netns.socket(Domain::for_address(taken)).unwrap();
            assert!(socket.nonblocking().unwrap());
            assert_eq!(socket.bind(&taken.into()).err().map(|error| error.kind()), want, "{taken}");
        }
    }
}
