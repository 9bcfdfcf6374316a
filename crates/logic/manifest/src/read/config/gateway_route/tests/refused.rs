//! What is illegal in a route: where, and in which words.

use super::*;

/// Each row: the kind, `spec`, and the only error.
fn table(rows: &[(&str, String, &str)]) {
    for (kind, spec, want) in rows {
        assert_eq!(read(kind, spec).unwrap_err(), [*want], "{kind} {spec}");
    }
}

const SECTION: &str = "a DNS subdomain: lower-case letters, digits, '-' and '.' inside, at most 253";

#[test]
fn around_the_rules() {
    let subdomain = format!("spec.parentRefs[0].sectionName: expected {SECTION}, found \"A\"");
    let long = format!("{{hostnames: [{}]}}", vec!["a.b"; 17].join(", "));
    let parents = |said: &str| format!("{{parentRefs: [{said}]}}");
    table(&[
        ("HTTPRoute", "[]".to_owned(), "spec: expected a map, found a list of 0"),
        ("HTTPRoute", "{hostname: a}".to_owned(), "spec.hostname: unknown field, did you mean \"hostnames\"?"),
        ("TCPRoute", format!("{{hostnames: [a.b], {RULES}}}"), "spec.hostnames: unknown field"),
        ("HTTPRoute", long, "spec.hostnames: more than 16 hostnames"),
        (
            "HTTPRoute",
            "{useDefaultGateways: Some}".to_owned(),
            "spec.useDefaultGateways: expected \"All\" or \"None\", found \"Some\"",
        ),
        ("HTTPRoute", parents("{}"), "spec.parentRefs[0].name: missing, expected the object's name"),
        ("HTTPRoute", parents("{name: ''}"), "spec.parentRefs[0].name: expected a name of 1 to 253 bytes, found \"\""),
        ("HTTPRoute", parents("{name: a, sectionName: A}"), &subdomain),
        (
            "HTTPRoute",
            parents("{name: a, port: 0}"),
            "spec.parentRefs[0].port: expected a port, 1 to 65535, found the number 0",
        ),
        (
            "HTTPRoute",
            parents("{name: a, kind: A.B}"),
            "spec.parentRefs[0].kind: expected a kind: letters, digits and '-' inside, at most 63, found \"A.B\"",
        ),
        (
            "HTTPRoute",
            parents("{name: a, group: A}"),
            "spec.parentRefs[0].group: expected empty, or a DNS subdomain, found \"A\"",
        ),
        ("HTTPRoute", parents("{name: a}, {name: a}"), "spec.parentRefs[1]: the same parent as spec.parentRefs[0]"),
        (
            "HTTPRoute",
            parents("{name: a, port: 1}, {name: a}"),
            "spec.parentRefs[1]: expected sectionName and port as on the other reference to the same parent: on both or on none, found a map of 1 fields",
        ),
        ("HTTPRoute", parents(&vec!["{name: a}"; 33].join(", ")), "spec.parentRefs: more than 32 parentRefs"),
        ("HTTPRoute", format!("{{rules: [{}]}}", vec!["{}"; 17].join(", ")), "spec.rules: more than 16 rules"),
        (
            "HTTPRoute",
            format!("{{rules: [{0}, {0}, {0}]}}", format!("{{matches: [{}]}}", vec!["{}"; 43].join(", "))),
            "spec.rules: more than 128 matches in all rules",
        ),
        ("TCPRoute", "{}".to_owned(), "spec.rules: missing, expected a list of at least one rule"),
        (
            "TCPRoute",
            "{rules: [{}]}".to_owned(),
            "spec.rules[0].backendRefs: missing, expected a list of at least one backend",
        ),
        (
            "TCPRoute",
            "{rules: [{backendRefs: []}]}".to_owned(),
            "spec.rules[0].backendRefs: expected a list of at least one backend, found a list of 0",
        ),
    ]);
}

