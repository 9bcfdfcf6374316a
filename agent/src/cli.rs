//! Flags. Names of environment variables are Istio's where Istio has one.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use weir_compile::ClusterDomain;
use weir_model::{ClusterId, Namespace, Network, NodeName, TrustDomain};
use weir_telemetry::{AdminPort, LogFormat, everywhere};

/// The node agent of Weir, a service mesh without sidecars.
#[derive(Debug, Parser)]
#[command(name = "weir-agent", version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = false)]
struct Program {
    /// What to do; without it, be the agent.
    #[command(subcommand)]
    task: Option<Task>,

    /// Folder on bpffs for this agent's pins.
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf/weir")]
    bpf_dir: PathBuf,
}

/// What to be, and where its pins are.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// Folder on bpffs for this agent's pins.
    pub(crate) bpf_dir: PathBuf,
    /// The agent, unless another task was asked for.
    pub(crate) part: Part,
}

/// What to be.
#[derive(Debug)]
pub(crate) enum Part {
    /// The agent.
    Agent(Box<AgentArguments>),
    /// Something short.
    Task(Task),
}

impl Arguments {
    /// Reads the words of a command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with them, or what was asked about them.
    pub(crate) fn read<W: Into<OsString> + Clone>(words: impl IntoIterator<Item = W>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(words)?;
        let program = Program::from_arg_matches(&matches)?;
        let part = match program.task {
            Some(task) => Part::Task(task),
            // Only now: the agent's flags may be in the environment of a task that has no use for them.
            None => Part::Agent(Box::new(AgentArguments::from_arg_matches(&matches)?)),
        };
        Ok(Self { bpf_dir: program.bpf_dir, part })
    }

    /// All flags, the agent's own included.
    pub(crate) fn command() -> clap::Command {
        let program = Program::command();
        // The arguments would bring their own description along.
        let about = program.get_about().cloned().unwrap_or_default();
        AgentArguments::augment_args(program).about(about)
    }
}

/// What the agent needs.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentArguments {
    /// Folder of Kubernetes manifests that is the mesh's state; changes are followed. Then no control plane is needed.
    #[arg(long, value_name = "DIR", required_unless_present = "control", requires = "ca_dir")]
    pub(crate) manifests: Option<PathBuf>,

    /// The control plane that tells the mesh's state: weir-control, or istiod.
    #[arg(long, env = "XDS_ADDRESS", value_name = "https://HOST:PORT", conflicts_with = "manifests")]
    pub(crate) control: Option<String>,

    /// The name in the control plane's certificate, where it is not the host's.
    #[arg(long, env = "ALT_XDS_HOSTNAME", value_name = "NAME")]
    pub(crate) control_name: Option<String>,

    /// File of the roots that the control plane's certificate must lead to, PEM.
    #[arg(long, env = "XDS_ROOT_CA", default_value = "/var/run/secrets/istio/root-cert.pem", value_name = "FILE")]
    pub(crate) control_roots: PathBuf,

    /// Let the control plane tell only what is asked for, as connections need it: for meshes too large to be known by every node.
    #[arg(long, env = "XDS_ON_DEMAND", default_value = "false", value_name = "true|false", action = clap::ArgAction::Set)]
    pub(crate) on_demand: bool,

    /// The CA that certificates are asked from; the control plane when absent.
    #[arg(long, env = "CA_ADDRESS", value_name = "https://HOST:PORT", conflicts_with = "manifests")]
    pub(crate) ca: Option<String>,

    /// The name in the CA's certificate, where it is not the host's.
    #[arg(long, env = "ALT_CA_HOSTNAME", value_name = "NAME")]
    pub(crate) ca_name: Option<String>,

    /// File of the roots that the CA's certificate must lead to, PEM. They are believed of peers, too.
    #[arg(long, env = "CA_ROOT_CA", default_value = "/var/run/secrets/istio/root-cert.pem", value_name = "FILE")]
    pub(crate) ca_roots: PathBuf,

    /// File of the token that proves to control plane and CA who asks.
    #[arg(long, default_value = "/var/run/secrets/tokens/istio-token", value_name = "FILE")]
    pub(crate) token: PathBuf,

    /// The node this agent runs on, as `spec.nodeName` of its pods says.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: NodeName,

    /// Folder of the development CA's root; made if absent. Only with --manifests.
    #[arg(long, value_name = "DIR", requires = "manifests")]
    pub(crate) ca_dir: Option<PathBuf>,

    /// The trust domain of every workload.
    #[arg(long, env = "TRUST_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) trust_domain: TrustDomain,

    /// The cluster's name in metrics and logs.
    #[arg(long, env = "CLUSTER_ID", default_value = "Kubernetes", value_name = "NAME")]
    pub(crate) cluster_id: ClusterId,

    /// The network this node's pods are on; empty is the default one.
    #[arg(long, env = "NETWORK", default_value = "", value_name = "NAME")]
    pub(crate) network: Network,

    /// With a folder: the namespace whose policies without a selector cover the whole mesh. Istio `meshConfig.rootNamespace`.
    #[arg(long, default_value = "istio-system", value_name = "NAME")]
    pub(crate) root_namespace: Namespace,

    /// With a folder: the suffix of service names.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) cluster_domain: ClusterDomain,

    /// The unix socket on which the CNI plugin asks whether a pod is caught; without it, none is opened.
    #[arg(long, value_name = "PATH")]
    pub(crate) cni_socket: Option<PathBuf>,

    /// Folder of network configurations in which the CNI plugin is put into the runtime's chain, and put back if it is removed.
    #[arg(long, value_name = "DIR", requires_all = ["cni_plugin", "cni_socket"])]
    pub(crate) cni_conf_dir: Option<PathBuf>,

    /// Folder of plugins, for --cni-conf-dir.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub(crate) cni_bin_dir: PathBuf,

    /// The CNI plugin to copy, for --cni-conf-dir.
    #[arg(long, value_name = "PATH")]
    pub(crate) cni_plugin: Option<PathBuf>,

    /// The unix socket of a CNI node agent that hands over pods by ZDS, as Istio's does; it then decides which are caught.
    #[arg(long, value_name = "PATH")]
    pub(crate) zds_socket: Option<PathBuf>,

    /// The node's /proc, where pods that nobody tells of are found by their processes.
    #[arg(long, env = "HOSTPROC", value_name = "DIR", default_value = "/proc")]
    pub(crate) proc: PathBuf,

    /// Root of the cgroup v2 tree; found in the mount table when absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup_root: Option<PathBuf>,

    /// A process of the node that reaches pods without the mesh, as the kubelet must to probe. Only needed where cgroups do
    /// not tell pods from the node; may be given several times.
    #[arg(long, env = "WEIR_HOST_PROCESSES", value_name = "PID", value_delimiter = ',')]
    pub(crate) host_process: Vec<u32>,

    /// Connections that may be under way (connected, not yet accepted) on this node at once.
    #[arg(long, default_value_t = 65_536, value_name = "N")]
    pub(crate) max_flows: u32,

    /// Worker threads; one per core when absent.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,

    /// How long open connections may go on after SIGTERM.
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = duration)]
    pub(crate) drain: Duration,

    /// Where /metrics and /stats/prometheus are served.
    #[arg(long, default_value_t = everywhere(15020), value_name = "ADDRESS")]
    pub(crate) stats_addr: SocketAddr,

    /// Where /healthz/ready is served.
    #[arg(long, default_value_t = everywhere(15021), value_name = "ADDRESS")]
    pub(crate) ready_addr: SocketAddr,

    /// The port on localhost where /config_dump, /logging and /quitquitquit are served.
    #[arg(long, default_value = "localhost:15000", value_name = "localhost:PORT")]
    pub(crate) admin_addr: AdminPort,

    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_name = "text|json")]
    pub(crate) log_format: LogFormat,

    /// What is logged: a level, or `target=level` separated by commas. `access=debug` logs the opening of connections too.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log_level: String,

    /// Whether each connection is logged.
    #[arg(long, default_value = "on", value_name = "on|off")]
    pub(crate) access_log: Switch,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// What to do instead of being the agent.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Task {
    /// Take everything of Weir out of the kernel: links, maps, pins, routing rules, routes, settings. Pods then talk without
    /// the mesh.
    Cleanup {
        /// The node's /proc, where namespaces are found by their processes and have their settings.
        #[arg(long, env = "HOSTPROC", value_name = "DIR", default_value = "/proc")]
        proc: PathBuf,
    },
    /// Put the CNI plugin on this node, or take it off.
    #[command(subcommand)]
    Cni(Cni),
}

