//! What a verdict costs in a mesh of ten thousand policies of ten rules, fifty of them over each pod of a node of two hundred, and
//! what it costs to look into a million ranges of addresses. One JSON object out; `cargo xtask bench authz` makes a table of it.
#![expect(clippy::unwrap_used, reason = "a benchmark may stop where its world is not as it must be")]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use weir_authz::{Compiled, Decision, Destination, Peer, PolicySet};
use weir_model::{
    Clause, Enrolment, Health, LocalPod, Locality, Match, NetworkMode, Policy, PolicyAction, PolicyKind, PolicyName,
    PolicyRule, PolicyScope, PolicySource, Port, RulePlace, Sides, SpiffeId, Termination, TextMatch, TrustDomain,
    Tunnel, Workload, WorkloadKind, WorkloadUid,
};
use weir_world::{Delta, Inbound, Mesh, Source, Verdict, World};

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    pods: usize,
    /// Policies over each pod, which no other has.
    over_one: usize,
    ranges: u32,
    asked: usize,
}

const WHOLE: Size = Size { pods: 200, over_one: 50, ranges: 1_000_000, asked: 400_000 };
const QUICK: Size = Size { pods: 20, over_one: 50, ranges: 10_000, asked: 20_000 };
const RULES: u32 = 10;
/// Namespaces, and service accounts of each.
const NAMESPACES: u32 = 500;
const ACCOUNTS: u32 = 20;
/// Policy changes of which the slowest is told.
const CHANGES: usize = 10;

fn main() {
    let size = if std::env::args().any(|argument| argument == "--quick") { QUICK } else { WHOLE };
    let mut rng = SmallRng::seed_from_u64(4);
    let start = Instant::now();
    let world = World::new(mesh(size, &mut rng));
    let load = start.elapsed();
    let asked: Vec<Asked> = (0..size.asked).map(|_| Asked::random(size, &mut rng)).collect();
    let verdicts = verdicts(&world, &asked);
    let inbound = inbounds(&world, &asked);
    let cidr = cidr(size, &mut rng);
    let row = serde_json::json!({
        "policies": size.pods * size.over_one,
        "rules": RULES,
        "over_one_pod": size.over_one,
        "pods": size.pods,
        "ranges": size.ranges,
        "asked": size.asked,
        "clock_us": micros(clock()),
        "admitted": verdicts.admitted,
        "verdict_p50_us": verdicts.times.p50,
        "verdict_p99_us": verdicts.times.p99,
        "verdict_allocs": verdicts.allocations,
        "inbound_p50_us": inbound.p50,
        "inbound_p99_us": inbound.p99,
        "cidr_p50_us": cidr.p50,
        "cidr_p99_us": cidr.p99,
        "load_ms": micros(load) / 1000.0,
        "change_ms": micros(slowest_change(world, size, &mut rng)) / 1000.0,
    });
    println!("{row}");
}

/// A connection, and the pod it goes to.
struct Asked {
    pod: WorkloadUid,
    identity: Option<SpiffeId>,
    client: SocketAddr,
    target: SocketAddr,
}

impl Asked {
    /// Nine in ten have an identity, half are of either family.
    fn random(size: Size, rng: &mut SmallRng) -> Self {
        let pod = u32::try_from(rng.random_range(0..size.pods)).unwrap();
        let identity = rng.random_ratio(9, 10).then(|| identity(rng.random_range(0..NAMESPACES), account(rng)));
        let family = usize::from(rng.random::<bool>());
        let client = [v4(rng.random_range(0..1 << 20)), v6(rng.random_range(0..1 << 20))][family];
        let port = *[80, 443, 8080, 9090].choose(rng).unwrap();
        Self {
            pod: uid(pod),
            identity,
            client: SocketAddr::new(client, rng.random_range(1024..65535)),
            target: SocketAddr::new(addresses(pod)[family], port),
        }
    }

    /// An agent has just read the identity in a certificate.
    fn read(&self) {
        black_box(self.identity.as_ref().map(SpiffeId::to_string));
    }

    fn facts(&self) -> (Peer<'_>, Destination) {
        let destination = Destination { address: self.target.ip(), port: Port::new(self.target.port()).unwrap() };
        (Peer { identity: self.identity.as_ref(), address: self.client.ip() }, destination)
    }
}

/// Half and ninety-nine in a hundred take no longer than that, in microseconds.
struct Times {
    p50: f64,
    p99: f64,
}

impl Times {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |part: usize| micros(times[(times.len() - 1) * part / 100]);
        Self { p50: at(50), p99: at(99) }
    }
}

struct Verdicts {
    times: Times,
    allocations: u64,
    /// The part that may enter.
    admitted: f64,
}

