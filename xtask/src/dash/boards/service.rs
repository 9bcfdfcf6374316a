//! One service: who asks it, and what of it answers.

use super::super::model::{Dashboard, Panel, Row, Unit, Variable};
use super::super::promql::{REQUESTS, rate, success};
use super::{BY_DESTINATION, BY_SOURCE, TRAFFIC, Titles, breakdown, durations, many, one, reporter};

const CLIENT: &str = "reporter=~\"$qrep\",destination_service=~\"$service\"";
/// What stands nearest to the service counts for it.
const SERVER: &str = "reporter=~\"destination|waypoint\",destination_service=~\"$service\"";

fn variables() -> Vec<Variable> {
    let of = format!("{TRAFFIC},reporter=~\"$qrep\",destination_service=~\"$service\"");
    let within = |more: &str| format!("{{{of}{more}}}");
    vec![
        one("service", "Service", format!("{{{TRAFFIC}}}"), "destination_service"),
        reporter(),
        many("srccluster", "Client Cluster", within(""), "source_cluster"),
        many("srcns", "Client Workload Namespace", within(""), "source_workload_namespace"),
        many("srcwl", "Client Workload", within(",source_workload_namespace=~\"$srcns\""), "source_workload"),
        many("dstcluster", "Service Workload Cluster", within(""), "destination_cluster"),
        many("dstns", "Service Workload Namespace", within(""), "destination_workload_namespace"),
        many(
            "dstwl",
            "Service Workload",
            within(",destination_workload_namespace=~\"$dstns\""),
            "destination_workload",
        ),
    ]
}

fn general() -> Row {
    let duration = "Until the last byte of the answer was sent.";
    Row::new(
        "General",
        [
            Panel::number(
                "Client Request Volume",
                Unit::Requests,
                "Requests for the service, as the chosen reporters count them.",
            )
            .ask("requests", rate(REQUESTS, CLIENT)),
            Panel::number(
                "Client Success Rate (non-5xx responses)",
                Unit::Ratio,
                "The share that was not answered with 5xx.",
            )
            .ask("not 5xx", success(CLIENT)),
            durations(Panel::lines("Client Request Duration", Unit::Seconds, duration).wide(6), CLIENT),
            Panel::number(
                "TCP Received Bytes",
                Unit::BytesPerSecond,
                "From clients to the service, of what is not counted as requests.",
            )
            .ask("received", rate("istio_tcp_received_bytes_total", CLIENT)),
            Panel::number("Server Request Volume", Unit::Requests, "Requests that reached the service's own side.")
                .ask("requests", rate(REQUESTS, SERVER)),
            Panel::number(
                "Server Success Rate (non-5xx responses)",
                Unit::Ratio,
                "The share that was not answered with 5xx.",
            )
            .ask("not 5xx", success(SERVER)),
            durations(Panel::lines("Server Request Duration", Unit::Seconds, duration).wide(6), SERVER),
            Panel::number(
                "TCP Sent Bytes",
                Unit::BytesPerSecond,
                "From the service to clients, of what is not counted as requests.",
            )
            .ask("sent", rate("istio_tcp_sent_bytes_total", CLIENT)),
        ],
    )
}

pub(super) fn dashboard() -> Dashboard {
    let clients = format!(
        "{CLIENT},source_cluster=~\"$srccluster\",source_workload=~\"$srcwl\",source_workload_namespace=~\"$srcns\""
    );
    let servers = format!(
        "{CLIENT},destination_cluster=~\"$dstcluster\",destination_workload=~\"$dstwl\",destination_workload_namespace=~\"$dstns\""
    );
    let by_source = Titles {
        requests: "Incoming Requests By Source And Response Code",
        success: "Incoming Success Rate (non-5xx responses) By Source",
        duration: "Incoming Request Duration By Source",
        request_size: "Incoming Request Size By Source",
        response_size: "Response Size By Source",
        received: "Bytes Received from Incoming TCP Connection",
        sent: "Bytes Sent to Incoming TCP Connection",
    };
    let by_destination = Titles {
        requests: "Incoming Requests By Destination Workload And Response Code",
        success: "Incoming Success Rate (non-5xx responses) By Destination Workload",
        duration: "Incoming Request Duration By Service Workload",
        request_size: "Incoming Request Size By Service Workload",
        response_size: "Response Size By Service Workload",
        received: "Bytes Received from Incoming TCP Connection By Service Workload",
        sent: "Bytes Sent to Incoming TCP Connection By Service Workload",
    };
    Dashboard {
        file: "service",
        uid: "weir-service",
        title: "Weir Service",
        about: "One service: requests and connections for it, by its clients and by the workloads behind it.",
        variables: variables(),
        rows: vec![
            general(),
            Row::new("Client Workloads", breakdown(&by_source, &BY_SOURCE, &clients)),
            Row::new("Service Workloads", breakdown(&by_destination, &BY_DESTINATION, &servers)),
        ],
    }
}
