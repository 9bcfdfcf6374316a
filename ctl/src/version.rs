//! `weirctl version`: which versions there are.

use anyhow::Result;
use serde_json::json;

use crate::{
    cli::{Format, Look},
    out::{Cell, Out, Table, Tone, at},
    place::{Answered, Live},
};

/// Ours.
#[cfg(not(test))]
pub(crate) const OWN: &str = env!("CARGO_PKG_VERSION");
/// As answers that were written down have it.
#[cfg(test)]
pub(crate) const OWN: &str = "x.y.z";

/// Prints the versions. Ends with 1 where they differ.
///
/// # Errors
/// If it cannot be printed.
pub(crate) async fn run(look: &Look, out: &mut Out<'_>) -> Result<u8> {
    if look.place.mesh.manifests.is_some() {
        return told(&[], None, out);
    }
    match look.place.everybody().await {
        Ok(live) => told(&Live::all(live).await, None, out),
        // Without a mesh there is still this program.
        Err(error) => told(&[], Some(format!("{error:#}")), out),
    }
}

fn told(all: &[Answered], nobody: Option<String>, out: &mut Out<'_>) -> Result<u8> {
    let version = |one: &Answered| match &one.summary {
        Ok(summary) => at(summary, "/version").to_owned(),
        Err(_) => "-".to_owned(),
    };
    let others = all.iter().filter(|one| one.summary.is_ok() && version(one) != OWN).count();
    match out.format {
        Format::Table => {
            let mut rows = vec![vec![Cell::from("weirctl"), "-".into(), OWN.into(), "".into()]];
            rows.extend(all.iter().map(|one| {
                let version = version(one);
                let tone = if version == OWN { Tone::Good } else { Tone::Bad };
                let note = one.summary.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
                vec![one.component().into(), one.name().into(), Cell::new(&version, tone), note.into()]
            }));
            Table::new(&["COMPONENT", "NAME", "VERSION", ""]).rows(out, &rows)?;
            if others > 0 {
                out.toned(
                    &format!("{others} of {} are of another version than weirctl {OWN}: bring them to one", all.len()),
                    Tone::Bad,
                )?;
            }
            if let Some(why) = nobody {
                out.line(&format!("no other program was asked: {}", crate::out::shown(&why)))?;
            }
        }
        Format::Json | Format::Yaml => {
            let one = |one: &Answered| {
                let error = one.summary.as_ref().err().map(|error| format!("{error:#}"));
                json!({ "component": one.component(), "name": one.name(), "version": version(one), "error": error })
            };
            let programs: Vec<_> = all.iter().map(one).collect();
            out.value(&json!({ "weirctl": OWN, "programs": programs, "same": others == 0, "error": nobody }))?;
        }
    }
    Ok(u8::from(others > 0))
}
