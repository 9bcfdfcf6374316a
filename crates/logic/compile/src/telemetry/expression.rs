//! Expressions and formats that a Telemetry may hold, as far as they need no language: a fact of the request, or a text.

use std::sync::Arc;

use weir_model::Fact;

/// A simple expression of CEL: a literal, an attribute of Envoy's, or a header; `string()` around it changes nothing.
pub(super) fn expression(text: &str) -> Option<Fact> {
    let text = text.trim();
    let inner = text.strip_prefix("string(").and_then(|rest| rest.strip_suffix(')'));
    simple(inner.unwrap_or(text).trim())
}

fn simple(text: &str) -> Option<Fact> {
    if let Some(literal) = quoted(text) {
        return Some(Fact::Literal(literal.into()));
    }
    let number = !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    if number || text == "true" || text == "false" {
        return Some(Fact::Literal(text.into()));
    }
    if let Some((of, header)) = header(text) {
        return match of {
            "request" => Some(Fact::RequestHeader(header)),
            _ => Some(Fact::ResponseHeader(header)),
        };
    }
    Some(match text {
        "request.method" => Fact::Method,
        "request.path" => Fact::Path,
        "request.url_path" => Fact::UrlPath,
        "request.host" => Fact::Host,
        "request.protocol" => Fact::Protocol,
        "request.useragent" => Fact::RequestHeader("user-agent".into()),
        "request.referer" => Fact::RequestHeader("referer".into()),
        "request.id" => Fact::RequestHeader("x-request-id".into()),
        "response.code" => Fact::ResponseCode,
        "response.code_details" => Fact::ResponseCodeDetails,
        "response.grpc_status" => Fact::GrpcStatus,
        "source.address" => Fact::SourceAddress,
        "destination.address" => Fact::DestinationAddress,
        "destination.port" => Fact::DestinationPort,
        "upstream.address" => Fact::UpstreamAddress,
        "xds.cluster_name" => Fact::UpstreamCluster,
        "xds.route_name" => Fact::RouteName,
        "connection.requested_server_name" => Fact::ServerName,
        "connection.uri_san_peer_certificate" => Fact::SourcePrincipal,
        _ => return None,
    })
}

/// A text between quotes of one kind, without anything that could mean something else.
fn quoted(text: &str) -> Option<&str> {
    let inner = |quote| text.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    inner('\'').or_else(|| inner('"')).filter(|inner| !inner.contains(['\'', '"', '\\']))
}

/// `request.headers['name']` or `response.headers['name']`.
fn header(text: &str) -> Option<(&'static str, Arc<str>)> {
    let of = ["request", "response"].into_iter().find(|of| text.starts_with(*of))?;
    let name = text.strip_prefix(of)?.strip_prefix(".headers[")?.strip_suffix(']')?;
    Some((of, name_of_header(quoted(name.trim())?)?))
}

fn name_of_header(text: &str) -> Option<Arc<str>> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
    let legal = (1..=256).contains(&text.len()) && text.bytes().all(token);
    legal.then(|| text.to_ascii_lowercase().into())
}

/// A format of Envoy's access log: texts, and operators between percent signs; or the operator that is not known here.
pub(super) fn format(text: &str) -> Result<Vec<Fact>, String> {
    let mut facts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        literal.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (operator, after) = after.split_once('%').ok_or_else(|| format!("%{after}"))?;
        if !literal.is_empty() {
            facts.push(Fact::Literal(std::mem::take(&mut literal).into()));
        }
        facts.push(self::operator(operator).ok_or_else(|| format!("%{operator}%"))?);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        facts.push(Fact::Literal(literal.into()));
    }
    Ok(facts)
}

fn operator(text: &str) -> Option<Fact> {
    let argument = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(name) = argument("REQ") {
        return match name.to_ascii_lowercase().as_str() {
            ":method" => Some(Fact::Method),
            ":path" => Some(Fact::Path),
            ":authority" | "host" => Some(Fact::Host),
            name => name_of_header(name).map(Fact::RequestHeader),
        };
    }
    if let Some(name) = argument("RESP") {
        return name_of_header(name).map(Fact::ResponseHeader);
    }
    Some(match text {
        "PROTOCOL" => Fact::Protocol,
        "RESPONSE_CODE" => Fact::ResponseCode,
        "RESPONSE_FLAGS" => Fact::ResponseFlags,
        "RESPONSE_CODE_DETAILS" => Fact::ResponseCodeDetails,
        "GRPC_STATUS_NUMBER" => Fact::GrpcStatus,
        "DOWNSTREAM_REMOTE_ADDRESS" => Fact::SourceAddress,
        "DOWNSTREAM_LOCAL_ADDRESS" => Fact::DestinationAddress,
        "DOWNSTREAM_PEER_URI_SAN" => Fact::SourcePrincipal,
        "UPSTREAM_HOST" => Fact::UpstreamAddress,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Fact::UpstreamCluster,
        "ROUTE_NAME" => Fact::RouteName,
        "REQUESTED_SERVER_NAME" => Fact::ServerName,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_expressions_are_facts_and_no_other_is() {
        let literal = |text: &str| Some(Fact::Literal(text.into()));
        for (text, want) in [
            ("'prod'", literal("prod")),
            ("\"a b\"", literal("a b")),
            ("''", literal("")),
            ("42", literal("42")),
            ("true", literal("true")),
            (" request.method ", Some(Fact::Method)),
            ("string(destination.port)", Some(Fact::DestinationPort)),
            ("request.headers['X-Team']", Some(Fact::RequestHeader("x-team".into()))),
            ("response.headers[\"server\"]", Some(Fact::ResponseHeader("server".into()))),
            ("request.useragent", Some(Fact::RequestHeader("user-agent".into()))),
            ("request.headers['a'] + 'b'", None),
            ("request.headers['a'] == request.headers['b']", None),
            ("request.headers[name]", None),
            ("request.headers['']", None),
            ("'a' + 'b'", None),
            ("'a\\'b'", None),
            ("'a\"", None),
            ("'", None),
            ("", None),
            ("request", None),
            ("node.metadata['x']", None),
            ("has(request.headers['a']) ? 'x' : 'y'", None),
            ("string(string(request.method))", None),
        ] {
            assert_eq!(expression(text), want, "{text}");
        }
    }

    #[test]
    fn formats_are_texts_and_operators() {
        let literal = |text: &str| Fact::Literal(text.into());
        for (text, want) in [
            ("plain", Ok(vec![literal("plain")])),
            ("", Ok(vec![])),
            ("100%%", Ok(vec![literal("100%")])),
            (
                "%REQ(:METHOD)% %REQ(X-Team)%!",
                Ok(vec![Fact::Method, literal(" "), Fact::RequestHeader("x-team".into()), literal("!")]),
            ),
            ("%PROTOCOL%%RESPONSE_CODE%", Ok(vec![Fact::Protocol, Fact::ResponseCode])),
            ("a%PROTOCOL", Err("%PROTOCOL".to_owned())),
            ("%START_TIME%", Err("%START_TIME%".to_owned())),
            ("%REQ(X?Y)%", Err("%REQ(X?Y)%".to_owned())),
            ("%REQ(X):5%", Err("%REQ(X):5%".to_owned())),
            ("%DYNAMIC_METADATA(a:b)%", Err("%DYNAMIC_METADATA(a:b)%".to_owned())),
        ] {
            assert_eq!(format(text), want, "{text}");
        }
    }
}
