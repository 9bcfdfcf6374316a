//! The endpoints of one service, port and subset, with the connections to each.

use std::{
    cell::{Cell, OnceCell, RefCell},
    num::NonZeroU32,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;
use tokio::sync::{Mutex, Notify};
use weir_balance::{Algorithm, Balancer, Breaker, Endpoint as Balanced, Limits, PerWorker, Shared, Uses};
use weir_model::{AppProtocol, Hostname, Port};
use weir_route::Held;
use weir_serving::{ClusterPolicy, Resolution, UnknownSubset, Upgrade};

use crate::{
    around::{Around, Arrival, Dial, Endpoint, Snapshot, Speaks},
    engine::Engine,
    link::Link,
    meter::Clock,
    mux::Mux,
};

/// Which endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) host: Hostname,
    pub(crate) port: Port,
    pub(crate) subset: Option<Box<str>>,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyOf<'k> {
    pub(crate) host: &'k Hostname,
    pub(crate) port: Port,
    pub(crate) subset: Option<&'k str>,
}

impl hashbrown::Equivalent<Key> for KeyOf<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.host == key.host && self.port == key.port && self.subset == key.subset.as_deref()
    }
}

/// An endpoint, and the connections to it.
pub(crate) struct Upstream<A: Around> {
    pub(crate) endpoint: Endpoint,
    clock: Rc<Clock>,
    /// How many connections are kept that have nothing to do.
    most: usize,
    /// Those of HTTP/1.1 that have nothing to do; what was used last is used next.
    idle: RefCell<Vec<Box<Link<A::Io>>>>,
    muxes: RefCell<Vec<Rc<Mux>>>,
    /// Held while a connection of HTTP/2 is made: who comes meanwhile waits for that one.
    pub(crate) opening: Mutex<()>,
    /// It is an endpoint no more.
    is_gone: Cell<bool>,
}

/// The endpoints of one service, port and subset.
pub(crate) struct Cluster<A: Around> {
    pub(crate) key: Option<Key>,
    pub(crate) policy: Arc<ClusterPolicy>,
    pub(crate) breaker: Breaker<Shared>,
    pub(crate) balancer: RefCell<Balancer>,
    /// By their address as text, as the balancer knows them.
    members: HashMap<Arc<str>, Rc<Upstream<A>>, foldhash::fast::RandomState>,
    /// Their names by what stands for them in sessions; made when the first session comes.
    sessions: OnceCell<HashMap<u64, Arc<str>, foldhash::fast::RandomState>>,
    version: u64,
    used: Cell<Duration>,
    /// Retries under way on this worker.
    pub(crate) retrying: PerWorker,
    /// Told when a connection may have become free.
    pub(crate) freed: Rc<Notify>,
}

impl<A: Around> Upstream<A> {
    fn new(endpoint: Endpoint, engine: &Engine<A>) -> Rc<Self> {
        Rc::new(Self {
            endpoint,
            clock: Rc::clone(&engine.clock),
            most: engine.settings.idle_links,
            idle: RefCell::default(),
            muxes: RefCell::default(),
            opening: Mutex::new(()),
            is_gone: Cell::new(false),
        })
    }

    /// A connection that has nothing to do and is not closed.
    pub(crate) fn take(&self) -> Option<Box<Link<A::Io>>> {
        loop {
            let mut link = self.idle.borrow_mut().pop()?;
            if link.is_ready() {
                return Some(link);
            }
        }
    }

    /// A connection that may have nothing to do now. It is kept if it can be used again.
    pub(crate) fn give_back(&self, mut link: Box<Link<A::Io>>) {
        if self.is_gone.get() || !link.is_at_rest() {
            return;
        }
        link.rested = Some(self.clock.now());
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.most {
            idle.push(link);
        }
    }

    /// A connection of HTTP/2 with a place for one more request.
    pub(crate) fn mux(&self) -> Option<crate::mux::Ride> {
        self.muxes.borrow().iter().rev().find_map(Mux::board)
    }

