//! Every case as people read it, what it has to do with the compiler, and how long it takes.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use weir_manifest::{FileName, parse, survey};

use super::*;

const MESH: &str = include_str!("../../cases/mesh.yaml");

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: None,
        cluster_domain: "cluster.local".parse().unwrap(),
        root_namespace: "istio-system".parse().unwrap(),
    }
}

fn said(case: &str, text: &str) -> Vec<Finding> {
    analyze(&survey(&[(FileName::new("mesh.yaml"), MESH), (FileName::new(case), text)]), &settings())
}

#[test]
fn every_case_is_said_as_it_was_and_every_code_has_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut codes = BTreeSet::new();
    for path in names {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = if name == "mesh" { String::new() } else { fs::read_to_string(&path).unwrap() };
        let mut lines = String::new();
        for finding in said(&format!("{name}.yaml"), &text) {
            codes.insert(finding.code);
            writeln!(lines, "{finding}").unwrap();
            assert!(!finding.advice().is_empty());
        }
        insta::assert_snapshot!(name, lines);
    }
    let missing: Vec<Code> = Code::ALL.into_iter().filter(|code| !codes.contains(code)).collect();
    assert_eq!(missing, [], "no case has these codes");
}

#[test]
fn one_object_among_others_is_told_what_all_are_told_of_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    for name in ["routes", "policies", "effects", "labels"] {
        let text = fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let objects = parse(&[(FileName::new("mesh.yaml"), MESH), (FileName::new("case.yaml"), &text)]).unwrap();
        let all = analyze(&Survey { objects: objects.clone(), ..Survey::default() }, &settings());
        let about: BTreeSet<_> = all.iter().filter_map(|finding| finding.object.clone()).collect();
        assert!(!about.is_empty());
        for object in about {
            let of: Vec<_> = all.iter().filter(|one| one.object.as_ref() == Some(&object)).cloned().collect();
            assert_eq!(judge(&objects, &object, &settings()), of);
        }
    }
}

/// The compiler's findings, whatever becomes of their codes: none is lost, and none is only information.
#[test]
fn what_the_compiler_tells_is_at_least_a_warning_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut count = 0;
    for name in ["routes", "effects"] {
        let text = fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let objects = parse(&[(FileName::new("mesh.yaml"), MESH), (FileName::new("case.yaml"), &text)]).unwrap();
        let mut compiler = weir_compile::Compiler::new(settings());
        objects.clone().into_objects().for_each(|object| compiler.set(object));
        compiler.take();
        for told in compiler.routes().findings {
            count += 1;
            let object = ObjectRef {
                kind: told.kind.as_str().into(),
                namespace: Some(told.namespace.as_str().into()),
                name: told.name.as_str().into(),
            };
            let judged = judge(&objects, &object, &settings());
            let found = judged.iter().find(|one| one.field == told.field && one.message == told.message);
            let found = found.unwrap_or_else(|| panic!("{} is not told: {judged:?}", told.message));
            assert!(found.severity() > crate::Severity::Info, "{found}");
        }
    }
    assert!(count > 5, "the compiler told {count} things");
}

/// A mesh of that many services, each with a pod, a VirtualService, a DestinationRule and a policy.
fn wide(services: usize) -> Survey {
    let mut text = String::new();
    for n in 0..services {
        let (high, low) = (n / 250, n % 250 + 1);
        writeln!(
            text,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s{n}, namespace: shop}}, spec: {{clusterIP: 10.97.{high}.{low}, \
             selector: {{app: s{n}}}, ports: [{{name: http, port: 80}}]}}}}\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{name: s{n}-1, namespace: shop, labels: {{app: s{n}}}}}, spec: {{nodeName: n1, \
             containers: [{{name: c, image: c}}]}}, status: {{phase: Running, podIP: 10.1.{high}.{low}, podIPs: [{{ip: 10.1.{high}.{low}}}]}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: v{n}, namespace: shop}}, spec: {{hosts: [s{n}], \
             http: [{{route: [{{destination: {{host: s{n}}}}}, {{destination: {{host: gone{n}}}}}]}}]}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d{n}, namespace: shop}}, spec: {{host: s{n}}}}}\n---\n\
             {{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p{n}, namespace: shop}}, spec: {{selector: \
             {{matchLabels: {{app: s{n}}}}}, rules: [{{}}]}}}}"
        )
        .unwrap();
    }
    let survey = survey(&[(FileName::new("mesh.yaml"), MESH), (FileName::new("wide.yaml"), &text)]);
    assert_eq!(survey.errors, []);
    survey
}

#[test]
fn four_times_as_many_objects_do_not_take_ten_times_as_long() {
    let took = |survey: &Survey| {
        // The best of some: others want the processor too.
        let times = (0..3).map(|_| {
            let start = std::time::Instant::now();
            assert!(!analyze(survey, &settings()).is_empty());
            start.elapsed()
        });
        times.min().unwrap()
    };
    let (one, four) = (took(&wide(150)), took(&wide(600)));
    assert!(four < one * 10, "150 services take {one:?}, 600 take {four:?}");
}