/// Each is asked of another pod than the one before, so that little of its policies is in a near cache.
fn verdicts(world: &World, asked: &[Asked]) -> Verdicts {
    let (mut times, mut admitted) = (Vec::with_capacity(asked.len()), 0_u32);
    for one in asked {
        one.read();
        let set = world.policies_of(&one.pod).unwrap();
        let (peer, destination) = one.facts();
        let start = Instant::now();
        let decision = black_box(set.decide(black_box(&peer), &destination));
        times.push(start.elapsed());
        admitted += u32::from(matches!(decision, Decision::Allow(_)));
    }
    let sets: Vec<Arc<PolicySet>> = asked.iter().map(|one| world.policies_of(&one.pod).unwrap()).collect();
    let counted = allocation_counter::measure(|| {
        for (one, set) in asked.iter().zip(&sets) {
            let (peer, destination) = one.facts();
            let _decision = black_box(set.decide(black_box(&peer), &destination));
        }
    });
    let all = f64::from(u32::try_from(asked.len()).unwrap());
    Verdicts { times: Times::new(times), allocations: counted.count_total, admitted: f64::from(admitted) / all }
}

/// The same with everything else that is looked at when a connection comes in.
fn inbounds(world: &World, asked: &[Asked]) -> Times {
    let mut times = Vec::with_capacity(asked.len());
    for one in asked {
        one.read();
        let source = one.identity.clone().map_or(Source::Plaintext, Source::Mesh);
        let inbound = Inbound {
            source,
            client: one.client,
            tcp_destination: SocketAddr::new(one.target.ip(), 15008),
            target: one.target,
            own_ports: &[],
        };
        let start = Instant::now();
        let verdict: Verdict = black_box(world.inbound(&one.pod, black_box(&inbound)));
        times.push(start.elapsed());
        drop(verdict);
    }
    Times::new(times)
}

/// A rule of a million ranges, half of either family; half of those that are asked for lie in one.
fn cidr(size: Size, rng: &mut SmallRng) -> Times {
    let range = |n: u32| match n % 2 {
        0 => IpNet::new(Ipv4Addr::from(n << 8).into(), 24 + u8::try_from(n % 7).unwrap()),
        _ => IpNet::new(v6(n << 8), 120 + u8::try_from(n % 7).unwrap()),
    };
    let ranges: Vec<IpNet> = (0..size.ranges).map(|n| range(n).unwrap()).collect();
    let source = Match { source_ips: Sides::any(ranges), ..Match::default() };
    let rule = PolicyRule { place: RulePlace::default(), clauses: vec![Clause(vec![source])] };
    let set = PolicySet::new([Arc::new(Compiled::new(policy(0, PolicyAction::Allow, vec![rule])))], None);
    let destination = Destination { address: v4(1), port: Port::new(80).unwrap() };
    let mut times = Vec::with_capacity(size.asked);
    let mut admitted = 0_usize;
    for _ in 0..size.asked {
        let n = rng.random_range(0..size.ranges);
        // The first of a range, or the last of the 256 in which it is the only one.
        let first = rng.random::<bool>();
        let number = if first { n << 8 } else { (n << 8) | 255 };
        let address = if n % 2 == 0 { Ipv4Addr::from(number).into() } else { v6(number) };
        let peer = Peer { identity: None, address };
        let start = Instant::now();
        let decision = black_box(set.decide(black_box(&peer), &destination));
        times.push(start.elapsed());
        let admits = matches!(decision, Decision::Allow(_));
        assert_eq!(admits, n % 7 == 0 || first, "{address}");
        admitted += usize::from(admits);
    }
    assert!(admitted > size.asked / 3 && admitted < size.asked, "{admitted} lie in a range");
    Times::new(times)
}

/// The world after a change of one policy: what covers each pod of the node is put together anew.
fn slowest_change(mut world: World, size: Size, rng: &mut SmallRng) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..CHANGES {
        let n = rng.random_range(0..size.pods * size.over_one);
        let changed = policy(n, PolicyAction::Deny, (0..RULES).map(|kind| rule(kind, rng)).collect());
        let delta = Delta { policies: vec![(changed.name.clone(), Some(changed))], ..Delta::default() };
        let start = Instant::now();
        let next = world.apply(delta);
        slowest = slowest.max(start.elapsed());
        world = next;
    }
    slowest
}

