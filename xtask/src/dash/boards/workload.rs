//! One workload: what comes to it, and what it asks of others.

use super::super::model::{Dashboard, Panel, Row, Unit, Variable};
use super::super::promql::{REQUESTS, rate, success};
use super::{BY_SERVICE, BY_SOURCE, TRAFFIC, Titles, breakdown, durations, many, one, reporter};

const IN: &str =
    "reporter=~\"$qrep\",destination_workload_namespace=~\"$namespace\",destination_workload=~\"$workload\"";
const OUT: &str = "reporter=~\"$qrep\",source_workload_namespace=~\"$namespace\",source_workload=~\"$workload\"";

fn variables() -> Vec<Variable> {
    let all = format!("{{{TRAFFIC}}}");
    let within = format!("{{{TRAFFIC},destination_workload_namespace=~\"$namespace\"}}");
    vec![
        one("namespace", "Namespace", all, "destination_workload_namespace"),
        one("workload", "Workload", within, "destination_workload"),
        reporter(),
        many("srcns", "Inbound Workload Namespace", format!("{{{TRAFFIC},{IN}}}"), "source_workload_namespace"),
        many(
            "srcwl",
            "Inbound Workload",
            format!("{{{TRAFFIC},{IN},source_workload_namespace=~\"$srcns\"}}"),
            "source_workload",
        ),
        many("dstsvc", "Destination Service", format!("{{{TRAFFIC},{OUT}}}"), "destination_service"),
    ]
}

fn general() -> Row {
    let (received, sent) = ("istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total");
    Row::new(
        "General",
        [
            Panel::number("Incoming Request Volume", Unit::Requests, "Requests that were sent to the workload.")
                .wide(8)
                .ask("requests", rate(REQUESTS, IN)),
            Panel::number(
                "Incoming Success Rate (non-5xx responses)",
                Unit::Ratio,
                "The share that was not answered with 5xx.",
            )
            .wide(8)
            .ask("not 5xx", success(IN)),
            durations(
                Panel::lines("Request Duration", Unit::Seconds, "Until the last byte of the answer was sent.").wide(8),
                IN,
            ),
            Panel::lines(
                "TCP Server Traffic",
                Unit::BytesPerSecond,
                "Of connections to the workload that are not counted as requests.",
            )
            .ask("received", rate(received, IN))
            .ask("sent", rate(sent, IN)),
            Panel::lines("TCP Client Traffic", Unit::BytesPerSecond, "Of connections that the workload opened.")
                .ask("sent by it", rate(received, OUT))
                .ask("received by it", rate(sent, OUT)),
        ],
    )
}

pub(super) fn dashboard() -> Dashboard {
    let from = format!("{IN},source_workload=~\"$srcwl\",source_workload_namespace=~\"$srcns\"");
    let to = format!("{OUT},destination_service=~\"$dstsvc\"");
    let inbound = Titles {
        requests: "Incoming Requests By Source And Response Code",
        success: "Incoming Success Rate (non-5xx responses) By Source",
        duration: "Incoming Request Duration By Source",
        request_size: "Incoming Request Size By Source",
        response_size: "Response Size By Source",
        received: "Bytes Received from Incoming TCP Connection",
        sent: "Bytes Sent to Incoming TCP Connection",
    };
    let outbound = Titles {
        requests: "Outgoing Requests By Destination And Response Code",
        success: "Outgoing Success Rate (non-5xx responses) By Destination",
        duration: "Outgoing Request Duration By Destination",
        request_size: "Outgoing Request Size By Destination",
        response_size: "Response Size By Destination",
        received: "Bytes Sent on Outgoing TCP Connection",
        sent: "Bytes Received from Outgoing TCP Connection",
    };
    Dashboard {
        file: "workload",
        uid: "weir-workload",
        title: "Weir Workload",
        about: "One workload: what comes to it and from whom, and what it asks of which services.",
        variables: variables(),
        rows: vec![
            general(),
            Row::new("Inbound Workloads", breakdown(&inbound, &BY_SOURCE, &from)),
            Row::new("Outbound Services", breakdown(&outbound, &BY_SERVICE, &to)),
        ],
    }
}
