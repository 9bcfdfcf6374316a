//! DestinationRules: every field is read, everything else is an error with its place.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use weir_balance::{
    Algorithm, ConsistentHash, Cookie, Distribute, ErrorCodes, Failover, HashSource, HashTable, LocalityPolicy,
    Origins, OutlierDetection, Percent, Period, RegionFailover, RetryBudget, RingSize, TableSize, Warmup, ZoneAware,
};
use weir_model::{ClientTls, KeyFiles, Proof, ServerTrust};

use super::*;
use crate::{
    FileName,
    object::{
        ConfigSpec, ConnectionPool, ExportTo, HttpVersion, LoadBalancer, ProxyVersion, TcpKeepalive, TlsSettings,
        TunnelProtocol, TunnelSettings,
    },
    parse,
};

fn document(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d, namespace: shop}}\nspec: {spec}\n"
    )
}

fn read(spec: &str) -> DestinationRuleSpec {
    let text = document(spec);
    let mut objects = parse(&[(FileName::new("f.yaml"), &text)]).unwrap_or_else(|errors| panic!("{spec}: {errors:#?}"));
    let ConfigSpec::DestinationRule(spec) = objects.configs.remove(0).spec else { panic!("{spec}") };
    *spec
}

/// Where and what is wrong.
fn refused(spec: &str) -> Vec<String> {
    let errors = parse(&[(FileName::new("f.yaml"), &document(spec))]).expect_err(spec);
    for error in &errors {
        assert!(error.to_string().starts_with("f.yaml:4 (document 1): DestinationRule shop/d: spec"), "{error}");
    }
    errors.iter().map(|error| format!("{}: {}", error.field, error.cause)).collect()
}

/// What a rule says whose traffic policy is that.
fn policy(text: &str) -> TrafficPolicy {
    read(&format!("{{host: web, trafficPolicy: {text}}}")).policy.unwrap()
}

