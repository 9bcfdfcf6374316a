//! What is told of each connection: metrics while it runs, a log line when it ends.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{Hash, Hasher},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use serde_json::{Value, json};
use slab::Slab;
use weir_hbone::Meter;
use weir_model::{ResponseFlag, Service, SpiffeId, Workload};
use weir_telemetry::{
    AccessEntry, AccessEvent, AccessLog, AccessParty, Direction, Metrics, Reporter, SecurityPolicy, TcpLabels,
    TcpSeries,
};
use weir_world::{Refusal, World};

use crate::refusals::{self, Ends, Refuser};

/// Series a worker remembers before it starts anew: pairs of workloads it saw talk.
const REMEMBERED: usize = 4_096;
/// Most connections that are looked at for one question: others want their turn.
const LOOKED_AT: usize = 1_024;

/// One end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    pub(crate) address: SocketAddr,
    pub(crate) workload: Option<Arc<Workload>>,
    /// Who it is, if that was proven or is our own.
    pub(crate) identity: Option<SpiffeId>,
}

/// What a connection is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) direction: Direction,
    pub(crate) source: Party,
    pub(crate) destination: Party,
    pub(crate) service: Option<Arc<Service>>,
    /// Where the tunnel ends, if there is one.
    pub(crate) tunnel: Option<SocketAddr>,
}

/// The observer of one worker.
pub(crate) struct Observer {
    metrics: Arc<Metrics>,
    access: Option<AccessLog>,
    series: RefCell<HashMap<SeriesKey, Arc<TcpSeries>, foldhash::fast::RandomState>>,
    refuser: Refuser,
    /// What is open now.
    open: RefCell<Slab<Rc<Open>>>,
}

/// A connection that is open: what it is about, and what it has moved.
struct Open {
    subject: Subject,
    since: Instant,
    sent: Cell<u64>,
    received: Cell<u64>,
}

/// Labels by the objects they come from: no label is made on the way of a connection.
#[derive(PartialEq, Eq)]
struct SeriesKey {
    direction: Direction,
    source: Option<Arc<Workload>>,
    /// Who the source proved to be, when its workload is not known.
    stranger: Option<SpiffeId>,
    destination: Option<Arc<Workload>>,
    service: Option<Arc<Service>>,
    flag: ResponseFlag,
    security: SecurityPolicy,
}

impl Hash for SeriesKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for workload in [&self.source, &self.destination].into_iter().flatten() {
            workload.uid.hash(state);
        }
        if let Some(service) = &self.service {
            service.name.hash(state);
        }
    }
}

impl Observer {
    pub(crate) fn new(metrics: Arc<Metrics>, access: Option<AccessLog>, refuser: Refuser) -> Self {
        Self { metrics, access, series: RefCell::default(), refuser, open: RefCell::default() }
    }

    /// Forgets objects of a mesh that is no more.
    pub(crate) fn forget(&self) {
        self.series.borrow_mut().clear();
    }

