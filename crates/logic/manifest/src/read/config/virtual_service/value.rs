//! Values that stand in many places: numbers, shares, times, comparisons, destinations.

use std::time::Duration;

use weir_model::Hostname;
use weir_route::{Pattern, Percent, StringMatch};

use super::{MAX_ENTRIES, MAX_PATTERNS, MAX_ROUTES, Reading};
use crate::{
    error::Cause,
    object::{VirtualDestination, VirtualHeaders, VirtualRoute},
    read::config::scalar::period,
    reader::{At, Fields},
    tree::Value,
};

const COUNT: &str = "a whole number from 0 to 2147483647";
const SHARE: &str = "a number from 0 to 100";
const DESTINATION_HOST: &str = "a host name without '*'";

impl Reading<'_> {
    /// A time of at least a millisecond.
    pub(super) fn time(&mut self, at: Option<At<'_>>) -> Option<Duration> {
        period(self.reader, at).map(|(time, _)| time)
    }

    /// A whole number that is not negative.
    pub(super) fn count(&mut self, at: Option<At<'_>>) -> Option<u32> {
        let at = at?;
        let number = match &at.node.value {
            Value::Int(number) => i32::try_from(*number).ok().and_then(|number| u32::try_from(number).ok()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        number.or_else(|| self.reader.expected(&at, COUNT))
    }

    /// `percentage`, a map with `value`, which is 0 when nothing is said.
    pub(super) fn percentage(&mut self, at: Option<At<'_>>) -> Option<Percent> {
        let at = at?;
        let fields = self.reader.fields(&at, &["value"])?;
        match fields.field("value") {
            Some(at) => self.percent(Some(at)),
            None => Some(Percent::default()),
        }
    }

    /// A number of percent.
    pub(super) fn percent(&mut self, at: Option<At<'_>>) -> Option<Percent> {
        let at = at?;
        let text = match &at.node.value {
            Value::Int(number) => number.to_string(),
            Value::Number(text) => text.clone(),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                return self.reader.expected(&at, SHARE);
            }
        };
        self.usable(&at, text.parse())
    }

    /// `exact`, `prefix`, `regex`, or none of them. Istio `StringMatch`.
    pub(super) fn comparison(&mut self, at: &At<'_>) -> Option<StringMatch> {
        let fields = self.reader.fields(at, &["exact", "prefix", "regex"])?;
        match (fields.field("exact"), fields.field("prefix"), fields.field("regex")) {
            (None, None, None) => Some(StringMatch::Present),
            (Some(at), None, None) => Some(StringMatch::Exact(self.text(&at)?.into())),
            (None, Some(at), None) => Some(StringMatch::Prefix(self.text(&at)?.into())),
            (None, None, Some(at)) => self.pattern(&at).map(StringMatch::Regex),
            (_, Some(at), Some(_)) => self.not_with(&at, "regex"),
            (Some(at), _, _) => self.not_with(&at, "prefix or regex"),
        }
    }

    fn pattern(&mut self, at: &At<'_>) -> Option<Pattern> {
        let text = self.text(at)?;
        self.counts_pattern(at)?;
        self.usable(at, Pattern::new(text))
    }

    /// One more regular expression.
    pub(super) fn counts_pattern(&mut self, at: &At<'_>) -> Option<()> {
        let before = self.patterns;
        self.patterns += 1;
        self.within(at, [before, self.patterns], "regular expressions in one object", MAX_PATTERNS)
    }

    pub(super) fn not_with<T>(&mut self, at: &At<'_>, other: &'static str) -> Option<T> {
        self.reader.fail(at, Cause::NotWith { other });
        None
    }

    /// `destination`.
    pub(super) fn destination(&mut self, at: &At<'_>) -> Option<VirtualDestination> {
        let fields = self.reader.fields(at, &["host", "port", "subset"])?;
        let host_at = self.reader.required(&fields, "host", "the name of a service");
        let port = match fields.field("port") {
            Some(at) => {
                let fields = self.reader.fields(&at, &["number"])?;
                let at = self.reader.required(&fields, "number", "a port, 1 to 65535")?;
                Some(self.reader.port(&at)?)
            }
            None => None,
        };
        let subset = self.label(fields.field("subset"));
        let host_at = host_at?;
        let host = self.text(&host_at)?;
        if host.parse::<Hostname>().is_err() || host.contains('*') {
            return self.reader.expected(&host_at, DESTINATION_HOST);
        }
        Some(VirtualDestination { host: host.into(), port, subset })
    }

    /// `route` of any kind of rule; `known` are the fields of one.
    pub(super) fn routes(&mut self, rule: &Fields<'_>, known: &[&'static str]) -> Vec<VirtualRoute> {
        let items = self.reader.few(rule.field("route"), "destinations", MAX_ROUTES);
        items.iter().filter_map(|at| self.route(at, known)).collect()
    }

    fn route(&mut self, at: &At<'_>, known: &[&'static str]) -> Option<VirtualRoute> {
        let fields = self.reader.fields(at, known)?;
        let weight = self.count(fields.field("weight"));
        let headers = match fields.field("headers").filter(|_| known.contains(&"headers")) {
            Some(at) => self.headers(&at)?,
            None => VirtualHeaders::default(),
        };
        let at = self.reader.required(&fields, "destination", "a map with at least a host")?;
        let destination = self.destination(&at)?;
        Some(VirtualRoute { line: at.node.line, destination, weight, headers })
    }

    /// Texts of a list, each read its own way.
    pub(super) fn list<T>(
        &mut self,
        at: Option<At<'_>>,
        read: impl Fn(&mut Self, &At<'_>, &str) -> Option<T>,
    ) -> Vec<T> {
        let items = self.reader.few(at, "entries", MAX_ENTRIES);
        items
            .iter()
            .filter_map(|at| {
                let text = self.text(at)?;
                read(self, at, text)
            })
            .collect()
    }
}
