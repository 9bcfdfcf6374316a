//! networking.istio.io/v1 DestinationRule, as its author wrote it.

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRuleSpec {}
