//! What is illegal in a policy: where, and in which words.

use super::*;

const TEXT: &str = "expected text in full, \"prefix*\", \"*suffix\" or \"*\", with no other '*' and not empty, found";
const PATH: &str = "expected a path with '{*}' and '{**}' as whole segments, none of them after a '{**}', and no other '{' or '}', found";

/// Each row: `spec`, the only error, with `$` for `spec.rules[0]`.
pub(super) fn table(kind: Kind, rows: &[(&str, &str)]) {
    for (spec, want) in rows {
        let (lines, _) = refused(kind, "", spec);
        assert_eq!(lines, [want.replace('$', "spec.rules[0]")], "{spec}");
    }
}

#[test]
fn in_a_source() {
    let rows: Vec<(String, String)> = [
        ("{}", "expected at least one field with a value, found a map of 0 fields".to_owned()),
        ("{principals: []}", "expected at least one field with a value, found a map of 1 fields".to_owned()),
        ("[]", "expected a map, found a list of 0".to_owned()),
        ("{principal: [a]}", "|.principal: unknown field, did you mean \"principals\"?".to_owned()),
        ("{principals: a}", "|.principals: expected a list, found \"a\"".to_owned()),
        ("{principals: [null]}", "|.principals[0]: expected text, found nothing".to_owned()),
        ("{principals: [7]}", "|.principals[0]: expected text, found the number 7".to_owned()),
        ("{principals: ['']}", format!("|.principals[0]: {TEXT} \"\"")),
        ("{principals: ['spiffe://']}", format!("|.principals[0]: {TEXT} \"spiffe://\"")),
        ("{notPrincipals: [a, 'a*b']}", format!("|.notPrincipals[1]: {TEXT} \"a*b\"")),
        ("{requestPrincipals: ['**']}", format!("|.requestPrincipals[0]: {TEXT} \"**\"")),
        ("{notRequestPrincipals: ['']}", format!("|.notRequestPrincipals[0]: {TEXT} \"\"")),
        ("{namespaces: ['*a*']}", format!("|.namespaces[0]: {TEXT} \"*a*\"")),
        ("{notNamespaces: ['']}", format!("|.notNamespaces[0]: {TEXT} \"\"")),
        ("{trustDomains: ['']}", format!("|.trustDomains[0]: {TEXT} \"\"")),
        ("{notTrustDomains: ['a*b']}", format!("|.notTrustDomains[0]: {TEXT} \"a*b\"")),
        ("{ipBlocks: [10.0.0]}", "|.ipBlocks[0]: expected an IP address or a CIDR, found \"10.0.0\"".to_owned()),
        ("{notIpBlocks: [10.0.0.0/33]}", "|.notIpBlocks[0]: expected an IP address or a CIDR, found \"10.0.0.0/33\"".to_owned()),
        ("{remoteIpBlocks: ['fd00::/129']}", "|.remoteIpBlocks[0]: expected an IP address or a CIDR, found \"fd00::/129\"".to_owned()),
        ("{notRemoteIpBlocks: ['']}", "|.notRemoteIpBlocks[0]: expected an IP address or a CIDR, found \"\"".to_owned()),
        ("{serviceAccounts: [a/b/c]}", "|.serviceAccounts[0]: service account \"b/c\" has the character '/', allowed are lower-case letters, digits, '-' and '.' inside".to_owned()),
        ("{serviceAccounts: ['/b']}", "|.serviceAccounts[0]: empty namespace".to_owned()),
        ("{serviceAccounts: ['a/']}", "|.serviceAccounts[0]: empty service account".to_owned()),
        ("{notServiceAccounts: ['a/*']}", "|.notServiceAccounts[0]: service account \"*\" has the character '*', allowed are lower-case letters, digits, '-' and '.' inside".to_owned()),
        ("{serviceAccounts: [a], principals: [b]}", "|.serviceAccounts: not together with principals or namespaces".to_owned()),
        ("{serviceAccounts: [a], notPrincipals: [b]}", "|.serviceAccounts: not together with principals or namespaces".to_owned()),
        ("{notServiceAccounts: [a], namespaces: [b]}", "|.notServiceAccounts: not together with principals or namespaces".to_owned()),
        ("{notServiceAccounts: [a], notNamespaces: [b]}", "|.notServiceAccounts: not together with principals or namespaces".to_owned()),
    ]
    .into_iter()
    .map(|(source, want)| {
        let at = "$.from[0].source";
        let want = want.strip_prefix('|').map_or_else(|| format!("{at}: {want}"), |rest| format!("{at}{rest}"));
        (format!("{{rules: [{{from: [{{source: {source}}}]}}]}}"), want)
    })
    .collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(spec, want)| (spec.as_str(), want.as_str())).collect();
    table(AUTHORIZATION, &rows);
}

