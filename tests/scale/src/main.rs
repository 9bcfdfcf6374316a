//! `weir-scale`: a large cluster that is made up, `weir-control` in front of it, and the agents of all its nodes.
//!
//! In: a built `weir-control`. Out: what it and an agent cost, against what was aimed for. Everything runs on loopback and shares the
//! machine; what the control plane uses is read from its own process, so that the rest only takes its turn.

mod certificates;
mod cluster;
mod control;
mod hold;
mod measure;
mod probe;
mod push;
mod report;
mod source;
mod subscriber;
mod wire;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(about = "What the control plane costs in a large cluster")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure a control plane.
    Measure(measure::Measure),
    /// Hold what an agent holds of the mesh, and say what that takes. Started by the other.
    Hold(hold::Hold),
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// How to call a control plane.
#[derive(Debug, Clone, clap::Args)]
struct Called {
    /// Where it is.
    #[arg(long)]
    target: String,
    /// The roots its certificate leads to.
    #[arg(long)]
    roots: PathBuf,
    /// Who calls.
    #[arg(long)]
    token: PathBuf,
    /// On which node.
    #[arg(long)]
    node: String,
}

impl Called {
    fn dial(&self) -> anyhow::Result<weir_rpc::Dial> {
        let target = weir_rpc::Target::parse(&self.target, Some(control::NAME))?;
        Ok(weir_rpc::Dial { target, roots: self.roots.clone(), token: Some(self.token.clone()) })
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Measure(measure) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(measure.run())
        }
        Command::Hold(hold) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(hold.run())
        }
    }
}
