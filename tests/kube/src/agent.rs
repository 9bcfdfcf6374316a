//! What an agent is to a control plane: a subscriber that keeps what it is told, and a CA's customer.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, timeout_at};
use weir_issuance::RemoteCa;
use weir_model::{Policy, Service, Workload};
use weir_rpc::{Channel, Dial, DialError, Target};
use weir_world::World;
use weir_xds::{Client, Event, Mode, Node};

use crate::control::PATIENCE;

/// The name the control planes of the suite are called by.
pub const SERVING_NAME: &str = "localhost";

type Connecting = Pin<Box<dyn Future<Output = Result<Channel, DialError>> + Send>>;
type Connect = Box<dyn Fn() -> Connecting + Send + Sync>;

/// How a control plane is called.
///
/// # Errors
/// When the address is none.
pub fn dial(address: SocketAddr, roots: &Path, token: Option<&Path>) -> Result<Dial> {
    let target = Target::parse(&address.to_string(), Some(SERVING_NAME))?;
    Ok(Dial { target, roots: roots.to_owned(), token: token.map(Path::to_owned) })
}

/// A subscriber, and what it knows. It lives while one of its functions runs.
pub struct Agent {
    client: Client<Connect>,
    address: Arc<Mutex<SocketAddr>>,
    roots: PathBuf,
    token: PathBuf,
    /// All that it was told, as agents keep it.
    world: World,
    /// By uid.
    pub workloads: BTreeMap<String, Workload>,
    /// By `namespace/hostname`.
    pub services: BTreeMap<String, Service>,
    /// By `namespace/name`.
    pub policies: BTreeMap<String, Policy>,
    /// Every event but changes, in short; and how many resources each change had.
    pub heard: Vec<String>,
}

impl Agent {
    /// An agent that proves itself by a token.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn new(folder: &Path, address: SocketAddr, roots: &str, token: &str, mode: Mode) -> Result<Self> {
        let unique: u64 = rand::random();
        let (roots_file, token_file) =
            (folder.join(format!("{unique:x}.pem")), folder.join(format!("{unique:x}.token")));
        fs::write(&roots_file, roots)?;
        fs::write(&token_file, token)?;
        let address = Arc::new(Mutex::new(address));
        let (to, believed, shown) = (address.clone(), roots_file.clone(), token_file.clone());
        let connect: Connect = Box::new(move || {
            let to = *to.lock().unwrap_or_else(PoisonError::into_inner);
            let dialed = dial(to, &believed, Some(&shown)).expect("an address and a name make a target");
            Box::pin(async move { dialed.connect().await })
        });
        let node = Node { id: format!("agent-{unique:x}"), ..Node::default() };
        Ok(Self {
            client: Client::new(connect, mode, node),
            address,
            roots: roots_file,
            token: token_file,
            world: World::default(),
            workloads: BTreeMap::new(),
            services: BTreeMap::new(),
            policies: BTreeMap::new(),
            heard: Vec::new(),
        })
    }

    /// Its next connections go there.
    pub fn turn_to(&self, address: SocketAddr) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// It believes these roots from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn believe(&self, roots: &str) -> Result<()> {
        Ok(fs::write(&self.roots, roots)?)
    }

    /// It shows this token from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn show(&self, token: &str) -> Result<()> {
        Ok(fs::write(&self.token, token)?)
    }

    /// The CA it asks.
    ///
    /// # Errors
    /// When the address is none.
    pub fn ca(&self, lifetime: Duration) -> Result<RemoteCa> {
        let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(RemoteCa::new(dial(address, &self.roots, Some(&self.token))?, lifetime))
    }

    /// Wants to know of a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn demand(&self, name: &str) -> Result<()> {
        Ok(self.client.demand().subscribe(name)?)
    }

    /// Takes the next event.
    fn take(&mut self, event: Event) {
        let line = match event {
            Event::Delta(delta) => {
                self.world = self.world.apply(delta.clone());
                let count = delta.workloads.len() + delta.services.len() + delta.policies.len();
                for (uid, workload) in delta.workloads {
                    set(&mut self.workloads, uid.to_string(), workload);
                }
                for (name, service) in delta.services {
                    set(&mut self.services, name.to_string(), service);
                }
                for (name, policy) in delta.policies {
                    set(&mut self.policies, name.to_string(), policy);
                }
                format!("{count} changes")
            }
            Event::Synced => "synced".to_owned(),
            Event::Lost(why) => format!("lost {why}"),
            Event::Rejected { name, why } => format!("rejected {name}: {why}"),
            Event::Absent(name) => format!("absent {name}"),
            Event::Objects(changes) => format!("{} objects", changes.len()),
            Event::Answered(namespace) => format!("answered {namespace}"),
        };
        self.heard.push(line);
    }

    /// Listens until it is so.
    ///
    /// # Errors
    /// When it is not in time, with what was heard.
    pub async fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !so(self) {
            let next = timeout_at(deadline, self.client.next(&self.world)).await;
            let last = self.heard.len().saturating_sub(20);
            let event = next.with_context(|| {
                let known: Vec<_> = self.workloads.keys().chain(self.services.keys()).take(40).collect();
                format!("not in time: {what}; heard last {:?}, knows {known:?}", &self.heard[last..])
            })?;
            self.take(event);
        }
        Ok(())
    }

    /// Listens until the next time that all it asked for is there.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn synced(&mut self) -> Result<()> {
        let from = self.heard.len();
        self.until("synced", |agent| agent.heard[from..].iter().any(|line| line == "synced")).await
    }

    /// Listens until its connection is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn lost(&mut self) -> Result<String> {
        let from = self.heard.len();
        self.until("lost", |agent| agent.heard[from..].iter().any(|line| line.starts_with("lost"))).await?;
        self.heard.last().cloned().context("it heard that")
    }

    /// Connects again, to `address`, and is told nothing: what it knows is so.
    ///
    /// # Errors
    /// When it does not, or is told anything.
    pub async fn returns_to_the_same(&mut self, address: SocketAddr) -> Result<()> {
        self.turn_to(address);
        let from = self.heard.len();
        self.synced().await?;
        let news: Vec<_> = self.heard[from..].iter().filter(|line| line.ends_with("changes")).collect();
        ensure!(news.is_empty(), "unchanged state was sent again: {:?}", &self.heard[from..]);
        Ok(())
    }
}

fn set<T>(all: &mut BTreeMap<String, T>, key: String, value: Option<T>) {
    match value {
        Some(value) => drop(all.insert(key, value)),
        None => drop(all.remove(&key)),
    }
}
