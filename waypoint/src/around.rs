//! What the engine is put into: the mesh it finds endpoints in, the ways out, and who is told of each request.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::SystemTime,
};

use http::HeaderMap;
use rand::{SeedableRng, rngs::SmallRng};
use tokio::time::timeout;
use weir_balance::{self as balance, Client, Weight};
use weir_http::{Admission, Arrival, ConnectError, Dial, Endpoint, Record, Snapshot, Target};
use weir_model::{
    AppProtocol, Health, HealthPolicy, Hostname, Locality, Network, Port, Service, Workload, WorkloadUid,
};
use weir_request::Request;
use weir_serving::{Answers, Host, NamedEndpoint, Resolution, Spot, Subset};
use weir_world::Family;

use crate::{
    compiled::State,
    gate::Gate,
    refusals::Refuser,
    see::{Seen, Seer, Tellers},
    stream::Io,
    upstream::{OnBehalf, Place, Upstream},
    worker::{Own, Reach, Shared},
};

/// How an endpoint is found again: by its workload and its address.
type Key = (Arc<str>, SocketAddr);

/// What stands in the place of the name of a workload for what is none: no workload has a name with a space in it.
const OUTSIDE: &str = "outside the mesh";

/// The endpoints of a service that have names, and what is asked of them.
struct Named<'n> {
    answers: Answers,
    endpoints: &'n [NamedEndpoint],
    port: Port,
    subset: Option<&'n Subset>,
    protocol: AppProtocol,
}

/// What one worker's engine is put into.
pub(crate) struct Around {
    shared: Shared,
    own: Arc<Own>,
    state: RefCell<Arc<State>>,
    snapshot: RefCell<Rc<Snapshot>>,
    place: RefCell<Client>,
    /// How the endpoints are reached that were given out.
    ways: RefCell<HashMap<Key, Place, foldhash::fast::RandomState>>,
    upstream: Upstream,
    gate: Gate,
    seer: Seer,
    rng: RefCell<SmallRng>,
    reported: Cell<i64>,
    outside: Arc<str>,
}

impl Around {
    pub(crate) fn new(shared: &Shared, tellers: Tellers, refuser: Rc<Refuser>) -> anyhow::Result<Self> {
        let (state, own) = (shared.state(), shared.own.clone());
        let snapshot = Rc::new(Snapshot { serving: state.serving.clone(), version: 0 });
        let around = Self {
            place: RefCell::new(place(&state, &own)),
            upstream: Upstream::new(shared.identities.clone(), own.hbone, shared.originator.clone())?,
            gate: Gate::new(shared.keys.clone(), shared.shadows.clone()),
            seer: Seer::new(&shared.metrics, tellers, refuser),
            shared: shared.clone(),
            own,
            state: RefCell::new(state),
            snapshot: RefCell::new(snapshot),
            ways: RefCell::default(),
            rng: RefCell::new(SmallRng::from_os_rng()),
            reported: Cell::new(0),
            outside: OUTSIDE.into(),
        };
        around.introduce();
        Ok(around)
    }

    /// Takes over the state that is in force by now.
    pub(crate) fn follow(&self, version: u64) {
        let state = self.shared.state();
        self.upstream.follow(&state.world);
        let is_there = |workload: &Arc<Workload>| state.world.workload(&workload.uid).is_some();
        self.ways.borrow_mut().retain(|_, way| way.workload().is_some_and(is_there));
        *self.place.borrow_mut() = place(&state, &self.own);
        *self.snapshot.borrow_mut() = Rc::new(Snapshot { serving: state.serving.clone(), version });
        *self.state.borrow_mut() = state;
        self.introduce();
        self.seer.forget();
        let (connections, _) = self.upstream.size();
        let connections = i64::try_from(connections).unwrap_or(i64::MAX);
        self.shared.metrics.pool_connections.inc_by(connections - self.reported.replace(connections));
    }

    /// What peers are told of this waypoint.
    fn introduce(&self) {
        let state = self.state.borrow();
        let own = self.own.uid.as_ref().and_then(|uid| state.world.workload(uid));
        self.upstream.introduce(&own.map(|own| weir_wire::baggage::describe(&own)).unwrap_or_default());
    }

    /// Opens nothing more on any tunnel connection.
    pub(crate) fn retire(&self) {
        self.upstream.retire();
    }

    /// How the endpoint is reached now.
    fn way(&self, to: &Endpoint) -> Option<Place> {
        if to.name == self.outside {
            return self.at(to.address);
        }
        let known = self.ways.borrow().get(&(to.name.clone(), to.address)).cloned();
        known.or_else(|| {
            let port = Port::new(to.address.port())?;
            let state = self.state.borrow();
            state.world.pod_endpoint(&self.own.network, to.address.ip(), port).map(|one| Place::Known(Rc::new(one)))
        })
    }

