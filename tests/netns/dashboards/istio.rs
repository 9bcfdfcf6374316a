//! What Istio's published dashboards and Kiali ask, in their way of asking: names and labels of Istio, reporters of ambient.

/// Labels that each series must have, as a legend names them, and the query.
pub(crate) const QUERIES: [(&str, &str); 22] = [
    ("", "round(sum(irate(istio_requests_total{reporter=~\"source|waypoint\"}[RANGE])), 0.01)"),
    (
        "",
        "sum(rate(istio_requests_total{reporter=~\"source|waypoint\", response_code!~\"5.*\"}[RANGE])) / sum(rate(istio_requests_total{reporter=~\"source|waypoint\"}[RANGE]))",
    ),
    ("", "sum(irate(istio_requests_total{reporter=~\"source|waypoint\", response_code=~\"4.*\"}[RANGE])) or vector(0)"),
    ("", "sum(irate(istio_requests_total{reporter=~\"source|waypoint\", response_code=~\"5.*\"}[RANGE])) or vector(0)"),
    (
        "{{destination_workload_var}}{{destination_service}}",
        "label_join(sum(rate(istio_requests_total{reporter=~\"source|waypoint\", response_code=\"200\"}[RANGE])) by (destination_workload, destination_workload_namespace, destination_service), \"destination_workload_var\", \".\", \"destination_workload\", \"destination_workload_namespace\")",
    ),
    (
        "{{destination_workload_var}}{{destination_service}}",
        "label_join((histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter=~\"source|waypoint\"}[RANGE])) by (le, destination_workload, destination_workload_namespace, destination_service)) / 1000) or histogram_quantile(0.99, sum(rate(istio_request_duration_seconds_bucket{reporter=~\"source|waypoint\"}[RANGE])) by (le, destination_workload, destination_workload_namespace, destination_service)), \"destination_workload_var\", \".\", \"destination_workload\", \"destination_workload_namespace\")",
    ),
    (
        "{{destination_workload_var}}",
        "label_join(sum(rate(istio_tcp_received_bytes_total{reporter=~\"source|waypoint\"}[RANGE])) by (destination_workload, destination_workload_namespace, destination_service), \"destination_workload_var\", \".\", \"destination_workload\", \"destination_workload_namespace\")",
    ),
    ("{{component}}{{tag}}", "sum by (component, tag) (istio_build)"),
    // The service dashboard.
    (
        "{{destination_service}}",
        "sum(istio_requests_total{}) by (destination_service) or sum(istio_tcp_sent_bytes_total{}) by (destination_service)",
    ),
    (
        "{{source_workload_namespace}}",
        "sum(istio_requests_total{reporter=~\"source|waypoint\", destination_service=\"web.default.svc.cluster.local\"}) by (source_workload_namespace) or sum(istio_tcp_sent_bytes_total{reporter=~\"source|waypoint\", destination_service=~\"web.default.svc.cluster.local\"}) by (source_workload_namespace)",
    ),
    (
        "{{source_workload}}{{source_workload_namespace}}{{response_code}}",
        "round(sum(irate(istio_requests_total{connection_security_policy=\"mutual_tls\",destination_service=~\"web.default.svc.cluster.local\",reporter=~\"(source|waypoint)\",source_workload=~\".*\",source_workload_namespace=~\".*\"}[RANGE])) by (source_workload, source_workload_namespace, response_code), 0.001)",
    ),
    (
        "{{destination_workload}}{{destination_workload_namespace}}{{response_code}}",
        "round(sum(irate(istio_requests_total{connection_security_policy=\"mutual_tls\",destination_service=~\"web.default.svc.cluster.local\",reporter=~\"(destination|waypoint)\",destination_workload=~\".*\"}[RANGE])) by (destination_workload, destination_workload_namespace, response_code), 0.001)",
    ),
    (
        "{{source_workload}}{{source_workload_namespace}}",
        "histogram_quantile(0.95, sum(irate(istio_request_bytes_bucket{reporter=~\"(source|waypoint)\",connection_security_policy=\"mutual_tls\",destination_service=~\"web.default.svc.cluster.local\"}[RANGE])) by (source_workload, source_workload_namespace, le))",
    ),
    (
        "{{source_workload}}{{source_workload_namespace}}",
        "histogram_quantile(0.50, sum(irate(istio_response_bytes_bucket{reporter=~\"(source|waypoint)\",destination_service=~\"web.default.svc.cluster.local\"}[RANGE])) by (source_workload, source_workload_namespace, le))",
    ),
    (
        "{{source_workload}}{{source_workload_namespace}}",
        "round(sum(irate(istio_tcp_received_bytes_total{reporter=~\"(source|waypoint)\", connection_security_policy=\"mutual_tls\", destination_service=~\"web.default.svc.cluster.local\"}[RANGE])) by (source_workload, source_workload_namespace), 0.001)",
    ),
    // In the clear, from outside the mesh: the destination's side alone knows.
    (
        "{{destination_workload}}",
        "sum(irate(istio_tcp_sent_bytes_total{reporter=\"destination\", connection_security_policy!=\"mutual_tls\", destination_workload=\"server\"}[RANGE])) by (destination_workload)",
    ),
    // The workload dashboard.
    (
        "{{destination_service}}{{response_code}}",
        "round(sum(irate(istio_requests_total{destination_principal=~\"spiffe.*\", source_workload_namespace=~\"default\", source_workload=~\"web\", reporter=~\"(source|waypoint)\", destination_service=~\".*\"}[RANGE])) by (destination_service, response_code), 0.001)",
    ),
    // The ztunnel dashboard.
    ("{{pod}}", "sum by (pod) (rate(istio_tcp_connections_opened_total{pod=~\"weir-agent-.*\"}[RANGE]))"),
    ("{{pod}}", "sum by (pod) (rate(istio_tcp_sent_bytes_total{pod=~\"weir-agent-.*\"}[RANGE]))"),
    ("{{pod}}", "sum by (pod) (workload_manager_active_proxy_count{pod=~\"weir-agent-.*\"})"),
    // The control plane's.
    ("{{type}}", "sum(irate(pilot_xds_pushes{}[RANGE])) by (type)"),
    // Kiali's graph.
    (
        "{{source_workload_namespace}}{{source_workload}}{{source_principal}}{{destination_service_namespace}}{{destination_service_name}}{{destination_workload}}{{request_protocol}}{{response_code}}{{response_flags}}{{source_cluster}}{{destination_cluster}}",
        "sum(rate(istio_requests_total{reporter=~\"source|waypoint\",destination_service_namespace=\"default\",destination_service_name=\"web\"}[RANGE])) by (source_cluster,source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision,source_principal,destination_cluster,destination_service_namespace,destination_service,destination_service_name,destination_workload_namespace,destination_workload,destination_canonical_service,destination_canonical_revision,request_protocol,response_code,grpc_response_status,response_flags) > 0",
    ),
];
