//! A decision on a request that is spelt in the usual way allocates nothing.

use allocation_counter::measure;
use weir_authz::{Ruling, http::HttpField};

use super::scene::{Scene, allow, audit, deny, header, paths, scene, set, sides, to};

#[test]
fn a_decision_on_an_ordinary_request_allocates_nothing() {
    let of = |n: usize| {
        vec![
            to(vec![HttpField::Principals(sides("*/sa/evil")), HttpField::Methods(sides("GET"))]),
            to(vec![paths(&format!("/tenant-{n}/{{*}}/x /tenant-{n}/*"))]),
            to(vec![HttpField::Hosts(sides("*.example.com")), header("x-tenant", &format!("{n}"))]),
            to(vec![HttpField::RemoteIps(sides("192.0.2.0/24")), HttpField::DestinationPorts(sides("80 443"))]),
            to(vec![HttpField::RequestPrincipals(sides("iss/*"))]),
        ]
    };
    let policies: Vec<_> = (0..20)
        .map(|n| match n % 3 {
            0 => deny(&format!("d{n}"), of(n)),
            1 => audit(&format!("u{n}"), of(n)),
            _ => allow(&format!("a{n}"), of(n)),
        })
        .collect();
    let set = set(&policies, scene().level);
    for (path, ruling) in
        [("/tenant-2/a/x", Ruling::Allow), ("/tenant-3/a", Ruling::Deny), ("/else", Ruling::Deny), ("/", Ruling::Deny)]
    {
        let scene = Scene { authority: "shop.test:80".into(), ..Scene::target(path) }.with_header("x-tenant", "none");
        let (counted, found) = scene
            .see(|facts| {
                let mut found = Ruling::Deny;
                (measure(|| found = set.decide(facts).ruling), found)
            })
            .unwrap();
        assert_eq!((found, counted.count_total), (ruling, 0), "{path}");
    }
}