    /// How an address is reached that is said to be outside. What the mesh knows to be a workload is reached as one, and what it knows to be a service's is
    /// not reached in the clear; nor is what listens here for itself.
    fn at(&self, address: SocketAddr) -> Option<Place> {
        let (state, network) = (self.state.borrow(), &self.own.network);
        if let Some(one) = state.world.pod_endpoint(network, address.ip(), Port::new(address.port())?) {
            return Some(Place::Known(Rc::new(one)));
        }
        let is_outside = state.world.service_at(network, address.ip()).is_none_or(|service| {
            // Addresses of an entry may be those of its endpoints.
            let host = state.serving.host(&service.name.hostname);
            host.is_some_and(|host| host.external.resolution != Resolution::Mesh)
        });
        (is_outside && weir_resolver::is_usable(address.ip())).then_some(Place::Outside(address))
    }

    /// Gives out what is outside, or is said to be.
    fn give_at(&self, address: SocketAddr, locality: &Locality, protocol: AppProtocol) -> Option<Endpoint> {
        match self.at(address)? {
            Place::Known(one) => {
                let health = one.health;
                Some(self.give(weir_world::Endpoint::clone(&one), health, protocol))
            }
            Place::Outside(address) => Some(Endpoint {
                name: self.outside.clone(),
                address,
                weight: Weight::ONE,
                health: Health::Healthy,
                place: Arc::new(balance::Place { locality: locality.clone(), ..balance::Place::default() }),
                protocol,
            }),
        }
    }

    /// The endpoints of a service whose endpoints have names.
    fn named(&self, asked: &Named<'_>) -> Vec<Endpoint> {
        let Named { answers, endpoints, port, subset, protocol } = asked;
        let mut given: Vec<Endpoint> = Vec::new();
        for endpoint in *endpoints {
            let is_of = subset.is_none_or(|subset| {
                subset.labels.iter().all(|(key, value)| endpoint.labels.get(key).is_some_and(|own| own == value))
            });
            let (true, Some(own)) = (is_of, endpoint.ports.get(port)) else { continue };
            let addresses = match &endpoint.at {
                Spot::Ip(ip) => [*ip].into(),
                Spot::Name(name) => self.shared.names.addresses(name),
            };
            let most = match answers {
                Answers::All => usize::MAX,
                Answers::First => 1,
            };
            for ip in addresses.iter().take(most) {
                let one = self.give_at(SocketAddr::new(*ip, own.number()), &endpoint.locality, *protocol);
                // Several names may have one address.
                given.extend(one.filter(|one| !given.iter().any(|other| other.address == one.address)));
            }
        }
        given
    }

    /// Gives out an endpoint.
    fn give(&self, one: weir_world::Endpoint, health: Health, protocol: AppProtocol) -> Endpoint {
        let name: Arc<str> = one.workload.uid.as_str().into();
        let place = balance::Place { locality: one.locality.clone(), ..balance::Place::default() };
        let endpoint = Endpoint {
            name: name.clone(),
            address: one.target,
            weight: Weight::ONE,
            health,
            place: Arc::new(place),
            protocol,
        };
        self.ways.borrow_mut().insert((name, one.target), Place::Known(Rc::new(one)));
        endpoint
    }
}

impl Around {
    /// Whom it was for: the service, and the workload that it was sent to.
    fn whom<'s>(&self, state: &'s State, record: &Record<'_>) -> (Option<&'s Arc<Service>>, Option<Arc<Workload>>) {
        // What was refused before it was sent anywhere was still for somebody.
        let asked = match &record.arrival.target {
            Target::Service { host, .. } => Some(host),
            Target::Pod { .. } => None,
        };
        let host = record.service.map(|(host, ..)| host).or(asked);
        let service = host.and_then(|host| state.world.service(state.names.get(host)?));
        (service, record.endpoint.and_then(|endpoint| self.way(endpoint)).and_then(|way| way.workload().cloned()))
    }
}

impl weir_http::Around for Around {
    type Io = Io;
    type Span = Seen;

    fn snapshot(&self) -> Rc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    fn place(&self) -> Client {
        self.place.borrow().clone()
    }

    fn endpoints(&self, host: &Hostname, port: Port, subset: Option<&Subset>) -> Vec<Endpoint> {
        let state = self.state.borrow().clone();
        let Some(name) = state.names.get(host) else { return Vec::new() };
        let Some(service) = state.world.service(name).filter(|service| service.unsupported.is_none()) else {
            return Vec::new();
        };
        let protocol =
            service.ports.iter().find(|own| own.port == port).map_or(AppProtocol::Unknown, |own| own.protocol);
        if let Some(host) = state.serving.host(host)
            && let Resolution::Names(answers, endpoints) = &host.external.resolution
        {
            return self.named(&Named { answers: *answers, endpoints, port, subset, protocol });
        }
        let chosen = |uid: &WorkloadUid| match subset {
            None => true,
            Some(subset) => state.labels(uid).is_some_and(|labels| {
                subset
                    .labels
                    .iter()
                    .all(|(key, value)| labels.iter().any(|(own, of)| **own == **key && **of == **value))
            }),
        };
        let family = family(service, &self.own.network);
        let all = state.world.endpoints(&self.own.network, name, port, family);
        all.filter(|one| chosen(&one.workload.uid))
            .map(|one| {
                let health = match service.health_policy {
                    HealthPolicy::OnlyReady => one.health,
                    HealthPolicy::All => Health::Healthy,
                };
                self.give(one, health, protocol)
            })
            .collect()
    }

