//! gateway.networking.k8s.io/v1 Gateway, as its author wrote it.

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewaySpec {}
