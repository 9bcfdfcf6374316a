//! Kinds of `networking.istio.io`.

use super::shape::{Shape, count, list, long, map, name, object, port, text, word};

/// Most entries of the lists of one rule.
const FEW: u32 = 256;
/// Most rules of an object.
const MANY: u32 = 16_384;

fn labels() -> Shape {
    map(Shape::Text { least: 0, most: 63 })
}

/// A share of requests, in percent.
fn percentage() -> Shape {
    object([("value", Shape::Number(0, 100))])
}

fn compared() -> Shape {
    object([("exact", text()), ("prefix", text()), ("regex", text())])
}

fn destination() -> Shape {
    object([("host*", name()), ("port", object([("number*", port())])), ("subset", text())])
}

fn headers() -> Shape {
    let changes = || object([("add", map(text())), ("remove", list(name(), FEW)), ("set", map(text()))]);
    object([("request", changes()), ("response", changes())])
}

/// What rules of all kinds ask of who connects.
fn asker() -> [(&'static str, Shape); 4] {
    [
        ("gateways", list(name(), 1024)),
        ("port", port()),
        ("sourceLabels", labels()),
        ("sourceNamespace", Shape::Text { least: 0, most: 63 }),
    ]
}

fn with<const N: usize>(own: [(&'static str, Shape); N]) -> Shape {
    object(own.into_iter().chain(asker()))
}

/// `VirtualService`.
pub(super) fn virtual_service() -> Shape {
    let connection = || object([("destination*", destination()), ("weight", count())]);
    let tcp = object([
        ("match", list(with([("destinationSubnets", list(name(), FEW)), ("sourceSubnet", text())]), MANY)),
        ("route*", list(connection(), FEW)),
    ]);
    let tls = object([
        ("match*", list(with([("destinationSubnets", list(name(), FEW)), ("sniHosts*", list(name(), FEW))]), MANY)),
        ("route*", list(connection(), FEW)),
    ]);
    object([
        ("exportTo", list(name(), FEW)),
        ("gateways", list(name(), 1024)),
        ("hosts", list(name(), 1024)),
        ("http", list(http(), MANY)),
        ("tcp", list(tcp, MANY)),
        ("tls", list(tls, MANY)),
    ])
}

fn http() -> Shape {
    let matched = with([
        ("authority", compared()),
        ("headers", map(compared())),
        ("ignoreUriCase", Shape::Flag),
        ("method", compared()),
        ("name", text()),
        ("queryParams", map(compared())),
        ("scheme", compared()),
        ("statPrefix", text()),
        ("uri", compared()),
        ("withoutHeaders", map(compared())),
    ]);
    let route = object([("destination*", destination()), ("headers", headers()), ("weight", count())]);
    let regex = object([("match*", name()), ("rewrite", text())]);
    object([
        ("corsPolicy", cors()),
        ("delegate", object([("name*", name()), ("namespace", text())])),
        (
            "directResponse",
            object([("body", object([("bytes", long()), ("string", long())])), ("status*", Shape::Whole(200, 599))]),
        ),
        ("fault", fault()),
        ("headers", headers()),
        ("match", list(matched, MANY)),
        ("mirror", destination()),
        ("mirrorPercent", count()),
        ("mirrorPercentage", percentage()),
        ("mirror_percent", count()),
        ("mirrors", list(object([("destination*", destination()), ("percentage", percentage())]), FEW)),
        ("name", text()),
        (
            "redirect",
            object([
                ("authority", text()),
                ("derivePort", word(&["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])),
                ("port", port()),
                ("prefixRewrite", text()),
                ("redirectCode", count()),
                ("scheme", text()),
                ("uri", text()),
            ]),
        ),
        (
            "retries",
            object([
                ("attempts", count()),
                ("backoff", text()),
                ("perTryTimeout", text()),
                ("retryIgnorePreviousHosts", Shape::Flag),
                ("retryOn", text()),
                ("retryRemoteLocalities", Shape::Flag),
            ]),
        ),
        ("rewrite", object([("authority", text()), ("uri", text()), ("uriRegexRewrite", regex)])),
        ("route", list(route, FEW)),
        ("timeout", text()),
    ])
}

fn cors() -> Shape {
    object([
        ("allowCredentials", Shape::Flag),
        ("allowHeaders", list(name(), FEW)),
        ("allowMethods", list(name(), FEW)),
        ("allowOrigin", list(name(), FEW)),
        ("allowOrigins", list(compared(), FEW)),
        ("exposeHeaders", list(name(), FEW)),
        ("maxAge", text()),
        ("unmatchedPreflights", word(&["UNSPECIFIED", "FORWARD", "IGNORE"])),
    ])
}

fn fault() -> Shape {
    let abort = object([("grpcStatus", text()), ("httpStatus", Shape::Whole(200, 599)), ("percentage", percentage())]);
    let delay = object([("fixedDelay*", text()), ("percent", count()), ("percentage", percentage())]);
    object([("abort", abort), ("delay", delay)])
}

/// `DestinationRule`.
pub(super) fn destination_rule() -> Shape {
    let subset = object([("labels", labels()), ("name*", name()), ("trafficPolicy", traffic_policy())]);
    object([
        ("exportTo", list(name(), FEW)),
        ("host*", name()),
        ("subsets", list(subset, 1024)),
        ("trafficPolicy", traffic_policy()),
        ("workloadSelector", object([("matchLabels", labels())])),
    ])
}

fn traffic_policy() -> Shape {
    let of_port = object([
        ("connectionPool", pool()),
        ("loadBalancer", load_balancer()),
        ("outlierDetection", outlier()),
        ("port*", object([("number*", port())])),
        ("tls", tls()),
    ]);
    object([
        ("connectionPool", pool()),
        ("loadBalancer", load_balancer()),
        ("outlierDetection", outlier()),
        ("portLevelSettings", list(of_port, 4096)),
        ("proxyProtocol", object([("version", word(&["V1", "V2"]))])),
        (
            "retryBudget",
            object([("budgetInterval", text()), ("minRetryConcurrency", count()), ("percent", Shape::Number(0, 100))]),
        ),
        ("tls", tls()),
        (
            "tunnel",
            object([("protocol", word(&["CONNECT", "POST"])), ("targetHost*", name()), ("targetPort*", port())]),
        ),
    ])
}

fn pool() -> Shape {
    let keepalive = object([("interval", text()), ("probes", count()), ("time", text())]);
    let tcp = object([
        ("connectTimeout", text()),
        ("idleTimeout", text()),
        ("maxConnectionDuration", text()),
        ("maxConnections", count()),
        ("tcpKeepalive", keepalive),
    ]);
    let http = object([
        ("h2UpgradePolicy", word(&["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"])),
        ("http1MaxPendingRequests", count()),
        ("http2KeepAlive", object([("interval", text()), ("timeout", text())])),
        ("http2MaxRequests", count()),
        ("idleTimeout", text()),
        ("maxConcurrentStreams", count()),
        ("maxRequestsPerConnection", count()),
        ("maxRetries", count()),
        ("useClientProtocol", Shape::Flag),
    ]);
    object([("http", http), ("tcp", tcp)])
}

fn outlier() -> Shape {
    object([
        ("baseEjectionTime", text()),
        ("consecutive5xxErrors", count()),
        ("consecutiveErrors", count()),
        ("consecutiveGatewayErrors", count()),
        ("consecutiveLocalOriginFailures", count()),
        ("interval", text()),
        ("maxEjectionPercent", Shape::Whole(0, 100)),
        ("minHealthPercent", Shape::Whole(0, 100)),
        ("outlierDetectionHttpErrorCodes", list(text(), 1024)),
        ("splitExternalLocalOriginErrors", Shape::Flag),
    ])
}

fn tls() -> Shape {
    object([
        ("caCertificates", text()),
        ("caCrl", text()),
        ("clientCertificate", text()),
        ("credentialName", text()),
        ("insecureSkipVerify", Shape::Flag),
        ("mode", word(&["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"])),
        ("privateKey", text()),
        ("sni", text()),
        ("subjectAltNames", list(name(), FEW)),
    ])
}

fn load_balancer() -> Shape {
    let attribute = object([("name*", name()), ("value", text())]);
    let cookie = object([("attributes", list(attribute, FEW)), ("name*", name()), ("path", text()), ("ttl", text())]);
    let hash = object([
        ("httpCookie", cookie),
        ("httpHeaderName", text()),
        ("httpQueryParameterName", text()),
        ("maglev", object([("tableSize", count())])),
        ("minimumRingSize", count()),
        ("ringHash", object([("minimumRingSize", count())])),
        ("useSourceIp", Shape::Flag),
    ]);
    let failover = || list(object([("from*", name()), ("to*", name())]), FEW);
    let distribute = object([("from*", name()), ("to*", map(count()))]);
    object([
        (
            "backendUtilization",
            object([
                ("errorUtilizationPenaltyPercent", count()),
                ("metricNamesForComputingUtilization", list(name(), FEW)),
                ("weightExpirationPeriod", text()),
                ("weightStabilizationPeriod", text()),
                ("weightUpdatePeriod", text()),
            ]),
        ),
        ("consistentHash", hash),
        (
            "localityLbSetting",
            object([
                ("distribute", list(distribute, FEW)),
                ("enabled", Shape::Flag),
                ("failover", failover()),
                ("failoverPriority", list(name(), 32)),
            ]),
        ),
        ("simple", word(&["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"])),
        (
            "warmup",
            object([
                ("aggression", Shape::Number(0, 1_000_000)),
                ("duration*", text()),
                ("minimumPercent", Shape::Number(0, 100)),
            ]),
        ),
        ("warmupDurationSecs", text()),
        (
            "zoneAwareLbSetting",
            object([
                ("enabled", Shape::Flag),
                ("failover", failover()),
                ("failoverPriority", list(name(), 32)),
                ("minClusterSize", count()),
            ]),
        ),
    ])
}

/// `ServiceEntry`.
pub(super) fn service_entry() -> Shape {
    let endpoint = object([
        ("address", text()),
        ("labels", labels()),
        ("locality", text()),
        ("network", text()),
        ("ports", map(port())),
        ("serviceAccount", text()),
        ("weight", count()),
    ]);
    let of_port = object([("name*", name()), ("number*", port()), ("protocol", text()), ("targetPort", port())]);
    object([
        ("addresses", list(name(), FEW)),
        ("endpoints", list(endpoint, 4096)),
        ("exportTo", list(name(), FEW)),
        ("hosts*", list(name(), FEW)),
        ("location", word(&["MESH_EXTERNAL", "MESH_INTERNAL"])),
        ("ports", list(of_port, FEW)),
        ("resolution", word(&["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"])),
        ("subjectAltNames", list(name(), FEW)),
        ("workloadSelector", object([("labels", labels())])),
    ])
}
