//! What the authors of ServiceEntries are told.

use weir_manifest::{FileName, parse};

use crate::{Compiler, Settings, default_root_namespace};

/// What is told of these objects, as `reason namespace/name field: message`.
fn told(text: &str) -> Vec<String> {
    let mut compiler = Compiler::new(Settings {
        trust_domain: "td.example".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: None,
        cluster_domain: Default::default(),
        root_namespace: default_root_namespace(),
    });
    let objects = parse(&[(FileName::new("f.yaml"), text)]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    for object in objects.into_objects() {
        compiler.set(object);
    }
    compiler.take();
    let findings = compiler.routes().findings;
    let line = |one: &super::Finding| {
        format!("{:?} {}/{} {}: {}", one.reason, one.namespace, one.name, one.field, one.message)
    };
    findings.iter().map(line).collect()
}

fn entry(object: &str, meta: &str, spec: &str) -> String {
    let (namespace, name) = object.split_once('/').unwrap();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}{meta}}}\nspec: {spec}\n"
    )
}

#[test]
fn what_is_not_done_as_it_is_written_is_told() {
    let none = "NONE leads to the very address that is asked for, which agents do for all that is not in the mesh";
    let unbound = "which waypoints do, and it is bound to none: connections to its addresses are refused";
    let nameless = "is no name that has addresses, and there are no endpoints: nobody is behind it";
    let refused = "which this version does not do: connections to its addresses are refused";
    for (meta, spec, want) in [
        ("", "{hosts: [a.example], resolution: STATIC}", vec![]),
        ("", "{hosts: [a.example], resolution: STATIC, exportTo: ['.', b]}", vec![]),
        (
            "",
            "{hosts: [a.example], resolution: STATIC, exportTo: ['~']}",
            vec!["NoEffect a/x spec.exportTo: it is exported to no namespace: nobody reaches its hosts".to_owned()],
        ),
        ("", "{hosts: [a.example]}", vec![format!("NoEffect a/x spec.resolution: {none}")]),
        (", labels: {istio.io/use-waypoint: w}", "{hosts: [a.example]}", vec![]),
        (", labels: {istio.io/use-waypoint: w}", "{hosts: [a.example], resolution: DNS}", vec![]),
        (", labels: {istio.io/use-waypoint: w}", "{hosts: [a.example], resolution: DNS_ROUND_ROBIN}", vec![]),
        (
            ", labels: {istio.io/use-waypoint: w}",
            "{hosts: [a.example, '*.example'], resolution: DNS}",
            vec![format!("NoEffect a/x spec.hosts[1]: *.example {nameless}")],
        ),
        (
            "",
            "{hosts: [a.example], resolution: DNS}",
            vec![format!("Unsupported a/x spec.resolution: resolution DNS, {unbound}")],
        ),
        (
            "",
            "{hosts: [a.example], resolution: DNS_ROUND_ROBIN}",
            vec![format!("Unsupported a/x spec.resolution: resolution DNS_ROUND_ROBIN, {unbound}")],
        ),
        (
            "",
            "{hosts: ['*.example'], resolution: DYNAMIC_DNS}",
            vec![format!("Unsupported a/x spec.resolution: resolution DYNAMIC_DNS, {refused}")],
        ),
        (
            "",
            "{hosts: [a.example], resolution: STATIC, endpoints: [{address: 'unix:///a'}]}",
            vec!["Unsupported a/x spec.endpoints[0]: Unix sockets are not connected to".to_owned()],
        ),
    ] {
        assert_eq!(told(&entry("a/x", meta, spec)), want, "{meta} {spec}");
    }
}

#[test]
fn a_host_that_another_has_is_told_with_the_name_of_the_other() {
    let spec = |hosts: &str| format!("{{hosts: [{hosts}], resolution: STATIC}}");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\nspec: {ports: [{port: 80}]}\n";
    let host = "s.a.svc.cluster.local";
    for space in ["a", "b"] {
        let text = format!("{service}{}", entry(&format!("{space}/x"), "", &spec(&format!("e.example, {host}"))));
        let want = format!("Conflicted {space}/x spec.hosts[1]: {host}: Service a/s has that name, and counts");
        assert_eq!(told(&text), [want]);
    }
    let text = entry("a/x", "", &spec("e.example")) + &entry("a/y", "", &spec("e.example, f.example"));
    let want = "Conflicted a/y spec.hosts[0]: e.example: ServiceEntry a/x declares it already, and counts";
    assert_eq!(told(&text), [want]);
    let old = ", creationTimestamp: '2026-01-01T00:00:00Z'";
    let new = ", creationTimestamp: '2026-01-02T00:00:00Z'";
    let text = entry("a/x", new, &spec("e.example")) + &entry("a/y", old, &spec("e.example"));
    let want = "Conflicted a/x spec.hosts[0]: e.example: ServiceEntry a/y declares it already, and counts";
    assert_eq!(told(&text), [want]);
    let text = entry("a/x", "", &spec("e.example")) + &entry("b/y", "", &spec("e.example"));
    let want = "Conflicted b/y spec.hosts[0]: e.example: it is declared in a, too, which counts at waypoints";
    assert_eq!(told(&text), [want]);
}

#[test]
fn an_address_that_another_has_is_told() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: b}\nspec: {clusterIP: 'fd00::1', ports: [{port: 80}]}\n";
    let entry =
        entry("a/x", "", "{hosts: [e.example], resolution: STATIC, addresses: [192.0.2.1, 'fd00::1', 'fd00::/16']}");
    assert_eq!(told(&entry), [""; 0]);
    let want = "Conflicted a/x spec.addresses: fd00::1 is an address of a pod or of a Service, and stays theirs";
    assert_eq!(told(&format!("{service}{entry}")), [want]);
}

#[test]
fn what_sends_to_a_host_that_is_not_exported_to_it_is_told_and_sends_nothing() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: b}\nspec: {ports: [{port: 80, name: http}]}\n";
    let sends = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: b}\n\
                 spec: {hosts: [s.b.svc.cluster.local], http: [{route: [{destination: {host: e.example}}]}]}\n";
    let refused = "NotPermitted b/v spec.http[0].route[0].destination: e.example is not exported to b, the namespace of what sends to it: \
                   its share of requests is refused with 503";
    for (export, want) in
        [("['*']", vec![]), ("[b]", vec![]), ("['.']", vec![refused.to_owned()]), ("[c]", vec![refused.to_owned()])]
    {
        let spec = format!(
            "{{hosts: [e.example], resolution: STATIC, ports: [{{number: 80, name: http}}], exportTo: {export}}}"
        );
        assert_eq!(told(&(entry("a/x", "", &spec) + service + sends)), want, "{export}");
    }
}

#[test]
fn a_destination_rule_may_be_about_a_host_of_an_entry() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: a}\nspec: {host: '*.example'}\n";
    assert_eq!(told(&(entry("a/x", "", "{hosts: [e.example], resolution: STATIC}") + rule)), [""; 0]);
    assert_eq!(told(rule).len(), 1);
}
