//! A control plane, followed: the mesh and the objects that shape requests, to states.
//!
//! All workloads and services come unasked; objects are asked for by namespaces, those of what is bound to this waypoint and what their objects
//! refer to. A state is made beside the thread that follows, of all changes of a short while, and put in force only when every namespace it
//! needs was answered for: a service whose policies are not known yet is not served. While the control plane is away the last state stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};
use weir_model::Namespace;
use weir_rpc::{Channel, Dial, DialError};
use weir_telemetry::ControlState;
use weir_world::{Delta, World};
use weir_xds::{Client, Demand, Event, Mode, Node};

use crate::{
    compiled::State,
    source::Change,
    told::{Changes, Led, Outcome, Subject, Told},
};

/// How long changes gather before they are compiled together.
const GATHER: Duration = Duration::from_millis(20);

type Dialling = Pin<Box<dyn Future<Output = Result<Channel, DialError>> + Send>>;
type Connect = Box<dyn Fn() -> Dialling + Send + Sync>;

/// A compilation, or what it is made with.
enum Work {
    Idle(Box<Told>),
    Busy(JoinHandle<Box<Done>>),
    /// Between the two.
    Handed,
}

/// What a compilation came to.
struct Done {
    told: Box<Told>,
    outcome: Outcome,
    /// The namespaces that had been answered for when it began.
    answered: BTreeSet<Namespace>,
}

/// What a waypoint waits for.
enum Woken {
    Event(Event),
    Compiled(Result<Box<Done>, JoinError>),
    Due,
}

/// A control plane, followed.
pub(crate) struct Control {
    client: Client<Connect>,
    demand: Demand,
    about: ControlState,
    world: World,
    led: Led,
    changes: Changes,
    /// When what changed is compiled.
    due: Option<Instant>,
    work: Work,
    /// Whether all of the mesh was told once.
    synced: bool,
    /// Namespaces whose objects are needed, asked for, and there.
    wanted: BTreeSet<Namespace>,
    asked: BTreeSet<Namespace>,
    answered: BTreeSet<Namespace>,
    /// Whether all that the last compilation needed was there.
    whole: bool,
    /// What is in force.
    last: Option<Arc<State>>,
}

impl Control {
    /// Begins to follow the control plane behind `dial`, which is told `introduction`.
    pub(crate) fn new(dial: Dial, introduction: Node, subject: Subject, about: ControlState) -> Self {
        let connect: Connect = Box::new(move || {
            let dial = dial.clone();
            Box::pin(async move { dial.connect().await })
        });
        let client = Client::new(connect, Mode::Waypoint, introduction);
        let demand = client.demand();
        let wanted = subject.always();
        let mut control = Self {
            client,
            demand,
            about,
            world: World::default(),
            led: Led::default(),
            changes: Changes::new(),
            due: None,
            work: Work::Idle(Box::new(Told::new(subject))),
            synced: false,
            wanted,
            asked: BTreeSet::new(),
            answered: BTreeSet::new(),
            whole: false,
            last: None,
        };
        control.ask();
        control
    }

