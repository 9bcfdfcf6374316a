//! gateway.networking.k8s.io/v1beta1 ReferenceGrant, as its author wrote it.

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceGrantSpec {}
