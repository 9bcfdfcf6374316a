//! gateway.networking.k8s.io HTTPRoute, GRPCRoute and TCPRoute, as its author wrote it.

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayRouteSpec {}
