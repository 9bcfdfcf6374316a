//! `weirctl authz explain`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use weir_authz::{Explanation, Ruling};
use weir_compile::{PolicyStatus, compile_with_status};
use weir_world::World;

use crate::{
    cli::{Explain, Output},
    folder, live,
};

/// The answer as it is printed, and whether the connection may enter.
///
/// # Errors
/// If the mesh cannot be read, or holds nothing that was asked about.
pub(crate) fn explain(explain: &Explain) -> Result<(String, bool)> {
    let answer = match &explain.mesh.manifests {
        Some(folder) => read(explain, folder)?,
        None => ask(explain)?,
    };
    let text = match explain.output {
        Output::Text => answer.to_string(),
        Output::Json => serde_json::to_string_pretty(&answer)? + "\n",
    };
    Ok((text, answer.verdict == Ruling::Allow))
}

/// Answers from a folder.
fn read(explain: &Explain, folder: &Path) -> Result<Explanation> {
    let settings = folder::settings(&explain.mesh)?;
    let (mesh, statuses) = folder::read(folder, move |objects| compile_with_status(objects, &settings))?;
    let mut answer = World::new(mesh).explain(&explain.from, &explain.to)?;
    annotate(&mut answer, &statuses);
    folder::shorten(answer, folder)
}

/// Adds what of the considered policies is not enforced as it was written: no agent can tell.
fn annotate(answer: &mut Explanation, statuses: &[PolicyStatus]) {
    for status in statuses {
        let name = (&status.kind, &status.namespace, &status.name);
        if answer.policies.iter().any(|one| (&one.kind, &one.namespace, &one.name) == name) && !status.is_as_written() {
            answer.notes.push(status.to_string());
        }
    }
}

/// Asks the agent.
fn ask(explain: &Explain) -> Result<Explanation> {
    let query = [("from", explain.from.to_string()), ("to", explain.to.to_string())];
    let (status, body) = live::get(&explain.admin, "/debug/authz", &query)
        .with_context(|| format!("cannot ask the agent at {} (is it the agent of the pod's node?)", explain.admin))?;
    if status != 200 {
        bail!("the agent at {} answers {status}: {}", explain.admin, body.trim());
    }
    serde_json::from_str(&body).with_context(|| format!("the agent at {} speaks of another version", explain.admin))
}
