//! Single values of objects that shape requests: whole numbers, fractions, durations, lists of namespaces.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use weir_balance::{Percent, PolicyError};
use weir_model::Namespace;

use crate::{
    error::Cause,
    object::{ExportTo, Remark, RemarkKind},
    reader::{At, Fields, Reader},
    tree::Value,
};

/// The longest text of a duration, in bytes. Ours.
const LONGEST_DURATION: usize = 64;
/// The longest duration: Go's, 292 years.
const LONGEST: u128 = 9_223_372_036_854_775_807;
const MAX_NAMESPACES: usize = 1_024;
const DURATION: &str = "a duration such as 1h, 1m, 1s or 1ms";

/// What is to be said of fields that do not do what they say.
#[derive(Default)]
pub(super) struct Remarks(pub(super) Vec<Remark>);

impl Remarks {
    /// This version does not do what the field asks for.
    pub(super) fn unsupported(&mut self, field: impl Into<String>, text: &'static str) {
        self.0.push(Remark { field: field.into(), kind: RemarkKind::Unsupported, text });
    }

    /// The field has no effect, because of another.
    pub(super) fn no_effect(&mut self, field: impl Into<String>, text: &'static str) {
        self.0.push(Remark { field: field.into(), kind: RemarkKind::NoEffect, text });
    }
}

/// A whole number of 32 bits.
pub(super) fn whole(reader: &mut Reader, at: Option<At<'_>>) -> Option<u32> {
    let at = at?;
    let number = match &at.node.value {
        Value::Int(number) => u32::try_from(*number).ok(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    number.or_else(|| reader.expected(&at, "a whole number, 0 to 4294967295"))
}

/// A whole number that is not said when it is 0, and at most an `int32`.
pub(super) fn count(reader: &mut Reader, at: Option<At<'_>>) -> Option<NonZeroU32> {
    let at = at?;
    let number = match &at.node.value {
        Value::Int(number) => i32::try_from(*number).ok().and_then(|number| u32::try_from(number).ok()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    match number {
        Some(number) => NonZeroU32::new(number),
        None => reader.expected(&at, "a whole number, 0 to 2147483647"),
    }
}

/// Any number.
pub(super) fn number<'n>(reader: &mut Reader, at: Option<At<'n>>) -> Option<(f64, At<'n>)> {
    let at = at?;
    let number = match &at.node.value {
        Value::Int(number) => number.to_string().parse().ok(),
        Value::Number(text) => text.parse::<f64>().ok(),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    match number {
        Some(number) => Some((number, at)),
        None => reader.expected(&at, "a number"),
    }
}

/// A percentage.
pub(super) fn percent(reader: &mut Reader, at: Option<At<'_>>, what: &'static str) -> Option<Percent> {
    let (number, at) = number(reader, at)?;
    legal(reader, &at, Percent::new(what, number))
}

/// What a policy took, or what it had against it.
pub(super) fn legal<T>(reader: &mut Reader, at: &At<'_>, taken: Result<T, PolicyError>) -> Option<T> {
    taken.map_err(|error| reader.fail(at, Cause::Illegal { reason: error.to_string() })).ok()
}

/// A duration, zero too.
pub(super) fn duration(reader: &mut Reader, at: Option<At<'_>>) -> Option<Duration> {
    let at = at?;
    let text = reader.text(&at)?;
    span(text).or_else(|| reader.expected(&at, DURATION))
}

/// A duration of at least a millisecond.
pub(super) fn period<'n>(reader: &mut Reader, at: Option<At<'n>>) -> Option<(Duration, At<'n>)> {
    let at = at?;
    let length = duration(reader, Some(at.clone()))?;
    if length < Duration::from_millis(1) {
        return reader.expected(&at, "a duration of at least 1ms");
    }
    Some((length, at))
}

/// A duration as Go writes it, which is what Istio reads: decimal numbers, each with its unit, none below zero.
fn span(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() || text.len() > LONGEST_DURATION {
        return None;
    }
    let (mut rest, mut nanos) = (text, 0_u128);
    while !rest.is_empty() {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (integer, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        if integer.is_empty() && fraction.is_empty() {
            return None;
        }
        let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
        // More decimals than there are nanoseconds in an hour say nothing.
        let decimals = fraction.get(..fraction.len().min(15)).unwrap_or_default();
        let parts = 10_u128.checked_pow(u32::try_from(decimals.len()).ok()?)?;
        let whole = parse(integer)?.checked_mul(scale)?;
        nanos = nanos.checked_add(whole)?.checked_add(parse(decimals)?.checked_mul(scale)? / parts)?;
        rest = after;
    }
    (nanos <= LONGEST).then(|| u64::try_from(nanos).ok().map(Duration::from_nanos)).flatten()
}

/// `exportTo`.
pub(super) fn export_to(reader: &mut Reader, spec: &Fields<'_>) -> ExportTo {
    let items = reader.few(spec.field("exportTo"), "namespaces", MAX_NAMESPACES);
    if items.is_empty() {
        return ExportTo::Everywhere;
    }
    let (mut everywhere, mut own, mut others) = (false, false, BTreeSet::new());
    for at in &items {
        match reader.text(at) {
            Some("*") => everywhere = true,
            Some(".") => own = true,
            Some("~") if items.len() == 1 => {}
            Some("~") => reader.fail(at, Cause::NotWith { other: "another namespace" }),
            Some(_) => others.extend(reader.parse::<Namespace>(at, "\"*\", \".\", \"~\" or a namespace")),
            None => {}
        }
    }
    if everywhere { ExportTo::Everywhere } else { ExportTo::Only { own, others } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, want) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1ms", Some(1_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1m0.25s", Some(60_250_000_000)),
            ("7us", Some(7_000)),
            ("7µs", Some(7_000)),
            ("0.0000000001s", Some(0)),
            ("2562047h", Some(9_223_369_200_000_000_000)),
            ("2562048h", None),
            ("99999999999999999999999999999999999999999h", None),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("1s2", None),
            (&"1s".repeat(33), None),
        ] {
            assert_eq!(span(text), want.map(Duration::from_nanos), "{text}");
        }
    }
}