#[test]
fn in_an_operation() {
    for (operation, want) in [
        ("{}", ": expected at least one field with a value, found a map of 0 fields".to_owned()),
        ("{port: ['80']}", ".port: unknown field, did you mean \"ports\"?".to_owned()),
        ("{ports: [80]}", ".ports[0]: expected text, found the number 80".to_owned()),
        ("{ports: ['0']}", ".ports[0]: expected a port, \"1\" to \"65535\", in quotes, found \"0\"".to_owned()),
        ("{ports: ['080']}", ".ports[0]: expected a port, \"1\" to \"65535\", in quotes, found \"080\"".to_owned()),
        (
            "{notPorts: ['65536']}",
            ".notPorts[0]: expected a port, \"1\" to \"65535\", in quotes, found \"65536\"".to_owned(),
        ),
        ("{notPorts: [web]}", ".notPorts[0]: expected a port, \"1\" to \"65535\", in quotes, found \"web\"".to_owned()),
        ("{methods: []}", ": expected at least one field with a value, found a map of 1 fields".to_owned()),
        ("{methods: ['']}", format!(".methods[0]: {TEXT} \"\"")),
        ("{notMethods: ['G*T']}", format!(".notMethods[0]: {TEXT} \"G*T\"")),
        ("{hosts: ['']}", format!(".hosts[0]: {TEXT} \"\"")),
        ("{notHosts: ['a.*.b']}", format!(".notHosts[0]: {TEXT} \"a.*.b\"")),
        ("{paths: ['']}", format!(".paths[0]: {TEXT} \"\"")),
        ("{paths: ['/a/*/b']}", format!(".paths[0]: {TEXT} \"/a/*/b\"")),
        ("{paths: ['/{a}']}", format!(".paths[0]: {PATH} \"/{{a}}\"")),
        ("{paths: ['/{**}/{*}']}", format!(".paths[0]: {PATH} \"/{{**}}/{{*}}\"")),
        ("{paths: ['/{**}/{**}']}", format!(".paths[0]: {PATH} \"/{{**}}/{{**}}\"")),
        ("{paths: ['/a{*}']}", format!(".paths[0]: {PATH} \"/a{{*}}\"")),
        ("{paths: ['/a*/{*}']}", format!(".paths[0]: {PATH} \"/a*/{{*}}\"")),
        ("{paths: ['/a//{*}']}", format!(".paths[0]: {PATH} \"/a//{{*}}\"")),
        ("{notPaths: ['{*}']}", format!(".notPaths[0]: {PATH} \"{{*}}\"")),
        ("{notPaths: ['/a}']}", format!(".notPaths[0]: {PATH} \"/a}}\"")),
    ] {
        let spec = format!("{{rules: [{{to: [{{operation: {operation}}}]}}]}}");
        table(AUTHORIZATION, &[(&spec, &format!("$.to[0].operation{want}"))]);
    }
}

