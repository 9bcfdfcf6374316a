//! The record of one request in a trace, with the attributes Istio's Envoy gives it and OpenTelemetry's own.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use hyper::HeaderMap;
use weir_model::{SpanTag, TracingSettings, Workload};

use super::TraceContext;
use crate::{HttpParty, HttpRecord, http::fact};

/// What spans say of the proxy they come from. Istio's tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// `node_id`: `waypoint~10.0.0.3~w-7c9.shop~shop.svc.cluster.local`.
    pub node: String,
    /// `istio.mesh_id`.
    pub mesh: String,
    /// `istio.cluster_id`.
    pub cluster: String,
    /// `istio.namespace`.
    pub namespace: String,
    /// `istio.canonical_service`.
    pub canonical_service: String,
    /// `istio.canonical_revision`.
    pub canonical_revision: String,
}

/// The record of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) state: String,
    pub(super) name: String,
    pub(super) at: SystemTime,
    pub(super) duration: Duration,
    pub(super) attributes: Vec<(Cow<'static, str>, Attribute)>,
    pub(super) error: bool,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute {
    Text(String),
    Whole(u64),
}

impl Span {
    /// The span of a request that ended, if one is to be reported.
    pub fn of(
        record: &HttpRecord<'_>,
        context: &TraceContext,
        settings: &TracingSettings,
        proxy: &Proxy,
    ) -> Option<Self> {
        let trace = context.outgoing().filter(|_| context.is_reported())?;
        let mut attributes = Attributes(Vec::with_capacity(40));
        attributes.of_envoy(record, proxy);
        attributes.of_open_telemetry(record);
        if settings.istio_tags {
            attributes.of_istio(record, proxy);
        }
        for (name, tag) in &settings.tags {
            if let Some(value) = tag_value(tag, record) {
                attributes.0.retain(|(key, _)| **key != **name);
                attributes.0.push((Cow::Owned(name.to_string()), Attribute::Text(value)));
            }
        }
        Some(Self {
            trace: trace.trace,
            id: trace.span,
            parent: trace.parent,
            state: context.state().unwrap_or_default().to_owned(),
            name: name(record),
            at: record.at,
            duration: record.duration,
            attributes: attributes.0,
            error: is_error(record),
        })
    }
}

/// As the decorator of Istio's routes has it: `reviews.default.svc.cluster.local:9080/*`.
fn name(record: &HttpRecord<'_>) -> String {
    match (record.service, record.authority) {
        (Some(service), _) => format!("{}:{}/*", service.name.hostname, record.downstream_local.port()),
        (None, Some(authority)) => format!("{}/*", fact::text(authority.as_bytes())),
        (None, None) => format!("{}/*", record.downstream_local),
    }
}

/// Envoy's `error=true`: no answer, or one of the 500s.
fn is_error(record: &HttpRecord<'_>) -> bool {
    record.code.is_none_or(|code| code >= 500)
}

struct Attributes(Vec<(Cow<'static, str>, Attribute)>);

impl Attributes {
    fn text(&mut self, key: &'static str, value: impl Into<String>) {
        self.0.push((Cow::Borrowed(key), Attribute::Text(value.into())));
    }

    /// What Envoy sets on the span of a request. `HttpTracerUtility::finalizeDownstreamSpan`.
    fn of_envoy(&mut self, record: &HttpRecord<'_>, proxy: &Proxy) {
        let bytes = |value: Option<&[u8]>| value.map(|value| fact::text(value).into_owned());
        let host = record.authority.unwrap_or_default();
        let path = record.original_path.unwrap_or(record.path);
        if let Some(id) = bytes(record.request_id) {
            self.text("guid:x-request-id", id);
        }
        self.text("component", "proxy");
        self.text("node_id", proxy.node.as_str());
        self.text("http.url", format!("http://{}{}", fact::text(host.as_bytes()), fact::text(path.as_bytes())));
        self.text("http.method", fact::text(record.method.as_bytes()));
        self.text("http.protocol", record.protocol.as_str());
        self.text("http.status_code", record.code.unwrap_or(0).to_string());
        self.text("downstream_cluster", "-");
        self.text("user_agent", bytes(record.user_agent).unwrap_or_else(|| "-".to_owned()));
        self.text("peer.address", record.downstream_remote.ip().to_string());
        self.text("request_size", record.bytes_received.to_string());
        self.text("response_size", record.bytes_sent.to_string());
        self.text("response_flags", record.flags.to_string());
        if let Some(upstream) = record.upstream {
            if let Some(host) = upstream.host {
                self.text("upstream_address", host.to_string());
            }
            if let Some(cluster) = upstream.cluster {
                self.text("upstream_cluster", cluster);
                self.text("upstream_cluster.name", cluster);
            }
        }
        if let Some(grpc) = record.grpc {
            self.text("grpc.path", fact::text(path.as_bytes()));
            self.text("grpc.authority", fact::text(host.as_bytes()));
            if let Some(status) = grpc.status {
                self.text("grpc.status_code", status.to_string());
            }
        }
        if is_error(record) {
            self.text("error", "true");
        }
    }

    /// OpenTelemetry, Semantic Conventions for HTTP Spans 1.23.
    fn of_open_telemetry(&mut self, record: &HttpRecord<'_>) {
        let path = record.original_path.unwrap_or(record.path);
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        self.text("http.request.method", fact::text(record.method.as_bytes()));
        self.text("url.scheme", "http");
        self.text("url.path", fact::text(path.as_bytes()));
        if let Some(query) = query {
            self.text("url.query", fact::text(query.as_bytes()));
        }
        if let Some(code) = record.code {
            self.0.push((Cow::Borrowed("http.response.status_code"), Attribute::Whole(code.into())));
        }
        self.text("network.protocol.version", record.protocol.as_str().trim_start_matches("HTTP/"));
        self.text("client.address", record.downstream_remote.ip().to_string());
        if let Some(authority) = record.authority {
            // A colon that no bracket comes after stands before a port.
            let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
                Some((host, port)) => (host, port.parse::<u16>().ok()),
                None => (authority, None),
            };
            self.text("server.address", fact::text(host.trim_matches(['[', ']']).as_bytes()));
            if let Some(port) = port {
                self.0.push((Cow::Borrowed("server.port"), Attribute::Whole(port.into())));
            }
        }
        if let Some(agent) = record.user_agent {
            self.text("user_agent.original", fact::text(agent));
        }
    }

    /// `enableIstioTags`: the proxy itself, and as a waypoint is neither end, both of them.
    fn of_istio(&mut self, record: &HttpRecord<'_>, proxy: &Proxy) {
        for (key, value) in [
            ("istio.mesh_id", &proxy.mesh),
            ("istio.cluster_id", &proxy.cluster),
            ("istio.namespace", &proxy.namespace),
            ("istio.canonical_service", &proxy.canonical_service),
            ("istio.canonical_revision", &proxy.canonical_revision),
        ] {
            self.text(key, if value.is_empty() { "unknown" } else { value });
        }
        const SOURCE: [&str; 6] = [
            "istio.source_workload",
            "istio.source_namespace",
            "istio.source_cluster_id",
            "istio.source_canonical_service",
            "istio.source_canonical_revision",
            "istio.source_instance_name",
        ];
        const DESTINATION: [&str; 6] = [
            "istio.destination_workload",
            "istio.destination_namespace",
            "istio.destination_cluster_id",
            "istio.destination_canonical_service",
            "istio.destination_canonical_revision",
            "istio.destination_instance_name",
        ];
        for (keys, HttpParty { workload, .. }) in [(SOURCE, record.source), (DESTINATION, record.destination)] {
            let Some(workload) = workload else { continue };
            let Workload { workload_name, namespace, cluster, canonical_name, canonical_revision, name, .. } =
                &**workload;
            let values =
                [workload_name, namespace.as_str(), cluster.as_str(), canonical_name, canonical_revision, name];
            for (key, value) in keys.into_iter().zip(values) {
                self.text(key, value);
            }
        }
    }
}

/// What a custom tag says; nothing, and there is no such attribute.
fn tag_value(tag: &SpanTag, record: &HttpRecord<'_>) -> Option<String> {
    let or = |value: Option<String>, default: &Option<std::sync::Arc<str>>| {
        value.filter(|value| !value.is_empty()).or_else(|| default.as_deref().map(str::to_owned))
    };
    match tag {
        SpanTag::Literal(text) => Some(text.to_string()),
        SpanTag::Environment { name, default } => or(std::env::var(&**name).ok(), default),
        SpanTag::Header { name, default } => {
            let value = record.request_headers.and_then(|headers: &HeaderMap| headers.get(&**name));
            or(value.map(|value| fact::text(value.as_bytes()).into_owned()), default)
        }
        // A hyphen for what is not known, as in Envoy's access log.
        SpanTag::Format(facts) => {
            Some(facts.iter().map(|fact| fact::value(fact, record).unwrap_or(Cow::Borrowed("-"))).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests;
