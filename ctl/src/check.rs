//! `weirctl check`: whether a mesh can run there, or runs well.

mod cluster;
mod node;

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::{
    cli::{Check, Format},
    out::{Cell, Out, Table, Tone},
};

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As it should be.
    Good,
    /// It may matter.
    Doubtful,
    /// The mesh cannot run so, or not as it should.
    Bad,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    what: String,
    state: State,
    found: String,
    /// What to do about it.
    next: String,
}

impl Finding {
    fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), state: State::Good, found: found.into(), next: String::new() }
    }

    fn doubtful(what: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), state: State::Doubtful, found: found.into(), next: next.into() }
    }

    fn bad(what: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), state: State::Bad, found: found.into(), next: next.into() }
    }
}

/// Looks, and prints what was found. Ends with 1 where something is bad.
///
/// # Errors
/// If it cannot be looked at.
pub(crate) async fn run(check: &Check, out: &mut Out<'_>) -> Result<u8> {
    let findings = match check.node {
        true => node::look(Path::new("/")),
        false => cluster::look(&check.place).await?,
    };
    print(&findings, out)
}

fn print(findings: &[Finding], out: &mut Out<'_>) -> Result<u8> {
    let bad = findings.iter().filter(|one| one.state == State::Bad).count();
    match out.format {
        Format::Table => {
            let rows: Vec<Vec<Cell>> = findings
                .iter()
                .map(|one| {
                    let state = match one.state {
                        State::Good => Cell::new("ok", Tone::Good),
                        State::Doubtful => Cell::new("look", Tone::Doubtful),
                        State::Bad => Cell::new("BAD", Tone::Bad),
                    };
                    vec![state, one.what.as_str().into(), one.found.as_str().into()]
                })
                .collect();
            let mut table = Table::new(&["", "WHAT", "FOUND"]);
            table.rows(out, &rows)?;
            for one in findings.iter().filter(|one| !one.next.is_empty()) {
                out.line(&format!("{}: {}", crate::out::shown(&one.what), crate::out::shown(&one.next)))?;
            }
            match bad {
                0 => out.toned("nothing is in the way", Tone::Good)?,
                1 => out.toned("1 thing is in the way", Tone::Bad)?,
                _ => out.toned(&format!("{bad} things are in the way"), Tone::Bad)?,
            }
        }
        Format::Json | Format::Yaml => {
            let one = |one: &Finding| {
                let state = match one.state {
                    State::Good => "ok",
                    State::Doubtful => "look",
                    State::Bad => "bad",
                };
                json!({ "what": one.what, "state": state, "found": one.found, "next": one.next })
            };
            out.value(&json!({ "ok": bad == 0, "findings": findings.iter().map(one).collect::<Vec<_>>() }))?;
        }
    }
    Ok(u8::from(bad > 0))
}