#[test]
fn in_a_condition() {
    let unknown = |key: &str| {
        format!(
            ".key: expected a key Istio knows: source.ip, source.namespace, source.principal, source.serviceAccount, \
             source.trustDomain, destination.ip, destination.port, remote.ip, connection.sni, request.headers[name], \
             request.auth.principal, request.auth.audiences, request.auth.presenter, request.auth.claims[name] or \
             experimental.envoy.filters.name[key], found {key:?}"
        )
    };
    let nothing = |fields: usize| {
        format!(": expected values or notValues with at least one value, found a map of {fields} fields")
    };
    for (condition, want) in [
        ("{values: [a]}", ".key: missing, expected the name of what is compared".to_owned()),
        ("{key: 7, values: [a]}", ".key: expected text, found the number 7".to_owned()),
        ("{key: '', values: [a]}", unknown("")),
        ("{key: source.port, values: ['80']}", unknown("source.port")),
        ("{key: 'source.ip[a]', values: ['80']}", unknown("source.ip[a]")),
        ("{key: request.headers, values: [a]}", unknown("request.headers")),
        ("{key: 'request.headers[]', values: [a]}", unknown("request.headers[]")),
        ("{key: 'request.headers[a][b]', values: [a]}", unknown("request.headers[a][b]")),
        ("{key: 'request.auth.claims[a', values: [a]}", unknown("request.auth.claims[a")),
        ("{key: 'request.auth.claims[a]b', values: [a]}", unknown("request.auth.claims[a]b")),
        ("{key: 'request.auth.claims[[a]]', values: [a]}", unknown("request.auth.claims[[a]]")),
        ("{key: 'experimental.envoy.filters.[a]', values: [a]}", unknown("experimental.envoy.filters.[a]")),
        ("{key: 'destination.labels[a]', values: [a]}", unknown("destination.labels[a]")),
        ("{key: source.ip}", nothing(1)),
        ("{key: source.ip, values: [], notValues: null}", nothing(3)),
        ("{key: source.ip, values: [a]}", ".values[0]: expected an IP address or a CIDR, found \"a\"".to_owned()),
        ("{key: source.namespace, notValues: ['']}", format!(".notValues[0]: {TEXT} \"\"")),
        ("{key: source.principal, values: ['a*b']}", format!(".values[0]: {TEXT} \"a*b\"")),
        ("{key: source.serviceAccount, values: ['']}", ".values[0]: empty service account".to_owned()),
        ("{key: source.trustDomain, values: ['']}", format!(".values[0]: {TEXT} \"\"")),
        (
            "{key: destination.ip, notValues: [a]}",
            ".notValues[0]: expected an IP address or a CIDR, found \"a\"".to_owned(),
        ),
        (
            "{key: destination.port, values: ['0']}",
            ".values[0]: expected a port, \"1\" to \"65535\", in quotes, found \"0\"".to_owned(),
        ),
        ("{key: remote.ip, values: ['']}", ".values[0]: expected an IP address or a CIDR, found \"\"".to_owned()),
        ("{key: connection.sni, values: ['']}", format!(".values[0]: {TEXT} \"\"")),
        (
            "{key: source.ip, value: [10.0.0.1], values: [10.0.0.1]}",
            ".value: unknown field, did you mean \"values\"?".to_owned(),
        ),
    ] {
        let spec = format!("{{rules: [{{when: [{condition}]}}]}}");
        table(AUTHORIZATION, &[(&spec, &format!("$.when[0]{want}"))]);
    }
}

