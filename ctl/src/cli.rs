//! Flags.

mod look;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_compile::ClusterDomain;
use weir_explain::Wanted as Destination;
use weir_model::{Namespace, TrustDomain};
use weir_world::{Client, Target};

pub(crate) use crate::install::{Install, Uninstall};
pub(crate) use look::{Agent, Check, Describe, For, Log, Look, Named, OfAgents, Place, Wanted, Waypoint, Why, Wish};

/// Looks at a mesh, and says why. As `kubectl-weir` in the PATH it is `kubectl weir`.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Puts the mesh on a cluster, or brings it to this version.
    Install(Install),
    /// Takes the mesh off a cluster, and off its nodes.
    Uninstall(Uninstall),
    /// Which version this is, and which the programs of the mesh are.
    Version(Look),
    /// The mesh at a glance, problems first. Ends with 0 if there are none, and with 1 if there are.
    Status(Look),
    /// Before an install, whether the mesh can run there; after it, whether all is as it should be. Ends with 0 if so, and with 1 if not.
    Check(Check),
    /// What agents know and do: workloads, services, policies, connections, certificates, logs.
    #[command(subcommand)]
    Agent(Agent),
    /// Waypoints: list, status, config, apply, delete, generate.
    #[command(subcommand)]
    Waypoint(Waypoint),
    /// All about a pod or a service.
    #[command(subcommand)]
    Describe(Describe),
    /// What was refused lately: when, who, to what, why, and what would let it through.
    Why(Why),
    /// The completion script of a shell.
    Completion {
        /// Which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Where a connection or a request goes, hop by hop, which object and rule says so, and why. Ends with 0 if it gets there or is answered as a rule says,
    /// with 1 if it is refused or some of it would be, and with 2 if that cannot be answered.
    Explain(Way),
    /// Who may enter where.
    #[command(subcommand)]
    Authz(Authz),
    /// What is wrong or without effect in manifests. Ends with 0 if nothing is as bad as --fail-on says, with 79 if something is, and with 65 if a
    /// file cannot be read.
    Analyze(crate::analyze::Analyze),
}

/// About policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Authz {
    /// Whether a connection may enter a pod, which policy decides by which rule, and what each of the others says. Ends with 0 if it may, with 1 if
    /// it may not, and with 2 if that cannot be answered.
    Explain(Explain),
}

/// A connection, and the mesh it is asked of.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Who connects: NAMESPACE/SERVICE-ACCOUNT, an identity (spiffe://...) or "plaintext"; with @ADDRESS behind it where the address matters.
    #[arg(long, value_name = "NAMESPACE/ACCOUNT[@ADDRESS]")]
    pub(crate) from: Client,

    /// The pod it wants into, and the pod's own port.
    #[arg(long, value_name = "NAMESPACE/POD:PORT")]
    pub(crate) to: Target,

    /// The admin server of the agent on the pod's node.
    #[arg(long, value_name = "http://HOST:PORT", default_value = "http://localhost:15000")]
    pub(crate) admin: String,

    /// The mesh.
    #[command(flatten)]
    pub(crate) mesh: Mesh,

    /// How the answer is printed.
    #[arg(long, short = 'o', value_enum, default_value = "text", value_name = "text|json")]
    pub(crate) output: Output,
}

/// A connection or a request, and the mesh it is asked of.
#[derive(Debug, Args)]
pub(crate) struct Way {
    /// Who connects: NAMESPACE/SERVICE-ACCOUNT, an identity (spiffe://...) or "plaintext"; with @ADDRESS behind it where the address matters.
    #[arg(long, value_name = "NAMESPACE/ACCOUNT[@ADDRESS]")]
    pub(crate) from: Client,

    /// Where to: a service and its port, a pod and its own, or an address.
    #[arg(long, value_name = "SERVICE.NAMESPACE:PORT|NAMESPACE/POD:PORT|ADDRESS:PORT")]
    pub(crate) to: Destination,

    /// What is asked there, as 'GET /path'. Without it the connection alone is explained.
    #[arg(value_name = "METHOD /PATH")]
    pub(crate) request: Option<String>,

    /// A header of the request; may be given several times.
    #[arg(long, short = 'H', value_name = "NAME: VALUE", requires = "request")]
    pub(crate) header: Vec<String>,

    /// A token that the request bears, or a file with one. Keys that would have to be fetched are not.
    #[arg(long, value_name = "FILE|JWT", requires = "request")]
    pub(crate) token: Option<String>,

    /// The admin server of the waypoint.
    #[arg(long, value_name = "http://HOST:PORT", default_value = "http://localhost:15000")]
    pub(crate) admin: String,

    /// The mesh.
    #[command(flatten)]
    pub(crate) mesh: Mesh,

    /// How the answer is printed.
    #[arg(long, short = 'o', value_enum, default_value = "text", value_name = "text|json")]
    pub(crate) output: Output,
}

/// A mesh in a folder.
#[derive(Debug, Args)]
pub(crate) struct Mesh {
    /// A folder of manifests to answer from, instead of a live program. Lines of files are named then.
    #[arg(long, short = 'f', value_name = "DIR", conflicts_with = "admin")]
    pub(crate) manifests: Option<PathBuf>,

    /// With a folder: the trust domain of every workload.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN", requires = "manifests")]
    pub(crate) trust_domain: TrustDomain,

    /// With a folder: the namespace whose policies without a selector cover the whole mesh.
    #[arg(long, default_value = "istio-system", value_name = "NAME", requires = "manifests")]
    pub(crate) root_namespace: Namespace,

    /// With a folder: the suffix of service names.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN", requires = "manifests")]
    pub(crate) cluster_domain: ClusterDomain,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// How what is looked at is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs, and for files.
    Yaml,
}
