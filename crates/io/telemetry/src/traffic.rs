//! Istio's TCP metrics: names, labels and their order as Istio's dashboards and Kiali read them.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeLabelValue, LabelSetEncoder, LabelValueEncoder},
    metrics::{MetricType, exemplar::Exemplar},
};
use weir_model::{ClusterId, Namespace, ResponseFlag, Service, ServiceName, SpiffeId, Workload};

/// What a label says when nobody knows. Istio's word.
const UNKNOWN: &str = "unknown";

/// Which side of a connection counts it. Label `reporter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reporter {
    /// The client's agent.
    Source,
    /// The server's agent.
    Destination,
}

/// How a connection was protected. Label `connection_security_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecurityPolicy {
    /// Mutual TLS.
    MutualTls,
    /// Not by us.
    Unknown,
}

/// What the labels say of one side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Party {
    workload: Arc<str>,
    namespace: Namespace,
    identity: SpiffeId,
    canonical_service: Arc<str>,
    canonical_revision: Arc<str>,
    cluster: ClusterId,
    region: Arc<str>,
    zone: Arc<str>,
}

impl Party {
    fn new(workload: &Workload) -> Self {
        Self {
            workload: workload.workload_name.clone(),
            namespace: workload.namespace.clone(),
            identity: workload.identity(),
            canonical_service: workload.canonical_name.clone(),
            canonical_revision: workload.canonical_revision.clone(),
            cluster: workload.cluster.clone(),
            region: workload.locality.region.clone(),
            zone: workload.locality.zone.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Target {
    name: ServiceName,
    short_name: Arc<str>,
}

/// The labels of one series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpLabels {
    reporter: Reporter,
    source: Option<Party>,
    destination: Option<Party>,
    /// Who the source proved to be, when its workload is not known.
    source_identity: Option<SpiffeId>,
    service: Option<Target>,
    flag: ResponseFlag,
    security: SecurityPolicy,
}

impl TcpLabels {
    /// What is not known is `unknown`. Principals are given for mutual TLS only: nothing else proves them.
    pub fn new(
        reporter: Reporter,
        source: Option<&Workload>,
        destination: Option<&Workload>,
        service: Option<&Service>,
        flag: ResponseFlag,
        security: SecurityPolicy,
    ) -> Self {
        let service = service.map(|s| Target { name: s.name.clone(), short_name: s.short_name.clone() });
        Self {
            reporter,
            source: source.map(Party::new),
            destination: destination.map(Party::new),
            source_identity: None,
            service,
            flag,
            security,
        }
    }

    /// The same for a source that proved who it is, and whose workload is not known: it has a principal all the same.
    #[must_use]
    pub fn proven(self, source: SpiffeId) -> Self {
        Self { source_identity: Some(source), ..self }
    }
}

impl EncodeLabelSet for TcpLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        let mut label = |key: &str, value: Option<&str>| {
            let value = value.filter(|text| !text.is_empty()).unwrap_or(UNKNOWN);
            (key, Escaped(value)).encode(encoder.encode_label())
        };
        let (source, destination) = (self.source.as_ref(), self.destination.as_ref());
        let principal = |party: Option<&Party>| match self.security {
            SecurityPolicy::MutualTls => party.map(|p| p.identity.to_string()),
            SecurityPolicy::Unknown => None,
        };
        let proven = match self.security {
            SecurityPolicy::MutualTls => self.source_identity.as_ref().map(SpiffeId::to_string),
            SecurityPolicy::Unknown => None,
        };
        let reporter = match self.reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        };
        let security = match self.security {
            SecurityPolicy::MutualTls => "mutual_tls",
            SecurityPolicy::Unknown => UNKNOWN,
        };
        label("reporter", Some(reporter))?;
        label("source_workload", source.map(|p| &*p.workload))?;
        label("source_canonical_service", source.map(|p| &*p.canonical_service))?;
        label("source_canonical_revision", source.map(|p| &*p.canonical_revision))?;
        label("source_workload_namespace", source.map(|p| p.namespace.as_str()))?;
        label("source_principal", principal(source).or(proven).as_deref())?;
        label("source_app", source.map(|p| &*p.canonical_service))?;
        label("source_version", source.map(|p| &*p.canonical_revision))?;
        label("source_cluster", source.map(|p| p.cluster.as_str()))?;
        label("destination_workload", destination.map(|p| &*p.workload))?;
        label("destination_workload_namespace", destination.map(|p| p.namespace.as_str()))?;
        label("destination_principal", principal(destination).as_deref())?;
        label("destination_app", destination.map(|p| &*p.canonical_service))?;
        label("destination_version", destination.map(|p| &*p.canonical_revision))?;
        label("destination_service", self.service.as_ref().map(|s| s.name.hostname.as_str()))?;
        label("destination_canonical_service", destination.map(|p| &*p.canonical_service))?;
        label("destination_canonical_revision", destination.map(|p| &*p.canonical_revision))?;
        label("destination_service_name", self.service.as_ref().map(|s| &*s.short_name))?;
        label("destination_service_namespace", self.service.as_ref().map(|s| s.name.namespace.as_str()))?;
        label("destination_cluster", destination.map(|p| p.cluster.as_str()))?;
        label("request_protocol", Some("tcp"))?;
        label("response_flags", Some(self.flag.as_str()))?;
        label("connection_security_policy", Some(security))?;
        label("source_region", source.map(|p| &*p.region))?;
        label("source_zone", source.map(|p| &*p.zone))?;
        label("destination_region", destination.map(|p| &*p.region))?;
        label("destination_zone", destination.map(|p| &*p.zone))
    }
}