    pub(crate) fn add_mux(&self, mux: Rc<Mux>) {
        if !self.is_gone.get() {
            self.muxes.borrow_mut().push(mux);
        }
    }

    fn evict(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        !idle.is_empty() && {
            idle.remove(0);
            true
        }
    }

    fn sweep(&self, now: Duration, patience: Duration) {
        self.idle.borrow_mut().retain_mut(|link| {
            link.is_ready() && link.rested.is_none_or(|rested| now.saturating_sub(rested) < patience)
        });
        self.muxes.borrow_mut().retain(|mux| !mux.is_closed() && !mux.has_rested(now, patience));
    }

    /// It is an endpoint no more: its connections end when what is under way on them has.
    fn leave(&self) {
        self.is_gone.set(true);
        self.idle.borrow_mut().clear();
        self.muxes.borrow_mut().clear();
    }
}

impl<A: Around> Cluster<A> {
    /// The endpoints as they are in this version, with what is known of them from another.
    pub(crate) fn new(
        engine: &Engine<A>,
        snapshot: &Snapshot,
        key: KeyOf<'_>,
        before: Option<&Self>,
    ) -> Result<Self, UnknownSubset> {
        let destinations = snapshot.serving.destinations(key.host);
        let subset = key.subset.map(|subset| destinations.subset(key.host, subset)).transpose()?;
        let policies = subset.map_or(&destinations.policies, |subset| &subset.policies);
        let mut policy = Arc::clone(policies.of(key.port));
        let external = snapshot.serving.host(key.host).map(|host| &host.external.resolution);
        if external == Some(&Resolution::Original) && policy.balance.algorithm != Algorithm::Passthrough {
            Arc::make_mut(&mut policy).balance.algorithm = Algorithm::Passthrough;
        }
        let endpoints = engine.around.endpoints(key.host, key.port, subset);
        let breaker = match before {
            Some(before) if before.policy.balance.limits == policy.balance.limits => before.breaker.clone(),
            Some(before) if policy.balance.limits.are_none() => before.breaker.limited(policy.balance.limits),
            Some(_) | None => engine.settings.breakers.of(key.host, key.port, key.subset, policy.balance.limits),
        };
        let owned = Key { host: key.host.clone(), port: key.port, subset: key.subset.map(Into::into) };
        Ok(Self::of(engine, Some(owned), policy, breaker, endpoints, (snapshot.version, before)))
    }

    /// One endpoint that was asked for by its address.
    pub(crate) fn alone(
        engine: &Engine<A>,
        endpoint: Option<Endpoint>,
        version: u64,
        policy: Arc<ClusterPolicy>,
    ) -> Self {
        let breaker = Breaker::new(Limits::default());
        Self::of(engine, None, policy, breaker, endpoint.into_iter().collect(), (version, None))
    }

