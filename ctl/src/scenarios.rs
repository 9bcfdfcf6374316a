//! Scenarios that people meet, in `tests/explain`: each a folder of manifests and questions, with the answers as they are printed.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;

use crate::{
    authz,
    cli::{Arguments, Authz, Task},
};

/// Where a folder is, whatever the snapshots' library thinks a relative path begins at.
fn here(folder: &Path) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn answers(folder: &Path, output: &str) -> String {
    let questions = fs::read_to_string(folder.join("questions.txt")).unwrap();
    let mut answers = String::new();
    for question in questions.lines() {
        let (from, to) = question.split_once(" -> ").unwrap();
        let folder = folder.to_str().unwrap();
        let words = ["weirctl", "authz", "explain", "-f", folder, "--from", from, "--to", to, "--output", output];
        let Arguments { task: Task::Authz(Authz::Explain(explain)) } = Arguments::try_parse_from(words).unwrap();
        let answer = match authz::explain(&explain) {
            Ok((text, admitted)) => format!("{text}(ends with {})\n", i32::from(!admitted)),
            Err(error) => format!("weirctl: {error:#}\n(ends with 2)\n"),
        };
        write!(answers, "$ weirctl authz explain -f . --from {from} --to {to}\n{answer}\n").unwrap();
    }
    answers
}

#[test]
fn every_scenario_is_answered_as_it_was_written_down() {
    let mut folders: Vec<_> = fs::read_dir("../tests/explain").unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() > 8, "{folders:?}");
    for folder in folders {
        insta::with_settings!({ snapshot_path => here(&folder), prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!("answers", answers(&folder, "text"));
        });
    }
}

#[test]
fn programs_read_the_same_as_people() {
    let folder = Path::new("../tests/explain/l7-rule-at-l4");
    insta::with_settings!({ snapshot_path => here(folder), prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("answers-json", answers(folder, "json"));
    });
}

#[test]
fn manifests_that_cannot_be_read_are_told_with_every_error() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: a}\nspec:\n  \
                  action: REFUSE\n  rules:\n  - from: [{source: {ipBlocks: [10.0.0.0/33]}}]\n";
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let words =
        ["weirctl", "authz", "explain", "--from=a/b@10.0.0.1", "--to=a/p:80", "-f", folder.path().to_str().unwrap()];
    let Arguments { task: Task::Authz(Authz::Explain(explain)) } = Arguments::try_parse_from(words).unwrap();
    let error = format!("{:#}", authz::explain(&explain).unwrap_err());
    for said in [
        "the manifests cannot be used",
        "AuthorizationPolicy a/p: spec.action",
        "spec.rules[0].from[0].source.ipBlocks[0]",
    ] {
        assert!(error.contains(said), "{error}");
    }
}
