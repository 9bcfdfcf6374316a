//! JSON as YAML that people read: blocks, two spaces deep, no comments. What might be read as something else is quoted.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Map, Value};

/// One document.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0);
    text
}

fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) => {
            for (key, value) in sorted(fields) {
                indent(text, depth);
                field(text, key, value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(text, depth);
                text.push_str("- ");
                self::item(text, item, depth);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&scalar(value));
            text.push('\n');
        }
    }
}

/// What follows a key.
fn field(text: &mut String, key: &str, value: &Value, depth: usize) {
    text.push_str(&quoted(key));
    text.push(':');
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            block(text, value, depth + 1);
        }
        // A list stands below its key, as deep as that.
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(text, value, depth);
        }
        Value::Object(_) => text.push_str(" {}\n"),
        Value::Array(_) => text.push_str(" []\n"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            // A write to a String cannot fail.
            let _written = writeln!(text, " {}", scalar(value)).is_ok();
        }
    }
}

/// What follows a dash: the first field of a map stands on its line.
fn item(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (at, (key, value)) in sorted(fields).into_iter().enumerate() {
                if at > 0 {
                    indent(text, depth + 1);
                }
                field(text, key, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(text, value, depth + 1);
        }
        Value::Object(_) => text.push_str("{}\n"),
        Value::Array(_) => text.push_str("[]\n"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&scalar(value));
            text.push('\n');
        }
    }
}

/// By name, in whatever order they were put together.
fn sorted(fields: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    fields.iter().collect()
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Plain where nobody could read it as anything but text.
fn quoted(text: &str) -> String {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let inside = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | ':' | '='));
    let meant = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_plain = first && inside && !text.ends_with(':') && !meant.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let value = json!({
            "texts": ["plain", "", "true", "No", "1", "1e3", "0x1", "a: b", "a #b", "- x", "*a", "é", "a\nb", "~", "a:", ".5", "[x]"],
            "numbers": [1, -1, 0, 2.5], "others": [true, null], "empty": {"a": {}, "b": [], "c": [{}, [], [[1]]]},
            "deep": [{"a": [{"b": 1, "c": {"d": "e"}}], "x": "y"}], "app.kubernetes.io/name": "weir", "on": "y",
        });
        let text = document(&value);
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, value, "{text}");
    }
}
