//! One worker's counting: it finds the cells of a request by what the request is about, and makes no label on the way.

use std::{
    hash::BuildHasher,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use hashbrown::HashTable;
use weir_model::{Metric, MetricSettings, TagChange};

use super::{
    HttpRecord, TcpSubject, fact,
    labels::{Kept, Tags, View},
    series::{Cells, Requests},
};

/// Sets of labels a worker remembers before it starts anew.
const REMEMBERED: usize = 4_096;

/// The counters of one worker. Its memory is bounded; what it has seen lately costs no lock, no allocation and no write to
/// memory that another worker writes.
#[derive(Debug)]
pub struct HttpMeter {
    all: Arc<Requests>,
    known: HashTable<Known>,
    hasher: foldhash::fast::RandomState,
}

/// What is known of one set of labels.
#[derive(Debug)]
struct Known {
    hash: u64,
    kept: Kept,
    settings: Arc<MetricSettings>,
    /// What the settings ask of a request, in the order of [`asked`].
    values: Vec<Option<Arc<str>>>,
    handles: Handles,
}

/// Where each metric is counted, if it is.
type Handles = [Option<Arc<Cells>>; Metric::ALL.len()];

/// The counters of one connection that is not HTTP.
#[derive(Debug, Clone)]
pub struct TcpCounts {
    opened: Option<Arc<Cells>>,
    closed: Option<Arc<Cells>>,
    sent: Option<Arc<Cells>>,
    received: Option<Arc<Cells>>,
}

impl TcpCounts {
    /// It was established.
    pub fn opened(&self) {
        if let Some(cells) = &self.opened {
            cells.tcp.opened.fetch_add(1, Relaxed);
        }
    }

    /// It ended.
    pub fn closed(&self) {
        if let Some(cells) = &self.closed {
            cells.tcp.closed.fetch_add(1, Relaxed);
        }
    }

    /// Bytes from the server to the client: `istio_tcp_sent_bytes_total`.
    pub fn sent(&self, bytes: u64) {
        if let Some(cells) = &self.sent {
            cells.tcp.sent.fetch_add(bytes, Relaxed);
        }
    }

    /// Bytes from the client to the server.
    pub fn received(&self, bytes: u64) {
        if let Some(cells) = &self.received {
            cells.tcp.received.fetch_add(bytes, Relaxed);
        }
    }
}

impl HttpMeter {
    pub(crate) fn new(all: Arc<Requests>) -> Self {
        Self { all, known: HashTable::new(), hasher: foldhash::fast::RandomState::default() }
    }

    /// Forgets objects of a mesh that is no more.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Counts a request that ended.
    pub fn count(&mut self, record: &HttpRecord<'_>, settings: &Arc<MetricSettings>) {
        let values = asked(settings).map(|fact| fact::value(fact, record).map(|value| Arc::from(&*value))).collect();
        let handles = self.handles(&View::of_request(record), settings, values);
        let at = |metric| handles[index(metric)].as_ref();
        if let Some(cells) = at(Metric::RequestCount) {
            cells.requests.add(1);
        }
        if let Some(cells) = at(Metric::RequestDuration) {
            cells.duration.time(record.duration);
        }
        if let Some(cells) = at(Metric::RequestSize) {
            cells.request_bytes.bytes(record.wire_received);
        }
        if let Some(cells) = at(Metric::ResponseSize) {
            cells.response_bytes.bytes(record.wire_sent);
        }
        let Some(grpc) = record.grpc else { return };
        if let Some(cells) = at(Metric::RequestMessages) {
            cells.request_messages.add(grpc.request_messages);
        }
        if let Some(cells) = at(Metric::ResponseMessages) {
            cells.response_messages.add(grpc.response_messages);
        }
    }

    /// The counters of a connection that is not HTTP. Of what the settings ask, only what is given beforehand is known of it.
    pub fn connection(&mut self, subject: &TcpSubject<'_>, settings: &Arc<MetricSettings>) -> TcpCounts {
        let values = asked(settings).map(fact::literal).collect();
        let handles = self.handles(&View::of_connection(subject), settings, values);
        let at = |metric| handles[index(metric)].clone();
        TcpCounts {
            opened: at(Metric::TcpOpened),
            closed: at(Metric::TcpClosed),
            sent: at(Metric::TcpSent),
            received: at(Metric::TcpReceived),
        }
    }

    fn handles(&mut self, view: &View<'_>, settings: &Arc<MetricSettings>, values: Vec<Option<Arc<str>>>) -> &Handles {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let hash = self.hasher.hash_one((view, &values));
        let alike = |known: &Known| {
            known.hash == hash
                && known.values == values
                && (Arc::ptr_eq(&known.settings, settings) || known.settings == *settings)
                && known.kept.is(view)
        };
        let known = match self.known.find_entry(hash, alike) {
            Ok(known) => known.into_mut(),
            Err(absent) => {
                let handles = claim(&self.all, view, settings, &values);
                let known = Known { hash, kept: view.into(), settings: settings.clone(), values, handles };
                absent.into_table().insert_unique(hash, known, |known| known.hash).into_mut()
            }
        };
        &known.handles
    }
}

/// What the settings ask of each request, metric by metric.
fn asked(settings: &MetricSettings) -> impl Iterator<Item = &weir_model::Fact> {
    let tags = settings.changed.values().flat_map(|change| change.tags.values());
    tags.filter_map(|tag| match tag {
        TagChange::Set(fact) => Some(fact),
        TagChange::Remove => None,
    })
}

fn index(metric: Metric) -> usize {
    Metric::ALL.iter().position(|one| *one == metric).expect("ALL has every metric")
}

/// Cells for each metric that is counted, the same ones for all with the same labels.
fn claim(all: &Requests, view: &View<'_>, settings: &MetricSettings, values: &[Option<Arc<str>>]) -> Handles {
    let standard = Tags::standard(view);
    let mut claimed: Vec<(Tags, Arc<Cells>)> = Vec::with_capacity(1);
    Metric::ALL.map(|metric| {
        let tags = match settings.changed.get(&metric) {
            None => standard.clone(),
            Some(change) if change.disabled => return None,
            Some(change) => {
                // Its values stand behind those of the metrics before it.
                let before = settings.changed.range(..metric).map(|(_, change)| set(change)).sum::<usize>();
                let own = change.tags.iter().filter(|(_, tag)| matches!(tag, TagChange::Set(_))).map(|(key, _)| key);
                let own: Vec<_> = own.zip(values.iter().skip(before)).collect();
                standard.changed(change, |key| {
                    own.iter().find(|(one, _)| *one == key).and_then(|(_, value)| (*value).clone())
                })
            }
        };
        if let Some((_, cells)) = claimed.iter().find(|(one, _)| *one == tags) {
            return Some(cells.clone());
        }
        let cells = all.claim(tags.clone());
        claimed.push((tags, cells.clone()));
        Some(cells)
    })
}

/// How many labels a change sets.
fn set(change: &weir_model::MetricChange) -> usize {
    change.tags.values().filter(|tag| matches!(tag, TagChange::Set(_))).count()
}

#[cfg(test)]
mod tests;
