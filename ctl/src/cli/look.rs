//! Flags of what looks at a mesh that runs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, Mesh};

/// Where the mesh is that is looked at: a cluster, unless a folder or admin servers are named.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Admin servers of live programs, instead of those of a cluster.
    #[arg(long, value_name = "http://HOST:PORT[,...]", value_delimiter = ',')]
    pub(crate) admin: Vec<String>,

    /// The file that says where the cluster is; else KUBECONFIG, ~/.kube/config, or the pod this runs in.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "manifests"])]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of that file.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["admin", "manifests"])]
    pub(crate) context: Option<String>,

    /// Where the mesh itself is installed.
    #[arg(long, value_name = "NAMESPACE", default_value = "weir-system")]
    pub(crate) mesh_namespace: String,

    /// A mesh in a folder.
    #[command(flatten)]
    pub(crate) mesh: Mesh,

    /// How the answer is printed.
    #[arg(long, short = 'o', value_enum, default_value = "table", value_name = "table|json|yaml")]
    pub(crate) output: Format,
}

/// Which of many are wanted.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Only of this namespace.
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Only what is called so: a pod, its workload, a service, a policy.
    #[arg(long, visible_alias = "workload", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// What is asked of agents.
#[derive(Debug, Args)]
pub(crate) struct OfAgents {
    /// Only the agent of this node.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// Which are wanted.
    #[command(flatten)]
    pub(crate) wanted: Wanted,

    /// Where the mesh is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// What agents know and do.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Workloads of the mesh, as an agent knows them.
    #[command(visible_alias = "workload")]
    Workloads(OfAgents),
    /// Services of the mesh, as an agent knows them.
    #[command(visible_alias = "service")]
    Services(OfAgents),
    /// Policies that agents enforce, as an agent knows them.
    #[command(visible_alias = "policy")]
    Policies(OfAgents),
    /// Connections that are open now, on every node.
    #[command(visible_alias = "connection")]
    Connections(OfAgents),
    /// Certificates that agents hold for their pods.
    #[command(visible_alias = "certificate")]
    Certificates(OfAgents),
    /// What agents log; with a filter, from now on.
    Log(Log),
}

/// A log filter.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// A level, or `target=level` separated by commas, as `info,access=debug`. Without it, the filter that is in force is shown.
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Option<String>,

    /// Only the agent of this node.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// Where the mesh is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// A question about recent refusals.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Only connections and requests with this end: NAMESPACE, or NAMESPACE/NAME of a pod, a workload, a service account or a service.
    #[arg(value_name = "NAMESPACE[/NAME]")]
    pub(crate) of: Option<String>,

    /// Go on, and tell each refusal when it happens.
    #[arg(long)]
    pub(crate) follow: bool,

    /// At most so many of each program, the newest.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,

    /// Where the mesh is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// About one thing.
#[derive(Debug, Subcommand)]
pub(crate) enum Describe {
    /// A pod: whether it is in the mesh and why, by which agent it is caught, who it is, what it is bound to, and what governs it.
    Pod(Named),
    /// A service: its addresses and endpoints, what it is bound to, and what governs it.
    Service(Named),
}

/// One thing, by its name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Which one: NAMESPACE/NAME, or NAME in `default` or the context's namespace.
    #[arg(value_name = "[NAMESPACE/]NAME")]
    pub(crate) name: String,

    /// Where the mesh is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Where something is looked at, and nothing else.
#[derive(Debug, Args)]
pub(crate) struct Look {
    /// Where the mesh is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Whether a mesh can run there, or runs well.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Look at this very node, as root best: its kernel, cgroups, network plugins.
    #[arg(long, conflicts_with_all = ["admin", "kubeconfig", "context", "manifests"])]
    pub(crate) node: bool,

    /// Where the mesh is, or is to be.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// What a waypoint serves. Label `istio.io/waypoint-for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum For {
    /// Services.
    Service,
    /// Pods asked for by their own addresses.
    Workload,
    /// Both.
    All,
    /// Neither, for now.
    None,
}

/// A waypoint as it is to be.
#[derive(Debug, Args)]
pub(crate) struct Wish {
    /// What it is called.
    #[arg(long, value_name = "NAME", default_value = "waypoint")]
    pub(crate) name: String,

    /// Where it is to be; else `default` or the context's namespace.
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// What it serves.
    #[arg(long = "for", value_enum, value_name = "service|workload|all|none")]
    pub(crate) serves: Option<For>,

    /// Its class.
    #[arg(long, value_name = "NAME", default_value = "weir-waypoint")]
    pub(crate) class: String,
}

/// Waypoints.
#[derive(Debug, Subcommand)]
pub(crate) enum Waypoint {
    /// Every waypoint, and whether it is ready.
    List {
        /// Only of this namespace.
        #[arg(long, short = 'n', value_name = "NAME")]
        namespace: Option<String>,
        /// Where the mesh is.
        #[command(flatten)]
        place: Place,
    },
    /// Whether a waypoint is ready, and if not why.
    Status(Named),
    /// What a waypoint serves: hosts, routes, subsets.
    Config(Named),
    /// Make a waypoint, or change it.
    Apply {
        /// The waypoint.
        #[command(flatten)]
        wish: Wish,
        /// Have all of its namespace use it.
        #[arg(long)]
        enroll_namespace: bool,
        /// Take fields that somebody else set.
        #[arg(long)]
        overwrite: bool,
        /// Where the mesh is.
        #[command(flatten)]
        place: Place,
    },
    /// Take a waypoint away. What names it is refused until the label is taken off.
    Delete(Named),
    /// Print a waypoint's Gateway, without making it.
    Generate {
        /// The waypoint.
        #[command(flatten)]
        wish: Wish,
    },
}

impl Agent {
    /// Where the mesh is.
    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::Workloads(of)
            | Self::Services(of)
            | Self::Policies(of)
            | Self::Connections(of)
            | Self::Certificates(of) => &of.place,
            Self::Log(log) => &log.place,
        }
    }
}
