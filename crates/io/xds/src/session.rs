//! One stream: requests as they come, changes as they come, responses as the subscriber takes them.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::{Code, Status, Streaming};

use crate::{
    kind::{KINDS, Kind},
    proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    request::{Node, Request},
    response::MORE,
    server::{Entry, Push, Refused, Shared},
    subscription::{Settled, Subscription},
};

/// A stream that is open.
pub(crate) struct Session {
    shared: Arc<Shared>,
    requests: Streaming<DeltaDiscoveryRequest>,
    extensions: http::Extensions,
    entry: Entry,
    /// How reports call it, once it said who it is.
    label: String,
    changes: watch::Receiver<u64>,
    /// When it must have said who it is.
    introduce_by: Instant,
    /// Nothing until it said who it is.
    subscriptions: Option<[Subscription; KINDS]>,
    /// When the response under way must have been answered, for each kind.
    answer_by: [Option<Instant>; KINDS],
    /// When what changed is sent.
    send_at: Option<Instant>,
    /// When changes were sent last.
    pushed_at: Option<Instant>,
    /// For each kind whether the response under way is not the last of its answer.
    more: [bool; KINDS],
    /// Whether there may be something to send.
    ready: bool,
    /// The kind whose turn it is: neither waits for all of the other.
    turn: usize,
}

