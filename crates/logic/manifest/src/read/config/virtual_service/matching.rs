//! What a rule asks of requests. Istio `HTTPMatchRequest`.

use weir_model::Namespace;
use weir_route::{AskerMatch, Case, HeaderName, StringMatch};

use super::{MAX_MATCHES, MAX_TEXT, Reading};
use crate::{
    object::{VirtualMatch, VirtualUri},
    reader::{At, Fields},
};

/// Headers that Istio ignores in `headers`, so that a match on one would match more than it says.
const IGNORED: &[&str] = &["uri", "scheme", "method", "authority"];

const FIELDS: &[&str] = &[
    "authority",
    "gateways",
    "headers",
    "ignoreUriCase",
    "method",
    "name",
    "port",
    "queryParams",
    "scheme",
    "sourceLabels",
    "sourceNamespace",
    "statPrefix",
    "uri",
    "withoutHeaders",
];

const NO_FIELD: &str = "a header other than uri, scheme, method and authority: those are fields beside headers";
const PARAMETER: &str = "a parameter's name as the key, of 1 to 4096 bytes";
const LABEL: &str = "a label's name of 1 to 317 bytes as the key, and a value of at most 63";

impl Reading<'_> {
    /// One more match of the object.
    pub(super) fn counts_match(&mut self, at: &At<'_>) -> Option<()> {
        let before = self.matches;
        self.matches += 1;
        self.within(at, [before, self.matches], "matches in one object", MAX_MATCHES)
    }

    /// One of `match`.
    pub(super) fn http_match(&mut self, at: &At<'_>) -> Option<VirtualMatch> {
        self.counts_match(at)?;
        let fields = self.reader.fields(at, FIELDS)?;
        Some(VirtualMatch {
            name: self.label(fields.field("name")),
            stat_prefix: self.label(fields.field("statPrefix")),
            uri: self.uri(&fields),
            scheme: self.compared(&fields, "scheme"),
            method: self.compared(&fields, "method"),
            authority: self.compared(&fields, "authority"),
            headers: self.header_matches(fields.field("headers")),
            without_headers: self.header_matches(fields.field("withoutHeaders")),
            query: self.query(fields.field("queryParams")),
            asker: self.asker(&fields),
        })
    }

    fn compared(&mut self, fields: &Fields<'_>, name: &str) -> Option<StringMatch> {
        let at = fields.field(name)?;
        self.comparison(&at)
    }

    fn uri(&mut self, fields: &Fields<'_>) -> Option<VirtualUri> {
        let case = match self.reader.boolean(fields.field("ignoreUriCase")) {
            Some(true) => Case::Ignored,
            Some(false) | None => Case::Counts,
        };
        let at = fields.field("uri")?;
        let text = self.comparison(&at)?;
        self.usable(&at, VirtualUri::new(text, case))?
    }

    fn header_matches(&mut self, at: Option<At<'_>>) -> Vec<(HeaderName, StringMatch)> {
        let entries = self.entries(at);
        let matches = entries.iter().filter_map(|(name, at)| {
            if IGNORED.contains(name) {
                return self.bad_key(at, name, NO_FIELD);
            }
            let name = self.usable(at, name.parse());
            let wanted = self.comparison(at)?;
            Some((name?, wanted))
        });
        matches.collect()
    }

    fn query(&mut self, at: Option<At<'_>>) -> Vec<(Box<str>, StringMatch)> {
        let entries = self.entries(at);
        let matches = entries.iter().filter_map(|(name, at)| {
            if name.is_empty() || name.len() > MAX_TEXT {
                return self.bad_key(at, name, PARAMETER);
            }
            Some(((*name).into(), self.comparison(at)?))
        });
        matches.collect()
    }

    /// Who asks, and for which port: alike in every kind of match.
    pub(super) fn asker(&mut self, fields: &Fields<'_>) -> AskerMatch {
        let port = fields.field("port").and_then(|at| self.reader.port(&at));
        let namespace = self.reader.some_text(fields.field("sourceNamespace"));
        let namespace = namespace.and_then(|(_, at)| self.reader.name::<Namespace>(&at));
        AskerMatch {
            port,
            labels: self.labels(fields.field("sourceLabels")),
            namespace,
            gateways: self.gateways(fields.field("gateways")),
        }
    }

    fn labels(&mut self, at: Option<At<'_>>) -> Vec<(Box<str>, Box<str>)> {
        let entries = self.entries(at);
        let labels = entries.iter().filter_map(|(name, at)| {
            let value = self.text(at)?;
            if name.is_empty() || name.len() > 317 || value.len() > 63 {
                return self.bad_key(at, name, LABEL);
            }
            Some(((*name).into(), value.into()))
        });
        labels.collect()
    }

    /// `match` of any kind of rule.
    pub(super) fn matches<T>(&mut self, rule: &Fields<'_>, read: fn(&mut Self, &At<'_>) -> Option<T>) -> Vec<T> {
        let items = self.reader.few(rule.field("match"), "matches", MAX_MATCHES);
        items.iter().filter_map(|at| read(self, at)).collect()
    }
}
