//! What does nothing is remarked, what is not legal is refused, each at its place.

use proptest::prelude::*;

use super::*;
use crate::object::RemarkKind;

#[test]
fn what_does_not_do_what_it_says_is_remarked() {
    use RemarkKind::{NoEffect, Unsupported};
    for (text, field, kind) in [
        ("{loadBalancer: {backendUtilization: {}}}", "loadBalancer.backendUtilization", Unsupported),
        ("{loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}}", "loadBalancer.warmup", NoEffect),
        ("{loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}}", "loadBalancer.localityLbSetting", NoEffect),
        ("{connectionPool: {http: {http2KeepAlive: {}}}}", "connectionPool.http.http2KeepAlive", Unsupported),
        (
            "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
            "connectionPool.http.h2UpgradePolicy",
            NoEffect,
        ),
        ("{outlierDetection: {consecutiveErrors: 5}}", "outlierDetection.consecutiveErrors", NoEffect),
        (
            "{outlierDetection: {consecutiveLocalOriginFailures: 5}}",
            "outlierDetection.consecutiveLocalOriginFailures",
            NoEffect,
        ),
        ("{tls: {mode: SIMPLE, credentialName: a}}", "tls.credentialName", Unsupported),
        ("{tls: {mode: SIMPLE, privateKey: /k.pem}}", "tls.privateKey", NoEffect),
        ("{tls: {mode: SIMPLE, insecureSkipVerify: true, caCrl: /c.pem}}", "tls.caCrl", NoEffect),
        ("{tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}}", "tls.subjectAltNames", NoEffect),
        ("{tls: {mode: ISTIO_MUTUAL}}", "tls", NoEffect),
        ("{tls: {mode: ISTIO_MUTUAL, sni: web}}", "tls", NoEffect),
        ("{tunnel: {targetHost: proxy, targetPort: 3128, protocol: POST}}", "tunnel", Unsupported),
        ("{retryBudget: {budgetInterval: 1s}}", "retryBudget.budgetInterval", Unsupported),
        ("{portLevelSettings: [{port: {number: 80}}, {port: {number: 80}}]}", "portLevelSettings[1]", NoEffect),
    ] {
        let remarks = read(&format!("{{host: web, trafficPolicy: {text}}}")).remarks;
        let told: Vec<_> = remarks.iter().map(|one| (one.field.as_str(), one.kind)).collect();
        assert_eq!(told, [(format!("spec.trafficPolicy.{field}").as_str(), kind)], "{text}");
    }
    assert_eq!(read("{host: web, trafficPolicy: {tls: {mode: DISABLE}, connectionPool: {}}}").remarks, []);
}