    /// The next change. May be cancelled at any point without losing one.
    pub(crate) async fn next(&mut self) -> Change {
        loop {
            let change = match self.wait().await {
                Woken::Event(event) => self.take(event),
                Woken::Compiled(done) => self.compiled(done),
                Woken::Due => {
                    self.compile();
                    None
                }
            };
            self.ask();
            if let Some(change) = change {
                return change;
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let event = self.client.next(&self.world);
        match (&mut self.work, self.due) {
            (Work::Busy(work), _) => tokio::select! {
                done = work => Woken::Compiled(done),
                event = event => Woken::Event(event),
            },
            (Work::Idle(_) | Work::Handed, Some(due)) => tokio::select! {
                event = event => Woken::Event(event),
                () = sleep_until(due) => Woken::Due,
            },
            (Work::Idle(_) | Work::Handed, None) => Woken::Event(event.await),
        }
    }

    fn take(&mut self, event: Event) -> Option<Change> {
        match event {
            Event::Delta(delta) => {
                self.about.heard();
                return self.changed(delta);
            }
            Event::Objects(objects) => {
                self.about.heard();
                self.changes.extend(objects.into_iter().map(|object| (object.name, object.json)));
                self.soon();
            }
            Event::Answered(namespace) => {
                self.about.heard();
                if self.asked.contains(&namespace) && self.answered.insert(namespace) {
                    self.soon();
                }
            }
            Event::Synced => {
                tracing::info!(workloads = self.world.len(), "the control plane has told the whole mesh");
                self.about.heard();
                self.synced = true;
                self.soon();
            }
            // Nothing is demanded by the name of a workload or service.
            Event::Absent(_) => self.about.heard(),
            Event::Lost(reason) => {
                tracing::warn!(reason, "the control plane is away; what is known stays in force");
                self.about.lost(reason);
            }
            Event::Rejected { name, why } => {
                self.about.heard();
                return Some(Change::Rejected(vec![format!("{name}: {why}")]));
            }
        }
        None
    }

    /// The mesh changed. If only workloads did, and nothing waits to be compiled, what is served stays what it is.
    fn changed(&mut self, delta: Delta) -> Option<Change> {
        let mut alike = self.whole && delta.services.is_empty();
        for (uid, now) in &delta.workloads {
            let waypoint = now.as_ref().and_then(|now| now.waypoint.as_ref());
            alike &= self.led.is(uid, waypoint);
            self.led.set(uid, now.as_ref().and_then(|now| Some((&now.namespace, now.waypoint.as_ref()?))));
        }
        self.world = self.world.apply(delta);
        match (&self.last, &self.work, self.due) {
            (Some(last), Work::Idle(_), None) if alike => {
                let state = Arc::new(last.in_world(self.world.clone()));
                self.last = Some(state.clone());
                Some(Change::State(state))
            }
            (_, _, _) => {
                self.soon();
                None
            }
        }
    }

    /// What changed is compiled in a short while.
    fn soon(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + GATHER);
    }

    fn compile(&mut self) {
        self.due = None;
        // Half a mesh would refuse what the whole one admits.
        if !self.synced {
            return;
        }
        let Work::Idle(mut told) = mem::replace(&mut self.work, Work::Handed) else { return };
        let (changes, world) = (mem::take(&mut self.changes), self.world.clone());
        let (led, answered) = (self.led.clone(), self.answered.clone());
        self.work = Work::Busy(spawn_blocking(move || {
            let outcome = told.take(changes, world, &led);
            Box::new(Done { told, outcome, answered })
        }));
    }

    fn compiled(&mut self, done: Result<Box<Done>, JoinError>) -> Option<Change> {
        let Done { told, outcome, answered } = *match done {
            Ok(done) => done,
            // It is never cancelled: what is left is a panic, which is ours as well.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.work = Work::Idle(told);
        let Outcome { state, wants, rejected, blind } = outcome;
        self.whole = wants.is_subset(&answered) && !blind;
        self.wanted = wants;
        for line in &rejected {
            tracing::error!("an object cannot be read, what it was stays in force: {line}");
        }
        if !self.whole {
            let missing: Vec<&str> = self.wanted.difference(&answered).map(Namespace::as_str).collect();
            tracing::debug!(?missing, "objects of these namespaces are not all there yet");
            return (!rejected.is_empty()).then_some(Change::Rejected(rejected));
        }
        let state = Arc::new(state);
        self.last = Some(state.clone());
        self.about.synced();
        Some(Change::State(state))
    }

    /// Asks for the objects of namespaces that are needed, and for those of others not any more.
    fn ask(&mut self) {
        let new: Vec<Namespace> = self.wanted.difference(&self.asked).cloned().collect();
        let old: Vec<Namespace> = self.asked.difference(&self.wanted).cloned().collect();
        for namespace in new {
            // As many as may wait do: the rest is asked for when these are answered.
            if self.demand.subscribe_objects(&namespace).is_err() {
                return;
            }
            self.asked.insert(namespace);
        }
        for namespace in old {
            if self.demand.unsubscribe_objects(&namespace).is_err() {
                return;
            }
            self.asked.remove(&namespace);
            self.answered.remove(&namespace);
        }
    }
}

/// How a waypoint introduces itself. Istio `Node.id`.
pub(crate) fn introduction(namespace: &Namespace, name: &str, cluster: &str, domain: &str) -> Node {
    let metadata = [("NAMESPACE", namespace.as_str()), ("NAME", name), ("CLUSTER_ID", cluster)];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Node {
        id: format!("waypoint~0.0.0.0~{name}.{namespace}~{namespace}.svc.{domain}"),
        cluster: cluster.to_owned(),
        metadata: metadata.into_iter().collect::<BTreeMap<_, _>>(),
    }
}
