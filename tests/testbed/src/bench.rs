//! Plain TCP and the mesh, side by side: the same machine, the same nodes, the same load, taken in turns.
//!
//! The plain pods stand on the same nodes, outside the mesh. Every figure is the median of the rounds.

mod envoy;
mod policies;
mod report;
mod rounds;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use weir_netlink::write_sysctl;

use self::envoy::Envoys;
pub use self::policies::{Reevaluated, Reevaluation};
pub(crate) use self::report::median;
pub use self::report::{BenchReport, Figures, Goal};
pub(crate) use self::rounds::Lane;
use self::rounds::{Carrier, Round};
use crate::Say;
use crate::http::http_get;
use crate::manifests::PodSpec;
use crate::mesh::Mesh;
use crate::process::Process;
use crate::sniffer::Sniffer;
use crate::topology::{Topology, TopologySpec, WIRE};

/// Patience with a server that starts, or with connections that are opened.
const PATIENCE: Duration = Duration::from_secs(60);
/// Idle connections at which memory is read.
const IDLE_CONNECTIONS: [u64; 2] = [1000, 4000];

pub(crate) const HTTP_PORT: u16 = 8080;
pub(crate) const SINK_PORT: u16 = 7000;
pub(crate) const SOURCE_PORT: u16 = 7001;

/// How to measure.
#[derive(Debug, Clone)]
pub struct Bench {
    /// Rounds, of which the medians are taken.
    pub rounds: u32,
    /// How long each load of a round runs.
    pub time: Duration,
    /// Requests per second of the run at a fixed rate.
    pub rate: u32,
    /// Envoy's program, to be measured in the same turns.
    pub envoy: Option<PathBuf>,
}

/// Memory of the agents.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) idle_largest: u64,
    pub(crate) idle_all: u64,
    pub(crate) with: [u64; 2],
}

impl Bench {
    /// Measures plain TCP, and the mesh when there is an agent. `say` is told of each step, and may end it there.
    ///
    /// # Errors
    /// Without root, or when something does not start or a load breaks off.
    pub fn run(&self, agent: Option<&Path>, bed: &Path, say: Say<'_>) -> anyhow::Result<BenchReport> {
        let mut topology = Topology::new(TopologySpec::default())?;
        for (name, node) in [("client", 0), ("server", 1)] {
            add_pod(&mut topology, PodSpec::new(name, node))?;
            add_pod(&mut topology, PodSpec::new(&format!("plain-{name}"), node).unenrolled())?;
            if self.envoy.is_some() {
                add_pod(&mut topology, PodSpec::new(&format!("envoy-{name}"), node).unenrolled())?;
            }
        }
        let mut servers =
            vec![start_servers(&topology, bed, "server")?, start_servers(&topology, bed, "plain-server")?];
        let plain = Lane::new(&topology, bed, "plain-client", "plain-server")?;
        let mesh = match agent {
            Some(agent) => Some(Mesh::start(&topology, agent, &[])?),
            None => None,
        };
        let envoys = match &self.envoy {
            Some(program) => {
                servers.push(start_servers(&topology, bed, "envoy-server")?);
                Some(Envoys::start(&topology, program, "envoy-client", "envoy-server")?)
            }
            None => None,
        };
        let mut lanes = Vec::new();
        if let Some(mesh) = &mesh {
            lanes.push(("weir", Lane::new(&topology, bed, "client", "server")?, Carrier::Weir(mesh)));
        }
        if let Some(envoys) = &envoys {
            lanes.push(("envoy", Lane::through_envoy(&topology, bed, "envoy-client")?, Carrier::Envoy(envoys)));
        }
        say("what each lane shows on the wire")?;
        prove(&topology, "plain-client", plain.http, Expect::Readable)?;
        let mut memory = Vec::new();
        for (name, lane, carrier) in &lanes {
            prove(&topology, lane.client(), lane.http, Expect::Hidden)?;
            say(&format!("memory, idle and with idle connections: {name}"))?;
            memory.push(read_memory(&topology, *carrier, bed, lane)?);
        }
        let mut plain_rounds = Vec::new();
        let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); lanes.len()];
        for number in 1..=self.rounds {
            say(&format!("round {number} of {}: plain", self.rounds))?;
            plain_rounds.push(Round::take(self, &topology, &plain, Carrier::Nothing)?);
            for ((name, lane, carrier), rounds) in lanes.iter().zip(&mut rounds) {
                say(&format!("round {number} of {}: {name}", self.rounds))?;
                rounds.push(Round::take(self, &topology, lane, *carrier)?);
            }
        }
        let carried =
            lanes.iter().zip(rounds).zip(memory).map(|(((name, ..), rounds), memory)| (*name, rounds, memory));
        let report = BenchReport::new(self, &plain_rounds, carried);
        drop(lanes);
        drop(envoys);
        if let Some(mesh) = mesh {
            mesh.stop()?;
        }
        Ok(report)
    }
}

