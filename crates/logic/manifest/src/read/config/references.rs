//! What kinds of the Gateway API have in common: names of other objects, numbers, words, durations.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use weir_model::NodeName;

use crate::{
    error::Cause,
    object::{BackendRef, ExtensionRef, ParentRef},
    reader::{At, Fields, Reader},
    tree::Value,
};

/// The group of the Gateway API.
pub(super) const GROUP: &str = "gateway.networking.k8s.io";

/// Most characters of a name, a group, a host.
const MAX_NAME: usize = 253;
const MAX_KIND: usize = 63;

const SUBDOMAIN: &str = "a DNS subdomain: lower-case letters, digits, '-' and '.' inside, at most 253";
const DURATION: &str = "a duration such as \"1m30s\": up to four numbers of up to five digits, each with h, m, s or ms";

/// Text of 1 to `max` characters.
pub(super) fn bounded<'n>(reader: &mut Reader, at: &At<'n>, max: usize, expected: &'static str) -> Option<&'n str> {
    let text = reader.text(at)?;
    if (1..=max).contains(&text.len()) { Some(text) } else { reader.expected(at, expected) }
}

/// The name of an object.
pub(super) fn name(reader: &mut Reader, at: &At<'_>) -> Option<Arc<str>> {
    bounded(reader, at, MAX_NAME, "a name of 1 to 253 bytes").map(Arc::from)
}

/// A DNS subdomain, such as the name of a listener.
pub(super) fn subdomain(reader: &mut Reader, at: &At<'_>) -> Option<Arc<str>> {
    reader.parse::<NodeName>(at, SUBDOMAIN).map(|name| name.as_str().into())
}

/// A group; empty for the core.
pub(super) fn group(reader: &mut Reader, at: &At<'_>) -> Option<Arc<str>> {
    match reader.text(at)? {
        "" => Some("".into()),
        _ => reader.parse::<NodeName>(at, "empty, or a DNS subdomain").map(|name| name.as_str().into()),
    }
}

/// A kind.
pub(super) fn kind(reader: &mut Reader, at: &At<'_>) -> Option<Arc<str>> {
    let text = reader.text(at)?;
    let is_kind = text.len() <= MAX_KIND
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if is_kind { Some(text.into()) } else { reader.expected(at, "a kind: letters, digits and '-' inside, at most 63") }
}

/// One of some words.
pub(super) fn word<T: Copy>(
    reader: &mut Reader,
    at: &At<'_>,
    words: &[(&str, T)],
    expected: &'static str,
) -> Option<T> {
    let text = reader.text(at)?;
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, meant)) => Some(*meant),
        None => reader.expected(at, expected),
    }
}

/// A whole number within bounds.
pub(super) fn number(
    reader: &mut Reader,
    at: &At<'_>,
    bounds: RangeInclusive<u32>,
    expected: &'static str,
) -> Option<u32> {
    let number = match &at.node.value {
        Value::Int(number) => u32::try_from(*number).ok().filter(|number| bounds.contains(number)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    number.or_else(|| reader.expected(at, expected))
}

/// A duration. GEP-2257.
pub(super) fn duration(reader: &mut Reader, at: Option<At<'_>>) -> Option<Duration> {
    let at = at?;
    read_duration(reader.text(&at)?).or_else(|| reader.expected(&at, DURATION))
}

fn read_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).filter(|_| (1..=5).contains(&digits))?;
        let number: u64 = number.parse().ok()?;
        // `ms` before `m`: as much as can be is one unit.
        let (unit, after) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
            .into_iter()
            .find_map(|(unit, millis)| Some((millis, after.strip_prefix(unit)?)))?;
        total += Duration::from_millis(number * unit);
        rest = after;
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

/// What a type of the routes refuses is an error here.
pub(super) fn take<T, E: std::fmt::Display>(reader: &mut Reader, at: &At<'_>, made: Result<T, E>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(error) => {
            reader.fail(at, Cause::Illegal { reason: error.to_string() });
            None
        }
    }
}

