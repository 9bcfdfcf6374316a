//! A subscriber of another make at our discovery: what Python's gRPC gets of it is what we meant to send.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env::current_exe,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::ServiceExt;
use weir_model::{
    Clause, Health, HealthPolicy, Locality, Match, Membership, Network, NetworkMode, Policy, PolicyAction, PolicyKind,
    PolicyName, PolicyRule, PolicyScope, PolicySource, Port, RulePlace, Service, ServiceName, Sides, Termination,
    TextMatch, TrustDomain, Tunnel, Workload, WorkloadKind,
};
use weir_tests::peers::until;
use weir_world::Delta;
use weir_xds::{Discovery, Kind, Limits, Node, Refused, Store, Subscriber};

/// Serves on a free port, until the program ends.
fn serve(ip: IpAddr, store: Arc<Store>) -> (SocketAddr, Discovery) {
    let admit = |_: &http::Extensions, node: &Node| {
        let name = node.metadata.get("NODE_NAME").ok_or_else(|| Refused::Denied("no NODE_NAME".to_owned()))?;
        Ok(Subscriber { label: "python".to_owned(), node: Some(name.parse().unwrap()) })
    };
    let discovery = Discovery::new(store, Limits::default(), admit, |_| {});
    let service = discovery.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind((ip, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone().map_request(|call: http::Request<_>| call.map(tonic::body::Body::new));
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new()).http2_only();
                    drop(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await);
                });
            }
        });
    });
    (address, discovery)
}

/// The path to import gRPC for Python from; fetched the first time.
fn library() -> PathBuf {
    let target = current_exe().unwrap().ancestors().nth(3).unwrap().join("interop");
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/setup-grpc.sh");
    let output = Command::new(setup).arg(target).output().unwrap();
    assert!(output.status.success(), "gRPC for Python is not there: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

fn workload(name: &str, addresses: &[&str], services: &[&str]) -> Workload {
    let membership = |name: &&str| Membership {
        service: service_name(name),
        ports: vec![(Port::new(80).unwrap(), Port::new(8080).unwrap())],
    };
    Workload {
        uid: format!("Kubernetes//v1/Pod/default/{name}").parse().unwrap(),
        incarnation: "0f9f3e1c".into(),
        name: name.into(),
        namespace: "default".parse().unwrap(),
        trust_domain: TrustDomain::default(),
        service_account: "default".parse().unwrap(),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        network: Network::default(),
        tunnel: Tunnel::Hbone,
        network_mode: NetworkMode::Standard,
        node: None,
        locality: Locality::default(),
        health: Health::Healthy,
        cluster: "Kubernetes".parse().unwrap(),
        kind: WorkloadKind::Pod,
        workload_name: name.into(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        services: services.iter().map(membership).collect(),
        policies: Vec::new(),
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
    }
}

fn service_name(name: &str) -> ServiceName {
    format!("default/{name}.default.svc.cluster.local").parse().unwrap()
}

/// Two pods, one of them behind a service, and policies.
fn mesh() -> Delta {
    let shop = Service {
        name: service_name("shop"),
        short_name: "shop".into(),
        vips: vec![(Network::default(), "10.96.0.1/32".parse().unwrap())],
        ports: Vec::new(),
        health_policy: HealthPolicy::OnlyReady,
        waypoint: None,
        seen: Default::default(),
        unsupported: None,
    };
    let pods = [workload("web", &["10.0.0.1", "fd00::1"], &["shop"]), workload("other", &["10.0.0.2"], &[])];
    Delta {
        workloads: pods.into_iter().map(|pod| (pod.uid.clone(), Some(pod))).collect(),
        services: vec![(shop.name.clone(), Some(shop))],
        policies: policies().into_iter().map(|policy| (policy.name.clone(), Some(policy))).collect(),
    }
}

/// One that is rejected, one that allows, and one that only looks on.
fn policies() -> [Policy; 3] {
    let policy = |name: &str, scope, action, rules| Policy {
        name: PolicyName::new("default".parse().unwrap(), name).unwrap(),
        scope,
        action,
        dry_run: false,
        rules,
        rejected: None,
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
    };
    let rule = |index, clauses| PolicyRule { place: RulePlace { index: Some(index), line: None }, clauses };
    let sources = Clause(vec![
        Match {
            namespaces: Sides::any([TextMatch::Exact("web".into()), TextMatch::Prefix("team-".into())]),
            principals: Sides::none([TextMatch::Present]),
            source_ips: Sides::any(["10.0.0.0/8", "fd00::/8"].map(|range| range.parse().unwrap())),
            ..Match::default()
        },
        Match {
            service_accounts: Sides::any([("web".parse().unwrap(), "front".parse().unwrap())]),
            ..Match::default()
        },
    ]);
    let ports = [80, 8080].map(|port| Port::new(port).unwrap());
    let ports = Clause(vec![Match { destination_ports: Sides::any(ports), ..Match::default() }]);
    let domain = Sides::any([TextMatch::Exact("cluster.local".into())]);
    let domain = Clause(vec![Match { trust_domains: domain, ..Match::default() }]);
    let rules = vec![rule(0, vec![sources, ports]), rule(1, vec![domain.clone()])];
    [
        Policy {
            rejected: Some("nobody can enforce it".into()),
            ..policy("broken", PolicyScope::Namespace, PolicyAction::Allow, Vec::new())
        },
        policy("allow", PolicyScope::Workloads, PolicyAction::Allow, rules),
        policy("audit", PolicyScope::Mesh, PolicyAction::Audit, vec![rule(0, vec![domain])]),
    ]
}

#[test]
fn a_subscriber_of_another_make_gets_the_mesh_and_what_changes_of_it() {
    let library = library();
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let store = Arc::new(Store::new());
        store.apply(&mesh());
        let (address, discovery) = serve(ip, store.clone());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/discovery.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(address.to_string()).env("PYTHONPATH", &library).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut python = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = python.stdin.take().unwrap();
        for word in BufReader::new(python.stdout.take().unwrap()).lines() {
            match word.unwrap().as_str() {
                "change" => {
                    let (later, other) = (workload("later", &["10.0.0.3"], &[]), workload("other", &[], &[]).uid);
                    let workloads = vec![(later.uid.clone(), Some(later)), (other, None)];
                    store.apply(&Delta { workloads, ..Delta::default() });
                }
                "refused" => until("the refusal is reported", || {
                    let reports = discovery.reports();
                    let refused = reports.iter().filter_map(|report| report.standing[0].nacked.as_ref());
                    let said = refused.filter(|(_, why)| why == "I do not like it").count();
                    Ok(said == 1 && discovery.stats().nacks(Kind::Address) == 1)
                })
                .unwrap(),
                other => panic!("{other:?} was asked for"),
            }
            answers.write_all(b"done\n").unwrap();
        }
        assert!(python.wait().unwrap().success(), "over {ip}: what is wrong stands above");
    }
}
