//! What is illegal in a VirtualService: where, and in which words.

use super::*;

/// The errors of an object, each without the place it is at but for the path.
fn errors(spec: &str) -> Vec<String> {
    let errors = objects(&document(spec)).expect_err(spec);
    let of = |error: &String| error.split_once("VirtualService shop/v: ").unwrap().1.to_owned();
    errors.iter().map(of).collect()
}

/// Each row: one rule of `http`, and its only error behind `spec.http[0]`.
fn table(rows: &[(&str, &str)]) {
    for (rule, want) in rows {
        let got = errors(&format!("{{hosts: [web], http: [{rule}]}}"));
        assert_eq!(got, [format!("spec.http[0]{want}")], "{rule}");
    }
}

const TO: &str = "route: [{destination: {host: web}}]";

#[test]
fn in_the_object() {
    let rule = "http: [{route: [{destination: {host: web}}]}]";
    for (spec, want) in [
        ("{hosts: [web]}".to_owned(), "spec: missing, expected at least one rule in http, tcp or tls"),
        ("[]".to_owned(), "spec: expected a map, found a list of 0"),
        (format!("{{host: [web], {rule}}}"), "spec.host: unknown field, did you mean \"hosts\"?"),
        (
            format!("{{hosts: [Web], {rule}}}"),
            "spec.hosts[0]: expected a host name, \"*.\" and a host name, or an IP address, found \"Web\"",
        ),
        (
            format!("{{hosts: ['a.*'], {rule}}}"),
            "spec.hosts[0]: expected a host name, \"*.\" and a host name, or an IP address, found \"a.*\"",
        ),
        (
            format!("{{hosts: ['*'], {rule}}}"),
            "spec.hosts[0]: expected a host other than \"*\", since gateways is empty or has \"mesh\", found \"*\"",
        ),
        (format!("{{hosts: [a, b, a], {rule}}}"), "spec.hosts[2]: the same host as spec.hosts[0]"),
        (
            format!("{{hosts: [a], gateways: [a/b/c], {rule}}}"),
            "spec.gateways[0]: expected \"mesh\", the name of a gateway, or its namespace and name as namespace/name, found \"a/b/c\"",
        ),
        (
            format!("{{hosts: [a], exportTo: [A], {rule}}}"),
            "spec.exportTo[0]: expected \"*\", \".\", \"~\" or a namespace, found \"A\"",
        ),
        (
            format!("{{gateways: [mesh], {rule}}}"),
            "spec.gateways: only together with hosts: without them it is one that others delegate to",
        ),
    ] {
        assert_eq!(errors(&spec), [want], "{spec}");
    }
}

#[test]
fn errors_name_file_line_and_field() {
    let text = document("\n  hosts: [web]\n  http:\n  - redirect: {uri: /a}\n    weight: 3");
    assert_eq!(
        objects(&text).unwrap_err(),
        ["f.yaml:8 (document 1): VirtualService shop/v: spec.http[0].weight: unknown field"]
    );
}