#[test]
fn in_a_rule() {
    let rule = |said: &str| format!("{{rules: [{{{said}}}]}}");
    table(&[
        ("HTTPRoute", rule("match: []"), "spec.rules[0].match: unknown field, did you mean \"matches\"?"),
        ("GRPCRoute", rule("timeouts: {}"), "spec.rules[0].timeouts: unknown field"),
        ("GRPCRoute", rule("retry: {}"), "spec.rules[0].retry: unknown field"),
        ("TCPRoute", rule("backendRefs: [{name: a, port: 1}], matches: []"), "spec.rules[0].matches: unknown field"),
        (
            "TCPRoute",
            rule("backendRefs: [{name: a, port: 1, filters: []}]"),
            "spec.rules[0].backendRefs[0].filters: unknown field",
        ),
        ("HTTPRoute", "{rules: [{name: a}, {name: a}]}".to_owned(), "spec.rules[1]: the same name as spec.rules[0]"),
        (
            "HTTPRoute",
            rule(&format!("matches: [{}]", vec!["{}"; 65].join(", "))),
            "spec.rules[0].matches: more than 64 matches",
        ),
        (
            "HTTPRoute",
            rule(&format!("backendRefs: [{}]", vec!["{name: a}"; 17].join(", "))),
            "spec.rules[0].backendRefs: more than 16 backendRefs",
        ),
        (
            "HTTPRoute",
            rule("backendRefs: [{name: a, weight: -1}]"),
            "spec.rules[0].backendRefs[0].weight: expected a weight, 0 to 1000000, found the number -1",
        ),
        (
            "HTTPRoute",
            rule("timeouts: {request: 1d}"),
            "spec.rules[0].timeouts.request: expected a duration such as \"1m30s\": up to four numbers of up to five digits, each with h, m, s or ms, found \"1d\"",
        ),
        (
            "HTTPRoute",
            rule("timeouts: {request: 1s, backendRequest: 2s}"),
            "spec.rules[0].timeouts.backendRequest: contradicts timeouts.request: \"2s\"",
        ),
        (
            "HTTPRoute",
            rule("retry: {attempts: 0}"),
            "spec.rules[0].retry.attempts: expected a number of retries, 1 to 100, found the number 0",
        ),
        (
            "HTTPRoute",
            rule("retry: {codes: [399]}"),
            "spec.rules[0].retry.codes[0]: expected a status, 400 to 599, found the number 399",
        ),
        (
            "HTTPRoute",
            rule("sessionPersistence: {type: Header, cookieConfig: {}}"),
            "spec.rules[0].sessionPersistence.cookieConfig: contradicts type: \"cookieConfig\"",
        ),
        (
            "HTTPRoute",
            rule("sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}"),
            "spec.rules[0].sessionPersistence.cookieConfig: only together with absoluteTimeout",
        ),
        (
            "HTTPRoute",
            rule(&format!("sessionPersistence: {{sessionName: {}}}", "s".repeat(129))),
            &format!(
                "spec.rules[0].sessionPersistence.sessionName: expected at most 128 characters, found \"{}…\"",
                "s".repeat(80)
            ),
        ),
    ]);
}

#[test]
fn in_a_match() {
    const PATH: &str = "expected a path: '/' first, and no \"//\", \"/./\", \"/../\", \"%2f\", '#', '?' or character that RFC 3986 does not allow, found";
    let rows = [
        ("HTTPRoute", "{path: {value: a}}", format!(".path.value: {PATH} \"a\"")),
        ("HTTPRoute", "{path: {type: Exact, value: /a//b}}", format!(".path.value: {PATH} \"/a//b\"")),
        (
            "HTTPRoute",
            "{path: {type: Prefix}}",
            ".path.type: expected \"Exact\", \"PathPrefix\" or \"RegularExpression\", found \"Prefix\"".to_owned(),
        ),
        (
            "HTTPRoute",
            "{path: {type: RegularExpression, value: '[a'}}",
            ".path.value: the regular expression \"[a\" cannot be used".to_owned(),
        ),
        ("HTTPRoute", "{method: get}", ".method: expected a method such as \"GET\", found \"get\"".to_owned()),
        ("HTTPRoute", "{headers: [{name: a}]}", ".headers[0].value: missing, expected the value".to_owned()),
        (
            "HTTPRoute",
            "{headers: [{name: a, value: ''}]}",
            ".headers[0].value: expected a value that is not empty and not too long, found \"\"".to_owned(),
        ),
        (
            "HTTPRoute",
            "{headers: [{name: ':path', value: a}]}",
            ".headers[0].name: \":path\" is no name of a header: expected 1 to 256 letters, digits or signs of RFC 9110 §5.6.2"
                .to_owned(),
        ),
        (
            "HTTPRoute",
            "{headers: [{name: a, value: b}, {name: a, value: c}]}",
            ".headers[1]: the same name as spec.rules[0].matches[0].headers[0]".to_owned(),
        ),
        (
            "HTTPRoute",
            "{queryParams: [{name: a, value: b}, {name: a, value: c}]}",
            ".queryParams[1]: the same name as spec.rules[0].matches[0].queryParams[0]".to_owned(),
        ),
        (
            "HTTPRoute",
            "{queryParams: [{name: a, type: Prefix, value: b}]}",
            ".queryParams[0].type: expected \"Exact\" or \"RegularExpression\", found \"Prefix\"".to_owned(),
        ),
        ("GRPCRoute", "{path: {}}", ".path: unknown field".to_owned()),
        ("GRPCRoute", "{method: {}}", ".method: expected service, method, or both, found a map of 0 fields".to_owned()),
        (
            "GRPCRoute",
            "{method: {service: a/b}}",
            ".method.service: expected a gRPC service such as \"package.Service\", found \"a/b\"".to_owned(),
        ),
        (
            "GRPCRoute",
            "{method: {method: a.b}}",
            ".method.method: expected a gRPC method such as \"Method\", found \"a.b\"".to_owned(),
        ),
        (
            "GRPCRoute",
            "{method: {type: RegularExpression, service: '('}}",
            ".method.service: the regular expression \"(\" cannot be used".to_owned(),
        ),
    ];
    for (kind, matched, want) in rows {
        let spec = format!("{{rules: [{{matches: [{matched}]}}]}}");
        assert_eq!(read(kind, &spec).unwrap_err(), [format!("spec.rules[0].matches[0]{want}")], "{matched}");
    }
}

