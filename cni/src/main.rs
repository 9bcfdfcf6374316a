//! `weir-cni`, run by the container runtime as the last plugin of a chain: environment and standard input in, one JSON
//! document and an exit code out.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use weir_cni::Outcome;

fn main() -> ExitCode {
    let outcome = weir_cni::run(&|name| std::env::var_os(name), io::stdin());
    let (text, code) = match &outcome {
        Outcome::Done(text) => (text, ExitCode::SUCCESS),
        Outcome::Failed(text) => (text, ExitCode::FAILURE),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(error) => {
            eprintln!("weir-cni: the answer could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}
