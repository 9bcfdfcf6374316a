//! networking.istio.io/v1 DestinationRule.

use crate::{
    object::DestinationRuleSpec,
    read::Meta,
    reader::{At, Reader},
};

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<DestinationRuleSpec> {
    reader.map(at)?;
    Some(DestinationRuleSpec {})
}
