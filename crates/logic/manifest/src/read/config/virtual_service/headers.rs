//! Changes of headers. Istio `Headers`.

use weir_route::{HeaderChanges, HeaderName, HeaderValue};

use super::{MAX_ENTRIES, Reading};
use crate::{object::VirtualHeaders, reader::At};

const VALUE: &str = "a plain value: Envoy's %COMMANDS% are not known, and a '%' alone is written \"%%\"";

impl Reading<'_> {
    /// `headers`.
    pub(super) fn headers(&mut self, at: &At<'_>) -> Option<VirtualHeaders> {
        let fields = self.reader.fields(at, &["request", "response"])?;
        let mut changes = |name: &str| match fields.field(name) {
            Some(at) => self.changes(&at),
            None => Some(HeaderChanges::default()),
        };
        let (request, response) = (changes("request"), changes("response"));
        Some(VirtualHeaders { request: request?, response: response? })
    }

    fn changes(&mut self, at: &At<'_>) -> Option<HeaderChanges> {
        let fields = self.reader.fields(at, &["add", "remove", "set"])?;
        let set = self.header_values(fields.field("set"));
        let add = self.header_values(fields.field("add"));
        let items = self.reader.few(fields.field("remove"), "headers", MAX_ENTRIES);
        let remove = items.iter().filter_map(|at| {
            let name = self.text(at)?;
            self.header_name(at, name)
        });
        let remove = remove.collect();
        self.usable(at, HeaderChanges::new(set, add, remove))
    }

    fn header_values(&mut self, at: Option<At<'_>>) -> Vec<HeaderValue> {
        let entries = self.entries(at);
        let values = entries.iter().filter_map(|(name, at)| {
            let name = self.header_name(at, name);
            let text = self.long_text(at)?;
            let Some(value) = plain(text) else { return self.reader.expected(at, VALUE) };
            self.usable(at, HeaderValue::new(name?, &value))
        });
        values.collect()
    }

    /// The name of a header. That of HTTP/2 for the host is its old one here.
    pub(super) fn header_name(&mut self, at: &At<'_>, text: &str) -> Option<HeaderName> {
        let text = if text == ":authority" { "host" } else { text };
        self.usable(at, text.parse())
    }
}

/// The value that Envoy would send: `%%` is a percent sign, and any other one begins a command.
fn plain(text: &str) -> Option<String> {
    let mut made = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(found) = chars.next() {
        if found == '%' && chars.next() != Some('%') {
            return None;
        }
        made.push(found);
    }
    Some(made)
}