#[test]
fn in_what_becomes_of_a_request() {
    table(&[
        ("{name: n}", ": missing, expected one of route, redirect, directResponse and delegate"),
        ("{route: []}", ": missing, expected one of route, redirect, directResponse and delegate"),
        ("{route: [{destination: {host: web}}], redirect: {uri: /}}", ".redirect: not together with route"),
        ("{redirect: {uri: /}, directResponse: {status: 200}}", ".directResponse: not together with route or redirect"),
        (
            "{route: [{destination: {host: web}}], delegate: {name: d}}",
            ".delegate: not together with route, redirect or directResponse",
        ),
        ("{redirect: {uri: /}, rewrite: {uri: /}}", ".rewrite: not together with redirect"),
        ("{directResponse: {status: 200}, rewrite: {uri: /}}", ".rewrite: not together with directResponse"),
        ("{route: [{weight: 1}]}", ".route[0].destination: missing, expected a map with at least a host"),
        ("{route: [{destination: {}}]}", ".route[0].destination.host: missing, expected the name of a service"),
        (
            "{route: [{destination: {host: '*.a'}}]}",
            ".route[0].destination.host: expected a host name without '*', found \"*.a\"",
        ),
        (
            "{route: [{destination: {host: a, port: {number: 0}}}]}",
            ".route[0].destination.port.number: expected a port, 1 to 65535, found the number 0",
        ),
        (
            "{route: [{destination: {host: a}, weight: -1}]}",
            ".route[0].weight: expected a whole number from 0 to 2147483647, found the number -1",
        ),
        ("{route: [{destination: {host: a}, wieght: 1}]}", ".route[0].wieght: unknown field, did you mean \"weight\"?"),
        ("{redirect: {}}", ".redirect: expected at least one field, found a map of 0 fields"),
        ("{redirect: {uri: a}}", ".redirect.uri: the path does not begin with '/'"),
        ("{redirect: {uri: /a, prefixRewrite: /b}}", ".redirect.uri: not together with prefixRewrite"),
        ("{redirect: {port: 1, derivePort: FROM_REQUEST_PORT}}", ".redirect.port: not together with derivePort"),
        (
            "{redirect: {derivePort: X}}",
            ".redirect.derivePort: expected \"FROM_PROTOCOL_DEFAULT\" or \"FROM_REQUEST_PORT\", found \"X\"",
        ),
        (
            "{redirect: {uri: /, redirectCode: 200}}",
            ".redirect: status 200 of a redirect, expected 301, 302, 303, 307 or 308",
        ),
        ("{redirect: {scheme: ftp}}", ".redirect.scheme: expected \"http\" or \"https\", found \"ftp\""),
        (
            "{redirect: {authority: a@b}}",
            ".redirect.authority: \"a@b\" names no host: expected letters, digits, '-', '_' and '.', or an IP address",
        ),
        ("{directResponse: {}}", ".directResponse.status: missing, expected a status, 200 to 599"),
        ("{directResponse: {status: 99}}", ".directResponse: status 99 of an answer, expected 200 to 599"),
        (
            "{directResponse: {status: 200, body: {bytes: '*'}}}",
            ".directResponse.body.bytes: expected base64, found \"*\"",
        ),
        (
            "{directResponse: {status: 200, body: {bytes: aGk=, string: a}}}",
            ".directResponse.body.string: not together with bytes",
        ),
        ("{delegate: {namespace: a}}", ".delegate.name: missing, expected the name of a VirtualService"),
    ]);
}

#[test]
fn in_a_match() {
    let rows = [
        ("{uri: {exact: /a, prefix: /b}}", ".uri.exact: not together with prefix or regex"),
        ("{uri: {prefix: a}}", ".uri: the path does not begin with '/'"),
        ("{uri: {regex: '('}}", ".uri.regex: the regular expression \"(\" cannot be used: error: unclosed group"),
        (
            "{uri: {regex: '((a{100}){100}){100}'}}",
            ".uri.regex: the regular expression \"((a{100}){100}){100}\" cannot be used: Compiled regex exceeds size limit of 131072 bytes.",
        ),
        (
            "{uri: {regex: '(?=a)'}}",
            ".uri.regex: the regular expression \"(?=a)\" cannot be used: error: look-around, including look-ahead and look-behind, is not supported",
        ),
        (
            "{headers: {'x y': {exact: a}}}",
            ".headers[\"x y\"]: \"x y\" is no name of a header: expected 1 to 256 letters, digits or signs of RFC 9110 §5.6.2",
        ),
        (
            "{headers: {method: {exact: GET}}}",
            ".headers.method: expected a header other than uri, scheme, method and authority: those are fields beside headers, found \"method\"",
        ),
        ("{headers: {x: null}}", ".headers.x: expected a map, found nothing"),
        ("{withoutHeaders: {x: a}}", ".withoutHeaders.x: expected a map, found \"a\""),
        ("{port: 70000}", ".port: expected a port, 1 to 65535, found the number 70000"),
        (
            "{sourceNamespace: A}",
            ".sourceNamespace: namespace \"A\" has the character 'A', allowed are lower-case letters, digits and '-' inside",
        ),
        ("{sourceLabels: {a: 1}}", ".sourceLabels.a: expected text, found the number 1"),
        ("{urii: {exact: /}}", ".urii: unknown field, did you mean \"uri\"?"),
    ];
    for (asked, want) in rows {
        table(&[(&format!("{{match: [{asked}], {TO}}}"), &format!(".match[0]{want}"))]);
    }
}

