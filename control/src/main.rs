//! The control plane: turns what users declare into the mesh, serves it to agents, and signs identities.
//!
//! In: a cluster's objects, or a folder of manifests; tokens; signing requests. Out: the mesh over delta ADS, certificates, and for people
//! what it knows. It is in nobody's data path: agents that know the mesh go on without it.

mod admission;
mod annotate;
mod ca;
mod cli;
mod debug;
mod deployer;
mod documents;
mod measure;
mod pods;
mod profile;
mod routes;
mod run;
mod source;
mod status;
mod tokens;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match run::run(cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}
