//! What the Telemetry API asks of a proxy for one service: which metrics with which labels, whether to log, what to trace.

use std::{collections::BTreeMap, sync::Arc};

/// Parts of a whole that a sampling rate is counted in: Istio counts hundredths of a percent.
pub const SAMPLES_OF: u32 = 10_000;

/// What holds for requests to one service at a waypoint. Istio `telemetry.v1.Telemetry`, all that apply taken together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// `metrics`.
    pub metrics: Arc<MetricSettings>,
    /// `accessLogging`.
    pub access_log: AccessLogging,
    /// `tracing`.
    pub traces: TracingSettings,
}

/// One of Istio's standard metrics. `MetricSelector.IstioMetric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// `istio_requests_total`. `REQUEST_COUNT`.
    RequestCount,
    /// `istio_request_duration_milliseconds`. `REQUEST_DURATION`.
    RequestDuration,
    /// `istio_request_bytes`. `REQUEST_SIZE`.
    RequestSize,
    /// `istio_response_bytes`. `RESPONSE_SIZE`.
    ResponseSize,
    /// `istio_request_messages_total`. `GRPC_REQUEST_MESSAGES`.
    RequestMessages,
    /// `istio_response_messages_total`. `GRPC_RESPONSE_MESSAGES`.
    ResponseMessages,
    /// `istio_tcp_connections_opened_total`. `TCP_OPENED_CONNECTIONS`.
    TcpOpened,
    /// `istio_tcp_connections_closed_total`. `TCP_CLOSED_CONNECTIONS`.
    TcpClosed,
    /// `istio_tcp_sent_bytes_total`. `TCP_SENT_BYTES`.
    TcpSent,
    /// `istio_tcp_received_bytes_total`. `TCP_RECEIVED_BYTES`.
    TcpReceived,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 10] = [
        Self::RequestCount,
        Self::RequestDuration,
        Self::RequestSize,
        Self::ResponseSize,
        Self::RequestMessages,
        Self::ResponseMessages,
        Self::TcpOpened,
        Self::TcpClosed,
        Self::TcpSent,
        Self::TcpReceived,
    ];

    /// Its name in the Telemetry API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestCount => "REQUEST_COUNT",
            Self::RequestDuration => "REQUEST_DURATION",
            Self::RequestSize => "REQUEST_SIZE",
            Self::ResponseSize => "RESPONSE_SIZE",
            Self::RequestMessages => "GRPC_REQUEST_MESSAGES",
            Self::ResponseMessages => "GRPC_RESPONSE_MESSAGES",
            Self::TcpOpened => "TCP_OPENED_CONNECTIONS",
            Self::TcpClosed => "TCP_CLOSED_CONNECTIONS",
            Self::TcpSent => "TCP_SENT_BYTES",
            Self::TcpReceived => "TCP_RECEIVED_BYTES",
        }
    }
}

/// What is different from Istio's standard, metric by metric.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricSettings {
    /// Metrics that are not here are as Istio has them.
    pub changed: BTreeMap<Metric, MetricChange>,
}

/// How one metric is different.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricChange {
    /// `overrides.disabled`: it is not counted.
    pub disabled: bool,
    /// `overrides.tagOverrides`, by the label's name.
    pub tags: BTreeMap<Arc<str>, TagChange>,
}

/// What becomes of one label. `tagOverrides.operation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagChange {
    /// `REMOVE`.
    Remove,
    /// `UPSERT`.
    Set(Fact),
}

/// Something known of a request, or a text given beforehand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// That text.
    Literal(Arc<str>),
    /// `request.method`, `%REQ(:METHOD)%`.
    Method,
    /// `request.path`, `%REQ(:PATH)%`: with its query.
    Path,
    /// `request.url_path`: without its query.
    UrlPath,
    /// `request.host`, `%REQ(:AUTHORITY)%`.
    Host,
    /// `request.protocol`, `%PROTOCOL%`.
    Protocol,
    /// `request.headers['name']`, `%REQ(name)%`: the first of that name, which is in lower case.
    RequestHeader(Arc<str>),
    /// `response.headers['name']`, `%RESP(name)%`.
    ResponseHeader(Arc<str>),
    /// `response.code`, `%RESPONSE_CODE%`.
    ResponseCode,
    /// `%RESPONSE_FLAGS%`.
    ResponseFlags,
    /// `response.code_details`, `%RESPONSE_CODE_DETAILS%`.
    ResponseCodeDetails,
    /// `response.grpc_status`.
    GrpcStatus,
    /// `source.address`, `%DOWNSTREAM_REMOTE_ADDRESS%`.
    SourceAddress,
    /// `destination.address`, `%DOWNSTREAM_LOCAL_ADDRESS%`.
    DestinationAddress,
    /// `destination.port`.
    DestinationPort,
    /// `upstream.address`, `%UPSTREAM_HOST%`.
    UpstreamAddress,
    /// `xds.cluster_name`, `%UPSTREAM_CLUSTER%`.
    UpstreamCluster,
    /// `xds.route_name`, `%ROUTE_NAME%`.
    RouteName,
    /// `connection.requested_server_name`, `%REQUESTED_SERVER_NAME%`.
    ServerName,
    /// `source.principal` as Istio writes it, `spiffe://` before it.
    SourcePrincipal,
}

/// Whether requests are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum AccessLogging {
    /// As the proxy itself is told.
    #[default]
    AsStarted,
    /// `accessLogging` without `disabled`.
    On,
    /// `disabled: true`.
    Off,
}

/// What is traced, and what of it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingSettings {
    /// `randomSamplingPercentage`, in parts of [`SAMPLES_OF`]: of the requests of which nobody has decided.
    pub sampling: u32,
    /// `disableSpanReporting`: headers are passed on, spans are not made.
    pub silent: bool,
    /// `disableContextPropagation`: headers of traces are neither added nor changed.
    pub no_propagation: bool,
    /// `useRequestIdForTraceSampling`: one request gets one decision, wherever it is made.
    pub by_request_id: bool,
    /// `enableIstioTags`.
    pub istio_tags: bool,
    /// `customTags`, by the attribute's name.
    pub tags: BTreeMap<Arc<str>, SpanTag>,
}

impl Default for TracingSettings {
    /// Istio's: one request in a hundred.
    fn default() -> Self {
        Self {
            sampling: SAMPLES_OF / 100,
            silent: false,
            no_propagation: false,
            by_request_id: true,
            istio_tags: true,
            tags: BTreeMap::new(),
        }
    }
}

/// An attribute somebody wants on every span. `Tracing.CustomTag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanTag {
    /// `literal.value`.
    Literal(Arc<str>),
    /// `environment`: a variable of the proxy.
    Environment {
        /// `name`.
        name: Arc<str>,
        /// `defaultValue`, absent when it is empty.
        default: Option<Arc<str>>,
    },
    /// `header`: of the request.
    Header {
        /// `name`, in lower case.
        name: Arc<str>,
        /// `defaultValue`, absent when it is empty.
        default: Option<Arc<str>>,
    },
    /// `formatter.value`, its texts and operators one after the other.
    Format(Vec<Fact>),
}
