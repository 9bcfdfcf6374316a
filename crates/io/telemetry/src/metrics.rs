//! The registry: everything this process counts, and the text Prometheus reads.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::Counter, exemplar::Exemplar, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    HttpMeter, TcpLabels, TcpSeries,
    http::Requests,
    process,
    traffic::{Escaped, Traffic},
};

/// The two texts Prometheus can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
    /// `text/plain; version=0.0.4`, for what does not ask for OpenMetrics.
    Plain,
}

/// What kind of metric a collected one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows. `_total` is appended to its name.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Only grows, under a name without `_total`: one of istiod's, which are older than that rule.
    Bare,
}

/// A number read at a scrape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any other.
    Fraction(f64),
}

/// One line of a collected metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: Value,
}

/// Names and meanings of what agents and waypoints have in common.
const POOL: (&str, &str) = ("weir_pool_connections", "HBONE connections kept to other nodes");
const GENERATION: (&str, &str) = ("weir_config_generation", "How often the configuration was replaced");
const LAST_GOOD: (&str, &str) =
    ("weir_config_last_good_load_timestamp_seconds", "When a configuration was last accepted, in Unix seconds");
const REJECTED: (&str, &str) = ("weir_config_rejected_loads", "Configurations that were not accepted");
const REFUSED: (&str, &str) =
    ("weir_config_refused", "Whether the newest configuration was not accepted, so that an older one is in force");

/// Everything this process counts. Fields are handles: clone them to where the counting is done.
#[derive(Debug)]
pub struct Metrics {
    /// `workload_manager_active_proxy_count`: pods whose traffic is caught.
    pub active_proxies: Gauge,
    /// `workload_manager_pending_proxy_count`: pods that are to be caught and are not yet.
    pub pending_proxies: Gauge,
    /// `workload_manager_proxies_started_total`.
    pub proxies_started: Counter,
    /// `workload_manager_proxies_stopped_total`.
    pub proxies_stopped: Counter,
    /// `weir_open_connections{direction="inbound"}`.
    pub open_inbound: Gauge,
    /// `weir_open_connections{direction="outbound"}`.
    pub open_outbound: Gauge,
    /// `weir_pool_connections`: HBONE connections kept to other nodes.
    pub pool_connections: Gauge,
    /// `weir_config_generation`: how often the configuration was replaced.
    pub config_generation: Gauge,
    /// `weir_config_last_good_load_timestamp_seconds`: Unix seconds.
    pub config_last_good: Gauge,
    /// `weir_config_rejected_loads_total`.
    pub config_rejected: Counter,
    /// `weir_config_refused`: 1 while the newest configuration is not the one in force.
    pub config_refused: Gauge,
    traffic: Arc<Traffic>,
    requests: Arc<Requests>,
    registry: Mutex<Registry>,
}

impl Metrics {
    /// A registry of its own for a program that carries no traffic: nothing but `istio_build` and what is collected is shown.
    pub fn of(component: &str, tag: &str) -> Self {
        let mut registry = Registry::default();
        register_build(&mut registry, component, tag);
        Self {
            active_proxies: Gauge::default(),
            pending_proxies: Gauge::default(),
            proxies_started: Counter::default(),
            proxies_stopped: Counter::default(),
            open_inbound: Gauge::default(),
            open_outbound: Gauge::default(),
            pool_connections: Gauge::default(),
            config_generation: Gauge::default(),
            config_last_good: Gauge::default(),
            config_rejected: Counter::default(),
            config_refused: Gauge::default(),
            traffic: Arc::default(),
            requests: Arc::default(),
            registry: Mutex::new(registry),
        }
    }

    /// A registry of its own for an agent. `component` and `tag` are what `istio_build` says.
    pub fn new(component: &str, tag: &str) -> Self {
        let mut registry = Registry::default();
        let traffic = Arc::new(Traffic::default());
        registry.register_collector(Box::new(traffic.clone()));
        register_build(&mut registry, component, tag);
        let (open_inbound, open_outbound) = (Gauge::default(), Gauge::default());
        registry.register_collector(Box::new(open_connections(open_inbound.clone(), open_outbound.clone())));
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let r = &mut registry;
        Self {
            active_proxies: gauge(
                r,
                "workload_manager_active_proxy_count",
                "The total number of currently running proxies",
            ),
            pending_proxies: gauge(r, "workload_manager_pending_proxy_count", "The total number of pending proxies"),
            proxies_started: counter(
                r,
                "workload_manager_proxies_started",
                "The total number of proxies that were started",
            ),
            proxies_stopped: counter(
                r,
                "workload_manager_proxies_stopped",
                "The total number of proxies that were stopped",
            ),
            open_inbound,
            open_outbound,
            pool_connections: gauge(r, POOL.0, POOL.1),
            config_generation: gauge(r, GENERATION.0, GENERATION.1),
            config_last_good: gauge(r, LAST_GOOD.0, LAST_GOOD.1),
            config_rejected: counter(r, REJECTED.0, REJECTED.1),
            config_refused: gauge(r, REFUSED.0, REFUSED.1),
            traffic,
            requests: Arc::default(),
            registry: Mutex::new(registry),
        }
    }

