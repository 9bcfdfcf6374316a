//! Every series of requests in this process: who counts holds cells of their own, a scrape adds them up.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
};

use super::labels::Tags;

/// The most sets of labels that are counted apart. What comes later is counted in one series that says nothing but
/// the protocol: a client that invents values costs no memory beyond this.
pub(crate) const MAX_SERIES: usize = 16_384;

/// Upper bounds of all histograms: Envoy's defaults, which Istio does not change.
const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];
/// The same in thousandths, in which everything is added up.
const MILLI: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// One counter that one thread writes.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Not one indivisible step: cells are written by the one thread that claimed them.
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram that one thread writes.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Count; MILLI.len()],
    above: Count,
    /// In thousandths.
    sum: Count,
}

impl Histogram {
    pub(super) fn time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn bytes(&self, bytes: u64) {
        self.observe(bytes.saturating_mul(1_000));
    }

    fn observe(&self, milli: u64) {
        let at = MILLI.partition_point(|bound| *bound < milli);
        self.buckets.get(at).unwrap_or(&self.above).add(1);
        self.sum.add(milli);
    }
}

/// All that is counted under one set of labels.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub(super) requests: Count,
    pub(super) request_messages: Count,
    pub(super) response_messages: Count,
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    pub(super) tcp: TcpCells,
}

/// Counters of connections, which may end on another thread than they began.
#[derive(Debug, Default)]
pub(super) struct TcpCells {
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// The cells of one set of labels: of those who count now, and of those who once did.
#[derive(Debug, Default)]
struct Entry {
    cells: Vec<Arc<Cells>>,
    /// The sum of all at the last sweep.
    swept: u64,
}

impl Entry {
    fn sum(&self, read: impl Fn(&Cells) -> u64) -> u64 {
        self.cells.iter().fold(0, |sum, cells| sum.wrapping_add(read(cells)))
    }

    fn is_held(&mut self) -> bool {
        self.cells.iter_mut().any(|cells| Arc::get_mut(cells).is_none())
    }
}

/// Every series of requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    series: RwLock<BTreeMap<Tags, Entry>>,
    overflowed: AtomicU64,
}

impl Requests {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Tags, Entry>> {
        self.series.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Tags, Entry>> {
        self.series.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cells that nobody else counts in, under those labels, or under none if there are too many.
    pub(super) fn claim(&self, tags: Tags) -> Arc<Cells> {
        let mut series = self.write();
        let tags = if series.len() >= MAX_SERIES && !series.contains_key(&tags) {
            self.overflowed.fetch_add(1, Relaxed);
            tags.overflow()
        } else {
            tags
        };
        let cells = &mut series.entry(tags).or_default().cells;
        // What somebody left is taken over; `get_mut` sees all that was counted there.
        if let Some(left) = cells.iter_mut().find_map(|cells| Arc::get_mut(cells).is_some().then_some(cells)) {
            return left.clone();
        }
        let new = Arc::<Cells>::default();
        cells.push(new.clone());
        new
    }

    /// How often a set of labels was one too many.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// Drops what nobody holds and nobody counted on since the last sweep.
    pub(crate) fn sweep(&self) {
        self.write().retain(|_, entry| {
            let sum = entry.sum(|cells| {
                let tcp = &cells.tcp;
                let of_requests = cells.requests.read().wrapping_add(cells.request_messages.read());
                let more = cells.response_messages.read().wrapping_add(count(&cells.duration));
                [&tcp.opened, &tcp.closed, &tcp.sent, &tcp.received]
                    .iter()
                    .fold(of_requests.wrapping_add(more), |sum, one| sum.wrapping_add(one.load(Relaxed)))
            });
            let idle = std::mem::replace(&mut entry.swept, sum) == sum;
            !idle || entry.is_held()
        });
    }
}

fn count(histogram: &Histogram) -> u64 {
    histogram.buckets.iter().fold(histogram.above.read(), |sum, bucket| sum.wrapping_add(bucket.read()))
}

/// A counter's name, what it says, and where it is.
type Column = (&'static str, &'static str, fn(&Cells) -> u64);

const COUNTERS: [Column; 7] = [
    ("istio_requests", "The total number of requests", |c| c.requests.read()),
    ("istio_request_messages", "The total number of gRPC messages sent from clients", |c| c.request_messages.read()),
    ("istio_response_messages", "The total number of gRPC messages sent from servers", |c| c.response_messages.read()),
    ("istio_tcp_connections_opened", "The total number of TCP connections opened", |c| c.tcp.opened.load(Relaxed)),
    ("istio_tcp_connections_closed", "The total number of TCP connections closed", |c| c.tcp.closed.load(Relaxed)),
    ("istio_tcp_received_bytes", "The size of total bytes received during request in case of a TCP connection", |c| {
        c.tcp.received.load(Relaxed)
    }),
    ("istio_tcp_sent_bytes", "The size of total bytes sent during response in case of a TCP connection", |c| {
        c.tcp.sent.load(Relaxed)
    }),
];

/// A histogram's name, what it says, and where it is.
type Spread = (&'static str, &'static str, fn(&Cells) -> &Histogram);

const HISTOGRAMS: [Spread; 3] = [
    ("istio_request_duration_milliseconds", "Duration of requests", |c| &c.duration),
    ("istio_request_bytes", "Size of requests with their heads", |c| &c.request_bytes),
    ("istio_response_bytes", "Size of responses with their heads", |c| &c.response_bytes),
];

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let series = self.read();
        for (name, help, read) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (tags, entry) in series.iter() {
                let value = entry.sum(read);
                if value > 0 {
                    metric.encode_family(tags)?.encode_counter(&value, None::<&Exemplar<NoLabelSet, u64>>)?;
                }
            }
        }
        for (name, help, histogram) in HISTOGRAMS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (tags, entry) in series.iter() {
                let at = |i: usize| entry.sum(|cells| histogram(cells).buckets.get(i).map_or(0, Count::read));
                let mut buckets: Vec<(f64, u64)> =
                    BOUNDS.iter().enumerate().map(|(i, bound)| (*bound, at(i))).collect();
                buckets.push((f64::MAX, entry.sum(|cells| histogram(cells).above.read())));
                let count: u64 = buckets.iter().map(|(_, count)| count).sum();
                if count > 0 {
                    let sum = thousandths(entry.sum(|cells| histogram(cells).sum.read()));
                    metric.encode_family(tags)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                }
            }
        }
        Ok(())
    }
}

/// A sum of thousandths as what it is a sum of.
fn thousandths(sum: u64) -> f64 {
    Duration::from_millis(sum).as_secs_f64()
}
