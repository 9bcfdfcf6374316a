//! networking.istio.io/v1 ServiceEntry.

use crate::{
    object::ServiceEntrySpec,
    read::Meta,
    reader::{At, Reader},
};

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<ServiceEntrySpec> {
    reader.map(at)?;
    Some(ServiceEntrySpec {})
}
