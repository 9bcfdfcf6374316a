//! networking.istio.io/v1 VirtualService, as its author wrote it.

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualServiceSpec {}
