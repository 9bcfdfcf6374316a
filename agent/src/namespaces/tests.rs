//! Who says what of a pod, in each order, and what comes of it.

use std::{fs, os::unix::net::UnixStream, path::Path};

use weir_model::Enrolment;

use super::*;

const FIRST: &str = "7a1b7f2e-0c4d-4000-8000-00000000000a";
const SECOND: &str = "7a1b7f2e-0c4d-4000-8000-00000000000b";

fn uid(name: &str) -> WorkloadUid {
    format!("Kubernetes//v1/Pod/shop/{name}").parse().unwrap()
}

fn pod(netns: Option<&str>, addresses: &[&str]) -> LocalPod {
    LocalPod {
        uid: uid("web"),
        addresses: ips(addresses),
        netns: netns.map(PathBuf::from),
        enrolment: Enrolment::Enrolled,
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn added(incarnation: &str, netns: &Path) -> Added {
    Added { incarnation: incarnation.into(), netns: netns.to_owned(), addresses: ips(&["10.0.0.7", "fd00::7"]) }
}

/// The namespace of the test itself, as a descriptor or by its path: what it is does not matter here.
fn own_netns() -> Arc<Netns> {
    let file = fs::File::open("/proc/self/ns/net").unwrap();
    Arc::new(Netns::from_fd(file.into(), "the test's".into()).unwrap())
}

fn path(found: Option<Found>) -> Option<PathBuf> {
    match found?.place {
        Place::At(path) => Some(path),
        Place::Held(netns) => Some(netns.path().to_owned()),
    }
}

#[test]
fn the_annotation_counts_before_the_plugin_and_the_plugin_before_a_look() {
    let namespaces = Namespaces::new(Authority::Mesh, None);
    assert!(namespaces.find(&pod(None, &[]), FIRST).is_none());
    assert_eq!(path(namespaces.find(&pod(Some("/said"), &[]), FIRST)), Some("/said".into()));
    let wanted = [Wanted { uid: uid("web"), incarnation: FIRST.into(), addresses: ips(&["10.0.0.7"]) }];
    namespaces.looked(&wanted, [(uid("web"), own_netns())].into());
    assert_eq!(path(namespaces.find(&pod(None, &[]), FIRST)), Some("the test's".into()));
    assert!(namespaces.find(&pod(None, &[]), SECOND).is_none(), "another pod of that name was found");
    namespaces.add(uid("web"), added(FIRST, Path::new("/added"))).unwrap();
    assert_eq!(path(namespaces.find(&pod(None, &[]), FIRST)), Some("/added".into()));
    let said = namespaces.find(&pod(Some("/said"), &[]), FIRST).unwrap();
    assert_eq!(said.addresses, ips(&["10.0.0.7", "fd00::7"]), "the plugin knows the addresses all the same");
    assert_eq!(path(Some(said)), Some("/said".into()));
    namespaces.prune();
    assert_eq!(path(namespaces.find(&pod(None, &[]), FIRST)), Some("the test's".into()), "/added is not there");
    namespaces.looked(&wanted, HashMap::new());
    assert!(namespaces.find(&pod(None, &[]), FIRST).is_none(), "what is not found any more is known still");
}

#[test]
fn a_pod_never_gets_the_namespace_of_one_that_had_its_name() {
    let (old, new) = ("/old", "/new");
    for (said, known, want) in [
        (FIRST, FIRST, Some(old)),
        (FIRST, SECOND, None),
        // Who says nothing contradicts nobody.
        ("", SECOND, Some(old)),
        (FIRST, "", Some(old)),
    ] {
        let namespaces = Namespaces::new(Authority::Mesh, None);
        namespaces.add(uid("web"), added(said, Path::new(old))).unwrap();
        assert_eq!(path(namespaces.find(&pod(None, &[]), known)), want.map(PathBuf::from), "{said:?}, {known:?}");
        namespaces.add(uid("web"), added(SECOND, Path::new(new))).unwrap();
        let want = (known != FIRST).then(|| new.into());
        assert_eq!(path(namespaces.find(&pod(None, &[]), known)), want, "{said:?}, then the second, {known:?}");
    }
}

#[test]
fn the_next_agent_knows_what_the_plugin_said_until_the_namespace_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (file, netns) = (folder.path().join("cni.pods"), folder.path().join("netns"));
    fs::write(&netns, "").unwrap();
    let start = || Namespaces::new(Authority::Mesh, Some(file.clone()));
    start().add(uid("web"), added(FIRST, &netns)).unwrap();
    let next = start();
    let found = next.find(&pod(None, &[]), FIRST).unwrap();
    assert_eq!(found.addresses, ips(&["10.0.0.7", "fd00::7"]));
    assert_eq!(path(Some(found)), Some(netns.clone()));
    next.prune();
    assert!(start().find(&pod(None, &[]), FIRST).is_some());
    fs::remove_file(&netns).unwrap();
    next.prune();
    assert!(start().find(&pod(None, &[]), FIRST).is_none());
}

#[test]
fn a_file_that_no_agent_wrote_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cni.pods");
    for (text, says) in [
        ("", "not what an agent writes"),
        ("{\"pods\": [], \"more\": 1}", "more"),
        ("{\"pods\": [{\"workload\": \"\", \"podUid\": \"\", \"netns\": \"/n\", \"ips\": []}]}", "cannot be"),
        ("{\"pods\": [{\"workload\": \"w\", \"podUid\": \"\", \"netns\": \"/n\", \"ips\": [\"x\"]}]}", "IP address"),
    ] {
        fs::write(&file, text).unwrap();
        let error = chain(&file::read(&file).unwrap_err());
        assert!(error.contains(says), "{text:?}: {error}");
        assert!(Namespaces::new(Authority::Mesh, Some(file.clone())).told().added.is_empty());
    }
}

