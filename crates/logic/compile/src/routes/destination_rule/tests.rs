//! Which rule holds, what several come to, and what their authors are told.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use weir_balance::{Algorithm, Limits, OutlierDetection, Percent, Policy, Retries, RetryBudget};
use weir_manifest::{FileName, parse};
use weir_model::{ClientTls, Proof, ServerTrust};
use weir_serving::{
    ClusterPolicy, ForwardTunnel, HttpPool, Keepalive, PortPolicies, ProxyProtocol, TcpPool, Upgrade, UpstreamTls,
};

use crate::{Compiled, Compiler, Settings, default_root_namespace};

/// Services `web` (80, 81) and `db` (5432) in the namespace `shop`, and `api` in `other`, which is bound to a waypoint in `edge`.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{name: http, port: 80}, {name: more, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: other, labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: edge}}
spec: {clusterIP: 'fd00:96::3', ports: [{port: 80}]}
";

fn settings() -> Settings {
    Settings {
        trust_domain: "td.example".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: None,
        cluster_domain: Default::default(),
        root_namespace: default_root_namespace(),
    }
}

/// What is served of these services with these rules: `namespace/name [age]` and a spec each.
fn compiled(rules: &[(&str, &str)]) -> Compiled {
    let mut text = SERVICES.to_owned();
    for (object, spec) in rules {
        let (object, age) = object.split_once(' ').unwrap_or((object, "0"));
        let (namespace, name) = object.split_once('/').unwrap();
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}, \
             creationTimestamp: '2026-01-0{age}T00:00:00Z'}}\nspec: {spec}\n"
        );
    }
    let objects = parse(&[(FileName::new("f.yaml"), &text)]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let mut compiler = Compiler::new(settings());
    for object in objects.into_objects() {
        compiler.set(object);
    }
    compiler.take();
    compiler.routes()
}

/// The rule that holds for each host, and what is told, as `reason object field`.
fn holding(rules: &[(&str, &str)]) -> (Vec<(String, String)>, Vec<String>) {
    let compiled = compiled(rules);
    let hosts = compiled.serving.hosts.iter().map(|(host, said)| {
        let name = host.as_str().trim_end_matches(".svc.cluster.local").to_owned();
        (name, said.destinations.object.as_deref().unwrap().to_owned())
    });
    let told = compiled.findings.iter();
    let told = told.map(|one| format!("{:?} {}/{} {}", one.reason, one.namespace, one.name, one.field));
    (hosts.collect(), told.collect())
}

/// What is served of `web.shop` with one rule about it.
fn web(spec: &str) -> Arc<weir_serving::Destinations> {
    let compiled = compiled(&[("shop/one", &format!("{{host: web, {spec}}}"))]);
    compiled.serving.destinations(&"web.shop.svc.cluster.local".parse().unwrap()).clone()
}

fn port(number: u16) -> weir_model::Port {
    weir_model::Port::new(number).unwrap()
}

#[test]
fn the_nearest_namespace_the_narrowest_host_and_the_oldest_rule_hold() {
    let all = "{host: '*'}";
    let local = "{host: '*.local'}";
    let below = "{host: '*.shop.svc.cluster.local'}";
    let exact = "{host: web}";
    let full = "{host: web.shop.svc.cluster.local}";
    for (rules, want) in [
        (vec![("shop/a", exact)], vec![("web.shop", "shop/a")]),
        (vec![("shop/a", full)], vec![("web.shop", "shop/a")]),
        (vec![("shop/a", below)], vec![("db.shop", "shop/a"), ("web.shop", "shop/a")]),
        // A root rule reaches everything, a rule of the service's namespace goes before it though it is wider.
        (vec![("istio-system/a", full)], vec![("web.shop", "istio-system/a")]),
        (vec![("istio-system/a", full), ("shop/b", all)], vec![("db.shop", "shop/b"), ("web.shop", "shop/b")]),
        (
            vec![("istio-system/a", all), ("shop/b", exact)],
            vec![("api.other", "istio-system/a"), ("db.shop", "istio-system/a"), ("web.shop", "shop/b")],
        ),
        // Narrow before wide, whatever their age.
        (
            vec![("shop/a 1", all), ("shop/b 2", local), ("shop/c 3", below), ("shop/d 4", exact)],
            vec![("db.shop", "shop/c"), ("web.shop", "shop/d")],
        ),
        (vec![("shop/a 1", all), ("shop/b 2", local)], vec![("db.shop", "shop/b"), ("web.shop", "shop/b")]),
        // The oldest, then the first by name.
        (vec![("shop/a 2", exact), ("shop/b 1", full)], vec![("web.shop", "shop/b")]),
        (vec![("shop/b 1", exact), ("shop/a 1", full)], vec![("web.shop", "shop/a")]),
        // The namespace of the waypoint, then that of the service.
        (
            vec![("edge/a", "{host: api.other.svc.cluster.local}"), ("other/b", "{host: api}")],
            vec![("api.other", "edge/a")],
        ),
        (vec![("other/b", "{host: api}")], vec![("api.other", "other/b")]),
        (vec![("other/b", "{host: api, exportTo: [edge]}")], vec![("api.other", "other/b")]),
        (vec![("edge/a", "{host: '*.other.svc.cluster.local', exportTo: [.]}")], vec![("api.other", "edge/a")]),
        // One that is not exported does not hide another.
        (
            vec![("shop/a", "{host: web, exportTo: [other]}"), ("istio-system/b", full)],
            vec![("web.shop", "istio-system/b")],
        ),
        (vec![("shop/a 1", "{host: web, exportTo: [other]}"), ("shop/b 2", exact)], vec![("web.shop", "shop/b")]),
        (vec![("istio-system/a", "{host: '*', exportTo: [edge]}")], vec![("api.other", "istio-system/a")]),
    ] {
        let (hosts, _) = holding(&rules);
        let hosts: Vec<_> = hosts.iter().map(|(host, rule)| (host.as_str(), rule.as_str())).collect();
        assert_eq!(hosts, want, "{rules:?}");
    }
}

