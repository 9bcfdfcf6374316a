//! Metrics of the programs.

use std::collections::BTreeSet;

use super::{Found, Program, WRITTEN, compare, of_others};
use crate::finding::Finding;

const TABLE: &str = "xtask/src/reference/metrics.rs";
/// What the names of metrics begin with.
const FAMILIES: [&str; 6] = ["istio_", "weir_", "workload_manager_", "process_", "pilot_", "citadel_server_"];
/// What looks like one and is none.
const OTHERS: &[&str] = &["istio_converted_static_strict"];

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// One of istiod's that only grows, under a name without `_total`.
    Bare,
}

/// Which labels it has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Labels {
    /// Those of connections: `docs/metrics.md` has them.
    Tcp,
    /// Those of requests: `docs/telemetry.md` has them.
    Request,
    /// These.
    Own(&'static [&'static str]),
}

/// Name in the code, what it is, labels, and who has it. What it counts is what the code says behind the name.
const ROWS: &[(&str, Kind, Labels, &[Program])] = &[
    ("istio_tcp_connections_opened", Kind::Counter, Labels::Tcp, &[Program::Agent, Program::Waypoint]),
    ("istio_tcp_connections_closed", Kind::Counter, Labels::Tcp, &[Program::Agent, Program::Waypoint]),
    ("istio_tcp_connections_failed", Kind::Counter, Labels::Tcp, &[Program::Agent]),
    ("istio_tcp_sent_bytes", Kind::Counter, Labels::Tcp, &[Program::Agent, Program::Waypoint]),
    ("istio_tcp_received_bytes", Kind::Counter, Labels::Tcp, &[Program::Agent, Program::Waypoint]),
    ("istio_requests", Kind::Counter, Labels::Request, &[Program::Waypoint]),
    ("istio_request_messages", Kind::Counter, Labels::Request, &[Program::Waypoint]),
    ("istio_response_messages", Kind::Counter, Labels::Request, &[Program::Waypoint]),
    ("istio_request_duration_milliseconds", Kind::Histogram, Labels::Request, &[Program::Waypoint]),
    ("istio_request_bytes", Kind::Histogram, Labels::Request, &[Program::Waypoint]),
    ("istio_response_bytes", Kind::Histogram, Labels::Request, &[Program::Waypoint]),
    ("istio_build", Kind::Gauge, Labels::Own(&["component", "tag"]), &Program::ALL),
    ("istio_xds_connection_terminations", Kind::Counter, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    ("workload_manager_active_proxy_count", Kind::Gauge, Labels::Own(&[]), &[Program::Agent]),
    ("workload_manager_pending_proxy_count", Kind::Gauge, Labels::Own(&[]), &[Program::Agent]),
    ("workload_manager_proxies_started", Kind::Counter, Labels::Own(&[]), &[Program::Agent]),
    ("workload_manager_proxies_stopped", Kind::Counter, Labels::Own(&[]), &[Program::Agent]),
    ("weir_open_connections", Kind::Gauge, Labels::Own(&["direction"]), &[Program::Agent]),
    ("weir_pool_connections", Kind::Gauge, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    ("weir_config_generation", Kind::Gauge, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    (
        "weir_config_last_good_load_timestamp_seconds",
        Kind::Gauge,
        Labels::Own(&[]),
        &[Program::Agent, Program::Waypoint],
    ),
    ("weir_config_rejected_loads", Kind::Counter, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    ("weir_config_refused", Kind::Gauge, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    ("weir_control_connected", Kind::Gauge, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    ("weir_control_last_heard_timestamp_seconds", Kind::Gauge, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    (
        "weir_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        Labels::Own(&["identity"]),
        &[Program::Agent, Program::Waypoint],
    ),
    (
        "weir_certificate_valid_from_timestamp_seconds",
        Kind::Gauge,
        Labels::Own(&["identity"]),
        &[Program::Agent, Program::Waypoint],
    ),
    ("weir_certificates_issued", Kind::Counter, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    ("weir_certificate_failures", Kind::Counter, Labels::Own(&[]), &[Program::Agent, Program::Waypoint]),
    ("weir_cni_repairs", Kind::Counter, Labels::Own(&[]), &[Program::Agent]),
    ("weir_access_log_dropped", Kind::Counter, Labels::Own(&[]), &[Program::Agent]),
    ("weir_policy_audit", Kind::Counter, Labels::Own(&["policy"]), &[Program::Agent, Program::Waypoint]),
    ("weir_policy_dry_run", Kind::Counter, Labels::Own(&["policy", "result"]), &[Program::Agent, Program::Waypoint]),
    ("weir_kernel_decisions", Kind::Counter, Labels::Own(&["decision"]), &[Program::Agent]),
    ("weir_requests_beyond_series", Kind::Counter, Labels::Own(&[]), &[Program::Waypoint]),
    ("weir_spans_sent", Kind::Counter, Labels::Own(&[]), &[Program::Waypoint]),
    ("weir_spans_dropped", Kind::Counter, Labels::Own(&["reason"]), &[Program::Waypoint]),
    ("process_start_time_seconds", Kind::Gauge, Labels::Own(&[]), &Program::ALL),
    ("process_cpu_seconds", Kind::Counter, Labels::Own(&[]), &Program::ALL),
    ("process_resident_memory_bytes", Kind::Gauge, Labels::Own(&[]), &Program::ALL),
    ("process_open_fds", Kind::Gauge, Labels::Own(&[]), &Program::ALL),
    ("pilot_xds", Kind::Gauge, Labels::Own(&[]), &[Program::Control]),
    ("pilot_xds_pushes", Kind::Bare, Labels::Own(&["type"]), &[Program::Control]),
    ("pilot_total_xds_rejects", Kind::Bare, Labels::Own(&["type"]), &[Program::Control]),
    ("pilot_proxy_convergence_time", Kind::Histogram, Labels::Own(&[]), &[Program::Control]),
    ("pilot_xds_config_size_bytes", Kind::Histogram, Labels::Own(&[]), &[Program::Control]),
    ("pilot_k8s_reg_events", Kind::Bare, Labels::Own(&["type"]), &[Program::Control]),
    ("citadel_server_csr_count", Kind::Bare, Labels::Own(&[]), &[Program::Control]),
    ("citadel_server_success_cert_issuance_count", Kind::Bare, Labels::Own(&[]), &[Program::Control]),
    ("citadel_server_authentication_failure_count", Kind::Bare, Labels::Own(&[]), &[Program::Control]),
    ("citadel_server_csr_parsing_err_count", Kind::Bare, Labels::Own(&[]), &[Program::Control]),
    ("citadel_server_id_extraction_err_count", Kind::Bare, Labels::Own(&[]), &[Program::Control]),
    ("citadel_server_csr_sign_err_count", Kind::Bare, Labels::Own(&[]), &[Program::Control]),
    ("citadel_server_root_cert_expiry_timestamp", Kind::Gauge, Labels::Own(&[]), &[Program::Control]),
    ("weir_xds_acks", Kind::Counter, Labels::Own(&["type"]), &[Program::Control]),
    ("weir_xds_resources_sent", Kind::Counter, Labels::Own(&["type"]), &[Program::Control]),
    ("weir_xds_refused", Kind::Counter, Labels::Own(&[]), &[Program::Control]),
    ("weir_objects_refused", Kind::Gauge, Labels::Own(&[]), &[Program::Control]),
    ("weir_kinds_not_followed", Kind::Gauge, Labels::Own(&[]), &[Program::Control]),
    ("weir_mesh_resources", Kind::Gauge, Labels::Own(&["type"]), &[Program::Control]),
    ("weir_certificates_refused", Kind::Counter, Labels::Own(&["reason"]), &[Program::Control]),
    ("weir_grpc_connections", Kind::Gauge, Labels::Own(&[]), &[Program::Control]),
    ("weir_grpc_handshakes_failed", Kind::Counter, Labels::Own(&[]), &[Program::Control]),
    ("weir_grpc_unauthenticated", Kind::Counter, Labels::Own(&[]), &[Program::Control]),
    ("weir_admission_reviews", Kind::Counter, Labels::Own(&["verdict"]), &[Program::Control]),
    ("weir_leader", Kind::Gauge, Labels::Own(&[]), &[Program::Control]),
];

/// The page; names without a row, and rows without a name, are findings.
pub(super) fn page(found: &[Found], findings: &mut Vec<Finding>) -> String {
    let names: Vec<&Found> = found.iter().filter(|one| is_name(&one.literal.text)).collect();
    let rows = ROWS.iter().map(|(name, ..)| *name).chain(OTHERS.iter().copied()).collect::<BTreeSet<_>>();
    compare(&names, &rows, TABLE, findings);
    let of = |name: &str| ROWS.iter().find(|(one, ..)| *one == name).map(|(.., programs)| *programs);
    of_others(&names, of, TABLE, findings);
    let mut page = format!(
        "# Metrics\n\n{WRITTEN} What the labels of connections are, and what the values of others mean, is in [metrics.md](../metrics.md); those of \
         requests are in [telemetry.md](../telemetry.md).\n"
    );
    for program in Program::ALL {
        page += &format!("\n## {}\n\n| metric | type | labels | |\n| --- | --- | --- | --- |\n", program.name());
        for (name, kind, labels, _) in ROWS.iter().filter(|(.., programs)| programs.contains(&program)) {
            let said = |one: &&&Found| one.literal.text == *name && one.program.is_none_or(|of| of == program);
            // What a program says of its own counts before what a crate says for all.
            let help = names.iter().filter(said).max_by_key(|one| one.program).map(|one| one.next.clone());
            let total = if *kind == Kind::Counter { "_total" } else { "" };
            let (kind, labels) = (kind.word(), labels.words());
            let space = if labels.is_empty() { "" } else { " " };
            page += &format!("| `{name}{total}` | {kind} |{space}{labels} | {} |\n", help.unwrap_or_default());
        }
    }
    page
}

fn is_name(text: &str) -> bool {
    FAMILIES.iter().any(|family| text.strip_prefix(family).is_some_and(|rest| !rest.is_empty()))
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        // Names of our own crates, in filters of logs.
        && !text.starts_with("weir_hbone")
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Bare => "untyped",
        }
    }
}

impl Labels {
    fn words(self) -> String {
        match self {
            Self::Tcp => "those of connections".to_owned(),
            Self::Request => "those of requests".to_owned(),
            Self::Own(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        }
    }
}