#[test]
fn zds_decides_once_it_has_sent_all_and_what_it_does_not_send_again_is_forgotten() {
    let namespaces = Namespaces::new(Authority::Zds, None);
    let hand = |name, incarnation: &str| {
        namespaces.hand(incarnation.to_owned(), Handed { uid: uid(name), netns: own_netns() }).unwrap();
    };
    let (of, known) = (pod(None, &[]), |incarnation| namespaces.find(&pod(None, &[]), incarnation).is_some());
    assert!(namespaces.wants(&of, FIRST) && !known(FIRST), "nothing is let go of before all has been said");
    namespaces.begin_snapshot();
    hand("web", FIRST);
    hand("other", SECOND);
    assert!(!namespaces.is_whole());
    namespaces.end_snapshot();
    assert!(namespaces.is_whole());
    assert!(namespaces.wants(&of, FIRST) && known(FIRST));
    assert!(!namespaces.wants(&of, SECOND) && !known(SECOND), "the second is another pod's uid");
    assert!(known(""), "a mesh that has no uids goes by the name");

    namespaces.begin_snapshot();
    assert!(namespaces.wants(&of, FIRST) && known(FIRST), "a connection that is lost loses no pod");
    namespaces.keep(FIRST.to_owned());
    namespaces.keep("never sent".to_owned());
    namespaces.end_snapshot();
    assert!(known(FIRST));
    assert_eq!(namespaces.told().handed.len(), 1, "the other was not sent again");

    hand("web", SECOND);
    assert!(known(FIRST) && known(SECOND));
    assert!(!known(""), "two of one name, and nothing tells which");
    namespaces.take_back(FIRST);
    assert!(!known(FIRST) && known(SECOND) && known(""));
    assert!(!namespaces.wants(&of, FIRST));
}

#[test]
fn the_mesh_s_addresses_count_and_the_finder_s_until_there_are_any() {
    let found = |addresses: &[&str]| Found { place: Place::At("/n".into()), addresses: ips(addresses) };
    for (mesh, finder, want, contradict) in [
        (&["10.0.0.7", "fd00::7"][..], &[][..], &["10.0.0.7", "fd00::7"][..], false),
        (&[], &["10.0.0.7"], &["10.0.0.7"], false),
        (&[], &[], &[], false),
        (&["10.0.0.7", "fd00::7"], &["fd00::7", "10.0.0.7"], &["10.0.0.7", "fd00::7"], false),
        (&["10.0.0.7"], &["10.0.0.8"], &["10.0.0.7"], true),
        (&["10.0.0.7", "fd00::7"], &["10.0.0.7"], &["10.0.0.7", "fd00::7"], true),
    ] {
        let (pod, found) = (pod(None, mesh), found(finder));
        assert_eq!(found.addresses(&pod), ips(want), "{mesh:?}, {finder:?}");
        assert_eq!(found.contradicts(&pod), contradict, "{mesh:?}, {finder:?}");
    }
}

#[test]
fn there_is_an_end_to_what_is_remembered() {
    let namespaces = Namespaces::new(Authority::Mesh, None);
    for number in 0..PODS {
        namespaces.add(uid(&format!("web-{number}")), added("", Path::new("/n"))).unwrap();
    }
    assert!(namespaces.add(uid("one-more"), added("", Path::new("/n"))).is_err());
    assert!(namespaces.add(uid("web-7"), added(FIRST, Path::new("/m"))).is_ok(), "one that is known may change");
}

#[test]
fn what_is_no_namespace_is_not_taken_for_one() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let error = Netns::from_fd(socket.into(), "handed over".into()).unwrap_err();
    assert!(chain(&error).starts_with("handed over is not a network namespace"), "{}", chain(&error));
}
