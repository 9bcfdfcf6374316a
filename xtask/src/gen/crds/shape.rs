//! What a value may be, and how OpenAPI v3 says it. Kubernetes, structural schemas.

use serde_json::{Map, Value, json};

/// What a value may be.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// Text of so many letters.
    Text { least: u32, most: u32 },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number, from one to the other.
    Whole(i64, i64),
    /// A number, from one to the other.
    Number(u32, u32),
    /// `true` or `false`.
    Flag,
    /// So many of it at most.
    List(Box<Shape>, u32),
    /// Values by names of the author's choice.
    Map(Box<Shape>),
    /// Fields, those that must be there with `true`.
    Object(Vec<(&'static str, Shape, bool)>),
    /// Anything with fields.
    Open,
}

/// Text.
pub(super) fn text() -> Shape {
    Shape::Text { least: 0, most: 4096 }
}

/// Text that is not empty.
pub(super) fn name() -> Shape {
    Shape::Text { least: 1, most: 4096 }
}

/// Longer text, such as keys and bodies.
pub(super) fn long() -> Shape {
    Shape::Text { least: 0, most: 1 << 20 }
}

/// One of these words.
pub(super) fn word(words: &'static [&'static str]) -> Shape {
    Shape::Word(words)
}

/// A whole number of 32 bits.
pub(super) fn count() -> Shape {
    Shape::Whole(0, u32::MAX.into())
}

/// A port.
pub(super) fn port() -> Shape {
    Shape::Whole(1, 65_535)
}

/// A list.
pub(super) fn list(of: Shape, most: u32) -> Shape {
    Shape::List(Box::new(of), most)
}

/// Values by names.
pub(super) fn map(of: Shape) -> Shape {
    Shape::Map(Box::new(of))
}

/// Fields. A name with `*` behind it must be there.
pub(super) fn object(fields: impl IntoIterator<Item = (&'static str, Shape)>) -> Shape {
    let field = |(name, shape): (&'static str, Shape)| match name.strip_suffix('*') {
        Some(name) => (name, shape, true),
        None => (name, shape, false),
    };
    Shape::Object(fields.into_iter().map(field).collect())
}

/// Anything with fields.
pub(super) fn open() -> Shape {
    Shape::Open
}

impl Shape {
    /// As OpenAPI says it.
    pub(super) fn schema(&self) -> Value {
        match self {
            Self::Text { least: 0, most } => json!({"type": "string", "maxLength": most}),
            Self::Text { least, most } => json!({"type": "string", "minLength": least, "maxLength": most}),
            Self::Word(words) => json!({"type": "string", "enum": words}),
            Self::Whole(least, most) => {
                json!({"type": "integer", "format": "int64", "minimum": least, "maximum": most})
            }
            Self::Number(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
            Self::Flag => json!({"type": "boolean"}),
            Self::List(of, most) => json!({"type": "array", "maxItems": most, "items": of.schema()}),
            Self::Map(of) => json!({"type": "object", "additionalProperties": of.schema()}),
            Self::Object(fields) => {
                let properties: Map<String, Value> =
                    fields.iter().map(|(name, shape, _)| ((*name).to_owned(), shape.schema())).collect();
                let required: Vec<&str> = fields.iter().filter(|field| field.2).map(|field| field.0).collect();
                let mut schema = json!({"type": "object", "properties": properties});
                if !required.is_empty() {
                    schema["required"] = json!(required);
                }
                schema
            }
            Self::Open => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        }
    }

    /// For each field below this, its path and a value that has it.
    #[cfg(test)]
    pub(super) fn samples(&self) -> Vec<(String, Value)> {
        match self {
            Self::Text { .. } => vec![(String::new(), json!("a"))],
            Self::Word(words) => vec![(String::new(), json!(words[0]))],
            Self::Whole(least, _) => vec![(String::new(), json!(least))],
            Self::Number(least, _) => vec![(String::new(), json!(least))],
            Self::Flag => vec![(String::new(), json!(true))],
            Self::List(of, _) => {
                of.samples().into_iter().map(|(path, value)| (format!("[]{path}"), json!([value]))).collect()
            }
            Self::Map(of) => {
                of.samples().into_iter().map(|(path, value)| (format!(".a{path}"), json!({"a": value}))).collect()
            }
            Self::Object(fields) => {
                let below = |(name, shape, _): &(&'static str, Shape, bool)| {
                    let (name, samples) = (*name, shape.samples());
                    samples.into_iter().map(move |(path, value)| (format!(".{name}{path}"), json!({name: value})))
                };
                fields.iter().flat_map(below).collect()
            }
            Self::Open => vec![(String::new(), json!({}))],
        }
    }
}
