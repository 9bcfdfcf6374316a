//! Headers byte by byte, and what no header may be.

use proptest::prelude::*;

use super::*;

fn header(client: &str, target: &str) -> Header {
    Header { client: client.parse().unwrap(), target: target.parse().unwrap(), identity: None, service: None }
}

fn of(family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([PROXY, family]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The addresses of a header over IPv4, and this behind them.
fn v4(more: &[u8]) -> Vec<u8> {
    of(TCP4, &[&[10, 0, 0, 1, 10, 96, 0, 1, 0x9c, 0x40, 0, 80], more].concat())
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let plain = header("10.0.0.1:40000", "10.96.0.1:80");
    assert_eq!(plain.encode(), v4(&[]));
    let service = Header { service: Some("a.b".parse().unwrap()), ..plain.clone() };
    assert_eq!(service.encode(), v4(b"\xd1\0\x03a.b"));
    let identity: SpiffeId = "spiffe://td/ns/a/sa/b".parse().unwrap();
    let both = Header { identity: Some(identity), ..service };
    assert_eq!(both.encode(), v4(b"\xd0\0\x15spiffe://td/ns/a/sa/b\xd1\0\x03a.b"));
    let six = header("[fd00::1]:1", "[fd00::2]:2").encode();
    assert_eq!((six.len(), six[13], &six[14..16]), (52, TCP6, &[0, 36][..]));
    // Of two families, both as IPv6.
    let mixed = header("10.0.0.1:1", "[fd00::2]:2");
    assert_eq!(mixed.encode()[26..32], [0xff, 0xff, 10, 0, 0, 1]);
    assert_eq!(parse(&mixed.encode()), Ok(Some((Preface::Handed(mixed), 52))));
    let mapped = header("[::ffff:10.0.0.1]:40000", "10.96.0.1:80");
    assert_eq!(mapped.encode(), plain.encode());
}

#[test]
fn what_is_not_known_is_skipped_and_a_connection_of_its_own_is_said_to_be_one() {
    let plain = header("10.0.0.1:40000", "10.96.0.1:80");
    for more in [&b"\x04\0\0"[..], b"\xe0\0\x02xy", b"\x03\0\x04abcd\xff\0\0"] {
        assert_eq!(parse(&v4(more)), Ok(Some((Preface::Handed(plain.clone()), 28 + more.len()))));
    }
    let mut local = of(0, b"anything");
    local[12] = LOCAL;
    assert_eq!(parse(&local), Ok(Some((Preface::Local, 24))));
}

#[test]
fn what_is_no_header_is_refused_with_what_is_wrong() {
    let value = |kind, why: &str| ProxyError::Value { kind, why: why.to_owned() };
    let long = of(TCP4, &[0; HEADER_BOUND]);
    for (bytes, want) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), ProxyError::Signature),
        (b"\r\n\r\r".to_vec(), ProxyError::Signature),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(), ProxyError::Signature),
        ([&SIGNATURE[..], &[0x11]].concat(), ProxyError::Command(0x11)),
        ([&SIGNATURE[..], &[0x22]].concat(), ProxyError::Command(0x22)),
        (of(0, &[]), ProxyError::Family(0)),
        (of(0x12, &[0; 12]), ProxyError::Family(0x12)),
        (of(0x31, &[0; 216]), ProxyError::Family(0x31)),
        (of(TCP4, &[0; 11]), ProxyError::Short),
        (of(TCP6, &[0; 35]), ProxyError::Short),
        (v4(b"\xd0"), ProxyError::Short),
        (v4(b"\xd1\0\x04a.b"), ProxyError::Short),
        (v4(b"\xd1\0\x03a.b\xd1\0\x03a.b"), ProxyError::Repeated(SERVICE)),
        (v4(b"\xd1\0\x01\xff"), value(SERVICE, "invalid utf-8 sequence of 1 bytes from index 0")),
        (v4(b"\xd1\0\0"), value(SERVICE, "empty host name")),
        (long[..16].to_vec(), ProxyError::TooLong(FIXED + HEADER_BOUND)),
    ] {
        assert_eq!(parse(&bytes), Err(want), "{bytes:?}");
    }
    let bad = parse(&v4(b"\xd0\0\x04a://")).unwrap_err();
    assert!(matches!(bad, ProxyError::Value { kind: IDENTITY, .. }), "{bad}");
}

fn headers() -> impl Strategy<Value = Header> {
    let ip = || any::<IpAddr>().prop_map(|ip| ip.to_canonical());
    let names = ("[a-z]{1,9}", "[a-z]{1,63}", "[a-z.]{0,9}[a-z]");
    let identity = names.prop_filter_map("a legal identity", |(domain, namespace, account)| {
        format!("spiffe://{domain}/ns/{namespace}/sa/{account}").parse().ok()
    });
    let service = "[a-z]{1,63}(\\.[a-z]{1,63}){0,3}".prop_map(|name| name.parse().unwrap());
    let ends = (ip(), any::<u16>(), ip(), any::<u16>());
    (ends, prop::option::of(identity), prop::option::of(service)).prop_map(|(ends, identity, service)| Header {
        client: SocketAddr::new(ends.0, ends.1),
        target: SocketAddr::new(ends.2, ends.3),
        identity,
        service,
    })
}

proptest! {
    #[test]
    fn a_header_is_read_as_it_was_written_whatever_follows(header in headers(), more in prop::collection::vec(any::<u8>(), 0..9)) {
        let bytes = header.encode();
        let all = [&bytes[..], &more].concat();
        prop_assert_eq!(parse(&all), Ok(Some((Preface::Handed(header), bytes.len()))));
    }

    #[test]
    fn a_part_of_a_header_waits_for_the_rest(header in headers(), at in any::<prop::sample::Index>()) {
        let bytes = header.encode();
        let part = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(parse(part), Ok(None));
        // Who reads no more than is wanted, reads no more than the header, and never too little.
        prop_assert!(part.len() < wanted(part) && wanted(part) <= bytes.len());
    }

    #[test]
    fn damaged_bytes_are_read_or_refused(header in headers(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = header.encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(Some((Preface::Handed(read), len))) = parse(&bytes) {
            prop_assert!(len <= bytes.len());
            let again = read.encode();
            prop_assert_eq!(parse(&again), Ok(Some((Preface::Handed(read), again.len()))));
        }
    }
}
