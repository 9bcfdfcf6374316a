//! The engine of one worker: what its connections share.

use std::{
    cell::{Cell, RefCell, RefMut},
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use rand::{SeedableRng, rngs::SmallRng};
use slab::Slab;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{AbortHandle, spawn_local},
    time::MissedTickBehavior,
};
use weir_serving::UnknownSubset;

use crate::{
    around::{Around, Arrival, Snapshot},
    cluster::{Cluster, Key, KeyOf},
    link::Scratch,
    meter::{Clock, Ending, Meter, Patience},
    serve,
    settings::Settings,
};

/// How long the endpoints of a service are kept that nobody asks for.
const FORGET: Duration = Duration::from_secs(600);

/// The engine of one worker. It lives on a current-thread runtime, within a `LocalSet`.
pub struct Engine<A: Around> {
    pub(crate) settings: Settings,
    pub(crate) around: Rc<A>,
    pub(crate) clock: Rc<Clock>,
    epoch: Instant,
    rng: RefCell<SmallRng>,
    clusters: RefCell<HashMap<Key, Rc<Cluster<A>>, foldhash::fast::RandomState>>,
    meters: RefCell<Slab<Rc<Meter>>>,
    /// What the connections to its endpoints are read into.
    pub(crate) scratch: Rc<RefCell<Scratch>>,
    /// Copies of requests under way.
    pub(crate) mirrors: Cell<usize>,
    is_draining: Cell<bool>,
    keeper: RefCell<Option<AbortHandle>>,
}

impl<A: Around> Drop for Engine<A> {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
        }
    }
}

impl<A: Around> Engine<A> {
    /// An engine without connections. It looks after them in a task of its own, which ends with it.
    pub fn new(settings: Settings, around: Rc<A>) -> Rc<Self> {
        let tick = settings.tick;
        let engine = Rc::new(Self {
            settings,
            around,
            clock: Rc::default(),
            epoch: Instant::now(),
            rng: RefCell::new(SmallRng::from_os_rng()),
            clusters: RefCell::default(),
            meters: RefCell::default(),
            scratch: Rc::default(),
            mirrors: Cell::new(0),
            is_draining: Cell::new(false),
            keeper: RefCell::default(),
        });
        let keeper = spawn_local(keep(Rc::downgrade(&engine), tick));
        engine.keeper.replace(Some(keeper.abort_handle()));
        engine
    }

    /// Serves a connection to its end.
    pub async fn serve<Io>(self: Rc<Self>, io: Io, arrival: Arrival)
    where
        Io: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        serve::serve(self, io, arrival).await;
    }

    /// Takes no more requests: connections end when what is under way on them has. HTTP/1.1 clients are told by `connection: close`, those of
    /// HTTP/2 by GOAWAY.
    pub fn drain(&self) {
        self.is_draining.set(true);
        for (_, meter) in &*self.meters.borrow() {
            meter.finish(Ending::Draining);
        }
    }

    /// How many connections of clients are open.
    pub fn connections(&self) -> usize {
        self.meters.borrow().len()
    }

    /// The time since the engine began.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub(crate) fn rng(&self) -> RefMut<'_, SmallRng> {
        self.rng.borrow_mut()
    }

    /// A meter for a new connection, looked after until its guard is dropped.
    pub(crate) fn meter(self: &Rc<Self>) -> (Rc<Meter>, Metered<A>) {
        let Settings { head, idle, silence, .. } = self.settings;
        let meter = Meter::new(&self.clock, Patience { head, idle, silence });
        if self.is_draining.get() {
            meter.finish(Ending::Draining);
        }
        let at = self.meters.borrow_mut().insert(Rc::clone(&meter));
        (meter, Metered { engine: Rc::clone(self), at })
    }

    /// The endpoints of a service as they are in this version.
    pub(crate) fn cluster(&self, snapshot: &Snapshot, key: KeyOf<'_>) -> Result<Rc<Cluster<A>>, UnknownSubset> {
        let now = self.clock.now();
        let known = self.clusters.borrow().get(&key).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.is_of(snapshot.version, now)) {
            return Ok(Rc::clone(known));
        }
        let cluster = Rc::new(Cluster::new(self, snapshot, key, known.as_deref())?);
        let owned = Key { host: key.host.clone(), port: key.port, subset: key.subset.map(Into::into) };
        self.clusters.borrow_mut().insert(owned, Rc::clone(&cluster));
        Ok(cluster)
    }

    /// What has become of a cluster by now: what is learnt of its endpoints belongs there.
    pub(crate) fn current(&self, cluster: &Rc<Cluster<A>>) -> Rc<Cluster<A>> {
        let now = cluster.key.as_ref().and_then(|key| self.clusters.borrow().get(key).cloned());
        now.unwrap_or_else(|| Rc::clone(cluster))
    }

    fn tick(&self) {
        let now = self.now();
        self.clock.set(now);
        for (_, meter) in &*self.meters.borrow() {
            meter.look();
        }
        self.clusters.borrow_mut().retain(|_, cluster| {
            cluster.sweep(now);
            let is_wanted = now.saturating_sub(cluster.used()) < FORGET || Rc::strong_count(cluster) > 1;
            if !is_wanted {
                cluster.leave();
            }
            is_wanted
        });
    }
}

/// Looks after connections as long as there is an engine.
async fn keep<A: Around>(engine: Weak<Engine<A>>, tick: Duration) {
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        engine.tick();
    }
}

/// A connection that is looked after.
pub(crate) struct Metered<A: Around> {
    engine: Rc<Engine<A>>,
    at: usize,
}

impl<A: Around> Drop for Metered<A> {
    fn drop(&mut self) {
        self.engine.meters.borrow_mut().try_remove(self.at);
    }
}
