//! What is generated is what lies there, asks for nothing that no program has, and is explained.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::model::{Choices, Shape};
use super::*;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn what_is_generated_lies_in_the_repository() {
    for Generated { path, text } in generated() {
        let found = read(&path.display().to_string());
        assert!(found == text, "{} is not as its source: run cargo xtask dash gen", path.display());
    }
}

/// The metrics that documents list, which tests compare with what programs expose: names as queries have them, with their own labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = BTreeMap::new();
    let (agents, waypoints) = (read("docs/metrics.md"), read("docs/telemetry.md"));
    for line in agents.lines().chain(waypoints.lines()) {
        let Some((cell, about)) = line.strip_prefix("| `").and_then(|rest| rest.split_once("` | ")) else { continue };
        let (name, labels) = cell.split_once('{').unwrap_or((cell, ""));
        let known = ["istio_", "weir_", "pilot_", "citadel_", "process_", "workload_manager_"];
        if !known.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let labels: BTreeSet<String> =
            labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let histogram = about.starts_with("histogram")
            || ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"].contains(&name);
        let names = match histogram {
            true => ["_bucket", "_sum", "_count"].map(|tail| format!("{name}{tail}")).to_vec(),
            false => vec![name.to_owned()],
        };
        for name in names {
            metrics.entry(name).or_insert_with(BTreeSet::new).extend(labels.clone());
        }
    }
    assert!(metrics.len() > 60, "{metrics:?}");
    metrics
}

/// What scraping gives to every series.
const SCRAPED: [&str; 8] = ["job", "instance", "namespace", "pod", "node", "gateway", "le", "__name__"];
/// Labels of `istio_build`, and of what documents describe in words.
const IN_WORDS: [&str; 3] = ["component", "tag", "policy"];
const WORDS: [&str; 14] = [
    "sum",
    "min",
    "max",
    "rate",
    "increase",
    "delta",
    "histogram_quantile",
    "absent",
    "time",
    "vector",
    "or",
    "and",
    "by",
    "on",
];

/// Names and labels of a query, by a reading that knows just enough.
fn names(expr: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = expr;
    let mut grouping = false;
    while let Some(first) = rest.chars().next() {
        match first {
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                if grouping {
                    labels.insert(word.to_owned());
                } else if matches!(word, "by" | "on") {
                    grouping = true;
                } else if !WORDS.contains(&word) {
                    metrics.insert(word.to_owned());
                }
                rest = after;
            }
            '{' => {
                let (inside, after) = rest[1..].split_once('}').expect("a selector ends");
                let mut matchers = inside;
                while let Some((label, after)) = matchers.split_once(['=', '!']) {
                    labels.insert(label.trim_matches([',', ' ']).to_owned());
                    let (_, after) = after.split_once('"').expect("a value is in quotes");
                    matchers = after.split_once('"').expect("a value ends").1;
                }
                rest = after;
            }
            '[' => rest = rest.split_once(']').expect("a range ends").1,
            '0'..='9' => rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'),
            other => {
                grouping &= other != ')';
                rest = &rest[other.len_utf8()..];
            }
        }
    }
    (metrics, labels)
}

#[test]
fn names_and_labels_of_a_query_are_found() {
    let expr = "1 - (sum by (a, b) (rate(m_total{c=\"x}\",d!~\"$e\"}[$__rate_interval])) or 0.5 * vector(0)) / time()";
    let (metrics, labels) = names(&expr.replace("x}", "x"));
    assert_eq!(metrics, ["m_total".to_owned()].into());
    assert_eq!(labels, ["a", "b", "c", "d"].map(str::to_owned).into());
}

/// Every query, with where it stands.
fn queries() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for board in boards::all() {
        for (row, panel) in board.panels() {
            let at = |what: &str| format!("{}: {}: {} {what}", board.file, row.title, panel.title);
            all.extend(panel.queries.iter().map(|query| (at(&query.legend), query.expr.clone())));
        }
        for variable in &board.variables {
            if let Choices::One { selector, .. } | Choices::Many { selector, .. } = &variable.from {
                all.push((format!("{}: ${}", board.file, variable.name), selector.clone()));
            }
        }
    }
    all.extend(alerts::all().iter().map(|alert| (alert.name.to_owned(), alert.expr.to_owned())));
    all
}

