//! The agents, node by node.

use super::super::model::{Dashboard, Panel, Row, Unit};
use super::super::promql::rate_by;
use super::{many, program::Program};

const ON: &str = "job=\"weir-agent\",node=~\"$node\"";
const AGENTS: Program = Program {
    selector: ON,
    one: "node",
    component: "agent",
    versions: ("Agent Versions", "How many agents run which version."),
    memory: "What the kernel says an agent holds.",
};

fn by_node(metric: &str) -> String {
    rate_by(metric, ON, "node")
}

fn network() -> Row {
    Row::new(
        "Network",
        [
            Panel::lines("Connections", Unit::PerSecond, "Connections of pods that began and ended.")
                .ask("opened ({{node}})", by_node("istio_tcp_connections_opened_total"))
                .ask("closed ({{node}})", by_node("istio_tcp_connections_closed_total")),
            Panel::lines("Bytes Transmitted", Unit::BytesPerSecond, "Both reporters: bytes between two pods of one node count twice.")
                .ask("to clients ({{node}})", by_node("istio_tcp_sent_bytes_total"))
                .ask("from clients ({{node}})", by_node("istio_tcp_received_bytes_total")),
            Panel::lines("Open Connections", Unit::Count, "Connections of pods that are open now.")
                .ask("{{direction}} ({{node}})", AGENTS.gauge("weir_open_connections")),
            Panel::lines("HBONE Connections", Unit::Count, "Connections kept to other nodes; many streams share one.")
                .ask("{{node}}", AGENTS.gauge("weir_pool_connections")),
            Panel::lines(
                "Refused Connections",
                Unit::PerSecond,
                "Connections that did not come about, by reason: response_flags in docs/metrics.md.",
            )
            .ask("{{reporter}} {{response_flags}} ({{node}})", rate_by("istio_tcp_connections_failed_total", ON, "node, reporter, response_flags")),
            Panel::lines(
                "Kernel Decisions",
                Unit::PerSecond,
                "What the eBPF programs did with connections: decision in docs/metrics.md. Refusals and losses are zero when all is well.",
            )
            .ask("{{decision}} ({{node}})", rate_by("weir_kernel_decisions_total", ON, "node, decision")),
        ],
    )
}

fn operations() -> Row {
    Row::new(
        "Operations",
        [
            AGENTS.xds(),
            Panel::lines(
                "XDS Pushes",
                Unit::Count,
                "How often the configuration was replaced, and how often a new one was refused.",
            )
            .ask("replaced ({{node}})", AGENTS.change("weir_config_generation"))
            .ask("refused ({{node}})", AGENTS.growth("weir_config_rejected_loads_total")),
            Panel::lines(
                "Workload Manager",
                Unit::Count,
                "Pods that are caught, and those that are to be and are not yet.",
            )
            .ask("active ({{node}})", AGENTS.gauge("workload_manager_active_proxy_count"))
            .ask("pending ({{node}})", AGENTS.gauge("workload_manager_pending_proxy_count")),
            Panel::lines("Enrolments", Unit::Count, "Pods that were caught and let go.")
                .ask("caught ({{node}})", AGENTS.growth("workload_manager_proxies_started_total"))
                .ask("let go ({{node}})", AGENTS.growth("workload_manager_proxies_stopped_total")),
            Panel::lines(
                "Last Word Of The Control Plane",
                Unit::Seconds,
                "How long ago it told something. A quiet mesh has little to tell.",
            )
            .ask("{{node}}", format!("time() - weir_control_last_heard_timestamp_seconds{{{ON}}}")),
            Panel::lines(
                "Configuration Refused",
                Unit::Count,
                "1 while the newest configuration is not the one in force.",
            )
            .ask("{{node}}", AGENTS.gauge("weir_config_refused")),
        ],
    )
}

fn trust() -> Row {
    let expiry = AGENTS.gauge("weir_certificate_expiry_timestamp_seconds");
    let from = AGENTS.gauge("weir_certificate_valid_from_timestamp_seconds");
    Row::new(
        "Certificates And Policies",
        [
            Panel::lines("Time To Expiry", Unit::Seconds, "Of the certificate that expires first.")
                .ask("{{node}}", format!("min by (node) ({expiry} - time())")),
            Panel::lines(
                "Share Of Life Used",
                Unit::Ratio,
                "Of the certificate that is oldest for its life: renewed between 0.4 and 0.6.",
            )
            .ask("{{node}}", format!("max by (node) ((time() - {from}) / ({expiry} - {from}))")),
            Panel::lines("Certificates Asked For", Unit::Count, "Issued, and not issued.")
                .ask("issued ({{node}})", AGENTS.growth("weir_certificates_issued_total"))
                .ask("failed ({{node}})", AGENTS.growth("weir_certificate_failures_total")),
            Panel::lines(
                "Policies On Trial",
                Unit::PerSecond,
                "Connections that policies would decide on (dry run), or watch (AUDIT).",
            )
            .ask("{{policy}} {{result}}", rate_by("weir_policy_dry_run_total", ON, "policy, result"))
            .ask("{{policy}} audit", rate_by("weir_policy_audit_total", ON, "policy")),
            Panel::lines("Access Log Dropped", Unit::Count, "Lines that standard output did not take.")
                .ask("{{node}}", AGENTS.growth("weir_access_log_dropped_total")),
            Panel::lines(
                "CNI Repairs",
                Unit::Count,
                "How often the plugin was put back into the chain that somebody took it out of.",
            )
            .ask("{{node}}", AGENTS.growth("weir_cni_repairs_total")),
        ],
    )
}

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        file: "agent",
        uid: "weir-agent",
        title: "Weir Agent",
        about: "The agents: what they carry and refuse, whom they hear, whose certificates they hold.",
        variables: vec![many("node", "Node", "up{job=\"weir-agent\"}", "node")],
        rows: vec![AGENTS.process(), network(), operations(), trust()],
    }
}
