//! telemetry.istio.io/v1 Telemetry.

use crate::{
    object::TelemetrySpec,
    read::Meta,
    reader::{At, Reader},
};

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<TelemetrySpec> {
    reader.map(at)?;
    Some(TelemetrySpec {})
}
