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
