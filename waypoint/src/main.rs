//! The waypoint: an HTTP proxy for the services bound to it.
//!
//! In: HBONE from agents, with the service that was asked for as authority; routes, destinations and policies as their authors wrote them. Out: requests, each to
//! an endpoint of the service it was routed to, over HBONE again. What becomes of a request is decided in `crates/logic`; how it is moved is
//! `weir-http`'s; here both meet the mesh.

mod admin;
mod around;
mod arrive;
mod asked;
mod cli;
mod compiled;
mod control;
mod gate;
mod handed;
mod preface;
#[cfg(test)]
mod reference;
mod refusals;
mod run;
mod see;
mod shadow;
mod source;
mod stream;
mod told;
mod upstream;
mod worker;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match run::run(cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-waypoint: {error:#}");
            ExitCode::FAILURE
        }
    }
}
