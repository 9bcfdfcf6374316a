//! meta/v1 LabelSelector.

use std::sync::Arc;

use crate::{
    error::Cause,
    object::{LabelExpression, LabelOperator, LabelSelector},
    reader::{At, Reader},
};

/// Most labels, expressions, or values of one.
const MAX: usize = 4_096;

/// A selector; an empty one selects everything.
pub(super) fn selector(reader: &mut Reader, at: &At<'_>) -> Option<LabelSelector> {
    let fields = reader.fields(at, &["matchExpressions", "matchLabels"])?;
    let labels = reader.texts(fields.field("matchLabels")).owned();
    if labels.len() > MAX {
        reader.fail(at, Cause::Exceeds { what: "labels", max: MAX });
    }
    let expressions = reader.few(fields.field("matchExpressions"), "matchExpressions", MAX);
    let expressions = expressions.iter().filter_map(|at| expression(reader, at)).collect();
    Some(LabelSelector { labels, expressions })
}

fn expression(reader: &mut Reader, at: &At<'_>) -> Option<LabelExpression> {
    let fields = reader.fields(at, &["key", "operator", "values"])?;
    let key = reader.required(&fields, "key", "a label's name").and_then(|at| reader.text(&at));
    let operator = reader.required(&fields, "operator", "how the label is compared");
    let values = reader.few(fields.field("values"), "values", MAX);
    let values: Vec<Arc<str>> = values.iter().filter_map(|at| reader.text(at)).map(Arc::from).collect();
    let (key, operator) = (key?, operator?);
    let operator = match (reader.text(&operator)?, values.is_empty()) {
        ("In", false) => LabelOperator::In(values),
        ("NotIn", false) => LabelOperator::NotIn(values),
        ("Exists", true) => LabelOperator::Exists,
        ("DoesNotExist", true) => LabelOperator::DoesNotExist,
        (_, true | false) => {
            return reader
                .expected(&operator, "\"In\" or \"NotIn\" with values, \"Exists\" or \"DoesNotExist\" without");
        }
    };
    Some(LabelExpression { key: key.into(), operator })
}