#[test]
fn the_author_of_a_rule_without_effect_is_told_why() {
    let exact = "{host: web}";
    for (rules, want) in [
        (vec![("shop/a", exact)], vec![]),
        (vec![("shop/a", "{host: wep}")], vec!["UnknownHost shop/a spec.host"]),
        (vec![("shop/a", "{host: web.shop}")], vec!["UnknownHost shop/a spec.host"]),
        (vec![("shop/a", "{host: '*.example'}")], vec!["UnknownHost shop/a spec.host"]),
        (vec![("shop/a", "{host: web, workloadSelector: {}}")], vec!["NoEffect shop/a spec.workloadSelector"]),
        (vec![("client/a", "{host: web.shop.svc.cluster.local}")], vec!["NoEffect client/a metadata.namespace"]),
        (vec![("shop/a", "{host: web, exportTo: ['~']}")], vec!["NotPermitted shop/a spec.exportTo"]),
        (vec![("other/a", "{host: api, exportTo: [.]}")], vec!["NotPermitted other/a spec.exportTo"]),
        (
            vec![("istio-system/a", "{host: web.shop.svc.cluster.local}"), ("shop/b", exact)],
            vec!["Conflicted istio-system/a spec.host"],
        ),
        (
            vec![("shop/a 1", "{host: web, trafficPolicy: {}}"), ("shop/b 2", "{host: web, trafficPolicy: {}}")],
            vec!["Conflicted shop/b spec.trafficPolicy"],
        ),
        (
            vec![
                ("shop/a 1", "{host: web, subsets: [{name: v1}]}"),
                ("shop/b 2", "{host: web, subsets: [{name: v2}, {name: v1}]}"),
            ],
            vec!["Conflicted shop/b spec.subsets[1]"],
        ),
        (
            vec![(
                "shop/a",
                "{host: web, trafficPolicy: {portLevelSettings: [{port: {number: 80}}, {port: {number: 8080}}]}}",
            )],
            vec!["UnknownHost shop/a spec.trafficPolicy.portLevelSettings"],
        ),
        (
            vec![("shop/a", "{host: web, trafficPolicy: {tls: {mode: SIMPLE, credentialName: a}}}")],
            vec!["Unsupported shop/a spec.trafficPolicy.tls.credentialName"],
        ),
        (
            vec![(
                "shop/a",
                "{host: web, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}}",
            )],
            vec!["NoEffect shop/a spec.trafficPolicy.loadBalancer.localityLbSetting"],
        ),
        (
            vec![(
                "shop/a",
                "{host: web, trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}}",
            )],
            vec![],
        ),
    ] {
        assert_eq!(holding(&rules).1, want, "{rules:?}");
    }
}

#[test]
fn a_finding_names_object_place_and_what_is_done() {
    let rules = [
        ("shop/a 1", "{host: web, trafficPolicy: {}}"),
        ("shop/b 2", "{host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}"),
        ("client/c", "{host: web.shop.svc.cluster.local}"),
        ("shop/d", "{host: wep}"),
    ];
    let told: Vec<_> = compiled(&rules).findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "DestinationRule shop/b spec.trafficPolicy: DestinationRule shop/a says it of web already, and counts (f.yaml:21 (document 5))",
            "DestinationRule client/c metadata.namespace: at a waypoint a rule counts in its own namespace, in that of the service, shop, \
             or in the root namespace, istio-system; it has no effect (f.yaml:26 (document 6))",
            "DestinationRule shop/d spec.host: no service has the host wep, a service of the mesh is expected (f.yaml:31 (document 7))",
        ]
    );
    let holds = web("subsets: []");
    assert_eq!((holds.object.as_deref(), holds.file.as_deref()), (Some("shop/one"), Some("f.yaml:16")));
}

