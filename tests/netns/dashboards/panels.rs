//! Every panel of every dashboard, asked of a Prometheus that scrapes a mesh at work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, ensure};
use serde_json::Value;
use weir_testbed::http_get;
use weir_tests::{eventually, own};

use crate::istio;
use crate::pictures;
use crate::prometheus::deploy;
use crate::scene::Scene;

/// What a reader chooses, where one value is to be chosen.
const CHOSEN: [(&str, &str); 3] =
    [("service", "web.default.svc.cluster.local"), ("namespace", "default"), ("workload", "web")];
/// Queries that find nothing here, and why.
const EMPTY: [(&str, &str); 1] =
    [("weir_leader", "who leads is settled between replicas on a cluster: this weir-control reads a folder")];
/// What is written for the time between scrapes.
const RANGE: &str = "30s";

/// A question of a panel.
#[derive(Debug, Clone)]
struct Query {
    at: String,
    expr: String,
    legend: String,
    table: bool,
}

fn boards() -> Vec<(String, Value)> {
    let files = fs::read_dir(deploy().join("dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let mut boards: Vec<(String, Value)> = files
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), serde_json::from_str(&text).unwrap())
        })
        .collect();
    boards.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(boards.len(), 6, "{:?}", boards.iter().map(|(name, _)| name).collect::<Vec<_>>());
    boards
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The variables of a board with what they stand for, after each has been asked for its values as Grafana asks.
fn variables(scene: &Scene, board: &str, json: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    let mut known = BTreeMap::new();
    for variable in json["templating"]["list"].as_array().context("variables are a list")? {
        let (name, kind) = (text(variable, "name"), text(variable, "type"));
        let value = match kind {
            "datasource" => continue,
            "custom" => format!("({})", text(variable, "query").replace(',', "|")),
            "query" => {
                let asked = fill(text(variable, "definition"), &known);
                let (selector, label) = asked
                    .strip_prefix("label_values(")
                    .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "))
                    .with_context(|| format!("{board}: ${name} asks {asked}"))?;
                let values = scene.prometheus.values(&scene.topology, selector, label)?;
                ensure!(values.iter().any(|value| !value.is_empty()), "{board}: ${name} has no values: {asked}");
                match variable["multi"].as_bool() {
                    Some(true) => text(variable, "allValue").to_owned(),
                    Some(false) | None => {
                        let chosen = CHOSEN.iter().find(|(one, _)| *one == name).context(name.to_owned())?.1;
                        ensure!(values.iter().any(|value| value == chosen), "{board}: {chosen} is not in {values:?}");
                        chosen.to_owned()
                    }
                }
            }
            other => panic!("{board}: ${name} is a {other}"),
        };
        known.insert(name.to_owned(), value);
    }
    Ok(known)
}

/// Longer names first: one may begin with another.
fn fill(expr: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expr = expr.replace("$__rate_interval", RANGE);
    let mut names: Vec<&String> = variables.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        expr = expr.replace(&format!("${name}"), &variables[name]);
    }
    expr
}

fn queries(board: &str, json: &Value, variables: &BTreeMap<String, String>) -> Vec<Query> {
    let mut all = Vec::new();
    for panel in json["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            let expr = fill(text(target, "expr"), variables);
            assert!(!expr.contains('$'), "{board}: {expr}");
            all.push(Query {
                at: format!("{board}: {} {}", text(panel, "title"), text(target, "refId")),
                expr,
                legend: text(target, "legendFormat").to_owned(),
                table: panel["type"] == "table",
            });
        }
    }
    all
}

/// Whether there is a number, and every series has the labels that its name is made of.
fn answered(scene: &Scene, query: &Query) -> anyhow::Result<()> {
    let series = scene.prometheus.query(&scene.topology, &query.expr)?;
    let number = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
    let finite = series.iter().any(|one| number(one).is_some_and(f64::is_finite));
    ensure!(finite, "no number in {series:?}");
    let labels: Vec<&str> =
        query.legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0)).collect();
    for one in &series {
        let known = one["metric"].as_object().context("labels")?;
        for label in &labels {
            let value = known.get(*label).and_then(Value::as_str).unwrap_or_default();
            ensure!(!value.is_empty(), "no {label} in {one}");
        }
        // What the legend does not show would make two lines of one name.
        let hidden: Vec<&String> = known.keys().filter(|key| !labels.contains(&key.as_str())).collect();
        let told_apart = query.table || hidden.is_empty() || named_apart(&series, &labels);
        ensure!(told_apart, "series that look alike by {labels:?}: {series:?}");
    }
    Ok(())
}

