//! What an agent holds of the mesh, and nothing else of an agent: the client of discovery, and the world it makes.

use std::{
    pin::pin,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use weir_world::World;
use weir_xds::{Client, Event, Mode, Node};

use crate::{Called, probe};

/// Patience with the whole mesh.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(clap::Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    called: Called,
    /// Take everything, not only what belongs to the node.
    #[arg(long)]
    wildcard: bool,
}

/// What it takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Workloads that are known.
    pub(crate) workloads: u32,
    /// Resident memory with nothing known.
    pub(crate) before_kib: u32,
    /// And with everything.
    pub(crate) after_kib: u32,
    /// How long it took to know everything, in seconds.
    pub(crate) seconds: f64,
}

impl Hold {
    /// Connects, and prints what the mesh takes once it is complete.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let own = std::process::id();
        let Called { node: name, .. } = self.called.clone();
        let dial = self.called.dial()?;
        let mode = if self.wildcard { Mode::Wildcard } else { Mode::OnDemand };
        let metadata = [("NODE_NAME".to_owned(), name.clone())].into();
        let node = Node { id: format!("ztunnel~10.0.0.1~agent.weir-system~{name}"), cluster: String::new(), metadata };
        let connect = || {
            let dial = dial.clone();
            async move { dial.connect().await }
        };
        let mut world = World::following(name.parse()?);
        let mut client = pin!(Client::new(connect, mode, node));
        let (before_kib, start) = (probe::kib_of(own, "VmRSS")?, Instant::now());
        loop {
            let event =
                timeout_at(start + PATIENCE, client.next(&world)).await.context("the mesh did not come in time")?;
            match event {
                Event::Delta(delta) => world = world.apply(delta),
                Event::Synced => break,
                Event::Lost(why) => bail!("the stream was lost: {why}"),
                Event::Rejected { name, why } => bail!("{name} cannot be read: {why}"),
                Event::Absent(name) => bail!("{name} is not in the mesh"),
                Event::Answered(namespace) => bail!("objects of {namespace}, which no agent asks for"),
                Event::Objects(changes) => bail!("{} objects, which no agent asks for", changes.len()),
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let (workloads, after_kib) = (u32::try_from(world.len())?, probe::kib_of(own, "VmRSS")?);
        println!("{}", serde_json::to_string(&Held { workloads, before_kib, after_kib, seconds })?);
        Ok(())
    }
}

/// Runs this program so, beside a control plane.
pub(crate) async fn in_a_process(called: Called, mode: Mode) -> anyhow::Result<Held> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("hold").args(["--target", &called.target, "--node", &called.node]);
    command.arg("--roots").arg(&called.roots).arg("--token").arg(&called.token);
    if mode == Mode::Wildcard {
        command.arg("--wildcard");
    }
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    // It gives up by itself.
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    anyhow::ensure!(output.status.success(), "the agent that only holds the mesh ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}
