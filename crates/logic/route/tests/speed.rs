//! What a decision costs among 100 routes and among 10,000: about the same. `cargo test --release -p weir-route --test speed -- --nocapture` prints it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::SmallRng};
use weir_model::Port;
use weir_request::{Header, Normalization, Parts, Request};
use weir_route::{
    Act, Asker, Audience, Backend, Backends, Case, Destination, Forwarding, MESH, Match, ObjectKind, PathMatch,
    RouteObject, RouteTable, Rule, Target,
};

const ROUNDS: u32 = 4_096;
/// The least of so many is what it costs when nobody disturbs.
const REPEATS: usize = 9;
const BASE: Normalization = Normalization::Base;

fn table(kind: ObjectKind, routes: usize) -> RouteTable {
    let rules = (0..routes).map(|i| {
        let host = format!("svc-{i}.shop.svc").parse().expect("a host name");
        let target = Target::Valid(Destination { host, port: None, subset: None });
        let backends = Backends::of_gateway_route(vec![(None, Backend::new(target))]);
        let path = match i % 2 {
            0 => PathMatch::exact(&format!("/api/v1/item/{i}"), Case::Counts, BASE),
            _ => PathMatch::segments(&format!("/api/v1/item/{i}"), BASE),
        };
        let matches = vec![Match { path: Some(path.expect("a path")), ..Match::default() }];
        Rule { matches, ..Rule::new(i, Act::Forward(Box::new(Forwarding::to(backends)))) }
    });
    RouteTable::new(vec![RouteObject {
        kind,
        namespace: "shop".parse().expect("a namespace"),
        name: "bench".into(),
        file: None,
        created: None,
        audience: Audience::Everyone,
        rules: rules.collect(),
    }])
    .expect("a table")
}

/// The time of one request: read, then decided.
fn time(table: &RouteTable, routes: usize) -> Duration {
    let headers = [
        Header { name: "accept", value: b"*/*" },
        Header { name: "user-agent", value: b"curl/8.5.0" },
        Header { name: "x-request-id", value: b"8d3f7a9e-5b0c-4e4c-9d3e-0f9f3c1b2a4d" },
    ];
    let targets: Vec<String> = (0..64).map(|i| format!("/api/v1/item/{}?page=1", (i * 7919) % routes)).collect();
    let asker = Asker { namespace: None, labels: None, gateway: MESH, port: Port::new(80).expect("a port") };
    let mut rng = SmallRng::seed_from_u64(1);
    let mut round = || {
        let start = Instant::now();
        for target in targets.iter().cycle().take(usize::try_from(ROUNDS).expect("fits")) {
            let parts = Parts { method: "GET", scheme: "http", authority: "shop", target, headers: &headers };
            let request = Request::read(black_box(parts), BASE).expect("a request");
            black_box(table.decide(&request, &asker, &mut rng));
        }
        start.elapsed() / ROUNDS
    };
    (0..REPEATS).map(|_| round()).min().expect("rounds")
}

#[test]
fn ten_thousand_routes_cost_about_as_much_as_a_hundred() {
    for kind in [ObjectKind::HttpRoute, ObjectKind::VirtualService] {
        let [few, many] = [100, 10_000].map(|routes| time(&table(kind, routes), routes));
        println!("{kind}: {few:?} a request among 100 routes, {many:?} among 10,000");
        // A walk over all of them would cost a hundred times as much.
        assert!(many < few * 10, "{kind}: {few:?} among 100, {many:?} among 10,000");
    }
}
