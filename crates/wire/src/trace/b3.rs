//! B3, Zipkin's headers: five of them, or one. <https://github.com/openzipkin/b3-propagation>

use super::{Decision, Parent};

/// The longest single header: a trace of 128 bits, a span, a decision and the span before.
const MAX_SINGLE: usize = 32 + 1 + 16 + 1 + 1 + 1 + 16;

/// What B3 says: where it comes from, whether that trace has an id of 64 bits, and what was decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct B3 {
    pub(super) parent: Option<Parent>,
    pub(super) narrow: bool,
    pub(super) decision: Option<Decision>,
}

/// `b3: traceid-spanid[-sampled[-parentspanid]]`, or a decision alone.
pub(super) fn single(text: &[u8]) -> Option<B3> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_SINGLE)?;
    if let Some(decision) = decision(text) {
        return Some(B3 { decision: Some(decision), ..B3::default() });
    }
    let mut parts = text.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    let decision = match parts.next() {
        Some(text) => Some(decision(text)?),
        None => None,
    };
    if let Some(before) = parts.next() {
        hex(before, &[16])?;
    }
    let (parent, narrow) = ids(trace, span)?;
    parts.next().is_none().then_some(B3 { parent: Some(parent), narrow, decision })
}

/// `X-B3-TraceId`, `X-B3-SpanId`, `X-B3-Sampled`, `X-B3-Flags`.
pub(super) fn several(
    trace: Option<&str>,
    span: Option<&str>,
    sampled: Option<&str>,
    flags: Option<&str>,
) -> Option<B3> {
    let decision = match (flags, sampled) {
        (Some("1"), _) => Some(Decision::Debug),
        (_, Some("1" | "true")) => Some(Decision::Sampled),
        (_, Some("0" | "false")) => Some(Decision::NotSampled),
        _ => None,
    };
    let ids = trace.zip(span).and_then(|(trace, span)| ids(trace, span));
    if ids.is_none() && decision.is_none() {
        return None;
    }
    Some(B3 { parent: ids.map(|(parent, _)| parent), narrow: ids.is_some_and(|(_, narrow)| narrow), decision })
}

fn decision(text: &str) -> Option<Decision> {
    match text {
        "1" => Some(Decision::Sampled),
        "0" => Some(Decision::NotSampled),
        "d" => Some(Decision::Debug),
        _ => None,
    }
}

fn ids(trace: &str, span: &str) -> Option<(Parent, bool)> {
    let narrow = trace.len() == 16;
    let trace = hex(trace, &[16, 32]).filter(|trace| *trace != 0)?;
    let span = hex(span, &[16]).and_then(|span| u64::try_from(span).ok()).filter(|span| *span != 0)?;
    Some((Parent { trace, span }, narrow))
}

fn hex(text: &str, lengths: &[usize]) -> Option<u128> {
    let legal = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    legal.then(|| u128::from_str_radix(text, 16).ok())?
}
