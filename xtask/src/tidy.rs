//! The rules of STYLE.md that a look at the text can check: tracked files in, findings out. Never builds anything.

mod documents;
mod rules;
mod source;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{finding::Finding, metadata::Metadata};
use source::Source;

/// Every finding in the tracked files of the repository at `root`.
///
/// # Errors
/// When git cannot list the files or one of them cannot be read.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> Result<Vec<Finding>> {
    let files = tracked(root)?;
    let mut findings = documents::missing(&files);
    let members = metadata.member_manifests();
    let (mut sources, mut texts, mut features) = (Vec::new(), Vec::new(), String::new());
    for file in &files {
        let bytes = fs::read(root.join(file)).with_context(|| format!("{file} cannot be read"))?;
        findings.extend(rules::machine_paths(file, &bytes));
        if file.ends_with(".rs") {
            let text = String::from_utf8(bytes).with_context(|| format!("{file} is not UTF-8"))?;
            findings.extend(rules::opening(file, &text));
            sources.push(Source::read(file, &text));
            texts.push(text);
        } else if file.ends_with(".md") {
            let text = String::from_utf8(bytes).with_context(|| format!("{file} is not UTF-8"))?;
            findings.extend(documents::all(file, &text, &files, &members));
            findings.extend(documents::commands(root, file, &text));
            if file == documents::FEATURES {
                features = text;
            }
        }
    }
    findings.extend(documents::features_without_test(&features, &texts));
    findings.extend(with_test_modules(sources).iter().flat_map(rules::all));
    for manifest in members {
        let text = fs::read_to_string(root.join(&manifest)).with_context(|| format!("{manifest} cannot be read"))?;
        findings.extend(rules::inherited_lints(&manifest, &text));
    }
    Ok(findings)
}

/// The files of the repository, new ones included, ignored and deleted ones not.
///
/// # Errors
/// When `git ls-files` fails, for example outside a repository.
pub(crate) fn tracked(root: &Path) -> Result<Vec<String>> {
    // The checkout may belong to the user who started sudo; listing it runs nothing of it.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git could not be started")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let names = String::from_utf8(output.stdout).context("a tracked file has a name that is not UTF-8")?;
    let mut files: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
    files.sort();
    files.dedup();
    files.retain(|file| root.join(file).is_file());
    Ok(files)
}

/// The Rust files of the repository with their texts and, for each line from 0, whether it is there for tests only.
///
/// # Errors
/// As [`tracked`], or when a file cannot be read.
pub(crate) fn product(root: &Path) -> Result<Vec<(String, String, Vec<bool>)>> {
    let mut texts = Vec::new();
    let mut sources = Vec::new();
    for file in tracked(root)?.into_iter().filter(|file| file.ends_with(".rs")) {
        let text = fs::read_to_string(root.join(&file)).with_context(|| format!("{file} cannot be read"))?;
        sources.push(Source::read(&file, &text));
        texts.push(text);
    }
    let sources = with_test_modules(sources).into_iter().zip(texts);
    Ok(sources.map(|(source, text)| (source.path.clone(), text, source.tests())).collect())
}

/// The same files, with those marked as tests that another declares by `#[cfg(test)] mod name;`.
fn with_test_modules(sources: Vec<Source>) -> Vec<Source> {
    let modules: HashSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    let mark = |source: Source| {
        let stem = source.path.strip_suffix(".rs").unwrap_or(&source.path);
        let is_test = modules.contains(stem) || stem.strip_suffix("/mod").is_some_and(|stem| modules.contains(stem));
        if is_test { source.into_test() } else { source }
    };
    sources.into_iter().map(mark).collect()
}
