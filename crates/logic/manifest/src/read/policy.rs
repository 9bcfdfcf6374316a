//! A policy of Istio, as far as this version reads it: whom it covers.

use std::sync::Arc;

use weir_model::{Namespace, PolicyKind};

use crate::{
    object::{Labels, PolicyObject, PolicySpec, PolicyTarget},
    reader::{Fields, Reader},
};

/// A policy. Whatever is wrong with what it says of whom it covers makes it cover its whole namespace: too many are safe.
pub(crate) fn policy(
    mut reader: Reader,
    object: Option<&Fields<'_>>,
    kind: PolicyKind,
    namespace: Namespace,
    name: Arc<str>,
) -> PolicyObject {
    let selector = object.and_then(|object| selector(&mut reader, object));
    let selector = selector.filter(|labels| reader.errors.is_empty() && !labels.is_empty());
    let target = selector.map_or(PolicyTarget::All, PolicyTarget::Selector);
    let spec = PolicySpec::Rejected("this version does not enforce policies".into());
    PolicyObject { origin: reader.origin, kind, namespace, name, created: None, generation: None, target, spec }
}

/// `spec.selector.matchLabels`; nothing when it is not the only thing that selects.
fn selector(reader: &mut Reader, object: &Fields<'_>) -> Option<Labels> {
    let spec = reader.map(&object.field("spec")?)?;
    if spec.field("targetRef").is_some() || spec.field("targetRefs").is_some() {
        return None;
    }
    let selector = reader.fields(&spec.field("selector")?, &["matchLabels"])?;
    Some(reader.texts(selector.field("matchLabels")).owned())
}
