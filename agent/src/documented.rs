//! The documents say what the program does: metrics and the fields of a dump, each compared with the code.

use std::{collections::BTreeSet, io, sync::Arc};

use arc_swap::ArcSwap;
use clap::Command;
use weir_ebpf_loader::Counter;
use weir_identity::{DevelopmentCa, Identities};
use weir_model::ResponseFlag;
use weir_telemetry::{AccessLog, ControlState, Exposition, LogFormat, Metrics};

use crate::{
    admin::{ConfigState, Sources},
    cli::Arguments,
    enrol::States,
    install::Repairs,
    measure::{self, Decisions},
    worker::Shared,
};

const METRICS: &str = include_str!("../../docs/metrics.md");

/// The cells of every table row of a document whose first cell begins with `start`, back quotes taken off.
fn rows(document: &str, start: &str) -> Vec<Vec<String>> {
    // A stroke inside a cell is written with a backslash before it.
    const STROKE: &str = "\u{1}";
    let cell = |text: &str| text.trim().trim_matches('`').replace(STROKE, "|");
    let cells = |line: &str| line.trim_matches('|').replace("\\|", STROKE).split('|').map(cell).collect();
    let rows = document.lines().filter(|line| line.starts_with(&format!("| `{start}")));
    rows.map(cells).collect()
}

fn command() -> Command {
    Arguments::command().mut_args(|argument| argument.hide_env_values(true))
}

#[test]
fn the_help_is_as_people_read_it() {
    insta::assert_snapshot!(command().render_long_help());
}

fn shared(folder: &std::path::Path) -> Shared {
    let ca = DevelopmentCa::open(folder, &"cluster.local".parse().unwrap()).unwrap();
    Shared {
        world: Arc::new(ArcSwap::default()),
        changed: tokio::sync::watch::Sender::new(()),
        identities: Arc::new(Identities::new(Arc::new(ca))),
        metrics: Arc::new(Metrics::new("agent", "test").with_process()),
        shadows: Arc::default(),
        refusals: crate::refusals::rings(1),
        demands: None,
    }
}

#[test]
fn every_metric_is_in_metrics_md_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let shared = shared(folder.path());
    let access = AccessLog::start(LogFormat::Text, io::sink()).unwrap();
    measure::collect(&shared, Some(access), Decisions::default(), Repairs::default());
    ControlState::default().collect(&shared.metrics);
    let text = shared.metrics.render(Exposition::Plain);
    let registered: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).map(|(name, _)| name).collect();
    let (_, section) = METRICS.split_once("\n## Metrics\n").expect("a section of metrics");
    let (section, _) = section.split_once("\n## ").expect("and others after it");
    let documented: Vec<String> = ["istio_", "workload_manager_", "weir_", "process_"]
        .iter()
        .flat_map(|start| rows(section, start))
        .map(|cells| cells[0].split('{').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(documented.iter().map(String::as_str).collect::<BTreeSet<_>>(), registered);
    assert_eq!(documented.len(), registered.len(), "a metric is documented twice");
}

#[test]
fn every_decision_of_the_kernel_and_every_response_flag_is_explained() {
    for counter in Counter::ALL {
        let name = measure::name(*counter);
        assert!(METRICS.contains(&format!("| `{name}` |")), "docs/metrics.md does not explain the decision {name}");
    }
    for flag in ResponseFlag::ALL {
        assert!(METRICS.contains(&format!("| `{}` |", flag.as_str())), "docs/metrics.md does not explain {flag:?}");
    }
}

#[test]
fn every_part_of_a_configuration_dump_is_in_metrics_md() {
    let folder = tempfile::tempdir().unwrap();
    let shared = shared(folder.path());
    let sources = Sources {
        node: "node".to_owned(),
        world: shared.world,
        identities: shared.identities,
        states: States::default(),
        config: ConfigState::default(),
        control: Some(ControlState::default()),
    };
    let dump = sources.dump();
    let (_, section) = METRICS.split_once("## `/config_dump`").expect("a section of the dump");
    let mut names: Vec<&String> = dump.as_object().unwrap().keys().collect();
    names.extend(dump["config"].as_object().unwrap().keys());
    names.extend(dump["control"].as_object().unwrap().keys());
    for name in names {
        assert!(section.contains(&format!("`{name}`")), "docs/metrics.md does not explain {name} of the dump");
    }
}
