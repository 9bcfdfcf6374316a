//! `weirctl`: looks at a mesh, and says why.
//!
//! In: a folder of manifests, or the admin server of a live agent. Out: answers for people, or JSON for programs. What it says is
//! decided by the code that decides in the agent.

mod authz;
mod cli;
mod explain;
mod folder;
mod install;
mod live;
#[cfg(test)]
mod scenarios;
mod scene;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Authz, Task};

fn main() -> ExitCode {
    let Arguments { task } = Arguments::parse();
    let answer = match &task {
        Task::Explain(way) => explain::explain(way),
        Task::Install(asked) => install::install(asked).map(|text| (text, 0)),
        Task::Uninstall(asked) => install::uninstall(asked).map(|text| (text, 0)),
        Task::Authz(Authz::Explain(explain)) => {
            authz::explain(explain).map(|(text, admitted)| (text, u8::from(!admitted)))
        }
    };
    match answer {
        Ok((text, ends_with)) => {
            print!("{text}");
            ExitCode::from(ends_with)
        }
        Err(error) => {
            eprintln!("weirctl: {error:#}");
            ExitCode::from(2)
        }
    }
}
