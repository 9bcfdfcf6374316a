//! The control plane, replica by replica.

use super::super::model::{Dashboard, Panel, Row, Unit};
use super::super::promql::{RANGE, rate_by};

const OF: &str = "job=\"weir-control\"";

fn gauge(metric: &str) -> String {
    format!("{metric}{{{OF}}}")
}

fn resources() -> Row {
    Row::new(
        "Resource Usage",
        [
            Panel::lines("Memory Usage", Unit::Bytes, "What the kernel says a replica holds.")
                .ask("{{pod}}", gauge("process_resident_memory_bytes")),
            Panel::lines("CPU Usage", Unit::Count, "Cores in use.")
                .ask("{{pod}}", format!("rate(process_cpu_seconds_total{{{OF}}}[{RANGE}])")),
            Panel::lines("Open Descriptors", Unit::Count, "One for each agent, and some.")
                .ask("{{pod}}", gauge("process_open_fds")),
            Panel::lines("Leader", Unit::Count, "1 at the replica that writes to the cluster.")
                .ask("{{pod}}", gauge("weir_leader")),
        ],
    )
}

fn pushes() -> Row {
    Row::new(
        "Push Information",
        [
            Panel::lines(
                "XDS Pushes",
                Unit::PerSecond,
                "Responses sent to agents and waypoints, by what they are about.",
            )
            .ask("{{type}}", rate_by("pilot_xds_pushes", OF, "type")),
            Panel::lines("Events", Unit::PerSecond, "Objects of the cluster that changed.")
                .ask("{{type}}", rate_by("pilot_k8s_reg_events", OF, "type")),
            Panel::lines(
                "Connections",
                Unit::Count,
                "Agents and waypoints that follow each replica, and their connections.",
            )
            .ask("XDS ({{pod}})", gauge("pilot_xds"))
            .ask("gRPC ({{pod}})", gauge("weir_grpc_connections")),
            Panel::lines(
                "Push Errors",
                Unit::PerSecond,
                "Responses that were refused, streams and callers that were turned away.",
            )
            .ask("refused: {{type}}", rate_by("pilot_total_xds_rejects", OF, "type"))
            .ask("turned away ({{pod}})", rate_by("weir_xds_refused_total", OF, "pod"))
            .ask("unauthenticated ({{pod}})", rate_by("weir_grpc_unauthenticated_total", OF, "pod"))
            .ask("TLS ({{pod}})", rate_by("weir_grpc_handshakes_failed_total", OF, "pod")),
            Panel::heat("Push Time", Unit::Seconds, "From a change until it was sent.")
                .ask("{{le}}", rate_by("pilot_proxy_convergence_time_bucket", OF, "le")),
            Panel::heat("Push Size", Unit::Bytes, "What was sent at once.")
                .ask("{{le}}", rate_by("pilot_xds_config_size_bytes_bucket", OF, "le")),
            Panel::lines("Resources Sent", Unit::PerSecond, "What the responses carried, and how many were taken.")
                .ask("sent: {{type}}", rate_by("weir_xds_resources_sent_total", OF, "type"))
                .ask("taken: {{type}}", rate_by("weir_xds_acks_total", OF, "type")),
            Panel::lines("Mesh", Unit::Count, "What is served.")
                .ask("{{type}}", format!("max by (type) (weir_mesh_resources{{{OF}}})")),
        ],
    )
}

fn authority() -> Row {
    let growth = |metric: &str| rate_by(metric, OF, "pod");
    Row::new(
        "Certificate Authority",
        [
            Panel::lines("Certificates", Unit::PerSecond, "Signing requests, and certificates issued for them.")
                .ask("asked for ({{pod}})", growth("citadel_server_csr_count"))
                .ask("issued ({{pod}})", growth("citadel_server_success_cert_issuance_count")),
            Panel::lines("Certificates Refused", Unit::PerSecond, "By the reason the caller was given.")
                .ask("{{reason}}", rate_by("weir_certificates_refused_total", OF, "reason")),
            Panel::lines("Errors", Unit::PerSecond, "By where they were found, as istiod counts them.")
                .ask("authentication ({{pod}})", growth("citadel_server_authentication_failure_count"))
                .ask("signing request ({{pod}})", growth("citadel_server_csr_parsing_err_count"))
                .ask("identity ({{pod}})", growth("citadel_server_id_extraction_err_count"))
                .ask("signature ({{pod}})", growth("citadel_server_csr_sign_err_count")),
            Panel::lines(
                "Root Expires In",
                Unit::Seconds,
                "The root's own life; what it signs is renewed far more often.",
            )
            .ask("{{pod}}", format!("citadel_server_root_cert_expiry_timestamp{{{OF}}} - time()")),
        ],
    )
}

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        file: "control-plane",
        uid: "weir-control-plane",
        title: "Weir Control Plane",
        about: "weir-control: what it reads, whom it tells, what it signs.",
        variables: Vec::new(),
        rows: vec![
            Row::new(
                "Deployed Versions",
                [Panel::lines("Pilot Versions", Unit::Count, "How many replicas run which version.")
                    .wide(24)
                    .ask("{{tag}}", "sum by (tag) (istio_build{component=\"control\"})")],
            ),
            resources(),
            pushes(),
            Row::new(
                "Validation",
                [
                    Panel::lines(
                        "Objects Refused",
                        Unit::Count,
                        "Objects that cannot be read now: /debug/configz names them.",
                    )
                    .ask("{{pod}}", gauge("weir_objects_refused")),
                    Panel::lines(
                        "Kinds Not Followed",
                        Unit::Count,
                        "Kinds of objects that the API server does not let it follow.",
                    )
                    .ask("{{pod}}", gauge("weir_kinds_not_followed")),
                ],
            ),
            authority(),
        ],
    }
}