#[test]
fn every_field_of_a_policy_arrives() {
    type Set = fn(&mut ClusterPolicy);
    let rows: [(&str, Set); 28] = [
        ("{}", |_| {}),
        ("{loadBalancer: {simple: ROUND_ROBIN}}", |one| one.balance.algorithm = Algorithm::RoundRobin),
        ("{loadBalancer: {warmup: {duration: 1s}}}", |one| {
            let second = weir_balance::Period::new("", Duration::from_secs(1)).unwrap();
            one.balance.warmup = Some(weir_balance::Warmup::new(second, None, None).unwrap());
        }),
        ("{loadBalancer: {localityLbSetting: {enabled: false}}}", |one| {
            one.balance.locality = weir_balance::LocalityPolicy::Disabled;
        }),
        ("{outlierDetection: {}}", |one| one.balance.outlier = Some(OutlierDetection::default())),
        ("{connectionPool: {tcp: {maxConnections: 1}}}", |one| one.balance.limits.connections = 1),
        ("{connectionPool: {http: {http1MaxPendingRequests: 2}}}", |one| one.balance.limits.pending = 2),
        ("{connectionPool: {http: {http2MaxRequests: 3}}}", |one| one.balance.limits.requests = 3),
        ("{connectionPool: {http: {maxRetries: 4}}}", |one| one.balance.limits.retries = Retries::AtMost(4)),
        ("{connectionPool: {http: {maxRequestsPerConnection: 5}}}", |one| {
            one.balance.requests_per_connection = NonZeroU32::new(5);
        }),
        ("{retryBudget: {percent: 5}, connectionPool: {http: {maxRetries: 4}}}", |one| {
            let percent = Percent::new("", 5.0).unwrap();
            one.balance.limits.retries = Retries::Budget(RetryBudget { percent, at_least: 3 });
        }),
        ("{connectionPool: {tcp: {connectTimeout: 1s}}}", |one| one.tcp.connect_timeout = Duration::from_secs(1)),
        ("{connectionPool: {tcp: {maxConnectionDuration: 1s}}}", |one| {
            one.tcp.max_duration = Some(Duration::from_secs(1))
        }),
        ("{connectionPool: {tcp: {idleTimeout: 1s}}}", |one| one.tcp.idle_timeout = Some(Duration::from_secs(1))),
        ("{connectionPool: {tcp: {idleTimeout: 0s}}}", |one| one.tcp.idle_timeout = None),
        ("{connectionPool: {tcp: {tcpKeepalive: {probes: 2, time: 1s}}}}", |one| {
            let time = Some(Duration::from_secs(1));
            one.tcp.keepalive = Some(Keepalive { probes: NonZeroU32::new(2), time, interval: None });
        }),
        ("{connectionPool: {http: {idleTimeout: 1s}}}", |one| one.http.idle_timeout = Duration::from_secs(1)),
        ("{connectionPool: {http: {maxConcurrentStreams: 9}}}", |one| one.http.max_streams = NonZeroU32::new(9)),
        ("{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}", |one| one.http.upgrade = Upgrade::Http2),
        ("{connectionPool: {http: {useClientProtocol: true}}}", |one| one.http.upgrade = Upgrade::AsClient),
        ("{tls: {mode: DISABLE}}", |one| one.tls = UpstreamTls::Off),
        ("{tls: {mode: ISTIO_MUTUAL}}", |_| {}),
        ("{tls: {mode: SIMPLE, sni: a.example}}", |one| {
            let tls = ClientTls {
                own: None,
                server: ServerTrust::Proven(Proof::default()),
                sni: Some("a.example".parse().unwrap()),
            };
            one.tls = UpstreamTls::Own(Arc::new(tls));
        }),
        ("{tls: {mode: SIMPLE, credentialName: a}}", |one| {
            one.tls = refused("TLS by the Secret \"a\" (credentialName)");
        }),
        ("{proxyProtocol: {version: V1}}", |one| one.proxy_protocol = Some(ProxyProtocol::V1)),
        ("{proxyProtocol: {version: V2}, tls: {mode: DISABLE}}", |one| {
            (one.proxy_protocol, one.tls) = (Some(ProxyProtocol::V2), UpstreamTls::Off);
        }),
        ("{tunnel: {targetHost: a, targetPort: 1}}", |one| {
            one.tunnel = Some(Arc::new(ForwardTunnel { host: "a".into(), port: port(1) }));
        }),
        ("{tunnel: {targetHost: a, targetPort: 1, protocol: POST}, tls: {mode: DISABLE}}", |one| {
            one.tls = refused("a tunnel by POST");
            one.tunnel = Some(Arc::new(ForwardTunnel { host: "a".into(), port: port(1) }));
        }),
    ];
    for (text, set) in rows {
        let mut want = ClusterPolicy::default();
        set(&mut want);
        assert_eq!(*web(&format!("trafficPolicy: {text}")).policies.all, want, "{text}");
    }
    let unsaid = ClusterPolicy {
        balance: Policy { limits: Limits::default(), ..Policy::default() },
        tcp: TcpPool::default(),
        http: HttpPool::default(),
        tls: UpstreamTls::Mesh,
        proxy_protocol: None,
        tunnel: None,
    };
    assert_eq!(*web("subsets: []").policies.all, unsaid);
}

