//! Worker threads: each has its own runtime, its own listeners, its own pool of tunnels. Between them nothing is locked.

mod admitted;
mod inbound;
mod outbound;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use rand::{SeedableRng, rngs::SmallRng};
use slab::Slab;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, LocalSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use weir_ebpf_loader::Origins;
use weir_hbone::{Closer, Handshakes, Pool, Role, Settings};
use weir_identity::Identities;
use weir_model::{SpiffeId, Workload};
use weir_net::{Acceptor, Listener, Stream};
use weir_telemetry::{AccessLog, Metrics};
use weir_world::World;

use self::admitted::Admitted;
use crate::{
    demand::Demands,
    listeners::Listeners,
    observe::Observer,
    pod::{Connection, Pod, Stage},
    refusals::{Ends, Refusals, Refuser},
    shadow::Shadows,
};

/// Orders that may wait for a worker.
const ORDERS: usize = 256;
/// Pause after an accept that failed for want of descriptors or memory.
const BREATHER: Duration = Duration::from_millis(50);
/// Handshakes of one pod that a worker holds at once; then the oldest gives way.
const HANDSHAKES: usize = 1_024;
/// How often a worker looks whether its pool leads where the mesh is.
const SWEEP: Duration = Duration::from_secs(1);
/// How long connections are still taken when a pod is left or the agent stops: those that stand in the queue were led here by the
/// kernel, and nobody else will serve them.
const LAST_CALL: Duration = Duration::from_millis(100);
/// The stack of a worker, in bytes: its futures are on the heap.
const STACK: usize = 1 << 20;

/// What all workers share. All of it is read without a lock on the way of a connection.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) world: Arc<ArcSwap<World>>,
    /// Told of each world after it is in force.
    pub(crate) changed: watch::Sender<()>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) metrics: Arc<Metrics>,
    /// What policies that decide nothing would have.
    pub(crate) shadows: Arc<Shadows>,
    /// What was refused lately.
    pub(crate) refusals: Refusals,
    /// Where the control plane tells only what it is asked.
    pub(crate) demands: Option<Arc<Demands>>,
}

impl Shared {
    /// Puts a world in force. Workers hold what is open against its policies at once.
    pub(crate) fn publish(&self, world: Arc<World>) {
        self.world.store(world);
        self.changed.send_replace(());
    }
}

/// An order to a worker.
pub(crate) enum Order {
    /// Serve a pod until it is to be left.
    Serve {
        pod: Arc<Pod>,
        listeners: Listeners,
        stage: watch::Receiver<Stage>,
        serving: oneshot::Sender<io::Result<()>>,
    },
    /// Say what is open.
    Connections { asked: Asked, answer: oneshot::Sender<(Vec<serde_json::Value>, Option<usize>)> },
    /// Take nothing new, let what is open end by the deadline, then stop.
    Drain { by: Instant },
}

/// Which of the open connections somebody asks about.
pub(crate) struct Asked {
    pub(crate) ends: Ends,
    /// The number to begin from.
    pub(crate) from: usize,
    pub(crate) most: usize,
}

/// A worker as the rest of the agent sees it.
pub(crate) struct Handle {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) thread: thread::JoinHandle<()>,
}

