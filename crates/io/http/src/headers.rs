//! Headers that are of a connection and not of its messages, and those that only a proxy may write.
//!
//! What Istio's users know of a sidecar holds: `x-forwarded-for` is left as it came, for a waypoint is no edge; `x-forwarded-proto` is said if nobody said it; what begins with
//! `x-envoy-` is for proxies alone and does not get in, nor does `x-forwarded-client-cert`, for whoever reads it believes it; `server` and `via` are not touched.

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use weir_route::HeaderList;

/// `x-forwarded-proto`.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What a proxy says of a client's certificate. Envoy `forward_client_cert_details`: dropped where there was none.
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// What a client names in `connection` is dropped; these say who it is and where it goes, and are not its to drop.
const NOT_NAMED: &[&str] = &["host", "authorization", "content-length", "transfer-encoding", "te", "cookie"];

/// Takes out of a request what is of the client's connection, and what it may not say. Gives the protocol it wants to change to.
pub(crate) fn clean_request(headers: &mut HeaderMap, version: Version) -> Option<HeaderValue> {
    let mut drop: Vec<HeaderName> = Vec::new();
    let mut has_proto = false;
    for name in headers.keys() {
        let text = name.as_str();
        match text.as_bytes().first() {
            Some(b'x') if text.starts_with("x-envoy-") || *name == CLIENT_CERT => drop.push(name.clone()),
            Some(b'x') => has_proto |= *name == FORWARDED_PROTO,
            Some(b'c' | b'k' | b'p' | b'u' | b't' | b'e') if is_of_connection(name) => drop.push(name.clone()),
            Some(_) | None => {}
        }
    }
    if !has_proto {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if drop.is_empty() {
        return None;
    }
    let upgrade = is_named(headers, "upgrade").then(|| headers.get(UPGRADE).cloned()).flatten();
    let has_trailers = headers.get_all(TE).iter().any(|value| has_token(value, "trailers"));
    drop.extend(named(headers));
    for name in drop {
        headers.remove(name);
    }
    if has_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    upgrade.filter(|to| version == Version::HTTP_11 && !to.to_str().is_ok_and(|to| to.split(',').any(is_http)))
}

/// Whether a protocol to change to is HTTP, or TLS with it inside: requests in such a tunnel would be routed and authorized by nobody. To offer it is no
/// obligation to take it (RFC 9110 §7.8); `h2c` is gone since RFC 9113 §3.1.
pub(crate) fn is_http(protocol: &str) -> bool {
    let name = protocol.trim().split('/').next().unwrap_or_default();
    ["h2c", "h2", "http", "https", "tls"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a body comes in chunks and is in no other way encoded for the transfer. RFC 9112 §6.1.
pub(crate) fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = values.next().is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    is_chunked && values.next().is_none()
}

/// Whether the length of an answer over HTTP/1.1 can be read in one way only. RFC 9112 §6.3: both at once is an attempt at something. RFC 9110 §8.6: a length is
/// digits; a list of them would reach the client as it came.
pub(crate) fn is_framed_once(headers: &HeaderMap) -> bool {
    if headers.contains_key(TRANSFER_ENCODING) {
        return is_only_chunked(headers) && !headers.contains_key(CONTENT_LENGTH);
    }
    headers.get_all(CONTENT_LENGTH).iter().all(|value| value.as_bytes().iter().all(u8::is_ascii_digit))
}

/// What is of a connection in an answer.
const OF_ANSWERS: [HeaderName; 5] = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE];

/// Takes out of an answer what is of the endpoint's connection, and the length of a body that cannot be: RFC 9110 §8.6. Over HTTP/2 it
/// would make the answer malformed.
pub(crate) fn clean_response(headers: &mut HeaderMap, status: StatusCode) {
    if status == StatusCode::NO_CONTENT || status.is_informational() {
        headers.remove(CONTENT_LENGTH);
    }
    let mut found = [false; 5];
    for name in headers.keys() {
        if let Some(found) = OF_ANSWERS.iter().position(|known| known == name).and_then(|at| found.get_mut(at)) {
            *found = true;
        }
    }
    // What most say of their connection names nothing.
    let is_plain = |value: &HeaderValue| matches!(value.as_bytes(), b"keep-alive" | b"close");
    let [has_connection, ..] = found;
    if has_connection && !headers.get_all(CONNECTION).iter().all(is_plain) {
        for name in named(headers) {
            headers.remove(name);
        }
    }
    for (name, _) in OF_ANSWERS.iter().zip(found).filter(|(_, found)| *found) {
        headers.remove(name);
    }
}

fn is_of_connection(name: &HeaderName) -> bool {
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, UPGRADE, TRANSFER_ENCODING, TE, EXPECT].contains(name)
}

/// What `connection` names.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    let may_go = |name: &&str| {
        !NOT_NAMED.iter().any(|kept| kept.eq_ignore_ascii_case(name)) && !starts_with(name, "x-forwarded-")
    };
    names.filter(may_go).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect()
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}

