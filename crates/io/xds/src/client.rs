//! The other end: a control plane's deltas, whatever becomes of the connections they come over.
//!
//! What is known outlives a connection. On the next one it is said in `initial_resource_versions`, and what a control plane does not know
//! any more it says to be removed: so do `weir-control` and istiod, which besides sends everything again. The list is bounded; what
//! did not find room in it and is not sent again in the first answer is gone. The sum of everything stands in
//! it under the name `*`: `weir-control` then answers with nothing at all, and for istiod it asks for what is asked for anyway.
//!
//! A resource that cannot be read is refused by name and the rest of its response taken; what was known of it stays known.

#[cfg(test)]
mod cost;
mod held;
mod link;
mod versions;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    pin::Pin,
    time::Duration,
};

use rand::Rng;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tonic::{body::Body, client::GrpcService, codegen};
use weir_model::Namespace;
use weir_world::{Delta, World};

use crate::{
    kind::Kind,
    proto::DeltaDiscoveryResponse,
    request::{MAX_NAME_BYTES, MAX_NAMES_PER_REQUEST, Node},
    store::group,
};
use held::Held;
use link::Link;

pub use held::MAX_OBJECT_BYTES;

/// Before the first attempt after a failed one, at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Before any, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long an attempt may take, and then the first answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names that wait to be taken from the demands.
const MAX_DEMANDS: usize = 1024;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All workloads and services.
    Wildcard,
    /// Those of our node, and what is demanded by name.
    OnDemand,
    /// All workloads and services, no policies, and objects of the namespaces that are demanded: what a waypoint needs.
    Waypoint,
}

impl Mode {
    /// The kinds that are asked for, in their order.
    fn kinds(self) -> [Kind; 2] {
        match self {
            Self::Wildcard | Self::OnDemand => Kind::OF_AGENTS,
            Self::Waypoint => [Kind::Address, Kind::Object],
        }
    }

    /// Whether resources of the kind are demanded by name.
    fn demands(self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::OnDemand, Kind::Address) | (Self::Waypoint, Kind::Object) => true,
            (Self::Wildcard | Self::Waypoint, Kind::Address)
            | (Self::Wildcard | Self::OnDemand, Kind::Object)
            | (_, Kind::Authorization) => false,
        }
    }
}

/// What changed of one object that shapes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange {
    /// How it is called.
    pub name: String,
    /// The whole of it as it is now, JSON; none if it is gone.
    pub json: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The mesh changed.
    Delta(Delta),
    /// All that was asked for when the connection was made is there by now.
    Synced,
    /// The connection is gone, or was not made. What is known stays known, and the next attempt is under way.
    Lost(String),
    /// A resource cannot be read.
    Rejected {
        /// How it is called.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was demanded by this name is not in the mesh.
    Absent(String),
    /// Objects that shape requests changed.
    Objects(Vec<ObjectChange>),
    /// All objects that concern this namespace, which was demanded, are there by now. It is said again on each connection.
    Answered(Namespace),
}

/// Why a demand was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// No resource has such a name.
    #[error("a name of {len} bytes, expected 1 to {MAX_NAME_BYTES}")]
    Name {
        /// Its length.
        len: usize,
    },
    /// As many demands wait as may.
    #[error("{MAX_DEMANDS} demands wait already")]
    Full,
    /// The client is gone.
    #[error("nobody takes demands any more")]
    Closed,
}

/// Demands resources by name: workload uids, `namespace/hostname` of services, `network/ip` of either.
#[derive(Debug, Clone)]
pub struct Demand(mpsc::Sender<Wish>);

#[derive(Debug)]
enum Wish {
    For(Kind, String),
    NotFor(Kind, String),
}

impl Demand {
    /// Wants to know what is called so, and what becomes of it.
    ///
    /// # Errors
    /// When the name is none, or too many demands wait.
    pub fn subscribe(&self, name: &str) -> Result<(), DemandError> {
        self.wish(Wish::For(Kind::Address, checked(name)?))
    }

    /// Does not want to know any more.
    ///
    /// # Errors
    /// When the name is none, or too many demands wait.
    pub fn unsubscribe(&self, name: &str) -> Result<(), DemandError> {
        self.wish(Wish::NotFor(Kind::Address, checked(name)?))
    }

    /// Wants to know all objects that concern the namespace.
    ///
    /// # Errors
    /// When too many demands wait.
    pub fn subscribe_objects(&self, of: &Namespace) -> Result<(), DemandError> {
        self.wish(Wish::For(Kind::Object, group(of)))
    }

