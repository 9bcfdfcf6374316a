//! Developer tasks: `cargo xtask <task>`. Each task is a module; this file only picks one.

mod bench;
mod cargo;
mod dash;
mod demo;
mod ebpf;
mod finding;
mod fuzz;
mod r#gen;
mod image;
mod interrupt;
mod layers;
mod lint;
mod metadata;
mod root;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the mesh at work on this machine: two nodes, the todo sample, and an ear on the wire.
    Demo(demo::Demo),
    /// Build everything and run every test, also those that need root.
    Test(test::Test),
    /// Measure the mesh against plain TCP, and the control plane and policies against their goals.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Check formatting, clippy, and the rules of STYLE.md and ARCHITECTURE.md; print every finding at once.
    Lint,
    /// Give every parser of foreign bytes what libFuzzer thinks of.
    Fuzz(fuzz::Fuzz),
    /// Write the definitions of kinds and the rendered overlays of deploy/, or say which are stale.
    Gen(r#gen::Gen),
    /// Build the programs without dependencies on a system, and write each as an image that container runtimes and registries read.
    Image(image::Image),
    /// Write the dashboards and alerts, or draw them.
    #[command(subcommand)]
    Dash(dash::Dash),
    /// Build the kernel programs, and write their object with the hash of its sources.
    Ebpf(ebpf::Ebpf),
}

/// How a result is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().task {
        Task::Demo(demo) => demo.run()?,
        Task::Test(test) => test.run()?,
        Task::Bench(bench) => bench.run()?,
        Task::Fuzz(fuzz) => fuzz.run()?,
        Task::Dash(dash) => dash.run()?,
        Task::Ebpf(task) => ebpf::run(&task)?,
        Task::Gen(task) => task.run()?,
        Task::Image(image) => image.run()?,
        Task::Lint => return lint::run(),
    }
    Ok(ExitCode::SUCCESS)
}
