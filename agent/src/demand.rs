//! Asking the control plane who has an address or which service has a name, where it tells only what it is asked.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::timeout};
use weir_model::{Network, ServiceName, WaypointDestination};
use weir_world::World;
use weir_xds::Demand;

/// How long a connection waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that are kept. Beyond, those that say that nobody has the address are asked for anew.
const KEPT: usize = 8_000;

/// A name, `network/address` or `namespace/hostname`, as the control plane knows it.
type Name = String;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sought {
    /// Who has an address.
    Address(Network, IpAddr),
    /// A service, and who stands behind it.
    Service(ServiceName),
}

impl Sought {
    fn name(&self) -> Name {
        match self {
            Self::Address(network, ip) => format!("{network}/{ip}"),
            Self::Service(name) => name.to_string(),
        }
    }

    fn is_in(&self, world: &World) -> bool {
        match self {
            Self::Address(network, ip) => world.has(network, *ip),
            Self::Service(name) => world.service(name).is_some(),
        }
    }
}

impl fmt::Display for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(_, ip) => write!(f, "who has {ip}"),
            Self::Service(name) => write!(f, "of service {name}"),
        }
    }
}

impl From<&WaypointDestination> for Sought {
    fn from(destination: &WaypointDestination) -> Self {
        match destination {
            WaypointDestination::Service(name) => Self::Service(name.clone()),
            WaypointDestination::Address(network, ip) => Self::Address(network.clone(), *ip),
        }
    }
}

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
    waiting: Mutex<HashMap<Name, Sought>>,
    changed: watch::Sender<()>,
}

impl Demands {
    pub(crate) fn new(ask: Demand) -> Self {
        Self { ask, settled: ArcSwap::default(), waiting: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Returns when the control plane has said what it knows of it.
    ///
    /// # Errors
    /// It did not in time, or cannot be asked.
    pub(crate) async fn settle(&self, sought: Sought) -> Result<(), String> {
        let name = sought.name();
        let mut changed = self.changed.subscribe();
        if self.settled.load().contains_key(&name) {
            return Ok(());
        }
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // A pod that tries every address there is must not fill the memory of its node.
            if waiting.len() >= KEPT && !waiting.contains_key(&name) {
                return Err(format!("the control plane has not said what it knows of {KEPT} others yet"));
            }
            waiting.insert(name.clone(), sought.clone());
        }
        if let Err(error) = self.ask.subscribe(&name) {
            self.give_up(&name);
            return Err(format!("the control plane cannot be asked {sought}: {error}"));
        }
        let answered = async {
            while !self.settled.load().contains_key(&name) {
                // Without anybody to tell there is no answer, and no answer is no permission.
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let late = |_| format!("the control plane did not say within {PATIENCE:?} {sought}");
        timeout(PATIENCE, answered).await.map_err(late)
    }

    /// It is not asked for after all.
    pub(crate) fn give_up(&self, name: &str) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Nobody has it. The control plane will tell when somebody does.
    pub(crate) fn absent(&self, name: Name) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        self.add([name], Answer::Absent);
    }

    /// The world was told: whoever waits for something in it need not wait any more. Call it when that world is in force.
    pub(crate) fn told(&self, world: &World) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(_, sought): &(&Name, &Sought)| sought.is_in(world);
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

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        pin::pin,
        task::{Context, Waker},
    };

    use weir_rpc::Channel;
    use weir_xds::{Client, Mode, Node};

    use super::*;

    #[tokio::test]
    async fn a_pod_that_tries_every_address_fills_nothing() {
        // Nobody even takes the demands.
        let client = Client::new(|| async { Err::<Channel, _>("away".to_owned()) }, Mode::OnDemand, Node::default());
        let demands = Demands::new(client.demand());
        let waiting = || demands.waiting.lock().unwrap().len();
        let mut refused = 0_usize;
        for number in 0..20_000 {
            let (network, address) = (Network::default(), IpAddr::V4(Ipv4Addr::from(number)));
            let settling = pin!(demands.settle(Sought::Address(network, address)));
            refused += usize::from(settling.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        assert!(waiting() <= KEPT && waiting() + refused == 20_000, "{} wait, {refused} were refused", waiting());
        // What is given up makes room, and so does an answer.
        let before = waiting();
        demands.give_up("/0.0.0.0");
        demands.absent("/0.0.0.1".to_owned());
        assert_eq!(waiting(), before - 2);
    }
    #[tokio::test]
    async fn a_waypoint_is_asked_for_by_its_service_or_by_its_address() {
        let name: ServiceName = "gw/w.gw.svc.cluster.local".parse().unwrap();
        let address = WaypointDestination::Address("net".parse().unwrap(), "10.0.0.1".parse().unwrap());
        for (destination, want) in
            [(WaypointDestination::Service(name), "gw/w.gw.svc.cluster.local"), (address, "net/10.0.0.1")]
        {
            let client =
                Client::new(|| async { Err::<Channel, _>("away".to_owned()) }, Mode::OnDemand, Node::default());
            let demands = Demands::new(client.demand());
            let mut settling = pin!(demands.settle(Sought::from(&destination)));
            let mut context = Context::from_waker(Waker::noop());
            assert!(settling.as_mut().poll(&mut context).is_pending());
            // A world without it tells nothing.
            demands.told(&World::default());
            assert!(settling.as_mut().poll(&mut context).is_pending());
            demands.absent(want.to_owned());
            assert!(settling.as_mut().poll(&mut context).is_ready(), "{want}");
        }
    }
}