#[test]
fn around_the_rules() {
    table(
        AUTHORIZATION,
        &[
            ("{action: Allow}", "spec.action: expected \"ALLOW\", \"DENY\", \"AUDIT\" or \"CUSTOM\", found \"Allow\""),
            ("{action: ''}", "spec.action: expected \"ALLOW\", \"DENY\", \"AUDIT\" or \"CUSTOM\", found \"\""),
            ("{action: CUSTOM}", "spec.provider: missing, expected provider.name, as the action is CUSTOM"),
            ("{action: CUSTOM, provider: {}}", "spec.provider.name: missing, expected the provider's name"),
            ("{action: CUSTOM, provider: {name: ''}}", "spec.provider.name: expected the provider's name, found \"\""),
            ("{action: CUSTOM, provider: {name: a, kind: b}}", "spec.provider.kind: unknown field"),
            ("{action: DENY, provider: {name: a}}", "spec.provider: only together with action CUSTOM"),
            ("{provider: {}}", "spec.provider: only together with action CUSTOM"),
            ("{rule: []}", "spec.rule: unknown field, did you mean \"rules\"?"),
            ("{rules: {}}", "spec.rules: expected a list, found a map of 0 fields"),
            ("{rules: [null]}", "$: expected a map, found nothing"),
            ("{rules: [{form: []}]}", "$.form: unknown field, did you mean \"from\"?"),
            ("{rules: [{newer: true}]}", "$.newer: unknown field"),
            ("{rules: [{from: []}]}", "$.from: expected at least one entry, or no such field, found a list of 0"),
            ("{rules: [{to: []}]}", "$.to: expected at least one entry, or no such field, found a list of 0"),
            ("{rules: [{from: [null]}]}", "$.from[0]: expected a map, found nothing"),
            ("{rules: [{from: [{}]}]}", "$.from[0].source: missing, expected a map with at least one field"),
            ("{rules: [{to: [{}]}]}", "$.to[0].operation: missing, expected a map with at least one field"),
            ("{rules: [{when: [null]}]}", "$.when[0]: expected a map, found nothing"),
            ("[]", "spec: expected a map, found a list of 0"),
            ("{volumes: []}", "spec.volumes: unknown field"),
        ],
    );
    table(
        PEER,
        &[
            ("{mtls: STRICT}", "spec.mtls: expected a map, found \"STRICT\""),
            (
                "{mtls: {mode: strict}}",
                "spec.mtls.mode: expected \"UNSET\", \"DISABLE\", \"PERMISSIVE\" or \"STRICT\", found \"strict\"",
            ),
            ("{mtls: {mode: STRICT, modes: 1}}", "spec.mtls.modes: unknown field, did you mean \"mode\"?"),
            (
                "{mtls: {mode: true}}",
                "spec.mtls.mode: expected text, found the boolean true (quote it if it is meant as text)",
            ),
            ("{portLevelMtls: {80: {mode: STRICT}}}", "spec.portLevelMtls: only together with labels in selector"),
            (
                "{selector: {matchLabels: {}}, portLevelMtls: {80: {mode: STRICT}}}",
                "spec.portLevelMtls: only together with labels in selector",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
                "spec.portLevelMtls: expected at least one port, or no such field, found a map of 0 fields",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: STRICT}}}",
                "spec.portLevelMtls.0: expected a port, 1 to 65535, as the key, found \"0\"",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {'http': {}}}",
                "spec.portLevelMtls.http: expected a port, 1 to 65535, as the key, found \"http\"",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: STRICT}}",
                "spec.portLevelMtls.80: expected a map, found \"STRICT\"",
            ),
            ("{targetRefs: []}", "spec.targetRefs: unknown field"),
        ],
    );
    table(REQUEST, &[("{jwtrules: []}", "spec.jwtrules: unknown field, did you mean \"jwtRules\"?")]);
}