fn some(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

fn secs(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn per_cent(number: f64) -> Percent {
    Percent::new("", number).unwrap()
}

fn namespaces(names: &[&str]) -> std::collections::BTreeSet<weir_model::Namespace> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn the_whole_object_is_read() {
    let spec = read(
        "{host: '*.shop.svc.cluster.local', workloadSelector: {matchLabels: {app: web}}, trafficPolicy: {}, \
         subsets: [{name: v1, labels: {version: v1}}, {name: V2-b, trafficPolicy: {tls: {mode: DISABLE}}}, {name: v1}]}",
    );
    assert_eq!(&*spec.host, "*.shop.svc.cluster.local");
    assert_eq!(spec.workload_selector, Some([("app".into(), "web".into())].into()));
    assert_eq!(spec.policy, Some(TrafficPolicy::default()));
    let tls = PortPolicy { tls: Some(TlsSettings::Disable), ..PortPolicy::default() };
    let policy = Some(TrafficPolicy { own: tls, ..TrafficPolicy::default() });
    let version: Labels = [("version".into(), "v1".into())].into();
    let subset = |name: &str, labels: &Labels, policy| SubsetSpec { name: name.into(), labels: labels.clone(), policy };
    assert_eq!(spec.subsets, [subset("v1", &version, None), subset("V2-b", &Labels::new(), policy)]);
    assert_eq!(spec.remarks[0].field, "spec.subsets[2]");
    for host in ["web", "web.shop.svc.cluster.local", "*"] {
        assert_eq!(&*read(&format!("{{host: '{host}'}}")).host, host);
    }
}

#[test]
fn an_object_is_seen_where_it_is_exported_to() {
    let [shop, other] = ["shop", "other"].map(|name| name.parse().unwrap());
    for (text, want, seen) in [
        ("[]", ExportTo::Everywhere, [true, true]),
        ("['*']", ExportTo::Everywhere, [true, true]),
        ("[other, '*']", ExportTo::Everywhere, [true, true]),
        ("[.]", ExportTo::Only { own: true, others: namespaces(&[]) }, [true, false]),
        ("['~']", ExportTo::Only { own: false, others: namespaces(&[]) }, [false, false]),
        ("[other]", ExportTo::Only { own: false, others: namespaces(&["other"]) }, [false, true]),
        ("[., other]", ExportTo::Only { own: true, others: namespaces(&["other"]) }, [true, true]),
    ] {
        let spec = read(&format!("{{host: web, exportTo: {text}}}"));
        assert_eq!(spec.export_to, want, "{text}");
        assert_eq!([&shop, &other].map(|there| spec.export_to.reaches(&shop, there)), seen, "{text}");
    }
}

#[test]
fn every_way_to_choose_an_endpoint_is_read() {
    let hash = |source, table| Algorithm::ConsistentHash(ConsistentHash { source, table });
    let header = HashSource::header("x-user").unwrap();
    let ring = |size| HashTable::Ring(RingSize::new(size).unwrap());
    let maglev = |size| HashTable::Maglev(TableSize::new(size).unwrap());
    let cookie = |path, ttl, attributes: &[(&str, Option<&str>)]| {
        HashSource::Cookie(Cookie::new("user", path, ttl, attributes).unwrap())
    };
    for (text, want) in [
        ("simple: UNSPECIFIED", Algorithm::LeastRequest),
        ("simple: LEAST_CONN", Algorithm::LeastRequest),
        ("simple: LEAST_REQUEST", Algorithm::LeastRequest),
        ("simple: ROUND_ROBIN", Algorithm::RoundRobin),
        ("simple: RANDOM", Algorithm::Random),
        ("simple: PASSTHROUGH", Algorithm::Passthrough),
        ("backendUtilization: {weightUpdatePeriod: 1s}", Algorithm::RoundRobin),
        ("consistentHash: {httpHeaderName: X-User}", hash(header.clone(), HashTable::default())),
        ("consistentHash: {useSourceIp: true}", hash(HashSource::SourceIp, HashTable::default())),
        (
            "consistentHash: {useSourceIp: false, httpQueryParameterName: user}",
            hash(HashSource::query("user").unwrap(), HashTable::default()),
        ),
        ("consistentHash: {httpCookie: {name: user}}", hash(cookie(None, None, &[]), HashTable::default())),
        (
            "consistentHash: {httpCookie: {name: user, path: /, ttl: 0s, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}",
            hash(
                cookie(Some("/"), Some(Duration::ZERO), &[("SameSite", Some("Lax")), ("Secure", None)]),
                HashTable::default(),
            ),
        ),
        ("consistentHash: {httpHeaderName: x-user, minimumRingSize: 7}", hash(header.clone(), ring(7))),
        ("consistentHash: {httpHeaderName: x-user, ringHash: {}}", hash(header.clone(), ring(1024))),
        (
            "consistentHash: {httpHeaderName: x-user, minimumRingSize: 7, ringHash: {minimumRingSize: 9}}",
            hash(header.clone(), ring(9)),
        ),
        ("consistentHash: {httpHeaderName: x-user, maglev: {}}", hash(header.clone(), maglev(65_537))),
        ("consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 11}}", hash(header, maglev(11))),
    ] {
        let policy = policy(&format!("{{loadBalancer: {{{text}}}}}"));
        let want = LoadBalancer { algorithm: want, ..LoadBalancer::default() };
        assert_eq!(policy.own.load_balancer, Some(want), "{text}");
    }
}

#[test]
fn localities_and_warming_up_are_read() {
    let failover = |regions: &[(&str, &str)], labels: &[&str]| Failover {
        regions: regions.iter().map(|(from, to)| RegionFailover { from: (*from).into(), to: (*to).into() }).collect(),
        priority: labels.iter().map(|label| label.parse().unwrap()).collect(),
        ..Failover::default()
    };
    let shares = [("r/z1/*", 80), ("r/z2/*", 20)].map(|(place, share)| (place.parse().unwrap(), share));
    let distribute = Distribute::new("r/*".parse().unwrap(), shares.into()).unwrap();
    let zone_aware = |least, failover| LocalityPolicy::ZoneAware(ZoneAware { min_cluster_size: least, failover });
    for (text, want) in [
        ("localityLbSetting: {}", Some(LocalityPolicy::default())),
        ("localityLbSetting: {enabled: true}", Some(LocalityPolicy::default())),
        ("localityLbSetting: {enabled: false}", Some(LocalityPolicy::Disabled)),
        (
            "localityLbSetting: {distribute: [{from: r/*, to: {r/z1/*: 80, r/z2/*: 20}}]}",
            Some(LocalityPolicy::Distribute(vec![distribute])),
        ),
        (
            "localityLbSetting: {failover: [{from: a, to: b}], failoverPriority: [topology.istio.io/network, version=v1]}",
            Some(LocalityPolicy::Failover(failover(&[("a", "b")], &["topology.istio.io/network", "version=v1"]))),
        ),
        ("zoneAwareLbSetting: {}", Some(zone_aware(6, Failover::default()))),
        (
            "zoneAwareLbSetting: {enabled: true, minClusterSize: 3, failover: [{from: a, to: b}]}",
            Some(zone_aware(3, failover(&[("a", "b")], &[]))),
        ),
        ("zoneAwareLbSetting: {}, localityLbSetting: {enabled: false}", Some(zone_aware(6, Failover::default()))),
        ("zoneAwareLbSetting: {enabled: false}, localityLbSetting: {enabled: false}", Some(LocalityPolicy::Disabled)),
        ("zoneAwareLbSetting: {enabled: false}", None),
    ] {
        assert_eq!(
            policy(&format!("{{loadBalancer: {{{text}}}}}")).own.load_balancer.unwrap().locality,
            want,
            "{text}"
        );
    }
    let period = |length| Period::new("", length).unwrap();
    for (text, want) in [
        ("warmupDurationSecs: 30s", Warmup::new(period(secs(30)), None, None)),
        ("warmup: {duration: 1m}", Warmup::new(period(secs(60)), None, None)),
        ("warmup: {duration: 1m}, warmupDurationSecs: 30s", Warmup::new(period(secs(60)), None, None)),
        (
            "warmup: {duration: 1ms, minimumPercent: 12.5, aggression: 1.5}",
            Warmup::new(period(Duration::from_millis(1)), Some(per_cent(12.5)), Some(1.5)),
        ),
        ("warmup: {duration: 1s, aggression: 2}", Warmup::new(period(secs(1)), None, Some(2.0))),
        ("warmup: {duration: 1s, aggression: 0}", Warmup::new(period(secs(1)), None, None)),
    ] {
        let read = policy(&format!("{{loadBalancer: {{{text}}}}}")).own.load_balancer.unwrap().warmup;
        assert_eq!(read, Some(want.unwrap()), "{text}");
    }
}

#[test]
fn every_bound_of_the_connection_pool_is_read() {
    type Set = fn(&mut ConnectionPool);
    let rows: [(&str, Set); 19] = [
        ("{}", |_| {}),
        ("{tcp: {maxConnections: 7}}", |pool| pool.max_connections = some(7)),
        ("{tcp: {maxConnections: 0}}", |_| {}),
        ("{tcp: {connectTimeout: 3s}}", |pool| pool.connect_timeout = Some(secs(3))),
        ("{tcp: {tcpKeepalive: {}}}", |pool| pool.keepalive = Some(TcpKeepalive::default())),
        ("{tcp: {tcpKeepalive: {probes: 3, time: 2h, interval: 75s}}}", |pool| {
            pool.keepalive = Some(TcpKeepalive { probes: some(3), time: Some(secs(7_200)), interval: Some(secs(75)) });
        }),
        ("{tcp: {maxConnectionDuration: 1h}}", |pool| pool.max_connection_duration = Some(secs(3_600))),
        ("{tcp: {idleTimeout: 5m}}", |pool| pool.tcp_idle_timeout = Some(secs(300))),
        ("{tcp: {idleTimeout: 0s}}", |pool| pool.tcp_idle_timeout = Some(Duration::ZERO)),
        ("{http: {http1MaxPendingRequests: 1}}", |pool| pool.max_pending = some(1)),
        ("{http: {http2MaxRequests: 2147483647}}", |pool| pool.max_requests = some(2_147_483_647)),
        ("{http: {maxRequestsPerConnection: 1}}", |pool| pool.requests_per_connection = some(1)),
        ("{http: {maxRetries: 5}}", |pool| pool.max_retries = some(5)),
        ("{http: {idleTimeout: 30s}}", |pool| pool.http_idle_timeout = Some(secs(30))),
        ("{http: {h2UpgradePolicy: UPGRADE}}", |pool| pool.version = HttpVersion::Http2),
        ("{http: {h2UpgradePolicy: DO_NOT_UPGRADE, useClientProtocol: false}}", |_| {}),
        ("{http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}", |pool| pool.version = HttpVersion::OfClient),
        ("{http: {maxConcurrentStreams: 100}}", |pool| pool.max_streams = some(100)),
        ("{http: {http2KeepAlive: {interval: 5s, timeout: 1s}}}", |_| {}),
    ];
    for (text, set) in rows {
        let mut want = ConnectionPool::default();
        set(&mut want);
        assert_eq!(policy(&format!("{{connectionPool: {text}}}")).own.pool, Some(want), "{text}");
    }
}

#[test]
fn every_rule_of_outlier_detection_is_read() {
    type Set = fn(&mut OutlierDetection);
    let rows: [(&str, Set); 17] = [
        ("{}", |_| {}),
        ("{consecutive5xxErrors: 7}", |one| one.consecutive_5xx = some(7)),
        ("{consecutive5xxErrors: 0}", |one| one.consecutive_5xx = None),
        ("{consecutiveGatewayErrors: 3}", |one| one.consecutive_gateway = some(3)),
        ("{consecutiveGatewayErrors: 0}", |_| {}),
        ("{consecutiveErrors: 1}", |_| {}),
        ("{splitExternalLocalOriginErrors: true}", |one| one.origins = Origins::SPLIT),
        ("{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}", |one| {
            one.origins = Origins::Split { consecutive_local: NonZeroU32::new(2).unwrap() };
        }),
        ("{splitExternalLocalOriginErrors: false, consecutiveLocalOriginFailures: 2}", |_| {}),
        ("{interval: 1s}", |one| one.interval = Period::new("", secs(1)).unwrap()),
        ("{baseEjectionTime: 3m}", |one| one.base_ejection = Period::new("", secs(180)).unwrap()),
        ("{maxEjectionPercent: 100}", |one| one.max_ejected = per_cent(100.0)),
        ("{maxEjectionPercent: 0}", |_| {}),
        ("{minHealthPercent: 50}", |one| one.min_health = per_cent(50.0)),
        ("{minHealthPercent: 0}", |_| {}),
        ("{outlierDetectionHttpErrorCodes: [429, 503]}", |one| one.codes = ErrorCodes::new([429, 503]).unwrap()),
        ("{outlierDetectionHttpErrorCodes: []}", |_| {}),
    ];
    for (text, set) in rows {
        let mut want = OutlierDetection::default();
        set(&mut want);
        assert_eq!(policy(&format!("{{outlierDetection: {text}}}")).own.outlier, Some(want), "{text}");
    }
}

#[test]
fn the_rest_of_a_policy_is_read() {
    type Set = fn(&mut TrafficPolicy);
    let tunnel = |protocol| Some(TunnelSettings { protocol, host: "proxy".into(), port: Port::new(3128).unwrap() });
    let budget = |percent, at_least| Some(RetryBudget { percent: per_cent(percent), at_least });
    fn own(policy: &mut TrafficPolicy, own: Option<KeyFiles>, server: ServerTrust, sni: Option<&str>) {
        let sni = sni.map(|name| name.parse().unwrap());
        policy.own.tls = Some(TlsSettings::Own(Arc::new(ClientTls { own, server, sni })));
    }
    let rows: [(&str, Set); 7] = [
        ("{tls: {}}", |policy| policy.own.tls = Some(TlsSettings::Disable)),
        ("{tls: {mode: SIMPLE, sni: web.example, insecureSkipVerify: true}}", |policy| {
            own(policy, None, ServerTrust::Anybody, Some("web.example"));
        }),
        (
            "{tls: {mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem, subjectAltNames: [a, 'spiffe://b/c']}}",
            |policy| {
                let names = vec!["a".into(), "spiffe://b/c".into()];
                let proof = Proof { roots: Some("/ca.pem".into()), revoked: Some("/crl.pem".into()), names };
                own(policy, None, ServerTrust::Proven(proof), None);
            },
        ),
        ("{tls: {mode: SIMPLE}}", |policy| own(policy, None, ServerTrust::Proven(Proof::default()), None)),
        ("{tls: {mode: MUTUAL, credentialName: web}}", |policy| {
            policy.own.tls = Some(TlsSettings::Secret("web".into()));
        }),
        ("{tls: {mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem}}", |policy| {
            let files = KeyFiles { certificate: "/c.pem".into(), key: "/k.pem".into() };
            own(policy, Some(files), ServerTrust::Proven(Proof::default()), None);
        }),
        ("{tls: {mode: ISTIO_MUTUAL}}", |policy| policy.own.tls = Some(TlsSettings::IstioMutual)),
    ];
    for (text, set) in rows {
        let mut want = TrafficPolicy::default();
        set(&mut want);
        assert_eq!(policy(text), want, "{text}");
    }
    for (text, want) in [
        ("{targetHost: proxy, targetPort: 3128}", tunnel(TunnelProtocol::Connect)),
        ("{protocol: CONNECT, targetHost: proxy, targetPort: 3128}", tunnel(TunnelProtocol::Connect)),
        ("{protocol: POST, targetHost: proxy, targetPort: 3128}", tunnel(TunnelProtocol::Post)),
    ] {
        assert_eq!(policy(&format!("{{tunnel: {text}}}")).tunnel, want, "{text}");
    }
    for (text, want) in
        [("{}", ProxyVersion::V1), ("{version: V1}", ProxyVersion::V1), ("{version: V2}", ProxyVersion::V2)]
    {
        assert_eq!(policy(&format!("{{proxyProtocol: {text}}}")).proxy_protocol, Some(want), "{text}");
    }
    for (text, want) in [
        ("{}", budget(20.0, 3)),
        ("{percent: 12.5}", budget(12.5, 3)),
        ("{minRetryConcurrency: 0, budgetInterval: 1s}", budget(20.0, 0)),
    ] {
        assert_eq!(policy(&format!("{{retryBudget: {text}}}")).retry_budget, want, "{text}");
    }
    let ports = policy(
        "{portLevelSettings: [{port: {number: 80}, tls: {}}, {port: {number: 81}, loadBalancer: {simple: RANDOM}, \
         connectionPool: {}, outlierDetection: {}}, {port: {number: 80}}]}",
    );
    let first = PortPolicy { tls: Some(TlsSettings::Disable), ..PortPolicy::default() };
    let second = PortPolicy {
        load_balancer: Some(LoadBalancer { algorithm: Algorithm::Random, ..LoadBalancer::default() }),
        pool: Some(ConnectionPool::default()),
        outlier: Some(OutlierDetection::default()),
        tls: None,
    };
    let want = [(80, first), (81, second)].map(|(port, policy)| (Port::new(port).unwrap(), policy));
    assert_eq!(ports, TrafficPolicy { ports: want.into(), ..TrafficPolicy::default() });
}

mod refused;
