//! The alerts: each with what makes it fire, and with what must not.

/// How soon somebody must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// Now: traffic is refused, or is about to be.
    Critical,
    /// Today.
    Warning,
}

impl Severity {
    /// The label's value.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// One alert.
pub(super) struct Alert {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// How long it must be so, as Prometheus writes times.
    pub(super) hold: &'static str,
    pub(super) expr: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// Series with which it must fire.
    pub(super) fires: &'static [Series],
    /// Series with which it must not.
    pub(super) quiet: &'static [Series],
}

/// A series of a test, and its values a minute apart, in promtool's notation.
pub(super) struct Series(pub(super) &'static str, pub(super) &'static str);

/// Every alert, by whom it is about.
pub(super) fn all() -> Vec<Alert> {
    let mut all = presence();
    all.extend(configuration());
    all.extend(certificates());
    all.extend(refusals());
    all.extend(waypoints());
    all
}

/// Who is there.
fn presence() -> Vec<Alert> {
    vec![
        Alert {
            name: "WeirAgentDown",
            severity: Severity::Critical,
            hold: "2m",
            expr: "up{job=\"weir-agent\"} == 0",
            summary: "The agent of {{ $labels.node }} does not answer",
            description: "New connections of enrolled pods on {{ $labels.node }} are refused until an agent runs there again.",
            fires: &[Series("up{job=\"weir-agent\",node=\"n1\"}", "0x20")],
            quiet: &[Series("up{job=\"weir-agent\",node=\"n1\"}", "1x5 0 1x20")],
        },
        Alert {
            name: "WeirWaypointDown",
            severity: Severity::Critical,
            hold: "2m",
            expr: "up{job=\"weir-waypoint\"} == 0",
            summary: "{{ $labels.pod }}, a waypoint of {{ $labels.namespace }}/{{ $labels.gateway }}, does not answer",
            description: "What is bound to the waypoint goes through its other replicas; without any it is refused.",
            fires: &[Series("up{job=\"weir-waypoint\",namespace=\"a\",gateway=\"w\",pod=\"w-1\"}", "0x20")],
            quiet: &[Series("up{job=\"weir-waypoint\",namespace=\"a\",gateway=\"w\",pod=\"w-1\"}", "1x20")],
        },
        Alert {
            name: "WeirControlDown",
            severity: Severity::Critical,
            hold: "2m",
            expr: "absent(up{job=\"weir-control\"} == 1)",
            summary: "No replica of weir-control answers",
            description: "What runs goes on with what it knows. Changes are not told, agents that start know nothing, certificates are not renewed.",
            fires: &[Series("up{job=\"weir-control\",pod=\"c-1\"}", "0x20")],
            quiet: &[
                Series("up{job=\"weir-control\",pod=\"c-1\"}", "0x20"),
                Series("up{job=\"weir-control\",pod=\"c-2\"}", "1x20"),
            ],
        },
        Alert {
            name: "WeirNoLeader",
            severity: Severity::Warning,
            hold: "2m",
            expr: "max(weir_leader) == 0",
            summary: "No replica of weir-control leads",
            description: "Statuses, annotations, roots and waypoints' Deployments are not written to the cluster. Agents are served all the same.",
            fires: &[Series("weir_leader{pod=\"c-1\"}", "0x20"), Series("weir_leader{pod=\"c-2\"}", "0x20")],
            quiet: &[Series("weir_leader{pod=\"c-1\"}", "0x20"), Series("weir_leader{pod=\"c-2\"}", "1x20")],
        },
    ]
}

/// Whether what is in force is what was written.
fn configuration() -> Vec<Alert> {
    vec![
        Alert {
            name: "WeirControlLost",
            severity: Severity::Warning,
            hold: "5m",
            expr: "weir_control_connected == 0",
            summary: "{{ $labels.pod }} has no control plane",
            description: "{{ $labels.pod }} of {{ $labels.namespace }} goes on with what it was last told: pods that are new to the mesh are unknown to it.",
            fires: &[Series("weir_control_connected{pod=\"a-1\"}", "0x20")],
            quiet: &[Series("weir_control_connected{pod=\"a-1\"}", "1x5 0x2 1x20")],
        },
        Alert {
            name: "WeirConfigurationRefused",
            severity: Severity::Warning,
            hold: "1m",
            expr: "weir_config_refused == 1",
            summary: "{{ $labels.pod }} refuses the newest configuration",
            description: "{{ $labels.pod }} of {{ $labels.namespace }} goes on with the last good one: it is out of step with what was written.",
            fires: &[Series("weir_config_refused{pod=\"a-1\"}", "0x5 1x20")],
            quiet: &[Series("weir_config_refused{pod=\"a-1\"}", "0x20")],
        },
        Alert {
            name: "WeirPushRejected",
            severity: Severity::Warning,
            hold: "0s",
            expr: "sum by (type) (increase(pilot_total_xds_rejects{job=\"weir-control\"}[10m])) > 0",
            summary: "An agent or waypoint rejected what weir-control sent: {{ $labels.type }}",
            description: "{{ $value | humanize }} responses about {{ $labels.type }} were rejected within ten minutes. Who did goes on with what it had.",
            fires: &[Series("pilot_total_xds_rejects{job=\"weir-control\",type=\"workload\"}", "0x10 1x10")],
            quiet: &[Series("pilot_total_xds_rejects{job=\"weir-control\",type=\"workload\"}", "3x20")],
        },
        Alert {
            name: "WeirObjectsRefused",
            severity: Severity::Warning,
            hold: "5m",
            expr: "max(weir_objects_refused) > 0",
            summary: "{{ $value }} objects of the cluster cannot be read",
            description: "Each is left out by itself, or stays as it last could be read. A policy that cannot be read denies what it covers.",
            fires: &[Series("weir_objects_refused{pod=\"c-1\"}", "2x20")],
            quiet: &[Series("weir_objects_refused{pod=\"c-1\"}", "0x20")],
        },
        Alert {
            name: "WeirKindsNotFollowed",
            severity: Severity::Warning,
            hold: "5m",
            expr: "max(weir_kinds_not_followed) > 0",
            summary: "weir-control cannot follow {{ $value }} kinds of objects",
            description: "Objects of these kinds stay as they were: the API server refuses to show them, or does not have them. Of a folder it is one: manifests.",
            fires: &[Series("weir_kinds_not_followed{pod=\"c-1\"}", "1x20")],
            quiet: &[Series("weir_kinds_not_followed{pod=\"c-1\"}", "0x20")],
        },
        Alert {
            name: "WeirPodsPending",
            severity: Severity::Warning,
            hold: "10m",
            expr: "workload_manager_pending_proxy_count > 0",
            summary: "{{ $value }} pods of {{ $labels.node }} are to be in the mesh and are not",
            description: "The agent of {{ $labels.node }} cannot catch them. Peers that require mutual TLS refuse them.",
            fires: &[Series("workload_manager_pending_proxy_count{node=\"n1\"}", "1x20")],
            quiet: &[Series("workload_manager_pending_proxy_count{node=\"n1\"}", "1x8 0 1x8")],
        },
    ]
}

/// Whether everybody can prove who he is, tomorrow too.
fn certificates() -> Vec<Alert> {
    vec![
        Alert {
            name: "WeirCertificateNotRenewed",
            severity: Severity::Warning,
            hold: "5m",
            expr: "(time() - weir_certificate_valid_from_timestamp_seconds) / (weir_certificate_expiry_timestamp_seconds - weir_certificate_valid_from_timestamp_seconds) > 0.75",
            summary: "The certificate of {{ $labels.identity }} is not renewed",
            description: "At {{ $labels.pod }} it has used {{ $value | humanizePercentage }} of its life, and is due between 40 % and 60 %. When it expires, the connections of this identity are refused.",
            fires: &[
                Series("weir_certificate_valid_from_timestamp_seconds{pod=\"a-1\",identity=\"i\"}", "0x20"),
                Series("weir_certificate_expiry_timestamp_seconds{pod=\"a-1\",identity=\"i\"}", "900x20"),
            ],
            quiet: &[
                Series("weir_certificate_valid_from_timestamp_seconds{pod=\"a-1\",identity=\"i\"}", "0x10 600x10"),
                Series("weir_certificate_expiry_timestamp_seconds{pod=\"a-1\",identity=\"i\"}", "1200x10 1800x10"),
            ],
        },
        Alert {
            name: "WeirCertificateExpired",
            severity: Severity::Critical,
            hold: "0s",
            expr: "weir_certificate_expiry_timestamp_seconds < time()",
            summary: "The certificate of {{ $labels.identity }} has expired",
            description: "{{ $labels.pod }} of {{ $labels.namespace }} refuses the connections of this identity until it has another.",
            fires: &[Series("weir_certificate_expiry_timestamp_seconds{pod=\"a-1\",identity=\"i\"}", "600x20")],
            quiet: &[Series("weir_certificate_expiry_timestamp_seconds{pod=\"a-1\",identity=\"i\"}", "86400x20")],
        },
        Alert {
            name: "WeirCertificatesNotIssued",
            severity: Severity::Warning,
            hold: "5m",
            expr: "increase(weir_certificate_failures_total[10m]) > 0",
            summary: "{{ $labels.pod }} is given no certificates",
            description: "{{ $value | humanize }} requests of {{ $labels.pod }} failed within ten minutes. They are repeated; pods that are new to the node wait.",
            fires: &[Series("weir_certificate_failures_total{pod=\"a-1\"}", "0+1x20")],
            quiet: &[Series("weir_certificate_failures_total{pod=\"a-1\"}", "3x20")],
        },
        Alert {
            name: "WeirRootExpires",
            severity: Severity::Warning,
            hold: "1h",
            expr: "min(citadel_server_root_cert_expiry_timestamp) - time() < 30 * 86400",
            summary: "The root of the mesh expires in {{ $value | humanizeDuration }}",
            description: "A root that weir-control made is followed by the next in time; one that was plugged in is its owner's to replace.",
            fires: &[Series("citadel_server_root_cert_expiry_timestamp{pod=\"c-1\"}", "1296000x80")],
            quiet: &[Series("citadel_server_root_cert_expiry_timestamp{pod=\"c-1\"}", "31536000x80")],
        },
    ]
}

/// What does not come through, where it should.
fn refusals() -> Vec<Alert> {
    vec![
        Alert {
            name: "WeirConnectionsRefused",
            severity: Severity::Warning,
            hold: "5m",
            expr: "sum by (destination_service, response_flags) (rate(istio_tcp_connections_failed_total{reporter=\"source\"}[5m])) > 0.1 and on (destination_service) \
                sum by (destination_service) (rate(istio_tcp_connections_failed_total{reporter=\"source\"}[5m])) > 0.05 * \
                (sum by (destination_service) (rate(istio_tcp_connections_opened_total{reporter=\"source\"}[5m])) \
                or 0 * sum by (destination_service) (rate(istio_tcp_connections_failed_total{reporter=\"source\"}[5m])))",
            summary: "Connections to {{ $labels.destination_service }} are refused: {{ $labels.response_flags }}",
            description: "{{ $value | humanize }} a second, for the reason {{ $labels.response_flags }}; more than one for every twenty that are opened.",
            fires: &[Series(
                "istio_tcp_connections_failed_total{reporter=\"source\",destination_service=\"s\",response_flags=\"DENY\"}",
                "0+60x20",
            )],
            quiet: &[
                Series(
                    "istio_tcp_connections_failed_total{reporter=\"source\",destination_service=\"s\",response_flags=\"DENY\"}",
                    "0+60x20",
                ),
                Series(
                    "istio_tcp_connections_opened_total{reporter=\"source\",destination_service=\"s\"}",
                    "0+6000x20",
                ),
            ],
        },
        Alert {
            name: "WeirKernelRefuses",
            severity: Severity::Critical,
            hold: "5m",
            expr: "sum by (node, decision) (increase(weir_kernel_decisions_total{decision=~\"refused_no_listener|refused_no_memory|origin_lost|flow_lost|dropped_no_listener\"}[5m])) > 0",
            summary: "The kernel of {{ $labels.node }} turns connections away: {{ $labels.decision }}",
            description: "{{ $value | humanize }} within five minutes. Pods of {{ $labels.node }} are without listeners of the agent, or a map of the kernel is too small for what is under way.",
            fires: &[Series("weir_kernel_decisions_total{node=\"n1\",decision=\"origin_lost\"}", "0+1x20")],
            quiet: &[
                Series("weir_kernel_decisions_total{node=\"n1\",decision=\"origin_lost\"}", "5x20"),
                Series("weir_kernel_decisions_total{node=\"n1\",decision=\"caught\"}", "0+100x20"),
            ],
        },
    ]
}

/// What waypoints cannot do.
fn waypoints() -> Vec<Alert> {
    vec![
        Alert {
            name: "WeirNoEndpoints",
            severity: Severity::Critical,
            hold: "1m",
            expr: "sum by (destination_service) (rate(istio_requests_total{reporter=\"waypoint\",response_flags=~\"(.*,)?UH(,.*)?\"}[5m])) > 0",
            summary: "{{ $labels.destination_service }} has no endpoint that is ready",
            description: "Its waypoint answers 503 to {{ $value | humanize }} requests a second.",
            fires: &[Series(
                "istio_requests_total{reporter=\"waypoint\",destination_service=\"s\",response_flags=\"UH\"}",
                "0+6x20",
            )],
            quiet: &[
                Series(
                    "istio_requests_total{reporter=\"waypoint\",destination_service=\"s\",response_flags=\"-\"}",
                    "0+60x20",
                ),
                Series(
                    "istio_requests_total{reporter=\"waypoint\",destination_service=\"s\",response_flags=\"UH\"}",
                    "6x20",
                ),
            ],
        },
        Alert {
            name: "WeirServiceErrors",
            severity: Severity::Warning,
            hold: "5m",
            expr: "sum by (destination_service) (rate(istio_requests_total{reporter=\"waypoint\",response_code=~\"5..\"}[5m])) \
                / sum by (destination_service) (rate(istio_requests_total{reporter=\"waypoint\"}[5m])) > 0.05",
            summary: "{{ $value | humanizePercentage }} of the requests for {{ $labels.destination_service }} end with 5xx",
            description: "Counted at its waypoint: answers of the service itself, and those that the waypoint gave in its place.",
            fires: &[
                Series(
                    "istio_requests_total{reporter=\"waypoint\",destination_service=\"s\",response_code=\"200\"}",
                    "0+60x20",
                ),
                Series(
                    "istio_requests_total{reporter=\"waypoint\",destination_service=\"s\",response_code=\"503\"}",
                    "0+6x20",
                ),
            ],
            quiet: &[
                Series(
                    "istio_requests_total{reporter=\"waypoint\",destination_service=\"s\",response_code=\"200\"}",
                    "0+600x20",
                ),
                Series(
                    "istio_requests_total{reporter=\"waypoint\",destination_service=\"s\",response_code=\"503\"}",
                    "0+6x20",
                ),
            ],
        },
        Alert {
            name: "WeirSeriesBeyondLimit",
            severity: Severity::Warning,
            hold: "0s",
            expr: "increase(weir_requests_beyond_series_total[15m]) > 0",
            summary: "{{ $labels.pod }} counts requests without their labels",
            description: "It has as many series as it keeps, 16,384; what is one more is counted as unknown.",
            fires: &[Series("weir_requests_beyond_series_total{pod=\"w-1\"}", "0x5 5x15")],
            quiet: &[Series("weir_requests_beyond_series_total{pod=\"w-1\"}", "5x20")],
        },
    ]
}