    /// A registry of its own for a waypoint: Istio's metrics of requests, and of connections that are not HTTP; its connections kept to
    /// others, and its configuration.
    pub fn for_requests(component: &str, tag: &str) -> Self {
        let metrics = Self::of(component, tag);
        let requests = metrics.requests.clone();
        metrics.collect(
            "weir_requests_beyond_series",
            "Sets of labels that were one too many: their requests are counted without labels",
            Kind::Counter,
            move || vec![Sample { labels: Vec::new(), value: Value::Whole(requests.overflowed()) }],
        );
        let mut registry = metrics.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(metrics.requests.clone()));
        registry.register(POOL.0, POOL.1, metrics.pool_connections.clone());
        registry.register(GENERATION.0, GENERATION.1, metrics.config_generation.clone());
        registry.register(LAST_GOOD.0, LAST_GOOD.1, metrics.config_last_good.clone());
        registry.register(REJECTED.0, REJECTED.1, metrics.config_rejected.clone());
        registry.register(REFUSED.0, REFUSED.1, metrics.config_refused.clone());
        drop(registry);
        metrics
    }

    /// The counting of one worker that carries requests.
    pub fn meter(&self) -> HttpMeter {
        HttpMeter::new(self.requests.clone())
    }

    /// Also says what the kernel knows of this process: memory, CPU, open files.
    pub fn with_process(self) -> Self {
        process::register(&self);
        self
    }

    /// The counters of one set of labels. Takes a lock: keep the answer.
    pub fn series(&self, labels: &TcpLabels) -> Arc<TcpSeries> {
        self.traffic.series(labels)
    }

    /// Forgets series that nobody holds and nobody counted on since the last call. To be called every few minutes, so that pods
    /// that left do not stay in memory.
    pub fn forget_idle(&self) {
        self.traffic.sweep();
        self.requests.sweep();
    }

    /// A metric that is read at each scrape: eBPF counters, expiry of certificates, dropped log lines. `read` must not block.
    pub fn collect(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        let collected = Collected { name, help, kind, read: Box::new(read) };
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(collected));
    }

    /// A histogram of values whose upper bounds are `buckets`. To be called once for each name.
    pub fn histogram(&self, name: &'static str, help: &'static str, buckets: &'static [f64]) -> Histogram {
        let histogram = Histogram::new(buckets.iter().copied());
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(name, help, histogram.clone());
        histogram
    }

    /// Every metric as text.
    pub fn render(&self, exposition: Exposition) -> String {
        let mut out = String::with_capacity(16 * 1024);
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut out, &registry).expect("writing to a String does not fail");
        match exposition {
            Exposition::OpenMetrics => out,
            Exposition::Plain => plain(&out),
        }
    }
}

fn register_build(registry: &mut Registry, component: &str, tag: &str) {
    let build: Family<Vec<(String, String)>, Gauge> = Family::default();
    let labels = vec![("component".to_owned(), component.to_owned()), ("tag".to_owned(), tag.to_owned())];
    build.get_or_create_owned(&labels).set(1);
    registry.register("istio_build", "Istio component build info", build);
}

/// OpenMetrics as the older text format has it: there a counter's header carries the sample's full name, and there is no end.
fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                writeln!(out, "# HELP {name}{total} {text}").expect("writing to a String does not fail");
            }
            let kind = if kind == "unknown" { "untyped" } else { kind };
            writeln!(out, "# TYPE {name}{total} {kind}").expect("writing to a String does not fail");
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Not a family of gauges: prometheus-client prints those in no particular order.
fn open_connections(inbound: Gauge, outbound: Gauge) -> Collected {
    let read = move || {
        let sample = |direction: &str, gauge: &Gauge| Sample {
            labels: vec![("direction", direction.to_owned())],
            value: Value::Whole(u64::try_from(gauge.get()).unwrap_or(0)),
        };
        vec![sample("inbound", &inbound), sample("outbound", &outbound)]
    };
    Collected {
        name: "weir_open_connections",
        help: "Connections of applications open now",
        kind: Kind::Gauge,
        read: Box::new(read),
    }
}

struct Collected {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Bare => MetricType::Unknown,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for sample in (self.read)() {
            if sample.labels.is_empty() {
                write_value(&mut metric, self.kind, sample.value)?;
            } else {
                let labels = Labels(&sample.labels);
                write_value(&mut metric.encode_family(&labels)?, self.kind, sample.value)?;
            }
        }
        Ok(())
    }
}

fn write_value(metric: &mut MetricEncoder, kind: Kind, value: Value) -> fmt::Result {
    let none = None::<&Exemplar<NoLabelSet, u64>>;
    match (kind, value) {
        (Kind::Counter, Value::Whole(n)) => metric.encode_counter(&n, none),
        (Kind::Counter, Value::Fraction(n)) => metric.encode_counter(&n, none),
        (Kind::Gauge | Kind::Bare, Value::Whole(n)) => metric.encode_gauge(&n),
        (Kind::Gauge | Kind::Bare, Value::Fraction(n)) => metric.encode_gauge(&n),
    }
}

struct Labels<'a>(&'a [(&'static str, String)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        self.0.iter().try_for_each(|(key, value)| (*key, Escaped(value)).encode(encoder.encode_label()))
    }
}

#[cfg(test)]
mod tests;
