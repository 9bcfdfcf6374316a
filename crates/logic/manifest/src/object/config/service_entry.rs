//! networking.istio.io/v1 ServiceEntry, as its author wrote it.

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceEntrySpec {}
