//! telemetry.istio.io/v1 Telemetry, as its author wrote it.

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySpec {}
