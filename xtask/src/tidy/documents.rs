//! The documents: they are there, they list what they promise to list, and their links lead somewhere.

use std::path::{Component, Path, PathBuf};

use crate::finding::Finding;

/// What every checkout has at its root.
const DOCUMENTS: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "STYLE.md",
    "clippy.toml",
    "deny.toml",
];

/// What works, each row with its test.
pub(super) const FEATURES: &str = "docs/features.md";

/// The documents that are not among `files`.
pub(super) fn missing(files: &[String]) -> Vec<Finding> {
    let missing = DOCUMENTS.iter().filter(|document| !files.iter().any(|file| file == *document));
    missing.map(|document| Finding::at(document, 1, "is missing from the root of the repository")).collect()
}

/// Every rule on one document, `text` at `path`, in a repository of `files` whose members have the manifests `members`.
pub(super) fn all(path: &str, text: &str, files: &[String], members: &[String]) -> Vec<Finding> {
    let mut findings = dead_links(path, text, files);
    match path {
        "ARCHITECTURE.md" => findings.extend(unlisted_members(text, members)),
        "CHANGELOG.md" => findings.extend(changelog(text)),
        _ => {}
    }
    findings
}

/// What is wrong with the commands of a document people follow: README.md, and those below `docs`.
pub(super) fn commands(root: &Path, path: &str, text: &str) -> Vec<Finding> {
    if path != "README.md" && !path.starts_with("docs/") {
        return Vec::new();
    }
    let place = |fault: &str| {
        let (_, rest) = fault.split_once(':')?;
        let (line, what) = rest.split_once(": ")?;
        Some(Finding::at(path, line.parse().ok()?, what))
    };
    weir_documents::faults(root, path, text).iter().filter_map(|fault| place(&fault.0)).collect()
}

/// Features that name a test which none of `sources` has. A name is what stands in back quotes and has the look of a test's:
/// several words joined by underscores.
pub(super) fn features_without_test(text: &str, sources: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 1) {
            let test = format!("fn {name}(");
            if !sources.iter().any(|source| source.contains(&test)) {
                findings.push(Finding::at(FEATURES, at + 1, format!("no test is named `{name}`")));
            }
        }
    }
    findings
}

/// The changelog has a place for what is to come.
fn changelog(text: &str) -> Option<Finding> {
    let has = text.lines().any(|line| line.starts_with("## [Unreleased]"));
    (!has).then(|| Finding::at("CHANGELOG.md", 1, "has no section `## [Unreleased]`"))
}

/// The map has every crate; those of tests stand together as `tests/**`.
fn unlisted_members(text: &str, members: &[String]) -> Vec<Finding> {
    let folder = |manifest: &String| match manifest.trim_end_matches("Cargo.toml").trim_end_matches('/') {
        tests if tests == "tests" || tests.starts_with("tests/") => "tests/**".to_owned(),
        folder => folder.to_owned(),
    };
    let folders = members.iter().map(folder);
    let unlisted = folders.filter(|folder| !text.contains(&format!("`{folder}`")));
    unlisted.map(|folder| Finding::at("ARCHITECTURE.md", 1, format!("does not list `{folder}`"))).collect()
}

/// Links to files and folders that are not there. Links to other places and within the page are not followed.
fn dead_links(path: &str, text: &str, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let target = beside(path, file);
            if !files.iter().any(|known| Path::new(known).starts_with(&target)) {
                findings.push(Finding::at(path, at + 1, format!("a link to {link:?}, which is not there")));
            }
        }
    }
    findings
}

/// Where a link in the document at `path` leads, from the root.
fn beside(path: &str, link: &str) -> PathBuf {
    let mut target = Path::new(path).parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(target.pop()),
            Component::Normal(name) => target.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    target
}
