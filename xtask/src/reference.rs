//! `cargo xtask reference`: the pages of `docs/reference`, made of the code.
//!
//! In: the sources, and what programs say of their flags. Out: a page of flags for each program, and one each of metrics, endpoints, and labels and
//! annotations. What the code does not say of itself stands in a table here; a name in the code without a row, and a row without a name in the code,
//! are findings of `cargo xtask lint`.

mod endpoints;
mod labels;
mod literals;
mod metrics;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cargo::{cargo, root},
    finding::Finding,
    tidy,
};
use literals::{Literal, literals};

/// The packages of the programs that have a page of flags, each written by a test of its own: the flags of a program are nobody else's to see.
const PROGRAMS: [&str; 4] = ["weir-agent", "weir-control", "weir-ctl", "weir-waypoint"];
/// The test that writes it.
const TEST: &str = "the_reference_of_flags_is_what_is_read";
const WRITTEN: &str = "Written by `cargo xtask reference`.";

/// Arguments of `cargo xtask reference`.
#[derive(clap::Args)]
pub(crate) struct Reference {
    /// Write nothing; fail when a page is not what would be written.
    #[arg(long)]
    check: bool,
}

/// A literal of the product, and the program it is of; none where it is of a crate that several use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    program: Option<Program>,
    file: String,
    literal: Literal,
    /// The literal that follows it in the same file: after a metric's name, its help.
    next: String,
}

/// A program that tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    Agent,
    Waypoint,
    Control,
}

impl Program {
    const ALL: [Self; 3] = [Self::Agent, Self::Waypoint, Self::Control];

    fn name(self) -> &'static str {
        match self {
            Self::Agent => "weir-agent",
            Self::Waypoint => "weir-waypoint",
            Self::Control => "weir-control",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Agent => "agent/",
            Self::Waypoint => "waypoint/",
            Self::Control => "control/",
        }
    }
}

impl Reference {
    /// Writes, or compares.
    ///
    /// # Errors
    /// When something of the code stands in no table, or a page is stale and was only to be compared.
    pub(crate) fn run(&self) -> Result<()> {
        let root = root();
        let made = Made::of(&root)?;
        if !self.check {
            for (path, page) in &made.pages {
                fs::create_dir_all(root.join("docs/reference"))?;
                fs::write(root.join(path), page).with_context(|| (*path).to_owned())?;
            }
        }
        let findings = made.check(&root);
        findings.iter().for_each(|finding| println!("{finding}"));
        ensure!(findings.is_empty(), "{} findings", findings.len());
        let mut flags = cargo();
        flags.args(["test", "--quiet"]);
        flags.args(PROGRAMS.map(|package| format!("--package={package}")));
        flags.args(["--bins", TEST]);
        if !self.check {
            flags.env(weir_documents::WRITE, "1");
        }
        let status = flags.status().context("run cargo")?;
        if !status.success() {
            bail!("the pages of flags: cargo ended with {status}");
        }
        println!("docs/reference is as it should be");
        Ok(())
    }
}

/// What is not as it should be of the pages that are made of sources.
///
/// # Errors
/// When a source cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    Ok(Made::of(root)?.check(root))
}

/// What was made of the sources.
struct Made {
    pages: BTreeMap<&'static str, String>,
    findings: Vec<Finding>,
}

impl Made {
    fn of(root: &Path) -> Result<Self> {
        let found = found(root)?;
        let mut findings = Vec::new();
        let pages = BTreeMap::from([
            ("docs/reference/labels.md", labels::page(&found, &mut findings)),
            ("docs/reference/metrics.md", metrics::page(&found, &mut findings)),
            ("docs/reference/endpoints.md", endpoints::page(&found, &mut findings)),
        ]);
        Ok(Self { pages, findings })
    }

    fn check(self, root: &Path) -> Vec<Finding> {
        let mut findings = self.findings;
        let stale = |path: &str, page: &str| fs::read_to_string(root.join(path)).ok().as_deref() != Some(page);
        let stale = self.pages.iter().filter(|(path, page)| stale(path, page));
        findings.extend(stale.map(|(path, _)| Finding::at(path, 1, "is stale: run `cargo xtask reference`")));
        findings
    }
}

/// Every literal of the programs and of what they are made of, without those of tests.
fn found(root: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for (file, text, tests) in tidy::product(root)? {
        let program = Program::ALL.into_iter().find(|program| file.starts_with(program.folder()));
        // What analysis knows of all keys and objects there are, has an effect nowhere.
        let is_list = file.starts_with("crates/logic/analyze/src/rules/labels");
        if is_list || (program.is_none() && !file.starts_with("crates/")) {
            continue;
        }
        let all = literals(&text);
        for (at, literal) in all.iter().enumerate() {
            if tests.get(literal.line - 1) != Some(&true) {
                let next = all.get(at + 1).map(|next| next.text.clone()).unwrap_or_default();
                found.push(Found { program, file: file.clone(), literal: literal.clone(), next });
            }
        }
    }
    Ok(found)
}

/// Finds the names in a program's own code whose row does not name the program.
fn of_others<'r>(
    found: &[&Found],
    of: impl Fn(&str) -> Option<&'r [Program]>,
    table: &str,
    findings: &mut Vec<Finding>,
) {
    for one in found {
        let (Some(program), Some(programs)) = (one.program, of(&one.literal.text)) else { continue };
        if !programs.contains(&program) {
            let what = format!("the row of {:?} in {table} does not name {}", one.literal.text, program.name());
            findings.push(Finding::at(&one.file, one.literal.line, what));
        }
    }
}

/// Finds the names in the code without a row, and the rows without a name in the code.
fn compare(found: &[&Found], rows: &BTreeSet<&str>, table: &str, findings: &mut Vec<Finding>) {
    for one in found.iter().filter(|one| !rows.contains(one.literal.text.as_str())) {
        let what = format!("{:?} has no row in {table}", one.literal.text);
        findings.push(Finding::at(&one.file, one.literal.line, what));
    }
    for row in rows.iter().filter(|row| !found.iter().any(|one| one.literal.text == **row)) {
        findings.push(Finding::at(table, 1, format!("{row:?} is nowhere in the code: take its row out")));
    }
}
