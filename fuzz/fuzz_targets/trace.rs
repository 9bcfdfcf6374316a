//! Headers of a trace, one a line in the order of `HEADERS`: what is told on is read again as the same trace.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::trace::{Decision, HEADERS, Incoming, Parent};

fuzz_target!(|lines: &[u8]| {
    let values: Vec<&[u8]> = lines.splitn(HEADERS.len(), |b| *b == b'\n').collect();
    let given = |name: &str| {
        let at = HEADERS.iter().position(|header| *header == name)?;
        values.get(at).copied().filter(|value| !value.is_empty())
    };
    let incoming = Incoming::read(given);
    let next = incoming.next(7, 9, incoming.decision.unwrap_or(Decision::Sampled));
    let headers = next.headers();
    let again = Incoming::read(|name| {
        let (_, value) = headers.iter().find(|(key, _)| *key == name)?;
        value.as_deref().map(str::as_bytes)
    });
    assert_eq!(again.parent, Some(Parent { trace: next.trace, span: next.span }));
    assert_eq!(again.forms, next.forms);
});
