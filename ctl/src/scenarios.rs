//! Scenarios that people meet, in `tests/explain`: each a folder of manifests and questions, with the answers as they are printed.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
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
        let answer = answer(words);
        write!(answers, "$ weirctl authz explain -f . --from {from} --to {to}\n{answer}\n").unwrap();
    }
    answers
}

/// What is printed, and what the program ends with.
fn answer<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    crate::testing::answer(words)
}

/// The answers to the lines of `requests.txt`, which are the words behind `weirctl explain -f .`.
fn whole_ways(folder: &Path, output: &str) -> String {
    let mut answers = String::new();
    for line in fs::read_to_string(folder.join("requests.txt")).unwrap().lines() {
        let before = ["weirctl", "explain", "-f", folder.to_str().unwrap(), "--output", output].map(str::to_owned);
        let words: Vec<String> = before.into_iter().chain(words_of(line)).collect();
        let answer = answer(words.iter().map(String::as_str));
        write!(answers, "$ weirctl explain -f . {line}\n{answer}\n").unwrap();
    }
    answers
}

/// As a shell reads a line without anything but words and quotes.
fn words_of(line: &str) -> Vec<String> {
    let quoted = line.split('\'').enumerate().flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    quoted.collect()
}

/// The folders that hold a file.
fn folders_with(file: &str) -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir("../tests/explain").unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.join(file).is_file());
    folders.sort();
    folders
}

#[test]
fn every_way_is_explained_as_it_was_written_down() {
    let folders = folders_with("requests.txt");
    assert!(folders.len() > 8, "{folders:?}");
    for folder in folders {
        insta::with_settings!({ snapshot_path => here(&folder), prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!("answers", whole_ways(&folder, "text"));
        });
    }
}

#[test]
fn programs_read_the_same_ways_as_people() {
    let folder = Path::new("../tests/explain/split-by-weight");
    insta::with_settings!({ snapshot_path => here(folder), prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("answers-json", whole_ways(folder, "json"));
    });
}

#[test]
fn every_scenario_is_answered_as_it_was_written_down() {
    let folders = folders_with("questions.txt");
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
    let error = answer(words);
    for said in [
        "the manifests cannot be used",
        "AuthorizationPolicy a/p: spec.action",
        "spec.rules[0].from[0].source.ipBlocks[0]",
    ] {
        assert!(error.contains(said), "{error}");
    }
}