/// Notes every item that is equal to one before it.
pub(super) fn distinct<T: Ord>(reader: &mut Reader, items: &[(T, At<'_>)], what: &'static str) {
    let mut seen: std::collections::BTreeMap<&T, &str> = std::collections::BTreeMap::new();
    for (item, at) in items {
        match seen.get(item) {
            Some(first) => reader.fail(at, Cause::Repeated { what, first: (*first).to_owned() }),
            None => drop(seen.insert(item, &at.path)),
        }
    }
}

/// `ParentReference`.
pub(super) fn parent(reader: &mut Reader, at: &At<'_>) -> Option<ParentRef> {
    let fields = reader.fields(at, &["group", "kind", "name", "namespace", "port", "sectionName"])?;
    let (group, kind) = group_and_kind(reader, &fields, GROUP, "Gateway");
    let namespace = optional(reader, &fields, "namespace", Reader::name);
    let section = optional(reader, &fields, "sectionName", subdomain);
    let port = optional(reader, &fields, "port", Reader::port);
    let name = required_name(reader, &fields);
    Some(ParentRef { group: group?, kind: kind?, namespace: namespace?, name: name?, section: section?, port: port? })
}

/// The fields of `BackendObjectReference`.
pub(super) const BACKEND: &[&str] = &["group", "kind", "name", "namespace", "port"];

/// `BackendObjectReference`.
pub(super) fn backend(reader: &mut Reader, fields: &Fields<'_>) -> Option<BackendRef> {
    let (group, kind) = group_and_kind(reader, fields, "", "Service");
    let namespace = optional(reader, fields, "namespace", Reader::name);
    let port = optional(reader, fields, "port", Reader::port);
    let name = required_name(reader, fields);
    Some(BackendRef { group: group?, kind: kind?, namespace: namespace?, name: name?, port: port? })
}

/// `LocalObjectReference`: all of it must be there.
pub(super) fn local(reader: &mut Reader, at: &At<'_>) -> Option<ExtensionRef> {
    let fields = reader.fields(at, &["group", "kind", "name"])?;
    let group = reader.required(&fields, "group", "the object's group").and_then(|at| group(reader, &at));
    let kind = reader.required(&fields, "kind", "the object's kind").and_then(|at| kind(reader, &at));
    let name = required_name(reader, &fields);
    Some(ExtensionRef { group: group?, kind: kind?, name: name? })
}

fn group_and_kind(
    reader: &mut Reader,
    fields: &Fields<'_>,
    own_group: &str,
    own_kind: &str,
) -> (Option<Arc<str>>, Option<Arc<str>>) {
    let group = match fields.field("group") {
        Some(at) => group(reader, &at),
        None => Some(own_group.into()),
    };
    let kind = match fields.field("kind") {
        Some(at) => kind(reader, &at),
        None => Some(own_kind.into()),
    };
    (group, kind)
}

fn required_name(reader: &mut Reader, fields: &Fields<'_>) -> Option<Arc<str>> {
    reader.required(fields, "name", "the object's name").and_then(|at| name(reader, &at))
}

/// A field that may be absent: `Some(None)` when it is, nothing when it is not legal.
pub(super) fn optional<'n, T>(
    reader: &mut Reader,
    fields: &Fields<'n>,
    name: &str,
    read: impl FnOnce(&mut Reader, &At<'n>) -> Option<T>,
) -> Option<Option<T>> {
    match fields.field(name) {
        Some(at) => read(reader, &at).map(Some),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gep_2257() {
        for (text, want) in [
            ("0s", Some(0)),
            ("10ms", Some(10)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("99999h", Some(359_996_400_000)),
            ("5m5m", Some(600_000)),
            ("", None),
            ("1", None),
            ("1.5s", None),
            ("-1s", None),
            ("1d", None),
            ("100000s", None),
            ("1s1s1s1s1s", None),
            ("s", None),
            ("1s ", None),
            ("é", None),
        ] {
            assert_eq!(read_duration(text), want.map(Duration::from_millis), "{text:?}");
        }
    }
}
