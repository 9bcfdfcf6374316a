//! gateway.networking.k8s.io/v1beta1 ReferenceGrant.

use crate::{
    object::ReferenceGrantSpec,
    read::Meta,
    reader::{At, Reader},
};

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<ReferenceGrantSpec> {
    reader.map(at)?;
    Some(ReferenceGrantSpec {})
}
