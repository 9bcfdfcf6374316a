//! networking.istio.io/v1 VirtualService.

use crate::{
    object::VirtualServiceSpec,
    read::Meta,
    reader::{At, Reader},
};

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<VirtualServiceSpec> {
    reader.map(at)?;
    Some(VirtualServiceSpec {})
}