fn named_apart(series: &[Value], labels: &[&str]) -> bool {
    let name = |one: &Value| labels.iter().map(|label| one["metric"][*label].to_string()).collect::<Vec<_>>();
    series.iter().map(name).collect::<BTreeSet<_>>().len() == series.len()
}

/// Asks all of it again and again, with traffic between, until each had an answer.
fn ask_until_answered(scene: &Scene, mut open: Vec<Query>) {
    let all = open.len();
    let mut why = Vec::new();
    let done = eventually("every query has an answer", || {
        scene.traffic()?;
        scene.refused()?;
        let mut left = Vec::new();
        why.clear();
        for query in open.drain(..) {
            if let Err(error) = answered(scene, &query) {
                why.push(format!("{}: {}: {error:#}", query.at, query.expr));
                left.push(query);
            }
        }
        open = left;
        Ok(open.is_empty())
    });
    done.unwrap_or_else(|error| panic!("{error:#}: {} of {all}\n{}\n{}", why.len(), why.join("\n"), scene.logs()));
}

#[test]
fn every_panel_shows_what_a_mesh_at_work_does() {
    let scene = Scene::start(&[]).unwrap();
    for (name, document, section) in [
        ("weir-agent", "docs/metrics.md", "## Metrics"),
        ("weir-waypoint", "docs/telemetry.md", "## Metrics"),
        ("weir-control", "docs/metrics.md", "## Metrics of the control plane"),
    ] {
        exposed_is_documented(&scene, name, document, section);
    }
    let mut open = istio::QUERIES
        .iter()
        .map(|(legend, expr)| Query {
            at: "Istio's".to_owned(),
            expr: expr.replace("RANGE", RANGE),
            legend: (*legend).to_owned(),
            table: true,
        })
        .collect::<Vec<_>>();
    for (board, json) in boards() {
        let mut known = BTreeMap::new();
        eventually("variables have values", || {
            scene.traffic()?;
            known = variables(&scene, &board, &json)?;
            Ok(true)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
        open.extend(queries(&board, &json, &known));
    }
    let (without, open): (Vec<Query>, Vec<Query>) =
        open.into_iter().partition(|query| EMPTY.iter().any(|(part, _)| query.expr.contains(part)));
    assert!(open.len() > 150, "{}", open.len());
    ask_until_answered(&scene, open);
    for query in without {
        let found = scene.prometheus.query(&scene.topology, &query.expr).unwrap();
        assert!(found.is_empty(), "{} has an answer, and is listed as one that has none: {found:?}", query.at);
    }
    pictures::are_drawn(&scene);
}

/// The names a program exposes are those of a section's tables.
fn exposed_is_documented(scene: &Scene, job: &str, document: &str, section: &str) {
    let (netns, port) = match job {
        "weir-agent" => (scene.topology.nodes()[0].netns(), 15020),
        "weir-waypoint" => (scene.topology.pod("waypoint").netns(), 15020),
        _ => (scene.topology.nodes()[0].netns(), 15014),
    };
    let page = http_get(netns, own(port), "/metrics").unwrap();
    let types = page.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let exposed: BTreeSet<&str> = types.map(|(name, _)| name).collect();
    let path = deploy().parent().unwrap().join(document);
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("\n{section}\n")).unwrap();
    let rest = rest.split("\n## ").next().unwrap();
    let cells = rest.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0));
    let names = cells.map(|cell| cell.split('{').next().unwrap());
    let known = |name: &&str| {
        ["istio_", "weir_", "pilot_", "citadel_", "process_", "workload_"].iter().any(|start| name.starts_with(start))
    };
    // Only with a cluster, or with the plugin's folder.
    let elsewhere = ["weir_leader", "weir_admission_reviews_total"];
    let documented: BTreeSet<&str> = names.filter(known).filter(|name| !elsewhere.contains(name)).collect();
    assert_eq!(documented, exposed, "{document} does not list what {job} exposes");
}
