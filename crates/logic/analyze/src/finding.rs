//! One finding.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};
use weir_manifest::{ObjectRef, Origin};

use crate::{Code, Severity};

/// Where findings are explained.
const DOCUMENT: &str = "https://github.com/weir-mesh/weir/blob/main/docs/analyze.md";

/// Something an author should know of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// The object; of a file that cannot be read at all nothing.
    pub object: Option<ObjectRef>,
    /// The path of the field, such as `spec.http[0].route[1]`; empty for the whole object.
    pub field: String,
    /// What kind it is.
    pub code: Code,
    /// What it is, what was expected, and what is done.
    pub message: String,
    /// What may have been meant, such as `did you mean "web"?`; empty when nobody knows.
    pub hint: String,
    /// File and line, where there are any.
    pub origin: Option<Origin>,
}

impl Finding {
    pub(crate) fn new(
        object: ObjectRef,
        field: impl Into<String>,
        code: Code,
        message: impl Into<String>,
        origin: Option<Origin>,
    ) -> Self {
        let (field, message) = (field.into(), message.into());
        let origin = origin.filter(|origin| origin.line > 0);
        Self { object: Some(object), field, code, message, hint: String::new(), origin }
    }

    /// The same, with what may have been meant.
    pub(crate) fn meaning(mut self, meant: Option<String>) -> Self {
        self.hint = meant.map_or(String::new(), |meant| format!("did you mean {meant:?}?"));
        self
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        self.code.advice()
    }

    /// `file:line`, where there is one.
    pub fn place(&self) -> Option<String> {
        self.origin.as_ref().map(|origin| match origin.line {
            0 => origin.file.to_string(),
            line => format!("{}:{line}", origin.file),
        })
    }

    /// Field and message, without object and place.
    pub fn text(&self) -> String {
        let mut text = match self.field.as_str() {
            "" => self.message.clone(),
            field => format!("{field}: {}", self.message),
        };
        if !self.hint.is_empty() {
            text.push_str("; ");
            text.push_str(&self.hint);
        }
        text
    }

    /// The object as istioctl writes it, such as `VirtualService shop/cart`.
    pub fn subject(&self) -> String {
        self.object.as_ref().map_or_else(String::new, ToString::to_string)
    }
}

impl fmt::Display for Finding {
    /// As istioctl writes it: `Error [IST0101] (VirtualService shop/cart a.yaml:3) spec.http[0]: ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place().unwrap_or_default();
        let subject = self.subject();
        let gap = if subject.is_empty() || place.is_empty() { "" } else { " " };
        write!(f, "{} [{}] ({subject}{gap}{place}) {}", self.severity(), self.code, self.text())
    }
}

impl Serialize for Finding {
    /// With the names of istioctl's, and ours beside them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 8)?;
        fields.serialize_field("code", self.code.as_str())?;
        fields.serialize_field("level", &self.severity().to_string())?;
        fields.serialize_field("origin", &self.subject())?;
        fields.serialize_field("reference", &self.place())?;
        fields.serialize_field("field", &self.field)?;
        fields.serialize_field("message", &self.text())?;
        fields.serialize_field("advice", self.advice())?;
        let url = format!("{DOCUMENT}#{}-{}", self.code, self.severity()).to_ascii_lowercase();
        fields.serialize_field("documentationUrl", &url)?;
        fields.end()
    }
}
