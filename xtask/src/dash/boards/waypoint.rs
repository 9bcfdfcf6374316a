//! The waypoints, replica by replica.

use super::super::model::{Dashboard, Panel, Row, Unit};
use super::super::promql::{REQUESTS, rate, rate_by, success};
use super::{durations, many, program::Program};

const OF: &str = "job=\"weir-waypoint\",namespace=~\"$namespace\",gateway=~\"$gateway\"";
const WAYPOINTS: Program = Program {
    selector: OF,
    one: "pod",
    component: "waypoint",
    versions: ("Waypoint Versions", "How many waypoints run which version."),
    memory: "What the kernel says a waypoint holds.",
};

fn requests() -> Row {
    Row::new(
        "Requests",
        [
            Panel::number("Request Volume", Unit::Requests, "Requests that ended.").ask("requests", rate(REQUESTS, OF)),
            Panel::number("Success Rate (non-5xx responses)", Unit::Ratio, "The share that was not answered with 5xx.")
                .ask("not 5xx", success(OF)),
            durations(
                Panel::lines(
                    "Request Duration",
                    Unit::Seconds,
                    "Until the last byte of the answer was sent; what the upstream took is part of it.",
                ),
                OF,
            ),
            Panel::lines("Requests By Response Code", Unit::Requests, "What clients were answered with.")
                .ask("{{response_code}}", rate_by(REQUESTS, OF, "response_code")),
            Panel::lines(
                "Requests By Response Flags",
                Unit::Requests,
                "What went wrong, in Envoy's words; - is nothing.",
            )
            .ask("{{response_flags}}", rate_by(REQUESTS, OF, "response_flags")),
            Panel::lines("Requests By Service", Unit::Requests, "What was asked for.")
                .ask("{{destination_service}}", rate_by(REQUESTS, OF, "destination_service")),
            Panel::lines("Requests By Replica", Unit::Requests, "How evenly replicas share the work.")
                .ask("{{namespace}}/{{pod}}", rate_by(REQUESTS, OF, "namespace, pod")),
        ],
    )
}

fn connections() -> Row {
    Row::new(
        "Connections",
        [
            Panel::lines("TCP Connections", Unit::PerSecond, "Connections that are not HTTP.")
                .ask("opened ({{pod}})", rate_by("istio_tcp_connections_opened_total", OF, "pod"))
                .ask("closed ({{pod}})", rate_by("istio_tcp_connections_closed_total", OF, "pod")),
            Panel::lines("TCP Bytes", Unit::BytesPerSecond, "Of connections that are not HTTP.")
                .ask("to clients ({{pod}})", rate_by("istio_tcp_sent_bytes_total", OF, "pod"))
                .ask("from clients ({{pod}})", rate_by("istio_tcp_received_bytes_total", OF, "pod")),
            Panel::lines("HBONE Connections", Unit::Count, "Connections kept to endpoints.")
                .ask("{{pod}}", WAYPOINTS.gauge("weir_pool_connections")),
            Panel::lines(
                "Spans",
                Unit::Count,
                "Spans that the collector took, and those it did not. Nothing without --otlp-endpoint.",
            )
            .ask("sent ({{pod}})", WAYPOINTS.growth("weir_spans_sent_total"))
            .ask("dropped: {{reason}} ({{pod}})", WAYPOINTS.growth("weir_spans_dropped_total")),
        ],
    )
}

fn operations() -> Row {
    let expiry = WAYPOINTS.gauge("weir_certificate_expiry_timestamp_seconds");
    Row::new(
        "Operations",
        [
            WAYPOINTS.xds(),
            Panel::lines(
                "Configurations",
                Unit::Count,
                "How often what is served was replaced, and how often a new one was refused.",
            )
            .ask("replaced ({{pod}})", WAYPOINTS.change("weir_config_generation"))
            .ask("refused ({{pod}})", WAYPOINTS.growth("weir_config_rejected_loads_total")),
            Panel::lines("Time To Expiry", Unit::Seconds, "Of the waypoint's certificate.")
                .ask("{{pod}}", format!("min by (pod) ({expiry} - time())")),
            Panel::lines(
                "Policies On Trial",
                Unit::Requests,
                "Requests that policies would decide on (dry run), or watch (AUDIT).",
            )
            .ask("{{policy}} {{result}}", rate_by("weir_policy_dry_run_total", OF, "policy, result"))
            .ask("{{policy}} audit", rate_by("weir_policy_audit_total", OF, "policy")),
            Panel::lines(
                "Series Beyond The Limit",
                Unit::Count,
                "Sets of labels that were one too many and are counted without labels.",
            )
            .ask("{{pod}}", WAYPOINTS.growth("weir_requests_beyond_series_total")),
        ],
    )
}

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        file: "waypoint",
        uid: "weir-waypoint",
        title: "Weir Waypoint",
        about: "The waypoints: what they are asked, what they answer, and how they are.",
        variables: vec![
            many("namespace", "Namespace", "up{job=\"weir-waypoint\"}", "namespace"),
            many("gateway", "Gateway", "up{job=\"weir-waypoint\",namespace=~\"$namespace\"}", "gateway"),
        ],
        rows: vec![requests(), connections(), operations(), WAYPOINTS.process()],
    }
}
