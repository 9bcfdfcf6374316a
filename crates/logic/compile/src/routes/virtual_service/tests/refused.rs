//! What is legal and still leads nowhere: told, refused for its share, and nothing else is touched.

use super::*;

/// The finding, behind `spec.http[0]`, and what becomes of a request.
fn nowhere(rule: &str, field: &str, why: &str, then: &str) {
    let compiled =
        made(&of_web(&format!("{{match: [{{uri: {{prefix: /a}}}}], {rule}}}, {{directResponse: {{status: 204}}}}")));
    let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
    let want = format!("VirtualService shop/v spec.http[0]{field}: {why}: {then} (f.yaml:5 (document 1))");
    assert_eq!(findings, [want], "{rule}");
    assert_eq!(get("/b").at_web(&compiled), "answered with 204", "{rule}");
}

#[test]
fn a_destination_that_is_nowhere_refuses_its_share() {
    for (destination, why) in [
        ("{host: nobody}", "no service has the host nobody.shop.svc.cluster.local, a service of the mesh is expected"),
        ("{host: example.com}", "no service has the host example.com, a service of the mesh is expected"),
        ("{host: pay}", "no service has the host pay.shop.svc.cluster.local, a service of the mesh is expected"),
        ("{host: web, port: {number: 81}}", "web.shop.svc.cluster.local has no port 81, expected one of 80"),
        ("{host: db}", "db.shop.svc.cluster.local has several ports and none is named, expected one of 5432, 443, 9"),
        ("{host: web, subset: v3}", "no DestinationRule for web.shop.svc.cluster.local has a subset \"v3\""),
        ("{host: canary, subset: v1}", "no DestinationRule for canary.shop.svc.cluster.local has a subset \"v1\""),
    ] {
        let rule = format!("route: [{{destination: {destination}}}]");
        nowhere(&rule, ".route[0].destination", why, "its share of requests is refused with 503");
        let compiled = made(&of_web(&format!("{{{rule}}}")));
        assert_eq!(get("/a").at_web(&compiled), format!("refused with 503: {why}"));
        // Another destination gets its share all the same.
        let both = made(&of_web(&format!(
            "{{route: [{{destination: {destination}, weight: 50}}, {{destination: {{host: web}}, weight: 50}}]}}"
        )));
        let mut rng = SmallRng::seed_from_u64(3);
        let host = both.serving.host(&"web.shop.svc.cluster.local".parse().unwrap()).unwrap();
        let ask = get("/a");
        let request = Request::read(ask.parts, Normalization::Base).unwrap();
        let asker = Asker { namespace: None, labels: None, gateway: MESH, port: port(80) };
        let served = (0..1_000)
            .filter(|_| host.http.decide(&request, &asker, &mut rng).action.to_string().starts_with("to web"));
        let served = served.count();
        assert!((450..550).contains(&served), "{destination}: {served}");
    }
}

#[test]
fn weights_that_add_up_to_nothing_refuse_everything() {
    for weights in [["weight: 0", "weight: 0"], ["weight: 0", "headers: {}"]] {
        let [one, other] = weights;
        let rule =
            format!("route: [{{destination: {{host: web}}, {one}}}, {{destination: {{host: canary}}, {other}}}]");
        nowhere(
            &rule,
            ".route",
            "the weights add up to 0, expected at least one of 1 or more",
            "requests are refused with 503",
        );
        let compiled = made(&of_web(&format!("{{{rule}}}")));
        assert_eq!(get("/").at_web(&compiled), "refused with 503: the weights of its backends add up to 0");
    }
}

#[test]
fn a_mirror_that_is_nowhere_gets_no_copies() {
    let why = "no service has the host nobody.shop.svc.cluster.local, a service of the mesh is expected";
    let rule =
        "route: [{destination: {host: web}}], mirrors: [{destination: {host: nobody}}, {destination: {host: canary}}]";
    nowhere(rule, "", why, "no copies are sent there");
    let compiled = made(&of_web(&format!("{{{rule}}}")));
    let said = get("/").at_web(&compiled);
    assert!(
        said.ends_with(&format!("; copies nothing: {why}; copies 100% to canary.shop.svc.cluster.local:8080")),
        "{said}"
    );
}

#[test]
fn rules_that_are_never_asked_are_told() {
    let rules = "{match: [{uri: {prefix: /a}}], redirect: {uri: /}}, {match: [{uri: {exact: /b}}, {uri: {prefix: /}}], redirect: {uri: /}}, {redirect: {uri: /}}";
    assert_eq!(
        told(&of_web(rules)),
        ["VirtualService shop/v spec.http[2]: spec.http[1] takes every request before it (f.yaml:5 (document 1))"]
    );
    for kept in ["port: 80", "sourceNamespace: a", "headers: {x: {}}", "gateways: [mesh]", "method: {exact: GET}"] {
        let rules = format!("{{match: [{{{kept}}}], redirect: {{uri: /}}}}, {{redirect: {{uri: /}}}}");
        assert_eq!(told(&of_web(&rules)), [""; 0], "{kept}");
    }
}

#[test]
fn where_an_illegal_object_stands_for_a_legal_one_that_stays() {
    let text = |uri: &str| {
        format!(
            "{{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"VirtualService\", \"metadata\": {{\"name\": \"v\", \"namespace\": \"shop\"}}, \
         \"spec\": {{\"hosts\": [\"web\"], \"http\": [{{\"match\": [{{\"uri\": {{\"regex\": \"{uri}\"}}}}], \"redirect\": {{\"uri\": \"/\"}}}}]}}}}"
        )
    };
    let sent = |uri: &str| {
        let sent: weir_manifest::Sent = serde_json::from_str(&text(uri)).unwrap();
        let kind = weir_manifest::Kind::Config(ConfigKind::VirtualService);
        let Object::Config(object) = sent.read(kind, &FileName::new("server")).unwrap() else { panic!("no config") };
        object
    };
    let mut configs = Configs::default();
    configs.set(sent("/a.*"));
    configs.set(sent("/a("));
    let objects = parse(&[(FileName::new("services.yaml"), SERVICES)]).unwrap();
    let compiled = crate::routes(&settings(), &World::new(compile(objects, &settings())), &configs);
    assert_eq!(get("/ab").at_web(&compiled), "redirected with 301");
    let findings: Vec<String> = compiled.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "VirtualService shop/v: spec.http[0].match[0].uri.regex: the regular expression \"/a(\" cannot be used: error: unclosed group; what it was \
             before stays in force"
        ]
    );
}