#[test]
fn in_the_rest_of_a_rule() {
    let rows = [
        ("timeout: 5", ".timeout: expected text, found the number 5"),
        ("timeout: 0s", ".timeout: expected a duration of at least 1ms, found \"0s\""),
        ("rewrite: {}", ".rewrite: expected at least one field, found a map of 0 fields"),
        ("rewrite: {uri: /a, uriRegexRewrite: {match: a}}", ".rewrite.uri: not together with uriRegexRewrite"),
        (
            r"rewrite: {uriRegexRewrite: {match: a, rewrite: '\1'}}",
            ".rewrite.uriRegexRewrite: the substitution \"\\\\1\" names group 1, the expression has 0",
        ),
        (
            "retries: {attempts: 0, retryOn: 5xx}",
            ".retries.retryOn: only together with attempts of at least 1: without them there are none",
        ),
        ("retries: {attempts: 101}", ".retries: 101 retries, at most 100 are allowed"),
        (
            "retries: {attempts: 1, retryOn: sometimes}",
            ".retries.retryOn: \"sometimes\" is no condition of retries: expected a status from 400 to 599 or a name such as connect-failure",
        ),
        ("fault: {}", ".fault: expected delay, abort or both, found a map of 0 fields"),
        ("fault: {delay: {}}", ".fault.delay.fixedDelay: missing, expected a duration"),
        ("fault: {delay: {exponentialDelay: 1s, fixedDelay: 1s}}", ".fault.delay.exponentialDelay: unknown field"),
        (
            "fault: {abort: {httpStatus: 503, percentage: {value: 101}}}",
            ".fault.abort.percentage.value: \"101\" percent, expected a number from 0 to 100, as 12.5",
        ),
        (
            "fault: {abort: {httpStatus: 503, percentage: {value: -1}}}",
            ".fault.abort.percentage.value: \"-1\" percent, expected a number from 0 to 100, as 12.5",
        ),
        ("fault: {abort: {httpStatus: 99}}", ".fault: status 99 of a fault, expected 200 to 599"),
        ("fault: {abort: {httpStatus: 503, grpcStatus: OK}}", ".fault.abort.httpStatus: not together with grpcStatus"),
        ("fault: {abort: {}}", ".fault.abort: expected httpStatus or grpcStatus, found a map of 0 fields"),
        (
            "fault: {abort: {grpcStatus: BAD}}",
            ".fault.abort.grpcStatus: the gRPC status \"BAD\", expected a name as UNAVAILABLE, or a number from 0 to 16",
        ),
        ("mirror: {host: a}, mirrors: []", ".mirror: not together with mirrors"),
        ("mirrorPercentage: {value: 1}", ".mirrorPercentage: only together with mirror"),
        (
            "mirrors: [{percentage: {value: 1}}]",
            ".mirrors[0].destination: missing, expected a map with at least a host",
        ),
        (
            "corsPolicy: {unmatchedPreflights: X}",
            ".corsPolicy.unmatchedPreflights: expected \"UNSPECIFIED\", \"FORWARD\" or \"IGNORE\", found \"X\"",
        ),
        (
            "corsPolicy: {allowOrigins: [{}]}",
            ".corsPolicy.allowOrigins[0]: expected exact, prefix or regex, found a map of 0 fields",
        ),
        (
            "corsPolicy: {allowMethods: ['G T']}",
            ".corsPolicy.allowMethods[0]: \"G T\" is no name of a header: expected 1 to 256 letters, digits or signs of RFC 9110 §5.6.2",
        ),
        (
            "headers: {request: {set: {'a b': c}}}",
            ".headers.request.set[\"a b\"]: \"a b\" is no name of a header: expected 1 to 256 letters, digits or signs of RFC 9110 §5.6.2",
        ),
        (
            "headers: {request: {add: {connection: close}}}",
            ".headers.request: connection cannot be changed: it frames the message",
        ),
        ("headers: {response: {remove: [host]}}", ".headers.response: host can be set, not added or removed"),
        (
            "headers: {request: {set: {a: \"b\\r\\nc: d\"}}}",
            ".headers.request.set.a: the value of a is longer than 4096 bytes or has a control character",
        ),
        (
            "headers: {request: {set: {a: '%START_TIME%'}}}",
            ".headers.request.set.a: expected a plain value: Envoy's %COMMANDS% are not known, and a '%' alone is written \"%%\", found \"%START_TIME%\"",
        ),
    ];
    for (text, want) in rows {
        table(&[(&format!("{{{TO}, {text}}}"), want)]);
    }
}

