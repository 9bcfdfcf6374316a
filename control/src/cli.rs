//! Flags. Names of environment variables are Istio's where Istio has one.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use weir_compile::ClusterDomain;
use weir_issuance::NodeAgents;
use weir_model::{ClusterId, Namespace, Network, TrustDomain};
use weir_telemetry::{AdminPort, LogFormat, everywhere};

use crate::deployer;

/// The control plane of Weir: turns what users declare into the mesh, serves it to agents, and signs identities.
#[derive(Debug, Parser)]
#[command(name = "weir-control", version)]
pub(crate) struct Arguments {
    /// Folder of Kubernetes manifests that is the mesh's state, instead of a cluster; changes are followed.
    #[arg(long, value_name = "DIR", requires = "ca_dir", requires = "static_tokens", conflicts_with = "kubeconfig")]
    pub(crate) manifests: Option<PathBuf>,

    /// The cluster to follow, when this is not one of its pods.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Folder of the CA, in the layout of Istio's Secret cacerts; made if absent. Without it the CA is a Secret of the cluster.
    #[arg(long, value_name = "DIR")]
    pub(crate) ca_dir: Option<PathBuf>,

    /// File of tokens that are accepted beside the cluster's: lines of `token namespace/serviceaccount [node]`. For folders and tests.
    #[arg(long, value_name = "FILE")]
    pub(crate) static_tokens: Option<PathBuf>,

    /// The trust domain of every workload.
    #[arg(long, env = "TRUST_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) trust_domain: TrustDomain,

    /// The cluster's name.
    #[arg(long, env = "CLUSTER_ID", default_value = "Kubernetes", value_name = "NAME")]
    pub(crate) cluster_id: ClusterId,

    /// The network of pods that do not name theirs; empty is the default one.
    #[arg(long, env = "NETWORK", default_value = "", value_name = "NAME")]
    pub(crate) network: Network,

    /// The suffix of service names.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) cluster_domain: ClusterDomain,

    /// The namespace this runs in: of its Lease, its Secrets.
    #[arg(long, env = "POD_NAMESPACE", default_value = "weir-system", value_name = "NAME")]
    pub(crate) namespace: Namespace,

    /// The namespace whose policies without a selector cover the whole mesh. Istio `meshConfig.rootNamespace`.
    #[arg(long, default_value = "istio-system", value_name = "NAME")]
    pub(crate) root_namespace: Namespace,

    /// Who this replica is among its like.
    #[arg(long, env = "POD_NAME", default_value = "weir-control", value_name = "NAME")]
    pub(crate) replica: String,

    /// A name this is called by, in its certificate; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) serving_name: Vec<String>,

    /// Who may ask for certificates of others, those of its node's pods: service accounts, separated by commas.
    #[arg(
        long,
        env = "CA_TRUSTED_NODE_ACCOUNTS",
        default_value = "istio-system/ztunnel,weir-system/weir-agent",
        value_name = "NAMESPACE/NAME,..."
    )]
    pub(crate) trusted_node_accounts: NodeAgents,

    /// Whom tokens must be meant for.
    #[arg(long, default_value = "istio-ca", value_name = "AUDIENCE", value_delimiter = ',')]
    pub(crate) token_audience: Vec<String>,

    /// How long certificates are valid when nobody asks for less.
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = duration)]
    pub(crate) certificate_lifetime: Duration,

    /// How long certificates are valid at most.
    #[arg(long, default_value = "90d", value_name = "TIME", value_parser = duration)]
    pub(crate) longest_lifetime: Duration,

    /// The image of the waypoints that are deployed for Gateways; without it none are.
    #[arg(long, env = "WAYPOINT_IMAGE", value_name = "IMAGE", conflicts_with = "manifests")]
    pub(crate) waypoint_image: Option<String>,

    /// Where the waypoints that are deployed find this control plane; the Service weir-control of its namespace when absent.
    #[arg(long, value_name = "https://HOST:PORT", requires = "waypoint_image")]
    pub(crate) waypoint_control: Option<String>,

    /// Where agents are served: discovery and certificates, over TLS.
    #[arg(long, default_value_t = everywhere(15012), value_name = "ADDRESS")]
    pub(crate) grpc_addr: SocketAddr,

    /// Where API servers ask whether an object may be kept, over TLS. Without it nobody is asked.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) webhook_addr: Option<SocketAddr>,

    /// Where /metrics is served.
    #[arg(long, default_value_t = everywhere(15014), value_name = "ADDRESS")]
    pub(crate) stats_addr: SocketAddr,

    /// Where /ready is served.
    #[arg(long, default_value_t = everywhere(8080), value_name = "ADDRESS")]
    pub(crate) ready_addr: SocketAddr,

    /// The port on localhost where /debug/syncz, /debug/configz, /logging and /quitquitquit are served.
    #[arg(long, default_value = "localhost:15000", value_name = "localhost:PORT")]
    pub(crate) admin_addr: AdminPort,

    /// Take samples of where processor time goes, for /debug/profile.
    #[arg(long)]
    pub(crate) profiling: bool,

    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_name = "text|json")]
    pub(crate) log_format: LogFormat,

    /// What is logged: a level, or `target=level` separated by commas.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log_level: String,
}