#[test]
fn in_what_it_is_about_and_then_it_covers_what_can_be_read_of_that() {
    use PolicyTarget::{All, Unknown};
    let labels = || PolicyTarget::Selector([("app".into(), "web".into())].into());
    let refs = |group: &str, kind: &str| {
        PolicyTarget::Refs(vec![TargetRef { group: group.into(), kind: kind.into(), name: "w".into() }])
    };
    let value = "expected a label's whole value, at most 63 characters and without '*', found";
    let long = "x".repeat(64);
    let kinds = "expected Service, ServiceEntry of networking.istio.io, or Gateway or GatewayClass of gateway.networking.k8s.io, found";
    for (spec, want, target) in [
        ("{new: 1}", "spec.new: unknown field".to_owned(), All),
        ("{new: 1, selector: {matchLabels: {app: web}}}", "spec.new: unknown field".to_owned(), labels()),
        ("{new: 1, targetRefs: [{kind: Service, name: w}]}", "spec.new: unknown field".to_owned(), refs("", "Service")),
        ("{selector: web}", "spec.selector: expected a map, found \"web\"".to_owned(), Unknown),
        (
            "{selector: {matchLabels: {app: web}, matchExpressions: []}}",
            "spec.selector.matchExpressions: unknown field".to_owned(),
            Unknown,
        ),
        ("{selector: {matchLabels: [app]}}", "spec.selector.matchLabels: expected a map, found a list of 1".to_owned(), Unknown),
        ("{selector: {matchLabels: {app: 7}}}", "spec.selector.matchLabels.app: expected text, found the number 7".to_owned(), Unknown),
        ("{selector: {matchLabels: {app: null}}}", "spec.selector.matchLabels.app: expected text, found nothing".to_owned(), Unknown),
        ("{selector: {matchLabels: {app: 'w*'}}}", format!("spec.selector.matchLabels.app: {value} \"w*\""), Unknown),
        (&format!("{{selector: {{matchLabels: {{app: {long}}}}}}}"), format!("spec.selector.matchLabels.app: {value} \"{long}\""), Unknown),
        (
            "{selector: {matchLabels: {'a*': web}}}",
            "spec.selector.matchLabels[\"a*\"]: expected a label's whole name as the key, found \"a*\"".to_owned(),
            Unknown,
        ),
        (
            "{selector: {matchLabels: {'': web}}}",
            "spec.selector.matchLabels[\"\"]: expected a label's whole name as the key, found \"\"".to_owned(),
            Unknown,
        ),
        (
            "{selector: {}, targetRefs: []}",
            "spec.selector: not together with targetRef or targetRefs".to_owned(),
            Unknown,
        ),
        (
            "{selector: {}, targetRef: {kind: Service, name: w}}",
            "spec.selector: not together with targetRef or targetRefs".to_owned(),
            Unknown,
        ),
        ("{targetRefs: [], targetRef: {kind: Service, name: w}}", "spec.targetRef: not together with targetRefs".to_owned(), Unknown),
        ("{targetRefs: {}}", "spec.targetRefs: expected a list, found a map of 0 fields".to_owned(), Unknown),
        ("{targetRefs: [null]}", "spec.targetRefs[0]: expected a map, found nothing".to_owned(), Unknown),
        ("{targetRef: {name: w}}", "spec.targetRef.kind: missing, expected the object's kind".to_owned(), Unknown),
        ("{targetRef: {kind: Service}}", "spec.targetRef.name: missing, expected the object's name".to_owned(), Unknown),
        ("{targetRef: {kind: Service, name: ''}}", "spec.targetRef.name: expected a name of 1 to 253 bytes, found \"\"".to_owned(), Unknown),
        ("{targetRef: {kind: Pod, name: w}}", format!("spec.targetRef.kind: {kinds} \"Pod\""), refs("", "Pod")),
        ("{targetRef: {group: a.b, kind: Service, name: w}}", format!("spec.targetRef.kind: {kinds} \"Service.a.b\""), refs("a.b", "Service")),
        (
            "{targetRef: {kind: Service, name: w, namespace: other}}",
            "spec.targetRef.namespace: expected no namespace: a policy is attached to objects of its own, found \"other\"".to_owned(),
            refs("", "Service"),
        ),
    ] {
        assert_eq!(refused(AUTHORIZATION, "", spec), (vec![want], target), "{spec}");
    }
}

#[test]
fn all_errors_at_once() {
    let spec = "{action: DROP, selector: {matchLabels: {a: 1}}, rules: [{from: [{source: {ipBlocks: [x, y]}}], to: [{}], when: [{}]}], x: 1}";
    let (lines, target) = refused(AUTHORIZATION, ", generation: x", spec);
    let fields: Vec<&str> = lines.iter().map(|line| line.split_once(": ").unwrap().0).collect();
    let rule = "spec.rules[0]";
    assert_eq!(
        fields,
        [
            "metadata.generation",
            "spec.x",
            "spec.selector.matchLabels.a",
            "spec.action",
            &format!("{rule}.from[0].source.ipBlocks[0]"),
            &format!("{rule}.from[0].source.ipBlocks[1]"),
            &format!("{rule}.to[0].operation"),
            &format!("{rule}.when[0].key"),
        ]
    );
    assert_eq!(target, PolicyTarget::Unknown);
}

