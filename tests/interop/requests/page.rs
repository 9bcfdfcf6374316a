//! `docs/envoy-differences.md`: written from what was seen and from the reasons in `reasons.txt`, and read again.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::case::Case;
use crate::observed::{Difference, code};

/// The page as it is.
pub(crate) struct Page(String);

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn page() -> PathBuf {
    path("../docs/envoy-differences.md")
}

/// Its first words, and each reason: its word, its title, its text.
type Reasons = (String, Vec<(String, String, String)>);

fn reasons() -> anyhow::Result<Reasons> {
    let text = fs::read_to_string(path("interop/requests/reasons.txt"))?;
    let mut parts = text.split("\n== ");
    let first = parts.next().unwrap_or_default().trim_end().to_owned();
    let one = |part: &str| {
        let (head, text) = part.split_once('\n').context("a title, then why")?;
        let (word, title) = head.split_once(": ").context("expected == WORD: TITLE")?;
        Ok((word.to_owned(), title.to_owned(), text.trim().to_owned()))
    };
    Ok((first, parts.map(one).collect::<anyhow::Result<_>>()?))
}

fn row(case: &Case) -> String {
    format!("| {}: {} | ", case.group, code(&case.name))
}

impl Page {
    /// As it is; nothing, if there is none.
    pub(crate) fn read() -> anyhow::Result<Self> {
        Ok(Self(if page().exists() { fs::read_to_string(page())? } else { String::new() }))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// What it says of a case, if that differs.
    pub(crate) fn says(&self, case: &Case) -> Option<String> {
        let begin = row(case);
        let line = self.0.lines().find_map(|line| line.strip_prefix(&begin))?;
        Some(line.strip_suffix(" |").unwrap_or(line).to_owned())
    }

    /// What is not as it says.
    pub(crate) fn changes(&self, cases: &[Case], found: &[(&Case, Difference)]) -> Vec<String> {
        let mut changes = Vec::new();
        for case in cases {
            let seen = found.iter().find(|(other, _)| other.number == case.number).map(|(_, seen)| seen.to_string());
            let says = self.says(case);
            if seen != says {
                let said = |of: Option<String>| of.unwrap_or_else(|| "no difference".into());
                changes.push(format!("{}\n  page: {}\n  seen: {}", case.title(), said(says), said(seen)));
            }
        }
        changes
    }
}

/// What it has to be.
pub(crate) fn text(cases: &[Case], found: &[(&Case, Difference)]) -> anyhow::Result<String> {
    let (first, reasons) = reasons()?;
    let is_known = |case: &Case| reasons.iter().any(|(word, _, _)| Some(word) == case.why.as_ref());
    let unknown: Vec<_> = found.iter().filter(|(case, _)| !is_known(case)).collect();
    let lines = unknown.iter().map(|(case, seen)| format!("{}\n  {} | {seen}", case.title(), case.number));
    ensure!(unknown.is_empty(), "these differ without a reason:\n{}", lines.collect::<Vec<_>>().join("\n"));
    let differs = |case: &&Case| found.iter().any(|(other, _)| other.number == case.number);
    let same: Vec<_> = cases.iter().filter(|case| case.why.is_some() && !differs(case)).map(Case::title).collect();
    ensure!(same.is_empty(), "these have a reason and do not differ:\n{}", same.join("\n"));
    let counts = format!("{} requests are sent; {} of them are taken differently.", cases.len(), found.len());
    let mut text = first.replace("COUNTS", &counts);
    for (word, title, why) in &reasons {
        let rows: Vec<_> = found.iter().filter(|(case, _)| case.why.as_ref() == Some(word)).collect();
        ensure!(!rows.is_empty(), "reason {word:?} is nobody's");
        write!(text, "\n\n## {title}\n\n{why}\n\n| Sent | Envoy only | Weir only |\n| --- | --- | --- |")?;
        for (case, seen) in rows {
            write!(text, "\n{}{seen} |", row(case))?;
        }
    }
    text.push('\n');
    Ok(text)
}

/// Replaces it.
pub(crate) fn write(text: &str) -> anyhow::Result<()> {
    fs::write(page(), text).with_context(|| format!("write {}", page().display()))
}
