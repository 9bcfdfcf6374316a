//! The pages follow the code, and say what is missing.

use clap::Parser;

use super::*;

fn one(program: Option<Program>, text: &str, next: &str) -> Found {
    Found {
        program,
        file: "agent/src/a.rs".to_owned(),
        literal: Literal { line: 7, text: text.to_owned() },
        next: next.to_owned(),
    }
}

#[test]
fn the_pages_are_what_the_code_says() {
    let findings = check(&root()).unwrap();
    assert_eq!(findings, [], "run `cargo xtask reference`");
}

#[test]
fn no_label_is_told_twice() {
    let page = labels::page(&[], &mut Vec::new());
    let keys: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('`').nth(1)).collect();
    let unique: BTreeSet<&str> = keys.iter().copied().collect();
    assert!(keys.len() > 10 && keys.len() == unique.len(), "{keys:?}");
}

#[test]
fn a_name_without_a_row_and_a_row_without_a_name_are_findings() {
    type Page = fn(&[Found], &mut Vec<Finding>) -> String;
    let pages: [(&str, Page); 3] =
        [("weir.dev/new", labels::page), ("weir_new_things", metrics::page), ("/debug/new", endpoints::page)];
    for (name, page) in pages {
        let mut findings = Vec::new();
        page(&[one(None, name, "")], &mut findings);
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(said[0].starts_with("agent/src/a.rs:7: ") && said[0].contains(name), "{said:?}");
        assert!(said.iter().any(|line| line.contains("is nowhere in the code")), "{said:?}");
    }
}

#[test]
fn a_metric_says_what_the_code_says_behind_its_name() {
    let found = [
        one(Some(Program::Agent), "weir_policy_audit", "Connections"),
        one(Some(Program::Waypoint), "weir_policy_audit", "Requests"),
    ];
    let page = metrics::page(&found, &mut Vec::new());
    for row in [
        "| `weir_policy_audit_total` | counter | `policy` | Connections |",
        "| `weir_policy_audit_total` | counter | `policy` | Requests |",
    ] {
        assert!(page.contains(row), "{row} in\n{page}");
    }
}

#[test]
fn a_program_that_its_row_does_not_name_is_a_finding() {
    let found = [one(Some(Program::Control), "weir_kernel_decisions", "")];
    let mut findings = Vec::new();
    metrics::page(&found, &mut findings);
    assert!(findings.iter().any(|one| one.to_string().contains("does not name weir-control")), "{findings:?}");
}

#[test]
fn every_task_in_the_documents_is_one() {
    let read = weir_documents::read_all("xtask", |words| match crate::Arguments::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    });
    assert!(read.unwrap() > 0, "the documents have no task");
}