#[test]
fn in_a_filter() {
    let mirror = |said: &str| format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: a}}, {said}}}}}");
    let headers = |said: &str| format!("{{type: RequestHeaderModifier, requestHeaderModifier: {said}}}");
    for (filter, want) in [
        (
            "{}".to_owned(),
            ".type: missing, expected \"RequestHeaderModifier\", \"ResponseHeaderModifier\", \"RequestMirror\", \"RequestRedirect\", \"URLRewrite\", \"CORS\", \"ExternalAuth\" or \"ExtensionRef\"",
        ),
        ("{type: CORS}".to_owned(), ".cors: missing, expected what the filter does"),
        ("{type: CORS, cors: {}, urlRewrite: {}}".to_owned(), ".urlRewrite: not together with a type that is another"),
        (headers("{sets: []}"), ".requestHeaderModifier.sets: unknown field, did you mean \"set\"?"),
        (
            headers("{set: [{name: a, value: b}, {name: a, value: c}]}"),
            ".requestHeaderModifier.set[1]: the same name as spec.rules[0].filters[0].requestHeaderModifier.set[0]",
        ),
        (headers("{add: [{name: a}]}"), ".requestHeaderModifier.add[0].value: missing, expected the header's value"),
        (
            headers("{add: [{name: a, value: \"b\\r\\nc\"}]}"),
            ".requestHeaderModifier.add[0].value: the value of a is longer than 4096 bytes or has a control character",
        ),
        (headers("{remove: [host]}"), ".requestHeaderModifier: host can be set, not added or removed"),
        (mirror("percent: 101"), ".requestMirror.percent: expected a percentage, 0 to 100, found the number 101"),
        (mirror("percent: 1, fraction: {numerator: 1}"), ".requestMirror.percent: not together with fraction"),
        (
            mirror("fraction: {numerator: 3, denominator: 2}"),
            ".requestMirror.fraction: the fraction 3/2, expected at most 1 and a denominator of at least 1",
        ),
        (
            mirror("fraction: {numerator: 0, denominator: 0}"),
            ".requestMirror.fraction.denominator: expected a whole number of at least 1, found the number 0",
        ),
    ] {
        let spec = format!("{{rules: [{{filters: [{filter}]}}]}}");
        assert_eq!(read("HTTPRoute", &spec).unwrap_err(), [format!("spec.rules[0].filters[0]{want}")], "{filter}");
    }
}

