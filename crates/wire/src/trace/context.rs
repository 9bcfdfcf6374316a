//! One request's place in a trace: read in whatever form it came, told on in the same forms.

use super::{
    Traceparent,
    b3::{self, B3},
};

/// The headers that are read and written here, in lower case.
pub const HEADERS: [&str; 8] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];

/// The most bytes of a `tracestate` that are passed on: what does not keep to 512 (W3C §3.3.1.5) is given some room.
const MAX_STATE: usize = 2_048;
/// The most members of one. W3C §3.3.1.1.
const MAX_MEMBERS: usize = 32;

/// What was decided about a trace before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It is recorded.
    Sampled,
    /// It is not.
    NotSampled,
    /// It is recorded, and nobody may decide otherwise. B3's debug flag.
    Debug,
}

/// The span that a request was sent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parent {
    /// Its trace, not zero.
    pub trace: u128,
    /// The span itself, not zero.
    pub span: u64,
}

/// In which forms a trace is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Forms {
    /// `traceparent`.
    pub w3c: bool,
    /// `b3`.
    pub b3: bool,
    /// `x-b3-*`.
    pub b3_several: bool,
    /// B3's trace has an id of 64 bits.
    pub narrow: bool,
}

/// What the headers of a request say. W3C goes before B3, B3's one header before its five.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Where it comes from.
    pub parent: Option<Parent>,
    /// What was decided, if anything was.
    pub decision: Option<Decision>,
    /// In which forms that was said.
    pub forms: Forms,
    /// There is a `tracestate`, and it must not be passed on: it is not legal, or belongs to no `traceparent`.
    pub bad_state: bool,
}

impl Incoming {
    /// Reads the headers; `header` gives the first value of a name in lower case.
    pub fn read<'h>(header: impl Fn(&str) -> Option<&'h [u8]>) -> Self {
        let w3c = header("traceparent").and_then(Traceparent::parse);
        let b3_single = header("b3").and_then(b3::single);
        let text = |name| header(name).and_then(|value| std::str::from_utf8(value).ok());
        let several = b3::several(text("x-b3-traceid"), text("x-b3-spanid"), text("x-b3-sampled"), text("x-b3-flags"));
        let legal_state = |state: &[u8]| w3c.is_some() && is_state(state);
        let bad_state = header("tracestate").is_some_and(|state| !legal_state(state));
        let b3 = b3_single.or(several).unwrap_or_default();
        let forms = Forms {
            w3c: w3c.is_some(),
            b3: b3_single.is_some(),
            b3_several: several.is_some(),
            narrow: b3.narrow && w3c.is_none(),
        };
        let (parent, decision) = match w3c {
            Some(Traceparent { trace, span, flags }) => {
                let decision = if flags & 1 == 1 { Decision::Sampled } else { Decision::NotSampled };
                (Some(Parent { trace, span }), Some(decision))
            }
            None => {
                let B3 { parent, decision, narrow: _ } = b3;
                (parent, decision)
            }
        };
        Self { parent, decision, forms, bad_state }
    }

    /// What the next hop is told: this hop's span is `span` in the trace that came, or in a new one.
    pub fn next(&self, new_trace: u128, span: u64, decision: Decision) -> Outgoing {
        let anything = self.forms.w3c || self.forms.b3 || self.forms.b3_several;
        Outgoing {
            trace: self.parent.map_or(new_trace, |parent| parent.trace),
            span,
            parent: self.parent.map(|parent| parent.span),
            decision,
            forms: if anything { self.forms } else { Forms { w3c: true, ..self.forms } },
            bad_state: self.bad_state,
        }
    }
}

/// Whether it is a legal `tracestate`, as far as it matters to whom it is passed on. W3C §3.3.
fn is_state(state: &[u8]) -> bool {
    let member = |member: &[u8]| {
        let member = member.trim_ascii();
        let mut sides = member.splitn(2, |b| *b == b'=');
        let (key, value) = (sides.next().unwrap_or_default(), sides.next().unwrap_or_default());
        let key_byte = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(b);
        let value_byte = |b: &u8| matches!(b, 0x20..=0x7e) && !b",=".contains(b);
        let whole = (1..=256).contains(&key.len()) && (1..=256).contains(&value.len());
        member.is_empty() || (whole && key.iter().all(key_byte) && value.iter().all(value_byte))
    };
    state.len() <= MAX_STATE
        && state.split(|b| *b == b',').count() <= MAX_MEMBERS
        && state.split(|b| *b == b',').all(member)
}

/// What the next hop is told of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// The trace.
    pub trace: u128,
    /// This hop's own span.
    pub span: u64,
    /// The span before it.
    pub parent: Option<u64>,
    /// What is decided about it.
    pub decision: Decision,
    /// In which forms it is told.
    pub forms: Forms,
    bad_state: bool,
}

impl Outgoing {
    /// The headers to be set, and those without a value to be taken out.
    pub fn headers(&self) -> Vec<(&'static str, Option<String>)> {
        let mut headers = Vec::new();
        let sampled = match self.decision {
            Decision::Sampled | Decision::Debug => true,
            Decision::NotSampled => false,
        };
        if self.forms.w3c {
            let traceparent = Traceparent { trace: self.trace, span: self.span, flags: u8::from(sampled) };
            headers.push(("traceparent", Some(traceparent.to_string())));
        }
        if self.bad_state {
            headers.push(("tracestate", None));
        }
        let trace = match u64::try_from(self.trace) {
            Ok(trace) if self.forms.narrow => format!("{trace:016x}"),
            Ok(_) | Err(_) => format!("{:032x}", self.trace),
        };
        let (span, parent) = (format!("{:016x}", self.span), self.parent.map(|parent| format!("{parent:016x}")));
        if self.forms.b3 {
            let decision = match self.decision {
                Decision::Sampled => "1",
                Decision::NotSampled => "0",
                Decision::Debug => "d",
            };
            let parent = parent.as_ref().map(|parent| format!("-{parent}")).unwrap_or_default();
            headers.push(("b3", Some(format!("{trace}-{span}-{decision}{parent}"))));
        }
        if self.forms.b3_several {
            let debug = (self.decision == Decision::Debug).then(|| "1".to_owned());
            let sampled = debug.is_none().then(|| u8::from(sampled).to_string());
            headers.push(("x-b3-traceid", Some(trace)));
            headers.push(("x-b3-spanid", Some(span)));
            headers.push(("x-b3-parentspanid", parent));
            headers.push(("x-b3-sampled", sampled));
            headers.push(("x-b3-flags", debug));
        }
        headers
    }
}

#[cfg(test)]
mod tests;
