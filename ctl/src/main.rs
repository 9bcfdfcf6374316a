//! `weirctl`: looks at a mesh, and says why.
//!
//! In: a cluster, a folder of manifests, or the admin servers of live programs. Out: answers for people, or JSON and YAML for programs. What it says is
//! decided by the code that decides in the agent.

mod agents;
mod analyze;
mod authz;
mod check;
mod cli;
mod cluster;
#[cfg(test)]
mod cookbook;
mod describe;
mod explain;
mod folder;
mod install;
mod live;
#[cfg(test)]
mod looks;
mod out;
mod place;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod scenarios;
mod scene;
mod status;
#[cfg(test)]
mod testing;
mod version;
mod waypoints;
mod when;
mod why;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::{CommandFactory, Parser};

use crate::{
    cli::{Arguments, Authz, Describe, Format, Shell, Task, Waypoint},
    out::Out,
};

fn main() -> ExitCode {
    let Arguments { task } = Arguments::parse();
    let mut stdout = BufWriter::new(io::stdout().lock());
    let done = run(&task, &mut stdout, Out::may_colour()).and_then(|ends_with| {
        stdout.flush()?;
        Ok(ends_with)
    });
    match done {
        Ok(ends_with) => ExitCode::from(ends_with),
        // Whoever read it has read enough, as `head` does.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            drop(stdout.flush());
            eprintln!("weirctl: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Does what is asked; what the program ends with.
///
/// # Errors
/// What went wrong, and what to do about it.
fn run(task: &Task, to: &mut dyn Write, colours: bool) -> Result<u8> {
    let mut out = Out::new(to, format_of(task), colours);
    let (text, ends_with) = match task {
        Task::Install(asked) => (install::install(asked)?, 0),
        Task::Uninstall(asked) => (install::uninstall(asked)?, 0),
        Task::Explain(way) => explain::explain(way)?,
        Task::Authz(Authz::Explain(explain)) => {
            authz::explain(explain).map(|(text, admitted)| (text, u8::from(!admitted)))?
        }
        Task::Analyze(flags) => analyze::analyze(flags)?,
        Task::Completion { shell } => (completion(*shell), 0),
        Task::Version(_)
        | Task::Status(_)
        | Task::Check(_)
        | Task::Agent(_)
        | Task::Waypoint(_)
        | Task::Describe(_)
        | Task::Why(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(look(task, &mut out));
        }
    };
    out.text(&text)?;
    Ok(ends_with)
}

async fn look(task: &Task, out: &mut Out<'_>) -> Result<u8> {
    match task {
        Task::Version(look) => version::run(look, out).await,
        Task::Status(look) => status::run(look, out).await,
        Task::Check(check) => check::run(check, out).await,
        Task::Agent(task) => agents::run(task, out).await,
        Task::Waypoint(task) => waypoints::run(task, out).await,
        Task::Describe(task) => describe::run(task, out).await,
        Task::Why(why) => why::run(why, out).await,
        Task::Install(_)
        | Task::Uninstall(_)
        | Task::Explain(_)
        | Task::Authz(_)
        | Task::Analyze(_)
        | Task::Completion { .. } => Ok(0),
    }
}

/// How the answer is printed.
fn format_of(task: &Task) -> Format {
    match task {
        Task::Version(look) | Task::Status(look) => look.place.output,
        Task::Check(check) => check.place.output,
        Task::Agent(task) => task.place().output,
        Task::Waypoint(task) => match task {
            Waypoint::List { place, .. } | Waypoint::Apply { place, .. } => place.output,
            Waypoint::Status(of) | Waypoint::Config(of) | Waypoint::Delete(of) => of.place.output,
            Waypoint::Generate { .. } => Format::Yaml,
        },
        Task::Describe(Describe::Pod(of) | Describe::Service(of)) => of.place.output,
        Task::Why(why) => why.place.output,
        Task::Install(_)
        | Task::Uninstall(_)
        | Task::Explain(_)
        | Task::Authz(_)
        | Task::Analyze(_)
        | Task::Completion { .. } => Format::Table,
    }
}

/// The completion script of a shell.
fn completion(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weirctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