    fn series(&self, subject: &Subject, flag: ResponseFlag) -> Arc<TcpSeries> {
        let security = if subject.tunnel.is_some() { SecurityPolicy::MutualTls } else { SecurityPolicy::Unknown };
        let key = SeriesKey {
            direction: subject.direction,
            source: subject.source.workload.clone(),
            stranger: subject.source.identity.clone().filter(|_| subject.source.workload.is_none()),
            destination: subject.destination.workload.clone(),
            service: subject.service.clone(),
            flag,
            security,
        };
        let mut known = self.series.borrow_mut();
        if let Some(series) = known.get(&key) {
            return series.clone();
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let reporter = match subject.direction {
            Direction::Inbound => Reporter::Destination,
            Direction::Outbound => Reporter::Source,
        };
        let mut labels = TcpLabels::new(
            reporter,
            key.source.as_deref(),
            key.destination.as_deref(),
            key.service.as_deref(),
            flag,
            security,
        );
        if let Some(identity) = &key.stranger {
            labels = labels.proven(identity.clone());
        }
        let series = self.metrics.series(&labels);
        known.insert(key, series.clone());
        series
    }

    /// A connection that came about.
    pub(crate) fn opened(self: &Rc<Self>, subject: Subject, since: Instant) -> Flow {
        let series = self.series(&subject, ResponseFlag::None);
        series.opened();
        self.gauge(subject.direction).inc();
        let open = Rc::new(Open { subject, since, sent: Cell::new(0), received: Cell::new(0) });
        let number = self.open.borrow_mut().insert(open.clone());
        let flow = Flow { observer: self.clone(), open, number, series, done: false };
        flow.log(AccessEvent::Opened, None);
        flow
    }

    /// A connection that did not come about, and why.
    pub(crate) fn failed(&self, subject: &Subject, flag: ResponseFlag, since: Instant, reason: &str) {
        self.told_failed(subject, flag, since, reason);
        self.refuser.note(subject, flag, reason, None);
    }

    /// One that what the mesh knows does not allow.
    pub(crate) fn refused(&self, subject: &Subject, since: Instant, by: &Refusal) {
        let (flag, reason) = (by.response_flag(), by.to_string());
        self.told_failed(subject, flag, since, &reason);
        self.refuser.note(subject, flag, &reason, Some(by));
    }

    /// One that its client took back.
    pub(crate) fn withdrawn(&self, subject: &Subject, since: Instant) {
        self.told_failed(subject, ResponseFlag::Connect, since, "taken back by the peer");
    }

    /// One of which too little is known for a line of the access log.
    pub(crate) fn unknown(&self, subject: &Subject, flag: ResponseFlag, reason: &str) {
        self.refuser.note(subject, flag, reason, None);
    }

    fn told_failed(&self, subject: &Subject, flag: ResponseFlag, since: Instant, reason: &str) {
        self.series(subject, flag).failed();
        self.log(subject, AccessEvent::Failed, since, (0, 0), Some(reason));
    }

    /// At most `most` of what is open, from a number on; and the number to go on from, if there may be more.
    pub(crate) fn list(&self, world: &World, ends: &Ends, from: usize, most: usize) -> (Vec<Value>, Option<usize>) {
        let open = self.open.borrow();
        let all = open.capacity();
        let (mut found, mut number) = (Vec::new(), from);
        while number < all.min(from.saturating_add(LOOKED_AT)) && found.len() < most {
            let one = open.get(number).filter(|one| ends.has(&one.subject.source, &one.subject.destination));
            found.extend(one.map(|one| one.told(world)));
            number += 1;
        }
        (found, (number < all).then_some(number))
    }

    fn gauge(&self, direction: Direction) -> &weir_telemetry::Gauge {
        match direction {
            Direction::Inbound => &self.metrics.open_inbound,
            Direction::Outbound => &self.metrics.open_outbound,
        }
    }

    fn log(&self, subject: &Subject, event: AccessEvent, since: Instant, bytes: (u64, u64), error: Option<&str>) {
        let Some(access) = self.access.as_ref().filter(|a| a.wants(event)) else { return };
        let tunnel = subject.tunnel.map(|t| t.to_string());
        let party = |p: &'_ Party| -> (SocketAddr, Option<Arc<Workload>>, Option<SpiffeId>) {
            (p.address, p.workload.clone(), p.identity.clone())
        };
        let (source, destination) = (party(&subject.source), party(&subject.destination));
        let (bytes_sent, bytes_received) = bytes;
        access.log(&AccessEntry {
            at: SystemTime::now(),
            event,
            source: AccessParty { address: source.0, workload: source.1.as_deref(), identity: source.2.as_ref() },
            destination: AccessParty {
                address: destination.0,
                workload: destination.1.as_deref(),
                identity: destination.2.as_ref(),
            },
            hbone_address: tunnel.as_deref(),
            service: subject.service.as_ref().map(|s| &s.name.hostname),
            direction: subject.direction,
            bytes_sent,
            bytes_received,
            duration: since.elapsed(),
            error,
        });
    }
}

/// A connection while it runs. Dropping it counts as its end.
pub(crate) struct Flow {
    observer: Rc<Observer>,
    open: Rc<Open>,
    number: usize,
    series: Arc<TcpSeries>,
    done: bool,
}

impl Flow {
    /// Bytes from the client, and to it.
    pub(crate) fn moved(&self, from_client: u64, to_client: u64) {
        if from_client > 0 {
            self.open.received.set(self.open.received.get() + from_client);
            self.series.received(from_client);
        }
        if to_client > 0 {
            self.open.sent.set(self.open.sent.get() + to_client);
            self.series.sent(to_client);
        }
    }

    /// The end, and what broke it if it broke.
    pub(crate) fn ended(mut self, error: Option<&str>) {
        self.finish(error);
    }

    /// The end that a change of policy brought. Its flag is that of a connection which may not come in; what it moved is counted
    /// without.
    pub(crate) fn forbidden(mut self, why: &Refusal) {
        let (subject, flag) = (&self.open.subject, why.response_flag());
        self.series = self.observer.series(subject, flag);
        let reason = format!("closed by a change of policy: {why}");
        self.observer.refuser.note(subject, flag, &reason, Some(why));
        self.finish(Some(&reason));
    }

    fn finish(&mut self, error: Option<&str>) {
        if !self.done {
            self.done = true;
            self.observer.open.borrow_mut().try_remove(self.number);
            self.series.closed();
            self.observer.gauge(self.open.subject.direction).dec();
            self.log(AccessEvent::Complete, error);
        }
    }

    fn log(&self, event: AccessEvent, error: Option<&str>) {
        let Open { subject, since, sent, received } = &*self.open;
        self.observer.log(subject, event, *since, (sent.get(), received.get()), error);
    }
}

impl Open {
    fn told(&self, world: &World) -> Value {
        let Subject { direction, source, destination, service, tunnel } = &self.subject;
        json!({
            "direction": refusals::in_words(*direction),
            "source": refusals::end(world, source),
            "destination": refusals::end(world, destination),
            "service": service.as_ref().map(|service| service.name.hostname.as_str()),
            "protocol": if tunnel.is_some() { "HBONE" } else { "TCP" },
            "target": tunnel.map(|tunnel| tunnel.to_string()),
            "seconds": self.since.elapsed().as_secs(),
            "bytesSent": self.sent.get(),
            "bytesReceived": self.received.get(),
        })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.finish(Some("closed by the agent"));
    }
}

impl Meter for Flow {
    fn moved(&self, into_tunnel: u64, out_of_tunnel: u64) {
        match self.open.subject.direction {
            Direction::Outbound => Self::moved(self, into_tunnel, out_of_tunnel),
            Direction::Inbound => Self::moved(self, out_of_tunnel, into_tunnel),
        }
    }
}