impl Arguments {
    /// How waypoints are deployed, if they are. They are told what mesh this is in flags that they have, too.
    pub(crate) fn deploying(&self) -> Option<deployer::Settings> {
        let image = self.waypoint_image.clone()?;
        let own = format!("https://weir-control.{}.svc:{}", self.namespace, self.grpc_addr.port());
        let mut flags = vec![
            format!("--trust-domain={}", self.trust_domain),
            format!("--cluster-id={}", self.cluster_id),
            format!("--cluster-domain={}", self.cluster_domain),
            format!("--root-namespace={}", self.root_namespace),
            format!(
                "--log-format={}",
                match self.log_format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                }
            ),
        ];
        // Empty is the default one.
        let network = self.network.to_string();
        flags.extend((!network.is_empty()).then(|| format!("--network={network}")));
        Some(deployer::Settings { image, control: self.waypoint_control.clone().unwrap_or(own), flags })
    }

    /// The names in the server's certificate: those given, or those of the usual Services, istiod's among them.
    pub(crate) fn names(&self) -> Vec<String> {
        if !self.serving_name.is_empty() {
            return self.serving_name.clone();
        }
        let own = format!("weir-control.{}.svc", self.namespace);
        let istiod = "istiod.istio-system.svc".to_owned();
        let full = |name: &str| format!("{name}.{}", self.cluster_domain);
        vec![full(&own), full(&istiod), own, istiod]
    }
}

/// A number with `s`, `m`, `h` or `d`; at most ten years.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 90s, 10m, 24h or 90d, at most 3650d".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(expected()),
    };
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=3650 * 24 * 3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_is_in_control_md_with_its_environment_and_default() {
        let document = include_str!("../../docs/control.md");
        let mut command = Arguments::command();
        command.build();
        for flag in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            let name = flag.get_long().unwrap();
            let row = document.lines().find(|line| line.starts_with(&format!("| `--{name} ")));
            let row = row.unwrap_or_else(|| panic!("docs/control.md has no row for --{name}"));
            let environment = flag.get_env().map(|name| name.to_string_lossy().into_owned());
            let default = flag.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            for said in [environment, default.filter(|text| !text.is_empty())].into_iter().flatten() {
                assert!(row.contains(&format!("`{said}`")), "{row} does not say {said}");
            }
        }
    }

    #[test]
    fn waypoints_are_told_what_mesh_it_is() {
        let read = |more: &[&str]| Arguments::try_parse_from(["weir-control"].iter().chain(more)).unwrap().deploying();
        assert_eq!(read(&[]), None);
        let told = read(&["--waypoint-image=i", "--namespace=mesh", "--network=n", "--trust-domain=td"]).unwrap();
        assert_eq!((&*told.image, &*told.control), ("i", "https://weir-control.mesh.svc:15012"));
        for flag in ["--network=n", "--trust-domain=td", "--log-format=text"] {
            assert!(told.flags.iter().any(|own| own == flag), "{flag} is not among {:?}", told.flags);
        }
        let elsewhere = read(&["--waypoint-image=i", "--waypoint-control=https://c:1"]).unwrap();
        assert_eq!(elsewhere.control, "https://c:1");
    }

    #[test]
    fn a_lifetime_has_a_unit() {
        for (text, want) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("90d", 7_776_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(want)), "{text}");
        }
        for bad in ["", "0s", "5", "1w", "-1s", "4000d", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_folder_needs_a_ca_and_tokens_of_its_own() {
        let all = ["weir-control", "--manifests=/m", "--ca-dir=/c", "--static-tokens=/t"];
        assert!(Arguments::try_parse_from(all).is_ok());
        for left_out in [2, 3] {
            let words = all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, word)| *word);
            assert!(Arguments::try_parse_from(words).is_err(), "without {}", all[left_out]);
        }
    }

    #[test]
    fn it_answers_to_its_own_name_and_to_istiods() {
        let arguments = Arguments::try_parse_from(["weir-control", "--namespace=mesh"]).unwrap();
        let names = arguments.names();
        for name in ["weir-control.mesh.svc", "weir-control.mesh.svc.cluster.local", "istiod.istio-system.svc"] {
            assert!(names.iter().any(|own| own == name), "{name} is not among {names:?}");
        }
        assert_eq!(arguments.trusted_node_accounts, NodeAgents::default());
    }
}