    /// Does not want to know them any more.
    ///
    /// # Errors
    /// When too many demands wait.
    pub fn unsubscribe_objects(&self, of: &Namespace) -> Result<(), DemandError> {
        self.wish(Wish::NotFor(Kind::Object, group(of)))
    }

    fn wish(&self, wish: Wish) -> Result<(), DemandError> {
        self.0.try_send(wish).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DemandError::Full,
            mpsc::error::TrySendError::Closed(_) => DemandError::Closed,
        })
    }
}

fn checked(name: &str) -> Result<String, DemandError> {
    let len = name.len();
    if (1..=MAX_NAME_BYTES).contains(&len) { Ok(name.to_owned()) } else { Err(DemandError::Name { len }) }
}

type Attempt = Pin<Box<dyn Future<Output = Result<Link, String>> + Send>>;

/// A link, or what there is instead.
enum State {
    /// The next attempt is made then.
    Waiting(Pin<Box<Sleep>>),
    /// An attempt is under way, with these names in its first request.
    Connecting(Attempt, BTreeSet<(Kind, String)>),
    /// There is one.
    Linked(Box<Link>),
}

/// A client of a control plane.
pub struct Client<C> {
    connect: C,
    mode: Mode,
    node: Node,
    state: State,
    /// Attempts since a link was last good.
    failures: u32,
    held: Held,
    asked: BTreeSet<(Kind, String)>,
    wishes: mpsc::Receiver<Wish>,
    demand: Demand,
    events: VecDeque<Event>,
    /// Namespaces whose objects are there when this answer is complete.
    answered: Vec<Namespace>,
}

impl<C> fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("mode", &self.mode).field("node", &self.node).finish_non_exhaustive()
    }
}

/// What woke a client.
enum Woken {
    Retry,
    Link(Result<Link, String>),
    Response(Result<DeltaDiscoveryResponse, String>),
    Wish(Option<Wish>),
    Late,
}