/// Adds a pod that can open very many connections.
pub(crate) fn add_pod(topology: &mut Topology, spec: PodSpec) -> anyhow::Result<()> {
    let pod = topology.add_pod(spec)?;
    // A connection each for tens of thousands of requests a second needs more than the usual 28,000 ports.
    write_sysctl(pod.netns(), "net/ipv4/ip_local_port_range", "1024 65535")?;
    write_sysctl(pod.netns(), "net/ipv4/tcp_tw_reuse", "1")?;
    Ok(())
}

/// Starts what the loads talk to.
pub(crate) fn start_servers(topology: &Topology, bed: &Path, pod: &str) -> anyhow::Result<Vec<Process>> {
    let ip = topology.pod(pod).v4().context("it is dual-stack")?;
    let mut started = Vec::new();
    for (arguments, port) in [
        (&["serve-http", "--body-bytes", "100"][..], HTTP_PORT),
        (&["serve-tcp", "--mode", "sink"], SINK_PORT),
        (&["serve-tcp", "--mode", "source"], SOURCE_PORT),
    ] {
        let address = SocketAddr::new(ip, port);
        let mut command = Command::new(bed);
        command.args(arguments).args(["--listen", &address.to_string()]);
        let mut process = topology.start_in_pod(pod, command)?;
        process.wait_listening(address, PATIENCE)?;
        started.push(process);
    }
    Ok(started)
}

/// What a bystander on the wire must find of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Readable,
    Hidden,
}

/// Makes sure that a lane is what it is called: a mesh that carries nothing would be very fast.
pub(crate) fn prove(topology: &Topology, client: &str, to: SocketAddr, expect: Expect) -> anyhow::Result<()> {
    const NEEDLE: &str = "is-this-readable-on-the-wire";
    let ear = Sniffer::start(topology.nodes()[0].netns(), WIRE, NEEDLE.as_bytes())?;
    let answer = http_get(topology.pod(client).netns(), to, &format!("/{NEEDLE}"))?;
    ensure!(answer.status == 200, "{to} answers {client} with status {}", answer.status);
    let heard = ear.stop()?;
    let found = if heard.needle_hits > 0 { Expect::Readable } else { Expect::Hidden };
    ensure!(found == expect, "requests of pod {client} must be {expect:?} on the wire and are {found:?}: {heard:?}");
    Ok(())
}

fn read_memory(topology: &Topology, carrier: Carrier<'_>, bed: &Path, lane: &Lane) -> anyhow::Result<Memory> {
    let idle = carrier.resident_bytes()?;
    let mut memory = Memory {
        idle_largest: idle.iter().copied().max().unwrap_or_default(),
        idle_all: idle.iter().sum(),
        with: [0; 2],
    };
    for (wanted, read) in IDLE_CONNECTIONS.into_iter().zip(&mut memory.with) {
        let mut command = Command::new(bed);
        command.args(["hold", "--connections", &wanted.to_string(), "--to", &lane.http.to_string()]);
        let log = topology.work_dir().join(format!("{}-hold-{wanted}", lane.client()));
        let mut holder = Process::start(topology.pod(lane.client()).netns(), "hold", command, &log)?;
        holder.wait_log(&format!("{{\"open\":{wanted}}}"), PATIENCE)?;
        *read = carrier.resident_bytes()?.iter().sum();
    }
    Ok(memory)
}