/// Whether `connection` names it.
pub(crate) fn is_named(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| has_token(value, name))
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whom a request is for.
///
/// # Errors
/// When it says so twice, or not at all.
pub(crate) fn authority(uri: &Uri, headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one host header");
    }
    match (uri.authority(), host) {
        // RFC 9112 §3.2.2: the target counts, whatever the header says.
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| "a host that is none"),
        (None, Some(host)) => Ok(host.clone()),
        (None, None) => Err("no host header"),
    }
}

/// A number as a header; those that are small are many, and cost nothing.
pub(crate) fn number(number: u64) -> HeaderValue {
    const SMALL: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let small = usize::try_from(number).ok().and_then(|at| SMALL.get(at));
    small.map_or_else(|| HeaderValue::from(number), |text| HeaderValue::from_static(text))
}

/// The headers of a message as rules change them.
pub(crate) struct Changed<'h>(pub(crate) &'h mut HeaderMap);

impl HeaderList for Changed<'_> {
    fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    fn append(&mut self, name: &str, value: &str) {
        // Rules name headers that are headers: a compiler has read them.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            self.0.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn what_is_of_a_connection_stays_there() {
        for (given, want, upgrade) in [
            (vec![("accept", "*/*")], vec![("accept", "*/*"), ("x-forwarded-proto", "http")], None),
            (
                vec![
                    ("connection", "close, X-Hop, x-forwarded-for"),
                    ("x-hop", "1"),
                    ("x-forwarded-for", "1.2.3.4"),
                    ("keep-alive", "5"),
                    ("x-envoy-retry-on", "5xx"),
                    ("x-forwarded-proto", "https"),
                    ("expect", "100-continue"),
                    ("te", "gzip"),
                ],
                vec![("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")],
                None,
            ),
            (
                vec![("te", "gzip;q=1, Trailers"), ("upgrade", "h2c"), ("x-forwarded-proto", "http")],
                vec![("te", "trailers"), ("x-forwarded-proto", "http")],
                None,
            ),
            (
                vec![("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("x-forwarded-proto", "http")],
                vec![("x-forwarded-proto", "http")],
                None,
            ),
            (
                vec![("connection", "upgrade"), ("upgrade", "websocket, TLS/1.2"), ("x-forwarded-proto", "http")],
                vec![("x-forwarded-proto", "http")],
                None,
            ),
            (
                vec![("x-forwarded-client-cert", "By=spiffe://a"), ("x-forwarded-proto", "http")],
                vec![("x-forwarded-proto", "http")],
                None,
            ),
            (
                vec![("connection", "Upgrade"), ("upgrade", "websocket"), ("x-forwarded-proto", "http")],
                vec![("x-forwarded-proto", "http")],
                Some("websocket"),
            ),
        ] {
            let mut headers = map(&given);
            let wants = clean_request(&mut headers, Version::HTTP_11);
            assert_eq!(headers, map(&want), "{given:?}");
            assert_eq!(wants.as_ref().map(HeaderValue::as_bytes), upgrade.map(str::as_bytes), "{given:?}");
        }
    }

    #[test]
    fn an_answer_without_a_body_has_no_length_of_one() {
        for (status, want) in [(101, false), (204, false), (200, true), (205, true), (304, true)] {
            let mut headers = map(&[("content-length", "7"), ("connection", "close"), ("x-own", "1")]);
            clean_response(&mut headers, StatusCode::from_u16(status).unwrap());
            assert_eq!((headers.contains_key(CONTENT_LENGTH), headers.contains_key("x-own")), (want, true), "{status}");
            assert!(!headers.contains_key(CONNECTION), "{status}");
        }
    }

    #[test]
    fn a_body_is_framed_in_one_way() {
        for (lines, chunked, once) in [
            (vec![], false, true),
            (vec![("content-length", "2")], false, true),
            (vec![("content-length", "2, 2")], false, false),
            (vec![("transfer-encoding", "Chunked")], true, true),
            (vec![("transfer-encoding", "chunked"), ("content-length", "2")], true, false),
            (vec![("transfer-encoding", "gzip, chunked")], false, false),
            (vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false, false),
            (vec![("transfer-encoding", "cow")], false, false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!((is_only_chunked(&headers), is_framed_once(&headers)), (chunked, once), "{lines:?}");
        }
    }

    #[test]
    fn a_request_is_for_one_host() {
        for (uri, hosts, want) in [
            ("/", vec!["a"], Ok("a")),
            ("http://b/", vec!["a"], Ok("b")),
            ("http://b/", vec![], Ok("b")),
            ("/", vec![], Err("no host header")),
            ("/", vec!["a", "a"], Err("more than one host header")),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name, HeaderValue::from_static(value));
            }
            let got = authority(&uri.parse().unwrap(), &map);
            assert_eq!(got, want.map(HeaderValue::from_static), "{uri} {hosts:?}");
        }
    }
}
