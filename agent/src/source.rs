//! Where the mesh comes from: a folder of manifests, or a control plane.

use std::{collections::BTreeMap, path::Path, pin::Pin, sync::Arc};

use weir_compile::{PolicyStatus, Settings, compile_with_status};
use weir_discovery::{Folder, SourceError, Timing, Update};
use weir_manifest::Ignored;
use weir_model::NodeName;
use weir_rpc::{Channel, Dial, DialError};
use weir_telemetry::ControlState;
use weir_world::World;
use weir_xds::{Client, Event, Mode, Node};

use crate::{demand::Demands, enrol::chain};

type Dialling = Pin<Box<dyn Future<Output = Result<Channel, DialError>> + Send>>;
type Connect = Box<dyn Fn() -> Dialling + Send + Sync>;

/// What a change of the source came to.
pub(crate) enum Change {
    /// A new world. A control plane's first one is whole.
    World(Arc<World>),
    /// What the source holds is not taken, for these reasons; the last good world stays in force.
    Rejected(Vec<String>),
}

/// Where the mesh comes from.
pub(crate) enum Source {
    /// A folder.
    Folder(Box<Manifests>),
    /// A control plane.
    Control(Box<Control>),
}

impl Source {
    /// The next change. May be cancelled at any point without losing one.
    pub(crate) async fn next(&mut self) -> Change {
        match self {
            Self::Folder(folder) => match folder.next().await {
                Ok(world) => Change::World(world),
                Err(errors) => Change::Rejected(errors.iter().map(|error| chain(error)).collect()),
            },
            Self::Control(control) => control.next().await,
        }
    }

    /// What it holds that has no effect here.
    pub(crate) fn ignored(&self) -> &[Ignored] {
        match self {
            Self::Folder(manifests) => manifests.folder.ignored(),
            Self::Control(_) => &[],
        }
    }

    /// What became of its policies. A control plane says that itself.
    pub(crate) fn statuses(&self) -> &[PolicyStatus] {
        match self {
            Self::Folder(manifests) => &manifests.statuses,
            Self::Control(_) => &[],
        }
    }
}

/// What is made of a folder's objects.
struct Compiled {
    world: Arc<World>,
    statuses: Vec<PolicyStatus>,
}

/// A folder of manifests, followed, and what became of the policies in it.
pub(crate) struct Manifests {
    folder: Folder<Compiled>,
    statuses: Vec<PolicyStatus>,
}

impl Manifests {
    /// Reads the folder and begins to watch it. Blocks while it reads.
    ///
    /// # Errors
    /// Everything that keeps the folder's contents from being taken.
    pub(crate) fn open(folder: &Path, settings: Settings) -> Result<(Arc<World>, Self), Vec<SourceError>> {
        let (Compiled { world, statuses }, folder) = Folder::open_as(folder, Timing::default(), move |objects| {
            let (mesh, statuses) = compile_with_status(objects, &settings);
            Compiled { world: Arc::new(World::new(mesh)), statuses }
        })?;
        Ok((world, Self { folder, statuses }))
    }

    /// The next world, or why what the folder holds is not taken. May be cancelled at any point without losing one.
    async fn next(&mut self) -> Result<Arc<World>, Vec<SourceError>> {
        match self.folder.next().await {
            Update::World(Compiled { world, statuses }) => {
                self.statuses = statuses;
                Ok(world)
            }
            Update::Rejected(errors) => Err(errors),
        }
    }
}

/// A control plane, followed.
pub(crate) struct Control {
    client: Client<Connect>,
    world: Arc<World>,
    state: ControlState,
    demands: Option<Arc<Demands>>,
}

impl Control {
    /// Begins to follow the control plane behind `dial`.
    pub(crate) fn new(dial: Dial, node: &NodeName, cluster: &str, on_demand: bool, state: ControlState) -> Self {
        let mode = if on_demand { Mode::OnDemand } else { Mode::Wildcard };
        let metadata = [("NODE_NAME", node.as_str()), ("CLUSTER_ID", cluster)];
        let introduction = Node {
            id: format!("ztunnel~0.0.0.0~weir-agent.{node}~{node}"),
            cluster: cluster.to_owned(),
            metadata: metadata
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        };
        let connect: Connect = Box::new(move || {
            let dial = dial.clone();
            Box::pin(async move { dial.connect().await })
        });
        let client = Client::new(connect, mode, introduction);
        let demands = on_demand.then(|| Arc::new(Demands::new(client.demand())));
        Self { client, world: Arc::new(World::following(node.clone())), state, demands }
    }

    /// What connections to addresses nobody asked about yet wait for; none when everything is told unasked.
    pub(crate) fn demands(&self) -> Option<Arc<Demands>> {
        self.demands.clone()
    }

    async fn next(&mut self) -> Change {
        loop {
            match self.client.next(&self.world).await {
                Event::Delta(delta) => {
                    self.state.heard();
                    self.world = Arc::new(self.world.apply(delta));
                    if self.state.is_synced() {
                        return Change::World(self.world.clone());
                    }
                }
                Event::Synced => {
                    self.state.synced();
                    tracing::info!(workloads = self.world.len(), "the control plane has told everything");
                    return Change::World(self.world.clone());
                }
                Event::Absent(name) => {
                    self.state.heard();
                    if let Some(demands) = &self.demands {
                        demands.absent(name);
                    }
                }
                // A waypoint's matter: an agent asks for none.
                Event::Objects(_) | Event::Answered(_) => self.state.heard(),
                Event::Lost(reason) => {
                    tracing::warn!(reason, "the control plane is away; what is known stays in force");
                    self.state.lost(reason);
                }
                Event::Rejected { name, why } => {
                    self.state.heard();
                    if let Some(demands) = &self.demands {
                        demands.give_up(&name);
                    }
                    return Change::Rejected(vec![format!("{name}: {why}")]);
                }
            }
        }
    }
}
