//! Flags. Names of environment variables are Istio's where Istio has one.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};
use weir_compile::ClusterDomain;
use weir_model::{ClusterId, Hostname, Namespace, Network, NodeName, Port, ServiceAccount, SpiffeId, TrustDomain};
use weir_telemetry::{AdminPort, LogFormat, OtlpEndpoint, everywhere};

/// The waypoint of Weir, a service mesh without sidecars: routes and authorizes requests to the services bound to it.
#[derive(Debug, Clone, Parser)]
#[command(name = "weir-waypoint", version)]
pub(crate) struct Arguments {
    /// The Gateway this is a waypoint of.
    #[arg(long, env = "GATEWAY", value_name = "NAMESPACE/NAME")]
    pub(crate) gateway: GatewayName,

    /// The pod it runs in: what is bound to that may be asked for.
    #[arg(long, env = "POD_NAME", value_name = "NAME", required_unless_present = "plain")]
    pub(crate) pod_name: Option<NodeName>,

    /// Folder of Kubernetes manifests that is the mesh's state and its configuration; changes are followed.
    #[arg(long, value_name = "DIR", required_unless_present = "control")]
    pub(crate) manifests: Option<PathBuf>,

    /// The control plane that tells the mesh's state and its configuration, and gives certificates: weir-control.
    #[arg(long, env = "XDS_ADDRESS", value_name = "https://HOST:PORT", conflicts_with = "manifests")]
    pub(crate) control: Option<String>,

    /// The name in the control plane's certificate, where it is not the host's.
    #[arg(long, env = "ALT_XDS_HOSTNAME", value_name = "NAME")]
    pub(crate) control_name: Option<String>,

    /// File of the roots that the control plane's certificate must lead to, PEM.
    #[arg(long, env = "XDS_ROOT_CA", default_value = "/var/run/secrets/istio/root-cert.pem", value_name = "FILE")]
    pub(crate) control_roots: PathBuf,

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

    /// Folder of the development CA's root; made if absent. Only with --manifests.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["plain", "control", "proxy_addr"], conflicts_with = "control")]
    pub(crate) ca_dir: Option<PathBuf>,

    /// The service account it runs as; the Gateway's name when absent, as Istio's waypoints.
    #[arg(long, env = "SERVICE_ACCOUNT", value_name = "NAME")]
    pub(crate) service_account: Option<ServiceAccount>,

    /// The node it runs on: its locality is where endpoints are preferred.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: Option<NodeName>,

    /// The trust domain of every workload.
    #[arg(long, env = "TRUST_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) trust_domain: TrustDomain,

    /// The cluster's name in metrics and logs.
    #[arg(long, env = "CLUSTER_ID", default_value = "Kubernetes", value_name = "NAME")]
    pub(crate) cluster_id: ClusterId,

    /// The network it is on; empty is the default one.
    #[arg(long, env = "NETWORK", default_value = "", value_name = "NAME")]
    pub(crate) network: Network,

    /// The namespace whose policies and settings reach the whole mesh. Istio `meshConfig.rootNamespace`.
    #[arg(long, default_value = "istio-system", value_name = "NAME")]
    pub(crate) root_namespace: Namespace,

    /// The suffix of service names.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) cluster_domain: ClusterDomain,

    /// Where HBONE is taken.
    #[arg(long, default_value_t = everywhere(15008), value_name = "ADDRESS")]
    pub(crate) hbone_addr: SocketAddr,

    /// Take requests in the clear at ADDRESS, as if they were for a port of a service: a plain reverse proxy. Nobody who comes in there proves
    /// who he is. May be given several times; then HBONE is taken only if there is a CA.
    #[arg(long, value_name = "ADDRESS=HOST:PORT")]
    pub(crate) plain: Vec<Plain>,

    /// Take connections here from the agent before this pod, which ends HBONE and says in a PROXY header, version 2, who the client is:
    /// `ambient.istio.io/waypoint-inbound-binding`. What is sent goes out through that agent, too; HBONE is neither taken nor spoken. Only connections from the
    /// pod's own addresses are believed: never in the network of a host.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["plain", "ca_dir"])]
    pub(crate) proxy_addr: Option<SocketAddr>,

    /// Worker threads; one per core when absent.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// How long requests under way may go on after SIGTERM.
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = duration)]
    pub(crate) drain: Duration,

    /// How many proxies before this one are believed when they say in `x-forwarded-for` who the client is. Istio `numTrustedProxies`.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) trusted_proxies: u32,

    /// A file of roots, PEM, that certificates of issuers of tokens may lead to, beside those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks_ca: Option<PathBuf>,

    /// A network, or a host's name, that keys of issuers may be fetched from though it is not public: an issuer in the cluster. May be given several times.
    #[arg(long, value_name = "NETWORK|HOST")]
    pub(crate) jwks_allow: Vec<String>,

    /// A server of DNS that is asked for the names of endpoints; may be given several times. Those of the system (/etc/resolv.conf) when absent.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) dns_server: Vec<SocketAddr>,

    /// Where spans are sent, by OTLP; without it requests are not traced, and headers of traces pass as they came.
    #[arg(long, value_name = "grpc://HOST:PORT|http://HOST:PORT/PATH")]
    pub(crate) otlp_endpoint: Option<OtlpEndpoint>,

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

    /// What is logged: a level, or `target=level` separated by commas.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log_level: String,

    /// Whether each request is logged, unless a Telemetry says otherwise.
    #[arg(long, default_value = "on", value_name = "on|off")]
    pub(crate) access_log: Switch,
}

