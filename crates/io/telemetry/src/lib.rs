//! Metrics, logs, the admin and readiness servers.
//!
//! In: what happened to connections, requests, pods, certificates and configuration. Out: Istio's metrics by their exact names,
//! access log lines in ztunnel's words and in Envoy's, spans for a collector, and small HTTP servers for people and kubelets. It
//! never blocks a worker and never decides what becomes of traffic.

mod access;
mod access_log;
mod certificates;
mod control;
mod error;
mod http;
mod logging;
mod metrics;
mod process;
mod readiness;
mod recent;
mod routes;
mod server;
mod spans;
mod traffic;

#[cfg(test)]
mod fixtures;

pub use access::{AccessEntry, AccessEvent, AccessParty, Direction};
pub use access_log::{AccessDetail, AccessLog};
pub use certificates::{CertificateSpan, Certificates};
pub use control::ControlState;
pub use error::Error;
pub use http::{
    GrpcRecord, HttpMeter, HttpParty, HttpProtocol, HttpRecord, HttpSecurity, TcpCounts, TcpSubject, UpstreamRecord,
};
pub use logging::{LogFormat, LogHandle, init};
pub use metrics::{Exposition, Kind, Metrics, Sample, Value};
pub use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
pub use readiness::{Readiness, Unready};
pub use recent::{Cursor, Happened, Recent, RecentPage, Recorder, clipped};
pub use routes::{Admin, Answering, Inquiry, Page, Query, Question, Routes};
pub use server::{AdminPort, bind, bind_loopback, everywhere, serve};
pub use spans::{EndpointError, Exporter, OtlpEndpoint, Pace, Proxy, RequestId, Span, SpanLog, TraceContext, exporter};
pub use traffic::{Reporter, SecurityPolicy, TcpLabels, TcpSeries};
