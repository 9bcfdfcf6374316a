//! A chained CNI plugin: what a container runtime says comes in, the result of the plugin before goes out as it was, once the
//! node's agent says that the pod is caught. It never touches a network namespace, and it never waits without a deadline.
//!
//! Container Network Interface Specification, versions 0.3.0 to 1.1.0.

mod agent;
mod config;
mod deadline;
mod environment;
mod error;

use std::{ffi::OsString, io::Read, time::Instant};

pub use config::Config;
pub use error::Error;

use agent::Question;
use environment::{Command, Environment};

/// The versions of the specification spoken, oldest first. Those before 1.0.0 differ in nothing that is read or written here.
pub const VERSIONS: &[&str] = &["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest of them, for answers to callers whose version is not known.
const NEWEST: &str = "1.1.0";

/// How the plugin ends, and what it writes to standard output.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success, exit code 0.
    Done(String),
    /// An error of the specification's form, exit code 1.
    Failed(String),
}

/// Does what the runtime asks by `variable` (its environment) and `input` (the configuration).
pub fn run(variable: &dyn Fn(&str) -> Option<OsString>, input: impl Read + Send + 'static) -> Outcome {
    let text = deadline::read(input);
    let version = text.as_deref().ok().and_then(config::version).unwrap_or_else(|| NEWEST.to_owned());
    match answer(variable, text, &version) {
        Ok(text) => Outcome::Done(text),
        Err(error) => Outcome::Failed(error.to_json(&version)),
    }
}

fn answer(
    variable: &dyn Fn(&str) -> Option<OsString>,
    input: Result<Vec<u8>, Error>,
    version: &str,
) -> Result<String, Error> {
    match Command::read(variable)? {
        Command::Version => Ok(serde_json::json!({ "cniVersion": version, "supportedVersions": VERSIONS }).to_string()),
        // The agent forgets pods by itself, and a pod that cannot be deleted helps nobody: whatever is wrong, this succeeds.
        Command::Del => Ok(String::new()),
        // Nothing is kept here that could be garbage.
        Command::Gc => Config::parse(&input?).map(|_| String::new()),
        Command::Status => {
            let config = Config::parse(&input?)?;
            let by = Instant::now() + config.timeout;
            agent::ask(&config.agent_socket, &Question::Status, by)
                .map(|()| String::new())
                .map_err(|cause| Error::Unavailable(Box::new(cause)))
        }
        Command::Add => {
            let config = Config::parse(&input?)?;
            let previous = config.previous()?;
            caught("ADD", variable, &config, &previous.ips)?;
            Ok(previous.text.get().to_owned())
        }
        Command::Check => {
            let config = Config::parse(&input?)?;
            caught("CHECK", variable, &config, &config.previous()?.ips)?;
            Ok(String::new())
        }
    }
}

/// Returns once the agent says that the pod is caught, or is not to be.
fn caught(
    command: &'static str,
    variable: &dyn Fn(&str) -> Option<OsString>,
    config: &Config,
    ips: &[std::net::IpAddr],
) -> Result<(), Error> {
    let environment = Environment::read(variable)?;
    // A container that is no pod is nobody of the mesh.
    let Some(pod) = &environment.pod else { return Ok(()) };
    if config.exclude_namespaces.contains(&pod.namespace) {
        return Ok(());
    }
    let question = Question::Pod { command, environment: &environment, pod, ips };
    agent::ask(&config.agent_socket, &question, Instant::now() + config.timeout)
}
