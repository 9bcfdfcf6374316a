//! Headers in, headers out.

use proptest::prelude::*;

use super::*;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;
const OURS: u64 = 0x1111_2222_3333_4444;

fn read(headers: &[(&str, &str)]) -> Incoming {
    Incoming::read(|name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes()))
}

fn written(headers: &[(&str, &str)], decision: Decision) -> String {
    let next = read(headers).next(7, OURS, decision);
    let line = |(key, value): (&str, Option<String>)| format!("{key}: {}", value.unwrap_or("(none)".to_owned()));
    next.headers().into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn whatever_form_a_trace_comes_in_it_is_known() {
    let parent = Some(Parent { trace: TRACE, span: SPAN });
    let narrow = Some(Parent { trace: 0xa3ce_929d_0e0e_4736, span: SPAN });
    let (yes, no, debug) = (Some(Decision::Sampled), Some(Decision::NotSampled), Some(Decision::Debug));
    let multi = [("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"), ("x-b3-spanid", "00f067aa0ba902b7")];
    for (headers, want) in [
        (vec![], (None, None)),
        (vec![("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")], (parent, yes)),
        (vec![("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02")], (parent, no)),
        (vec![("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7")], (None, None)),
        (vec![("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7")], (parent, None)),
        (vec![("b3", "4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-1")], (parent, yes)),
        (vec![("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-d-00f067aa0ba902b0")], (narrow, debug)),
        (vec![("b3", "0")], (None, no)),
        (vec![("b3", "1")], (None, yes)),
        (vec![("b3", "d")], (None, debug)),
        (vec![("b3", "2")], (None, None)),
        (vec![("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-zz")], (None, None)),
        (vec![("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-00f067aa0ba902b0-1")], (None, None)),
        (vec![("b3", "00000000000000000000000000000000-00f067aa0ba902b7-1")], (None, None)),
        (vec![("b3", "a3ce929d0e0e473-00f067aa0ba902b7")], (None, None)),
        (multi.to_vec(), (parent, None)),
        ([&multi[..], &[("x-b3-sampled", "1")]].concat(), (parent, yes)),
        ([&multi[..], &[("x-b3-sampled", "false")]].concat(), (parent, no)),
        ([&multi[..], &[("x-b3-sampled", "0"), ("x-b3-flags", "1")]].concat(), (parent, debug)),
        ([&multi[..], &[("x-b3-sampled", "maybe")]].concat(), (parent, None)),
        (vec![("x-b3-sampled", "0")], (None, no)),
        (vec![("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736")], (None, None)),
        // W3C goes before B3, B3's one header before its five.
        (
            vec![
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
                ("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1"),
            ],
            (parent, no),
        ),
        ([&multi[..], &[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")]].concat(), (narrow, yes)),
    ] {
        let incoming = read(&headers);
        assert_eq!((incoming.parent, incoming.decision), want, "{headers:?}");
    }
}

#[test]
fn a_trace_is_told_on_in_the_forms_it_came_in() {
    for (headers, decision, want) in [
        (vec![], Decision::Sampled, "traceparent: 00-00000000000000000000000000000007-1111222233334444-01"),
        (
            vec![("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", "a=1,b=2")],
            Decision::Sampled,
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-1111222233334444-01",
        ),
        (
            vec![("traceparent", "bad"), ("tracestate", "a=1")],
            Decision::NotSampled,
            "traceparent: 00-00000000000000000000000000000007-1111222233334444-00\ntracestate: (none)",
        ),
        (
            vec![("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")],
            Decision::Sampled,
            "b3: a3ce929d0e0e4736-1111222233334444-1-00f067aa0ba902b7",
        ),
        (vec![("b3", "0")], Decision::NotSampled, "b3: 00000000000000000000000000000007-1111222233334444-0"),
        (
            vec![("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"), ("x-b3-spanid", "00f067aa0ba902b7")],
            Decision::NotSampled,
            "x-b3-traceid: 4bf92f3577b34da6a3ce929d0e0e4736\nx-b3-spanid: 1111222233334444\n\
             x-b3-parentspanid: 00f067aa0ba902b7\nx-b3-sampled: 0\nx-b3-flags: (none)",
        ),
        (
            vec![("x-b3-flags", "1")],
            Decision::Debug,
            "x-b3-traceid: 00000000000000000000000000000007\nx-b3-spanid: 1111222233334444\n\
             x-b3-parentspanid: (none)\nx-b3-sampled: (none)\nx-b3-flags: 1",
        ),
        (
            vec![
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                ("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1"),
            ],
            Decision::Sampled,
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-1111222233334444-01\n\
             b3: 4bf92f3577b34da6a3ce929d0e0e4736-1111222233334444-1-00f067aa0ba902b7",
        ),
    ] {
        assert_eq!(written(&headers, decision), want, "{headers:?}");
    }
}

#[test]
fn a_state_is_passed_on_only_if_it_is_one() {
    let members = |count: usize| vec!["a=1"; count].join(",");
    for (state, legal) in [
        ("", true),
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true),
        ("tenant@vendor=x , b=2,", true),
        ("a", false),
        ("=1", false),
        ("a=", false),
        ("A=1", false),
        ("a=1=2", false),
        ("a=\u{e4}", false),
        (&members(32), true),
        (&members(33), false),
        (&format!("a={}", "x".repeat(257)), false),
    ] {
        let incoming =
            read(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", state)]);
        assert_eq!(!incoming.bad_state, legal, "{state:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        trace in 1..=u128::MAX, span in 1..=u64::MAX, before in proptest::option::of(1..=u64::MAX),
        decision in prop_oneof![Just(Decision::Sampled), Just(Decision::NotSampled), Just(Decision::Debug)],
        which in 1..8_u8, narrow: bool,
    ) {
        let forms = Forms { w3c: which & 1 > 0, b3: which & 2 > 0, b3_several: which & 4 > 0, narrow: narrow && which & 1 == 0 };
        let trace = if forms.narrow { (trace & u128::from(u64::MAX)).max(1) } else { trace };
        let outgoing = Outgoing { trace, span, parent: before, decision, forms, bad_state: false };
        let headers = outgoing.headers();
        let again = Incoming::read(|name| {
            let (_, value) = headers.iter().find(|(key, _)| *key == name)?;
            value.as_deref().map(str::as_bytes)
        });
        prop_assert_eq!(again.parent, Some(Parent { trace, span }));
        prop_assert_eq!(again.forms, forms);
        let decided = if forms.w3c && decision == Decision::Debug { Decision::Sampled } else { decision };
        prop_assert_eq!(again.decision, Some(decided));
    }

    #[test]
    fn noise_is_no_trace_and_never_a_panic(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 8)) {
        let incoming = Incoming::read(|name| {
            let at = HEADERS.iter().position(|header| *header == name)?;
            Some(values[at].as_slice())
        });
        drop(incoming.next(1, 1, Decision::Sampled).headers());
    }
}