impl Arguments {
    /// Who it is.
    pub(crate) fn identity(&self) -> anyhow::Result<SpiffeId> {
        let account = match &self.service_account {
            Some(account) => account.clone(),
            None => self.gateway.name.parse()?,
        };
        Ok(SpiffeId::new(self.trust_domain.clone(), self.gateway.namespace.clone(), account))
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// A Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayName {
    pub(crate) namespace: Namespace,
    pub(crate) name: String,
}

impl FromStr for GatewayName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = text.split_once('/').ok_or("expected NAMESPACE/NAME")?;
        let namespace = namespace.parse().map_err(|error| format!("namespace: {error}"))?;
        let name: NodeName = name.parse().map_err(|error| format!("name: {error}"))?;
        Ok(Self { namespace, name: name.as_str().to_owned() })
    }
}

/// Where requests are taken in the clear, and for which service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) at: SocketAddr,
    pub(crate) host: Hostname,
    pub(crate) port: Port,
}

impl FromStr for Plain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected ADDRESS=HOST:PORT, such as 127.0.0.1:8080=web.shop.svc.cluster.local:80";
        let (at, service) = text.split_once('=').ok_or(form)?;
        let (host, port) = service.rsplit_once(':').ok_or(form)?;
        let port: u16 = port.parse().map_err(|_| form)?;
        Ok(Self {
            at: at.parse().map_err(|error| format!("{at:?}: {error}"))?,
            host: host.parse().map_err(|error| format!("{host:?}: {error}"))?,
            port: Port::new(port).ok_or(form)?,
        })
    }
}

/// Seconds, or a number with `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let expected = || "expected a time such as 500ms, 20s or 2m".to_owned();
    let number: u64 = digits.parse().map_err(|_| expected())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(expected),
        _ => Err(expected()),
    }
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
    fn a_plain_listener_says_where_and_for_whom() {
        let plain: Plain = "[::1]:8080=web.shop.svc.cluster.local:80".parse().unwrap();
        assert_eq!((plain.at.to_string().as_str(), plain.port.number()), ("[::1]:8080", 80));
        assert_eq!(plain.host.as_str(), "web.shop.svc.cluster.local");
        for bad in ["", "127.0.0.1:80", "127.0.0.1=web:80", "127.0.0.1:80=web", "127.0.0.1:80=web:0", "a:1=web:80"] {
            assert!(bad.parse::<Plain>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn it_is_who_its_gateway_says_unless_told_otherwise() {
        let words =
            ["weir-waypoint", "--gateway=shop/waypoint", "--manifests=/m", "--pod-name=waypoint-1", "--ca-dir=/c"];
        let arguments = Arguments::try_parse_from(words).unwrap();
        assert_eq!(arguments.identity().unwrap().to_string(), "spiffe://cluster.local/ns/shop/sa/waypoint");
        let other = Arguments::try_parse_from(words.into_iter().chain(["--service-account=web"])).unwrap();
        assert_eq!(other.identity().unwrap().to_string(), "spiffe://cluster.local/ns/shop/sa/web");
        for bad in ["shop", "/waypoint", "shop/", "Shop/waypoint"] {
            assert!(bad.parse::<GatewayName>().is_err(), "{bad:?} was taken");
        }
        assert!(Arguments::try_parse_from(&words[..4]).is_err(), "neither a CA nor a plain listener");
    }

    #[test]
    fn behind_an_agent_it_needs_no_certificate_and_takes_nobody_else() {
        let with = |more: &[&str]| {
            let words =
                ["weir-waypoint", "--gateway=shop/waypoint", "--pod-name=waypoint-1", "--proxy-addr=[::]:15088"];
            Arguments::try_parse_from(words.iter().chain(more)).is_ok()
        };
        assert!(with(&["--manifests=/m"]) && with(&["--control=https://weir-control.weir-system:15012"]));
        assert!(!with(&["--manifests=/m", "--ca-dir=/c"]));
        assert!(!with(&["--manifests=/m", "--plain=127.0.0.1:8080=web.shop.svc.cluster.local:80"]));
    }

    #[test]
    fn everything_comes_from_a_folder_or_from_a_control_plane() {
        let with = |more: &[&str]| {
            let words = ["weir-waypoint", "--gateway=shop/waypoint", "--pod-name=waypoint-1"];
            Arguments::try_parse_from(words.iter().chain(more)).is_ok()
        };
        let control = "--control=https://weir-control.weir-system:15012";
        assert!(with(&[control]) && with(&["--manifests=/m", "--ca-dir=/c"]));
        assert!(!with(&[]) && !with(&[control, "--manifests=/m"]) && !with(&[control, "--ca-dir=/c"]));
    }
}