fn refused(what: &str) -> UpstreamTls {
    UpstreamTls::Refused(format!("its DestinationRule asks for {what}, which this version does not do").into())
}

/// The algorithm and the most connections of a policy, which tell the fields of the tables below apart.
fn brief(policies: &PortPolicies, number: u16) -> (Algorithm, u32) {
    let policy = policies.of(port(number));
    (policy.balance.algorithm.clone(), policy.balance.limits.connections)
}

#[test]
fn a_subset_lies_over_the_rule_field_by_field_and_a_port_over_both_as_a_whole() {
    use Algorithm::{LeastRequest, Random, RoundRobin};
    const NO: u32 = u32::MAX;
    let (random, robin) = ("loadBalancer: {simple: RANDOM}", "loadBalancer: {simple: ROUND_ROBIN}");
    let pool = |most: u32| format!("connectionPool: {{tcp: {{maxConnections: {most}}}}}");
    let ports = |settings: &str| format!("portLevelSettings: [{{port: {{number: 80}}, {settings}}}]");
    for (rule, subset, want_80, want_81) in [
        (format!("{random}, {}", pool(1)), String::new(), (Random, 1), (Random, 1)),
        (format!("{random}, {}", pool(1)), robin.to_owned(), (RoundRobin, 1), (RoundRobin, 1)),
        (format!("{random}, {}", pool(1)), pool(2), (Random, 2), (Random, 2)),
        // What a port does not say is as if nobody had said it.
        (format!("{random}, {}, {}", pool(1), ports(robin)), String::new(), (RoundRobin, NO), (Random, 1)),
        (format!("{random}, {}, {}", pool(1), ports(robin)), pool(2), (RoundRobin, 2), (Random, 2)),
        (format!("{random}, {}", pool(1)), format!("{}, {}", pool(2), ports(robin)), (RoundRobin, NO), (Random, 2)),
        (format!("{random}, {}, {}", pool(1), ports(robin)), ports(&pool(3)), (LeastRequest, 3), (Random, 1)),
    ] {
        let spec = format!(
            "trafficPolicy: {{{rule}}}, subsets: [{{name: v1, labels: {{v: '1'}}, trafficPolicy: {{{subset}}}}}]"
        );
        let destinations = web(&spec);
        let subset = destinations.subset(&"web.shop.svc.cluster.local".parse().unwrap(), "v1").unwrap();
        assert_eq!([brief(&subset.policies, 80), brief(&subset.policies, 81)], [want_80, want_81], "{spec}");
        assert_eq!(subset.labels, [("v".into(), "1".into())].into());
    }
    // What is said of all ports holds for a port with settings of its own, too.
    let destinations = web(
        "trafficPolicy: {tunnel: {targetHost: a, targetPort: 1, protocol: POST}, portLevelSettings: [{port: {number: 80}}]}",
    );
    assert_eq!(destinations.policies.of(port(80)).tls, refused("a tunnel by POST"));
    let unknown = destinations.subset(&"web.shop.svc.cluster.local".parse().unwrap(), "v9").unwrap_err();
    assert_eq!(unknown.to_string(), "no DestinationRule for web.shop.svc.cluster.local has a subset \"v9\"");
}

#[test]
fn rules_for_one_host_are_one() {
    let compiled = compiled(&[
        ("shop/a 1", "{host: web, subsets: [{name: v1, labels: {v: '1'}}]}"),
        (
            "shop/b 2",
            "{host: web.shop.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v2}]}",
        ),
        (
            "shop/c 3",
            "{host: web, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, subsets: [{name: v1}, {name: v3}]}",
        ),
    ]);
    let web = compiled.serving.destinations(&"web.shop.svc.cluster.local".parse().unwrap());
    assert_eq!(web.object.as_deref(), Some("shop/a"));
    assert_eq!(web.subsets.keys().map(|name| &**name).collect::<Vec<_>>(), ["v1", "v2", "v3"]);
    assert_eq!(web.subsets["v1"].labels.len(), 1);
    for policies in [&web.policies, &web.subsets["v1"].policies, &web.subsets["v3"].policies] {
        assert_eq!(policies.all.balance.algorithm, Algorithm::Random);
    }
}