#[test]
fn queries_name_only_metrics_and_labels_that_programs_have() {
    let documented = documented();
    let telemetry = read("docs/telemetry.md") + &read("docs/metrics.md");
    for (at, expr) in queries() {
        let (metrics, labels) = names(&expr);
        let mut own: BTreeSet<String> =
            [SCRAPED.as_slice(), &IN_WORDS].concat().into_iter().map(str::to_owned).collect();
        for metric in metrics.iter().filter(|name| *name != "up") {
            let labels = documented.get(metric).unwrap_or_else(|| panic!("{at}: no program has {metric}: {expr}"));
            own.extend(labels.clone());
        }
        let istio = metrics.iter().any(|name| name.starts_with("istio_")) || expr.contains("__name__=~\"istio_");
        for label in labels {
            let in_words = istio && telemetry.contains(&format!("`{label}`"));
            assert!(own.contains(&label) || in_words, "{at}: no metric of the query has {label}: {expr}");
        }
    }
}

#[test]
fn legends_name_labels_that_their_queries_keep() {
    for board in boards::all() {
        for (_, panel) in board.panels() {
            for query in &panel.queries {
                for label in
                    query.legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(label, _)| label)
                {
                    let (at, expr) = (format!("{}: {}", board.file, panel.title), &query.expr);
                    let sums = expr.contains("sum(") || expr.contains(" by (");
                    let kept = expr
                        .split(" by (")
                        .skip(1)
                        .filter_map(|rest| rest.split_once(')'))
                        .any(|(by, _)| by.split(", ").any(|kept| kept == label));
                    assert!(kept || !sums, "{at}: {{{{{label}}}}} is added up in {expr}");
                }
            }
        }
    }
}

#[test]
fn dashboards_are_told_apart_and_fill_their_grid() {
    let (mut uids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for board in boards::all() {
        assert!(uids.insert(board.uid) && titles.insert(board.title), "{}", board.file);
        let json: Value = serde_json::from_str(&grafana::text(&board)).unwrap();
        let panels = json["panels"].as_array().unwrap();
        let mut ids = BTreeSet::new();
        let mut taken: BTreeSet<(u64, u64)> = BTreeSet::new();
        for panel in panels {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}: an id twice", board.file);
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(cell.0 < 24 && taken.insert(cell), "{}: {} is over another", board.file, panel["title"]);
            }
        }
        let count = board.panels().count();
        assert_eq!(panels.iter().filter(|panel| panel["type"] != "row").count(), count);
        for (_, panel) in board.panels() {
            assert!(!panel.queries.is_empty() && !panel.about.is_empty(), "{}: {}", board.file, panel.title);
            assert!(panel.shape != Shape::Heat || panel.queries.len() == 1, "{}: {}", board.file, panel.title);
        }
    }
}

#[test]
fn every_alert_has_its_runbook_and_no_runbook_is_left_over() {
    let page = read("docs/alerts.md");
    let sections: BTreeMap<&str, &str> =
        page.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let alerts = alerts::all();
    for alert in &alerts {
        let section =
            sections.get(alert.name).unwrap_or_else(|| panic!("docs/alerts.md has no section {}", alert.name));
        for part in ["**Means.**", "**Look.**", "**Do.**"] {
            assert!(section.contains(part), "docs/alerts.md, {}: no {part}", alert.name);
        }
        assert!(
            rules::rules(&alerts).contains(&format!("alerts.md#{}\n", rules::anchor(alert.name))),
            "{}",
            alert.name
        );
    }
    assert_eq!(sections.len(), alerts.len(), "docs/alerts.md has a section of no alert");
}

#[test]
fn what_is_scraped_are_labels_and_ports_of_what_is_installed() {
    let scrape = read("deploy/prometheus/scrape.yaml");
    let monitors = read("deploy/prometheus/monitors.yaml");
    let installed = read("deploy/rendered/default.yaml");
    let deployed = read("control/src/deployer/plan.rs");
    let mut found = 0;
    for line in scrape.lines() {
        let Some((_, rest)) = line.split_once("regex: ") else { continue };
        let (name, port) = rest.split(',').next().and_then(|regex| regex.split_once(';')).expect("a label and a port");
        let (label, written) = match name {
            "istio.io-mesh-controller" => ("gateway.istio.io/managed", deployed.contains(&format!("\"{name}\""))),
            _ => ("app.kubernetes.io/name", installed.contains(&format!("app.kubernetes.io/name: {name}\n"))),
        };
        assert!(written, "nothing is installed with {label}={name}");
        let of = if label == "gateway.istio.io/managed" { &deployed } else { &installed };
        assert!(of.contains(port), "no port of {name} is called {port}");
        assert!(
            monitors.contains(&format!("{label}: {name}\n")) && monitors.contains(&format!("port: {port}\n")),
            "{name}"
        );
        found += 1;
    }
    assert_eq!(found, 3);
}
