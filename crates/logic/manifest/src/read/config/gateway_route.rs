//! gateway.networking.k8s.io HTTPRoute, GRPCRoute and TCPRoute.

use crate::{
    object::GatewayRouteSpec,
    read::Meta,
    reader::{At, Reader},
};

/// `spec`.
pub(super) fn spec(
    reader: &mut Reader,
    at: &At<'_>,
    _meta: &Meta<'_>,
    _kind: crate::object::ConfigKind,
) -> Option<GatewayRouteSpec> {
    reader.map(at)?;
    Some(GatewayRouteSpec {})
}