impl<C, F, S, E> Client<C>
where
    C: Fn() -> F,
    F: Future<Output = Result<S, E>> + Send + 'static,
    S: GrpcService<Body> + Send + 'static,
    S::Future: Send,
    S::ResponseBody: codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as codegen::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: fmt::Display,
{
    /// A client that connects by `connect`, which is to give up by itself; it is called for each attempt, in [`Client::next`].
    pub fn new(connect: C, mode: Mode, node: Node) -> Self {
        let (demand, wishes) = mpsc::channel(MAX_DEMANDS);
        Self {
            connect,
            mode,
            node,
            state: State::Waiting(Box::pin(sleep(Duration::ZERO))),
            failures: 0,
            held: Held::default(),
            asked: BTreeSet::new(),
            wishes,
            demand: Demand(demand),
            events: VecDeque::new(),
            answered: Vec::new(),
        }
    }

    /// What demands resources of this client. In wildcard mode there is nothing to demand: everything comes anyway.
    pub fn demand(&self) -> Demand {
        self.demand.clone()
    }

    /// The next event. It may be dropped and called again: nothing is lost. `known` is the world with every delta that came so far:
    /// it has the names that the next connection begins with.
    pub async fn next(&mut self, known: &World) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            match self.wait().await {
                Woken::Retry => self.connect(known),
                Woken::Link(Ok(link)) => self.linked(link),
                Woken::Link(Err(why)) | Woken::Response(Err(why)) => self.lose(why),
                Woken::Response(Ok(response)) => self.take(response, known),
                Woken::Wish(wish) => self.wish(wish),
                Woken::Late => self.lose(format!("no answer within {PATIENCE:?}")),
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        match &mut self.state {
            State::Waiting(until) => tokio::select! {
                () = until => Woken::Retry,
                wish = self.wishes.recv() => Woken::Wish(wish),
            },
            State::Connecting(attempt, _) => tokio::select! {
                link = attempt => Woken::Link(link),
                wish = self.wishes.recv() => Woken::Wish(wish),
            },
            State::Linked(link) => {
                let (late, by) = (link.answer_by.is_some(), link.answer_by.unwrap_or_else(Instant::now));
                tokio::select! {
                    response = link.receive() => Woken::Response(response),
                    wish = self.wishes.recv() => Woken::Wish(wish),
                    () = sleep_until(by), if late => Woken::Late,
                }
            }
        }
    }

    /// Begins an attempt.
    fn connect(&mut self, known: &World) {
        let requests = link::first(self.mode, &self.node, (&mut self.held, known), &self.asked);
        let (attempt, mode) = ((self.connect)(), self.mode);
        let opening = async move {
            let open = async {
                let service = attempt.await.map_err(|error| error.to_string())?;
                Link::open(service, mode, requests).await
            };
            timeout(PATIENCE, open).await.unwrap_or_else(|_| Err(format!("no stream within {PATIENCE:?}")))
        };
        self.state = State::Connecting(Box::pin(opening), self.asked.clone());
    }

    /// There is a link. What was demanded since its first request was written is asked for now.
    fn linked(&mut self, mut link: Link) {
        let State::Connecting(_, said) = &self.state else { return };
        let of = |kind: Kind, names: Vec<&(Kind, String)>| -> Vec<String> {
            names.into_iter().filter(|(of, _)| *of == kind).map(|(_, name)| name.clone()).collect()
        };
        let (wanted, unwanted) = (|| self.asked.difference(said).collect(), || said.difference(&self.asked).collect());
        let asked =
            self.mode.kinds().into_iter().try_for_each(|kind| link.ask(kind, of(kind, wanted()), of(kind, unwanted())));
        self.state = State::Linked(Box::new(link));
        if let Err(why) = asked {
            self.lose(why);
        }
    }

    /// The link is gone: the next attempt is made a while later, and later each time.
    fn lose(&mut self, why: String) {
        let most = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT);
        // At least half of it, so that many clients do not come at once and none comes too often.
        let wait = rand::rng().random_range(most / 2..=most);
        self.failures += 1;
        self.answered.clear();
        self.state = State::Waiting(Box::pin(sleep(wait)));
        self.events.push_back(Event::Lost(why));
    }

    fn wish(&mut self, wish: Option<Wish>) {
        // We hold a sender ourselves: there is always one.
        let Some(wish) = wish else { return };
        let (kind, name, wanted) = match wish {
            Wish::For(kind, name) => (kind, name, true),
            Wish::NotFor(kind, name) => (kind, name, false),
        };
        if !self.mode.demands(kind) {
            return;
        }
        let key = (kind, name.clone());
        if wanted && self.asked.len() == MAX_NAMES_PER_REQUEST && !self.asked.contains(&key) {
            let why = format!("{MAX_NAMES_PER_REQUEST} names are demanded already");
            self.events.push_back(Event::Rejected { name, why });
            return;
        }
        let news = if wanted { self.asked.insert(key) } else { self.asked.remove(&key) };
        match &mut self.state {
            // It is said when there is a link.
            State::Waiting(_) | State::Connecting(..) => {}
            State::Linked(link) => {
                // Who asks again wants to hear again.
                let asked = match (wanted, news) {
                    (true, _) => link.ask(kind, vec![name], Vec::new()),
                    (false, true) => link.ask(kind, Vec::new(), vec![name]),
                    (false, false) => Ok(()),
                };
                if let Err(why) = asked {
                    self.lose(why);
                }
            }
        }
    }

    fn take(&mut self, response: DeltaDiscoveryResponse, known: &World) {
        let State::Linked(link) = &mut self.state else { return };
        let Some(kind) = Kind::of(&response.type_url) else {
            return self.lose(format!("a response of the type {:?}, which nobody asked for", response.type_url));
        };
        let nonce = response.nonce.clone();
        let last = link::is_last(&response.system_version_info);
        let mut news = self.held.take(kind, response, &self.asked);
        let done = last && link.first_answer(kind);
        link.heard();
        if done {
            self.held.sweep(kind, known, &mut news);
        }
        let answered = link.answer(kind, nonce, &news.rejected);
        if news.delta != Delta::default() {
            self.events.push_back(Event::Delta(news.delta));
        }
        if !news.objects.is_empty() {
            self.events.push_back(Event::Objects(news.objects));
        }
        self.events.extend(news.rejected.into_iter().map(|(name, why)| Event::Rejected { name, why }));
        self.events.extend(news.absent.into_iter().map(Event::Absent));
        self.answered.extend(news.answered);
        if last && kind == Kind::Object {
            self.events.extend(self.answered.drain(..).map(Event::Answered));
        }
        if done && link.is_synced() {
            self.failures = 0;
            self.events.push_back(Event::Synced);
        }
        if let Err(why) = answered {
            self.lose(why);
        }
    }
}