    fn original(&self, arrival: &Arrival) -> Option<Endpoint> {
        let host = match &arrival.target {
            Target::Service { host, .. } => self.state.borrow().serving.host(host).cloned(),
            Target::Pod { .. } => None,
        };
        // Asked for by an address that is the service's own, and nobody's in particular.
        if host.is_some_and(|host| host.external.resolution == Resolution::Original) {
            return self.give_at(arrival.destination, &Locality::default(), AppProtocol::Unknown);
        }
        let port = Port::new(arrival.destination.port())?;
        let one = self.state.borrow().world.pod_endpoint(&self.own.network, arrival.destination.ip(), port)?;
        let health = one.health;
        Some(self.give(one, health, AppProtocol::Unknown))
    }

    async fn connect(&self, to: &Endpoint, dial: Dial<'_>) -> Result<Io, ConnectError> {
        let refused = |reason: String| ConnectError::Refused(reason.into());
        // A ServiceEntry names any address as its endpoint's: what listens here for itself, and the services of the link, are nobody's.
        if self.own.reach == Reach::Others && !weir_resolver::is_usable(to.address.ip()) {
            let why =
                "an address of this very pod or its link, expected one that others can be at: change the endpoint";
            return Err(refused(format!("{} ({}) is {why}", to.address, to.name)));
        }
        let why = || format!("{} ({}) is not where it was, or not to be connected to", to.address, to.name);
        let way = self.way(to).ok_or_else(|| refused(why()))?;
        let snapshot = self.snapshot.borrow().clone();
        let host = dial.host.and_then(|host| snapshot.serving.host(host));
        let names = host.map_or_else(Arc::default, |host| host.external.names.clone());
        let connecting = self.upstream.connect(&way, OnBehalf { dial, names: &names });
        let limit = dial.policy.tcp.connect_timeout;
        match timeout(limit, connecting).await {
            Ok(connected) => connected.map_err(|reason| ConnectError::Failed(std::io::Error::other(reason))),
            Err(_late) => Err(ConnectError::Timeout(limit)),
        }
    }

    fn admit(&self, arrival: &Arrival, host: Option<&Host>, request: &Request<'_>) -> Admission {
        match host {
            Some(host) => self.gate.ask(&host.guard, arrival, request),
            None => self.gate.ask(&self.snapshot.borrow().serving.guard, arrival, request),
        }
    }

    fn admit_connection(&self, arrival: &Arrival, host: Option<&Host>) -> Result<(), Box<str>> {
        match host {
            Some(host) => self.gate.ask_connection(&host.guard, arrival),
            None => self.gate.ask_connection(&self.snapshot.borrow().serving.guard, arrival),
        }
    }

    fn begin(&self, arrival: &Arrival, headers: &mut HeaderMap) -> Seen {
        let snapshot = self.snapshot.borrow().clone();
        let host = match &arrival.target {
            Target::Service { host, .. } => Some(host),
            Target::Pod { .. } => None,
        };
        let settings = &snapshot.serving.guard(host).telemetry;
        self.seer.begin(settings, headers, &mut *self.rng.borrow_mut(), SystemTime::now())
    }

    fn opened(&self, span: &mut Seen, record: &Record<'_>) {
        let state = self.state.borrow();
        let (service, workload) = self.whom(&state, record);
        self.seer.opened(span, record, service, workload.as_ref());
    }

    fn end(&self, span: Seen, record: &Record<'_>) {
        let state = self.state.borrow();
        let (service, workload) = self.whom(&state, record);
        self.seer.end(&span, record, service, workload.as_ref());
    }
}

/// Where it runs, and how many others of its kind.
fn place(state: &State, own: &Own) -> Client {
    let Some(workload) = own.uid.as_ref().and_then(|uid| state.world.workload(uid)) else { return Client::default() };
    let mut siblings: Vec<(Locality, u32)> = Vec::new();
    for membership in &workload.services {
        let Some((port, _)) = membership.ports.first() else { continue };
        for one in state.world.endpoints(&own.network, &membership.service, *port, Family::V4) {
            match siblings.iter_mut().find(|(locality, _)| *locality == one.locality) {
                Some((_, count)) => *count += 1,
                None => siblings.push((one.locality.clone(), 1)),
            }
        }
    }
    Client { place: balance::Place { locality: workload.locality.clone(), ..balance::Place::default() }, siblings }
}

/// The family a service's endpoints are reached by: that of its first address.
fn family(service: &Service, network: &Network) -> Family {
    let own = service.vips.iter().find(|(of, _)| of == network);
    own.map_or(Family::V4, |(_, vip)| Family::of(vip.addr()))
}