/// A label value as the exposition formats want it; prometheus-client writes values as they are.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl EncodeLabelValue for Escaped<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                c => encoder.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The counters of one set of labels. Workers keep the `Arc` for as long as they use it; counting takes no lock.
#[derive(Debug, Default)]
pub struct TcpSeries {
    opened: AtomicU64,
    closed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    failed: AtomicU64,
    /// The sum of all at the last sweep.
    swept: AtomicU64,
}

impl TcpSeries {
    /// A connection was established.
    pub fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    /// An established connection ended.
    pub fn closed(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    /// A connection was refused or never came about.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Bytes from the server to the client, as Istio counts: `istio_tcp_sent_bytes_total` is what was sent in response.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    /// Bytes from the client to the server.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    fn sum(&self) -> u64 {
        [&self.opened, &self.closed, &self.sent, &self.received, &self.failed]
            .iter()
            .fold(0u64, |sum, counter| sum.wrapping_add(counter.load(Relaxed)))
    }
}

/// Every series of this process.
#[derive(Debug, Default)]
pub(crate) struct Traffic(RwLock<BTreeMap<TcpLabels, Arc<TcpSeries>>>);

/// A metric's name, what it says, and where its counter is.
type Column = (&'static str, &'static str, fn(&TcpSeries) -> &AtomicU64);

const ESTABLISHED: [Column; 4] = [
    ("istio_tcp_connections_opened", "The total number of TCP connections opened", |s| &s.opened),
    ("istio_tcp_connections_closed", "The total number of TCP connections closed", |s| &s.closed),
    ("istio_tcp_received_bytes", "The size of total bytes received during request in case of a TCP connection", |s| {
        &s.received
    }),
    ("istio_tcp_sent_bytes", "The size of total bytes sent during response in case of a TCP connection", |s| &s.sent),
];
const FAILED: Column =
    ("istio_tcp_connections_failed", "The total number of TCP connections that failed to be established", |s| {
        &s.failed
    });

impl Traffic {
    pub(crate) fn series(&self, labels: &TcpLabels) -> Arc<TcpSeries> {
        if let Some(series) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(labels) {
            return series.clone();
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(labels.clone()).or_default().clone()
    }

    /// Drops what nobody holds and nobody counted on since the last sweep.
    pub(crate) fn sweep(&self) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, series| {
            let sum = series.sum();
            let idle = series.swept.swap(sum, Relaxed) == sum;
            !(idle && Arc::strong_count(series) == 1)
        });
    }
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let shown = |series: &TcpSeries, column: &Column| match column.0 == FAILED.0 {
            true => series.failed.load(Relaxed) > 0,
            false => series.opened.load(Relaxed) > 0 || series.failed.load(Relaxed) == 0,
        };
        for column in ESTABLISHED.iter().chain([&FAILED]) {
            let (name, help, counter) = column;
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in all.iter().filter(|(_, series)| shown(series, column)) {
                let value = counter(series).load(Relaxed);
                metric.encode_family(labels)?.encode_counter(&value, None::<&Exemplar<TcpLabels, u64>>)?;
            }
        }
        Ok(())
    }
}
