//! From where a Gateway lets itself be named.

use std::{collections::BTreeSet, sync::Arc};

use weir_manifest::{LabelOperator, LabelSelector};
use weir_model::Namespace;

/// The label that every namespace has: its name.
const NAME: &str = "kubernetes.io/metadata.name";

/// The namespaces that a selector names by their names. The mesh knows no other label of theirs, so one that asks for another, or only says which it does
/// not mean, selects none: who is let in must be known.
pub(super) fn selected(selector: &LabelSelector) -> BTreeSet<Namespace> {
    let of_labels = selector.labels.iter().map(|(key, value)| (key, Some(vec![value.clone()])));
    let of_expressions = selector.expressions.iter().map(|one| match &one.operator {
        LabelOperator::In(values) => (&one.key, Some(values.clone())),
        LabelOperator::NotIn(_) | LabelOperator::Exists | LabelOperator::DoesNotExist => (&one.key, None),
    });
    let mut selected: Option<BTreeSet<Arc<str>>> = None;
    for (key, values) in of_labels.chain(of_expressions) {
        let Some(values) = values.filter(|_| &**key == NAME) else { return BTreeSet::new() };
        selected = Some(match selected {
            None => values.into_iter().collect(),
            Some(before) => values.into_iter().filter(|value| before.contains(value)).collect(),
        });
    }
    selected.into_iter().flatten().filter_map(|name| name.parse().ok()).collect()
}
