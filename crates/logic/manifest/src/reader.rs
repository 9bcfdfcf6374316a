//! A walk over one object's tree that collects every error, each with its path.
//!
//! A read answers `None` when it failed and has said so, or when there was nothing to read; the object is kept only if
//! nothing at all was said. Null and absent are the same, as in Kubernetes.

use std::{borrow::Cow, collections::BTreeMap, str::FromStr, sync::Arc};

use weir_model::{NameError, Port};

use crate::{
    error::{Cause, ManifestError, ObjectRef, Origin},
    tree::{Node, Value},
};

/// Most errors that are kept of one object.
const MAX_ERRORS: usize = 1_000;

/// What a field that nobody here knows means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// A typo of whoever wrote it.
    Refused,
    /// A Kubernetes newer than this program: an API server has no typos.
    Ignored,
}

/// The object being read, and what was found wrong with it.
pub(crate) struct Reader {
    pub(crate) origin: Origin,
    unknown: Unknown,
    pub(crate) object: Option<ObjectRef>,
    pub(crate) errors: Vec<ManifestError>,
    /// How many there were, kept or not.
    pub(crate) told: usize,
}

/// A value and the path that led to it.
#[derive(Clone)]
pub(crate) struct At<'n> {
    pub(crate) node: &'n Node,
    pub(crate) path: String,
}

/// The fields of one map.
pub(crate) struct Fields<'n> {
    fields: &'n [(String, Arc<Node>)],
    path: String,
    line: usize,
}

impl<'n> Fields<'n> {
    /// The fields of a map that is not there.
    pub(crate) fn absent(path: &str, line: usize) -> Self {
        Self { fields: &[], path: path.to_owned(), line }
    }

    /// All fields with their names, null ones too.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'n str, At<'n>)> {
        self.fields.iter().map(|(key, node)| (key.as_str(), At { node, path: join(&self.path, key) }))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The field, unless it is absent or null.
    pub(crate) fn field(&self, name: &str) -> Option<At<'n>> {
        let (key, node) = self.fields.iter().find(|(key, _)| key == name)?;
        (!matches!(node.value, Value::Null)).then(|| At { node, path: join(&self.path, key) })
    }

    /// The path of a field, there or not.
    pub(crate) fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// The line of a field, or of the map when the field is not there.
    pub(crate) fn line(&self, name: &str) -> usize {
        self.field(name).map_or(self.line, |at| at.node.line)
    }
}