/// What a session waited for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
enum Woken {
    Request(Result<Option<DeltaDiscoveryRequest>, Status>),
    Change,
    Time,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        requests: Streaming<DeltaDiscoveryRequest>,
        extensions: http::Extensions,
        entry: Entry,
    ) -> Self {
        let introduce_by = Instant::now() + shared.limits.introduction;
        let changes = shared.store.watch();
        Self {
            shared,
            requests,
            extensions,
            entry,
            label: String::new(),
            changes,
            introduce_by,
            subscriptions: None,
            answer_by: [None; KINDS],
            send_at: None,
            pushed_at: None,
            more: [false; KINDS],
            ready: false,
            turn: 0,
        }
    }

    /// The next response; nothing when the subscriber has ended the stream.
    ///
    /// # Errors
    /// With what the stream ends with.
    pub(crate) async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        loop {
            if self.ready
                && let Some(response) = self.respond()?
            {
                return Ok(Some(response));
            }
            self.ready = false;
            match self.wait().await {
                Woken::Request(Ok(Some(request))) => self.take(request)?,
                Woken::Request(Ok(None)) => return Ok(None),
                Woken::Request(Err(status)) if status.code() == Code::OutOfRange => {
                    // What tonic says of a message beyond the bound, in the words of gRPC.
                    let why = format!("a request is too long: {}", status.message());
                    return Err(self.refuse(Status::resource_exhausted(why)));
                }
                Woken::Request(Err(status)) => return Err(status),
                Woken::Change => self.send_at = Some(self.due()),
                Woken::Time => self.time()?,
            }
        }
    }

    /// When what changes now is sent: soon, and not soon after what was sent before. A thousand subscribers of a mesh that always
    /// changes would else cost a thousand responses for each change.
    fn due(&self) -> Instant {
        let soon = Instant::now() + self.shared.limits.debounce;
        self.pushed_at.map_or(soon, |at| soon.max(at + self.shared.limits.pace))
    }

    async fn wait(&mut self) -> Woken {
        let introduction = self.subscriptions.is_none().then_some(self.introduce_by);
        let deadlines = self.answer_by.into_iter().chain([introduction, self.send_at]).flatten();
        let deadline = deadlines.min();
        tokio::select! {
            request = self.requests.message() => Woken::Request(request),
            // The store outlives its sessions: there is always a sender.
            _ = self.changes.changed(), if self.send_at.is_none() && self.subscriptions.is_some() => Woken::Change,
            () = async { sleep_until(deadline.unwrap_or(self.introduce_by)).await }, if deadline.is_some() => Woken::Time,
        }
    }

    /// Takes a request.
    fn take(&mut self, wire: DeltaDiscoveryRequest) -> Result<(), Status> {
        let request = Request::read(wire).map_err(|error| {
            let text = error.to_string();
            let too_much = error.is_too_much();
            self.refuse(if too_much { Status::resource_exhausted(text) } else { Status::invalid_argument(text) })
        })?;
        if self.subscriptions.is_none() {
            let subscriptions = self.introduce(request.node.as_ref())?;
            self.subscriptions = Some(subscriptions);
        }
        let kind = request.kind;
        let Some(subscriptions) = &mut self.subscriptions else { return Ok(()) };
        let subscription = &mut subscriptions[kind.index()];
        let timed = self.shared.store.read(kind);
        let settled = subscription.request(&timed.table, request);
        let standing = subscription.standing(&timed.table);
        drop(timed);
        let (pending, more) = (standing.pending, self.more.contains(&true));
        // Of either kind: one may have waited for the other.
        let owes = subscriptions.iter().any(Subscription::owes);
        let settled = settled.map_err(|error| self.refuse(Status::resource_exhausted(error.to_string())))?;
        match settled {
            Settled::Ack => self.shared.stats.acked(kind),
            Settled::Nack => {
                let why = standing.nacked.as_ref().map_or("", |(_, why)| why);
                tracing::warn!(%kind, subscriber = %self.label, why, "a response was not taken");
                self.shared.stats.nacked(kind);
            }
            Settled::Nothing => {}
        }
        if !standing.in_flight {
            self.answer_by[kind.index()] = None;
        }
        self.entry.write(|report| report.standing[kind.index()] = standing);
        match settled {
            // Who took one response is not sent the next at once, unless it waits for it.
            Settled::Ack | Settled::Nack if !owes && !more => {
                if pending && self.send_at.is_none() {
                    self.send_at = Some(self.due());
                }
            }
            Settled::Ack | Settled::Nack | Settled::Nothing => self.ready = true,
        }
        Ok(())
    }

    /// Asks who it is, as its first request must say.
    fn introduce(&mut self, node: Option<&Node>) -> Result<[Subscription; KINDS], Status> {
        let missing = || self.refuse(Status::invalid_argument("the first request names no node"));
        let node = node.ok_or_else(missing)?;
        let subscriber = (self.shared.admit)(&self.extensions, node).map_err(|refused| {
            self.refuse(match refused {
                Refused::Unauthenticated(why) => Status::unauthenticated(why),
                Refused::Denied(why) => Status::permission_denied(why),
            })
        })?;
        self.entry.write(|report| {
            report.label.clone_from(&subscriber.label);
            report.id.clone_from(&node.id);
            report.node.clone_from(&subscriber.node);
        });
        self.label = subscriber.label;
        Ok(Kind::ALL.map(|kind| Subscription::new(kind, subscriber.node.clone())))
    }

    /// The next response, if there is anything to say.
    fn respond(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        let Some(subscriptions) = &mut self.subscriptions else { return Ok(None) };
        for step in 0..Kind::ALL.len() {
            let at = (self.turn + step) % Kind::ALL.len();
            if waits(Kind::ALL[at], subscriptions) {
                continue;
            }
            let subscription = &mut subscriptions[at];
            let timed = self.shared.store.read(Kind::ALL[at]);
            let seen = subscription.seen();
            let response = subscription
                .next(&timed.table, self.shared.limits.response_bytes)
                .map_err(|behind| Status::unavailable(behind.to_string()))?;
            let Some(response) = response else { continue };
            let changed = seen.and_then(|seen| timed.since(seen));
            let standing = subscription.standing(&timed.table);
            drop(timed);
            self.turn = (at + 1) % Kind::ALL.len();
            self.more[at] = response.version.ends_with(MORE);
            if seen.is_some() {
                self.pushed_at = Some(Instant::now());
            }
            self.answer_by[at] = Some(Instant::now() + self.shared.limits.answer);
            self.entry.write(|report| report.standing[at] = standing);
            self.shared.pushed(&Push {
                kind: response.kind,
                resources: response.resources.len(),
                removed: response.removed.len(),
                bytes: response.size,
                latency: changed.map(|changed| changed.elapsed()),
            });
            return Ok(Some(response.into_wire()));
        }
        Ok(None)
    }

    /// Something was to have happened by now.
    fn time(&mut self) -> Result<(), Status> {
        let now = Instant::now();
        if self.subscriptions.is_none() && self.introduce_by <= now {
            let limit = self.shared.limits.introduction;
            return Err(self.refuse(Status::deadline_exceeded(format!("no request within {limit:?}"))));
        }
        if self.answer_by.into_iter().flatten().any(|by| by <= now) {
            let limit = self.shared.limits.answer;
            return Err(self.refuse(Status::deadline_exceeded(format!("a response was not answered within {limit:?}"))));
        }
        if self.send_at.is_some_and(|at| at <= now) {
            self.send_at = None;
            self.ready = true;
        }
        Ok(())
    }

    /// Counts a stream that is ended by us, and says whose.
    fn refuse(&self, status: Status) -> Status {
        self.shared.stats.refuse();
        // One that was refused before it said who it is has proven it all the same, or not.
        let who = self.entry.label().filter(|label| !label.is_empty()).unwrap_or_else(|| {
            match (self.shared.admit)(&self.extensions, &Node::default()) {
                Ok(subscriber) => subscriber.label,
                Err(refused) => refused.to_string(),
            }
        });
        tracing::warn!(subscriber = who, code = ?status.code(), reason = status.message(), "a subscriber was refused");
        status
    }
}

/// Whether the kind's first answer waits for that of another. ztunnel takes itself for ready at the first response of each kind, and
/// sends in the clear to addresses it does not know: policies come when all parts of the addresses are under way.
fn waits(kind: Kind, subscriptions: &[Subscription; KINDS]) -> bool {
    match kind {
        Kind::Address | Kind::Object => false,
        Kind::Authorization => {
            subscriptions[kind.index()].is_beginning() && subscriptions[Kind::Address.index()].is_beginning()
        }
    }
}
