//! Connections that came in, or are about to: each change of policy is held against them, and ends those it forbids.
//!
//! A connection is entered before anything is decided about it. So whatever world decided it, every later one finds it here.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::pending,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use slab::Slab;
use tokio::{sync::oneshot, task::yield_now};
use weir_authz::PolicySet;
use weir_model::{Tunnel, WorkloadUid};
use weir_world::{Inbound, Refusal, Source, World};

/// Most connections that are asked about before others get their turn, and most time.
const SLICE: usize = 64;
const TURN: Duration = Duration::from_micros(250);

/// Who connects, as far as it is proven. The streams of one tunnel connection share it.
#[derive(Debug)]
pub(super) struct Who {
    pub(super) source: Source,
    pub(super) client: SocketAddr,
}

/// All connections into the pods of a worker.
pub(super) struct Admitted {
    world: Arc<ArcSwap<World>>,
    pods: RefCell<HashMap<WorkloadUid, Watched, foldhash::fast::RandomState>>,
}

/// Those of one pod.
struct Watched {
    /// What each of `open` was asked by last, or is being asked by now. None if that differs among them.
    policies: Option<Arc<PolicySet>>,
    open: Slab<Open>,
}

struct Open {
    who: Rc<Who>,
    target: SocketAddr,
    /// Where it is told why it may not stay; told once.
    end: Option<oneshot::Sender<Box<Refusal>>>,
}

/// What came of asking.
#[derive(Default)]
struct Sum {
    asked: usize,
    ended: usize,
}

/// One connection, for as long as this lives.
pub(super) struct Entered {
    among: Rc<Admitted>,
    pod: WorkloadUid,
    number: usize,
    end: oneshot::Receiver<Box<Refusal>>,
}

impl Admitted {
    pub(super) fn new(world: Arc<ArcSwap<World>>) -> Self {
        Self { world, pods: RefCell::default() }
    }

    /// Enters a connection. Only what is entered may be asked about.
    pub(super) fn enter(self: &Rc<Self>, pod: &WorkloadUid, who: Rc<Who>, target: SocketAddr) -> Entered {
        let (told, end) = oneshot::channel();
        let mut pods = self.pods.borrow_mut();
        let watched = pods.entry(pod.clone()).or_insert_with(|| Watched { policies: None, open: Slab::new() });
        let number = watched.open.insert(Open { who, target, end: Some(told) });
        Entered { among: self.clone(), pod: pod.clone(), number, end }
    }

    /// Holds the policies of now against what is open, where they are others than last time. What a pod that is not in the mesh
    /// any more has open stays as it is.
    pub(super) async fn enforce(&self) {
        let since = Instant::now();
        for pod in self.changed() {
            let mut sum = Sum::default();
            let mut from = 0;
            while let Some(next) = self.ask_some(&pod, from, &mut sum) {
                from = next;
                yield_now().await;
            }
            let (Sum { asked, ended }, took) = (sum, since.elapsed());
            tracing::debug!(%pod, asked, ended, ?took, "open connections were held against policies that changed");
        }
    }

    /// The pods whose policies are others than last time. Those without a connection are forgotten.
    fn changed(&self) -> Vec<WorkloadUid> {
        let world = self.world.load();
        let mut pods = self.pods.borrow_mut();
        pods.retain(|_, watched| !watched.open.is_empty());
        let changed = pods.iter_mut().filter_map(|(pod, watched)| {
            let now = covering(&world, pod)?;
            if watched.policies.as_ref() == Some(&now) {
                return None;
            }
            watched.policies = Some(now);
            Some(pod.clone())
        });
        changed.collect()
    }

    /// Asks about a few, beginning with number `from`; where to go on, if there are more. The world may have changed since the
    /// last few: each is asked by the newest, for it may have been admitted by it.
    fn ask_some(&self, pod: &WorkloadUid, from: usize, sum: &mut Sum) -> Option<usize> {
        let world = self.world.load();
        let now = covering(&world, pod);
        let mut pods = self.pods.borrow_mut();
        let watched = pods.get_mut(pod)?;
        watched.asked_by(now.as_ref());
        now?;
        let open = &mut watched.open;
        let (all, turn) = (open.capacity(), Instant::now());
        let mut next = from;
        while next < all.min(from + SLICE) && turn.elapsed() < TURN {
            let number = next;
            next += 1;
            let Some(one) = open.get_mut(number).filter(|one| one.end.is_some()) else { continue };
            let inbound = Inbound {
                source: one.who.source.clone(),
                client: one.who.client,
                tcp_destination: one.target,
                target: one.target,
                own_ports: &[],
            };
            sum.asked += 1;
            if let Err(refusal) = world.stays(pod, &inbound)
                && let Some(end) = one.end.take()
            {
                // One that has just ended by itself needs no word.
                drop(end.send(Box::new(refusal)));
                sum.ended += 1;
            }
        }
        (next < all).then_some(next)
    }
}

impl Watched {
    /// Notes by what some of them are asked.
    fn asked_by(&mut self, policies: Option<&Arc<PolicySet>>) {
        if self.policies.as_ref() != policies {
            self.policies = None;
        }
    }
}

/// What covers a pod, if it is in the mesh.
fn covering(world: &World, pod: &WorkloadUid) -> Option<Arc<PolicySet>> {
    world.workload(pod).filter(|workload| workload.tunnel == Tunnel::Hbone)?;
    world.policies_of(pod)
}

impl Entered {
    /// The world of now, to ask about it.
    pub(super) fn world(&self) -> Guard<Arc<World>> {
        let world = self.among.world.load();
        if let Some(watched) = self.among.pods.borrow_mut().get_mut(&self.pod) {
            watched.asked_by(world.policies_of(&self.pod).as_ref());
        }
        world
    }

    /// Waits until a policy forbids it: why.
    pub(super) async fn forbidden(&mut self) -> Box<Refusal> {
        match (&mut self.end).await {
            Ok(why) => why,
            Err(_untold) => pending().await,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(watched) = self.among.pods.borrow_mut().get_mut(&self.pod) {
            watched.open.try_remove(self.number);
        }
    }
}

#[cfg(test)]
mod tests;
