//! telemetry.istio.io/v1 Telemetry, as its author wrote it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use weir_model::Metric;

use crate::object::PolicyTarget;

/// `spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetrySpec {
    /// `selector`, `targetRef` or `targetRefs`.
    pub target: PolicyTarget,
    /// `metrics`.
    pub metrics: Vec<MetricsEntry>,
    /// `accessLogging`.
    pub access_logging: Vec<AccessLoggingEntry>,
    /// `tracing`.
    pub traces: Vec<TracingEntry>,
}

/// Which side of a connection it is about. Istio `WorkloadMode`; of waypoints, `SERVER`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum WorkloadMode {
    /// `CLIENT_AND_SERVER`, also when nothing is said.
    #[default]
    ClientAndServer,
    /// `CLIENT`.
    Client,
    /// `SERVER`.
    Server,
}

/// One of `metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsEntry {
    /// `providers[].name`.
    pub providers: Vec<Arc<str>>,
    /// `overrides`, in their order.
    pub overrides: Vec<MetricsOverride>,
    /// `reportingInterval`.
    pub reporting_interval: Option<Duration>,
}

/// One of `metrics[].overrides`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsOverride {
    /// `match.metric` or `match.customMetric`.
    pub metric: MetricSelector,
    /// `match.mode`.
    pub mode: WorkloadMode,
    /// `disabled`.
    pub disabled: Option<bool>,
    /// `tagOverrides`.
    pub tags: BTreeMap<Arc<str>, TagOverride>,
}

/// Which metrics an override is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricSelector {
    /// `ALL_METRICS`, also when nothing is said.
    All,
    /// One of Istio's standard ones.
    Standard(Metric),
    /// `customMetric`: one that somebody else defines.
    Custom(Arc<str>),
}

/// One of `tagOverrides`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagOverride {
    /// `REMOVE`.
    Remove,
    /// `UPSERT`, also when nothing is said: an expression of CEL.
    Upsert(Arc<str>),
}

/// One of `accessLogging`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessLoggingEntry {
    /// `match.mode`.
    pub mode: WorkloadMode,
    /// `providers[].name`.
    pub providers: Vec<Arc<str>>,
    /// `disabled`.
    pub disabled: Option<bool>,
    /// `filter.expression`, absent when it is empty.
    pub filter: Option<Arc<str>>,
}

/// One of `tracing`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TracingEntry {
    /// `match.mode`.
    pub mode: WorkloadMode,
    /// `providers[].name`.
    pub providers: Vec<Arc<str>>,
    /// `randomSamplingPercentage`, in hundredths of a percent.
    pub sampling: Option<u32>,
    /// `disableSpanReporting`.
    pub disable_span_reporting: Option<bool>,
    /// `disableContextPropagation`.
    pub disable_context_propagation: Option<bool>,
    /// `useRequestIdForTraceSampling`.
    pub use_request_id: Option<bool>,
    /// `enableIstioTags`.
    pub enable_istio_tags: Option<bool>,
    /// `customTags`, absent when it is empty.
    pub custom_tags: Option<BTreeMap<Arc<str>, CustomTag>>,
}

/// One of `customTags`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomTag {
    /// `literal.value`.
    Literal(Arc<str>),
    /// `environment`.
    Environment {
        /// `name`.
        name: Arc<str>,
        /// `defaultValue`, absent when it is empty.
        default: Option<Arc<str>>,
    },
    /// `header`.
    Header {
        /// `name`, in lower case.
        name: Arc<str>,
        /// `defaultValue`, absent when it is empty.
        default: Option<Arc<str>>,
    },
    /// `formatter.value`.
    Formatter(Arc<str>),
}
