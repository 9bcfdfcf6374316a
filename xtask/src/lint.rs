//! `cargo xtask lint`: formatting, clippy, tidy, layers and what is generated; every finding of all at once, one a line, as
//! `file:line: what`.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    finding::Finding,
    r#gen, layers,
    metadata::{Metadata, cargo, root},
    tidy,
};

/// Runs every check and prints what they found. Fails when there is anything to print.
///
/// # Errors
/// When a check could not run at all.
pub(crate) fn run() -> Result<ExitCode> {
    let root = root();
    let metadata = Metadata::load(&root)?;
    let mut findings: BTreeSet<Finding> = tidy::check(&root, &metadata)?.into_iter().collect();
    findings.extend(layers::check(&metadata)?.iter().map(|v| Finding::at("Cargo.toml", 1, v.to_string())));
    findings.extend(r#gen::check(&root)?);
    findings.extend(format(&root)?);
    findings.extend(clippy(&root)?);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("lint: nothing to complain about"),
        found => println!("lint: {found} findings"),
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What rustfmt would change, in every Rust file of the repository: the kernel programs are no workspace members.
fn format(root: &Path) -> Result<Vec<Finding>> {
    let files: Vec<String> = tidy::tracked(root)?.into_iter().filter(|file| file.ends_with(".rs")).collect();
    let output = Command::new("rustfmt")
        .args(["--check", "--edition", "2024", "--color", "never"])
        .args(&files)
        .current_dir(root)
        .output()
        .context("rustfmt could not be started; `rustup component add rustfmt` brings it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let findings: Vec<Finding> = text.lines().filter_map(|line| format_finding(root, line)).collect();
    if !output.status.success() && findings.is_empty() {
        bail!("rustfmt failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(findings)
}

/// The place in a line such as `Diff in path/a.rs:12:`.
fn format_finding(root: &Path, line: &str) -> Option<Finding> {
    let (file, number) = line.strip_prefix("Diff in ")?.trim_end_matches(':').rsplit_once(':')?;
    let file = Path::new(file).strip_prefix(root).unwrap_or(Path::new(file));
    Some(Finding::at(&file.to_string_lossy(), number.parse().ok()?, "not formatted: run `cargo fmt`"))
}

/// One line of `cargo clippy --message-format=json`, as far as it is read here.
#[derive(Deserialize)]
struct RawMessage {
    message: Option<RawDiagnostic>,
}

#[derive(Deserialize)]
struct RawDiagnostic {
    level: String,
    message: String,
    spans: Vec<RawSpan>,
}

#[derive(Deserialize)]
struct RawSpan {
    file_name: String,
    line_start: usize,
    is_primary: bool,
}

/// What clippy says of every target. Warnings are not made errors, so that one crate's do not hide those of the crates
/// that depend on it; here each counts all the same.
fn clippy(root: &Path) -> Result<Vec<Finding>> {
    let output = Command::new(cargo())
        .args(["clippy", "--workspace", "--all-targets", "--locked", "--keep-going", "--quiet"])
        .arg("--message-format=json")
        .current_dir(root)
        .output()
        .context("cargo clippy could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut findings = Vec::new();
    for line in text.lines() {
        findings.extend(clippy_finding(line)?);
    }
    if !output.status.success() && findings.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("cargo clippy failed (`rustup component add clippy` brings it): {}", said.trim());
    }
    Ok(findings)
}

/// The finding in one message of cargo's, if it is a diagnostic with a place.
fn clippy_finding(line: &str) -> Result<Option<Finding>> {
    let raw: RawMessage = serde_json::from_str(line).with_context(|| format!("clippy printed {line:?}"))?;
    let Some(diagnostic) = raw.message else { return Ok(None) };
    let Some(span) = diagnostic.spans.iter().find(|span| span.is_primary) else { return Ok(None) };
    let what = format!("{}: {}", diagnostic.level, diagnostic.message);
    Ok(Some(Finding::at(&span.file_name, span.line_start, what)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{clippy_finding, format_finding};

    #[test]
    fn a_line_of_rustfmt_is_a_place() {
        for (line, want) in [
            ("Diff in /repo/agent/src/main.rs:12:", Some("agent/src/main.rs:12: not formatted: run `cargo fmt`")),
            ("Diff in agent/src/main.rs:3:", Some("agent/src/main.rs:3: not formatted: run `cargo fmt`")),
            ("-fn main( ) {}", None),
            ("Diff in nowhere", None),
        ] {
            let found = format_finding(Path::new("/repo"), line).map(|finding| finding.to_string());
            assert_eq!(found.as_deref(), want, "{line}");
        }
    }

    #[test]
    fn a_diagnostic_of_clippy_is_a_place_and_its_summary_is_not() {
        let span = r#"{"file_name":"a/src/b.rs","line_start":7,"is_primary":true}"#;
        for (spans, want) in [(span, Some("a/src/b.rs:7: warning: unused")), ("", None)] {
            let line = format!(r#"{{"message":{{"level":"warning","message":"unused","spans":[{spans}]}}}}"#);
            let found = clippy_finding(&line).unwrap().map(|finding| finding.to_string());
            assert_eq!(found.as_deref(), want, "{line}");
        }
        assert!(clippy_finding(r#"{"reason":"build-finished","success":true}"#).unwrap().is_none());
        assert!(clippy_finding("not json").is_err());
    }
}
