//! The whole mesh at a glance.

use super::super::model::{Dashboard, Panel, Row, Unit};
use super::super::promql::{DURATION, REQUESTS, quantile_by, rate, rate_by, seconds, success, success_by};

/// Each request and connection once.
const ONCE: &str = "reporter=~\"source|waypoint\"";
const BY: &str = "destination_workload, destination_workload_namespace, destination_service";

fn of_code(codes: &str) -> String {
    rate(REQUESTS, &format!("{ONCE},response_code=~\"{codes}\"")) + " or vector(0)"
}

fn duration(share: &str) -> String {
    seconds(&quantile_by(share, DURATION, ONCE, BY))
}

pub(super) fn dashboard() -> Dashboard {
    let opened = "istio_tcp_connections_opened_total";
    let source = "reporter=\"source\"";
    let encrypted = format!(
        "({} or vector(0)) / {}",
        rate(opened, &format!("{source},connection_security_policy=\"mutual_tls\"")),
        rate(opened, source)
    );
    Dashboard {
        file: "mesh",
        uid: "weir-mesh",
        title: "Weir Mesh",
        about: "All traffic of the mesh, what is refused of it, and which versions carry it.",
        variables: Vec::new(),
        rows: vec![
            Row::new(
                "Global Traffic",
                [
                    Panel::number("Traffic Volume", Unit::Requests, "Requests through waypoints, and those their clients' side counts.")
                        .ask("requests", rate(REQUESTS, ONCE)),
                    Panel::number("Success Rate", Unit::Ratio, "The share of requests that was not answered with 5xx.")
                        .ask("not 5xx", success(ONCE)),
                    Panel::number("4xxs", Unit::Requests, "Requests answered with 400 to 499.").ask("4xx", of_code("4..")),
                    Panel::number("5xxs", Unit::Requests, "Requests answered with 500 to 599.").ask("5xx", of_code("5..")),
                    Panel::table("HTTP/gRPC Workloads", "Workloads that were sent requests, by service.")
                        .column("Requests", Unit::Requests, rate_by(REQUESTS, ONCE, BY))
                        .column("P50 Latency", Unit::Seconds, duration("0.50"))
                        .column("P90 Latency", Unit::Seconds, duration("0.90"))
                        .column("P99 Latency", Unit::Seconds, duration("0.99"))
                        .column("Success Rate", Unit::Ratio, success_by(ONCE, BY)),
                    Panel::table("TCP Workloads", "Workloads that were connected to, by service.")
                        .column("Bytes Received", Unit::BytesPerSecond, rate_by("istio_tcp_received_bytes_total", ONCE, BY))
                        .column("Bytes Sent", Unit::BytesPerSecond, rate_by("istio_tcp_sent_bytes_total", ONCE, BY)),
                ],
            ),
            Row::new(
                "Refusals And Encryption",
                [
                    Panel::lines(
                        "Refused Connections",
                        Unit::PerSecond,
                        "Connections that did not come about, by the reason the refusing side gives: response_flags in docs/metrics.md.",
                    )
                    .ask("{{reporter}} {{response_flags}}", rate_by("istio_tcp_connections_failed_total", "", "reporter, response_flags")),
                    Panel::lines(
                        "Connections Under Mutual TLS",
                        Unit::Ratio,
                        "Of those that pods of the mesh opened; the rest went out of it.",
                    )
                    .ask("mutual TLS", encrypted),
                ],
            ),
            Row::new(
                "Component Versions",
                [Panel::lines("Istio Component Versions", Unit::Count, "How many of each component run which version.")
                    .wide(24)
                    .ask("{{component}}: {{tag}}", "sum by (component, tag) (istio_build)")],
            ),
        ],
    }
}
