//! What a label or an attribute says that somebody asked for by the Telemetry API.

use std::{borrow::Cow, net::SocketAddr};

use hyper::HeaderMap;
use weir_model::Fact;

use super::HttpRecord;

/// Most bytes of such a value: peers write some of them.
const MAX_BYTES: usize = 256;

/// The value, or none if the request has no such thing.
pub(crate) fn value<'a>(fact: &'a Fact, record: &HttpRecord<'a>) -> Option<Cow<'a, str>> {
    let address = |address: SocketAddr| Some(Cow::from(address.to_string()));
    let upstream = record.upstream.as_ref();
    let value = match fact {
        Fact::Literal(text) => return Some(Cow::from(&**text)),
        Fact::Method => Some(record.method.into()),
        Fact::Path => Some(record.path.into()),
        Fact::UrlPath => record.path.split('?').next().map(Cow::from),
        Fact::Host => record.authority.map(Cow::from),
        Fact::Protocol => Some(record.protocol.as_str().into()),
        Fact::RequestHeader(name) => header(record.request_headers, name),
        Fact::ResponseHeader(name) => header(record.response_headers, name),
        Fact::ResponseCode => Some(record.code.unwrap_or(0).to_string().into()),
        Fact::ResponseFlags => Some(record.flags.to_string().into()),
        Fact::ResponseCodeDetails => record.code_details.map(Cow::from),
        Fact::GrpcStatus => record.grpc.and_then(|grpc| grpc.status).map(|status| status.to_string().into()),
        Fact::SourceAddress => address(record.downstream_remote),
        Fact::DestinationAddress => address(record.downstream_local),
        Fact::DestinationPort => Some(record.downstream_local.port().to_string().into()),
        Fact::UpstreamAddress => upstream.and_then(|upstream| upstream.host).and_then(address),
        Fact::UpstreamCluster => upstream.and_then(|upstream| upstream.cluster).map(Cow::from),
        Fact::RouteName => record.route_name.map(Cow::from),
        Fact::ServerName => record.server_name.map(Cow::from),
        Fact::SourcePrincipal => record.source.identity.map(|id| id.to_string().into()),
    };
    value.filter(|text| !text.is_empty()).map(bounded)
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<Cow<'a, str>> {
    headers?.get(name).map(|value| text(value.as_bytes()))
}

/// What a peer wrote, as text that is legal and not too long.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    bounded(String::from_utf8_lossy(bytes))
}

fn bounded(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= MAX_BYTES {
        return text;
    }
    let end = text.floor_char_boundary(MAX_BYTES);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// The value of what needs no request to be known.
pub(crate) fn literal(fact: &Fact) -> Option<std::sync::Arc<str>> {
    match fact {
        Fact::Literal(text) => Some(text.clone()),
        Fact::Method
        | Fact::Path
        | Fact::UrlPath
        | Fact::Host
        | Fact::Protocol
        | Fact::RequestHeader(_)
        | Fact::ResponseHeader(_)
        | Fact::ResponseCode
        | Fact::ResponseFlags
        | Fact::ResponseCodeDetails
        | Fact::GrpcStatus
        | Fact::SourceAddress
        | Fact::DestinationAddress
        | Fact::DestinationPort
        | Fact::UpstreamAddress
        | Fact::UpstreamCluster
        | Fact::RouteName
        | Fact::ServerName
        | Fact::SourcePrincipal => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{GrpcRecord, fixtures::Scene};

    #[test]
    fn every_fact_says_what_is_known() {
        let scene = Scene::new();
        let mut headers = HeaderMap::new();
        headers.insert("x-team", "blue".parse().unwrap());
        headers.append("x-team", "red".parse().unwrap());
        headers.insert("x-empty", "".parse().unwrap());
        let grpc = Some(GrpcRecord { status: Some(5), ..GrpcRecord::default() });
        let whole = HttpRecord {
            server_name: Some("db.example"),
            request_headers: Some(&headers),
            response_headers: Some(&headers),
            grpc,
            ..scene.record()
        };
        let bare = HttpRecord {
            authority: None,
            code: None,
            code_details: None,
            upstream: None,
            route_name: None,
            source: crate::HttpParty::default(),
            ..scene.record()
        };
        let header = |name: &str| Arc::<str>::from(name);
        for (fact, want, without) in [
            (Fact::Literal("x".into()), Some("x"), Some("x")),
            (Fact::Literal("".into()), Some(""), Some("")),
            (Fact::Method, Some("GET"), Some("GET")),
            (Fact::Path, Some("/v2/items?limit=3"), Some("/v2/items?limit=3")),
            (Fact::UrlPath, Some("/v2/items"), Some("/v2/items")),
            (Fact::Host, Some("db.todo:8080"), None),
            (Fact::Protocol, Some("HTTP/1.1"), Some("HTTP/1.1")),
            (Fact::RequestHeader(header("x-team")), Some("blue"), None),
            (Fact::RequestHeader(header("x-empty")), None, None),
            (Fact::ResponseHeader(header("x-team")), Some("blue"), None),
            (Fact::ResponseHeader(header("x-none")), None, None),
            (Fact::ResponseCode, Some("200"), Some("0")),
            (Fact::ResponseFlags, Some("-"), Some("-")),
            (Fact::ResponseCodeDetails, Some("via_upstream"), None),
            (Fact::GrpcStatus, Some("5"), None),
            (Fact::SourceAddress, Some("[fd00::7]:40001"), Some("[fd00::7]:40001")),
            (Fact::DestinationAddress, Some("10.96.0.9:8080"), Some("10.96.0.9:8080")),
            (Fact::DestinationPort, Some("8080"), Some("8080")),
            (Fact::UpstreamAddress, Some("10.0.1.9:8080"), None),
            (Fact::UpstreamCluster, Some("inbound-vip|8080|http|db.todo.svc.cluster.local"), None),
            (Fact::RouteName, Some("default"), None),
            (Fact::ServerName, Some("db.example"), None),
            (Fact::SourcePrincipal, Some("spiffe://cluster.local/ns/todo/sa/ui"), None),
        ] {
            assert_eq!(value(&fact, &whole).as_deref(), want, "{fact:?}");
            assert_eq!(value(&fact, &bare).as_deref(), without, "{fact:?} of little");
            let given = matches!(fact, Fact::Literal(_));
            assert_eq!(literal(&fact).is_some(), given, "{fact:?} of a connection");
        }
    }

    #[test]
    fn what_a_peer_wrote_is_cut_between_characters() {
        for (bytes, want) in [
            ("a".repeat(300).into_bytes(), "a".repeat(256)),
            ("ä".repeat(300).into_bytes(), "ä".repeat(128)),
            (["a".as_bytes(), "ä".repeat(300).as_bytes()].concat(), format!("a{}", "ä".repeat(127))),
            (vec![0xff; 300], "\u{fffd}".repeat(85)),
            (b"short".to_vec(), "short".to_owned()),
        ] {
            assert_eq!(text(&bytes), want);
        }
    }
}