/// What it takes to read the clock, which is in all times.
fn clock() -> Duration {
    let mut all: Vec<Duration> = (0..1001).map(|_| Instant::now().elapsed()).collect();
    all.sort_unstable();
    all[500]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn mesh(size: Size, rng: &mut SmallRng) -> Mesh {
    let mut mesh = Mesh::default();
    for pod in 0..size.pods {
        let own = pod * size.over_one..(pod + 1) * size.over_one;
        let policies: Vec<Policy> = own
            .map(|n| {
                // What is allowed to nobody is the usual base, so that every connection needs a rule of its own.
                let action = if n % 5 == 0 { PolicyAction::Deny } else { PolicyAction::Allow };
                policy(n, action, (0..RULES).map(|kind| rule(kind, rng)).collect())
            })
            .collect();
        let pod = u32::try_from(pod).unwrap();
        mesh.workloads.push(workload(pod, policies.iter().map(|one| one.name.clone()).collect()));
        let addresses = addresses(pod).into();
        mesh.local_pods.push(LocalPod { uid: uid(pod), addresses, netns: None, enrolment: Enrolment::Enrolled });
        mesh.policies.extend(policies);
    }
    mesh
}

fn policy(n: usize, action: PolicyAction, rules: Vec<PolicyRule>) -> Policy {
    let name = format!("policy-{n:05}");
    Policy {
        name: PolicyName::new("shop".parse().unwrap(), &name).unwrap(),
        scope: PolicyScope::Workloads,
        action,
        dry_run: false,
        rules,
        rejected: None,
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
    }
}

/// The kinds of rules that people write, ten of them.
fn rule(kind: u32, rng: &mut SmallRng) -> PolicyRule {
    let space = |rng: &mut SmallRng| format!("team-{:03}", rng.random_range(0..NAMESPACES));
    let principal = |rng: &mut SmallRng| format!("cluster.local/ns/{}/sa/app-{:02}", space(rng), account(rng));
    let texts = |all: Vec<String>| Sides::any(all.iter().map(|text| text.parse::<TextMatch>().unwrap()));
    let none = |text: &str| Sides::none([text.parse::<TextMatch>().unwrap()]);
    let nets = |rng: &mut SmallRng, of: fn(u32) -> IpAddr, len| {
        let one = |_| IpNet::new(of(rng.random_range(0..1 << 20)), len).unwrap().trunc();
        Sides::any((0..3).map(one))
    };
    let ports = |all: &[u16]| Sides::any(all.iter().map(|port| Port::new(*port).unwrap()));
    let none_here = Match::default();
    let all = match kind {
        0 => vec![Match { principals: texts((0..3).map(|_| principal(rng)).collect()), ..none_here }],
        1 => vec![
            Match { principals: texts(vec![principal(rng)]), ..Match::default() },
            Match { destination_ports: ports(&[80, 8080]), ..none_here },
        ],
        2 => vec![Match { namespaces: texts(vec![space(rng), space(rng)]), ..none_here }],
        3 => {
            let one =
                |rng: &mut SmallRng| (space(rng).parse().unwrap(), format!("app-{:02}", account(rng)).parse().unwrap());
            vec![Match { service_accounts: Sides::any([one(rng), one(rng)]), ..none_here }]
        }
        4 => vec![Match { principals: texts(vec![format!("cluster.local/ns/{}/*", space(rng))]), ..none_here }],
        5 => vec![Match { source_ips: nets(rng, v4, 24), ..none_here }],
        6 => {
            vec![
                Match { principals: none("*/sa/app-00"), namespaces: texts(vec![space(rng)]), ..Match::default() },
                Match { destination_ports: ports(&[443, 9090]), ..none_here },
            ]
        }
        7 => vec![
            Match { namespaces: texts(vec![format!("team-{:02}*", rng.random_range(0..50))]), ..Match::default() },
            Match { destination_ports: ports(&[9090]), ..none_here },
        ],
        8 => vec![Match { destination_ports: ports(&[9091]), trust_domains: none("cluster.local"), ..none_here }],
        _ => vec![Match { source_ips: nets(rng, v6, 120), namespaces: none("team-000"), ..none_here }],
    };
    let clauses = all.into_iter().map(|one| Clause(vec![one])).collect();
    PolicyRule { place: RulePlace { index: Some(kind), line: None }, clauses }
}

fn account(rng: &mut SmallRng) -> u32 {
    rng.random_range(0..ACCOUNTS)
}

fn identity(namespace: u32, account: u32) -> SpiffeId {
    format!("spiffe://cluster.local/ns/team-{namespace:03}/sa/app-{account:02}").parse().unwrap()
}

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 | n).into()
}

fn v6(n: u32) -> IpAddr {
    Ipv6Addr::from((0xfd00_u128 << 112) | u128::from(n)).into()
}

/// A pod's own, of either family.
fn addresses(pod: u32) -> [IpAddr; 2] {
    [v4(0x00f0_0000 | pod), v6(0x00f0_0000 | pod)]
}

fn uid(pod: u32) -> WorkloadUid {
    format!("Kubernetes//v1/Pod/shop/pod-{pod}").parse().unwrap()
}

fn workload(pod: u32, policies: Vec<PolicyName>) -> Workload {
    let name = format!("pod-{pod}");
    Workload {
        uid: uid(pod),
        incarnation: name.as_str().into(),
        name: name.as_str().into(),
        namespace: "shop".parse().unwrap(),
        trust_domain: TrustDomain::default(),
        service_account: "shop".parse().unwrap(),
        addresses: addresses(pod).into(),
        network: Default::default(),
        tunnel: Tunnel::Hbone,
        network_mode: NetworkMode::Standard,
        node: None,
        locality: Locality::default(),
        health: Health::Healthy,
        cluster: "Kubernetes".parse().unwrap(),
        kind: WorkloadKind::Pod,
        workload_name: name.as_str().into(),
        canonical_name: name.as_str().into(),
        canonical_revision: "latest".into(),
        services: Vec::new(),
        policies,
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
    }
}
