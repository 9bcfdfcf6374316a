//! Alerts as Prometheus, its operator and promtool read them. Prometheus, `documentation/configuration/alerting_rules`.

use std::fmt::Write;

use super::alerts::{Alert, Series};

/// Where what an alert means is written.
const RUNBOOKS: &str = "https://github.com/weir-mesh/weir/blob/main/docs/alerts.md";
const MADE: &str = "# Made by `cargo xtask dash gen`; what each alert means is in docs/alerts.md.\n";
/// When the unit tests look; later for what must last an hour.
const LOOK: &str = "18m";
const LOOK_LATE: &str = "75m";

/// The heading of an alert's section, as a link has it.
pub(super) fn anchor(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// A file of rules.
pub(super) fn rules(alerts: &[Alert]) -> String {
    format!("{MADE}{}", groups(alerts, ""))
}

/// The same for the Prometheus operator: `monitoring.coreos.com/v1`, PrometheusRule.
pub(super) fn operator(alerts: &[Alert]) -> String {
    let head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: weir\n  namespace: weir-system\nspec:\n";
    format!("{MADE}{head}{}", groups(alerts, "  "))
}

fn groups(alerts: &[Alert], indent: &str) -> String {
    let mut text = format!("{indent}groups:\n{indent}- name: weir\n{indent}  rules:\n");
    for alert in alerts {
        rule(&mut text, alert, indent).expect("a String takes all");
    }
    text
}

fn rule(text: &mut String, alert: &Alert, i: &str) -> std::fmt::Result {
    writeln!(text, "{i}  - alert: {}", alert.name)?;
    writeln!(text, "{i}    expr: {}", quoted(&spaced(alert.expr)))?;
    writeln!(text, "{i}    for: {}", alert.hold)?;
    writeln!(text, "{i}    labels:\n{i}      severity: {}", alert.severity.as_str())?;
    writeln!(text, "{i}    annotations:\n{i}      summary: {}", quoted(alert.summary))?;
    writeln!(text, "{i}      description: {}", quoted(alert.description))?;
    writeln!(text, "{i}      runbook_url: {RUNBOOKS}#{}", anchor(alert.name))
}

/// promtool's unit tests: each alert fires with what is wrong, and not with what is like it and right.
pub(super) fn tests(alerts: &[Alert]) -> String {
    let mut text = format!(
        "{MADE}# promtool test rules alerts.test.yaml\nrule_files: [alerts.yaml]\nevaluation_interval: 1m\ntests:\n"
    );
    for alert in alerts {
        for (series, fires) in [(alert.fires, true), (alert.quiet, false)] {
            test(&mut text, alert, series, fires).expect("a String takes all");
        }
    }
    text
}

fn test(text: &mut String, alert: &Alert, series: &[Series], fires: bool) -> std::fmt::Result {
    let word = if fires { "fires" } else { "is quiet" };
    writeln!(text, "- name: {} {word}\n  interval: 1m\n  input_series:", alert.name)?;
    for Series(name, values) in series {
        writeln!(text, "  - {{series: {}, values: {}}}", quoted(name), quoted(values))?;
    }
    let firing = format!("count(ALERTS{{alertname=\"{}\",alertstate=\"firing\"}})", alert.name);
    let at = if alert.hold.ends_with('h') { LOOK_LATE } else { LOOK };
    let found = if fires { "[{labels: '{}', value: 1}]" } else { "[]" };
    writeln!(text, "  promql_expr_test:\n  - expr: {}\n    eval_time: {at}\n    exp_samples: {found}", quoted(&firing))
}

/// In one line, however it stands in the source.
fn spaced(expr: &str) -> String {
    expr.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
