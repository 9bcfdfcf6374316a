//! The node agent: catches the traffic of the node's enrolled pods, carries it over HBONE, and lets in what may come in.
//!
//! In: manifests, pods' network namespaces, the kernel's original destinations. Out: tunnels, metrics, logs. What it decides
//! is decided in `weir-world`; here it is done.

mod admin;
mod cleanup;
mod cli;
mod cni;
mod demand;
#[cfg(test)]
mod documented;
mod enrol;
mod exemption;
mod install;
mod listeners;
mod measure;
mod namespaces;
mod observe;
mod pod;
mod proc;
#[cfg(test)]
mod reference;
mod refusals;
mod report;
mod routed;
mod run;
mod shadow;
mod source;
#[cfg(test)]
mod testing;
mod worker;
mod zds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Arguments::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let result = match arguments.part {
        cli::Part::Task(cli::Task::Cleanup { proc }) => cleanup::run(&arguments.bpf_dir, &proc),
        cli::Part::Task(cli::Task::Cni(task)) => install::run(&task),
        cli::Part::Agent(agent) => run::run(*agent, arguments.bpf_dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
