//! YAML and JSON text to trees that remember their lines, within bounds.
//!
//! In: one file's text. Out: its documents, each a tree or the reason it is none; a broken document does not hide the
//! next. Scalars are read as Kubernetes reads them (YAML 1.1 booleans included), so that `version: 0.1` is a number here
//! too. Aliases share their target; a tree that would unfold beyond the bounds is refused.

pub(crate) mod json;

use std::{collections::HashMap, sync::Arc};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::error::{Cause, Found};

/// Nodes of one document once its aliases are unfolded. An object of etcd's limit of 1.5 MiB stays well below.
const MAX_NODES: u64 = 1 << 20;
/// Nesting of one document once its aliases are unfolded. Bounds the recursion of everyone who walks a tree.
const MAX_DEPTH: u16 = 128;

/// One value, and the line it starts on.
#[derive(Debug)]
pub(crate) struct Node {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) value: Value,
    /// Nodes in here, aliases unfolded.
    size: u64,
    depth: u16,
}

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// A number that is no `i64`, as written.
    Number(String),
    Text(String),
    List(Vec<Arc<Node>>),
    Map(Vec<(String, Arc<Node>)>),
}

impl Node {
    fn scalar(line: usize, value: Value) -> Self {
        Self { line, value, size: 1, depth: 1 }
    }

    /// Whether it is a list without items: Istio takes it as not said.
    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::List(items) if items.is_empty())
    }

    /// What a person reads as "found".
    pub(crate) fn found(&self) -> Found {
        match &self.value {
            Value::Null => Found::Nothing,
            Value::Bool(value) => Found::Boolean(*value),
            Value::Int(value) => Found::Number(value.to_string()),
            Value::Number(text) => Found::Number(text.clone()),
            Value::Text(text) => Found::text(text),
            Value::List(items) => Found::List(items.len()),
            Value::Map(fields) => Found::Map(fields.len()),
        }
    }
}

/// One document of a file.
pub(crate) struct Document {
    /// Counted from 1.
    pub(crate) number: usize,
    /// The line it starts on, counted from 1.
    pub(crate) line: usize,
    /// Its tree, or why there is none and the line where that shows.
    pub(crate) root: Result<Arc<Node>, (usize, Cause)>,
}

/// All documents of a text, at most `limit`; the flag says whether there were more.
pub(crate) fn documents(text: &str, limit: usize) -> (Vec<Document>, bool) {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    let mut open: Option<Builder> = None;
    while let Some(event) = parser.next_event() {
        let number = documents.len() + 1;
        match event {
            Ok((Event::DocumentStart(..), _)) if documents.len() >= limit => return (documents, true),
            Ok((Event::DocumentStart(..), span)) => open = Some(Builder::new(span.start.line())),
            Ok((Event::DocumentEnd, _)) => {
                if let Some(builder) = open.take() {
                    documents.push(Document { number, line: builder.line, root: builder.finish() });
                }
            }
            Ok((event, span)) => {
                if let Some(Err(failure)) = open.as_mut().map(|builder| builder.take(event, span)) {
                    let line = open.take().map_or(failure.0, |builder| builder.line);
                    documents.push(Document { number, line, root: Err(failure) });
                    if !resume(&mut parser, &mut documents) {
                        break;
                    }
                }
            }
            Err(error) => {
                let failure = syntax(&error);
                let line = open.take().map_or(failure.0, |builder| builder.line);
                documents.push(Document { number, line, root: Err(failure) });
                if !resume(&mut parser, &mut documents) {
                    break;
                }
            }
        }
    }
    (documents, false)
}

/// Skips to the next document. A file whose rest cannot be scanned ends with a document that says so.
fn resume<'i>(parser: &mut Parser<'i, StrInput<'i>>, documents: &mut Vec<Document>) -> bool {
    parser.proceed_next_document().unwrap_or_else(|error| {
        let failure = syntax(&error);
        documents.push(Document { number: documents.len() + 1, line: failure.0, root: Err(failure) });
        false
    })
}

fn syntax(error: &ScanError) -> (usize, Cause) {
    (error.marker().line(), Cause::Syntax { column: error.marker().col() + 1, reason: error.info() })
}

/// A collection whose end has not been seen.
enum Frame {
    List {
        line: usize,
        anchor: usize,
        items: Vec<Arc<Node>>,
    },
    Map {
        line: usize,
        anchor: usize,
        fields: Vec<(String, Arc<Node>)>,
        names: HashMap<String, usize>,
        key: Option<String>,
    },
}

/// Builds one document's tree from events, without recursion.
struct Builder {
    line: usize,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Arc<Node>>,
    nodes: u64,
    root: Option<Arc<Node>>,
}

type Failure = (usize, Cause);

impl Builder {
    fn new(line: usize) -> Self {
        Self { line, frames: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None }
    }

