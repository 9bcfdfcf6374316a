//! What can be wrong with a manifest, and where: each error names file, line, object and field, what was expected and what was found.

use std::{fmt, net::IpAddr, sync::Arc};

use weir_model::NameError;

use crate::jwks::JwksError;

/// Most of a found text that is repeated in an error, in characters.
const SHOWN: usize = 80;

/// The name of a source, as a person knows it: a file's path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<str>);

impl FileName {
    /// A name; any text will do.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kind, namespace and name of an object, as far as they could be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// `kind`.
    pub kind: Arc<str>,
    /// `metadata.namespace`, or the default; absent for what has none.
    pub namespace: Option<Arc<str>>,
    /// `metadata.name`, empty when it could not be read.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "(no name)" } else { &self.name };
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{name}", self.kind),
            None => write!(f, "{} {name}", self.kind),
        }
    }
}

/// Where an object was declared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The file.
    pub file: FileName,
    /// The document within it, counted from 1.
    pub document: usize,
    /// The line the object starts on, counted from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} (document {})", self.file, self.line, self.document)
    }
}

/// One thing wrong with the manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// File, document and line of what is wrong. Line 0 is the file as a whole.
    pub origin: Origin,
    /// The object it belongs to, once one was recognised.
    pub object: Option<ObjectRef>,
    /// The field's path in the object, such as `spec.ports[0].port`; empty for the object as a whole.
    pub field: String,
    /// What is wrong.
    pub cause: Cause,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin.line == 0 {
            write!(f, "{}: ", self.origin.file)?;
        } else {
            write!(f, "{}: ", self.origin)?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        self.cause.fmt(f)
    }
}

impl std::error::Error for ManifestError {}

/// What is wrong and where in the object, one error a line and at most `max` bytes; what does not fit is counted.
pub(crate) fn lines(errors: &[ManifestError], max: usize) -> String {
    let mut text = String::new();
    for (told, error) in errors.iter().enumerate() {
        let line = match error.field.as_str() {
            "" => format!("{}\n", error.cause),
            field => format!("{field}: {}\n", error.cause),
        };
        // So much is left for the count that its line always fits.
        if text.len() + line.len() + 32 > max {
            text.push_str(&format!("and {} more", errors.len() - told));
            return text;
        }
        text.push_str(&line);
    }
    text.truncate(text.trim_end().len());
    text
}

/// A value as it was found, short enough to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Absent or null.
    Nothing,
    /// `true` or `false`, also written `yes`, `off` and so on.
    Boolean(bool),
    /// A number, as written.
    Number(String),
    /// Text, cut when it is long.
    Text(String),
    /// A list of so many items.
    List(usize),
    /// A map of so many fields.
    Map(usize),
}

impl Found {
    /// Found text, cut to what an error line can carry.
    pub fn text(text: &str) -> Self {
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self::Text(shown)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Boolean(value) => write!(f, "the boolean {value} (quote it if it is meant as text)"),
            Self::Number(text) => write!(f, "the number {text}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => write!(f, "a list of {items}"),
            Self::Map(fields) => write!(f, "a map of {fields} fields"),
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The text is no YAML.
    #[error("no YAML at column {column}: {reason}")]
    Syntax {
        /// Counted from 1.
        column: usize,
        /// The parser's words.
        reason: String,
    },
    /// The file is larger than is read.
    #[error("the file has {len} bytes, at most {max} are read")]
    FileTooLarge {
        /// Bytes it has.
        len: usize,
        /// Bytes it may have.
        max: usize,
    },
    /// All files together hold more documents than are read.
    #[error("more than {max} documents")]
    TooManyDocuments {
        /// Documents there may be.
        max: usize,
    },
    /// A document is larger than is read once its aliases are unfolded.
    #[error("the document has more than {max} values once its aliases are unfolded")]
    TooManyNodes {
        /// Values there may be.
        max: u64,
    },
    /// A document is nested deeper than is read.
    #[error("nested deeper than {max} levels")]
    TooDeep {
        /// Levels there may be.
        max: usize,
    },
    /// An alias stands inside the value it repeats.
    #[error("an alias stands inside the value it repeats")]
    AliasInsideItself,
    /// A YAML tag that is not one of YAML's own.
    #[error("the tag {tag} has no meaning here")]
    Tag {
        /// As written.
        tag: String,
    },
    /// A map has one key twice.
    #[error("the key {key:?} stands here and on line {first}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Line of the first.
        first: usize,
    },
    /// A map's key is a list, a map or an alias.
    #[error("a key must be plain text")]
    KeyNotText,
    /// A value of another type or form.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// In words.
        expected: &'static str,
        /// What is there.
        found: Found,
    },
    /// A field that must be there is not.
    #[error("missing, expected {expected}")]
    Missing {
        /// In words.
        expected: &'static str,
    },
    /// A field Kubernetes does not have at this place.
    #[error("unknown field{}", nearest.map(|n| format!(", did you mean {n:?}?")).unwrap_or_default())]
    UnknownField {
        /// The known field that is written most alike, if one is.
        nearest: Option<&'static str>,
    },
    /// A name Kubernetes would refuse.
    #[error("{0}")]
    Name(NameError),
    /// No set of keys.
    #[error("no JSON Web Key Set: {0}")]
    Jwks(JwksError),
    /// A kind nobody here knows.
    #[error("unknown kind {kind:?} of apiVersion {api_version:?}")]
    UnknownKind {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
    /// A known kind in a version that is not read.
    #[error("{kind} is read as apiVersion {expected:?}, found {found:?}")]
    ApiVersion {
        /// `kind`.
        kind: String,
        /// The version that is read.
        expected: &'static str,
        /// The version found.
        found: String,
    },
    /// A value that its meaning does not allow.
    #[error("{reason}")]
    Illegal {
        /// The words of who would act on it.
        reason: String,
    },
    /// A label or annotation at a place where nobody looks for it. It is refused, lest someone relies on it.
    #[error("is read as {expected} only")]
    Misplaced {
        /// In words.
        expected: &'static str,
    },
    /// More of something than is read.
    #[error("more than {max} {what}")]
    Exceeds {
        /// Of what.
        what: &'static str,
        /// As many there may be.
        max: usize,
    },
    /// Fields that exclude each other.
    #[error("not together with {other}")]
    NotWith {
        /// The others.
        other: &'static str,
    },
    /// A field that means nothing without another.
    #[error("only together with {other}")]
    OnlyWith {
        /// The other, in words.
        other: &'static str,
    },
    /// Two objects of one kind, namespace and name.
    #[error("declared already in {first}")]
    DuplicateObject {
        /// Where the first is.
        first: Origin,
    },
    /// Two running pods with one address.
    #[error("{address} is also the address of {other}, declared in {first}")]
    SharedPodAddress {
        /// The address.
        address: IpAddr,
        /// The other pod.
        other: Box<ObjectRef>,
        /// Where the other is declared.
        first: Origin,
    },
    /// Two services with one cluster address.
    #[error("{address} is also an address of {other}, declared in {first}")]
    SharedServiceAddress {
        /// The address.
        address: IpAddr,
        /// The other service.
        other: Box<ObjectRef>,
        /// Where the other is declared.
        first: Origin,
    },
    /// Two items of a list that must differ do not.
    #[error("the same {what} as {first}")]
    Repeated {
        /// Of what.
        what: &'static str,
        /// Path of the first.
        first: String,
    },
    /// Two fields contradict each other.
    #[error("contradicts {other}: {found}")]
    Contradiction {
        /// Path of the other field.
        other: &'static str,
        /// What is there.
        found: Found,
    },
}
