//! A waypoint in a pod of its own, as a cluster has it: its Gateway, the service it is found by, and the program.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use weir_netlink::NetNs;

use crate::http::http_get;
use crate::manifests::{PodSpec, ServiceSpec};
use crate::mesh::{MetricSum, add_up};
use crate::process::Process;
use crate::topology::{Topology, labels};

/// Patience with a waypoint that starts or stops.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a waypoint's pods are known by. Gateway API, `GatewayNameLabelKey`.
const GATEWAY_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// A running waypoint. Dropping it kills it.
#[derive(Debug)]
pub struct Waypoint {
    process: Process,
    netns: NetNs,
}

impl Topology {
    /// Adds a waypoint's Gateway, its service and its pod, all of this name in `default`. [`Waypoint::start`] runs it.
    ///
    /// # Errors
    /// As [`Self::add_pod`].
    pub fn add_waypoint(&mut self, name: &str, node: usize) -> anyhow::Result<()> {
        self.add_pod(PodSpec::new(name, node).label(GATEWAY_LABEL, name))?;
        let (selector, ports) = (labels([(GATEWAY_LABEL, name)]), vec![("mesh".to_owned(), 15008, 15008)]);
        self.add_service(ServiceSpec { name: name.into(), namespace: "default".into(), selector, ports })?;
        self.declare_waypoint(name, "")
    }

    /// Adds another pod of a waypoint that is there, in which nothing runs.
    ///
    /// # Errors
    /// As [`Self::add_pod`].
    pub fn add_replica(&mut self, waypoint: &str, name: &str, node: usize) -> anyhow::Result<()> {
        let spec = PodSpec::new(name, node).label(GATEWAY_LABEL, waypoint);
        self.add_pod(PodSpec { service_account: waypoint.into(), ..spec })?;
        Ok(())
    }

    /// Has the agent of a waypoint's node end HBONE for it, and hand connections over at this port.
    ///
    /// # Errors
    /// When its Gateway cannot be written.
    pub fn hand_over(&mut self, waypoint: &str, port: u16) -> anyhow::Result<()> {
        let binding = format!("  annotations:\n    ambient.istio.io/waypoint-inbound-binding: PROXY/{port}\n");
        self.declare_waypoint(waypoint, &binding)
    }

    fn declare_waypoint(&mut self, name: &str, annotations: &str) -> anyhow::Result<()> {
        let gateway = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: {name}\n  namespace: default\n{annotations}spec:\n  \
             gatewayClassName: weir-waypoint\n  listeners:\n  - name: mesh\n    port: 15008\n    protocol: HBONE\n"
        );
        self.add_manifest(&format!("{name}-gateway.yaml"), &gateway)
    }
}

impl Waypoint {
    /// Starts `program` in the pod that [`Topology::add_waypoint`] made, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or does not become ready in a minute: with its log.
    pub fn start(topology: &Topology, program: &Path, name: &str) -> anyhow::Result<Self> {
        Self::start_with(topology, program, name, &[])
    }

    /// The same, with these flags besides.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(topology: &Topology, program: &Path, name: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let (manifests, ca) = (topology.manifests_dir(), topology.work_dir().join("ca"));
        let sources = ["--manifests".as_ref(), manifests.as_ref(), "--ca-dir".as_ref(), ca.as_ref()];
        let besides = flags.iter().map(|flag| OsStr::new(*flag));
        Self::start_from(topology, program, name, &sources.into_iter().chain(besides).collect::<Vec<_>>())
    }

    /// The same, with these flags to say where everything comes from.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_from(topology: &Topology, program: &Path, name: &str, flags: &[&OsStr]) -> anyhow::Result<Self> {
        let pod = topology.pod(name);
        let node = &topology.nodes()[pod.spec().node];
        // Without any right that its container has not either.
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]).arg(program);
        command.arg("--gateway").arg(format!("default/{name}")).args(["--pod-name", name]);
        command.args(["--node-name", node.name()]);
        command.args(flags);
        let mut process = topology.start_in_pod(name, command)?;
        process.wait_ready(own(15021), "/healthz/ready", PATIENCE)?;
        Ok(Self { process, netns: NetNs::open(pod.netns_path())? })
    }

    /// What it has written so far, requests included.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Processor time it has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        self.process.cpu_time()
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.process.resident_bytes()
    }

    /// Adds up the series of metric `name` whose labels contain each of `labels`.
    ///
    /// # Errors
    /// When it does not answer with its metrics.
    pub fn metric(&self, name: &str, labels: &[&str]) -> anyhow::Result<MetricSum> {
        add_up(&self.metrics()?, name, labels)
    }

    /// All its metrics, as text.
    ///
    /// # Errors
    /// When it does not answer with them.
    pub fn metrics(&self) -> anyhow::Result<String> {
        let answer = http_get(&self.netns, own(15020), "/metrics")?;
        ensure!(answer.status == 200, "metrics of the waypoint: {answer:?}");
        Ok(answer.body)
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it does not in a minute, or stops with an error.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "the waypoint ended with {status}\n{}", self.log());
        Ok(())
    }
}

fn own(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)
}
