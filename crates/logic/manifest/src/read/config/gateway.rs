//! gateway.networking.k8s.io/v1 Gateway.

use crate::{
    object::GatewaySpec,
    read::Meta,
    reader::{At, Reader},
};

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<GatewaySpec> {
    reader.map(at)?;
    Some(GatewaySpec {})
}