#[test]
fn in_a_filter_of_urls_and_origins() {
    let cors = |said: &str| format!("{{type: CORS, cors: {said}}}");
    let redirect = |said: &str| format!("{{type: RequestRedirect, requestRedirect: {said}}}");
    let rewrite = |said: &str| format!("{{type: URLRewrite, urlRewrite: {said}}}");
    let auth = |said: &str| format!("{{type: ExternalAuth, externalAuth: {{backendRef: {{name: a}}, {said}}}}}");
    for (filter, want) in [
        (
            redirect("{statusCode: 304}"),
            ".requestRedirect: status 304 of a redirect, expected 301, 302, 303, 307 or 308",
        ),
        (
            redirect("{statusCode: 200}"),
            ".requestRedirect.statusCode: expected 301, 302, 303, 307 or 308, found the number 200",
        ),
        (redirect("{scheme: ftp}"), ".requestRedirect.scheme: expected \"http\" or \"https\", found \"ftp\""),
        (redirect("{hostname: '*.a'}"), ".requestRedirect.hostname: expected a host name without '*', found \"*.a\""),
        (rewrite("{path: {type: ReplaceFullPath}}"), ".urlRewrite.path.replaceFullPath: missing, expected a path"),
        (
            rewrite("{path: {type: ReplaceFullPath, replaceFullPath: /, replacePrefixMatch: /}}"),
            ".urlRewrite.path.replacePrefixMatch: not together with a type that is another",
        ),
        (
            rewrite("{path: {type: ReplaceFullPath, replaceFullPath: a}}"),
            ".urlRewrite.path.replaceFullPath: the path does not begin with '/'",
        ),
        (
            cors("{allowOrigins: [example.com]}"),
            ".cors.allowOrigins[0]: the origin \"example.com\", expected \"*\" or scheme://host[:port] with a host that may begin with '*'",
        ),
        (
            cors("{allowMethods: [GET, '*']}"),
            ".cors.allowMethods[1]: expected \"*\" alone, or names without \"*\", found \"*\"",
        ),
        (
            cors("{allowMethods: [LIST]}"),
            ".cors.allowMethods[0]: expected a method such as \"GET\", or \"*\", found \"LIST\"",
        ),
        (cors("{maxAge: 0}"), ".cors.maxAge: expected a number of seconds, at least 1, found the number 0"),
        (
            "{type: ExtensionRef, extensionRef: {kind: A, name: b}}".to_owned(),
            ".extensionRef.group: missing, expected the object's group",
        ),
        (
            auth("protocol: HTTP"),
            ".externalAuth.protocol: expected \"HTTP\" with http, or \"GRPC\" with grpc, found \"HTTP\"",
        ),
        (auth("protocol: GRPC, grpc: {allowed: []}"), ".externalAuth.grpc.allowed: unknown field"),
    ] {
        let spec = format!("{{rules: [{{filters: [{filter}]}}]}}");
        assert_eq!(read("HTTPRoute", &spec).unwrap_err(), [format!("spec.rules[0].filters[0]{want}")], "{filter}");
    }
}

#[test]
fn in_filters_together() {
    let cors = |said: &str| format!("{{type: CORS, cors: {said}}}");
    let redirect = |said: &str| format!("{{type: RequestRedirect, requestRedirect: {said}}}");
    let rewrite = |said: &str| format!("{{type: URLRewrite, urlRewrite: {said}}}");
    let prefix = "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}";
    let grpc = "\"RequestHeaderModifier\", \"ResponseHeaderModifier\", \"RequestMirror\" or \"ExtensionRef\"";
    let unknown = "spec.rules[0].filters[0].urlRewrite: unknown field";
    let other = format!("spec.rules[0].filters[0].type: expected {grpc}, found \"URLRewrite\"");
    let spec = format!("{{rules: [{{filters: [{}]}}]}}", rewrite("{}"));
    assert_eq!(read("GRPCRoute", &spec).unwrap_err(), [unknown.to_owned(), other]);

    for (rule, want) in [
        (
            format!("filters: [{0}, {0}]", cors("{}")),
            "spec.rules[0].filters[1]: the same type as spec.rules[0].filters[0]",
        ),
        (
            format!("filters: [{}, {}]", redirect("{}"), rewrite("{}")),
            "spec.rules[0].filters[1]: not together with a filter of type RequestRedirect or URLRewrite",
        ),
        (
            format!("filters: [{}], backendRefs: [{{name: a}}]", redirect("{}")),
            "spec.rules[0].backendRefs: not together with a filter of type RequestRedirect",
        ),
        (
            format!("matches: [{{path: {{type: Exact, value: /a}}}}], filters: [{}]", rewrite(prefix)),
            "spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch: only together with exactly one match, whose path is of type PathPrefix",
        ),
        (
            format!("matches: [{{}}, {{}}], backendRefs: [{{name: a, filters: [{}]}}]", redirect(prefix)),
            "spec.rules[0].backendRefs[0].filters[0].requestRedirect.path.replacePrefixMatch: only together with exactly one match, whose path is of type PathPrefix",
        ),
    ] {
        assert_eq!(read("HTTPRoute", &format!("{{rules: [{{{rule}}}]}}")).unwrap_err(), [want], "{rule}");
    }
}
