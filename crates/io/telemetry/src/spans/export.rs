//! Spans on their way out: workers put them into a queue with a bound, one task sends them in batches.

mod send;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prost::Message;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::{OtlpEndpoint, Span, otlp};
use crate::{Kind, Metrics, Sample, Value, error::with_causes};
use send::{SendError, send};

/// Spans that may wait. OpenTelemetry's `OTEL_BSP_MAX_QUEUE_SIZE`.
const QUEUE: usize = 2_048;
/// Spans in one message. `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
const BATCH: usize = 512;
/// How often a message is sent that the collector could not take.
const TRIES: u32 = 3;

/// How fast spans are sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long spans are gathered after the first. `OTEL_BSP_SCHEDULE_DELAY`.
    pub gather: Duration,
    /// How long one message may take, with its answer.
    pub deadline: Duration,
    /// How long to wait before a message is sent again; twice as long each time.
    pub pause: Duration,
}

impl Default for Pace {
    /// OpenTelemetry's: five seconds; ten for the collector; a second.
    fn default() -> Self {
        Self { gather: Duration::from_secs(5), deadline: Duration::from_secs(10), pause: Duration::from_secs(1) }
    }
}

/// A worker's end of the queue. Clone one for each worker.
#[derive(Debug, Clone)]
pub struct SpanLog {
    queue: mpsc::Sender<Span>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    /// The queue was full.
    full: AtomicU64,
    /// The collector did not take them, or was not there.
    lost: AtomicU64,
}

/// The other end, which sends what is in the queue.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Receiver<Span>,
    counts: Arc<Counts>,
    endpoint: OtlpEndpoint,
    resource: Vec<(String, String)>,
    pace: Pace,
    /// A message on its way, and how many spans it has: sent again if it is interrupted.
    under_way: Option<(u64, Vec<u8>)>,
    /// The last message was not taken: that was said, and is not said again.
    failing: bool,
}

/// A queue to a collector. `resource` says what the spans are of, `service.name` first of all.
pub fn exporter(endpoint: OtlpEndpoint, resource: Vec<(String, String)>, pace: Pace) -> (SpanLog, Exporter) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let counts = Arc::<Counts>::default();
    let log = SpanLog { queue: sender, counts: counts.clone() };
    (log, Exporter { queue, counts, endpoint, resource, pace, under_way: None, failing: false })
}

impl SpanLog {
    /// Takes a span. Never waits: when the queue is full, or its other end gone, the span is dropped and counted.
    pub fn report(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.counts.full.fetch_add(1, Relaxed);
        }
    }

    /// Shows how many spans were sent, and how many were not and why.
    pub fn collect(&self, metrics: &Metrics) {
        let counts = self.counts.clone();
        metrics.collect("weir_spans_sent", "Spans that a collector took", Kind::Counter, move || {
            vec![Sample { labels: Vec::new(), value: Value::Whole(counts.sent.load(Relaxed)) }]
        });
        let counts = self.counts.clone();
        metrics.collect("weir_spans_dropped", "Spans that no collector took", Kind::Counter, move || {
            let sample = |reason: &str, count: &AtomicU64| Sample {
                labels: vec![("reason", reason.to_owned())],
                value: Value::Whole(count.load(Relaxed)),
            };
            vec![sample("queue_full", &counts.full), sample("not_taken", &counts.lost)]
        });
    }
}

impl Exporter {
    /// Sends spans until `stop`, or until nobody is left to report one; then what is in the queue, within one deadline.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut batch = Vec::new();
        tokio::select! {
            () = stop => {}
            () = self.follow(&mut batch) => {}
        }
        self.queue.close();
        let until = Instant::now() + self.pace.deadline;
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.queue.try_recv()
            {
                batch.push(span);
            }
            let next = self.under_way.take().or_else(|| (!batch.is_empty()).then(|| self.message(&mut batch)));
            let Some((count, message)) = next else { return };
            let sent = timeout_at(until, send(&self.endpoint, message, self.pace.deadline)).await;
            self.settle(count, sent.unwrap_or(Err(SendError::Deadline { within: self.pace.deadline })));
        }
    }

    async fn follow(&mut self, batch: &mut Vec<Span>) {
        while self.gather(batch).await {
            let (count, message) = self.message(batch);
            self.under_way = Some((count, message.clone()));
            let answer = self.send_surely(message).await;
            self.under_way = None;
            self.settle(count, answer);
        }
    }

    /// Waits for spans; whether there are any, or ever will be.
    async fn gather(&mut self, batch: &mut Vec<Span>) -> bool {
        if self.queue.recv_many(batch, BATCH).await == 0 {
            return false;
        }
        let until = Instant::now() + self.pace.gather;
        while batch.len() < BATCH {
            match timeout_at(until, self.queue.recv_many(batch, BATCH - batch.len())).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        true
    }

    /// The message with these spans, and how many they are.
    fn message(&self, batch: &mut Vec<Span>) -> (u64, Vec<u8>) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        (count, otlp::request(&self.resource, batch.drain(..)).encode_to_vec())
    }

    async fn send_surely(&self, message: Vec<u8>) -> Result<u64, SendError> {
        let mut pause = self.pace.pause;
        for _ in 1..TRIES {
            match send(&self.endpoint, message.clone(), self.pace.deadline).await {
                Err(error) if error.may_pass() => {}
                answer => return answer,
            }
            sleep(pause).await;
            pause *= 2;
        }
        send(&self.endpoint, message, self.pace.deadline).await
    }

    /// Counts what became of a message of so many spans; says so when that is different from before.
    fn settle(&mut self, count: u64, answer: Result<u64, SendError>) {
        match answer {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.counts.sent.fetch_add(count - rejected, Relaxed);
                self.counts.lost.fetch_add(rejected, Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(endpoint = %self.endpoint, "the collector takes spans again");
                }
            }
            Err(error) => {
                self.counts.lost.fetch_add(count, Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    let error = with_causes(&error);
                    tracing::warn!(endpoint = %self.endpoint, error, "the collector does not take spans: they are dropped");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
