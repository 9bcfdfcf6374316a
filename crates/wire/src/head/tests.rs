//! Heads as stock peers write them, heads that are wrong, and noise.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 65_536;

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        hpack::write_literal(&mut out, name.as_bytes(), value.as_bytes());
    }
    out
}

#[test]
fn an_authority_is_an_address_or_a_name_with_a_port() {
    for (text, want) in [
        ("10.0.0.7:8080", "10.0.0.7:8080"),
        ("[fd00::7]:8080", "[fd00::7]:8080"),
        ("[::ffff:10.0.0.7]:80", "10.0.0.7:80"),
        ("todo.default.svc.cluster.local:80", "todo.default.svc.cluster.local:80"),
    ] {
        assert_eq!(text.parse::<Authority>().map(|a| a.to_string()), Ok(want.to_owned()));
    }
    for bad in [
        "",
        ":",
        "10.0.0.7",
        "10.0.0.7:0",
        "10.0.0.7:65536",
        "10.0.0.7:+80",
        "10.0.0.256:80",
        "1.2.3:80",
        "fd00::7:80",
        "[fd00::7]",
        "[fe80::1%3]:80",
        "host",
        "host:",
        "host:+80",
        "ho st:80",
        "user@host:80",
        "http://host:80",
        "127.1:80",
        "2130706433:80",
    ] {
        assert!(bad.parse::<Authority>().is_err(), "{bad:?} was taken");
    }
}

#[test]
fn what_we_ask_is_what_the_other_side_reads() {
    for address in ["10.0.0.7:8080", "[fd00::7]:8080"] {
        let authority: Authority = address.parse().unwrap();
        let host: Hostname = "todo.default.svc.cluster.local".parse().unwrap();
        let trace = Traceparent { trace: 7, span: 9, flags: 0 };
        let connect = Connect {
            authority: &authority,
            baggage: "service.name=ui",
            source: "[fd00::1]:4000".parse().unwrap(),
            host: Some(&host),
            trace,
        };
        let mut out = Vec::new();
        connect.encode(&mut out);
        let read = request(&mut Decoder::default(), &out, LIMIT).unwrap();
        let want =
            Request { authority, baggage: Some(b"service.name=ui".to_vec()), host: Some(host), trace: Some(trace) };
        assert_eq!(read, want);
    }
}

#[test]
fn a_head_that_is_no_connect_is_refused_by_what_is_wrong() {
    let connect = (":method", "CONNECT");
    let authority = (":authority", "10.0.0.7:80");
    for (fields, want) in [
        (vec![], "malformed head: no :method"),
        (vec![authority], "malformed head: no :method"),
        (vec![(":method", "GET"), (":path", "/"), (":scheme", "https"), authority], "method \"GET\" is not CONNECT"),
        (vec![connect], "CONNECT without an authority"),
        (vec![connect, (":authority", "x")], "authority \"x\" is not of the form ip:port or host:port"),
        (vec![connect, authority, authority], "malformed head: pseudo-header twice"),
        (vec![connect, ("a", "b"), authority], "malformed head: pseudo-header behind a header"),
        (vec![connect, authority, ("Upper", "b")], "malformed head: illegal header name"),
        (vec![connect, authority, ("a", "b\r\nc")], "malformed head: illegal header value"),
        (vec![connect, authority, ("connection", "close")], "malformed head: header of another protocol version"),
        (vec![connect, authority, (":path", "/")], "malformed head: CONNECT with :scheme, :path or :protocol"),
        (
            vec![connect, authority, (":protocol", "websocket")],
            "malformed head: CONNECT with :scheme, :path or :protocol",
        ),
        (vec![connect, authority, (":what", "/")], "malformed head: unknown pseudo-header"),
    ] {
        let error = request(&mut Decoder::default(), &block(&fields), LIMIT).unwrap_err();
        assert_eq!(error.to_string(), want, "{fields:?}");
    }
}

#[test]
fn an_answer_is_read_as_it_was_written() {
    for status in [200, 400, 401, 503] {
        let mut out = Vec::new();
        encode_response(&mut out, status, Some("service.name=b"));
        let read = response(&mut Decoder::default(), &out, LIMIT).unwrap();
        assert_eq!(read, Response { status, baggage: Some(b"service.name=b".to_vec()) });
    }
    assert!(response(&mut Decoder::default(), &block(&[(":status", "20")]), LIMIT).is_err());
}

proptest! {
    #[test]
    fn noise_never_panics(block in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(request(&mut Decoder::default(), &block, LIMIT));
        drop(response(&mut Decoder::default(), &block, LIMIT));
    }

    #[test]
    fn an_authority_prints_as_it_was_read(text in "[a-z0-9.:\\[\\]]{1,30}") {
        if let Ok(authority) = text.parse::<Authority>() {
            prop_assert_eq!(authority.to_string().parse::<Authority>(), Ok(authority));
        }
    }
}
