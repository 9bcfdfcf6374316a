//! `weirctl describe`: all about one pod or one service.

mod known;
mod pod;
mod service;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    cli::{Describe, Format},
    folder,
    out::{Out, Tone},
};

/// What is known of a thing, fact by fact.
struct Described {
    kind: &'static str,
    namespace: String,
    name: String,
    facts: Vec<(&'static str, String, Tone)>,
}

impl Described {
    fn new(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned(), facts: Vec::new() }
    }

    fn fact(&mut self, label: &'static str, text: impl Into<String>) {
        self.facts.push((label, text.into(), Tone::Plain));
    }

    fn toned(&mut self, label: &'static str, text: impl Into<String>, tone: Tone) {
        self.facts.push((label, text.into(), tone));
    }

    fn print(&self, out: &mut Out<'_>) -> Result<()> {
        let Self { kind, namespace, name, facts } = self;
        if out.format != Format::Table {
            let mut fields = serde_json::Map::new();
            for (label, text, _) in facts {
                let all = fields.entry((*label).to_owned()).or_insert_with(|| json!([]));
                if let Value::Array(all) = all {
                    all.push(text.as_str().into());
                }
            }
            return out.value(&json!({ "kind": kind, "namespace": namespace, "name": name, "facts": fields }));
        }
        out.line(&format!("{kind} {namespace}/{name}"))?;
        let mut last = "";
        for (label, text, tone) in facts {
            let shown = if *label == last { "" } else { *label };
            out.toned(&format!("  {shown:<12} {text}"), *tone)?;
            last = label;
        }
        Ok(())
    }
}

/// Prints what is known.
///
/// # Errors
/// If there is no such thing: which one may have been meant.
pub(crate) async fn run(task: &Describe, out: &mut Out<'_>) -> Result<u8> {
    let (mut described, of) = match task {
        Describe::Pod(of) => (pod::describe(of).await?, of),
        Describe::Service(of) => (service::describe(of).await?, of),
    };
    if let Some(folder) = &of.place.mesh.manifests {
        for (_, text, _) in &mut described.facts {
            *text = folder::short(text, folder)?;
        }
    }
    described.print(out)?;
    Ok(0)
}