    fn of(
        engine: &Engine<A>,
        key: Option<Key>,
        policy: Arc<ClusterPolicy>,
        breaker: Breaker<Shared>,
        endpoints: Vec<Endpoint>,
        (version, before): (u64, Option<&Self>),
    ) -> Self {
        let known = |name: &Arc<str>, endpoint: &Endpoint| {
            let known = before?.members.get(name)?;
            // What was said before the first request of a connection holds for all of it.
            let is_alike = before.is_some_and(|before| before.policy.is_dialed_as(&policy));
            let is_same = known.endpoint.name == endpoint.name && known.endpoint.protocol == endpoint.protocol;
            let is_same = is_same && is_alike;
            is_same.then(|| Rc::clone(known))
        };
        let mut members: HashMap<_, _, foldhash::fast::RandomState> = HashMap::default();
        let mut balanced = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let name = endpoint.key();
            balanced.push(Balanced {
                name: Arc::clone(&name),
                weight: endpoint.weight,
                health: endpoint.health,
                place: Arc::clone(&endpoint.place),
            });
            let upstream = known(&name, &endpoint).unwrap_or_else(|| Upstream::new(endpoint, engine));
            members.entry(name).or_insert(upstream);
        }
        for (name, upstream) in before.iter().flat_map(|before| &before.members) {
            if !members.get(name).is_some_and(|kept| Rc::ptr_eq(kept, upstream)) {
                upstream.leave();
            }
        }
        let (client, now, mut rng) = (engine.around.place(), engine.now(), engine.rng());
        let balance = Arc::new(policy.balance.clone());
        let balancer = match before {
            Some(before) => before.balancer.borrow().renewed(balance, &client, balanced, now, &mut *rng),
            None => Balancer::new(balance, &client, balanced, now, &mut *rng),
        };
        Self {
            key,
            policy,
            breaker,
            balancer: RefCell::new(balancer),
            members,
            sessions: OnceCell::new(),
            version,
            used: Cell::new(engine.clock.now()),
            retrying: before.map_or_else(PerWorker::default, |before| before.retrying.clone()),
            freed: before.map_or_else(Rc::default, |before| Rc::clone(&before.freed)),
        }
    }

    /// Closes a connection that has nothing to do, to make room for another. False if there is none.
    pub(crate) fn evict(&self) -> bool {
        self.members.values().any(|upstream| upstream.evict())
    }

    /// Whether it is as this version has it. It is used, then.
    pub(crate) fn is_of(&self, version: u64, now: Duration) -> bool {
        self.used.set(now);
        self.version == version
    }

    /// When it was used last.
    pub(crate) fn used(&self) -> Duration {
        self.used.get()
    }

    /// The one endpoint there is.
    pub(crate) fn first(&self) -> Option<Rc<Upstream<A>>> {
        self.members.values().next().cloned()
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Rc<Upstream<A>>> {
        self.members.get(name)
    }

    /// The endpoint that a session holds on to.
    pub(crate) fn held(&self, endpoint: u64) -> Option<&Arc<str>> {
        let by_hash = || self.members.keys().map(|name| (Held::hash(name), Arc::clone(name))).collect();
        self.sessions.get_or_init(by_hash).get(&endpoint)
    }

    /// Closes connections that have rested for too long, and such as the other side has closed.
    pub(crate) fn sweep(&self, now: Duration) {
        for upstream in self.members.values() {
            upstream.sweep(now, self.policy.http.idle_timeout);
        }
    }

    /// Closes all connections that have nothing to do.
    pub(crate) fn leave(&self) {
        self.members.values().for_each(|upstream| upstream.leave());
    }

    /// How often a new connection may be used: once, if it begins with whose it is.
    pub(crate) fn uses(&self) -> Uses {
        Uses::new(match self.policy.proxy_protocol {
            Some(_) => Some(NonZeroU32::MIN),
            None => self.policy.balance.requests_per_connection,
        })
    }

    /// How a connection to one of its endpoints is made.
    pub(crate) fn dial<'d>(&'d self, arrival: &'d Arrival, speaks: Speaks) -> Dial<'d> {
        Dial { arrival, host: self.key.as_ref().map(|key| &key.host), policy: &self.policy, speaks }
    }

    /// Whether an endpoint is spoken to in HTTP/2.
    pub(crate) fn is_http2(&self, endpoint: &Endpoint, client: Client) -> bool {
        let as_client = client == Client::Http2;
        match self.policy.http.upgrade {
            Upgrade::Http2 => true,
            Upgrade::AsClient => as_client,
            Upgrade::Default => match endpoint.protocol {
                AppProtocol::Http2 | AppProtocol::Grpc => true,
                AppProtocol::Http11 => false,
                AppProtocol::Unknown | AppProtocol::Tcp | AppProtocol::Tls => as_client,
            },
        }
    }
}

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}