#[test]
fn bounds() {
    let many = |n: usize, item: &str| vec![item; n].join(",");
    let rules = |n| format!("{{rules: [{}]}}", many(n, "{}"));
    let from = |n| format!("{{rules: [{{from: [{}]}}]}}", many(n, "{source: {namespaces: [a]}}"));
    let accounts = |n| format!("{{rules: [{{from: [{{source: {{serviceAccounts: [{}]}}}}]}}]}}", many(n, "a"));
    let conditions = |n| format!("{{rules: [{{when: [{{key: source.serviceAccount, values: [{}]}}]}}]}}", many(n, "a"));
    let values = |n| format!("{{rules: [{{from: [{{source: {{namespaces: [{}]}}}}]}}]}}", many(n, "a"));
    let long = |n: usize| format!("{{rules: [{{from: [{{source: {{namespaces: [{}]}}}}]}}]}}", "x".repeat(n));
    let targets = |n| format!("{{targetRefs: [{}]}}", many(n, "{kind: Service, name: w}"));
    let labels = |n: usize| {
        let labels: Vec<String> = (0..n).map(|i| format!("l{i}: a")).collect();
        format!("{{selector: {{matchLabels: {{{}}}}}}}", labels.join(","))
    };
    for (most, over, want) in [
        (rules(512), rules(513), "spec.rules: more than 512 rules"),
        (from(512), from(513), "$.from: more than 512 entries"),
        (accounts(16), accounts(17), "$.from[0].source.serviceAccounts: more than 16 values"),
        (conditions(16), conditions(17), "$.when[0].values: more than 16 values"),
        (values(65_536), values(65_537), "$.from[0].source.namespaces: more than 65536 values"),
        (targets(16), targets(17), "spec.targetRefs: more than 16 targetRefs"),
        (labels(4_096), labels(4_097), "spec.selector.matchLabels: more than 4096 labels"),
    ] {
        read(AUTHORIZATION, "", &most);
        let (lines, _) = refused(AUTHORIZATION, "", &over);
        assert_eq!(lines, [want.replace('$', "spec.rules[0]")]);
    }
    read(AUTHORIZATION, "", &long(4_096));
    let (lines, _) = refused(AUTHORIZATION, "", &long(4_097));
    assert!(lines.len() == 1 && lines[0].contains("namespaces[0]: expected text of at most 4096 bytes"), "{lines:?}");
}

#[test]
fn what_aliases_multiply_is_bounded_for_the_whole_policy() {
    let document = |value: &str, lists: usize, items: usize| {
        let items = vec!["*v"; items - 1].join(",");
        let first = format!("{{source: {{namespaces: &l [&v {value},{items}]}}}}");
        let lists = vec!["{source: {namespaces: *l}}"; lists - 1].join(",");
        document(AUTHORIZATION, "", &format!("{{rules: [{{from: [{first},{lists}]}}]}}"))
    };
    for (value, lists, items, want) in [
        (
            "a".to_owned(),
            3,
            65_536,
            "spec.rules[0].from[2].source.namespaces[0]: more than 131072 values in one policy",
        ),
        (
            "x".repeat(4_096),
            2,
            1_000,
            "spec.rules[0].from[1].source.namespaces[24]: more than 4194304 bytes of values in one policy",
        ),
    ] {
        let errors = parse(&[(file(), &document(&value, lists, items))]).unwrap_err();
        let lines: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.field, error.cause)).collect();
        assert_eq!(lines, [want]);
    }
}