#[test]
fn what_is_not_legal_is_refused_at_its_place() {
    for (spec, want) in [
        ("{}", "spec.host: missing, expected the host it is for"),
        ("{host: Web}", "spec.host: "),
        ("{host: 'a*'}", "spec.host: "),
        ("{host: web, trafficPolice: {}}", "spec.trafficPolice: unknown field, did you mean \"trafficPolicy\"?"),
        // YAML's null.
        ("{host: web, exportTo: [~]}", "spec.exportTo[0]: expected text, found nothing"),
        ("{host: web, exportTo: ['~', a]}", "spec.exportTo[0]: not together with another namespace"),
        ("{host: web, exportTo: ['a/b']}", "spec.exportTo[0]: expected \"*\", \".\", \"~\" or a namespace"),
        ("{host: web, workloadSelector: {matchLabels: {a: '*'}}}", "spec.workloadSelector.matchLabels: expected"),
        ("{host: web, subsets: [{labels: {}}]}", "spec.subsets[0].name: missing, expected the subset's name"),
        ("{host: web, subsets: [{name: -a}]}", "spec.subsets[0].name: expected 1 to 63 letters and digits, '-' inside"),
        ("{host: web, subsets: [{name: a.b}]}", "spec.subsets[0].name: expected 1 to 63 letters and digits"),
        ("{host: web, subsets: [{name: a, label: {}}]}", "spec.subsets[0].label: unknown field"),
    ] {
        let errors = refused(spec);
        assert!(errors.len() == 1 && errors[0].starts_with(want), "{spec}: {errors:?}\n{want}");
    }
    for (text, want) in [
        ("{portLevelSettings: [{}]}", "portLevelSettings[0].port: missing"),
        ("{portLevelSettings: [{port: {number: 0}}]}", "portLevelSettings[0].port.number: expected a port, 1 to 65535"),
        ("{portLevelSettings: [{port: {number: 1}, tunnel: {}}]}", "portLevelSettings[0].tunnel: unknown field"),
        ("{loadBalancer: {simple: FASTEST}}", "loadBalancer.simple: expected \"UNSPECIFIED\", \"LEAST_REQUEST\""),
        (
            "{loadBalancer: {simple: RANDOM, consistentHash: {}}}",
            "loadBalancer.consistentHash: not together with another",
        ),
        ("{loadBalancer: {consistentHash: {}}}", "loadBalancer.consistentHash: expected one of httpHeaderName"),
        ("{loadBalancer: {consistentHash: {useSourceIp: false}}}", "loadBalancer.consistentHash: expected one of"),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}",
            "loadBalancer.consistentHash: expected one of",
        ),
        (
            "{loadBalancer: {consistentHash: {httpHeaderName: 'a b'}}}",
            "loadBalancer.consistentHash.httpHeaderName: header \"a b\", expected are 1 to 1024 bytes of letters",
        ),
        ("{loadBalancer: {consistentHash: {httpQueryParameterName: 'a&b'}}}", "loadBalancer.consistentHash.httpQuery"),
        ("{loadBalancer: {consistentHash: {httpCookie: {}}}}", "loadBalancer.consistentHash.httpCookie.name: missing"),
        (
            "{loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 1d}}}}",
            "loadBalancer.consistentHash.httpCookie.ttl: expected a duration",
        ),
        (
            "{loadBalancer: {consistentHash: {httpCookie: {name: a, path: '/;x'}}}}",
            "loadBalancer.consistentHash.httpCookie: cookie path \"/;x\"",
        ),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}, maglev: {}}}}",
            "loadBalancer.consistentHash.maglev: not together with ringHash",
        ),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 10}}}}",
            "loadBalancer.consistentHash.maglev.tableSize: table of 10 entries, a prime",
        ),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 9000000}}}}",
            "loadBalancer.consistentHash.ringHash.minimumRingSize: ring of 9000000 points",
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 100}}], failover: [{from: a, to: b}]}}}",
            "loadBalancer.localityLbSetting.distribute: not together with failover",
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 60, b: 30}}]}}}",
            "loadBalancer.localityLbSetting.distribute[0]: traffic from a/* is distributed by 90 %",
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 0, b: 100}}]}}}",
            "loadBalancer.localityLbSetting.distribute[0].to.a: expected a percentage, 1 to 100",
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a/b/c/d, to: {a: 100}}]}}}",
            "loadBalancer.localityLbSetting.distribute[0].from: locality \"a/b/c/d\"",
        ),
        (
            "{loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}}",
            "loadBalancer.localityLbSetting.failover[0]: expected two regions that differ",
        ),
        (
            "{loadBalancer: {localityLbSetting: {failover: [{from: a/b, to: c}]}}}",
            "loadBalancer.localityLbSetting.failover[0].from: expected a region",
        ),
        (
            "{loadBalancer: {localityLbSetting: {failoverPriority: ['a b']}}}",
            "loadBalancer.localityLbSetting.failoverPriority[0]: label \"a b\"",
        ),
        ("{loadBalancer: {zoneAwareLbSetting: {minClusterSize: 0}}}", "loadBalancer.zoneAwareLbSetting.minClusterSize"),
        ("{loadBalancer: {warmup: {}}}", "loadBalancer.warmup.duration: missing"),
        (
            "{loadBalancer: {warmup: {duration: 0s}}}",
            "loadBalancer.warmup.duration: expected a duration of at least 1ms",
        ),
        (
            "{loadBalancer: {warmup: {duration: 1s, aggression: -1}}}",
            "loadBalancer.warmup.aggression: aggression of -1",
        ),
        (
            "{loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}}",
            "loadBalancer.warmup.minimumPercent: minimum",
        ),
        ("{connectionPool: {tcp: {maxConnections: -1}}}", "connectionPool.tcp.maxConnections: expected a whole number"),
        ("{connectionPool: {tcp: {connectTimeout: 1us}}}", "connectionPool.tcp.connectTimeout: expected a duration"),
        ("{connectionPool: {tcp: {tcpKeepalive: {probes: x}}}}", "connectionPool.tcp.tcpKeepalive.probes: expected"),
        ("{connectionPool: {http: {maxRetries: 2147483648}}}", "connectionPool.http.maxRetries: expected"),
        ("{connectionPool: {http: {h2UpgradePolicy: MAYBE}}}", "connectionPool.http.h2UpgradePolicy: expected"),
        ("{connectionPool: {http: {http2KeepAlive: {interval: 0s}}}}", "connectionPool.http.http2KeepAlive.interval"),
        (
            "{outlierDetection: {maxEjectionPercent: 101}}",
            "outlierDetection.maxEjectionPercent: ejected endpoints of 101",
        ),
        ("{outlierDetection: {interval: 0s}}", "outlierDetection.interval: expected a duration of at least 1ms"),
        (
            "{outlierDetection: {outlierDetectionHttpErrorCodes: [99]}}",
            "outlierDetection.outlierDetectionHttpErrorCodes[0]: expected a status",
        ),
        ("{tls: {mode: TLS}}", "tls.mode: expected"),
        ("{tls: {mode: SIMPLE, credentialName: a, caCertificates: b}}", "tls.caCertificates: not together with"),
        ("{tls: {mode: MUTUAL, clientCertificate: a}}", "tls.privateKey: missing, expected a file"),
        ("{tls: {mode: SIMPLE, sni: '*.example.com'}}", "tls.sni: expected the one host name"),
        ("{tls: {mode: SIMPLE, sni: 'a b'}}", "tls.sni: "),
        ("{tls: {mode: SIMPLE, subjectAltNames: ['']}}", "tls.subjectAltNames[0]: expected a name"),
        ("{tls: {mode: ISTIO_MUTUAL, privateKey: a}}", "tls.privateKey: not together with mode ISTIO_MUTUAL"),
        ("{tunnel: {targetHost: a}}", "tunnel.targetPort: missing"),
        ("{tunnel: {targetHost: \"a\\r\\nb\", targetPort: 1}}", "tunnel.targetHost: expected a host"),
        (
            "{tunnel: {targetHost: a, targetPort: 1, protocol: GET}}",
            "tunnel.protocol: expected \"CONNECT\" or \"POST\"",
        ),
        ("{proxyProtocol: {version: V3}}", "proxyProtocol.version: expected \"V1\" or \"V2\""),
        ("{retryBudget: {percent: -1}}", "retryBudget.percent: retries of -1 %"),
    ] {
        let errors = refused(&format!("{{host: web, trafficPolicy: {text}}}"));
        let want = format!("spec.trafficPolicy.{want}");
        assert!(errors.len() == 1 && errors[0].starts_with(&want), "{text}: {errors:?}\n{want}");
    }
}

proptest! {
    #[test]
    fn no_value_of_a_field_makes_the_parser_stop(
        field in prop::sample::select([SPEC, POLICY, SUBSET].concat()),
        value in "[-a-z0-9.%*{}: ,\\[\\]~'/]{0,40}",
    ) {
        for spec in [format!("{{host: web, {field}: {value}}}"), format!("{{host: web, trafficPolicy: {{{field}: {value}}}}}")] {
            // Legal or not, it is read to its end.
            drop(parse(&[(FileName::new("f.yaml"), &document(&spec))]));
        }
    }
}
