//! What is to be told to the author of an object.

use std::fmt;

use serde::Serialize;
use weir_manifest::{ConfigObject, Origin};

/// Something about an object that its author should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its kind, such as `VirtualService`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The generation of it that this is said of, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The file and line, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The same for programs; its line is 0 where there is no file.
    #[serde(skip)]
    pub origin: Origin,
    /// The path of the field, such as `spec.http[0].route[1]`; empty for the whole object.
    pub field: String,
    /// What kind of thing it is.
    pub reason: FindingReason,
    /// What it is, what was expected, and what is done.
    pub message: String,
}

/// What kind of thing is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum FindingReason {
    /// It is not legal and has no effect, or its last legal form stays in force.
    Invalid,
    /// A host, service or port that nobody has.
    UnknownHost,
    /// A subset that no DestinationRule has.
    UnknownSubset,
    /// A delegate that is missing, is itself delegating or would come round to itself.
    BadDelegate,
    /// Another object says something about the same, and counts.
    Conflicted,
    /// It may not be seen from there: `exportTo`, ReferenceGrant.
    NotPermitted,
    /// It asks for something that this version does not do: what is done instead, the message says.
    Unsupported,
    /// It has no effect: no request ever comes to it.
    NoEffect,
}

impl FindingReason {
    /// As one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::UnknownHost => "UnknownHost",
            Self::UnknownSubset => "UnknownSubset",
            Self::BadDelegate => "BadDelegate",
            Self::Conflicted => "Conflicted",
            Self::NotPermitted => "NotPermitted",
            Self::Unsupported => "Unsupported",
            Self::NoEffect => "NoEffect",
        }
    }
}

impl Finding {
    /// Something about an object, at a field.
    pub fn new(of: &ConfigObject, field: impl Into<String>, reason: FindingReason, message: impl Into<String>) -> Self {
        let place = (of.origin.line > 0).then(|| of.origin.to_string());
        Self {
            kind: of.kind.name().to_owned(),
            namespace: of.namespace.to_string(),
            name: of.name.to_string(),
            generation: of.generation,
            place,
            origin: of.origin.clone(),
            field: field.into(),
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        write!(f, ": {}", self.message)?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, " ({place})"))
    }
}
