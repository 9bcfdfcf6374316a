//! VirtualServices: every field is read, everything else is an error with its place.

mod refused;

use std::time::Duration;

use proptest::prelude::*;
use weir_model::Port;
use weir_route::{
    Abort, AskerMatch, Case, Cors, Credentials, Delay, DirectResponse, Fault, HeaderChanges, HeaderValue, Localities,
    MESH, OriginMatch, PathRewrite, Pattern, Redirect, RedirectPort, RegexRewrite, RetryOn, RetryPolicy, Rewrite,
    SameEndpoint, Scheme, StringMatch, TcpMatch, Unmatched,
};

use weir_request::Normalization::Base;

use super::*;
use crate::{
    FileName, Kind, Object, Sent,
    object::{
        ConfigKind, ConfigObject, ConfigSpec, ExportTo, VirtualAct, VirtualDelegate, VirtualDestination,
        VirtualHeaders, VirtualHttp, VirtualMatch, VirtualMirror, VirtualRetries, VirtualRoute, VirtualTcp,
        VirtualTcpMatch, VirtualTls, VirtualTlsMatch, VirtualUri,
    },
    parse,
};

pub(super) fn document(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: shop}}\nspec: {spec}\n"
    )
}

fn objects(text: &str) -> Result<Vec<ConfigObject>, Vec<String>> {
    let read = parse(&[(FileName::new("f.yaml"), text)]);
    read.map(|objects| objects.configs).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn said(object: ConfigObject) -> VirtualServiceSpec {
    let ConfigSpec::VirtualService(spec) = object.spec else { panic!("no VirtualService: {object:?}") };
    *spec
}

fn read(spec: &str) -> VirtualServiceSpec {
    let mut objects = objects(&document(spec)).unwrap_or_else(|errors| panic!("{spec}: {errors:#?}"));
    assert_eq!(objects.len(), 1, "{spec}");
    said(objects.remove(0))
}

/// What one rule for requests says.
fn rule(text: &str) -> VirtualHttp {
    read(&format!("{{hosts: [web], http: [{text}]}}")).http.remove(0)
}

/// What one match of one rule says.
fn asked(text: &str) -> VirtualMatch {
    rule(&format!("{{match: [{text}], route: [{{destination: {{host: web}}}}]}}")).matches.remove(0)
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn prefix(text: &str) -> StringMatch {
    StringMatch::Prefix(text.into())
}

fn regex(text: &str) -> StringMatch {
    StringMatch::Regex(Pattern::new(text).unwrap())
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn to(host: &str) -> VirtualDestination {
    VirtualDestination { host: host.into(), port: None, subset: None }
}

fn uri(text: StringMatch, case: Case) -> Option<VirtualUri> {
    VirtualUri::new(text, case).unwrap()
}

#[test]
fn the_whole_object_is_read() {
    let spec = read(
        "{hosts: [web, '*.shop.svc.cluster.local', web.example.com, 10.0.0.1, '::1'], gateways: [mesh, edge, infra/edge], \
         exportTo: ['.', '*', other], http: [{route: [{destination: {host: web}}]}]}",
    );
    let hosts = [
        VirtualHost::Name("web".into()),
        VirtualHost::Below(".shop.svc.cluster.local".into()),
        VirtualHost::Name("web.example.com".into()),
        VirtualHost::Address("10.0.0.1".parse().unwrap()),
        VirtualHost::Address("::1".parse().unwrap()),
    ];
    assert_eq!(spec.hosts, hosts);
    assert_eq!(spec.gateways, [MESH.into(), "shop/edge".into(), Box::from("infra/edge")]);
    let others = ["other".parse().unwrap()].into();
    let some = read("{hosts: [a], exportTo: ['.', other], http: [{redirect: {uri: /}}]}");
    assert_eq!((spec.export_to, some.export_to), (ExportTo::Everywhere, ExportTo::Only { own: true, others }));
    let of_gateways = read("{hosts: ['*'], gateways: [edge], http: [{route: [{destination: {host: web}}]}]}");
    assert_eq!(of_gateways.hosts, [VirtualHost::Any]);
    let delegate = read("{http: [{route: [{destination: {host: web}}]}]}");
    assert_eq!((delegate.hosts, delegate.http[0].line), (vec![], 4));
}

#[test]
fn every_field_of_a_match_is_read() {
    let labels = || vec![("app".into(), "web".into()), ("v".into(), "1".into())];
    let any = VirtualMatch::default;
    let by = |asker: AskerMatch| VirtualMatch { asker, ..any() };
    for (text, want) in [
        ("{}", any()),
        ("{name: n, statPrefix: s}", VirtualMatch { name: Some("n".into()), stat_prefix: Some("s".into()), ..any() }),
        ("{uri: {exact: /a}}", VirtualMatch { uri: uri(exact("/a"), Case::Counts), ..any() }),
        ("{uri: {prefix: /%61}, ignoreUriCase: true}", VirtualMatch { uri: uri(prefix("/a"), Case::Ignored), ..any() }),
        ("{uri: {regex: '/a[0-9]'}}", VirtualMatch { uri: uri(regex("/a[0-9]"), Case::Counts), ..any() }),
        ("{uri: {}}", any()),
        ("{scheme: {exact: https}}", VirtualMatch { scheme: Some(exact("https")), ..any() }),
        ("{method: {regex: 'GET|HEAD'}}", VirtualMatch { method: Some(regex("GET|HEAD")), ..any() }),
        ("{authority: {prefix: web}}", VirtualMatch { authority: Some(prefix("web")), ..any() }),
        (
            "{headers: {X-A: {exact: b}, x-there: {}}}",
            VirtualMatch {
                headers: vec![("x-a".parse().unwrap(), exact("b")), ("x-there".parse().unwrap(), StringMatch::Present)],
                ..any()
            },
        ),
        (
            "{withoutHeaders: {x-a: {prefix: b}}}",
            VirtualMatch { without_headers: vec![("x-a".parse().unwrap(), prefix("b"))], ..any() },
        ),
        ("{queryParams: {q: {exact: ''}}}", VirtualMatch { query: vec![("q".into(), exact(""))], ..any() }),
        ("{port: 80}", by(AskerMatch { port: Some(port(80)), ..AskerMatch::default() })),
        ("{sourceLabels: {app: web, v: '1'}}", by(AskerMatch { labels: labels(), ..AskerMatch::default() })),
        (
            "{sourceNamespace: other}",
            by(AskerMatch { namespace: Some("other".parse().unwrap()), ..AskerMatch::default() }),
        ),
        (
            "{gateways: [mesh, edge]}",
            by(AskerMatch { gateways: vec![MESH.into(), "shop/edge".into()], ..AskerMatch::default() }),
        ),
    ] {
        assert_eq!(asked(text), want, "{text}");
    }
}

#[test]
fn every_way_to_act_is_read() {
    let redirect = || Redirect::new(301).unwrap();
    let of = |act: &str| rule(&format!("{{{act}}}")).act;
    let changes = HeaderChanges::new(
        vec![HeaderValue::new("x".parse().unwrap(), "1%").unwrap()],
        vec![HeaderValue::new("y".parse().unwrap(), "2").unwrap()],
        vec!["z".parse().unwrap()],
    );
    let headers = VirtualHeaders {
        request: changes.unwrap(),
        response: HeaderChanges::new(vec![], vec![], vec!["server".parse().unwrap()]).unwrap(),
    };
    let routed = VirtualRoute {
        line: 4,
        destination: VirtualDestination { host: "web".into(), port: Some(port(80)), subset: Some("v1".into()) },
        weight: Some(9),
        headers,
    };
    let none = VirtualRoute { line: 4, destination: to("b.c"), weight: None, headers: VirtualHeaders::default() };
    let whole = PathRewrite::whole("/x", Base).unwrap();
    for (act, want) in [
        (
            "route: [{destination: {host: web, port: {number: 80}, subset: v1}, weight: 9, headers: {request: {set: {X: '1%%'}, \
             add: {y: '2'}, remove: [z]}, response: {remove: [server]}}}, {destination: {host: b.c}}]",
            VirtualAct::Route(vec![routed, none]),
        ),
        ("redirect: {uri: /x}", VirtualAct::Redirect(redirect().with_path(whole.clone()))),
        ("redirect: {uri: '/x?a=b'}", VirtualAct::Redirect(redirect().with_path(whole).with_query("a=b").unwrap())),
        (
            "redirect: {prefixRewrite: /x, redirectCode: 308}",
            VirtualAct::Redirect(Redirect::new(308).unwrap().with_path(PathRewrite::prefix("/x", Base).unwrap())),
        ),
        (
            "redirect: {authority: 'a:1', scheme: https}",
            VirtualAct::Redirect(redirect().with_scheme(Scheme::Https).with_authority("a:1").unwrap()),
        ),
        ("redirect: {port: 81}", VirtualAct::Redirect(redirect().with_port(RedirectPort::Is(port(81))))),
        (
            "redirect: {scheme: http, derivePort: FROM_PROTOCOL_DEFAULT}",
            VirtualAct::Redirect(redirect().with_scheme(Scheme::Http).with_port(RedirectPort::OfScheme)),
        ),
        (
            "redirect: {derivePort: FROM_REQUEST_PORT}",
            VirtualAct::Redirect(redirect().with_port(RedirectPort::OfRequest)),
        ),
        ("directResponse: {status: 503}", VirtualAct::Respond(DirectResponse::new(503, b"").unwrap())),
        (
            "directResponse: {status: 200, body: {string: hi}}",
            VirtualAct::Respond(DirectResponse::new(200, b"hi").unwrap()),
        ),
        (
            "directResponse: {status: 200, body: {bytes: aGk=}}",
            VirtualAct::Respond(DirectResponse::new(200, b"hi").unwrap()),
        ),
        ("delegate: {name: d}", VirtualAct::Delegate(VirtualDelegate { namespace: None, name: "d".into() })),
        (
            "delegate: {name: d, namespace: other}",
            VirtualAct::Delegate(VirtualDelegate { namespace: Some("other".parse().unwrap()), name: "d".into() }),
        ),
    ] {
        assert_eq!(of(act), want, "{act}");
    }
}

#[test]
fn every_other_field_of_a_rule_is_read() {
    let of = |text: &str| rule(&format!("{{route: [{{destination: {{host: web}}}}], {text}}}"));
    let second = Duration::from_secs(1);
    let read = of("name: n, timeout: 1s, headers: {request: {set: {':authority': web2}}}");
    assert_eq!((read.name.as_deref(), read.timeout), (Some("n"), Some(second)));
    assert_eq!(read.headers.unwrap().request.host(), Some("web2"));

    let path = |text: &str| Some(PathRewrite::prefix(text, Base).unwrap());
    let expression = PathRewrite::regex(RegexRewrite::new("/a(.*)", r"/b\1").unwrap());
    for (text, want) in [
        ("{uri: /b}", Rewrite::new(path("/b"), None)),
        ("{uri: /b, authority: web2}", Rewrite::new(path("/b"), Some("web2"))),
        (r"{uriRegexRewrite: {match: '/a(.*)', rewrite: '/b\1'}}", Rewrite::new(Some(expression), None)),
    ] {
        assert_eq!(of(&format!("rewrite: {text}")).rewrite, want.ok(), "{text}");
    }

    let policy = |attempts, on: &str| RetryPolicy::new(attempts, on.parse().unwrap(), None).unwrap();
    let default = RetryOn::default().to_string();
    let mut picky = RetryPolicy::new(3, "5xx,409".parse().unwrap(), Some(second)).unwrap();
    (picky.same_endpoint, picky.localities) = (SameEndpoint::Allowed, Localities::Remote);
    for (text, policy, attempt) in [
        ("{attempts: 0}", policy(0, &default), None),
        ("{}", policy(0, &default), None),
        ("{attempts: 3}", policy(3, &default), None),
        ("{attempts: 3, perTryTimeout: 1s}", policy(3, &default), Some(second)),
        (
            "{attempts: 3, retryOn: '5xx,409', backoff: 1s, retryIgnorePreviousHosts: false, retryRemoteLocalities: true}",
            picky,
            None,
        ),
    ] {
        assert_eq!(of(&format!("retries: {text}")).retries, Some(VirtualRetries { policy, attempt }), "{text}");
    }

    let delay = |percent: &str| Some(Delay::new(second, percent.parse().unwrap()).unwrap());
    let abort = |abort, percent: &str| Some((abort, percent.parse().unwrap()));
    let unavailable = Abort::Grpc("UNAVAILABLE".parse().unwrap());
    for (text, want) in [
        ("{delay: {fixedDelay: 1s}}", Fault::new(delay("0"), None)),
        ("{delay: {fixedDelay: 1s, percentage: {value: 12.5}}}", Fault::new(delay("12.5"), None)),
        ("{delay: {fixedDelay: 1s, percent: 10}}", Fault::new(delay("10"), None)),
        ("{abort: {httpStatus: 503, percentage: {value: 100}}}", Fault::new(None, abort(Abort::Http(503), "100"))),
        ("{abort: {grpcStatus: UNAVAILABLE, percentage: {}}}", Fault::new(None, abort(unavailable, "0"))),
        ("{delay: {fixedDelay: 1s}, abort: {httpStatus: 400}}", Fault::new(delay("0"), abort(Abort::Http(400), "0"))),
    ] {
        assert_eq!(of(&format!("fault: {text}")).fault, want.ok(), "{text}");
    }

    let mirror = |percent: &str| vec![VirtualMirror { destination: to("m"), percent: percent.parse().unwrap() }];
    for (text, want) in [
        ("mirror: {host: m}", mirror("100")),
        ("mirror: {host: m}, mirrorPercentage: {value: 0.5}", mirror("0.5")),
        ("mirror: {host: m}, mirrorPercent: 7", mirror("7")),
        ("mirror: {host: m}, mirror_percent: 7", mirror("7")),
        ("mirrors: [{destination: {host: m}, percentage: {value: 3}}]", mirror("3")),
        ("mirrors: [{destination: {host: m}}]", mirror("100")),
        ("mirrors: []", vec![]),
    ] {
        assert_eq!(of(text).mirrors, Some(want), "{text}");
    }
}

#[test]
fn every_field_of_cors_is_read() {
    let of = |text: &str| rule(&format!("{{route: [{{destination: {{host: web}}}}], corsPolicy: {text}}}")).cors;
    let origins = [exact("https://a"), prefix("https://b"), regex("https://.*"), exact("*")];
    let all = Cors {
        origins: origins.map(OriginMatch::text).into(),
        methods: vec!["GET".into()],
        request_headers: vec!["X-A".into()],
        exposed_headers: vec!["x-b".parse().unwrap()],
        max_age: Some(Duration::from_secs(3_600)),
        credentials: Credentials::Allowed,
        unmatched: Unmatched::Answered,
    };
    let text = "{allowOrigins: [{exact: 'https://a'}, {prefix: 'https://b'}, {regex: 'https://.*'}], allowOrigin: ['*'], \
         allowMethods: [GET], allowHeaders: [X-A], exposeHeaders: [X-B], maxAge: 1h, allowCredentials: true, unmatchedPreflights: IGNORE}";
    assert_eq!(of(text), Some(all));
    for text in ["{}", "{unmatchedPreflights: FORWARD}", "{unmatchedPreflights: UNSPECIFIED, allowCredentials: false}"]
    {
        assert_eq!(of(text), Some(Cors::default()), "{text}");
    }
}

#[test]
fn rules_for_connections_are_read() {
    let spec = read(
        "{hosts: [db], tcp: [{match: [{destinationSubnets: [10.0.0.0/8, 'fd00::1', '::ffff:10.1.2.3'], port: 5432, sourceLabels: {a: b}, \
         sourceNamespace: x, gateways: [mesh], sourceSubnet: 192.0.2.1}], route: [{destination: {host: db}, weight: 1}]}], \
         tls: [{match: [{sniHosts: [a.b, '*.c'], port: 443, destinationSubnets: [10.0.0.1]}], route: [{destination: {host: db}}]}]}",
    );
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let asked = TcpMatch {
        destinations: nets(&["10.0.0.0/8", "fd00::1/128", "10.1.2.3/32"]),
        asker: AskerMatch {
            port: Some(port(5432)),
            labels: vec![("a".into(), "b".into())],
            namespace: Some("x".parse().unwrap()),
            gateways: vec![MESH.into()],
        },
        ..TcpMatch::default()
    };
    let route =
        |weight| vec![VirtualRoute { line: 4, destination: to("db"), weight, headers: VirtualHeaders::default() }];
    let matches = vec![VirtualTcpMatch { asked, source: Some("192.0.2.1/32".parse().unwrap()) }];
    assert_eq!(spec.tcp, [VirtualTcp { line: 4, matches, routes: route(Some(1)) }]);
    let asked = TcpMatch {
        destinations: nets(&["10.0.0.1/32"]),
        asker: AskerMatch { port: Some(port(443)), ..AskerMatch::default() },
        ..TcpMatch::default()
    };
    let sni_hosts = vec!["a.b".parse().unwrap(), "*.c".parse().unwrap()];
    assert_eq!(
        spec.tls,
        [VirtualTls { line: 4, matches: vec![VirtualTlsMatch { sni_hosts, asked }], routes: route(None) }]
    );
}

#[test]
fn what_a_server_sends_is_read_alike_or_is_a_rejected_one() {
    let sent = |spec: &str| {
        let json = format!(
            "{{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"VirtualService\", \"metadata\": {{\"name\": \"v\", \"namespace\": \"shop\"}}, \
             \"spec\": {spec}}}"
        );
        let sent: Sent = serde_json::from_str(&json).unwrap();
        let object = sent.read(Kind::Config(ConfigKind::VirtualService), &FileName::new("server")).unwrap();
        let Object::Config(object) = object else { panic!("{object:?}") };
        object
    };
    let legal = sent(r#"{"hosts": ["web"], "http": [{"timeout": "2s", "route": [{"destination": {"host": "web"}}]}]}"#);
    assert_eq!(said(legal).http[0].timeout, Some(Duration::from_secs(2)));
    let illegal =
        sent(r#"{"hosts": ["web"], "http": [{"timeouts": "2s", "route": [{"destination": {"host": "web"}}]}]}"#);
    let ConfigSpec::Rejected(why) = illegal.spec else { panic!("{:?}", illegal.spec) };
    assert_eq!(&*why, "spec.http[0].timeouts: unknown field, did you mean \"timeout\"?");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_reason(text in "[{}\\[\\],:a-z*./%0-9' -]{0,60}", at in 0_usize..6) {
        let spec = match at {
            0 => text,
            1 => format!("{{hosts: [{text}]}}"),
            2 => format!("{{hosts: [a], http: [{text}]}}"),
            3 => format!("{{hosts: [a], http: [{{match: [{text}], route: [{{destination: {{host: a}}}}]}}]}}"),
            4 => format!("{{hosts: [a], http: [{{redirect: {{uri: {text}}}}}]}}"),
            _ => format!("{{hosts: [a], http: [{{timeout: {text}, directResponse: {{status: 200}}}}]}}"),
        };
        if let Err(errors) = objects(&document(&spec)) {
            prop_assert!(!errors.is_empty());
        }
    }
}
