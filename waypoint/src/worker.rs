//! Worker threads: each has its own runtime, its own listeners, its own pools. Between them nothing is locked.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::{LocalSet, spawn_local},
    time::{Instant, sleep},
};
use weir_hbone::{Closer, Handshakes, Role, Settings};
use weir_http::Engine;
use weir_identity::Identities;
use weir_jwks::Handle as Keys;
use weir_model::{Network, SpiffeId, WorkloadUid};
use weir_net::{Acceptor, Listener, ListenerSettings, Netns};
use weir_origination::Originator;
use weir_resolver::Names;
use weir_telemetry::{CertificateSpan, Certificates, Metrics};

use crate::{
    around::Around,
    arrive,
    cli::{Arguments, Plain},
    compiled::State,
    handed,
    refusals::{Refusals, Refuser},
    run::timestamp,
    see::Tellers,
    shadow::Shadows,
};

/// Orders that may wait for a worker.
const ORDERS: usize = 16;
/// Pause after an accept that failed for want of descriptors or memory.
const BREATHER: Duration = Duration::from_millis(50);
/// Handshakes that a worker holds at once; then the oldest gives way.
const HANDSHAKES: usize = 4_096;
/// How long connections are still taken when the waypoint stops: those that stand in the queue, nobody else will serve.
const LAST_CALL: Duration = Duration::from_millis(100);
/// The stack of a worker, in bytes: its futures are on the heap.
const STACK: usize = 2 << 20;

/// Who and where this waypoint is.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Its workload; none for a plain reverse proxy, which is bound to nothing.
    pub(crate) uid: Option<WorkloadUid>,
    pub(crate) network: Network,
    pub(crate) hbone: Hbone,
    pub(crate) reach: Reach,
}

/// Who speaks HBONE for this waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hbone {
    /// The waypoint itself.
    Waypoint,
    /// The agent before its pod, which catches what it sends.
    Agent,
}

/// How far endpoints may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To addresses that somebody else can be at.
    Others,
    /// To those of this very host, too: who says where a plain reverse proxy listens is the operator.
    Host,
}

impl Own {
    /// As the flags say.
    pub(crate) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let of_pod = |name: &weir_model::NodeName| {
            WorkloadUid::of_pod(&arguments.cluster_id, &arguments.gateway.namespace, name.as_str())
        };
        let uid = arguments.pod_name.as_ref().map(of_pod).transpose()?;
        let hbone = if arguments.proxy_addr.is_some() { Hbone::Agent } else { Hbone::Waypoint };
        let reach = if arguments.plain.is_empty() { Reach::Others } else { Reach::Host };
        Ok(Self { uid, network: arguments.network.clone(), hbone, reach })
    }
}

/// What all workers share. All of it is read without a lock on the way of a request.
#[derive(Clone)]
pub(crate) struct Shared {
    state: Arc<ArcSwap<State>>,
    /// Told of each state after it is in force.
    changed: watch::Sender<u64>,
    pub(crate) identities: Option<(Arc<Identities>, SpiffeId)>,
    pub(crate) own: Arc<Own>,
    pub(crate) metrics: Arc<Metrics>,
    /// How requests are moved. Numbers of circuit breakers are those of the whole program.
    pub(crate) engine: weir_http::Settings,
    /// What policies that decide nothing would have.
    pub(crate) shadows: Arc<Shadows>,
    /// Keys of those who issue tokens.
    pub(crate) keys: Keys,
    /// What was refused lately.
    pub(crate) refusals: Refusals,
    /// Names of endpoints.
    pub(crate) names: Names,
    /// TLS of our own.
    pub(crate) originator: Arc<Originator>,
}

impl Shared {
    pub(crate) fn new(
        state: Arc<State>,
        identities: Option<(Arc<Identities>, SpiffeId)>,
        own: Own,
        metrics: Arc<Metrics>,
        (keys, names): (Keys, Names),
        refusals: Refusals,
    ) -> Self {
        let state = Arc::new(ArcSwap::new(state));
        let engine = weir_http::Settings::default();
        let shadows = Arc::<Shadows>::default();
        shadows.collect(&metrics);
        if let Some((identities, _)) = &identities {
            let identities = identities.clone();
            metrics.certificates(move || held(&identities));
        }
        let (changed, own, originator) = (watch::Sender::new(0), Arc::new(own), Arc::default());
        Self { state, changed, identities, own, metrics, engine, shadows, keys, names, originator, refusals }
    }

