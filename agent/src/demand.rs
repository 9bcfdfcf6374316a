//! Asking the control plane who has an address, where it tells only what it is asked.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::timeout};
use weir_model::Network;
use weir_world::World;
use weir_xds::Demand;

/// How long a connection waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that are kept. Beyond, those that say that nobody has the address are asked for anew.
const KEPT: usize = 8_000;

/// A name, `network/address`, as the control plane knows it.
type Name = String;

/// What the control plane said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Known,
    Absent,
}

/// What was asked, and what is known.
pub(crate) struct Demands {
    ask: Demand,
    /// Names that were answered, and whether somebody has them. Read without a lock on the way of a connection.
    settled: ArcSwap<HashMap<Name, Answer>>,
    /// Names that were asked for and not answered yet. Locked only when somebody asks, or an answer comes.
    waiting: Mutex<HashMap<Name, (Network, IpAddr)>>,
    changed: watch::Sender<()>,
}

impl Demands {
    pub(crate) fn new(ask: Demand) -> Self {
        Self { ask, settled: ArcSwap::default(), waiting: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Returns when the control plane has said who has the address.
    ///
    /// # Errors
    /// It did not in time, or cannot be asked.
    pub(crate) async fn settle(&self, network: &Network, ip: IpAddr) -> Result<(), String> {
        let name = format!("{network}/{ip}");
        let mut changed = self.changed.subscribe();
        if self.settled.load().contains_key(&name) {
            return Ok(());
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), (network.clone(), ip));
        self.ask
            .subscribe(&name)
            .map_err(|error| format!("the control plane cannot be asked who has {ip}: {error}"))?;
        let answered = async {
            while !self.settled.load().contains_key(&name) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        let late = |_| format!("the control plane did not say within {PATIENCE:?} who has {ip}");
        timeout(PATIENCE, answered).await.map_err(late)
    }

    /// Nobody has it. The control plane will tell when somebody does.
    pub(crate) fn absent(&self, name: Name) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        self.add([name], Answer::Absent);
    }

    /// The world was told: whoever waits for something in it need not wait any more. Call it when that world is in force.
    pub(crate) fn told(&self, world: &World) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(_, (network, ip)): &(&Name, &(Network, IpAddr))| world.has(network, *ip);
        let found: Vec<Name> = waiting.iter().filter(known).map(|(name, _)| name.clone()).collect();
        for name in &found {
            waiting.remove(name);
        }
        drop(waiting);
        if !found.is_empty() {
            self.add(found, Answer::Known);
        }
    }

    fn add(&self, names: impl IntoIterator<Item = Name>, answer: Answer) {
        let mut settled = HashMap::clone(&self.settled.load());
        if settled.len() >= KEPT {
            // Asked for again when somebody connects there again. A demand that cannot be taken back stays one.
            settled.retain(|name, answer| match answer {
                Answer::Known => true,
                Answer::Absent => self.ask.unsubscribe(name).is_err(),
            });
        }
        settled.extend(names.into_iter().map(|name| (name, answer)));
        self.settled.store(Arc::new(settled));
        self.changed.send_replace(());
    }
}
