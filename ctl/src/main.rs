//! `weirctl`: looks at a mesh, and says why.
//!
//! In: a folder of manifests, or the admin server of a live agent. Out: answers for people, or JSON for programs. What it says is
//! decided by the code that decides in the agent.

mod authz;
mod cli;
mod live;
#[cfg(test)]
mod scenarios;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Authz, Task};

fn main() -> ExitCode {
    let Arguments { task: Task::Authz(Authz::Explain(explain)) } = Arguments::parse();
    match authz::explain(&explain) {
        Ok((text, admitted)) => {
            print!("{text}");
            if admitted { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("weirctl: {error:#}");
            ExitCode::from(2)
        }
    }
}