    /// What is in force.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Puts a state in force.
    pub(crate) fn publish(&self, state: Arc<State>) {
        let hosts = state.serving.hosts.values().map(|host| &host.guard);
        self.keys.follow(hosts.chain([&state.serving.guard]).flat_map(|guard| guard.tokens.sources()));
        self.names.want(state.serving.hosts.values().flat_map(|host| host.external.wanted()));
        self.state.store(state);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Has everything looked at again whenever names lead elsewhere.
    pub(crate) async fn follow_names(self) {
        let mut changes = self.names.changes();
        while changes.changed().await.is_ok() {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Is told of each state, by its number.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Certificates, for people.
    pub(crate) fn certificates(&self) -> Vec<Value> {
        let all = self.identities.iter().flat_map(|(identities, _)| identities.snapshot());
        all.map(|one| {
            json!({
                "identity": one.identity.to_string(),
                "state": one.state.as_str(),
                "serialNumber": one.serial,
                "validFrom": one.not_before.map(timestamp),
                "expirationTime": one.not_after.map(timestamp),
                "lastFailure": one.last_failure,
            })
        })
        .collect()
    }
}

fn held(identities: &Identities) -> Certificates {
    let span = |one: weir_identity::CertificateReport| {
        let (from, until) = (one.not_before?, one.not_after?);
        Some(CertificateSpan { identity: one.identity.to_string(), from, until })
    };
    let held = identities.snapshot().into_iter().filter_map(span).collect();
    Certificates { issued: identities.issued(), failed: identities.failed(), held }
}

/// An order to a worker.
pub(crate) enum Order {
    /// Take nothing new, let what is under way end by the deadline, then stop.
    Drain { by: Instant },
}

/// A worker as the rest of the waypoint sees it.
pub(crate) struct Handle {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) thread: thread::JoinHandle<()>,
}

/// The listeners of one worker, members of groups that all workers share.
struct Listeners {
    hbone: Option<Listener>,
    handed: Option<std::net::TcpListener>,
    plain: Vec<(std::net::TcpListener, Plain)>,
}

impl Listeners {
    fn bind(arguments: &Arguments, shared: &Shared) -> anyhow::Result<Self> {
        let settings = ListenerSettings { keepalive: Some(Settings::new(Role::Server).tcp_keepalive) };
        let hbone = match &shared.identities {
            Some(_) => {
                let netns = Netns::own()?;
                let at = arguments.hbone_addr;
                let bound = Listener::bind(&netns, at, &settings);
                Some(bound.map_err(|error| anyhow::anyhow!("--hbone-addr {at}: {error}"))?)
            }
            None => None,
        };
        let handed = arguments
            .proxy_addr
            .map(|at| bind_clear(at).map_err(|error| anyhow::anyhow!("--proxy-addr {at}: {error}")));
        let plain = arguments.plain.iter().map(|plain| {
            let bound = bind_clear(plain.at).map_err(|error| anyhow::anyhow!("--plain {}: {error}", plain.at))?;
            Ok((bound, plain.clone()))
        });
        Ok(Self { hbone, handed: handed.transpose()?, plain: plain.collect::<anyhow::Result<_>>()? })
    }
}

fn bind_clear(at: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&at.into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}

/// Starts a worker. It listens when this returns.
///
/// # Errors
/// If the system gives no socket, no thread or no reactor.
pub(crate) fn start(number: usize, arguments: &Arguments, shared: &Shared, tellers: Tellers) -> anyhow::Result<Handle> {
    let (orders, received) = mpsc::channel(ORDERS);
    let listeners = Listeners::bind(arguments, shared)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(31).build()?;
    let (shared, trusted_proxies) = (shared.clone(), arguments.trusted_proxies);
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("worker-{number}")).stack_size(STACK).spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            match Worker::new(number, shared, tellers, trusted_proxies) {
                Ok(worker) => {
                    drop(ready.send(Ok(())));
                    Rc::new(worker).run(listeners, received).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    })?;
    started.recv()??;
    Ok(Handle { orders, thread })
}

/// The state of one worker.
pub(crate) struct Worker {
    pub(crate) shared: Shared,
    pub(crate) around: Rc<Around>,
    pub(crate) engine: Rc<Engine<Around>>,
    pub(crate) refuser: Rc<Refuser>,
    pub(crate) incoming: Settings,
    pub(crate) trusted_proxies: u32,
    /// Connections and tunnels being served now.
    live: Cell<usize>,
    /// Accepted tunnel connections, to be told when the waypoint stops.
    closers: RefCell<Vec<Closer>>,
    draining: watch::Sender<bool>,
}

impl Worker {
    fn new(number: usize, shared: Shared, tellers: Tellers, trusted_proxies: u32) -> anyhow::Result<Self> {
        let refuser = Rc::new(Refuser::new(&shared.refusals, number));
        let around = Rc::new(Around::new(&shared, tellers, refuser.clone())?);
        let engine = Engine::new(shared.engine.clone(), around.clone());
        Ok(Self {
            shared,
            around,
            engine,
            refuser,
            incoming: Settings::new(Role::Server),
            trusted_proxies,
            live: Cell::new(0),
            closers: RefCell::new(Vec::new()),
            draining: watch::Sender::new(false),
        })
    }

