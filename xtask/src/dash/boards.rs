//! The dashboards: variables, rows, panels and units as Istio's, so that habits carry over, and what is Weir's own below them.

mod agent;
mod control;
mod mesh;
mod program;
mod service;
mod waypoint;
mod workload;

use super::model::{Choices, Dashboard, Panel, Unit, Variable};
use super::promql::{DURATION, REQUESTS, quantile, quantile_by, rate_by, seconds, success_by};

/// Every dashboard, the widest view first.
pub(super) fn all() -> Vec<Dashboard> {
    vec![
        mesh::dashboard(),
        service::dashboard(),
        workload::dashboard(),
        agent::dashboard(),
        waypoint::dashboard(),
        control::dashboard(),
    ]
}

/// Everything that says who talked to whom. Series of requests where there is a waypoint, of connections elsewhere.
const TRAFFIC: &str = "__name__=~\"istio_requests_total|istio_tcp_sent_bytes_total\"";

/// Who counted: at a waypoint a request is counted once, of a connection each end tells.
fn reporter() -> Variable {
    let words = &["source", "waypoint", "destination"];
    Variable { name: "qrep", label: "Reporter", from: Choices::Fixed { words, first: &["source", "waypoint"] } }
}

fn one(name: &'static str, label: &'static str, selector: impl Into<String>, of: &'static str) -> Variable {
    Variable { name, label, from: Choices::One { selector: selector.into(), of } }
}

fn many(name: &'static str, label: &'static str, selector: impl Into<String>, of: &'static str) -> Variable {
    Variable { name, label, from: Choices::Many { selector: selector.into(), of } }
}

/// How requests of one side are broken down: which labels, and how they are shown. `security` is `mutual_tls` for what is 🔐.
struct Split {
    by: &'static str,
    /// With the response code.
    by_code: &'static str,
    legend: &'static str,
    legend_code: &'static str,
    legend_p50: &'static str,
    legend_p90: &'static str,
    legend_p99: &'static str,
}

const BY_SOURCE: Split = Split {
    by: "source_workload, source_workload_namespace, connection_security_policy",
    by_code: "source_workload, source_workload_namespace, connection_security_policy, response_code",
    legend: "{{source_workload}}.{{source_workload_namespace}} ({{connection_security_policy}})",
    legend_code: "{{source_workload}}.{{source_workload_namespace}} : {{response_code}} ({{connection_security_policy}})",
    legend_p50: "{{source_workload}}.{{source_workload_namespace}} P50 ({{connection_security_policy}})",
    legend_p90: "{{source_workload}}.{{source_workload_namespace}} P90 ({{connection_security_policy}})",
    legend_p99: "{{source_workload}}.{{source_workload_namespace}} P99 ({{connection_security_policy}})",
};
const BY_DESTINATION: Split = Split {
    by: "destination_workload, destination_workload_namespace, connection_security_policy",
    by_code: "destination_workload, destination_workload_namespace, connection_security_policy, response_code",
    legend: "{{destination_workload}}.{{destination_workload_namespace}} ({{connection_security_policy}})",
    legend_code: "{{destination_workload}}.{{destination_workload_namespace}} : {{response_code}} ({{connection_security_policy}})",
    legend_p50: "{{destination_workload}}.{{destination_workload_namespace}} P50 ({{connection_security_policy}})",
    legend_p90: "{{destination_workload}}.{{destination_workload_namespace}} P90 ({{connection_security_policy}})",
    legend_p99: "{{destination_workload}}.{{destination_workload_namespace}} P99 ({{connection_security_policy}})",
};
const BY_SERVICE: Split = Split {
    by: "destination_service, connection_security_policy",
    by_code: "destination_service, connection_security_policy, response_code",
    legend: "{{destination_service}} ({{connection_security_policy}})",
    legend_code: "{{destination_service}} : {{response_code}} ({{connection_security_policy}})",
    legend_p50: "{{destination_service}} P50 ({{connection_security_policy}})",
    legend_p90: "{{destination_service}} P90 ({{connection_security_policy}})",
    legend_p99: "{{destination_service}} P99 ({{connection_security_policy}})",
};

/// The titles of the seven panels of a breakdown.
struct Titles {
    requests: &'static str,
    success: &'static str,
    duration: &'static str,
    request_size: &'static str,
    response_size: &'static str,
    received: &'static str,
    sent: &'static str,
}

/// The seven panels of a breakdown, in Istio's order.
fn breakdown(titles: &Titles, split: &Split, selector: &str) -> Vec<Panel> {
    let quantiles = |panel: Panel, histogram: &str, scale: fn(&str) -> String| {
        let of = |share| scale(&quantile_by(share, histogram, selector, split.by));
        panel.ask(split.legend_p50, of("0.50")).ask(split.legend_p90, of("0.90")).ask(split.legend_p99, of("0.99"))
    };
    let size = "As it was on the wire, its head included.";
    vec![
        Panel::lines(titles.requests, Unit::Requests, "Requests that ended, by what they were answered with.")
            .ask(split.legend_code, rate_by(REQUESTS, selector, split.by_code)),
        Panel::lines(titles.success, Unit::Ratio, "The share of requests that was not answered with 5xx.")
            .ask(split.legend, success_by(selector, split.by)),
        quantiles(
            Panel::lines(titles.duration, Unit::Seconds, "Until the last byte of the answer was sent.").wide(24),
            DURATION,
            seconds,
        ),
        quantiles(Panel::lines(titles.request_size, Unit::Bytes, size), "istio_request_bytes_bucket", str::to_owned),
        quantiles(Panel::lines(titles.response_size, Unit::Bytes, size), "istio_response_bytes_bucket", str::to_owned),
        Panel::lines(
            titles.received,
            Unit::BytesPerSecond,
            "From clients to servers, of what is not counted as requests.",
        )
        .ask(split.legend, rate_by("istio_tcp_received_bytes_total", selector, split.by)),
        Panel::lines(titles.sent, Unit::BytesPerSecond, "From servers to clients, of what is not counted as requests.")
            .ask(split.legend, rate_by("istio_tcp_sent_bytes_total", selector, split.by)),
    ]
}

/// Median and tails of how long requests took, together.
fn durations(panel: Panel, selector: &str) -> Panel {
    let of = |share| seconds(&quantile(share, DURATION, selector));
    panel.ask("P50", of("0.50")).ask("P90", of("0.90")).ask("P99", of("0.99"))
}