/// Starts a worker.
///
/// # Errors
/// If the system gives no thread or no reactor.
pub(crate) fn start(number: usize, shared: Shared, origins: Origins, access: Option<AccessLog>) -> io::Result<Handle> {
    let (orders, received) = mpsc::channel(ORDERS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(31).build()?;
    let thread = thread::Builder::new().name(format!("worker-{number}")).stack_size(STACK).spawn(move || {
        let local = LocalSet::new();
        let worker = Rc::new(Worker::new(number, shared, origins, access));
        local.block_on(&runtime, worker.run(received));
    })?;
    Ok(Handle { orders, thread })
}

/// The state of one worker.
pub(crate) struct Worker {
    shared: Shared,
    origins: Origins,
    observer: Rc<Observer>,
    pool: Rc<Pool>,
    outgoing: Settings,
    incoming: Settings,
    rng: RefCell<SmallRng>,
    /// Connections of pods being served now.
    live: Cell<usize>,
    /// Those that are relayed, to be cut when their pod is gone.
    relays: RefCell<Slab<(Arc<Pod>, AbortHandle)>>,
    /// Those into pods, to be ended when a policy forbids them.
    admitted: Rc<Admitted>,
    /// Accepted tunnels, to be told when a pod leaves or the agent stops.
    closers: RefCell<Vec<(Arc<Pod>, Closer)>>,
    /// What the last workload asked about says of itself.
    baggage: RefCell<Option<(Arc<Workload>, Rc<str>)>>,
    draining: watch::Sender<bool>,
}

impl Worker {
    fn new(number: usize, shared: Shared, origins: Origins, access: Option<AccessLog>) -> Self {
        let refuser = Refuser::new(&shared.refusals, number);
        let observer = Rc::new(Observer::new(shared.metrics.clone(), access, refuser));
        let admitted = Rc::new(Admitted::new(shared.world.clone()));
        Self {
            shared,
            origins,
            observer,
            pool: Rc::new(Pool::default()),
            outgoing: Settings::new(Role::Client),
            incoming: Settings::new(Role::Server),
            rng: RefCell::new(SmallRng::from_os_rng()),
            live: Cell::new(0),
            relays: RefCell::new(Slab::new()),
            admitted,
            closers: RefCell::new(Vec::new()),
            baggage: RefCell::new(None),
            draining: watch::Sender::new(false),
        }
    }

    async fn run(self: Rc<Self>, mut orders: mpsc::Receiver<Order>) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = self.shared.world.load_full();
        let mut reported = 0;
        let (admitted, mut changed) = (self.admitted.clone(), self.shared.changed.subscribe());
        spawn_local(async move {
            while changed.changed().await.is_ok() {
                admitted.enforce().await;
            }
        });
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Serve { pod, listeners, stage, serving }) => {
                        // An agent that no longer waits has given the pod up; its end of `stage` says so too.
                        drop(serving.send(self.serve(&pod, listeners, &stage)));
                    }
                    Some(Order::Connections { asked: Asked { ends, from, most }, answer }) => {
                        // Whoever asked may have gone.
                        drop(answer.send(self.observer.list(&self.shared.world.load(), &ends, from, most)));
                    }
                    Some(Order::Drain { by }) => return self.drain(by).await,
                    None => return,
                },
                _ = sweep.tick() => {
                    let world = self.shared.world.load_full();
                    if !Arc::ptr_eq(&world, &swept) {
                        self.follow(&world);
                        swept = world;
                    }
                    let (connections, _) = self.pool.size();
                    let connections = i64::try_from(connections).unwrap_or(i64::MAX);
                    self.shared.metrics.pool_connections.inc_by(connections - reported);
                    reported = connections;
                }
            }
        }
    }

    /// The mesh changed: what leads to a workload that is gone must not be used again.
    fn follow(&self, world: &World) {
        self.observer.forget();
        self.baggage.borrow_mut().take();
        self.pool.retire("its workload left the mesh", |key| {
            let current = world.workload(&key.destination);
            current.is_none_or(|w| w.incarnation != key.incarnation || !w.addresses.contains(&key.next_hop.ip()))
        });
    }

    fn serve(self: &Rc<Self>, pod: &Arc<Pod>, listeners: Listeners, stage: &watch::Receiver<Stage>) -> io::Result<()> {
        let Listeners { outbound, hbone, inbound } = listeners;
        let outbound = outbound.into_iter().map(Listener::register).collect::<io::Result<Vec<_>>>()?;
        let (hbone, inbound) = (hbone.register()?, inbound.register()?);
        for acceptor in outbound {
            let (worker, pod) = (self.clone(), pod.clone());
            self.accept(acceptor, stage, move |stream, peer| {
                spawn_local(outbound::serve(worker.clone(), pod.clone(), stream, peer));
            });
        }
        let (worker, of) = (self.clone(), pod.clone());
        self.accept(inbound, stage, move |stream, peer| {
            spawn_local(inbound::plaintext(worker.clone(), of.clone(), stream, peer));
        });
        let mut handshakes = Handshakes::new(HANDSHAKES);
        let (worker, of) = (self.clone(), pod.clone());
        self.accept(hbone, stage, move |stream, peer| {
            handshakes.begin(|done| inbound::tunnels(worker.clone(), of.clone(), stream, peer, done));
        });
        let (worker, of, mut stage) = (self.clone(), pod.clone(), stage.clone());
        spawn_local(async move {
            // An enroller that is gone leaves its pods as one that says so.
            drop(stage.wait_for(|stage| *stage != Stage::Serving).await);
            worker.close_tunnels(|pod| Arc::ptr_eq(pod, &of), "the pod left the mesh");
            if stage.wait_for(|stage| *stage == Stage::Gone).await.is_ok() {
                worker.abort(&of);
            }
        });
        Ok(())
    }

    /// Accepts until the pod is left or the worker drains, and a moment longer.
    fn accept(
        self: &Rc<Self>,
        acceptor: Acceptor,
        stage: &watch::Receiver<Stage>,
        mut accepted: impl FnMut(Stream, std::net::SocketAddr) + 'static,
    ) {
        let (mut stage, mut draining) = (stage.clone(), self.draining.subscribe());
        spawn_local(async move {
            let stop = async {
                tokio::select! {
                    _ = stage.wait_for(|stage| *stage != Stage::Serving) => {}
                    _ = draining.wait_for(|draining| *draining) => {}
                }
                sleep(LAST_CALL).await;
            };
            tokio::pin!(stop);
            let mut failing = false;
            loop {
                tokio::select! {
                    biased;
                    () = &mut stop => return,
                    result = acceptor.accept() => match result {
                        Ok((stream, peer)) => {
                            failing = false;
                            accepted(stream, peer);
                        }
                        Err(error) => {
                            if !std::mem::replace(&mut failing, true) {
                                tracing::error!(%error, "cannot accept: connections wait until descriptors or memory are free");
                            }
                            sleep(BREATHER).await;
                        }
                    },
                }
            }
        });
    }

    fn close_tunnels(&self, which: impl Fn(&Arc<Pod>) -> bool, reason: &'static str) {
        for (_, closer) in self.closers.borrow().iter().filter(|(pod, _)| which(pod)) {
            closer.drain(reason);
        }
    }

    async fn drain(&self, by: Instant) {
        self.draining.send_replace(true);
        self.close_tunnels(|_| true, "the agent stops");
        sleep((LAST_CALL * 2).min(by.saturating_duration_since(Instant::now()))).await;
        while self.live.get() > 0 && Instant::now() < by {
            sleep(Duration::from_millis(20)).await;
        }
        if self.live.get() > 0 {
            tracing::warn!(connections = self.live.get(), "drain time is over: open connections are reset");
        }
        self.pool.retire("the agent stops", |_| true);
        // One turn for the last words of tunnels.
        let _turned = timeout(Duration::from_millis(50), std::future::pending::<()>()).await;
    }

    /// Runs a relay in a small task of its own: what it took to open the connection is given back.
    fn relay(self: &Rc<Self>, pod: &Arc<Pod>, counted: (Live, Connection), relay: impl Future<Output = ()> + 'static) {
        let mut relays = self.relays.borrow_mut();
        let entry = relays.vacant_entry();
        let (worker, number) = (self.clone(), entry.key());
        let task = spawn_local(async move {
            relay.await;
            worker.relays.borrow_mut().try_remove(number);
            drop(counted);
        });
        entry.insert((pod.clone(), task.abort_handle()));
    }

    /// Cuts what is relayed for a pod.
    fn abort(&self, pod: &Arc<Pod>) {
        self.relays.borrow_mut().retain(|_, (of, task)| {
            let cut = Arc::ptr_eq(of, pod);
            if cut {
                task.abort();
            }
            !cut
        });
    }

    /// Counts a connection for as long as the answer lives.
    fn count(self: &Rc<Self>) -> Live {
        self.live.set(self.live.get() + 1);
        Live(self.clone())
    }

    /// What a workload says of itself in tunnels.
    fn baggage(&self, workload: &Arc<Workload>) -> Rc<str> {
        let mut last = self.baggage.borrow_mut();
        if let Some((known, text)) = &*last
            && known == workload
        {
            return text.clone();
        }
        let text: Rc<str> = weir_wire::baggage::describe(workload).into();
        *last = Some((workload.clone(), text.clone()));
        text
    }

    /// The certificate of a pod; absent only while its issuer fails and the last one has expired.
    fn certificate(&self, identity: &SpiffeId) -> Option<Arc<weir_identity::WorkloadTls>> {
        self.shared.identities.current(identity)
    }
}

/// One connection, counted.
struct Live(Rc<Worker>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.set(self.0.live.get() - 1);
    }
}
