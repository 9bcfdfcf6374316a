//! Kinds of `security.istio.io`, and `Telemetry`.

use super::shape::{Shape, list, long, map, name, object, text, word};

/// Most rules of a policy.
const MANY: u32 = 4096;
const MODES: &[&str] = &["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];

fn selector() -> Shape {
    object([("matchLabels", map(Shape::Text { least: 0, most: 63 }))])
}

fn target() -> Shape {
    object([
        ("group", Shape::Text { least: 0, most: 253 }),
        ("kind*", Shape::Text { least: 1, most: 63 }),
        ("name*", Shape::Text { least: 1, most: 253 }),
        ("namespace", Shape::Text { least: 0, most: 63 }),
    ])
}

fn texts() -> Shape {
    list(name(), 65_536)
}

/// `AuthorizationPolicySpec`.
pub(super) fn authorization() -> Shape {
    let source = object([
        ("ipBlocks", texts()),
        ("namespaces", texts()),
        ("notIpBlocks", texts()),
        ("notNamespaces", texts()),
        ("notPrincipals", texts()),
        ("notRemoteIpBlocks", texts()),
        ("notRequestPrincipals", texts()),
        ("notServiceAccounts", texts()),
        ("notTrustDomains", texts()),
        ("principals", texts()),
        ("remoteIpBlocks", texts()),
        ("requestPrincipals", texts()),
        ("serviceAccounts", texts()),
        ("trustDomains", texts()),
    ]);
    let operation = object([
        ("hosts", texts()),
        ("methods", texts()),
        ("notHosts", texts()),
        ("notMethods", texts()),
        ("notPaths", texts()),
        ("notPorts", texts()),
        ("paths", texts()),
        ("ports", texts()),
    ]);
    let condition = object([("key*", name()), ("notValues", texts()), ("values", texts())]);
    let rule = object([
        ("from", list(object([("source", source)]), MANY)),
        ("to", list(object([("operation", operation)]), MANY)),
        ("when", list(condition, MANY)),
    ]);
    object([
        ("action", word(&["ALLOW", "DENY", "AUDIT", "CUSTOM"])),
        ("provider", object([("name", text())])),
        ("rules", list(rule, MANY)),
        ("selector", selector()),
        ("targetRef", target()),
        ("targetRefs", list(target(), 16)),
    ])
}

/// `PeerAuthenticationSpec`.
pub(super) fn peer_authentication() -> Shape {
    let mtls = || object([("mode", word(MODES))]);
    object([("mtls", mtls()), ("portLevelMtls", map(mtls())), ("selector", selector())])
}

/// `RequestAuthenticationSpec`.
pub(super) fn request_authentication() -> Shape {
    let header = object([("name*", name()), ("prefix", text())]);
    let claim = object([("claim*", name()), ("header*", name())]);
    let rule = object([
        ("audiences", list(name(), 4096)),
        ("forwardOriginalToken", Shape::Flag),
        ("fromCookies", list(name(), 4096)),
        ("fromHeaders", list(header, 4096)),
        ("fromParams", list(name(), 4096)),
        ("issuer", text()),
        ("jwks", long()),
        ("jwksUri", text()),
        ("jwks_uri", text()),
        ("outputClaimToHeaders", list(claim, 4096)),
        ("outputPayloadToHeader", text()),
        ("spaceDelimitedClaims", list(name(), 4096)),
        ("timeout", text()),
    ]);
    object([
        ("jwtRules", list(rule, 4096)),
        ("selector", selector()),
        ("targetRef", target()),
        ("targetRefs", list(target(), 16)),
    ])
}

/// `Telemetry`.
pub(super) fn telemetry() -> Shape {
    const WHO: &[&str] = &["CLIENT_AND_SERVER", "CLIENT", "SERVER"];
    const METRICS: &[&str] = &[
        "ALL_METRICS",
        "REQUEST_COUNT",
        "REQUEST_DURATION",
        "REQUEST_SIZE",
        "RESPONSE_SIZE",
        "TCP_OPENED_CONNECTIONS",
        "TCP_CLOSED_CONNECTIONS",
        "TCP_SENT_BYTES",
        "TCP_RECEIVED_BYTES",
        "GRPC_REQUEST_MESSAGES",
        "GRPC_RESPONSE_MESSAGES",
    ];
    let providers = || list(object([("name*", name())]), 64);
    let mode = || object([("mode", word(WHO))]);
    let selected = object([("customMetric", text()), ("metric", word(METRICS)), ("mode", word(WHO))]);
    let tag = object([("operation", word(&["UPSERT", "REMOVE"])), ("value", text())]);
    let overridden = object([("disabled", Shape::Flag), ("match", selected), ("tagOverrides", map(tag))]);
    let metrics =
        object([("overrides", list(overridden, 64)), ("providers", providers()), ("reportingInterval", text())]);
    let logging = object([
        ("disabled", Shape::Flag),
        ("filter", object([("expression", text())])),
        ("match", mode()),
        ("providers", providers()),
    ]);
    let named = || object([("defaultValue", text()), ("name*", name())]);
    let valued = || object([("value*", name())]);
    let custom =
        object([("environment", named()), ("formatter", valued()), ("header", named()), ("literal", valued())]);
    let tracing = object([
        ("customTags", map(custom)),
        ("disableContextPropagation", Shape::Flag),
        ("disableSpanReporting", Shape::Flag),
        ("enableIstioTags", Shape::Flag),
        ("match", mode()),
        ("providers", providers()),
        ("randomSamplingPercentage", Shape::Number(0, 100)),
        ("useRequestIdForTraceSampling", Shape::Flag),
    ]);
    object([
        ("accessLogging", list(logging, 64)),
        ("metrics", list(metrics, 64)),
        ("selector", selector()),
        ("targetRef", target()),
        ("targetRefs", list(target(), 16)),
        ("tracing", list(tracing, 64)),
    ])
}
