//! Objects that shape requests: who is told of which.

use weir_model::Namespace;

use super::*;
use crate::{MAX_OBJECT_BYTES, Object, ObjectChange};

fn object(json: &str, concerns: &[&str]) -> Option<Object> {
    let concerns = concerns.iter().map(|namespace| namespace.parse().unwrap()).collect();
    Some(Object { json: json.into(), concerns })
}

fn namespace(name: &str) -> Namespace {
    name.parse().unwrap()
}

fn change(name: &str, json: Option<&str>) -> ObjectChange {
    ObjectChange { name: name.to_owned(), json: json.map(ToOwned::to_owned) }
}

/// The next change of objects, whatever else happens.
async fn objects(client: &mut Agent) -> Vec<ObjectChange> {
    loop {
        match next!(client) {
            Event::Objects(changes) => return changes,
            Event::Delta(_) | Event::Synced | Event::Lost(_) | Event::Absent(_) | Event::Answered(_) => {}
            Event::Rejected { name, why } => panic!("{name}: {why}"),
        }
    }
}

#[tokio::test]
async fn a_waypoint_is_told_of_what_concerns_the_namespaces_it_asks_for_and_of_no_policies() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let served = serve(ip, Arc::new(Store::new()), Limits::default()).await;
        served.store.apply(&shop());
        let (own, far) = ("VirtualService/shop/a", "HTTPRoute/client/b");
        served.store.apply_objects(&[
            (own.to_owned(), object("{1}", &["shop"])),
            (far.to_owned(), object("{2}", &["client", "shop"])),
            ("VirtualService/other/c".to_owned(), object("{3}", &["other"])),
        ]);
        let mut waypoint = client(served.address, Mode::Waypoint);
        let news = synced!(waypoint);
        assert_eq!((news.workloads.len(), news.services.len(), news.policies.len()), (2, 1, 0));
        let demand = waypoint.client.demand();
        demand.subscribe_objects(&namespace("shop")).unwrap();
        let mut told = objects(&mut waypoint).await;
        told.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(told, [change(far, Some("{2}")), change(own, Some("{1}"))]);
        // A change, one that begins to concern it, one that does not any more, and one that is gone.
        served.store.apply_objects(&[(own.to_owned(), object("{4}", &["shop"]))]);
        assert_eq!(objects(&mut waypoint).await, [change(own, Some("{4}"))]);
        served.store.apply_objects(&[("VirtualService/other/c".to_owned(), object("{5}", &["other", "shop"]))]);
        assert_eq!(objects(&mut waypoint).await, [change("VirtualService/other/c", Some("{5}"))]);
        served.store.apply_objects(&[(far.to_owned(), object("{6}", &["client"]))]);
        assert_eq!(objects(&mut waypoint).await, [change(far, None)]);
        served.store.apply_objects(&[(own.to_owned(), None)]);
        assert_eq!(objects(&mut waypoint).await, [change(own, None)]);
        // A namespace that is not asked for any more takes its objects along.
        demand.unsubscribe_objects(&namespace("shop")).unwrap();
        assert_eq!(objects(&mut waypoint).await, [change("VirtualService/other/c", None)]);
        // An agent hears nothing of any of it.
        let mut agent = client(served.address, Mode::Wildcard);
        assert_eq!(synced!(agent).policies.len(), 1);
        served.store.apply_objects(&[(own.to_owned(), object("{7}", &["shop"]))]);
        served.store.apply(&Delta { policies: vec![(policy("p").name, None)], ..Delta::default() });
        assert!(matches!(next!(agent), Event::Delta(_)));
        assert_eq!(served.discovery.stats().nacks(Kind::Object), 0);
    }
}

#[tokio::test]
async fn objects_are_kept_while_the_control_plane_is_away_and_only_what_changed_comes_again() {
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let store = Arc::new(Store::new());
    let names = ["VirtualService/shop/a", "VirtualService/shop/b", "VirtualService/shop/c"];
    store.apply_objects(&names.map(|name| (name.to_owned(), object("{}", &["shop"]))));
    let served = serve(ip, store, Limits::default()).await;
    let (address, mut waypoint) = (served.address, client(served.address, Mode::Waypoint));
    waypoint.client.demand().subscribe_objects(&namespace("shop")).unwrap();
    assert_eq!(objects(&mut waypoint).await.len(), 3);
    drop(served);
    while !matches!(next!(waypoint), Event::Lost(_)) {}
    // Another replica: one object is another, one is gone, one is the same.
    let store = Arc::new(Store::new());
    store.apply_objects(&[
        (names[0].to_owned(), object("{}", &["shop"])),
        (names[1].to_owned(), object("{new}", &["shop"])),
    ]);
    let _served = serve_again(address, store).await;
    assert_eq!(objects(&mut waypoint).await, [change(names[1], Some("{new}")), change(names[2], None)]);
}

#[tokio::test]
async fn an_object_that_is_too_large_is_refused_by_name_and_the_others_are_taken() {
    let store = Arc::new(Store::new());
    let large = "x".repeat(MAX_OBJECT_BYTES + 1);
    store.apply_objects(&[
        ("VirtualService/shop/large".to_owned(), object(&large, &["shop"])),
        ("VirtualService/shop/small".to_owned(), object("{}", &["shop"])),
    ]);
    let served = serve(Ipv4Addr::LOCALHOST.into(), store, Limits::default()).await;
    let mut waypoint = client(served.address, Mode::Waypoint);
    waypoint.client.demand().subscribe_objects(&namespace("shop")).unwrap();
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while taken.is_empty() || refused.is_empty() {
        match next!(waypoint) {
            Event::Objects(changes) => taken.extend(changes),
            Event::Rejected { name, .. } => refused.push(name),
            Event::Delta(_) | Event::Synced | Event::Lost(_) | Event::Absent(_) | Event::Answered(_) => {}
        }
    }
    assert_eq!(taken, [change("VirtualService/shop/small", Some("{}"))]);
    assert_eq!(refused, ["VirtualService/shop/large"]);
}

#[tokio::test]
async fn a_demand_is_answered_when_all_objects_are_there_and_also_when_there_are_none() {
    let store = Arc::new(Store::new());
    // More than fits into one response.
    let long = "x".repeat(600 << 10);
    let names: Vec<String> = (0..8).map(|number| format!("VirtualService/shop/{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.clone(), object(&long, &["shop"]))).collect();
    store.apply_objects(&all);
    let served = serve(Ipv4Addr::LOCALHOST.into(), store, Limits::default()).await;
    let mut waypoint = client(served.address, Mode::Waypoint);
    for (demanded, want) in [("shop", names.len()), ("nobody", 0)] {
        waypoint.client.demand().subscribe_objects(&namespace(demanded)).unwrap();
        let mut told = 0;
        loop {
            match next!(waypoint) {
                Event::Objects(changes) => told += changes.len(),
                Event::Answered(of) => break assert_eq!((of.as_str(), told), (demanded, want)),
                Event::Delta(_) | Event::Synced | Event::Lost(_) | Event::Absent(_) => {}
                Event::Rejected { name, why } => panic!("{name}: {why}"),
            }
        }
    }
}