#[test]
fn many_errors_are_cut_and_counted() {
    let spec = format!("{{rules: [{{from: [{{source: {{ipBlocks: [{}]}}}}]}}]}}", vec!["x"; 5_000].join(","));
    let text = document(AUTHORIZATION, "", &spec);
    let errors = parse(&[(file(), &text)]).unwrap_err();
    assert_eq!(errors.len(), 1_001);
    assert_eq!(errors[1_000].cause.to_string(), "more than 1000 errors in one object");
    let PolicySpec::Rejected(why) = sent(AUTHORIZATION, &json(&text)).spec else { panic!("taken") };
    assert!(why.len() <= MAX_REJECTED && why.len() > MAX_REJECTED - 200, "{}", why.len());
    let told = why.lines().count() - 1;
    assert!(why.ends_with(&format!("\nand {} more", 1_001 - told)), "{why}");
}

#[test]
fn both_versions_are_read_and_no_other() {
    let document = |version: &str| {
        document(PEER, "", "{selector: {matchLabels: {a: b}}}")
            .replace("security.istio.io/v1", &format!("security.istio.io/{version}"))
    };
    for version in ["v1", "v1beta1"] {
        let text = document(version);
        assert_eq!(parse(&[(file(), &text)]).unwrap().policies.len(), 1);
        assert!(matches!(sent(PEER, &json(&text)).target, PolicyTarget::Selector(_)), "{version}");
    }
    let text = document("v9");
    let want = "PeerAuthentication is read as apiVersion \"security.istio.io/v1\", found \"security.istio.io/v9\"";
    let errors = parse(&[(file(), &text)]).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.cause.to_string()).collect::<Vec<_>>(), [want]);
    let newer = sent(PEER, &json(&text));
    assert_eq!(newer.spec, PolicySpec::Rejected(format!("apiVersion: {want}").into()));
    assert_eq!(newer.target, PolicyTarget::Unknown);
    let twice = format!("{}---\n{}", document("v1"), document("v1beta1"));
    let errors = parse(&[(file(), &twice)]).unwrap_err();
    assert!(errors.len() == 1 && errors[0].to_string().contains("declared already in f.yaml:1"), "{errors:?}");
}

#[test]
fn a_server_may_say_more_around_a_policy_but_not_in_it() {
    let mut policy = json(&document(AUTHORIZATION, "", "{action: DENY, rules: [{}]}"));
    policy["status"] = json!({"conditions": [{"type": "Reconciled"}], "more": 1});
    policy["metadata"]["newInKubernetes"] = json!(1);
    policy["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    assert!(matches!(sent(AUTHORIZATION, &policy).spec, PolicySpec::Authorization(_)));
    for (path, field) in [("/spec", "spec.newer"), ("/spec/rules/0", "spec.rules[0].newer")] {
        let mut policy = policy.clone();
        policy.pointer_mut(path).unwrap()["newer"] = json!(true);
        assert_eq!(sent(AUTHORIZATION, &policy).spec, PolicySpec::Rejected(format!("{field}: unknown field").into()));
    }
    // What is dropped of pods on arrival is no less unknown here.
    for field in ["volumes", "affinity", "tolerations"] {
        let mut policy = policy.clone();
        policy["spec"][field] = json!({});
        assert_eq!(
            sent(AUTHORIZATION, &policy).spec,
            PolicySpec::Rejected(format!("spec.{field}: unknown field").into())
        );
    }
}

#[test]
fn a_policy_without_a_name_is_none_and_one_that_is_cut_covers_nobody_knows_whom() {
    for metadata in [json!({"namespace": "shop"}), json!({"name": "p"}), json!({"name": "P", "namespace": "shop"})] {
        let nameless: Sent = serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap();
        let errors = nameless.read(PEER, &file()).unwrap_err();
        assert!(!errors.is_empty(), "{metadata}");
    }
    let mut tower = json!(1);
    for _ in 0..200 {
        tower = json!([tower]);
    }
    let cut = sent(PEER, &json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"x": tower}}));
    assert_eq!(cut.target, PolicyTarget::Unknown);
    assert_eq!(cut.spec, PolicySpec::Rejected("nested deeper than 120 levels".into()));
    let other = json!({"kind": "Secret", "metadata": {"name": "p", "namespace": "shop"}, "spec": {}});
    assert_eq!(sent(PEER, &other).target, PolicyTarget::Unknown);
}
