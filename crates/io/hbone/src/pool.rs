//! The connections of one worker, shared by tunnels that may share them.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use tokio::time::Instant;
use weir_model::{SpiffeId, WorkloadUid};
use weir_wire::head::Connect;

use crate::{client::Client, error::Error, stream::Tunnel};

/// Two tunnels share a connection only if all of this is the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Who connects.
    pub source: SpiffeId,
    /// From which address: two pods of one service account never share.
    pub source_ip: IpAddr,
    /// Who may answer.
    pub expect: Arc<[SpiffeId]>,
    /// Where to.
    pub next_hop: SocketAddr,
    /// The workload behind it: an address that moved to another pod is another key.
    pub destination: WorkloadUid,
    /// Which bearer of that name: a pod made anew with the name and the address of the last one is another key, too.
    pub incarnation: Arc<str>,
}

/// A connection made for a pool, not yet running.
pub struct Dialed<F> {
    /// Opens streams.
    pub client: Client,
    /// Must be run for anything to move.
    pub run: F,
}

/// The connections of one worker.
pub struct Pool {
    slots: RefCell<HashMap<PoolKey, Rc<Slot>, foldhash::fast::RandomState>>,
}

#[derive(Default)]
struct Slot {
    clients: RefCell<Vec<Client>>,
    /// Held by whoever dials, so that a burst makes one connection.
    dialing: tokio::sync::Mutex<()>,
    /// The last failure: those who waited for that very dial share it.
    failed: RefCell<Option<(Instant, Error)>>,
}

impl Slot {
    fn available(&self) -> Option<Client> {
        // The first with room: what is left alone becomes idle and is released.
        self.clients.borrow().iter().find(|c| c.is_available()).cloned()
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self { slots: RefCell::new(HashMap::default()) }
    }
}

impl Pool {
    /// Opens a tunnel on a connection of `key`, dialing one if none has room. When the connection goes away before the peer
    /// answered, it is tried once more on a new one: nothing of the application was sent yet.
    ///
    /// # Errors
    /// What dialing or opening gives.
    pub async fn open<D, F>(
        self: &Rc<Self>,
        key: &PoolKey,
        connect: &Connect<'_>,
        dial: impl Fn() -> D,
    ) -> Result<(Tunnel, Option<Vec<u8>>), Error>
    where
        D: Future<Output = Result<Dialed<F>, Error>>,
        F: Future<Output = crate::Lost> + 'static,
    {
        let mut tried = false;
        loop {
            let client = self.client(key, &dial).await?;
            match client.open(connect).await {
                Err(error) if error.is_retryable() && !tried => {
                    tried = true;
                    tracing::debug!(%error, next_hop = %key.next_hop, "tunnel lost before the answer, trying once more");
                    self.discard(key, &client);
                }
                result => return result,
            }
        }
    }

    async fn client<D, F>(self: &Rc<Self>, key: &PoolKey, dial: &impl Fn() -> D) -> Result<Client, Error>
    where
        D: Future<Output = Result<Dialed<F>, Error>>,
        F: Future<Output = crate::Lost> + 'static,
    {
        let slot = self.slot(key);
        if let Some(client) = slot.available() {
            return Ok(client);
        }
        let asked = Instant::now();
        let _dialing = slot.dialing.lock().await;
        if let Some(client) = slot.available() {
            return Ok(client);
        }
        if let Some((at, error)) = &*slot.failed.borrow()
            && *at >= asked
        {
            return Err(error.clone());
        }
        match dial().await {
            Ok(Dialed { client, run }) => {
                slot.failed.borrow_mut().take();
                slot.clients.borrow_mut().push(client.clone());
                let (pool, key, ended) = (self.clone(), key.clone(), client.clone());
                tokio::task::spawn_local(async move {
                    let lost = run.await;
                    tracing::debug!(reason = %lost, next_hop = %key.next_hop, "tunnel connection ended");
                    pool.discard(&key, &ended);
                });
                Ok(client)
            }
            Err(error) => {
                *slot.failed.borrow_mut() = Some((Instant::now(), error.clone()));
                drop(_dialing);
                self.forget_if_empty(key);
                Err(error)
            }
        }
    }

    fn slot(&self, key: &PoolKey) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        slots.entry(key.clone()).or_default().clone()
    }

    fn discard(&self, key: &PoolKey, client: &Client) {
        if let Some(slot) = self.slots.borrow().get(key) {
            slot.clients.borrow_mut().retain(|c| !c.is(client));
        }
        self.forget_if_empty(key);
    }

    fn forget_if_empty(&self, key: &PoolKey) {
        let mut slots = self.slots.borrow_mut();
        let unused = |slot: &Rc<Slot>| {
            // Nobody else holds it: nobody dials, nobody waits.
            Rc::strong_count(slot) == 1 && slot.clients.borrow().is_empty()
        };
        if slots.get(key).is_some_and(unused) {
            slots.remove(key);
        }
    }

    /// Opens no more tunnels on connections that `stale` says no longer lead where they should; those open go on.
    pub fn retire(&self, reason: &'static str, stale: impl Fn(&PoolKey) -> bool) {
        let mut slots = self.slots.borrow_mut();
        slots.retain(|key, slot| {
            if !stale(key) {
                return true;
            }
            for client in slot.clients.borrow().iter() {
                client.retire(reason);
            }
            false
        });
    }

    /// Connections and streams open now.
    pub fn size(&self) -> (usize, usize) {
        let slots = self.slots.borrow();
        slots.values().fold((0, 0), |(connections, streams), slot| {
            let clients = slot.clients.borrow();
            (connections + clients.len(), streams + clients.iter().map(Client::open_streams).sum::<usize>())
        })
    }
}