#[test]
fn in_rules_for_connections() {
    for (rule, want) in [
        ("tcp: [{match: [{port: 1}]}]", "spec.tcp[0].route: missing, expected at least one destination"),
        (
            "tcp: [{match: [{destinationSubnets: [x]}], route: [{destination: {host: a}}]}]",
            "spec.tcp[0].match[0].destinationSubnets[0]: expected an IP address or a CIDR, found \"x\"",
        ),
        ("tcp: [{route: [{destination: {host: a}, headers: {}}]}]", "spec.tcp[0].route[0].headers: unknown field"),
        (
            "tls: [{route: [{destination: {host: a}}]}]",
            "spec.tls[0].match: missing, expected at least one match with sniHosts",
        ),
        (
            "tls: [{match: [{port: 1}], route: [{destination: {host: a}}]}]",
            "spec.tls[0].match[0].sniHosts: missing, expected at least one host",
        ),
        (
            "tls: [{match: [{sniHosts: ['a:1']}], route: [{destination: {host: a}}]}]",
            "spec.tls[0].match[0].sniHosts[0]: \"a:1\" names no host: expected letters, digits, '-', '_' and '.', or an IP address",
        ),
    ] {
        assert_eq!(errors(&format!("{{hosts: [web], {rule}}}")), [want], "{rule}");
    }
}

#[test]
fn what_is_too_much_is_told_once() {
    let many = |item: &str, count: usize| vec![item; count].join(", ");
    let route = "{destination: {host: a}}";
    for (spec, want) in [
        (
            format!("{{hosts: [a], http: [{}]}}", many("{redirect: {uri: /}}", MAX_RULES + 1)),
            "spec.http: more than 16384 rules".to_owned(),
        ),
        (
            format!("{{hosts: [a], http: [{{route: [{}]}}]}}", many(route, MAX_ROUTES + 1)),
            "spec.http[0].route: more than 256 destinations".to_owned(),
        ),
        (
            format!(
                "{{hosts: [a], http: [{{match: [{}], route: [{route}]}}]}}",
                many("{uri: {regex: a}}", MAX_PATTERNS + 9)
            ),
            "spec.http[0].match[1024].uri.regex: more than 1024 regular expressions in one object".to_owned(),
        ),
        (
            format!(
                "{{hosts: [a], http: [{{match: [{}], route: [{route}]}}, {{match: [{}], route: [{route}]}}]}}",
                many("{}", MAX_MATCHES - 1),
                many("{}", 9)
            ),
            "spec.http[1].match[1]: more than 65536 matches in one object".to_owned(),
        ),
        (
            format!("{{hosts: [a], http: [{{name: {}, redirect: {{uri: /}}}}]}}", "x".repeat(MAX_TEXT + 1)),
            format!("spec.http[0].name: expected a text of at most 4096 bytes, found \"{}…\"", "x".repeat(80)),
        ),
        (
            format!(
                "{{hosts: [a], http: [{{directResponse: {{status: 200, body: {{string: &b {}}}}}}}, {}]}}",
                "x".repeat(1 << 20),
                many("{directResponse: {status: 200, body: {string: *b }}}", 6)
            ),
            "spec.http[3].directResponse.body.string: more than 4194304 bytes of texts in one object".to_owned(),
        ),
    ] {
        let mut got = errors(&spec);
        got.truncate(2);
        assert_eq!(got, [want]);
    }
}