/// What to do with the CNI plugin.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Cni {
    /// Copy the plugin and make it the last of the runtime's chain. Does nothing where that is so already.
    Install {
        #[command(flatten)]
        node: CniFolders,

        /// The plugin to copy.
        #[arg(long, value_name = "PATH")]
        plugin: PathBuf,

        /// The agent's --cni-socket.
        #[arg(long, value_name = "PATH", default_value = "/run/weir/cni.sock")]
        agent_socket: PathBuf,
    },
    /// Take the plugin out of every chain, then off the node.
    Uninstall {
        #[command(flatten)]
        node: CniFolders,
    },
}

/// Where the runtime looks.
#[derive(Debug, Clone, Args)]
pub(crate) struct CniFolders {
    /// Folder of network configurations.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub(crate) conf_dir: PathBuf,

    /// Folder of plugins.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub(crate) bin_dir: PathBuf,
}

/// Seconds, or a number with `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| expected())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(expected),
        _ => Err(expected()),
    }
}

fn expected() -> String {
    "expected a time such as 500ms, 20s or 2m".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_time_has_a_unit_we_know() {
        for (text, want) in [("20s", 20_000), ("500ms", 500), ("2m", 120_000), ("7", 7_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(want)), "{text}");
        }
        for bad in ["", "s", "-1s", "1h", "1.5s", "99999999999999999999s", "999999999999999999m"] {
            assert!(duration(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn cleanup_needs_nothing_else() {
        // The second as in a container that has NODE_NAME set.
        for words in [
            &["weir-agent", "cleanup", "--bpf-dir", "/x"][..],
            &["weir-agent", "--node-name", "n1", "--bpf-dir", "/x", "cleanup"],
            &["weir-agent", "--bpf-dir", "/x", "cleanup", "--proc", "/host/proc"],
        ] {
            let arguments = Arguments::read(words).unwrap();
            assert_eq!(arguments.bpf_dir, PathBuf::from("/x"), "{words:?}");
            assert!(matches!(arguments.part, Part::Task(Task::Cleanup { .. })), "{words:?}");
        }
    }

    #[test]
    fn an_agent_needs_its_folders_and_its_name() {
        let all = ["weir-agent", "--manifests=/m", "--node-name=n1", "--ca-dir=/c"];
        assert!(matches!(Arguments::read(all).unwrap().part, Part::Agent(_)));
        for left_out in 1..all.len() {
            let words = all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, word)| *word);
            assert!(Arguments::read(words).is_err(), "without {}", all[left_out]);
        }
    }
}