    async fn run(self: Rc<Self>, listeners: Listeners, mut orders: mpsc::Receiver<Order>) {
        if let Err(error) = self.listen(listeners) {
            tracing::error!(%error, "a worker cannot listen, and ends");
            return;
        }
        let (around, mut changed) = (self.around.clone(), self.shared.watch());
        spawn_local(async move {
            while changed.changed().await.is_ok() {
                let version = *changed.borrow_and_update();
                around.follow(version);
            }
        });
        if let Some(Order::Drain { by }) = orders.recv().await {
            self.drain(by).await;
        }
    }

    fn listen(self: &Rc<Self>, listeners: Listeners) -> io::Result<()> {
        if let Some(hbone) = listeners.hbone {
            spawn_local(self.clone().take_tunnels(hbone.register()?));
        }
        if let Some(handed) = listeners.handed {
            spawn_local(self.clone().take_handed(TcpListener::from_std(handed)?));
        }
        for (listener, plain) in listeners.plain {
            spawn_local(self.clone().take_plain(TcpListener::from_std(listener)?, plain));
        }
        Ok(())
    }

    /// Until the worker drains, and a moment longer.
    async fn last_call(&self) {
        let mut draining = self.draining.subscribe();
        drop(draining.wait_for(|draining| *draining).await);
        sleep(LAST_CALL).await;
    }

    async fn take_tunnels(self: Rc<Self>, acceptor: Acceptor) {
        let mut handshakes = Handshakes::new(HANDSHAKES);
        let accepted = async {
            loop {
                match acceptor.accept().await {
                    Ok((stream, client)) => {
                        let worker = self.clone();
                        handshakes.begin(|done: oneshot::Sender<()>| arrive::tunnels(worker, stream, client, done));
                    }
                    Err(error) => starved(&error).await,
                }
            }
        };
        tokio::select! {
            () = accepted => {}
            () = self.last_call() => {}
        }
    }

    async fn take_handed(self: Rc<Self>, listener: TcpListener) {
        let mut reading = Handshakes::new(HANDSHAKES);
        let accepted = async {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let worker = self.clone();
                        reading.begin(|done: oneshot::Sender<()>| handed::serve(worker, stream, peer, done));
                    }
                    Err(error) => starved(&error).await,
                }
            }
        };
        tokio::select! {
            () = accepted => {}
            () = self.last_call() => {}
        }
    }

    async fn take_plain(self: Rc<Self>, listener: TcpListener, plain: Plain) {
        let accepted = async {
            loop {
                match listener.accept().await {
                    Ok((stream, client)) => {
                        drop(spawn_local(arrive::plain(self.clone(), stream, client, plain.clone())));
                    }
                    Err(error) => starved(&error).await,
                }
            }
        };
        tokio::select! {
            () = accepted => {}
            () = self.last_call() => {}
        }
    }

    /// Remembers a tunnel connection for as long as it lives.
    pub(crate) fn note(&self, closer: Closer) {
        if *self.draining.borrow() {
            closer.drain("the waypoint stops");
        }
        self.closers.borrow_mut().push(closer);
    }

    /// Forgets it.
    pub(crate) fn forget(&self, closer: &Closer) {
        self.closers.borrow_mut().retain(|other| !other.is(closer));
    }

    async fn drain(&self, by: Instant) {
        self.draining.send_replace(true);
        self.engine.drain();
        for closer in self.closers.borrow().iter() {
            closer.drain("the waypoint stops");
        }
        sleep((LAST_CALL * 2).min(by.saturating_duration_since(Instant::now()))).await;
        while self.live.get() > 0 && Instant::now() < by {
            sleep(Duration::from_millis(20)).await;
        }
        if self.live.get() > 0 {
            tracing::warn!(connections = self.live.get(), "drain time is over: what is still under way is reset");
        }
        self.around.retire();
        // One turn for the last words of tunnels.
        sleep(Duration::from_millis(50)).await;
    }

    /// Counts a connection for as long as the answer lives.
    pub(crate) fn count(self: &Rc<Self>) -> Live {
        self.live.set(self.live.get() + 1);
        Live(self.clone())
    }
}

/// One connection, counted.
pub(crate) struct Live(Rc<Worker>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.set(self.0.live.get() - 1);
    }
}

async fn starved(error: &io::Error) {
    tracing::error!(%error, "cannot accept: connections wait until descriptors or memory are free");
    sleep(BREATHER).await;
}