    fn finish(self) -> Result<Arc<Node>, Failure> {
        Ok(self.root.unwrap_or_else(|| Arc::new(Node::scalar(self.line, Value::Null))))
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Failure> {
        let line = span.start.line();
        if self.frames.len() >= usize::from(MAX_DEPTH) {
            return Err((line, Cause::TooDeep { max: MAX_DEPTH.into() }));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(line, &text, style, anchor, tag.as_deref()),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => self.place(line, 0, node.clone()),
                None => Err((line, Cause::AliasInsideItself)),
            },
            Event::SequenceStart(_, anchor, tag) => {
                core_tag(line, tag.as_deref())?;
                self.frames.push(Frame::List { line, anchor, items: Vec::new() });
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                core_tag(line, tag.as_deref())?;
                self.frames.push(Frame::Map { line, anchor, fields: Vec::new(), names: HashMap::new(), key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.frames.pop() {
                Some(frame) => self.close(frame),
                None => Ok(()),
            },
            Event::UnresolvedAlias(_) => Err((line, Cause::AliasInsideItself)),
            // Marks without a value. `Event` may grow, so the list ends open.
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Anchor(..)
            | _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        line: usize,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), Failure> {
        core_tag(line, tag)?;
        if let Some(Frame::Map { names, key: key @ None, .. }) = self.frames.last_mut() {
            if let Some(first) = names.insert(text.to_owned(), line) {
                return Err((line, Cause::DuplicateKey { key: text.to_owned(), first }));
            }
            *key = Some(text.to_owned());
            if anchor != 0 {
                self.anchors.insert(anchor, Arc::new(Node::scalar(line, Value::Text(text.to_owned()))));
            }
            return Ok(());
        }
        let quoted = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        let value = if quoted { Value::Text(text.to_owned()) } else { plain(text) };
        self.place(line, anchor, Arc::new(Node::scalar(line, value)))
    }

    fn close(&mut self, frame: Frame) -> Result<(), Failure> {
        let (line, anchor, value, size, depth) = match frame {
            Frame::List { line, anchor, items } => {
                let (size, depth) = extent(items.iter());
                (line, anchor, Value::List(items), size, depth)
            }
            Frame::Map { line, anchor, fields, .. } => {
                let (size, depth) = extent(fields.iter().map(|(_, node)| node));
                (line, anchor, Value::Map(fields), size, depth)
            }
        };
        if size > MAX_NODES {
            return Err((line, Cause::TooManyNodes { max: MAX_NODES }));
        }
        if depth > MAX_DEPTH {
            return Err((line, Cause::TooDeep { max: MAX_DEPTH.into() }));
        }
        self.place(line, anchor, Arc::new(Node { line, value, size, depth }))
    }

    fn place(&mut self, line: usize, anchor: usize, node: Arc<Node>) -> Result<(), Failure> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err((line, Cause::TooManyNodes { max: MAX_NODES }));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { fields, key, .. }) => match key.take() {
                Some(key) => fields.push((key, node)),
                None => return Err((line, Cause::KeyNotText)),
            },
        }
        Ok(())
    }
}

fn extent<'n>(children: impl Iterator<Item = &'n Arc<Node>>) -> (u64, u16) {
    let (size, depth) =
        children.fold((1_u64, 0), |(size, depth), child| (size.saturating_add(child.size), child.depth.max(depth)));
    (size, depth.saturating_add(1))
}

/// Kubernetes has no use for tags beyond YAML's own; one of another kind asks for a meaning nobody here would give it.
fn core_tag(line: usize, tag: Option<&Tag>) -> Result<(), Failure> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err((line, Cause::Tag { tag: tag.original() })),
        Some(_) | None => Ok(()),
    }
}

/// A scalar without quotes, as Kubernetes' YAML reader resolves it.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Number(text.to_owned()),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Value::Number(text.to_owned());
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::Text(text.to_owned());
    }
    integer(text, digits).unwrap_or_else(|| {
        // `1_000.5` is a number to YAML 1.1; Rust's parser would also take `infinity`, which the first character rules out.
        match digits.replace('_', "").parse::<f64>() {
            Ok(_) => Value::Number(text.to_owned()),
            Err(_) => Value::Text(text.to_owned()),
        }
    })
}

fn integer(text: &str, digits: &str) -> Option<Value> {
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some(_) if digits.starts_with('0') && digits.bytes().all(|b| matches!(b, b'0'..=b'7' | b'_')) => {
            (8, &digits[1..])
        }
        Some(_) | None => (10, digits),
    };
    let digits = digits.replace('_', "");
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    Some(match i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        Ok(value) => Value::Int(value),
        Err(_) => Value::Number(text.to_owned()),
    })
}

#[cfg(test)]
#[path = "tree/tests.rs"]
mod tests;