/// A path one level deeper; keys that are no plain words stand in brackets.
fn join(path: &str, key: &str) -> String {
    let word = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match (path.is_empty(), word) {
        (true, true) => key.to_owned(),
        (false, true) => [path, ".", key].concat(),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

impl Reader {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, unknown: Unknown::Refused, object: None, errors: Vec::new(), told: 0 }
    }

    /// A reader of what an API server sent.
    pub(crate) fn lenient(origin: Origin) -> Self {
        Self { unknown: Unknown::Ignored, ..Self::new(origin) }
    }

    /// From here on a field that nobody here knows is an error: it may narrow what the others say.
    pub(crate) fn strictly(&mut self) {
        self.unknown = Unknown::Refused;
    }

    /// Notes an error at a path and line.
    pub(crate) fn fail_at(&mut self, path: String, line: usize, cause: Cause) {
        self.told = self.told.saturating_add(1);
        let (path, cause) = match self.errors.len() {
            0..MAX_ERRORS => (path, cause),
            MAX_ERRORS => (String::new(), Cause::Exceeds { what: "errors in one object", max: MAX_ERRORS }),
            _ => return,
        };
        let origin = Origin { line, ..self.origin.clone() };
        self.errors.push(ManifestError { origin, object: self.object.clone(), field: path, cause });
    }

    /// Notes an error at a value.
    pub(crate) fn fail(&mut self, at: &At<'_>, cause: Cause) {
        self.fail_at(at.path.clone(), at.node.line, cause);
    }

    /// Notes that a value is not what it should be.
    pub(crate) fn expected<T>(&mut self, at: &At<'_>, expected: &'static str) -> Option<T> {
        self.fail(at, Cause::Expected { expected, found: at.node.found() });
        None
    }

    /// The fields of a map; a field that is not among the known ones is an error, unless [`Unknown::Ignored`].
    pub(crate) fn fields<'n>(&mut self, at: &At<'n>, known: &[&'static str]) -> Option<Fields<'n>> {
        let fields = self.map(at)?;
        for (key, node) in fields.fields {
            if self.unknown == Unknown::Refused && !known.contains(&key.as_str()) {
                let cause = Cause::UnknownField { nearest: nearest(key, known) };
                self.fail_at(join(&at.path, key), node.line, cause);
            }
        }
        Some(fields)
    }

    /// The fields of a map, known or not.
    pub(crate) fn map<'n>(&mut self, at: &At<'n>) -> Option<Fields<'n>> {
        match &at.node.value {
            Value::Map(fields) => Some(Fields { fields, path: at.path.clone(), line: at.node.line }),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                self.expected(at, "a map")
            }
        }
    }

    /// A field that must be there.
    pub(crate) fn required<'n>(&mut self, fields: &Fields<'n>, name: &str, expected: &'static str) -> Option<At<'n>> {
        let at = fields.field(name);
        if at.is_none() {
            self.fail_at(fields.path(name), fields.line, Cause::Missing { expected });
        }
        at
    }

    /// The items of a list; none when it is absent.
    pub(crate) fn items<'n>(&mut self, at: Option<At<'n>>) -> Vec<At<'n>> {
        let Some(at) = at else { return Vec::new() };
        match &at.node.value {
            Value::List(items) => {
                let place = |(i, node): (usize, &'n Arc<Node>)| At { node, path: format!("{}[{i}]", at.path) };
                items.iter().enumerate().map(place).collect()
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
                self.expected::<()>(&at, "a list");
                Vec::new()
            }
        }
    }

    /// The items of a list of at most `max`; none when it is absent or longer.
    pub(crate) fn few<'n>(&mut self, at: Option<At<'n>>, what: &'static str, max: usize) -> Vec<At<'n>> {
        match &at {
            Some(At { node: Node { value: Value::List(items), .. }, .. }) if items.len() > max => {
                if let Some(at) = &at {
                    self.fail(at, Cause::Exceeds { what, max });
                }
                Vec::new()
            }
            Some(_) | None => self.items(at),
        }
    }

    pub(crate) fn text<'n>(&mut self, at: &At<'n>) -> Option<&'n str> {
        match &at.node.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                self.expected(at, "text")
            }
        }
    }

    pub(crate) fn boolean(&mut self, at: Option<At<'_>>) -> Option<bool> {
        let at = at?;
        match &at.node.value {
            Value::Bool(value) => Some(*value),
            Value::Null | Value::Int(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                self.expected(&at, "true or false")
            }
        }
    }

    /// A port number.
    pub(crate) fn port(&mut self, at: &At<'_>) -> Option<Port> {
        let number = match &at.node.value {
            Value::Int(number) => Port::try_from(*number).ok(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        match number {
            Some(port) => Some(port),
            None => self.expected(at, "a port, 1 to 65535"),
        }
    }

    /// A whole number of two bytes, such as a status.
    pub(crate) fn expect_u16(&mut self, at: &At<'_>, expected: &'static str) -> Option<u16> {
        let number = match &at.node.value {
            Value::Int(number) => u16::try_from(*number).ok(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        number.or_else(|| self.expected(at, expected))
    }

    /// Text that `FromStr` takes.
    pub(crate) fn parse<T: FromStr>(&mut self, at: &At<'_>, expected: &'static str) -> Option<T> {
        match self.text(at)?.parse() {
            Ok(value) => Some(value),
            Err(_) => self.expected(at, expected),
        }
    }

    /// Text that is a name.
    pub(crate) fn name<T: FromStr<Err = NameError>>(&mut self, at: &At<'_>) -> Option<T> {
        match self.text(at)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(at, Cause::Name(error));
                None
            }
        }
    }

    /// Text, absent when it is empty.
    pub(crate) fn some_text<'n>(&mut self, at: Option<At<'n>>) -> Option<(&'n str, At<'n>)> {
        let at = at?;
        let text = self.text(&at)?;
        (!text.is_empty()).then_some((text, at))
    }

    /// A map of texts to texts, such as labels.
    pub(crate) fn texts<'n>(&mut self, at: Option<At<'n>>) -> Texts<'n> {
        let mut texts = Texts::default();
        let Some(at) = at else { return texts };
        let Some(fields) = self.map(&at) else { return texts };
        for (key, node) in fields.fields {
            let at = At { node, path: join(&fields.path, key) };
            // A label without a value is a label with an empty one.
            let text = if matches!(node.value, Value::Null) { Some("") } else { self.text(&at) };
            if let Some(text) = text {
                texts.0.insert(key, (text, at));
            }
        }
        texts
    }
}

/// Labels or annotations, each with its place.
#[derive(Default)]
pub(crate) struct Texts<'n>(BTreeMap<&'n str, (&'n str, At<'n>)>);

impl<'n> Texts<'n> {
    /// The text and its place.
    pub(crate) fn at(&self, key: &str) -> Option<(&'n str, At<'n>)> {
        self.0.get(key).cloned()
    }

    /// All of them, owned.
    pub(crate) fn owned(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.0.iter().map(|(key, (text, _))| (Arc::from(*key), Arc::from(*text))).collect()
    }
}

/// The known name within two edits of an unknown one, or the same in another case.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key: Cow<'_, str> = key.chars().take(64).collect();
    known.iter().map(|name| (edits(&key, name), *name)).filter(|(edits, _)| *edits <= 2).min().map(|(_, name)| name)
}

/// Levenshtein's distance, letters compared without case.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
